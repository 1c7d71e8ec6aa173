"""Frames: the accumulators of a run, one for all of its denoiser calls, or one for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from diffusers_rdaam.attribution.attribution import Grid
from diffusers_rdaam.attribution.detail import Axis, Detail, Kept, merge_details
from diffusers_rdaam.recording.accumulator import AccumulatorShape, Bank, HeatMapAccumulator


@dataclass(frozen=True, eq=False)
class ImageMaps:
    """What was recorded of one image.

    Args:
        grids: the means over everything, largest grid first; silent grids are left out.
        kept: what was kept apart, where anything was.
    """

    grids: tuple[Grid, ...]
    kept: Kept | None = None


class Frames:
    """Accumulators of one shape.

    Args:
        shape: of each.
        count: how many denoiser calls are kept apart; 1 adds all of them together.
    """

    def __init__(self, shape: AccumulatorShape, count: int = 1) -> None:
        self.shape = shape
        self.accumulators = [HeatMapAccumulator(shape) for _ in range(count)]

    def grow(self) -> None:
        """One accumulator more."""
        self.accumulators.append(HeatMapAccumulator(self.shape))

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return sum(accumulator.nbytes for accumulator in self.accumulators)

    def zero_(self) -> None:
        """Forget everything; keep the memory."""
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
        """What was recorded of each image, on the CPU.

        Args:
            axes: what was kept apart; as the shape and the number of accumulators have it.
            timesteps: of the denoiser calls, where steps were kept.
            calls: how many of the accumulators were in use; all if not given.
        """
        if not axes:
            return [ImageMaps(grids) for grids in self.accumulators[0].read()]
        used = self.accumulators[:calls]
        counts = self.counts()[: len(used)]
        additions = [frame.additions(count) for frame, count in zip(used, counts, strict=True)]
        images: list[list[Detail]] = [[] for _ in range(self.shape.images)]
        for bank, sites in self.shape.banks().items():
            added = tuple(of_frame[bank] for of_frame in additions)
            if any(added):
                means = _means(used, bank, added)
                for details, maps in zip(images, means, strict=True):
                    details.append(Detail(maps, added, tuple(sites)))
        return [
            ImageMaps(merge_details(details), Kept(tuple(axes), tuple(details), tuple(timesteps)))
            for details in images
        ]


def _means(
    frames: list[HeatMapAccumulator], bank: Bank, additions: tuple[int, ...]
) -> list[torch.Tensor]:
    """Each image's ``(frames, heads, tokens, height, width)``, no finer than it was stored."""
    shape = frames[0].shape
    size = (len(frames), max(bank.heads, 1), shape.tokens, *bank.grid)
    dtype = torch.float32 if shape.pair else torch.float16
    images = [torch.zeros(size, dtype=dtype, device="cpu") for _ in range(shape.images)]
    for index, (frame, count) in enumerate(zip(frames, additions, strict=True)):
        if count:
            for image, sums in zip(images, frame.sums(bank), strict=True):
                image[index] = sums / count
    return images
