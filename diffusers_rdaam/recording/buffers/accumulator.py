"""HeatMapAccumulator: preallocated buffers whose size does not grow with what is added."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.kernels.planes import add_to_planes, read_planes
from diffusers_rdaam.recording.buffers.counters import SiteCounters
from diffusers_rdaam.shapes import HeadMeans, Size

# A half-precision sum of equal addends stops growing after 2048 to 4096 additions. At 500 its error
# is about 1 % for maps that change from call to call, and several per cent for constant maps.
SINGLE_PLANE_ADDITIONS = 500
# A probability is at most 1 and half precision ends at 65,504: before a cell could get there, its
# sums are moved to the CPU.
_MOST_ADDITIONS = 8192


@dataclass(frozen=True)
class AccumulatorShape:
    """The sizes of a set of buffers.

    Args:
        images, tokens: the numbers of recorded rows and columns.
        grids: height and width of each site's grid, by the site's name.
        pair: half-precision pair (4 bytes a cell), or a single plane (2 bytes).
        device: the denoiser's device, or the first of several.
        heads: each site's number of heads, where heads are kept separately; empty for their mean.
        layers: whether each site has separate planes.
        streams: each site's stream, where a denoiser has several, which have separate planes; empty
            where it has one.
        devices: each site's device, where the denoiser is spread over several; empty for
            ``device``. Each device has separate planes, and their sums are added on the CPU.
        full: float32 planes (4 bytes a cell), for values that half precision does not hold.
    """

    images: int
    tokens: int
    grids: tuple[tuple[str, tuple[int, int]], ...]
    pair: bool
    device: torch.device
    heads: tuple[int, ...] = ()
    layers: bool = False
    streams: tuple[str, ...] = ()
    devices: tuple[torch.device, ...] = ()
    full: bool = False

    @property
    def of_squares(self) -> AccumulatorShape:
        """The shape of one more plane for each grid and stream: means over all that was kept."""
        return replace(self, pair=False, heads=(), layers=False, full=True)

    @classmethod
    def spread(
        cls, places: Mapping[str, torch.device], *, grids: Sequence[tuple[str, Size]], **others: Any
    ) -> AccumulatorShape:
        """Make a shape with each site's device.

        Args:
            places: the devices, by the site's name.
            grids, others: arguments of the class.
        """
        devices = tuple(places[name] for name, _ in grids)
        several = devices if len(set(devices)) > 1 else ()
        device = devices[0] if devices else torch.device("cpu")
        return cls(grids=tuple(grids), device=device, devices=several, **others)

    def places(self) -> dict[str, torch.device]:
        """Each site's device."""
        devices = self.devices or (self.device,) * len(self.grids)
        return {name: device for (name, _), device in zip(self.grids, devices, strict=True)}

    def planes(self) -> dict[Bank, tuple[torch.device, ...]]:
        """The devices of each bank's planes, each once."""
        places = self.places()
        return {
            bank: tuple(dict.fromkeys(places[site] for site in sites))
            for bank, sites in self.banks().items()
        }

    def banks(self) -> dict[Bank, list[str]]:
        """The sites of each bank, largest grid first."""
        banks: dict[Bank, list[str]] = {}
        heads = self.heads or (0,) * len(self.grids)
        streams = self.streams or ("",) * len(self.grids)
        for (site, grid), count, stream in zip(self.grids, heads, streams, strict=True):
            bank = Bank(grid, count, site if self.layers else "", stream)
            banks.setdefault(bank, []).append(site)
        return dict(sorted(banks.items(), key=lambda item: -math.prod(item[0].grid)))

    @property
    def nbytes(self) -> int:
        """Bytes of the planes, known before they are allocated."""
        cells = sum(
            math.prod(bank.grid) * max(bank.heads, 1) * len(devices)
            for bank, devices in self.planes().items()
        )
        return self.images * self.tokens * cells * (4 if self.pair or self.full else 2)


class Bank(NamedTuple):
    """A set of planes that sites share: those of a grid and stream, or of one site and its heads.

    ``heads`` is 0 for a mean over the heads, ``site`` empty for all sites of the grid, ``stream``
    empty where there is one.
    """

    grid: tuple[int, int]
    heads: int
    site: str
    stream: str = ""


