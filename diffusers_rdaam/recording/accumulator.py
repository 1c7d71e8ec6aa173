"""HeatMapAccumulator: the preallocated buffers of one run, whatever its steps, heads and layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusers_rdaam.attribution.attribution import Grid
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.kernels.planes import add_to_planes, read_planes
from diffusers_rdaam.shapes import HeadMeans

# A half-precision sum of equal addends stops growing after 2048 to 4096 additions. At 500 its error
# is near one per cent for maps that change from call to call, and several for maps that do not.
SINGLE_PLANE_ADDITIONS = 500


@dataclass(frozen=True)
class AccumulatorShape:
    """What a set of buffers was allocated for.

    Args:
        images, tokens: rows and columns that are recorded.
        grids: height and width of each site's grid, by the site's name.
        pair: half-precision pair (4 bytes a cell), or a single plane (2 bytes).
        device: where the denoiser runs.
    """

    images: int
    tokens: int
    grids: tuple[tuple[str, tuple[int, int]], ...]
    pair: bool
    device: torch.device


class HeatMapAccumulator:
    """Sums of head-mean probabilities, one pair of fp16 planes for each grid size.

    Sites of one grid size share a pair, so memory grows neither with layers nor with steps:
    ``images * tokens * sum(height * width) * 4`` bytes. Only in-place tensor operations touch it.

    Args:
        shape: what to allocate.
    """

    def __init__(self, shape: AccumulatorShape) -> None:
        self.shape = shape
        sites_of: dict[tuple[int, int], list[str]] = {}
        for site, grid in shape.grids:
            sites_of.setdefault(grid, []).append(site)
        self._sites_of = dict(sorted(sites_of.items(), key=lambda item: -item[0][0] * item[0][1]))
        self._grid_of = dict(shape.grids)
        # A tensor that is made under inference mode could not be updated outside of it.
        with torch.inference_mode(False):
            self._high = {grid: self._plane(grid) for grid in self._sites_of}
            self._low = {grid: self._plane(grid) for grid in self._sites_of} if shape.pair else {}
            self._counts = torch.zeros(len(shape.grids), dtype=torch.int32, device=shape.device)
        self._index_of = {site: index for index, (site, _) in enumerate(shape.grids)}

    def _plane(self, grid: tuple[int, int]) -> Tensor:
        height, width = grid
        size = (self.shape.images, self.shape.tokens, height * width)
        return torch.zeros(size, dtype=torch.float16, device=self.shape.device)

    def planes(self, site: str) -> tuple[Tensor, Tensor | None]:
        """The pair ``(images, tokens, pixels)`` that the site adds to; the second may be None."""
        grid = self._grid_of[site]
        return self._high[grid], self._low.get(grid)

    def count(self, site: str) -> Tensor:
        """A view of one element: how often the site has added."""
        index = self._index_of[site]
        return self._counts[index : index + 1]

    def add(self, site: str, maps: HeadMeans) -> None:
        """Add one denoiser call's maps of a site."""
        add_to_planes(maps, *self.planes(site))
        self.count(site).add_(1)

    def zero_(self) -> None:
        """Forget everything; keep the memory."""
        for plane in (*self._high.values(), *self._low.values(), self._counts):
            plane.zero_()

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        planes = (*self._high.values(), *self._low.values(), self._counts)
        return sum(plane.numel() * plane.element_size() for plane in planes)

    def site_counts(self) -> dict[str, int]:
        """How often each site has added. Waits for the device."""
        counts = self._counts.tolist()
        return {site: counts[index] for site, index in self._index_of.items()}

    def read(self) -> list[tuple[Grid, ...]]:
        """The means of each image on the CPU, largest grid first; silent grids are left out."""
        counts = self.site_counts()
        images: list[list[Grid]] = [[] for _ in range(self.shape.images)]
        for grid, sites in self._sites_of.items():
            additions = sum(counts[site] for site in sites)
            if additions == 0:
                continue
            high, low = self._high[grid].cpu(), self._low.get(grid)
            means = read_planes(high, None if low is None else low.cpu()) / additions
            for image, maps in zip(images, means.unflatten(-1, grid), strict=True):
                image.append(Grid(maps.clone(), additions, tuple(sites)))
        return [tuple(image) for image in images]


def check_single_plane(shape: AccumulatorShape, calls: int) -> None:
    """Refuse a single plane where its sum would stagnate.

    Raises:
        InputError: more than 500 additions to a cell.
    """
    if shape.pair:
        return
    grids = [grid for _, grid in shape.grids]
    most = max((grids.count(grid) for grid in grids), default=0)
    if most * calls > SINGLE_PLANE_ADDITIONS:
        raise InputError(
            f"storage='fp16' would add {most} sites x {calls} denoiser calls = {most * calls} "
            f"times to a cell; over {SINGLE_PLANE_ADDITIONS} its error reaches several per "
            "cent and grows. Use storage='fp16-pair', or fewer steps."
        )


def shape_of(
    *,
    images: int,
    tokens: int,
    grids: Mapping[str, tuple[int, int]],
    pair: bool = True,
    device: torch.device | str = "cpu",
) -> AccumulatorShape:
    """An :class:`AccumulatorShape` from a mapping of sites to grids."""
    return AccumulatorShape(images, tokens, tuple(grids.items()), pair, torch.device(device))
