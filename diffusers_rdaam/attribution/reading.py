"""ReadsMaps: from the grids of an attribution to a map of pixels, or to scores of a region."""

from __future__ import annotations

from functools import cached_property

import torch
from PIL import Image

from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.heat_map import HeatMap
from diffusers_rdaam.attribution.prompt import Match, Prompt
from diffusers_rdaam.float32_products import multiply
from diffusers_rdaam.geometry.exact import in_full_precision
from diffusers_rdaam.geometry.grid import enlarge
from diffusers_rdaam.geometry.region import Box, Region
from diffusers_rdaam.shapes import TokenScores


class ReadsMaps:
    """Mixed into :class:`Attribution`, whose fields these are."""

    prompt: Prompt
    grids: tuple[Grid, ...]
    image_size: tuple[int, int]
    image: Image.Image | None

    def _heat_map(
        self,
        columns: tuple[int, ...],
        text: str,
        spans: tuple[tuple[int, int], ...],
        encoders: tuple[int, ...] = (),
    ) -> HeatMap:
        height, width = self.image_size
        values = torch.zeros(height, width, dtype=torch.float32, device="cpu")
        for grid, part in zip(self.grids, self._parts, strict=True):
            values += enlarge(grid.maps[list(columns)].sum(dim=0) * part, height, width)
        match = Match(text, spans, columns, encoders)
        return HeatMap.read_from(self, values, match)  # type: ignore[arg-type]  # it is one

    @cached_property
    def _parts(self) -> list[float]:
        """Each grid's share: its number of (site, call) pairs times its weight, over the sum."""
        weights = [grid.weight * grid.additions for grid in self.grids]
        return [weight / sum(weights) for weight in weights]

    @cached_property
    def _levels(self) -> TokenScores:
        height, width = self.image_size
        return self._over(Box(0, 0, width, height))

    @in_full_precision
    def _over(self, region: Region) -> TokenScores:
        weights = region.grid_weights(self.image_size, [grid.size for grid in self.grids])
        scores = torch.zeros(len(self.prompt.tokens), dtype=torch.float32, device="cpu")
        for grid, part, cells in zip(self.grids, self._parts, weights, strict=True):
            scores += part * multiply(grid.maps.flatten(1), cells.flatten())
        return scores
