"""Random records as a run would keep them, by step, layer and head, and what they are means of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
import torch

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.kept_maps import KeptMaps, MapStack, merge_details

SITES = {
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2": (8, 12),
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2": (4, 6),
    "mid_block.attentions.0.transformer_blocks.0.attn2": (2, 3),
    "up_blocks.0.attentions.0.transformer_blocks.0.attn2": (4, 6),
    "up_blocks.0.attentions.1.transformer_blocks.0.attn2": (4, 6),
    "up_blocks.1.attentions.0.transformer_blocks.0.attn2": (8, 12),
}


@dataclass(frozen=True)
class Record:
    """Every map of a run: by site ``(steps, heads, tokens, height, width)`` float64.

    ``counts`` says for each site how often each step added, ``maps`` what.
    """

    maps: dict[str, torch.Tensor]
    counts: dict[str, tuple[int, ...]]

    def mean(
        self,
        *,
        sites: list[str] | None = None,
        steps: list[int] | None = None,
        heads: list[int] | None = None,
    ) -> dict[tuple[int, int], tuple[torch.Tensor, int]]:
        """Of each grid size, by definition: the mean over every (site, call) and every head."""
        found: dict[tuple[int, int], tuple[torch.Tensor, int]] = {}
        for site, maps in self.maps.items():
            if sites is not None and site not in sites:
                continue
            size = tuple(maps.shape[3:])
            total, count = found.get(size, (torch.zeros(maps.shape[2:], dtype=torch.float64), 0))
            for step in range(len(maps)) if steps is None else steps:
                chosen = maps[step] if heads is None else maps[step, heads]
                total = total + chosen.mean(dim=0) * self.counts[site][step]
                count += self.counts[site][step]
            found[size] = (total, count)
        return {size: (total / count, count) for size, (total, count) in found.items() if count}


def make_record(
    tokens: int,
    *,
    sites: Mapping[str, tuple[int, int]] = SITES,
    steps: int = 5,
    heads: int | Mapping[str, int] = 3,
    counts: Mapping[str, tuple[int, ...]] | None = None,
    seed: int = 0,
) -> Record:
    generator = torch.Generator().manual_seed(seed)
    maps = {}
    for site, size in sites.items():
        count = heads if isinstance(heads, int) else heads[site]
        logits = 2.0 * torch.randn(steps, count, tokens, *size, generator=generator)
        maps[site] = logits.double().softmax(dim=2)
    given = dict(counts or {})
    return Record(maps, {site: given.get(site, (1,) * steps) for site in sites})


def keep(record: Record, axes: tuple[str, ...], dtype: torch.dtype = torch.float32) -> KeptMaps:
    """What a run would hand over that keeps these axes."""
    groups: dict[object, list[str]] = {}
    for site, maps in record.maps.items():
        key = site if "layers" in axes else (tuple(maps.shape[3:]), maps.shape[1])
        groups.setdefault(key, []).append(site)
    details = []
    for sites in groups.values():
        counts = torch.tensor([record.counts[site] for site in sites])  # (sites, steps)
        stack = torch.stack([record.maps[site] for site in sites])
        weights = counts[:, :, None, None, None, None].double()
        axes_summed = (0,) if "steps" in axes else (0, 1)
        shown = (stack * weights).sum(dim=axes_summed, keepdim=False)
        total = weights.sum(dim=axes_summed)
        shown = shown / total.clamp(min=1.0)
        if "steps" not in axes:
            shown = shown[None]
        if "heads" not in axes:
            shown = shown.mean(dim=1, keepdim=True)
        additions = counts.sum(dim=0) if "steps" in axes else counts.sum()[None]
        details.append(MapStack(shown.to(dtype), tuple(additions.tolist()), tuple(sites)))
    steps = len(next(iter(record.maps.values())))
    timesteps = tuple(float(900 - 100 * i) for i in range(steps)) if "steps" in axes else ()
    return KeptMaps(axes, tuple(details), timesteps)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def make_kept(make_attribution) -> Callable[..., tuple[Attribution, Record]]:
    """An attribution that kept axes, and the record that it was made of."""

    def make(
        axes: tuple[str, ...] = ("steps", "layers", "heads"),
        text: str | None = "a cat with blue eyes, on a red mat",
        *,
        size: tuple[int, int] = (64, 96),
        image: bool = True,
        dtype: torch.dtype = torch.float32,
        **options,
    ) -> tuple[Attribution, Record]:
        plain = make_attribution(text, size=size, image=image)
        record = make_record(len(plain.prompt.tokens), **options)
        kept = keep(record, axes, dtype)
        grids = merge_details(kept.details)
        attribution = Attribution(plain.prompt, grids, size, plain.image, plain.run, kept)
        return attribution, record

    return make
