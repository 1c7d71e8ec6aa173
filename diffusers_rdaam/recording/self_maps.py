"""SelfMaps: the head-mean self-attention of chosen grids, which regions attend to which."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.kernels.dispatch import choose
from diffusers_rdaam.recording.accumulator import (
    SINGLE_PLANE_ADDITIONS,
    AccumulatorShape,
    HeatMapAccumulator,
)
from diffusers_rdaam.recording.budget import megabytes
from diffusers_rdaam.recording.families import DenoiserCall, Family
from diffusers_rdaam.recording.processor import RDAAMProcessor
from diffusers_rdaam.recording.progress import CONDITIONAL, RowsOf
from diffusers_rdaam.recording.sites import Site
from diffusers_rdaam.recording.target import Branch, Target

Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class SelfGrid:
    """What was recorded of one image's self-attention on one grid.

    Args:
        sums: ``(keys, queries)`` float16 or float32, positions row by row: sums of head means, so
            that ``sums[j, i] / additions`` is the probability that position ``i`` attends to ``j``.
        additions: how many (site, denoiser call) pairs were added.
        size: height and width of the grid.
        sites: names of the attention modules.
    """

    sums: Tensor
    additions: int
    size: Size
    sites: tuple[str, ...]


class SelfMaps:
    """Buffers for self-attention, one for each chosen grid.

    ``images * (height * width)**2`` cells of 2 bytes, or of 4 where more is added than a single
    plane bears; no matrix of that size is ever made for a head.

    Args:
        pipe, family, template: as in :class:`Recorder`.
        buffers: of an earlier run; used again where they have the same shape.
    """

    def __init__(
        self,
        pipe: Any,
        family: Family,
        template: RDAAMProcessor,
        buffers: Iterable[HeatMapAccumulator] = (),
    ) -> None:
        self.family = family
        self.template = template
        self.buffers = list(buffers)
        self.sites: tuple[Site, ...] = family.self_sites(family.denoiser(pipe))

    def begin(self, call: DenoiserCall, images: int, calls: int | None, spent: int) -> str:
        """Choose the grids and allocate; the price.

        Args:
            call: the first one.
            images: conditional rows.
            calls: how many there will be, as far as that is known.
            spent: bytes of the budget that the text maps take.

        Raises:
            InputError: over the budget, or a grid that the denoiser does not have.
        """
        shapes = self._choose(call, images, calls, spent)
        fitting = {buffer.shape: buffer for buffer in self.buffers}
        self.buffers = []
        for shape in shapes:
            buffer = fitting.pop(shape, None)
            if buffer is not None:
                buffer.zero_()
            self.buffers.append(buffer or HeatMapAccumulator(shape))
        grids = ", ".join(f"{_size(shape)[0]}x{_size(shape)[1]}" for shape in shapes)
        wanted = sum(shape.nbytes for shape in shapes)
        return f"Keeping {megabytes(wanted)} of self-attention (grids of height x width {grids})."

    @property
    def nbytes(self) -> int:
        """Bytes of the planes."""
        return sum(buffer.shape.nbytes for buffer in self.buffers)

    def _choose(
        self, call: DenoiserCall, images: int, calls: int | None, spent: int
    ) -> list[AccumulatorShape]:
        by_size: dict[Size, list[str]] = {}
        for site in self.sites:
            by_size.setdefault(self.family.grid(site, call.latent_size), []).append(site.name)
        sizes = sorted(by_size, key=lambda size: -math.prod(size))
        shapes = {
            size: AccumulatorShape(
                images=images,
                tokens=math.prod(size),
                grids=tuple((name, size) for name in by_size[size]),
                pair=len(by_size[size]) * (calls or 10**6) > SINGLE_PLANE_ADDITIONS,
                device=call.device,
            )
            for size in sizes
        }
        budget = self.template.budget
        prices = ", ".join(f"{h}x{w} {megabytes(shapes[h, w].nbytes)}" for h, w in sizes)
        if self.template.self_attention is True:
            fitting = [shapes[size] for size in sizes if shapes[size].nbytes + spent <= budget]
            if not fitting:
                raise InputError(
                    f"No grid's self-attention fits into the budget of {megabytes(budget)}, of "
                    f"which {megabytes(spent)} are spent already: {prices or 'there is none'}. "
                    "Allow more with RDAAMProcessor(budget=…, …)."
                )
            return fitting[:1]
        asked = self.template.self_attention or ()
        unknown = [size for size in asked if size not in shapes]
        if unknown:
            raise InputError(
                f"This denoiser has no self-attention on a grid of {unknown[0][0]}x{unknown[0][1]} "
                f"(height x width) at this image size. Grids and prices: {prices or 'none'}."
            )
        chosen = [shapes[size] for size in asked]
        wanted = sum(shape.nbytes for shape in chosen)
        if wanted + spent > budget:
            raise InputError(
                f"Self-attention of these grids takes {megabytes(wanted)}, together "
                f"{megabytes(wanted + spent)}, over the budget of {megabytes(budget)}. Prices: "
                f"{prices}. Choose fewer, or allow it with RDAAMProcessor(budget={wanted + spent}, "
                "…)."
            )
        return chosen

    def targets(self, rows: RowsOf) -> dict[str, Target]:
        """Where each site of a chosen grid adds its maps during this call."""
        if CONDITIONAL not in rows:
            return {}
        start, stop = rows[CONDITIONAL]
        targets = {}
        for buffer in self.buffers:
            accumulate = choose(self.template.backend, device=buffer.shape.device).accumulate
            for name, _ in buffer.shape.grids:
                high, low = buffer.planes(name)
                branch = Branch(high, low, buffer.count(name), start, stop)
                targets[name] = Target(name, (branch,), accumulate, own=True)
        return targets

    def read(self) -> list[tuple[SelfGrid, ...]]:
        """What was recorded of each image, on the CPU, in the order of the chosen grids.

        Sites that a pipeline has taken for itself, such as those of perturbed-attention guidance,
        are left out.
        """
        images: list[list[SelfGrid]] = []
        for buffer in self.buffers:
            counts = buffer.site_counts()
            names = tuple(name for name, count in counts.items() if count)
            if not names:
                continue
            sums = buffer.stored()
            images = images or [[] for _ in range(buffer.shape.images)]
            for grids, part in zip(images, sums, strict=True):
                grids.append(SelfGrid(part, sum(counts.values()), _size(buffer.shape), names))
        return [tuple(grids) for grids in images]


def _size(shape: AccumulatorShape) -> Size:
    return shape.grids[0][1]
