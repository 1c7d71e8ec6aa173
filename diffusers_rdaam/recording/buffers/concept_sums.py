"""ConceptSums: sums of concepts' maps over a run, for each step and layer where these are kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.kept_maps import Axis, KeptMaps, MapStack, merge_details
from diffusers_rdaam.recording.buffers.step_accumulators import ImageMaps
from diffusers_rdaam.shapes import Size


class _Place(NamedTuple):
    """A step, or 0 for all; the stream of a site; and the site, or nothing for all of a stream."""

    step: int
    stream: str
    site: str


class ConceptSums:
    """Float32 sums of the maps of concepts; scores may be of any size.

    Args:
        sites: that add to them.
        axes: ``"steps"`` and ``"layers"`` that are kept separately.
        size: height and width of the grid.
    """

    def __init__(self, sites: Sequence[Site], axes: Sequence[Axis], size: Size) -> None:
        self.axes: tuple[Axis, ...] = tuple(axes)
        self.size = size
        self._sites = tuple(sites)
        self._streams = {site.name: site.stream for site in sites}
        self._sums: dict[_Place, Tensor] = {}
        self._counts: dict[_Place, int] = defaultdict(int)
        self._seen: set[str] = set()

    @property
    def places(self) -> int:
        """How many maps of each concept there are for a step."""
        layers = "layers" in self.axes
        return len(self._sites) if layers else len(set(self._streams.values()))

    def add(self, site: str, step: int, maps: Tensor) -> None:
        """Add the maps ``(images, concepts, positions)`` of a site at a denoiser call."""
        place = _Place(
            step if "steps" in self.axes else 0,
            self._streams[site],
            site if "layers" in self.axes else "",
        )
        if place not in self._sums:
            # A tensor that is made in inference mode could not be changed outside of it.
            with torch.inference_mode(False):
                self._sums[place] = torch.zeros(maps.shape, device=maps.device, dtype=torch.float32)
        sums = self._sums[place]
        sums.add_(maps.to(sums.device))
        self._counts[place] += 1
        self._seen.add(site)

    def absorb(self, other: ConceptSums, step: int) -> None:
        """Add the sums of another one's only step to those of a step, and empty that one."""
        for place, sums in other._sums.items():
            mine = place._replace(step=step if "steps" in self.axes else 0)
            if mine in self._sums:
                self._sums[mine].add_(sums.to(self._sums[mine].device))
            else:
                self._sums[mine] = sums
            self._counts[mine] += other._counts[place]
        self._seen |= other._seen
        other.clear()

    def clear(self) -> None:
        """Forget everything that was added."""
        self._sums, self._counts = {}, defaultdict(int)
        self._seen = set()

    def read(self, timesteps: Sequence[float], calls: int) -> list[ImageMaps]:
        """The means of each image, with one column for each concept.

        Args:
            timesteps: of the denoiser calls, where steps are kept.
            calls: their number.
        """
        steps = calls if "steps" in self.axes else 1
        images: list[list[MapStack]] = []
        for stream, site in dict.fromkeys((p.stream, p.site) for p in self._sums):
            places = [_Place(step, stream, site) for step in range(steps)]
            added = tuple(self._counts[place] for place in places)
            if not any(added):
                continue
            means = self._means(places)
            images = images or [[] for _ in means]
            names = (site,) if site else self._names(stream)
            for stacks, maps in zip(images, means, strict=True):
                stacks.append(MapStack(maps, added, names, stream))
        return [self._image(stacks, timesteps) for stacks in images]

    def _names(self, stream: str) -> tuple[str, ...]:
        """The sites of a stream that were called."""
        of_stream = (site.name for site in self._sites if site.stream == stream)
        return tuple(name for name in of_stream if name in self._seen)

    def _means(self, places: Sequence[_Place]) -> list[Tensor]:
        """Each image's ``(steps, 1, concepts, height, width)`` on the CPU."""
        empty = next(torch.zeros_like(self._sums[p]).cpu() for p in places if p in self._sums)
        steps = [
            self._sums[place].cpu() / self._counts[place] if place in self._sums else empty
            for place in places
        ]
        maps = torch.stack(steps, dim=1).unflatten(-1, self.size)
        return [image.unsqueeze(1).clone() for image in maps]

    def _image(self, stacks: list[MapStack], timesteps: Sequence[float]) -> ImageMaps:
        if self.axes:
            kept_steps = tuple(timesteps) if "steps" in self.axes else ()
            kept = KeptMaps(self.axes, tuple(stacks), kept_steps)
            return ImageMaps(merge_details(stacks), kept)
        grids = (
            Grid(stack.maps[0, 0], sum(stack.additions), stack.sites, stream=stack.stream)
            for stack in stacks
        )
        return ImageMaps(tuple(grids))
