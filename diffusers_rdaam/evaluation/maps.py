"""Maps: which map of a word is scored, one row of a table; and the answers of an attribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam.argument_checks import check_choice, real_number
from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.attribution.aggregations.aggregation import SELF_ATTENTION
from diffusers_rdaam.attribution.aggregations.table import aggregations, recipe_of
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.heat_map import HeatMap
from diffusers_rdaam.attribution.prompt import Match
from diffusers_rdaam.attribution.self_attention.refinement import Refinement
from diffusers_rdaam.attribution.thresholds import levelled
from diffusers_rdaam.drawing.pictures import base_image
from diffusers_rdaam.errors import InputError, WordError
from diffusers_rdaam.evaluation.protocols.protocol import Answers, Size, WordMap, box_weights
from diffusers_rdaam.geometry.dense_crf import PAPER_IMAGE_SIDE, DenseCRF, Unary, check_installed
from diffusers_rdaam.suggestions import check_keywords

_SETTINGS = ("refine", "sharpen", "crf", "concepts", "resolutions", "layers", "steps")
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True)
class Maps:
    """The maps that are scored: an aggregation, what it is made of, and what is done to it.

    The papers' ablations are rows of one table: ``Maps("mean", resolutions=(16,))``,
    ``Maps("rms", refine="product")``, ``Maps("mean", sharpen=True)``, ``Maps("mean", crf="soft")``.

    Args:
        aggregation: its name; see :func:`aggregations`.
        options: of the aggregation, such as ``{"layer": "up_blocks.1.attentions.1"}``.
        refine: by self-attention, with this method.
        sharpen: by the image's edges (guided filter).
        crf: by the image's edges (dense CRF, extra ``crf``): each word against its background.
            ``"soft"`` takes the map bent so that its threshold is at one half as the word's
            probability, ``"hard"`` its mask, as OVAM does; True is ``"soft"``.
        concepts: each word is asked for as a text of its own (``attribution_vocabulary=``), not as
            a word of the prompt: ConceptAttention's maps of a transformer, where the texts of a
            question compete in one softmax, and OVAM's of a UNet. For recording pipelines.
        resolutions: only these grids, ``n`` for a square one.
        layers: only these layers: names, prefixes or patterns.
        steps: only these denoiser calls, as a slice of three numbers or None.

    Raises:
        InputError: there is no such aggregation, option or method.
        CRFExtraError: ``crf=`` without pydensecrf.
    """

    aggregation: str = "mean"
    options: Mapping[str, Any] = field(default_factory=dict)
    refine: Refinement | None = None
    sharpen: bool = False
    crf: Unary | bool | None = None
    concepts: bool = False
    resolutions: tuple[int, ...] | None = None
    layers: tuple[str, ...] | None = None
    steps: tuple[int | None, int | None] | None = None

    def __post_init__(self) -> None:
        recipe_of(self.aggregation, self.options)
        if self.refine is not None:
            check_choice(self.refine, Refinement, "a refinement")
        if isinstance(self.crf, bool):
            object.__setattr__(self, "crf", "soft" if self.crf else None)
        if self.crf is not None:
            check_choice(self.crf, Unary, "a unary term")
            check_installed()

    @classmethod
    def parse(cls, text: str) -> Maps:
        """The maps of a line such as ``"rms, refine=product, resolutions=8|16"``.

        The first part is the aggregation; then settings of :class:`Maps` or options of the
        aggregation, with ``|`` between several and ``2:5`` for steps.

        Raises:
            InputError: a part is none of these.
        """
        name, *parts = [part.strip() for part in text.split(",")]
        settings: dict[str, Any] = {}
        for part in parts:
            key, equals, value = part.partition("=")
            if not equals or not value:
                raise InputError(
                    f"{text!r} has the part {part!r}; after the name of an aggregation each part "
                    "is name=value, as in 'mean, refine=product'."
                )
            settings[key.strip()] = _value(key.strip(), value.strip(), text)
        known = aggregations()
        options = known[name].options if name in known else ()
        check_keywords(settings, (*_SETTINGS, *options), f"Maps.parse({text!r})")
        given = {key: settings.pop(key) for key in _SETTINGS if key in settings}
        return cls(name, settings, **given)

    @property
    def name(self) -> str:
        """The line of :meth:`parse`, which names the row of a table."""
        parts = [self.aggregation]
        for key, value in self.options.items():
            parts.append(f"{key}={value}")
        if self.refine is not None:
            parts.append(f"refine={self.refine}")
        if self.sharpen:
            parts.append("sharpen=true")
        if self.crf is not None:
            parts.append(f"crf={self.crf}")
        if self.concepts:
            parts.append("concepts=true")
        for key in ("resolutions", "layers"):
            values = getattr(self, key)
            if values is not None:
                parts.append(f"{key}={'|'.join(map(str, values))}")
        if self.steps is not None:
            first, last = ("" if one is None else str(one) for one in self.steps)
            parts.append(f"steps={first}:{last}")
        return ", ".join(parts)

    @property
    def needs(self) -> set[str]:
        """What a run must keep for them, as :class:`Aggregation` names it."""
        found = set(aggregations()[self.aggregation].needs)
        if self.refine is not None:
            found.add(SELF_ATTENTION)
        if self.layers is not None:
            found.add("layers")
        if self.steps is not None:
            found.add("steps")
        return found

    def read(self, attribution: Attribution, match: Match) -> HeatMap:
        """The map of what ``attribution.prompt.find`` found.

        Raises:
            NoAttributionError: the run did not keep what it needs.
        """
        chosen = attribution
        if (self.resolutions, self.layers, self.steps) != (None, None, None):
            chosen = attribution.select(
                resolutions=self.resolutions,
                layers=self.layers,
                steps=None if self.steps is None else slice(*self.steps),
            )
            chosen = replace(chosen, self_grids=attribution.self_grids)
        found = chosen.aggregated(self.aggregation, **self.options).match(match)
        if self.refine is not None:
            found = found.refined(self.refine)
        if self.sharpen:
            found = found.sharpened()
        return found if self.crf is None else _by_crf(found, self.crf)


def _by_crf(heat_map: HeatMap, unary: Any) -> HeatMap:
    """The probability of the word against its background after a dense CRF over the image.

    The deviations, in pixels of images of 512, are scaled to the image.
    """
    crf = DenseCRF(unary=unary, image_side=PAPER_IMAGE_SIDE)
    word = levelled(heat_map.normalized.float(), heat_map.threshold)
    image = base_image(None, heat_map.image, "heat map")
    _, found = crf(image, torch.stack([1.0 - word, word]))
    return replace(heat_map, values=found, threshold=0.5, quantity="probability after a dense CRF")


def _value(key: str, value: str, text: str) -> Any:
    """What a setting's text means."""
    if key in ("sharpen", "concepts"):
        if value.lower() not in _BOOLEANS:
            raise InputError(f"{text!r}: {key}= is true or false; got {value!r}.")
        return _BOOLEANS[value.lower()]
    if key == "resolutions":
        sizes = value.split("|")
        if not all(size.strip().isdecimal() for size in sizes):
            raise InputError(f"{text!r}: resolutions= are numbers, as in 8|16; got {value!r}.")
        return tuple(map(int, sizes))
    if key == "layers":
        return tuple(part.strip() for part in value.split("|"))
    if key == "steps":
        first, colon, last = value.partition(":")
        if not colon or not all(part.lstrip("-").isdigit() for part in (first, last) if part):
            raise InputError(f"{text!r}: steps= are first:last, as in 10:20; got {value!r}.")
        return (int(first) if first else None, int(last) if last else None)
    if key == "crf":
        # check_choice() of the construction says what else there is.
        return _BOOLEANS.get(value.lower(), value)
    number = real_number(float(value)) if value.replace(".", "", 1).isdecimal() else None
    return value if number is None else (int(number) if number.is_integer() else number)


