"""SelfAttentionRecord: the head-mean self-attention of chosen grids."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from diffusers_rdaam.attention.map_target import Target
from diffusers_rdaam.attention.options import RecordingOptions
from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.attribution.choosing import chosen_sites
from diffusers_rdaam.attribution.self_grid import SelfGrid, Size
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.families import (
    Branch,
    DenoiserCall,
    Family,
    RowsOfBranches,
    self_attention_sites_of,
)
from diffusers_rdaam.kernels.dispatch import choose
from diffusers_rdaam.recording.buffers.accumulator import (
    SINGLE_PLANE_ADDITIONS,
    AccumulatorShape,
    HeatMapAccumulator,
)
from diffusers_rdaam.recording.installation import replaced
from diffusers_rdaam.recording.joint_targets import RecordedRows, joint_target
from diffusers_rdaam.recording.memory.budget import megabytes
from diffusers_rdaam.recording.progress import Progress
from diffusers_rdaam.recording.records.accumulated import AccumulatedRecord
from diffusers_rdaam.recording.site_devices import devices_of


class SelfAttentionRecord(AccumulatedRecord):
    """Buffers for self-attention, one for each chosen grid.

    Each has ``images * (height * width)**2`` cells of 2 bytes, or of 4 where a single plane would
    stagnate; no matrix of that size is ever made for a head.

    Args:
        pipe, family, options: see :class:`Recorder`.
        buffers: an earlier run's; reused where they have the same shape.
    """

    def __init__(
        self,
        pipe: Any,
        family: Family,
        options: RecordingOptions,
        buffers: Iterable[HeatMapAccumulator] = (),
    ) -> None:
        super().__init__(buffers)
        self.family = family
        self.options = options
        self.denoiser = family.denoiser(pipe)
        self.sites: tuple[Site, ...] = self_attention_sites_of(family, pipe)
        self._targets: dict[object, dict[str, Target]] = {}

    def begin(self, call: DenoiserCall, images: int, calls: int | None, spent: int = 0) -> str:
        """Choose the grids, and allocate their buffers; see :class:`RunRecord`.

        Raises:
            InputError: the memory cost is over the budget, or the denoiser does not have a grid.
        """
        sizes = self._sizes(call)
        places = devices_of(self.denoiser, self.sites, call.device)
        shapes = self_attention_shapes(self.options, sizes, images, calls, spent, places=places)
        # Buffers of other shapes are freed first: old and new ones together would take more memory
        # than was reported.
        fitting = {buffer.shape: buffer for buffer in self.buffers if buffer.shape in shapes}
        self.buffers = []
        for shape in shapes:
            if shape in fitting:
                fitting[shape].zero_()
            self.buffers.append(fitting.get(shape) or HeatMapAccumulator(shape))
        wanted = sum(shape.nbytes for shape in shapes)
        grids = ", ".join(
            f"{height}x{width} with {4 if shape.pair else 2} bytes a cell"
            for shape in shapes
            for height, width in [_size(shape)]
        )
        count = "1 image" if images == 1 else f"{images} images"
        return f"Keeping {megabytes(wanted)} of self-attention ({count}, grid {grids})."

    def _sizes(self, call: DenoiserCall) -> dict[str, Size]:
        """The grid of each site that records.

        Raises:
            InputError: no site records.
        """
        lost = replaced(self.sites)
        sites = [site for site in self.sites if site not in lost]
        if not sites:
            why = "it has none"
            if lost:
                name = type(lost[0].processor).__name__
                why = f"the first of {len(lost)} modules, {lost[0].name}, has a {name}"
            raise InputError(
                f"This denoiser's self-attention cannot be recorded: {why}. Leave "
                "self_attention= out."
            )
        return {site.name: self.family.grid(site, call.grid) for site in sites}

    def targets(
        self,
        rows: RowsOfBranches,
        progress: Progress,
        *,
        call: DenoiserCall | None = None,
        scratch: int | None = None,
    ) -> dict[str, Target]:
        """Where each site of a chosen grid adds its maps during one denoiser call."""
        if Branch.CONDITIONAL not in rows:
            return {}
        parts = [rows[Branch.CONDITIONAL]]
        if self.options._all_rows_of_self_attention and Branch.UNCONDITIONAL in rows:
            parts.append(rows[Branch.UNCONDITIONAL])
        buffers = self.buffers_of_call(scratch, len(parts))
        rows_of_call = None if call is None else call.rows
        joint = None if call is None else call.joint
        key = (tuple(parts), rows_of_call, scratch, joint)
        if key not in self._targets:
            self._targets[key] = dict(self._make_targets(buffers, tuple(parts), call))
        return self._targets[key]

    def _make_targets(
        self,
        buffers: Iterable[HeatMapAccumulator],
        parts: tuple[tuple[int, int], ...],
        call: DenoiserCall | None,
    ) -> Iterable[tuple[str, Target]]:
        for buffer in buffers:
            for name, device in buffer.shape.places().items():
                choice = choose(self.options.backend, device=device)
                high, low = buffer.planes(name)
                count = buffer.count(name)
                planes = [RecordedRows(high, low, count, start, stop) for start, stop in parts]
                if call is not None and call.joint is not None:
                    yield name, joint_target(name, planes, choice, call)
                    continue
                branches = tuple(rows.as_branch() for rows in planes)
                of_call = None if call is None else call.rows
                yield name, Target.of(name, branches, choice, rows=of_call, kind="self")

    def read(self) -> list[tuple[SelfGrid, ...]]:
        """The self-attention of each image, on the CPU, in the order of the chosen grids.

        Sites that recorded nothing are left out, and so are grids without any other site.
        """
        images: list[list[SelfGrid]] = []
        for buffer in self.buffers:
            images = images or [[] for _ in range(buffer.shape.images)]
            counts = buffer.site_counts()
            names = tuple(name for name, count in counts.items() if count)
            if not names:
                continue
            for grids, sums in zip(images, buffer.stored(), strict=True):
                grids.append(SelfGrid(sums, sum(counts.values()), _size(buffer.shape), names))
        return [tuple(grids) for grids in images]


def self_attention_shapes(
    options: RecordingOptions,
    sizes: Mapping[str, Size],
    images: int,
    calls: int | None,
    spent: int,
    *,
    places: Mapping[str, torch.device],
) -> list[AccumulatorShape]:
    """The buffers of a run: for the chosen grids and layers, or for the largest grid that fits.

    Args:
        options: the run's.
        sizes: each site's grid.
        images: conditional rows.
        calls: how often the denoiser will be called; None where that is not known.
        spent: bytes of the budget that other records take.
        places: each site's device.

    Raises:
        InputError: the memory cost is over the budget, or no site has a chosen grid.
    """
    by_size = _by_size(options, sizes)
    # DAAM-I2I cuts at an absolute threshold, which a single plane's rounding would move.
    exact = options._all_rows_of_self_attention
    shapes = {
        size: [
            AccumulatorShape.spread(
                places,
                images=images,
                tokens=math.prod(size),
                grids=[(name, size) for name in names],
                pair=exact or calls is None or len(names) * calls > SINGLE_PLANE_ADDITIONS,
            )
            for names in groups
        ]
        for size, groups in by_size.items()
    }
    totals = {size: sum(shape.nbytes for shape in of_size) for size, of_size in shapes.items()}
    costs = ", ".join(f"{h}x{w} {megabytes(total)}" for (h, w), total in totals.items())
    left = options.budget - spent
    if not isinstance(options.self_attention, tuple):
        fitting = [of_size for size, of_size in shapes.items() if totals[size] <= left]
        if not fitting:
            raise InputError(
                f"No grid's self-attention fits into the budget of {megabytes(options.budget)}, "
                f"of which the text takes {megabytes(spent)}: {costs}. Allow more with "
                "RDAAMProcessor(budget=…)."
            )
        return fitting[0]
    asked = options.self_attention_sizes or tuple(shapes)
    for height, width in asked:
        if (height, width) not in shapes:
            raise InputError(
                f"No self-attention that can be recorded has a grid of {height}x{width} (height x "
                f"width) at this image size. Grids and their memory: {costs}."
            )
    chosen = [shape for size in asked for shape in shapes[size]]
    wanted = sum(shape.nbytes for shape in chosen)
    if wanted > left:
        raise InputError(
            f"Self-attention of these grids takes {megabytes(wanted)}, with the text "
            f"{megabytes(wanted + spent)}: over the budget of {megabytes(options.budget)}. "
            f"Memory: {costs}. Choose fewer or smaller grids, or allow it with "
            f"RDAAMProcessor(budget={wanted + spent}, …)."
        )
    return chosen


def _by_size(options: RecordingOptions, sizes: Mapping[str, Size]) -> dict[Size, list[list[str]]]:
    """The sites of each grid, largest first, that are recorded together; each list has buffers.

    Raises:
        InputError: no site has a chosen name.
    """
    names = options.self_attention_layers
    wanted = chosen_sites(names, sizes) if names else set(sizes)
    by_size: dict[Size, list[str]] = {}
    for name, size in sizes.items():
        if name in wanted:
            by_size.setdefault(size, []).append(name)
    if options.self_attention == "last":
        groups = {size: [_last(sites)] for size, sites in by_size.items()}
    elif options.self_attention == "each":
        groups = {size: [[name] for name in sites] for size, sites in by_size.items()}
    else:
        groups = {size: [sites] for size, sites in by_size.items()}
    return dict(sorted(groups.items(), key=lambda item: -math.prod(item[0])))


def _last(sites: list[str]) -> list[str]:
    """The last site to run: of a UNet in the decoder, which its modules list before the middle."""
    decoder = [name for name in sites if "up_blocks." in name]
    return (decoder or sites)[-1:]


def _size(shape: AccumulatorShape) -> Size:
    return shape.grids[0][1]
