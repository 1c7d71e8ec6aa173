"""Noise levels of ``attribute_image``: how right the maps and words of drawn images are at each.

Drawn scenes of two objects that training never showed together, whose masks are exact, with their
own caption, and with one that names an object that is not there. Intervals are 95 %, by resampling
scenes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.report import Row
from benchmarks.truth.drawn import draw
from benchmarks.truth.maps import measure_maps, ways
from benchmarks.truth.models import NAMES, model_of
from benchmarks.truth.regions import regions_of
from benchmarks.truth.sanity import other_names
from benchmarks.truth.scenes import Names, Scene, prompts_of
from benchmarks.truth.scores import mean_and_interval
from benchmarks.truth.words import measure_words, ranked_value
from diffusers_rdaam import RDAAMProcessor
from diffusers_rdaam.demo.world import IMAGE_SIZE

COUNT = 40
LEVELS = (0.1, 0.26, 0.37, 0.46, 0.56, 0.7, 0.88)
DRAWS = 2
Picture = tuple[Image.Image, dict[str, np.ndarray]]
# By name, the options of a call; without any, the default ones.
CALLS: dict[str, dict[str, Any]] = {
    "default": {},
    **{str(level): {"noise": level, "draws": DRAWS} for level in LEVELS},
}


def run(*, full: bool = False) -> list[Row]:
    """40 scenes of each embedded model, or 160 with ``full``."""
    return [row for name in NAMES for row in rows_of(name, 160 if full else COUNT)]


def rows_of(name: str, count: int) -> Iterator[Row]:
    """A row of maps and one of words for each level, and one of what is not there."""
    model = model_of(name)
    pipe = model.load(RDAAMProcessor())
    side = model.settings.get("height", IMAGE_SIZE)
    asked = prompts_of("test", count)
    drawn = [draw(names, np.random.default_rng(seed), side) for _, names, seed in asked]
    mean = {"mean": ways(name)["mean"]}
    for level, options in CALLS.items():
        scenes = [
            Scene(text, names, seed, pipe.attribute_image(image, text, **options), masks)
            for (text, names, seed), (image, masks) in zip(asked, drawn, strict=True)
        ]
        maps = measure_maps(scenes, mean)[0]["mean"]["phrase"]
        lift = measure_words(scenes, refined=False, background=False)["lift"]
        about = f"noise {level}; {count} drawn scenes"
        best = maps.at(maps.best_threshold())
        measured = f"default threshold {_text(maps.default)}, best one {_text(best)}"
        yield Row(f"levels {name}", f"phrase IoU, {about}", measured)
        measured = ", ".join(
            f"{what} {_percent(values['tight box'])}"
            for what, values in (
                ("first word", lift.first),
                ("first two", lift.both),
                ("phrase over the other's", lift.other),
            )
        )
        yield Row(f"levels {name}", f"words of a tight box by lift, {about}", measured)
    lifts = [
        _lift_of_absent(pipe, names, seed, picture)
        for (_, names, seed), picture in zip(asked, drawn, strict=True)
    ]
    what = f"lift of a phrase that names nothing, on the object without a name; {count} scenes"
    yield Row(f"levels {name}", what, _text(lifts, digits=2))


def _lift_of_absent(pipe: Any, names: Names, seed: int, picture: Picture) -> float:
    """In a caption in which the second object has another's name."""
    first, second = names
    image, masks = picture
    wrong = other_names(names, seed)[0]
    attribution = pipe.attribute_image(image, f"a {first} and a {wrong}")
    region: Any = regions_of(masks[second])["tight box"]
    return ranked_value(attribution.region(region), wrong)


def _text(values: Any, digits: int = 3) -> str:
    mean, low, high = mean_and_interval(values)
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _percent(values: Any) -> str:
    return f"{np.mean(values):.1%}"
