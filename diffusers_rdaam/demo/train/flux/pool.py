"""Scenes encoded by the frozen autoencoder, at 128 and at 256 pixels."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from diffusers import AutoencoderKL
from einops import rearrange
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from diffusers_rdaam.demo.train.autoencoder import describe, to_tensor
from diffusers_rdaam.demo.train.session import mixed_precision
from diffusers_rdaam.demo.world import (
    IMAGE_SIZE,
    PREFIXES,
    REACH,
    SceneObject,
    random_scene,
    render,
)

CELL = 8  # pixels of a latent cell
MARGIN = 2  # latent cells kept around the objects when they are moved
EMPTY_SHARE = 0.10  # captions dropped for classifier-free guidance
# Objects whose colour the caption leaves out. Where every object's is named, a model may draw one
# colour wherever it reads none of the others, and that colour's word says nothing.
UNNAMED_SHARE = 0.15
PREFIX_SHARE = 0.15  # captions that begin with "a picture of" or the like


def pool_path(folder: Path, size: int) -> Path:
    """The file of the scenes of one image size."""
    return folder / f"flux-pool-{size}.safetensors"


def _enlarged(scene: tuple[SceneObject, ...], factor: float) -> tuple[SceneObject, ...]:
    return tuple(
        replace(thing, x=thing.x * factor, y=thing.y * factor, radius=thing.radius * factor)
        for thing in scene
    )


def _box(scene: tuple[SceneObject, ...], cells: int) -> list[int]:
    """Left, top, right, bottom of all objects with a margin, in latent cells."""
    reaches = [thing.radius * REACH[thing.shape] for thing in scene]
    low = [
        min(getattr(t, axis) - r for t, r in zip(scene, reaches, strict=True))
        for axis in ("x", "y")
    ]
    high = [
        max(getattr(t, axis) + r for t, r in zip(scene, reaches, strict=True))
        for axis in ("x", "y")
    ]
    start = [max(int(value // CELL) - MARGIN, 0) for value in low]
    stop = [min(int(-(-value // CELL)) + MARGIN, cells) for value in high]
    return [*start, *stop]


@torch.no_grad()
def encode_scenes(vae: AutoencoderKL, folder: Path, size: int, count: int, seed: int) -> None:
    """Encode ``count`` fresh scenes drawn at ``size`` pixels; one worker's part."""
    rank, world = dist.get_rank(), dist.get_world_size()
    rng = np.random.default_rng([seed, 11, size, rank])
    names: list[str] = []
    boxes: list[list[int]] = []
    parts: list[Tensor] = []
    for _ in range(count // world // 16):
        scenes = [_enlarged(random_scene(rng), size / IMAGE_SIZE) for _ in range(16)]
        names += [describe(scene) for scene in scenes]
        boxes += [_box(scene, size // CELL) for scene in scenes]
        images = to_tensor([render(scene, size=size) for scene in scenes])
        with mixed_precision():
            parts.append(vae.encode(images).latent_dist.mean.half())
    gathered: list = [None] * world
    dist.all_gather_object(gathered, (names, boxes, torch.cat(parts)))
    if rank == 0:
        empty = vae.encode(to_tensor([render((), size=size)])).latent_dist.mean.half().contiguous()
        # Whole or not at all: training may wait for it.
        temporary = pool_path(folder, size).with_suffix(".part")
        save_file(
            {
                "latents": torch.cat([latents for _, _, latents in gathered]).contiguous(),
                "boxes": torch.tensor([box for _, boxes, _ in gathered for box in boxes]),
                "empty": empty,
            },
            temporary,
            metadata={"scenes": "\n".join(name for names, _, _ in gathered for name in names)},
        )
        temporary.replace(pool_path(folder, size))


def pack(latents: Tensor) -> Tensor:
    """``(batch, 4, height, width)`` as FLUX's tokens of 2x2 cells, ``(batch, tokens, 16)``."""
    return rearrange(latents, "b c (h p) (w q) -> b (h w) (c p q)", p=2, q=2)


class ScenePool:
    """The scenes of one size; every draw takes a fresh caption and may move the objects.

    Args:
        path: of the file that :func:`encode_scenes` wrote.
        moves: whether the objects are moved, together and by whole latent cells.
        device: on which scenes are drawn.
    """

    def __init__(self, path: Path, *, moves: bool, device: str = "cpu") -> None:
        with safe_open(path, framework="pt") as file:
            self.latents = file.get_tensor("latents").to(device)
            self.boxes = file.get_tensor("boxes").to(device)
            self.empty = file.get_tensor("empty")[0].to(device)
            self.scenes = [line.split(";") for line in file.metadata()["scenes"].split("\n")]
        self.moves = moves
        self.captions = Captions(self.scenes)

    def draw(self, rng: np.random.Generator, batch: int) -> tuple[Tensor, np.ndarray]:
        """Packed latents ``(batch, tokens, 16)`` and the indices of their captions."""
        picks = rng.integers(len(self.scenes), size=batch)
        captions = self.captions.draw(rng, picks)
        index = torch.from_numpy(picks).to(self.latents.device)
        latents = self.latents[index].float()
        if self.moves:
            latents = self._moved(latents, self.boxes[index], rng)
        return pack(latents), captions

    def _moved(self, latents: Tensor, boxes: Tensor, rng: np.random.Generator) -> Tensor:
        """The objects' boxes somewhere else, on the empty scene."""
        cells = latents.shape[-1]
        uniform = torch.from_numpy(rng.random((2, len(boxes), 1))).to(latents.device)
        places = torch.arange(cells, device=latents.device)[None, :]
        sources, inside = [], []
        for axis in (0, 1):  # x, y
            start, stop = boxes[:, axis, None], boxes[:, axis + 2, None]
            to = (uniform[axis] * (cells - (stop - start) + 1)).long()
            source = places - to + start
            inside.append((source >= start) & (source < stop))
            sources.append(source.clamp(0, cells - 1))
        rows = torch.arange(len(boxes), device=latents.device)[:, None, None]
        moved = latents.movedim(1, -1)[rows, sources[1][:, :, None], sources[0][:, None, :]]
        shown = (inside[1][:, :, None] & inside[0][:, None, :])[:, None]
        return torch.where(shown, moved.movedim(-1, 1), self.empty.float())


class Captions:
    """All captions of a pool's scenes, of which there are few thousand, and a draw of them.

    Attributes:
        texts: each once; the first is the empty one.
    """

    def __init__(self, scenes: list[list[str]]) -> None:
        keys = sorted({tuple(scene) for scene in scenes})
        self.key_of = np.array([keys.index(tuple(scene)) for scene in scenes])
        self.texts = [""]
        # By key, order, whether each object's colour is named, and the beginning.
        self.rows = np.zeros((len(keys), 2, 2, 2, 1 + len(PREFIXES)), dtype=np.int64)
        for key, names in enumerate(keys):
            for order, *named in itertools.product((0, 1), (0, 1), (0, 1)):
                phrases = [
                    name if full else name.split()[1]
                    for name, full in zip(names, named, strict=False)
                ]
                text = " and ".join(f"a {phrase}" for phrase in phrases[:: -1 if order else 1])
                for beginning, prefix in enumerate(("", *PREFIXES)):
                    self.rows[key, order, named[0], named[1], beginning] = len(self.texts)
                    self.texts.append(prefix + text)

    def draw(self, rng: np.random.Generator, picks: np.ndarray) -> np.ndarray:
        """Indices of captions, one for each scene: in any order, some without a colour, some empty.

        Args:
            rng: the generator.
            picks: indices of scenes.
        """
        count = len(picks)
        order = rng.integers(2, size=count)
        named = (rng.random((2, count)) >= UNNAMED_SHARE).astype(np.int64)
        beginning = rng.integers(1, 1 + len(PREFIXES), size=count)
        beginning[rng.random(count) >= PREFIX_SHARE] = 0
        found = self.rows[self.key_of[picks], order, named[0], named[1], beginning]
        found[rng.random(count) < EMPTY_SHARE] = 0
        return found
