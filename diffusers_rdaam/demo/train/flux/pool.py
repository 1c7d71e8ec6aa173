"""Scenes encoded by the frozen autoencoder, at 128 and at 256 pixels."""

from __future__ import annotations

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
from diffusers_rdaam.demo.world import IMAGE_SIZE, REACH, SceneObject, caption, random_scene, render

CELL = 8  # pixels of a latent cell
MARGIN = 2  # latent cells kept around the objects when they are moved
EMPTY_SHARE = 0.10  # captions dropped for classifier-free guidance
# Objects whose colour the caption leaves out. Where every object's is named, a model may draw one
# colour wherever it reads none of the others, and that colour's word says nothing.
UNNAMED_SHARE = 0.15


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


def _named(scene: list[str], rng: np.random.Generator) -> tuple[str, ...]:
    """The objects' phrases, a share of them without its colour."""
    return tuple(name.split()[1] if rng.random() < UNNAMED_SHARE else name for name in scene)


class ScenePool:
    """The scenes of one size; every draw writes a fresh caption and may move the objects."""

    def __init__(self, path: Path, *, moves: bool) -> None:
        with safe_open(path, framework="pt") as file:
            self.latents = file.get_tensor("latents")
            self.boxes = file.get_tensor("boxes").tolist()
            self.empty = file.get_tensor("empty")[0]
            self.scenes = [line.split(";") for line in file.metadata()["scenes"].split("\n")]
        self.moves = moves

    def draw(self, rng: np.random.Generator, batch: int) -> tuple[Tensor, list[str]]:
        """Packed latents ``(batch, tokens, 16)``, float16, and captions, a share of them empty."""
        picks = rng.integers(len(self.scenes), size=batch)
        captions = [
            "" if rng.random() < EMPTY_SHARE else caption(rng, _named(self.scenes[i], rng))
            for i in picks
        ]
        latents = torch.stack([self._one(int(pick), rng) for pick in picks])
        return pack(latents), captions

    def _one(self, index: int, rng: np.random.Generator) -> Tensor:
        latents = self.latents[index]
        if not self.moves:
            return latents
        cells = latents.shape[-1]
        left, top, right, bottom = self.boxes[index]
        to_left = int(rng.integers(cells - (right - left) + 1))
        to_top = int(rng.integers(cells - (bottom - top) + 1))
        moved = self.empty.clone()
        moved[:, to_top : to_top + bottom - top, to_left : to_left + right - left] = latents[
            :, top:bottom, left:right
        ]
        return moved
