"""MapStack and KeptMaps: the maps of single steps, layers or heads, where a run kept them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch

from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.shapes import DetailMaps

Axis = Literal["steps", "layers", "heads"]


@dataclass(frozen=True, eq=False)
class MapStack:
    """The maps of some sites of one grid.

    Args:
        maps: ``(steps, heads, tokens, height, width)``, float16 or float32: the mean probability
            over the sites, of each step and each head; an axis that was not kept has length 1 and
            is a mean itself.
        additions: for each step, how many (site, denoiser call) pairs that is the mean of; 0 where
            the sites were skipped, by a cache for example.
        sites: names of the attention modules; one where layers were kept.
        stream: the stream of the sites, as :class:`Grid` has it.
    """

    maps: DetailMaps = field(repr=False)
    additions: tuple[int, ...]
    sites: tuple[str, ...]
    stream: str = ""

    def __post_init__(self) -> None:
        if self.maps.ndim != 5 or self.maps.shape[0] != len(self.additions):
            raise InputError(
                "A detail has maps (steps, heads, tokens, height, width) and the additions of each "
                f"step; got shape {tuple(self.maps.shape)} and {len(self.additions)} additions."
            )
        if min(self.additions, default=0) < 0 or not any(self.additions):
            raise InputError(
                "Additions are counts, at least one of them over 0; got "
                f"{str(self.additions)[:200]}."
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the grid, in cells."""
        return (self.maps.shape[3], self.maps.shape[4])

    def mean(self) -> torch.Tensor:
        """``(tokens, height, width)`` float32: over heads evenly, over steps by additions."""
        total = sum(self.additions)
        result = torch.zeros(self.maps.shape[2:], dtype=torch.float32, device=self.maps.device)
        for maps, additions in zip(self.maps, self.additions, strict=True):
            if additions:
                result += maps.float().mean(dim=0) * (additions / total)
        return result


@dataclass(frozen=True, eq=False)
class KeptMaps:
    """The maps that a run kept separately by step, layer or head.

    Args:
        axes: of ``"steps"``, ``"layers"``, ``"heads"``.
        details: the maps; every one has the same steps.
        timesteps: of the scheduler, one a step, where steps were kept; empty where not known.
        numbers: of the steps in the run, where others had another prompt; empty where these are
            all, or a part that somebody chose.
    """

    axes: tuple[Axis, ...]
    details: tuple[MapStack, ...] = field(repr=False)
    timesteps: tuple[float, ...] = field(default=(), repr=False)
    numbers: tuple[int, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        names = get_args(Axis)
        if not self.axes or not set(self.axes) <= set(names) or _repeats(self.axes):
            raise InputError(f"Axes are some of {', '.join(names)}, each once; got {self.axes}.")
        if not self.details:
            raise InputError("What was kept has no maps.")
        steps = {len(detail.additions) for detail in self.details}
        if len(steps) > 1:
            raise InputError(
                f"Every detail has the same steps; these have {str(sorted(steps))[:200]}."
            )
        if self.timesteps and len(self.timesteps) != self.steps:
            raise InputError(f"There are {len(self.timesteps)} timesteps for {self.steps} steps.")
        rising = (
            list(self.numbers) == sorted(set(self.numbers)) and min(self.numbers, default=0) >= 0
        )
        if self.numbers and (len(self.numbers) != self.steps or not rising):
            raise InputError(
                f"The numbers of {self.steps} steps in their run rise from 0; got "
                f"{str(self.numbers)[:200]}."
            )
        self._check_axes_that_were_not_kept()

    def _check_axes_that_were_not_kept(self) -> None:
        """Each axis that was not kept is a mean of length 1; kept layers have one site each."""
        if "steps" not in self.axes and (self.steps > 1 or self.timesteps):
            raise InputError(f"Steps were not kept, but there are {self.steps} with timesteps.")
        if "heads" not in self.axes and any(detail.maps.shape[1] != 1 for detail in self.details):
            raise InputError("Heads were not kept, but there is a detail with several.")
        if "layers" in self.axes and any(len(detail.sites) != 1 for detail in self.details):
            raise InputError("Layers were kept, but there is a detail that is not of one site.")
        sites = [site for detail in self.details for site in detail.sites]
        if _repeats(sites):
            raise InputError(
                f"A site belongs to one detail; these repeat: {str(_repeats(sites))[:200]}."
            )

    @property
    def steps(self) -> int:
        """The number of steps; 1 where steps were not kept."""
        return len(self.details[0].additions)

    @property
    def nbytes(self) -> int:
        """Bytes of the maps."""
        return sum(detail.maps.numel() * detail.maps.element_size() for detail in self.details)


# A grid is that of a size and of a stream.
GridKey = tuple[tuple[int, int], str]


def grid_key(group: Grid | MapStack) -> GridKey:
    """What tells the grids of an attribution from each other: size and stream."""
    return group.size, group.stream


def by_grid(details: Iterable[MapStack]) -> dict[GridKey, list[MapStack]]:
    """The details of each grid size and stream, largest first."""
    grids: dict[GridKey, list[MapStack]] = {}
    for detail in details:
        grids.setdefault(grid_key(detail), []).append(detail)
    return dict(sorted(grids.items(), key=lambda item: -item[0][0][0] * item[0][0][1]))


def merge_details(details: Iterable[MapStack]) -> tuple[Grid, ...]:
    """One grid a size and stream, largest first: every (site, denoiser call) pair weighs the same.

    One detail is read at a time and none is copied, so that a record of any size needs the memory
    of its grids only.
    """
    return tuple(merge_one_grid(same) for same in by_grid(details).values())


def merge_one_grid(details: list[MapStack]) -> Grid:
    """:func:`merge_details` of details that all are of one grid."""
    additions = sum(sum(detail.additions) for detail in details)
    first = details[0].maps
    maps = torch.zeros(first.shape[2:], dtype=torch.float32, device=first.device)
    for detail in details:
        maps += detail.mean() * (sum(detail.additions) / additions)
    sites = tuple(site for detail in details for site in detail.sites)
    return Grid(maps, additions, sites, stream=details[0].stream)


def _repeats(names: Iterable[str]) -> list[str]:
    counts = Counter(names)
    return [name for name, count in counts.items() if count > 1]
