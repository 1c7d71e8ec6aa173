"""All numbers of one model, part by part, from recordings that are kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.embedded_model import STABLE_DIFFUSION
from benchmarks.truth import bars
from benchmarks.truth.drawn import Drawn, drawn_scenes
from benchmarks.truth.evidence import Evidence
from benchmarks.truth.maps import (
    UNSTORED,
    WORDS,
    MapScores,
    Table,
    Way,
    measure_maps,
    queries,
    threshold_text,
    ways,
)
from benchmarks.truth.models import FEW, Model
from benchmarks.truth.regions import KINDS
from benchmarks.truth.sanity import CHECKS, checked
from benchmarks.truth.scenes import (
    CARD,
    SETTINGS,
    Names,
    Scene,
    Setting,
    prompts_of,
    scenes,
    unstored_scenes,
)
from benchmarks.truth.scores import (
    THRESHOLDS,
    mean_and_interval,
    resampled,
)
from benchmarks.truth.words import WordScores, contrasts, measure_words
from diffusers_rdaam import RDAAMProcessor
from diffusers_rdaam.demo.judge import judge
from diffusers_rdaam.demo.world import IMAGE_SIZE
from diffusers_rdaam.evaluation.metrics.ranking import average_precision, roc_area

KEPT = "Maps of the scenes with steps, layers and heads"
DEFAULTS = "What defaults are chosen by"
FEW_WAYS = ("mean", "mean, refined", "rms, refined")
# Each setting makes all its images anew.
SETTING_SCENES = 60


@dataclass(frozen=True)
class Measurement:
    """What is measured, and with how many scenes.

    Args:
        model: which.
        cache: the folder of its recordings.
        count: scenes; of each further setting at most 60 of them.
        tuning: scenes that thresholds are chosen on.
        kept: of how many of each the single steps, layers and heads are kept, which some
            aggregations need and which takes twice the time and 20 MB a scene.
    """

    model: Model
    cache: Path
    count: int
    tuning: int
    kept: int

    @cached_property
    def pipe(self) -> Any:
        """The pipeline that keeps all that aggregations need."""
        return self.model.load()

    @cached_property
    def light_pipe(self) -> Any:
        """The pipeline that keeps what :data:`FEW_WAYS` need."""
        return self.model.load(RDAAMProcessor(**FEW))

    def test_scenes(self, setting: Setting = CARD) -> Iterator[Scene]:
        """The scenes that numbers are of, in a setting."""
        kept = self.kept if setting is CARD else 0
        yield from self._scenes(prompts_of("test", self.count), kept, setting)

    def light_scenes(self, setting: Setting = CARD) -> list[Scene]:
        """The usable scenes, at once in memory, without the maps of single steps and heads."""
        return [
            replace(scene, attribution=replace(scene.attribution, kept=None))
            for scene in self.test_scenes(setting)
            if scene.usable
        ]

    def tuning_scenes(self) -> Iterator[Scene]:
        """The scenes that thresholds are chosen on."""
        yield from self._scenes(prompts_of("tuning", self.tuning), self.kept, CARD)

    @property
    def few(self) -> int:
        """Of how many scenes what files do not have is asked; half of it to choose thresholds."""
        return max(self.kept // 4, 2)

    def unstored(self, part: str, count: int) -> Iterator[Scene]:
        """Scenes of ``"test"`` or ``"tuning"`` with what :data:`UNSTORED` aggregations need."""

        def texts(names: Names) -> list[str]:
            return list(dict.fromkeys(text for name in names for text in queries(name).values()))

        yield from unstored_scenes(self.model, prompts_of(part, count), texts)

    def _scenes(
        self, wanted: list[tuple[str, Names, int]], kept: int, setting: Setting
    ) -> Iterator[Scene]:
        for part, pipe in (
            (wanted[:kept], lambda: self.pipe),
            (wanted[kept:], lambda: self.light_pipe),
        ):
            yield from scenes(self.model, part, self.cache, setting=setting, pipe=pipe)

    @cached_property
    def thresholds(self) -> tuple[Table, dict[str, str]]:
        """Every way on the tuning scenes."""
        return measure_maps(self.tuning_scenes(), self.ways)

    @cached_property
    def ways(self) -> dict[str, Way]:
        """The ways to make a map of a word that the model's recordings serve."""
        return ways(self.model.name)

    def with_bar(self, one: Evidence) -> Evidence:
        """The number with what it has to reach."""
        if one.section not in bars.SECTIONS:
            return replace(one, bar=None, at_most=False)
        key = (one.way, one.what)
        least = bars.AT_LEAST[self.model.name].get(key)
        most = bars.AT_MOST[self.model.name].get(key)
        return replace(one, bar=least if most is None else most, at_most=most is not None)


