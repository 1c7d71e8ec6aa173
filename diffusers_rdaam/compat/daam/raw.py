"""The maps that DAAM keeps: a sum over the steps for each layer and head."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.errors import NoAttributionError

_PLACE = re.compile(r"^(up|down)_blocks\.(\d+)\.")


@dataclass(frozen=True)
class Layer:
    """An attention module by DAAM's number and name."""

    index: int
    name: str
    site: str


def locate(sites: Iterable[str], *, low_memory: bool = False) -> tuple[Layer, ...]:
    """DAAM's layers: those of the up blocks, then of the down blocks, and never the middle.

    Args:
        sites: names of all attention modules.
        low_memory: only the first of each block.
    """
    blocks: dict[tuple[int, int], list[str]] = {}
    for site in sites:
        match = _PLACE.match(site)
        if match is not None:
            way, number = match.groups()
            blocks.setdefault((way == "down", int(number)), []).append(site)
    layers: list[Layer] = []
    for (down, _), names in sorted(blocks.items()):
        kept = sorted(names, key=_numbers)[: 1 if low_memory else None]
        way = "down" if down else "up"
        for place, site in enumerate(kept):
            layers.append(Layer(len(layers), f"{way}-attn-{place}", site))
    return tuple(layers)


def _numbers(site: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", site)]


@dataclass(frozen=True, eq=False)
class LayerSums:
    """One layer's sums over the steps: ``(heads, tokens, height, width)``, conditional rows."""

    factor: int
    layer: int
    sums: torch.Tensor


class RawHeatMapCollection:
    """All layers' and heads' sums over the steps, of one image.

    Iterating gives ``((factor, layer, head), map)`` with maps ``(tokens, height, width)``. A factor
    is how many times smaller the layer's grid is than the largest one.
    """

    def __init__(
        self, attribution: Attribution | None = None, layers: Iterable[Layer] = ()
    ) -> None:
        self.layer_sums: tuple[LayerSums, ...] = ()
        self.size = (0, 0)
        if attribution is None:
            return
        if attribution.kept is None:
            raise NoAttributionError(
                "This attribution did not keep its layers and heads separately."
            )
        details = {detail.sites[0]: detail for detail in attribution.kept.details}
        # The largest grid of the run, as 64 of 512 pixels; whatever the model's own size is.
        self.size = max((detail.size for detail in details.values()), key=_area)
        found = []
        for layer in layers:
            detail = details.get(layer.site)
            if detail is not None:
                factor = round((_area(self.size) / _area(detail.size)) ** 0.5)
                sums = detail.maps[0].float() * detail.additions[0]
                found.append(LayerSums(factor, layer.index, sums))
        self.layer_sums = tuple(found)

    def factors(self) -> set[int]:
        """All factors."""
        return {entry.factor for entry in self.layer_sums}

    def layers(self) -> set[int]:
        """The numbers of all layers."""
        return {entry.layer for entry in self.layer_sums}

    def heads(self) -> set[int]:
        """The numbers of all heads."""
        return {head for entry in self.layer_sums for head in range(len(entry.sums))}

    def __iter__(self) -> Iterator[tuple[tuple[int, int, int], torch.Tensor]]:
        for entry in self.layer_sums:
            for head, sums in enumerate(entry.sums):
                yield (entry.factor, entry.layer, head), sums

    def __len__(self) -> int:
        return sum(len(entry.sums) for entry in self.layer_sums)

    def mean(
        self,
        rows: int,
        *,
        factors: Iterable[int] | None = None,
        head: int | None = None,
        layer: int | None = None,
    ) -> torch.Tensor:
        """``(rows, height, width)``: DAAM's mean over layers and heads on the largest grid.

        Every map is enlarged by itself, and what bicubic interpolation makes negative is cut off
        before the mean.

        Raises:
            NoAttributionError: no map is chosen.
        """
        wanted = None if factors is None else set(factors)
        total, count = torch.zeros(rows, *self.size, dtype=torch.float32, device="cpu"), 0
        for entry in self.layer_sums:
            if (wanted is not None and entry.factor not in wanted) or layer not in (
                None,
                entry.layer,
            ):
                continue
            heads = range(len(entry.sums))
            # A layer at a time: all of Stable Diffusion XL's at once would be gigabytes.
            for number in heads if head is None else [head] if head in heads else []:
                maps = F.interpolate(entry.sums[number, :rows][None], self.size, mode="bicubic")
                total += maps[0].clamp_(min=0)
                count += 1
        if not count:
            raise NoAttributionError(self._nothing(wanted, head, layer))
        return total / count

    def _nothing(self, factors: set[int] | None, head: int | None, layer: int | None) -> str:
        if not self.layer_sums:
            return (
                "No heat maps found: nothing was recorded in an up or down block. Call the "
                "pipeline within `with trace(pipe)`."
            )
        return (
            f"No heat maps found for factors={factors}, head_idx={head}, layer_idx={layer}. "
            f"Factors: {sorted(self.factors())}; heads: {sorted(self.heads())}; layers: "
            f"{sorted(self.layers())}."
        )


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]
