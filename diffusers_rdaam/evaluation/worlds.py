"""The embedded models' world as data sets: drawn scenes with exact masks, and generated images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image

from diffusers_rdaam.argument_checks import check_count
from diffusers_rdaam.demo.judge import find_blobs, judge
from diffusers_rdaam.demo.world import (
    COLOURS,
    IMAGE_SIZE,
    REACH,
    SHAPES,
    SceneObject,
    coverage,
    held_out_prompts,
    random_object,
    render,
    seen_prompts,
)
from diffusers_rdaam.errors import DataSetError, InputError
from diffusers_rdaam.evaluation.sample import ClassName, DataSet, Sample, Target

# Between the outlines of two objects, in pixels of a scene of 128.
GAP = 7.0
FIRST_SEED = 42_000


def drawn_scenes(
    count: int = 40, *, seed: int = 0, size: int = IMAGE_SIZE, seen: bool = False
) -> DataSet:
    """Scenes of two objects that no model made, with exact masks.

    Args:
        count: how many.
        seed: of objects and places.
        size: of the images, in pixels.
        seen: pairs of objects that training has shown, as thresholds are chosen on; else such that
            it has not.
    """
    check_count(count, "count=")
    prompts = _prompts(count, seed, seen=seen)
    # Other names in the other split: they are other images.
    ids = [f"{'seen' if seen else 'scene'}-{number:04d}" for number in range(count)]
    wanted = dict(zip(ids, prompts, strict=True))

    def read(name: str) -> Sample:
        text, names = wanted[name]
        image, masks = _draw(names, np.random.default_rng([seed, ids.index(name)]), size)
        return Sample(name, image, text, _targets(text, masks))

    split = "seen" if seen else "held out"
    return DataSet("drawn_scenes", tuple(ids), read, _classes(), split=split)


def generated_scenes(count: int = 40, *, seed: int = 0, seen: bool = False) -> DataSet:
    """Prompts and seeds whose images the embedded models make; masks by colour, where it is right.

    An image that lacks an object of its prompt is a row with that error: there is no true mask.

    Args:
        count: how many.
        seed: of prompts.
        seen: as for :func:`drawn_scenes`.
    """
    check_count(count, "count=")
    prompts = _prompts(count, seed, seen=seen)
    first = "generated-seen" if seen else "generated"
    ids = [f"{first}-{number:04d}" for number in range(count)]
    wanted = dict(zip(ids, prompts, strict=True))

    def read(name: str) -> Sample:
        text, _ = wanted[name]
        number = FIRST_SEED + 1000 * seed + ids.index(name)
        return Sample(name, None, text, seed=number)

    def fill(image: Image.Image, sample: Sample) -> Sample:
        names = wanted[sample.id][1]
        verdict = judge(image, names)
        if not (verdict.both_objects and verdict.no_stray):
            raise DataSetError(
                "The image does not show the objects of its prompt, so it has no truth."
            )
        blobs = find_blobs(image)
        masks = {name: next(b.mask for b in blobs if b.name == name) for name in names}
        return replace(sample, image=image, targets=_targets(str(sample.prompt), masks))

    split = "seen" if seen else "held out"
    return DataSet(
        "generated_scenes",
        tuple(ids),
        read,
        _classes(),
        generated=True,
        split=split,
        judge=fill,
    )


WORLDS: dict[str, Callable[..., DataSet]] = {
    "drawn_scenes": drawn_scenes,
    "generated_scenes": generated_scenes,
}


def _prompts(count: int, seed: int, *, seen: bool) -> list[tuple[str, tuple[str, str]]]:
    return (seen_prompts if seen else held_out_prompts)(count, seed)


def _classes() -> tuple[ClassName, ...]:
    return tuple(ClassName(f"{colour} {shape}") for colour in COLOURS for shape in SHAPES)


def _targets(text: str, masks: dict[str, np.ndarray]) -> tuple[Target, ...]:
    places = {name: text.index(name) for name in masks}
    return tuple(
        Target(name, mask, name, (places[name], places[name] + len(name)))
        for name, mask in masks.items()
    )


def _draw(
    names: tuple[str, str], rng: np.random.Generator, size: int
) -> tuple[Image.Image, dict[str, np.ndarray]]:
    """Two objects that do not touch, as training's scenes have them, and their exact masks."""
    if size < 16:
        raise InputError(f"A scene is at least 16 pixels wide; got {size}.")
    while True:
        first, second = (random_object(rng, name, 23.0, 30.0) for name in names)
        reach = sum(thing.radius * REACH[thing.shape] for thing in (first, second))
        if np.hypot(first.x - second.x, first.y - second.y) >= reach + GAP:
            break
    by = size / IMAGE_SIZE
    things = tuple(
        SceneObject(one.colour, one.shape, one.x * by, one.y * by, one.radius * by, one.rgb)
        for one in (first, second)
    )
    pixels = render(things, size=size).round().clip(0, 255).astype(np.uint8)
    y, x = np.mgrid[:size, :size] + 0.5
    masks = {
        one.name: coverage(one.shape, x - one.x, y - one.y, one.radius) > 0.5 for one in things
    }
    return Image.fromarray(pixels), masks
