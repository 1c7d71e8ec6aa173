"""Images that no model made: drawn scenes with exact masks, and what the model says of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from benchmarks.truth.models import FEW, Model
from benchmarks.truth.sanity import other_names
from benchmarks.truth.scenes import Names, Scene
from diffusers_rdaam import RDAAMProcessor
from diffusers_rdaam.demo.world import (
    IMAGE_SIZE,
    REACH,
    SceneObject,
    coverage,
    random_object,
    render,
)

GAP = 7.0


@dataclass(frozen=True)
class Drawn:
    """A drawn scene as the benchmark asks it, and the peaks of words that are there and are not.

    Args:
        scene: with exact masks.
        present: the highest value of the named object's map, in a caption that names the other one
            wrongly.
        absent: that of the object that is not in the image.
    """

    scene: Scene
    present: float = field(default=float("nan"))
    absent: float = field(default=float("nan"))


def drawn_scenes(
    model: Model, wanted: Sequence[tuple[str, Names, int]], side: int
) -> Iterator[Drawn]:
    """Each prompt's objects drawn, and attributed with the prompt and with a wrong caption.

    Args:
        model: that is asked.
        wanted: prompts, names and seeds.
        side: of the images, in pixels.
    """
    pipe = model.load(RDAAMProcessor(**FEW))
    for text, names, seed in wanted:
        image, masks = draw(names, np.random.default_rng(seed), side)
        attribution = pipe.attribute_image(image, text)
        wrong = other_names(names, seed)[0]
        mixed = pipe.attribute_image(image, f"a {names[0]} and a {wrong}")
        peaks = [float(mixed.word(name).values.max()) for name in (names[0], wrong)]
        yield Drawn(Scene(text, names, seed, attribution, masks), *peaks)


def draw(
    names: Names, rng: np.random.Generator, side: int
) -> tuple[Image.Image, dict[str, np.ndarray]]:
    """Two objects that do not touch, as training's scenes have them, and their exact masks."""
    while True:
        first, second = (random_object(rng, name, 23.0, 30.0) for name in names)
        reach = sum(thing.radius * REACH[thing.shape] for thing in (first, second))
        if np.hypot(first.x - second.x, first.y - second.y) >= reach + GAP:
            break
    things = tuple(_enlarged(thing, side / IMAGE_SIZE) for thing in (first, second))
    pixels = render(things, size=side).round().clip(0, 255).astype(np.uint8)
    y, x = np.mgrid[:side, :side] + 0.5
    masks = {
        thing.name: coverage(thing.shape, x - thing.x, y - thing.y, thing.radius) > 0.5
        for thing in things
    }
    return Image.fromarray(pixels), masks


def _enlarged(thing: SceneObject, by: float) -> SceneObject:
    where = (thing.x * by, thing.y * by, thing.radius * by)
    return SceneObject(thing.colour, thing.shape, *where, thing.rgb)
