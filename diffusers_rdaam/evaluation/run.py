"""evaluate: a model, a data set and a protocol; image after image, and continued where it ended."""

from __future__ import annotations

import hashlib
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

import diffusers_rdaam
from diffusers_rdaam.argument_checks import check_choice, check_count
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.errors import (
    ImageResizedWarning,
    InputError,
    NoAttributionError,
    RDAAMWarning,
    RepeatedWordWarning,
)
from diffusers_rdaam.evaluation.environment import environment
from diffusers_rdaam.evaluation.evaluation import Evaluation
from diffusers_rdaam.evaluation.maps import Maps, RecordedAnswers, maps_of, processor_for, texts_of
from diffusers_rdaam.evaluation.measures import MEASURES
from diffusers_rdaam.evaluation.protocols.protocol import Protocol, Question, Skipped
from diffusers_rdaam.evaluation.protocols.table import protocol_of
from diffusers_rdaam.evaluation.rows import RowFile
from diffusers_rdaam.evaluation.sample import DataSet, Sample
from diffusers_rdaam.images.attribute import ImageRequest
from diffusers_rdaam.images.prediction_errors import ErrorRequest, prediction_errors
from diffusers_rdaam.pipelines.attribute_image import attribute_image
from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin
from diffusers_rdaam.pipelines.other_options import recorded_with
from diffusers_rdaam.pipelines.record_attention import record_attention

Source = Literal["auto", "image", "generate"]
# After how many different levels of a colour an image that is generated again is another one.
MOST_DIFFERENCE = 8.0
# Edited images that are asked about at once.
BATCH = 16
# Called after each image with the number done, of how many, and its row.
Progress = Callable[[int, int, Mapping[str, Any]], None]


@dataclass(frozen=True)
class RunSettings:
    """How images are attributed.

    Args:
        source: ``"image"`` attributes the data set's images; ``"generate"`` makes them anew from
            prompt and seed, and refuses those that come out otherwise; ``"auto"`` generates only
            what the data set has no image of.
        noise, draws: of :func:`attribute_image`; the protocol's if not given.
        seed: of the noise, together with the sample's id.
        call: further arguments of the pipeline's call.
    """

    source: Source = "auto"
    noise: float | Sequence[float] | None = None
    draws: int | None = None
    seed: int = 0
    call: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice(self.source, Source, "a source")
        # As Python's numbers, whatever they came as: settings are written as JSON.
        object.__setattr__(self, "seed", check_count(self.seed, "seed=", least=0))
        if self.draws is not None:
            object.__setattr__(self, "draws", check_count(self.draws, "draws=", least=0))
        if self.noise is not None:
            # Checked before the first image, and not once for each of them.
            object.__setattr__(self, "noise", ImageRequest(noise=self.noise).noise)