def maps_of(given: str | Maps | Sequence[str | Maps]) -> tuple[Maps, ...]:
    """The rows of a table, each once.

    Raises:
        InputError: there is none, one occurs twice, or one is not known.
    """
    listed = [given] if isinstance(given, (str, Maps)) else list(given)
    found = tuple(one if isinstance(one, Maps) else Maps.parse(one) for one in listed)
    names = [one.name for one in found]
    if not found or len(set(names)) != len(names):
        raise InputError(
            f"maps= are different ones, at least one; got {', '.join(names) or 'none'}."
        )
    return found


def processor_for(maps: Sequence[Maps]) -> RDAAMProcessor:
    """A recording that keeps what all of some maps need."""
    needs = {need for one in maps for need in one.needs}
    itself = SELF_ATTENTION in needs
    keep = tuple(
        name for name in ("steps", "layers", "heads", "squares", "queries") if name in needs
    )
    if not keep and not itself:
        return RDAAMProcessor()
    return RDAAMProcessor(
        keep=keep,
        self_attention="each" if itself else False,
        budget=2**34,
    )


def texts_of(asked: Sequence[str], background: Sequence[str], maps: Sequence[Maps]) -> list[str]:
    """The texts that a run is given besides its prompt, for maps of concepts; none without them.

    A text alone has nothing to compete with, and gets ``"background"`` as a second one.
    """
    if not any(one.concepts for one in maps):
        return []
    texts = list(dict.fromkeys([*asked, *background]))
    return texts if len(texts) > 1 else [*texts, "background"]


