"""The world of the embedded model: flat coloured shapes on a light ground, and their captions.

A scene is one or two objects; an object is a colour, a shape and a place. Everything is a pure
function of a numpy generator, so that a seed names a data set.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass

import numpy as np

IMAGE_SIZE = 128
BACKGROUND = 252.0

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (40, 165, 70),
    "blue": (45, 75, 215),
    "yellow": (242, 202, 40),
    "magenta": (208, 50, 190),
    "black": (25, 25, 25),
}
SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "heart", "cross")
PREFIXES: tuple[str, ...] = ("a picture of ", "a drawing of ", "a photo of ")

# About how far the outline reaches from the centre, in radii; a gap and a margin are added.
REACH = {"circle": 1.0, "square": 1.16, "triangle": 1.12, "heart": 1.1, "cross": 1.1}

HELD_OUT_SHARE = 0.15


@dataclass(frozen=True)
class SceneObject:
    """One object: names, centre in pixels, radius in pixels, and its jittered RGB colour."""

    colour: str
    shape: str
    x: float
    y: float
    radius: float
    rgb: tuple[float, float, float]

    @property
    def name(self) -> str:
        """The phrase that names it, e.g. ``"red circle"``."""
        return f"{self.colour} {self.shape}"


def signed_distance(shape: str, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Signed distance (pixels, negative inside) to a shape centred at the origin, y downwards.

    Heart after Inigo Quilez' exact distance function; the others are intersections and unions of
    half-planes, whose inner distance is exact enough to anti-alias an edge.
    """
    if shape == "circle":
        return np.hypot(x, y) - radius
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 0.82 * radius
    if shape == "triangle":
        slope = np.hypot(2.0, 1.0)
        sides = (2.0 * np.abs(x) - (y + 1.05 * radius)) / slope
        return np.maximum(sides, y - 0.85 * radius)
    if shape == "cross":
        arm = 0.40 * radius
        tall = np.maximum(np.abs(x) - arm, np.abs(y) - 1.02 * radius)
        wide = np.maximum(np.abs(x) - 1.02 * radius, np.abs(y) - arm)
        return np.minimum(tall, wide)
    if shape == "heart":
        unit = 1.8 * radius
        across, up = np.abs(x) / unit, 0.55 - y / unit
        lobe = np.hypot(across - 0.25, up - 0.75) - np.sqrt(2.0) / 4.0
        middle = 0.5 * np.maximum(across + up, 0.0)
        point = np.sqrt(
            np.minimum(across**2 + (up - 1.0) ** 2, (across - middle) ** 2 + (up - middle) ** 2)
        ) * np.sign(across - up)
        return np.where(across + up > 1.0, lobe, point) * unit
    raise ValueError(f"{shape!r} is not a shape of this world. Shapes: {', '.join(SHAPES)}.")


def coverage(shape: str, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Anti-aliased coverage in [0, 1] of each pixel centre by the shape."""
    return np.clip(0.5 - signed_distance(shape, x, y, radius), 0.0, 1.0)


def render(
    objects: tuple[SceneObject, ...],
    *,
    left: int = 0,
    top: int = 0,
    size: int = IMAGE_SIZE,
) -> np.ndarray:
    """The scene, or the square crop at ``left, top``, as float32 ``(size, size, 3)``, 0-255."""
    y, x = np.mgrid[top : top + size, left : left + size].astype(np.float32) + 0.5
    image = np.full((size, size, 3), BACKGROUND, dtype=np.float32)
    for thing in objects:
        alpha = coverage(thing.shape, x - thing.x, y - thing.y, thing.radius)[..., None]
        image = image * (1.0 - alpha) + np.asarray(thing.rgb, dtype=np.float32) * alpha
    return image.astype(np.float32)


def pair_key(first: str, second: str) -> str:
    """One key for two object names in either order."""
    return " + ".join(sorted((first, second)))


def is_held_out(first: str, second: str) -> bool:
    """Whether two objects (``"red circle"``, ``"blue square"``) never share a training scene.

    A hash of the unordered pair decides, so that the split needs no file and no seed.
    """
    digest = hashlib.md5(pair_key(first, second).encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < HELD_OUT_SHARE


def object_pairs() -> list[tuple[str, str]]:
    """All unordered pairs of object names with two different colours, sorted."""
    names = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    pairs = itertools.combinations(sorted(names), 2)
    return [(a, b) for a, b in pairs if a.split()[0] != b.split()[0]]


def random_object(rng: np.random.Generator, name: str, low: float, high: float) -> SceneObject:
    """A named object somewhere in the image, its radius between two bounds in pixels."""
    colour, shape = name.split()
    radius = rng.uniform(low, high)
    margin = radius * REACH[shape] + 2.0
    x, y = rng.uniform(margin, IMAGE_SIZE - margin, size=2)
    jitter = rng.uniform(-6.0, 6.0, size=3)
    red, green, blue = np.clip(np.asarray(COLOURS[colour]) + jitter, 0, 255).tolist()
    return SceneObject(colour, shape, float(x), float(y), float(radius), (red, green, blue))


def random_scene(rng: np.random.Generator, *, single_share: float = 0.3) -> tuple[SceneObject, ...]:
    """One or two objects that do not touch, colours distinct, no held-out pair."""
    names = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    if rng.random() < single_share:
        return (random_object(rng, str(rng.choice(names)), 24.0, 36.0),)
    while True:
        first, second = (str(name) for name in rng.choice(names, size=2, replace=False))
        if first.split()[0] != second.split()[0] and not is_held_out(first, second):
            break
    while True:
        a = random_object(rng, first, 23.0, 30.0)
        b = random_object(rng, second, 23.0, 30.0)
        apart = a.radius * REACH[a.shape] + b.radius * REACH[b.shape] + 7.0
        if np.hypot(a.x - b.x, a.y - b.y) >= apart:
            return (a, b)


def caption(rng: np.random.Generator, names: tuple[str, ...]) -> str:
    """A caption of the objects in random order, e.g. ``"a red circle and a blue square"``."""
    order = rng.permutation(len(names))
    text = " and ".join(f"a {names[i]}" for i in order)
    if rng.random() < 0.15:
        text = str(rng.choice(PREFIXES)) + text
    return text


def held_out_prompts(count: int, seed: int) -> list[tuple[str, tuple[str, str]]]:
    """``count`` prompts over held-out pairs, each with the two object names in prompt order."""
    return _prompts([pair for pair in object_pairs() if is_held_out(*pair)], count, seed)


def seen_prompts(count: int, seed: int) -> list[tuple[str, tuple[str, str]]]:
    """``count`` prompts over pairs that training has shown: what thresholds are chosen on."""
    return _prompts([pair for pair in object_pairs() if not is_held_out(*pair)], count, seed)


def _prompts(
    pairs: list[tuple[str, str]], count: int, seed: int
) -> list[tuple[str, tuple[str, str]]]:
    # Pairs of one shape are left out: a shape word that names both objects answers no box.
    pairs = [(a, b) for a, b in pairs if a.split()[1] != b.split()[1]]
    rng = np.random.default_rng(seed)
    rounds = -(-count // len(pairs))
    picked = [pairs[i] for _ in range(rounds) for i in rng.permutation(len(pairs))][:count]
    ordered = [(a, b) if rng.random() < 0.5 else (b, a) for a, b in picked]
    return [(f"a {a} and a {b}", (a, b)) for a, b in ordered]