def images(of: Measurement) -> Iterator[Evidence]:
    """What the judge says of the images; every attribution is of what is really there."""
    verdicts, usable = [], []
    for scene in of.test_scenes():
        verdicts.append(judge(scene.attribution.image, scene.names))
        usable.append(float(scene.usable))
    for key in STABLE_DIFFUSION.image_bars:
        values = [float(getattr(verdict, key)) for verdict in verdicts]
        yield _number("What the images show", of.model.name, key.replace("_", " "), values)
    yield _number(
        "What the images show", of.model.name, "both objects are there to compare", usable
    )


def maps(of: Measurement) -> Iterator[Evidence]:
    """Every aggregation, by kind of word."""
    tuned, refused = of.thresholds
    asked = {name: way for name, way in of.ways.items() if name in tuned}
    table, further = measure_maps(of.test_scenes(), asked)
    others = {name: way for name, way in of.ways.items() if name in UNSTORED}
    other_tuned, _ = measure_maps(of.unstored("tuning", of.few // 2), others)
    other_table, other_refused = measure_maps(of.unstored("test", of.few), others)
    tuned, table = tuned | other_tuned, table | other_table
    for way, by_kind in table.items():
        for kind, scores in by_kind.items():
            yield from map_numbers("Maps", way, kind, scores, tuned[way][kind])
    for way, why in {**refused, **further, **other_refused}.items():
        if way not in table:
            yield Evidence("Maps", way, "IoU", why=why)


def kept(of: Measurement) -> Iterator[Evidence]:
    """The mean of the scenes alone whose single steps, layers and heads were kept."""
    asked = {name: of.ways[name] for name in FEW_WAYS}
    tuned, _ = measure_maps(of.tuning_scenes(), asked)
    few = replace(of, count=min(of.count, of.kept))
    for way, by_kind in measure_maps(few.test_scenes(), asked)[0].items():
        for kind, scores in by_kind.items():
            yield from map_numbers(KEPT, way, kind, scores, tuned[way][kind])


def map_numbers(
    section: str, way: str, kind: str, scores: MapScores, tuning: MapScores | None
) -> Iterator[Evidence]:
    """The numbers of one way and kind of word; the tuned IoU where there are tuning scenes."""
    yield _number(section, way, bars.DEFAULT_IOU.format(kind), scores.default)
    if tuning is not None:
        place = tuning.best_threshold()
        found = _number(section, way, bars.TUNED_IOU.format(kind), scores.at(place))
        yield replace(found, threshold=threshold_text(place))
    yield _number(section, way, bars.PRECISION.format(kind), scores.precision)
    yield _number(section, way, bars.POINTING.format(kind), scores.pointing)
    yield _number(section, way, bars.BOX.format(kind), scores.box)


def defaults(of: Measurement) -> Iterator[Evidence]:
    """What the package's defaults are chosen by: thresholds and contrasts of the tuning scenes."""
    tuned, _ = of.thresholds
    for way, by_kind in tuned.items():
        curves = {kind: np.array(by_kind[kind].curves) for kind in WORDS}
        curves["all three"] = np.mean(list(curves.values()), axis=0)
        for kind, each in curves.items():
            best = resampled(each, partial(_best_threshold, each))
            yield Evidence(DEFAULTS, way, f"best threshold, {kind}", *best, scenes=len(each))
    for kind, values in contrasts(of.tuning_scenes()).items():
        share = 95.0 if kind == "background" else 2.0
        found = resampled(values, partial(_quantile, values, share))
        what = f"contrast, {share:g} % quantile of boxes"
        yield Evidence(DEFAULTS, f"boxes: {kind}", what, *found, scenes=len(values))


def _best_threshold(curves: np.ndarray, chosen: np.ndarray) -> float:
    return float(THRESHOLDS[int(curves[chosen].mean(axis=0).argmax())])


def _quantile(values: Sequence[Sequence[float]], share: float, chosen: np.ndarray) -> float:
    return float(np.percentile([one for place in chosen for one in values[place]], share))


def words(of: Measurement) -> Iterator[Evidence]:
    """Words of regions of all kinds, by lift and by score, raw and refined."""
    found = of.light_scenes()
    for refined in (False, True):
        for ranking, scores in measure_words(found, refined=refined).items():
            way = f"{ranking}, refined" if refined else ranking
            yield from word_numbers("Words of regions", way, scores)


def word_numbers(section: str, way: str, scores: WordScores) -> Iterator[Evidence]:
    """The numbers of one ranking."""
    for what, by_region in (
        (bars.FIRST, scores.first),
        (bars.BOTH, scores.both),
        (bars.OTHER, scores.other),
    ):
        for kind in KINDS:
            yield _number(section, way, what.format(kind), by_region[kind])
    if scores.background_signs:
        yield _number(section, way, bars.BACKGROUND_SIGN, scores.background_signs)
        yield _number(section, way, bars.OBJECT_SIGN, scores.object_signs)


def settings(of: Measurement) -> Iterator[Evidence]:
    """The mean, raw and refined, and words by lift, at other steps and guidance."""
    asked = {name: of.ways[name] for name in FEW_WAYS}
    few = replace(of, count=min(of.count, SETTING_SCENES))
    for setting in SETTINGS:
        found = few.light_scenes(setting)
        table, _ = measure_maps(found, asked)
        for way, by_kind in table.items():
            for kind in WORDS:
                name, scores = f"{setting.name}: {way}", by_kind[kind]
                what = bars.DEFAULT_IOU.format(kind)
                yield _number("Other steps and guidance", name, what, scores.default)
                what = bars.PRECISION.format(kind)
                yield _number("Other steps and guidance", name, what, scores.precision)
        lift = measure_words(found, refined=False, background=False)["lift"]
        for kind in ("tight box", "double box"):
            name = f"{setting.name}: lift"
            what = bars.FIRST.format(kind)
            yield _number("Other steps and guidance", name, what, lift.first[kind])
            what = bars.BOTH.format(kind)
            yield _number("Other steps and guidance", name, what, lift.both[kind])


def sanity(of: Measurement) -> Iterator[Evidence]:
    """AP of phrases in the same images when the model is spoilt or the prompt is another's."""
    found = of.light_scenes()
    section, what = "Sanity", bars.PRECISION.format("phrase")
    usual = [_precision(scene, scene.attribution, scene.names) for scene in found]
    yield _number(section, "the model and the prompt", what, usual)
    area = [float(np.mean([mask.mean() for mask in one.masks.values()])) for one in found]
    yield _number(section, "a map without information", what, area)
    present = {scene.seed: _peak(scene.attribution, scene.names) for scene in found}
    for check in CHECKS:
        values, peaks = [], []
        for scene, attribution, names in checked(of.model, found, check):
            values.append(_precision(scene, attribution, names))
            peaks.append((present[scene.seed], _peak(attribution, names)))
        yield _number(section, check, what, values)
        if check == "another prompt":
            yield _presence(section, check, peaks)


def drawn(of: Measurement) -> Iterator[Evidence]:
    """Drawn images with exact masks, through ``attribute_image``."""
    section = "Drawn images"
    side = of.model.settings.get("height", IMAGE_SIZE)
    found = list(drawn_scenes(of.model, prompts_of("test", of.count), side))
    asked = {name: of.ways[name] for name in FEW_WAYS}
    table, _ = measure_maps([one.scene for one in found], asked)
    for way, by_kind in table.items():
        for kind, scores in by_kind.items():
            yield from map_numbers(section, way, kind, scores, None)
    lift = measure_words([one.scene for one in found], refined=False)["lift"]
    yield from word_numbers(section, "lift", lift)
    yield _presence(section, "another object in the caption", _peaks(found))


PARTS: dict[str, Callable[[Measurement], Iterator[Evidence]]] = {
    "images": images,
    "defaults": defaults,
    "maps": maps,
    "kept": kept,
    "words": words,
    "sanity": sanity,
    "settings": settings,
    "drawn": drawn,
}


def _number(section: str, way: str, what: str, values: Sequence[float]) -> Evidence:
    if not values:
        return Evidence(section, way, what, why="not measured: no image shows both objects")
    return Evidence(section, way, what, *mean_and_interval(values), scenes=len(values))


def _presence(section: str, way: str, peaks: Sequence[tuple[float, float]]) -> Evidence:
    """How well the highest value of a map tells words of the image from others."""
    pairs = np.asarray(peaks)

    def area(chosen: np.ndarray) -> float:
        return roc_area(pairs[chosen, 0], pairs[chosen, 1])

    what = "AUC of present over absent by peak"
    return Evidence(section, way, what, *resampled(pairs, area), scenes=len(pairs))


def _peaks(found: Sequence[Drawn]) -> list[tuple[float, float]]:
    return [(one.present, one.absent) for one in found]


def _precision(scene: Scene, attribution: Any, names: Sequence[str]) -> float:
    """Each name's map against the mask of the object in its place."""
    masks = [scene.masks[name] for name in scene.names]
    values = [attribution.word(name).values.numpy() for name in names]
    pairs = zip(values, masks, strict=True)
    return float(np.mean([average_precision(*pair) for pair in pairs]))


def _peak(attribution: Any, names: Sequence[str]) -> float:
    return float(np.mean([float(attribution.word(name).values.max()) for name in names]))
