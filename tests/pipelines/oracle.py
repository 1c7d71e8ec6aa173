"""Float64 attention, computed from the queries and keys that a run's linear layers put out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from einops import rearrange


def sees_text(name: str, modules: dict[str, Any]) -> bool:
    """Whether an attention module reads the prompt and works on the image."""
    place, _, last = name.rpartition(".")
    if any(
        part in name for part in ("motion_modules", "temp_attentions", "transformer_in", "ctrl")
    ):
        return False
    cross = getattr(modules[place], "only_cross_attention", False)
    return last == "attn2" or (last == "attn1" and cross)


@contextmanager
def watched(pipe: Any) -> Iterator[dict[str, list[tuple[torch.Tensor, torch.Tensor]]]]:
    """Every site's queries and keys, one pair a denoiser call."""
    calls: dict[str, list[Any]] = {}
    handles = []
    modules = dict(pipe.unet.named_modules())
    for name, module in modules.items():
        if name.endswith(("attn1", "attn2")) and sees_text(name, modules):
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
    seen: dict[str, Any], images: int, first: bool = False, *, rows: str = "", stride: int = 1
) -> dict[int, tuple[torch.Tensor, int]]:
    """Mean probabilities ``(images, tokens, pixels)`` and their number, by the number of pixels."""
    start = images * rows.index("c") if rows else 0 if first else None
    chosen = slice(-images, None) if start is None else slice(start, start + images)
    sums: dict[int, list[torch.Tensor]] = {}
    for pairs in seen.values():
        for query, key in pairs[::stride]:
            assert not rows or len(query) == len(rows) * images
            logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
            maps = torch.softmax(logits, dim=-1).mean(dim=1).transpose(-1, -2)
            sums.setdefault(maps.shape[-1], []).append(maps[chosen])
    return {pixels: (torch.stack(maps).mean(0), len(maps)) for pixels, maps in sums.items()}


def check(
    attributions: Any, seen: dict[str, Any], sites: int = 10, first: bool = False, **layout: Any
) -> None:
    """Compare every cell, with the conditional rows the last of each call, the first, or those
    that ``rows=`` names ``"c"``; ``stride=`` is every how manyth call was recorded.
    """
    assert len(seen) == sites
    oracle = expected(seen, len(attributions), first, **layout)
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