def evaluate(
    pipe: Any,
    data: DataSet,
    protocol: str | Protocol = "daam",
    *,
    maps: str | Maps | Sequence[str | Maps] = "mean",
    strict: bool = True,
    out: str | Path | None = None,
    model: str | None = None,
    source: Source = "auto",
    noise: float | Sequence[float] | None = None,
    draws: int | None = None,
    seed: int = 0,
    call: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Evaluation:
    """The numbers of a model on a data set, by a protocol.

    Every image is attributed once, for all kinds of maps. One that cannot be read or attributed is
    a row with its error. With ``out=`` each row is on disk before the next image begins: a run that
    was ended at any place goes on where it was, and has the numbers of one that was not.

    Args:
        pipe: a pipeline of diffusers, recording or stock; it stays as it is.
        data: of :func:`open_dataset`, or of your own.
        protocol: its name, or a :class:`Protocol`.
        maps: which maps of words, one row of the table each: names of aggregations, lines as
            :meth:`Maps.parse` takes, or :class:`Maps`.
        strict: the honest form; False for the published one, with the flaws that it names.
        out: a folder for the rows and the report.
        model: its name in reports; the pipeline's own if not given.
        source, noise, draws, seed, call: see :class:`RunSettings`.
        progress: called after each image.
        options: of the protocol, such as ``threshold=``.

    Raises:
        InputError: an argument is wrong, or the folder has a run with other settings.
        NoAttributionError: the model cannot keep what some maps need.
    """
    _check_data(data)
    chosen = protocol_of(protocol, strict=strict, **options)
    settings = RunSettings(source, noise, draws, seed, dict(call or {}))
    run = Run(pipe, data, chosen, maps_of(maps), settings)
    facts = run.facts(model)
    if out is None:
        rows = dict(run.rows({}, progress))
    else:
        file = RowFile(Path(out), facts)
        with file.locked():
            for _, row in run.rows(file.rows, progress):
                file.add(row)
        rows = file.rows
    found = Evaluation(
        label=chosen.label,
        strict=chosen.strict,
        generated=data.generated,
        metrics=chosen.reported,
        maps=tuple(one.name for one in run.maps),
        rows=tuple(rows[name] for name in data.ids),
        settings=facts,
        facts=environment(pipe),
        flaws=() if chosen.strict else chosen.flaws,
        seed=seed,
    )
    if out is not None:
        found.save(out)
    return found


def _check_data(data: Any) -> None:
    if not isinstance(data, DataSet):
        raise InputError(
            f"data= is a DataSet; got a {type(data).__name__}. Open a folder with "
            "open_dataset(path, 'voc2012'), or make one of your own samples: DataSet(…)."
        )


_OF_RUNS = ("source", "noise", "draws", "seed", "call")
THRESHOLDS = tuple(number / 100 for number in range(10, 95, 5))


def tune_threshold(
    pipe: Any,
    data: DataSet,
    protocol: str,
    *,
    maps: str | Maps = "mean",
    thresholds: Sequence[float] = THRESHOLDS,
    **options: Any,
) -> tuple[float, dict[float, float]]:
    """The threshold with the best headline on a data set, and the whole curve.

    Give the result to :func:`evaluate` as ``threshold=`` on *another* split: a number that was
    chosen on the images it is reported of is not worth much. Each image is attributed once.

    Args:
        pipe: as for :func:`evaluate`.
        data: the split that thresholds are chosen on.
        protocol: its name; the honest form.
        maps: one kind of maps; each has a threshold of its own.
        thresholds: that are tried.
        options: ``source``, ``noise``, ``draws``, ``seed`` and ``call`` of :func:`evaluate`, and
            options of the protocol.

    Raises:
        InputError: the protocol has no threshold, or an argument is wrong.
    """
    _check_data(data)
    run_options = {name: options.pop(name) for name in _OF_RUNS if name in options}
    tried = tuple(protocol_of(protocol, threshold=one, **options) for one in thresholds)
    if not tried or not tried[0].tunable:
        raise InputError(
            f"The protocol {protocol!r} has no threshold, or none was given to try: there is "
            "nothing to tune."
        )
    run = Run(pipe, data, tried[0], maps_of(maps), RunSettings(**run_options), tried)
    rows = [row for _, row in run.rows({}, None) if row["status"] == "ok"]
    measure = MEASURES[tried[0].reported[0]]
    weights = np.ones((1, len(rows)))
    curve = {
        float(threshold): float(measure.of([row["tried"][number] for row in rows])(weights)[0])
        if rows
        else math.nan
        for number, threshold in enumerate(thresholds)
    }
    if all(math.isnan(value) for value in curve.values()):
        raise InputError(f"No image of {data.name} could be scored: there is nothing to tune on.")
    best = max(curve, key=lambda one: (-math.inf if math.isnan(curve[one]) else curve[one], -one))
    return best, curve


@dataclass(frozen=True, eq=False)
class Recorded:
    """One image as a protocol asks it.

    Args:
        sample: with its image and truth.
        question: that was asked.
        attribution: of the image with the question's prompt.
    """

    sample: Sample
    question: Question
    attribution: Attribution


@dataclass(frozen=True, eq=False)
class Run:
    """One evaluation while it runs.

    Args:
        pipe, data, protocol, maps, settings: as :func:`evaluate` has them.
        tried: the protocol with other thresholds, by which the first maps are scored as well.
    """

    pipe: Any
    data: DataSet
    protocol: Protocol
    maps: tuple[Maps, ...]
    settings: RunSettings
    tried: tuple[Protocol, ...] = ()

    def facts(self, model: str | None) -> dict[str, Any]:
        """What the numbers depend on: a run with other facts is not continued."""
        own = {key: value for key, value in vars(self.protocol).items() if value is not None}
        ids = hashlib.sha256("\n".join(self.data.ids).encode()).hexdigest()[:16]
        return {
            "protocol": self.protocol.name,
            **{key: list(v) if isinstance(v, tuple) else v for key, v in own.items()},
            "maps": [one.name for one in self.maps],
            "data": self.data.name,
            "split": self.data.split,
            "samples": len(self.data),
            "ids": ids,
            "generated": self.data.generated,
            "model": model or _model_name(self.pipe),
            "source": self.settings.source,
            "noise": list(self._noise),
            "draws": self._draws,
            "seed": self.settings.seed,
            "call": {key: repr(value) for key, value in sorted(self.settings.call.items())},
            "versions": {
                "diffusers_rdaam": diffusers_rdaam.__version__,
                "torch": torch.__version__,
            },
        }

    @property
    def _noise(self) -> tuple[float, ...]:
        given: Any = self.settings.noise
        return self.protocol.noise if given is None else tuple(given)

    @property
    def _draws(self) -> int:
        return self.protocol.draws if self.settings.draws is None else self.settings.draws

    def rows(
        self, done: Mapping[str, Mapping[str, Any]], progress: Progress | None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """The rows that are not done; those of earlier errors are tried again."""
        missing = [name for name in self.data.ids if done.get(name, {}).get("status") not in _DONE]
        before = len(self.data) - len(missing)
        for number, name in enumerate(missing, start=1):
            row = self.row(name)
            yield name, row
            if progress is not None:
                progress(before + number, len(self.data), row)

    def row(self, name: str) -> dict[str, Any]:
        """The row of a sample: its scores, why it was skipped, or its error."""
        start = time.perf_counter()
        try:
            row = self._scored(name)
        except NoAttributionError:
            # Of the maps or the model, and so of every image.
            raise
        except Exception as error:
            # Whatever a file, a decoder or a model raises, the images after it are not lost.
            row = {"status": "error", "error": _reason(error), "class": type(error).__name__}
        seconds = round(time.perf_counter() - start, 3)
        return {"id": name, "cluster": name, **row, "seconds": seconds}

    def recorded(self, name: str) -> Recorded | tuple[Sample, Skipped]:
        """The attribution of a sample by the protocol's question; why not, if it has none.

        Raises:
            RDAAMError: the sample cannot be read or attributed.
        """
        sample, attribution = self._generated(self.data.read(name))
        question = self.protocol.question(sample, self.data)
        if isinstance(question, Skipped):
            return sample, question
        return Recorded(sample, question, self._attribution(sample, question, attribution))

    def _scored(self, name: str) -> dict[str, Any]:
        with _quiet() as notes:
            found = self.recorded(name)
            if not isinstance(found, Recorded):
                sample, skipped = found
                return {"status": "skipped", "cluster": sample.cluster, "reason": skipped.reason}
            answers = [RecordedAnswers(found.attribution, one, self._loss) for one in self.maps]
            asked = found.question, found.sample
            scores = [self._scores(self.protocol, one, *asked) for one in answers]
            tried = [self._scores(one, answers[0], *asked) for one in self.tried]
        return {
            "status": "ok",
            "cluster": found.sample.cluster,
            "scores": dict(zip((one.name for one in self.maps), scores, strict=True)),
            "prompt": found.question.prompt,
            "notes": notes,
            **({"tried": tried} if tried else {}),
        }

    def _scores(
        self, protocol: Protocol, answers: RecordedAnswers, question: Question, sample: Sample
    ) -> dict[str, Any]:
        return protocol.score(question, answers, sample, self.data)

    def _generated(self, sample: Sample) -> tuple[Sample, Attribution | None]:
        """The sample with its image, and the attribution of its generation, if it was made."""
        generate = self.settings.source == "generate" or (
            self.settings.source == "auto" and sample.image is None
        )
        if not generate:
            if sample.image is None:
                raise InputError("It has no image, and source='image' generates none.")
            return sample, None
        if sample.prompt is None:
            raise InputError("It has no prompt to generate from.")
        attribution = self._generate(sample)
        image = attribution.image
        assert image is not None
        if sample.image is not None:
            _check_same(image, sample.image)
            return sample, attribution
        made = _with_image(sample, image)
        return (made if self.data.judge is None else self.data.judge(image, made)), attribution

    def _generate(self, sample: Sample) -> Attribution:
        seed = sample.seed if sample.seed is not None else seed_of(self.settings.seed, sample.id)
        arguments = {
            **self.settings.call,
            "generator": torch.Generator("cpu").manual_seed(seed),
        }
        with self._recording() as processor:
            if processor is None:
                return self.pipe(sample.prompt, **arguments).attribution
            with record_attention(self.pipe, processor) as recording:
                self.pipe(sample.prompt, **arguments)
            return recording.attribution

    def _attribution(
        self, sample: Sample, question: Question, generated: Attribution | None
    ) -> Attribution:
        asked = [one.text for one in question.asked]
        texts = texts_of(asked, question.background, self.maps)
        # Which texts are asked for is known once the image is there: then it is attributed.
        if generated is not None and generated.prompt.text == question.prompt and not texts:
            return generated
        if texts and not isinstance(self.pipe, RDAAMPipelineMixin):
            raise NoAttributionError(_STOCK)
        more: dict[str, Any] = {"attribution_vocabulary": texts} if texts else {}
        seed = seed_of(self.settings.seed, sample.id)
        with self._recording() as processor:
            found = attribute_image(
                self.pipe,
                sample.image,
                question.prompt,
                noise=self._noise,
                draws=self._draws,
                generator=torch.Generator("cpu").manual_seed(seed),
                processor=processor,
                **_of_images(self.settings.call),
                **more,
            )
        assert isinstance(found, Attribution)
        return found

    @contextmanager
    def _recording(self) -> Iterator[Any]:
        """The processor to give to a stock pipeline; None where the pipeline has it meanwhile."""
        processor = processor_for(self.maps)
        if isinstance(self.pipe, RDAAMPipelineMixin):
            with recorded_with(self.pipe, processor):
                yield None
        else:
            yield processor

    def _loss(self, images: list[Image.Image], prompts: list[str]) -> list[float]:
        """The prediction errors of images, a few at a time: an edited image is a whole one."""
        request = ErrorRequest(self._noise, max(self._draws, 1), self.settings.seed)

        # A recording pipeline records these calls too, and nothing is asked of that.
        def plain(clone: Any, named: dict[str, Any]) -> Any:
            return clone(**named)

        found: list[float] = []
        for start in range(0, len(images), BATCH):
            part = slice(start, start + BATCH)
            more = _of_images(self.settings.call)
            found += prediction_errors(
                self.pipe, images[part], prompts[part], request, plain=plain, **more
            )
        return found


# Said of many images, and of no consequence for scores.
_USUAL = (RepeatedWordWarning, ImageResizedWarning)
# Rows that are not done again.
_DONE = ("ok", "skipped")
_STOCK = (
    "Maps with concepts=true are given texts besides the prompt, which a stock pipeline does not "
    "take. Give a recording one: AutoRDAAMPipelineForText2Image.from_pipe(pipe)."
)
# Arguments of a generation that have no meaning for an image that is there.
_GENERATION = (
    *("num_inference_steps", "guidance_scale", "true_cfg_scale", "negative_prompt"),
    *("height", "width"),
)


def _of_images(call: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in call.items() if key not in _GENERATION}


def seed_of(seed: int, name: str) -> int:
    """The seed of a sample's noise: of its id, so that the order of samples does not matter."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _model_name(pipe: Any) -> str:
    name = getattr(getattr(pipe, "config", None), "_name_or_path", "") or ""
    # A folder of this machine says nothing elsewhere.
    return f"{type(pipe).__name__} {Path(str(name)).name}".strip()


def _with_image(sample: Sample, image: Image.Image) -> Sample:
    """A generated image as its sample's; masks that lie on disk have to have its size."""
    return replace(sample, image=image)


def _check_same(made: Image.Image, given: Image.Image) -> None:
    """Refuse an image that came out otherwise: its masks are of the one of the data set."""
    if made.size != given.size:
        raise InputError(
            f"This model makes it {made.width} x {made.height}, and the data set has it "
            f"{given.width} x {given.height}. Give the model and settings that it was made with, "
            "or attribute the image: source='image'."
        )
    pixels = [np.asarray(one.convert("RGB"), dtype=np.float64) for one in (made, given)]
    difference = float(np.abs(pixels[0] - pixels[1]).mean())
    if difference > MOST_DIFFERENCE:
        raise InputError(
            f"This model makes another image of its prompt and seed: {difference:.1f} levels of a "
            "colour away in the mean. Its masks are of the data set's image: source='image' "
            "attributes that one."
        )


def _reason(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return (
        text if isinstance(error, (InputError, RDAAMWarning)) else f"{type(error).__name__}: {text}"
    )


@contextmanager
def _quiet() -> Iterator[list[str]]:
    """Collects the package's warnings as notes of the row; those of every image are left out."""
    notes: list[str] = []

    with warnings.catch_warnings():
        warnings.simplefilter("always", RDAAMWarning)
        shown = warnings.showwarning

        def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
            if not issubclass(category, RDAAMWarning):
                shown(message, category, *place, **more)
            elif not issubclass(category, _USUAL) and str(message) not in notes:
                notes.append(str(message))

        warnings.showwarning = show
        yield notes
