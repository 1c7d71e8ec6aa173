"""StepAccumulators: accumulators of a run, one for all of its denoiser calls or one for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.kept_maps import (
    Axis,
    KeptMaps,
    MapStack,
    grid_key,
    merge_details,
)
from diffusers_rdaam.recording.buffers.accumulator import AccumulatorShape, Bank, HeatMapAccumulator


@dataclass(frozen=True, eq=False)
class ImageMaps:
    """The maps of a text for one image.

    Args:
        grids: the means over everything, largest grid first; grids without additions are left out.
        kept: the maps that were kept separately, if any were.
    """

    grids: tuple[Grid, ...]
    kept: KeptMaps | None = None


def with_squares(maps: ImageMaps, squares: Sequence[Grid]) -> ImageMaps:
    """The maps of an image, whose grids also have the mean squares that another reader made."""
    found = {grid_key(grid): grid.maps for grid in squares}
    grids = tuple(replace(grid, squares=found[grid_key(grid)]) for grid in maps.grids)
    return replace(maps, grids=grids)


class StepAccumulators:
    """Accumulators of one shape.

    Args:
        shape: the shape of each accumulator.
        count: how many denoiser calls are kept separately; 1 adds all of them together.
    """

    def __init__(self, shape: AccumulatorShape, count: int = 1) -> None:
        self.shape = shape
        self.accumulators = [HeatMapAccumulator(shape) for _ in range(count)]
        self._means: dict[Bank, _Means] = {}

    def grow(self) -> None:
        """Add one accumulator."""
        self.accumulators.append(HeatMapAccumulator(self.shape))

    @property
    def nbytes(self) -> int:
        """Bytes that are allocated."""
        return sum(accumulator.nbytes for accumulator in self.accumulators)

    def zero_(self) -> None:
        """Forget everything that was added; keep the memory."""
        # The means that were read belong to an attribution now, and are left alone.
        self._means = {}
        for accumulator in self.accumulators:
            accumulator.zero_()

    def counts(self) -> list[list[int]]:
        """How often each site has added to each accumulator. Waits for the device once."""
        return torch.stack([frame.counts for frame in self.accumulators]).tolist()

    def site_counts(self) -> dict[str, int]:
        """How often each site has added in all."""
        totals = [sum(frames) for frames in zip(*self.counts(), strict=True)]
        return {site: total for (site, _), total in zip(self.shape.grids, totals, strict=True)}

    def read(
        self, axes: Sequence[Axis] = (), timesteps: Sequence[float] = (), calls: int | None = None
    ) -> list[ImageMaps]:
        """The maps of each image, on the CPU.

        Finished steps are copied from the device once, however often a preview reads them.

        Args:
            axes: the axes that were kept separately, as in the shape.
            timesteps: the timesteps of the denoiser calls, where steps were kept.
            calls: how many of the accumulators were in use; all if None.
        """
        if not axes:
            return [ImageMaps(grids) for grids in self.accumulators[0].read()]
        used = self.accumulators[:calls]
        counts = self.counts()[: len(used)]
        additions = [frame.additions(count) for frame, count in zip(used, counts, strict=True)]
        images: list[list[MapStack]] = [[] for _ in range(self.shape.images)]
        for bank, sites in self.shape.banks().items():
            added = tuple(of_frame[bank] for of_frame in additions)
            if any(added):
                cache = self._means.setdefault(bank, _Means(bank))
                means = cache.read(self.accumulators, added)
                if len(added) == len(self.accumulators):
                    # After the last step the means belong to the reader.
                    del self._means[bank]
                for details, maps in zip(images, means, strict=True):
                    details.append(MapStack(maps, added, tuple(sites), bank.stream))
        return [
            ImageMaps(
                merge_details(details), KeptMaps(tuple(axes), tuple(details), tuple(timesteps))
            )
            for details in images
        ]


class _Means:
    """The means of a bank that are on the CPU already, for each image one tensor of all steps.

    Readers get views of its beginning. A step without further additions is not copied again, and a
    view that was handed out is never written to.
    """

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        self._additions: list[int] = []
        self._images: list[torch.Tensor] = []

    def read(
        self, frames: list[HeatMapAccumulator], additions: tuple[int, ...]
    ) -> list[torch.Tensor]:
        """Each image's ``(steps, heads, tokens, height, width)``, in the precision of the planes.

        Args:
            frames: all accumulators.
            additions: the number of additions to each of the accumulators that are read, which are
                the first ones.
        """
        known = len(self._additions)
        same = next(
            (i for i, (a, b) in enumerate(zip(self._additions, additions, strict=False)) if a != b),
            min(known, len(additions)),
        )
        if same < known or not self._images or len(additions) > self._images[0].shape[0]:
            self._make_room(frames, same)
        for index in range(same, len(additions)):
            if additions[index]:
                sums = frames[index].sums(self.bank)
                for image, one in zip(self._images, sums, strict=True):
                    image[index] = one / additions[index]
        self._additions = list(additions)
        return [image[: len(additions)] for image in self._images]

    def _make_room(self, frames: list[HeatMapAccumulator], keep: int) -> None:
        """Allocate tensors for all steps, and copy the first ``keep`` steps of the old ones."""
        shape, bank = frames[0].shape, self.bank
        size = (len(frames), max(bank.heads, 1), shape.tokens, *bank.grid)
        dtype = torch.float32 if shape.pair else torch.float16
        images = [torch.zeros(size, dtype=dtype, device="cpu") for _ in range(shape.images)]
        for image, old in zip(images, self._images, strict=False):
            image[:keep] = old[:keep]
        self._images = images
