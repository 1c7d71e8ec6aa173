"""Detail: the maps of one grid apart by step, layer or head, where a run kept them so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import torch

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.shapes import DetailMaps

Axis = Literal["steps", "layers", "heads"]


@dataclass(frozen=True, eq=False)
class Detail:
    """The maps of some sites of one grid.

    Args:
        maps: ``(steps, heads, tokens, height, width)``, float16 or float32: the mean probability
            over the sites, of each step and each head; an axis that was not kept has length 1 and
            is a mean itself.
        additions: for each step, how many (site, denoiser call) pairs that is the mean of; 0 where
            the sites were skipped, by a cache for example.
        sites: names of the attention modules; one where layers were kept.
    """

    maps: DetailMaps = field(repr=False)
    additions: tuple[int, ...]
    sites: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.maps.ndim != 5 or self.maps.shape[0] != len(self.additions):
            raise InputError(
                "A detail has maps (steps, heads, tokens, height, width) and the additions of each "
                f"step; got shape {tuple(self.maps.shape)} and {len(self.additions)} additions."
            )
        if min(self.additions, default=0) < 0 or not any(self.additions):
            raise InputError(f"Additions are counts, at least one of them over 0: {self.additions}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the grid, in cells."""
        return (self.maps.shape[3], self.maps.shape[4])

    def mean(self) -> torch.Tensor:
        """``(tokens, height, width)`` float32: over heads evenly, over steps by additions."""
        total = sum(self.additions)
        result = torch.zeros(self.maps.shape[2:])
        for maps, additions in zip(self.maps, self.additions, strict=True):
            if additions:
                result += maps.float().mean(dim=0) * (additions / total)
        return result


@dataclass(frozen=True, eq=False)
class Kept:
    """What a run kept apart.

    Args:
        axes: of ``"steps"``, ``"layers"``, ``"heads"``.
        details: the maps.
        timesteps: of the scheduler, one a step, where steps were kept.
    """

    axes: tuple[Axis, ...]
    details: tuple[Detail, ...] = field(repr=False)
    timesteps: tuple[float, ...] = field(default=(), repr=False)


def by_size(details: Iterable[Detail]) -> dict[tuple[int, int], list[Detail]]:
    """The details of each grid size, largest first."""
    sizes: dict[tuple[int, int], list[Detail]] = {}
    for detail in details:
        sizes.setdefault(detail.size, []).append(detail)
    return dict(sorted(sizes.items(), key=lambda item: -item[0][0] * item[0][1]))
