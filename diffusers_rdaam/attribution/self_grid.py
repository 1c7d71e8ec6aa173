"""SelfGrid: how much every position of one grid attends to every other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch

from diffusers_rdaam.attribution.left_out import Absence
from diffusers_rdaam.errors import InputError, NoAttributionError
from diffusers_rdaam.float32_products import multiply
from diffusers_rdaam.geometry.exact import in_full_precision
from diffusers_rdaam.shapes import SelfSums, Size, Weights

# Of the stored sums that are float32 at a time: 4 MiB.
CELLS_AT_A_TIME = 2**20


@dataclass(frozen=True, eq=False)
class SelfGrid:
    """The self-attention of one image on one grid.

    ``A[i, j]`` is the probability that position ``i`` attends to ``j``, mean over heads, sites and
    denoiser calls; over ``j`` it sums to 1. Positions count row by row.

    Args:
        sums: ``(keys, queries)`` float16 or float32: sums of head means, ``sums[j, i] / additions``
            is ``A[i, j]``.
        additions: how many (site, denoiser call) pairs were added.
        size: height and width of the grid.
        sites: names of the attention modules.
    """

    sums: SelfSums = field(repr=False)
    additions: int
    size: Size
    sites: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        positions = math.prod(self.size)
        if self.sums.shape != (positions, positions) or self.additions < 1:
            raise InputError(
                f"Self-attention of a grid of {self.size} (height, width) has {positions} x "
                f"{positions} cells and at least one addition; got {tuple(self.sums.shape)} and "
                f"{self.additions}."
            )

    @property
    def positions(self) -> int:
        """Height times width."""
        return self.sums.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of the sums."""
        return self.sums.numel() * self.sums.element_size()

    @in_full_precision
    def attention_to(self, weights: Weights) -> Weights:
        """``A @ w`` for each row ``w`` of ``(rows, positions)``.

        With weights of a region that sum to 1: how much each position attends to the region.
        """
        result = torch.zeros_like(weights)
        for part, sums in self._blocks(weights):
            result += multiply(weights[:, part], sums)
        return result / self.additions

    @in_full_precision
    def attention_from(self, weights: Weights) -> Weights:
        """``w @ A`` for each row ``w`` of ``(rows, positions)``.

        With weights of a region that sum to 1: what the region attends to.
        """
        result = torch.zeros_like(weights)
        for part, sums in self._blocks():
            result[:, part] = multiply(weights, sums.T)
        return result / self.additions

    def _blocks(self, weights: Weights | None = None) -> Iterator[tuple[slice, torch.Tensor]]:
        """Rows of the sums in float32, a few at a time; those without weights are left out."""
        step = max(1, CELLS_AT_A_TIME // self.positions)
        for start in range(0, self.positions, step):
            part = slice(start, start + step)
            if weights is None or bool(weights[:, part].any()):
                yield part, self.sums[part].float()


def kept_self_grids(
    grids: tuple[SelfGrid, ...], absence: Absence | None = None
) -> tuple[SelfGrid, ...]:
    """The grids of self-attention that a run kept.

    Args:
        grids: of a record.
        absence: why the record has none, where that is not the run.

    Raises:
        NoAttributionError: it kept none.
    """
    if not grids:
        record_it = "Record with RDAAMProcessor(self_attention=True)."
        if absence is None:
            raise NoAttributionError(f"This run did not keep its self-attention. {record_it}")
        raise NoAttributionError(
            f"This needs self-attention, which {absence.why}. {absence.remedy or record_it}"
        )
    return grids


def largest_size(grids: Iterable[SelfGrid]) -> Size:
    """Height and width of the grid with the most positions."""
    return max(grids, key=lambda grid: grid.positions).size


def finest(grids: Iterable[SelfGrid]) -> SelfGrid:
    """The grid with the most positions; of sites that were kept separately, their mean."""
    grids = tuple(grids)
    first, *others = (grid for grid in grids if grid.size == largest_size(grids))
    if not others:
        return first
    sums = first.sums.float()
    for other in others:
        sums = sums + other.sums
    additions = sum(grid.additions for grid in (first, *others))
    sites = tuple(site for grid in (first, *others) for site in grid.sites)
    return SelfGrid(sums, additions, first.size, sites)