class HeatMapAccumulator:
    """Sums of probabilities, one pair of fp16 planes for each bank.

    Unless the shape says otherwise a bank is a grid size and takes head means, so memory grows
    neither with layers nor with heads nor with steps: ``images * tokens * sum(height * width) * 4``
    bytes. Only in-place tensor operations change it.

    Args:
        shape: the sizes of the buffers.
    """

    def __init__(self, shape: AccumulatorShape) -> None:
        self.shape = shape
        self.banks = shape.banks()
        self._devices = shape.planes()
        self._place_of = shape.places()
        self._bank_of = {site: bank for bank, sites in self.banks.items() for site in sites}
        self._index_of = {site: index for index, (site, _) in enumerate(shape.grids)}
        # Additions to a bank's planes since they were last empty, and the sums moved out of them.
        self._since = dict.fromkeys(self.banks, 0)
        self._moved: dict[Bank, Tensor] = {}
        # A tensor that is made in inference mode could not be changed outside of it.
        with torch.inference_mode(False):
            # Planes by bank and device, counts by device.
            self._high = self._planes()
            self._low = self._planes() if shape.pair else {}
            self._counts = {
                device: SiteCounters(len(shape.grids), device)
                for device in dict.fromkeys(self._place_of.values())
            }

    def _planes(self) -> dict[tuple[Bank, torch.device], Tensor]:
        return {
            (bank, device): self._plane(bank, device)
            for bank, devices in self._devices.items()
            for device in devices
        }

    def _plane(self, bank: Bank, device: torch.device) -> Tensor:
        heads = (bank.heads,) if bank.heads else ()
        size = (self.shape.images, *heads, self.shape.tokens, math.prod(bank.grid))
        dtype = torch.float32 if self.shape.full else torch.float16
        return torch.zeros(size, dtype=dtype, device=device)

    @property
    def counts(self) -> Tensor:
        """How often each site has added: on the device, or summed on the CPU where several are."""
        counts = [counters.all() for counters in self._counts.values()]
        return counts[0] if len(counts) == 1 else torch.stack([one.cpu() for one in counts]).sum(0)

    def planes(self, site: str) -> tuple[Tensor, Tensor | None]:
        """The pair of planes that the site adds to; the second may be None.

        ``(images, tokens, pixels)``, or ``(images, heads, tokens, pixels)`` with separate heads.
        """
        place = self._bank_of[site], self._place_of[site]
        return self._high[place], self._low.get(place)

    def count(self, site: str) -> Tensor:
        """The number of the site's additions, a view of one element."""
        index = self._index_of[site]
        return self._counts[self._place_of[site]][index]

    def add(self, site: str, maps: HeadMeans) -> None:
        """Add the maps of one site and denoiser call."""
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
            for device in self._devices[bank]:
                self._high[bank, device].zero_()
                if self._low:
                    self._low[bank, device].zero_()
            self._since[bank] = 0
        self._since[bank] += additions

    def absorb(self, other: HeatMapAccumulator) -> None:
        """Add the sums and counts of another accumulator of the same shape, and empty that one."""
        self.make_room()
        for place, high in self._high.items():
            if self.shape.full:
                high.add_(other._high[place])
                continue
            addend = read_planes(other._high[place], other._low.get(place))
            add_to_planes(addend, high, self._low.get(place))
        for device, counts in self._counts.items():
            counts.add_(other._counts[device])
        other.zero_()

    def zero_(self) -> None:
        """Forget everything that was added; keep the memory."""
        for plane in (*self._high.values(), *self._low.values()):
            plane.zero_()
        for counters in self._counts.values():
            counters.zero_()
        self._since = dict.fromkeys(self.banks, 0)
        self._moved = {}

    @property
    def nbytes(self) -> int:
        """Bytes that are allocated."""
        planes = (*self._high.values(), *self._low.values())
        counted = sum(counters.nbytes for counters in self._counts.values())
        return counted + sum(plane.numel() * plane.element_size() for plane in planes)

    def additions(self, counts: list[int]) -> dict[Bank, int]:
        """How often each bank was added to, from the sites' counts in the order of the shape."""
        return {
            bank: sum(counts[self._index_of[site]] for site in sites)
            for bank, sites in self.banks.items()
        }

    def sums(self, bank: Bank) -> Tensor:
        """A bank's sums on the CPU, float32 ``(images, heads or 1, tokens, height, width)``."""
        sums = self._sums(bank).unflatten(-1, bank.grid)
        return sums if bank.heads else sums.unsqueeze(1)

    def _sums(self, bank: Bank) -> Tensor:
        """A bank's sums on the CPU, float32 in the shape of its planes."""
        sums, *others = [self._sums_on(bank, device) for device in self._devices[bank]]
        for other in others:
            sums += other
        moved = self._moved.get(bank)
        return sums if moved is None else sums.add_(moved)

    def _sums_on(self, bank: Bank, device: torch.device) -> Tensor:
        if self.shape.full:
            # The plane is its sums itself; the reader gets a copy.
            return self._high[bank, device].to("cpu", copy=True)
        high, low = self._high[bank, device].cpu(), self._low.get((bank, device))
        return read_planes(high, None if low is None else low.cpu())

    def stored(self) -> list[Tensor]:
        """Each image's sums of the only bank, on the CPU, ``(tokens, pixels)``.

        They are float16 from a single plane and float32 from a pair, and copies, because the planes
        are used again.
        """
        (bank,) = self.banks
        device, *others = self._devices[bank]
        if bank in self._moved or others:
            return [part.clone() for part in self._sums(bank)]
        high, low = self._high[bank, device], self._low.get((bank, device))
        if low is None:
            return [part.to("cpu", copy=True) for part in high]
        pairs = zip(high.split(1), low.split(1), strict=True)
        return [read_planes(one.cpu(), other.cpu())[0] for one, other in pairs]

    def site_counts(self) -> dict[str, int]:
        """How often each site has added. Waits for the device."""
        return dict(zip(self._index_of, self.counts.tolist(), strict=True))

    def read(self) -> list[tuple[Grid, ...]]:
        """Each image's means over heads, sites and calls, on the CPU, largest grid first.

        Banks without additions are left out.
        """
        additions = self.additions(self.counts.tolist())
        images: list[list[Grid]] = [[] for _ in range(self.shape.images)]
        for bank, sites in self.banks.items():
            if additions[bank]:
                means = self.sums(bank).mean(dim=1) / additions[bank]
                for image, maps in zip(images, means, strict=True):
                    grid = Grid(maps.clone(), additions[bank], tuple(sites), stream=bank.stream)
                    image.append(grid)
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
            f"precision='fp16' would add {most} sites x {calls} denoiser calls = {most * calls} "
            f"times to a cell; over {SINGLE_PLANE_ADDITIONS} its error reaches several per "
            "cent and grows. Use precision='fp16-pair', or fewer steps."
        )


def shape_of(
    *,
    images: int,
    tokens: int,
    grids: Mapping[str, tuple[int, int]],
    pair: bool = True,
    device: torch.device | str = "cpu",
) -> AccumulatorShape:
    """Make an :class:`AccumulatorShape` from a mapping of sites to grids."""
    return AccumulatorShape(images, tokens, tuple(grids.items()), pair, torch.device(device))
