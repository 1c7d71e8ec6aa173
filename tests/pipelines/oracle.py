"""Float64 attention, computed from the queries and keys that a run's linear layers put out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from einops import rearrange


@contextmanager
def watched(pipe: Any) -> Iterator[dict[str, list[tuple[torch.Tensor, torch.Tensor]]]]:
    """Every site's queries and keys, one pair a denoiser call."""
    calls: dict[str, list[Any]] = {}
    handles = []
    for name, module in pipe.unet.named_modules():
        if name.endswith("attn2"):
            halves: dict[str, list[torch.Tensor]] = {"q": [], "k": []}
            calls[name] = [halves, module.heads]
            for part, linear in (("q", module.to_q), ("k", module.to_k)):

                def note(linear, args, output, into=halves[part]):
                    into.append(output.detach().double())

                handles.append(linear.register_forward_hook(note))
    seen: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
    for name, (halves, heads) in calls.items():
        seen[name] = [
            tuple(rearrange(part, "r n (h d) -> r h n d", h=heads) for part in pair)
            for pair in zip(halves["q"], halves["k"], strict=True)
        ]


def expected(
    seen: dict[str, Any], images: int, first: bool = False
) -> dict[int, tuple[torch.Tensor, int]]:
    """Mean probabilities ``(images, tokens, pixels)`` and their number, by the number of pixels."""
    sums: dict[int, list[torch.Tensor]] = {}
    for pairs in seen.values():
        for query, key in pairs:
            logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
            maps = torch.softmax(logits, dim=-1).mean(dim=1).transpose(-1, -2)
            maps = maps[:images] if first else maps[-images:]
            sums.setdefault(maps.shape[-1], []).append(maps)
    return {pixels: (torch.stack(maps).mean(0), len(maps)) for pixels, maps in sums.items()}


def check(attributions: Any, seen: dict[str, Any], sites: int = 10, first: bool = False) -> None:
    """Compare every cell, with the conditional rows the last of each call, or the first."""
    assert len(seen) == sites
    oracle = expected(seen, len(attributions), first)
    for image, attribution in enumerate(attributions):
        assert len(attribution.grids) == len(oracle)
        for grid in attribution.grids:
            height, width = grid.size
            maps, additions = oracle[height * width]
            assert grid.additions == additions
            wanted, got = maps[image], grid.maps.flatten(1).double()
            error = ((got - wanted).abs() / wanted)[wanted >= 1e-5]
            assert error.numel() > 100 and error.max() <= 1e-4
            assert (got - wanted).abs().max() <= 1e-4
