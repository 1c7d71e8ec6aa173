"""HeatMapAccumulator: preallocated buffers whose size does not grow with what is added."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffusers_rdaam.attribution.attribution import Grid
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.kernels.planes import add_to_planes, read_planes
from diffusers_rdaam.shapes import HeadMeans

# A half-precision sum of equal addends stops growing after 2048 to 4096 additions. At 500 its error
# is near one per cent for maps that change from call to call, and several for maps that do not.
SINGLE_PLANE_ADDITIONS = 500
# A probability is at most 1 and half precision ends at 65,504: before a cell could get there, its
# sums are moved to the CPU.
_MOST_ADDITIONS = 8192


@dataclass(frozen=True)
class AccumulatorShape:
    """What a set of buffers is allocated for.

    Args:
        images, tokens: rows and columns that are recorded.
        grids: height and width of each site's grid, by the site's name.
        pair: half-precision pair (4 bytes a cell), or a single plane (2 bytes).
        device: where the denoiser runs.
        heads: of each site, where heads are kept apart; empty for their mean.
        layers: whether each site has planes of its own.
    """

    images: int
    tokens: int
    grids: tuple[tuple[str, tuple[int, int]], ...]
    pair: bool
    device: torch.device
    heads: tuple[int, ...] = ()
    layers: bool = False

    def banks(self) -> dict[Bank, list[str]]:
        """The sites of each set of planes, largest grid first."""
        banks: dict[Bank, list[str]] = {}
        heads = self.heads or (0,) * len(self.grids)
        for (site, grid), count in zip(self.grids, heads, strict=True):
            banks.setdefault(Bank(grid, count, site if self.layers else ""), []).append(site)
        return dict(sorted(banks.items(), key=lambda item: -math.prod(item[0].grid)))

    @property
    def nbytes(self) -> int:
        """Bytes of the planes: known before anything is allocated."""
        cells = sum(math.prod(bank.grid) * max(bank.heads, 1) for bank in self.banks())
        return self.images * self.tokens * cells * (4 if self.pair else 2)


class Bank(NamedTuple):
    """Which additions share planes: those of a grid, unless layers or heads are kept apart.

    ``heads`` is 0 for a mean over the heads, ``site`` empty for all sites of the grid.
    """

    grid: tuple[int, int]
    heads: int
    site: str


class HeatMapAccumulator:
    """Sums of probabilities, one pair of fp16 planes for each bank.

    Unless the shape says otherwise a bank is a grid size and takes head means, so memory grows
    neither with layers nor with heads nor with steps: ``images * tokens * sum(height * width) * 4``
    bytes. Only in-place tensor operations touch it.

    Args:
        shape: what to allocate.
    """

    def __init__(self, shape: AccumulatorShape) -> None:
        self.shape = shape
        self.banks = shape.banks()
        self._bank_of = {site: bank for bank, sites in self.banks.items() for site in sites}
        self._index_of = {site: index for index, (site, _) in enumerate(shape.grids)}
        # Additions to a bank's planes since they were last empty, and what was moved out of them.
        self._since = dict.fromkeys(self.banks, 0)
        self._moved: dict[Bank, Tensor] = {}
        # A tensor that is made under inference mode could not be updated outside of it.
        with torch.inference_mode(False):
            self._high = {bank: self._plane(bank) for bank in self.banks}
            self._low = {bank: self._plane(bank) for bank in self.banks} if shape.pair else {}
            self.counts = torch.zeros(len(shape.grids), dtype=torch.int32, device=shape.device)

    def _plane(self, bank: Bank) -> Tensor:
        heads = (bank.heads,) if bank.heads else ()
        size = (self.shape.images, *heads, self.shape.tokens, math.prod(bank.grid))
        return torch.zeros(size, dtype=torch.float16, device=self.shape.device)

    def planes(self, site: str) -> tuple[Tensor, Tensor | None]:
        """The pair that the site adds to; the second may be None.

        ``(images, tokens, pixels)``, or ``(images, heads, tokens, pixels)`` with heads apart.
        """
        bank = self._bank_of[site]
        return self._high[bank], self._low.get(bank)

    def count(self, site: str) -> Tensor:
        """A view of one element: how often the site has added."""
        index = self._index_of[site]
        return self.counts[index : index + 1]

    def add(self, site: str, maps: HeadMeans) -> None:
        """Add one denoiser call's maps of a site."""
        self._make_room_in(self._bank_of[site], 1)
        add_to_planes(maps, *self.planes(site))
        self.count(site).add_(1)

    def make_room(self, times: int = 1) -> None:
        """Prepare for a denoiser call in which every site adds ``times`` times.

        Sums that could exceed half precision's range are moved to the CPU first, in float32. That
        waits for the device once in tens of thousands of additions.
        """
        for bank, sites in self.banks.items():
            self._make_room_in(bank, len(sites) * times)

    def _make_room_in(self, bank: Bank, additions: int) -> None:
        if self._since[bank] + additions > _MOST_ADDITIONS:
            self._moved[bank] = self._sums(bank)
            self._high[bank].zero_()
            if bank in self._low:
                self._low[bank].zero_()
            self._since[bank] = 0
        self._since[bank] += additions

    def absorb(self, other: HeatMapAccumulator) -> None:
        """Add the sums and counts of another accumulator of the same shape, and empty that one."""
        self.make_room()
        for bank in self.banks:
            addend = read_planes(other._high[bank], other._low.get(bank))
            add_to_planes(addend, self._high[bank], self._low.get(bank))
        self.counts.add_(other.counts)
        other.zero_()

    def zero_(self) -> None:
        """Forget everything; keep the memory."""
        for plane in (*self._high.values(), *self._low.values(), self.counts):
            plane.zero_()
        self._since = dict.fromkeys(self.banks, 0)
        self._moved = {}

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        planes = (*self._high.values(), *self._low.values(), self.counts)
        return sum(plane.numel() * plane.element_size() for plane in planes)

    def additions(self, counts: list[int]) -> dict[Bank, int]:
        """How often each bank was added to, from the sites' counts in the order of the shape."""
        return {
            bank: sum(counts[self._index_of[site]] for site in sites)
            for bank, sites in self.banks.items()
        }

    def sums(self, bank: Bank) -> Tensor:
        """Its sums as float32 on the CPU, ``(images, heads or 1, tokens, height, width)``."""
        sums = self._sums(bank).unflatten(-1, bank.grid)
        return sums if bank.heads else sums.unsqueeze(1)

    def _sums(self, bank: Bank) -> Tensor:
        """Its sums as float32 on the CPU, in the shape of its planes."""
        high, low = self._high[bank].cpu(), self._low.get(bank)
        sums = read_planes(high, None if low is None else low.cpu())
        moved = self._moved.get(bank)
        return sums if moved is None else sums.add_(moved)

    def stored(self) -> list[Tensor]:
        """Each image's sums of the only bank, on the CPU, as they are kept: ``(tokens, pixels)``.

        float16 from a single plane, float32 from a pair. Copies: the planes are used again.
        """
        (bank,) = self.banks
        high, low = self._high[bank], self._low.get(bank)
        if bank in self._moved:
            return list(self._sums(bank))
        if low is None:
            return [part.to("cpu", copy=True) for part in high]
        pairs = zip(high.split(1), low.split(1), strict=True)
        return [read_planes(one.cpu(), other.cpu())[0] for one, other in pairs]

    def site_counts(self) -> dict[str, int]:
        """How often each site has added. Waits for the device."""
        return dict(zip(self._index_of, self.counts.tolist(), strict=True))

    def read(self) -> list[tuple[Grid, ...]]:
        """The means of each image over heads, sites and calls, on the CPU, largest grid first.

        Banks that nothing was added to are left out.
        """
        additions = self.additions(self.counts.tolist())
        images: list[list[Grid]] = [[] for _ in range(self.shape.images)]
        for bank, sites in self.banks.items():
            if additions[bank]:
                means = self.sums(bank).mean(dim=1) / additions[bank]
                for image, maps in zip(images, means, strict=True):
                    image.append(Grid(maps.clone(), additions[bank], tuple(sites)))
        return [tuple(image) for image in images]


def check_single_plane(shape: AccumulatorShape, calls: int) -> None:
    """Refuse a single plane where its sum would stagnate.

    Raises:
        InputError: more than 500 additions to a cell.
    """
    if shape.pair:
        return
    most = max((len(sites) for sites in shape.banks().values()), default=0)
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