def _as_a_text(attribution: Attribution, text: str) -> Attribution:
    """The attribution of a text of the vocabulary, with the image and its self-attention."""
    found = attribution.vocabulary[text]
    return replace(found, image=attribution.image, self_grids=attribution.self_grids)


class RecordedAnswers(Answers):
    """The answers of one attribution, by one kind of maps.

    Args:
        attribution: of the image.
        maps: which ones.
        loss: answers :meth:`losses`, from pictures and prompts to errors; no model if not given.
    """

    def __init__(self, attribution: Attribution, maps: Maps, loss: Any = None) -> None:
        super().__init__({})
        self._attribution, self._kind, self._loss = attribution, maps, loss
        self._read: dict[Any, HeatMap | None] = {}

    def heat_map(self, text: str, span: tuple[int, int] | None = None) -> HeatMap | None:
        """The map of a word or phrase; None where the prompt does not have it."""
        key = (text, span)
        if key not in self._read:
            attribution, place = self._attribution, text if span is None else span
            if self._kind.concepts:
                # A text of its own; another one was not asked for in this run.
                if text not in attribution.vocabulary:
                    return None
                attribution, place = _as_a_text(attribution, text), text
            try:
                match = attribution.prompt.find(place)
            except WordError:
                self._read[key] = None
            else:
                self._read[key] = self._kind.read(attribution, match)
        return self._read[key]

    def map(self, text: str, span: tuple[int, int] | None = None) -> WordMap | None:
        """The map of a word or phrase of the prompt; None where the prompt does not have it."""
        found = self.heat_map(text, span)
        if found is None:
            return None
        return WordMap(found.values.double().numpy(), found.threshold)

    def box_scores(
        self, box: Sequence[float], size: Size
    ) -> list[tuple[str, tuple[int, int] | None, float, float]]:
        """Every token of the prompt that is text, with its span, score and lift in a box."""
        found: list[tuple[str, tuple[int, int] | None, float, float]] = []
        for text, span, values in self._tokens:
            cells = box_weights(box, size, values.shape)
            score, level = float((values * cells).sum() / cells.sum()), float(values.mean())
            found.append((text, span, score, score / level if level > 0.0 else 0.0))
        return found

    @cached_property
    def _tokens(self) -> list[tuple[str, tuple[int, int] | None, np.ndarray]]:
        """The map of each token that is text: read once for all boxes of an image.

        Of concepts, those of the texts.
        """
        found: list[tuple[str, tuple[int, int] | None, np.ndarray]] = []
        if self._kind.concepts:
            maps = {text: self.heat_map(text) for text in self._attribution.vocabulary}
            return [
                (text, None, one.values.double().numpy())
                for text, one in maps.items()
                if one is not None
            ]
        for token in self._attribution.prompt.tokens:
            if token.kind == "text" and token.start is not None and token.end is not None:
                span = (token.start, token.end)
                heat_map = self._kind.read(
                    self._attribution, Match(token.text, (span,), (token.column,))
                )
                found.append((token.text, span, heat_map.values.double().numpy()))
        return found

    def losses(self, images: Sequence[np.ndarray], text: str) -> list[float]:
        """How much worse the model predicts the noise of images without a word of the prompt."""
        if self._loss is None:
            return super().losses(images, text)
        pictures = [
            Image.fromarray((one * 255.0).round().clip(0, 255).astype(np.uint8)) for one in images
        ]
        prompt = str(self._attribution.prompt.text)
        without = " ".join(prompt.replace(text, " ").split())
        count = len(pictures)
        found = self._loss([*pictures, *pictures], [without] * count + [prompt] * count)
        return [one - other for one, other in zip(found[:count], found[count:], strict=True)]
