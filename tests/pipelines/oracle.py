"""Float64 attention, computed from the queries and keys that a run's linear layers put out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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


def sees_itself(name: str, modules: dict[str, Any]) -> bool:
    """Whether the image attends to itself in a module."""
    place, _, last = name.rpartition(".")
    if any(
        part in name for part in ("motion_modules", "temp_attentions", "transformer_in", "ctrl")
    ):
        return False
    return last == "attn1" and not getattr(modules[place], "only_cross_attention", False)


class Seen(dict[str, list[tuple[torch.Tensor, torch.Tensor]]]):
    """Every site's queries and keys ``(rows, heads, n, dim)``, one pair a denoiser call.

    ``masks`` has what was added to the logits of each, ``(rows, 1, 1, tokens)``, or zero.
    """

    masks: dict[str, list[torch.Tensor]]

    def first(self, calls: int) -> Seen:
        """What was seen in the first calls."""
        part = Seen({name: pairs[:calls] for name, pairs in self.items()})
        part.masks = {name: masks[:calls] for name, masks in self.masks.items()}
        return part


@contextmanager
def watched(pipe: Any, sees: Callable[[str, dict[str, Any]], bool] = sees_text) -> Iterator[Seen]:
    """Every site's queries and keys, one pair a denoiser call."""
    modules = dict(getattr(pipe.unet, "_orig_mod", pipe.unet).named_modules())
    sites = {
        name: module
        for name, module in modules.items()
        if name.endswith(("attn1", "attn2")) and sees(name, modules)
    }
    notes: dict[str, dict[str, list[torch.Tensor]]] = {}
    handles = []
    for name, site in sites.items():
        notes[name] = {"query": [], "key": [], "mask": []}
        handles += _hooks(site, **notes[name])
    seen = Seen()
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
    for name, site in sites.items():
        pairs = zip(notes[name]["query"], notes[name]["key"], strict=True)
        seen[name] = [
            tuple(rearrange(part, "r n (h d) -> r h n d", h=site.heads) for part in pair)
            for pair in pairs
        ]
    seen.masks = {name: parts["mask"] for name, parts in notes.items()}


def _hooks(site: Any, query: list[Any], key: list[Any], mask: list[Any]) -> list[Any]:
    fused = getattr(site, "to_kv", None)
    latest: list[Any] = [None]

    def note_mask(module, args, kwargs):
        latest[0] = kwargs.get("attention_mask")

    def note_query(linear, args, output):
        # Here and not before: a cache may skip the attention that a mask was handed to.
        mask.append(torch.zeros(()) if latest[0] is None else latest[0].double().unsqueeze(1))
        query.append(output.detach().double())

    def note_key(linear, args, output):
        # Fused projections put keys and values out together.
        key.append((output.chunk(2, -1)[0] if linear is fused else output).detach().double())

    handles = [site.register_forward_pre_hook(note_mask, with_kwargs=True)]
    handles.append(site.to_q.register_forward_hook(note_query))
    keys = [site.to_k] if fused is None else [site.to_k, fused]
    return handles + [linear.register_forward_hook(note_key) for linear in keys]


def expected(
    seen: Seen, images: int, first: bool = False, *, rows: str = "", stride: int = 1
) -> dict[int, tuple[torch.Tensor, int]]:
    """Mean probabilities ``(images, tokens, pixels)`` and their number, by the number of pixels."""
    start = images * rows.index("c") if rows else 0 if first else None
    chosen = slice(-images, None) if start is None else slice(start, start + images)
    sums: dict[int, list[torch.Tensor]] = {}
    for name, pairs in seen.items():
        masked = zip(pairs[::stride], seen.masks[name][::stride], strict=True)
        for (query, key), mask in masked:
            assert not rows or len(query) == len(rows) * images
            logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + mask
            maps = torch.softmax(logits, dim=-1).mean(dim=1).transpose(-1, -2)
            sums.setdefault(maps.shape[-1], []).append(maps[chosen])
    return {pixels: (torch.stack(maps).mean(0), len(maps)) for pixels, maps in sums.items()}


def check(
    attributions: Any, seen: Seen, sites: int = 10, first: bool = False, **layout: Any
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


def each(seen: Seen) -> dict[str, list[torch.Tensor]]:
    """Of every site and call ``(rows, heads, tokens, pixels)``."""
    maps: dict[str, list[torch.Tensor]] = {}
    for site, pairs in seen.items():
        for (query, key), mask in zip(pairs, seen.masks[site], strict=True):
            logits = query @ key.mT * query.shape[-1] ** -0.5 + mask
            maps.setdefault(site, []).append(torch.softmax(logits, dim=-1).mT)
    return maps


def check_kept(kept: Any, seen: Seen, rows: list[int | None]) -> None:
    """Compare every cell of what one image kept.

    Args:
        rows: the image's row in each denoiser call; None in calls that have none of its prompt.
    """
    maps, calls = each(seen), range(len(rows))
    assert {site for detail in kept.details for site in detail.sites} == set(maps)
    assert kept.steps == (len(rows) if "steps" in kept.axes else 1)
    for detail in kept.details:
        assert "layers" not in kept.axes or len(detail.sites) == 1
        for step, got in enumerate(detail.maps):
            chosen = [step] if "steps" in kept.axes else calls
            parts = [
                maps[site][call][rows[call]]
                for site in detail.sites
                for call in chosen
                if rows[call] is not None
            ]
            assert detail.additions[step] == len(parts)
            wanted = torch.stack(parts).mean(0) if parts else torch.zeros(1, 1, 1).double()
            if "heads" not in kept.axes:
                wanted = wanted.mean(dim=0, keepdim=True)
            torch.testing.assert_close(
                got.flatten(2).double(), wanted.expand_as(got.flatten(2)), rtol=1e-4, atol=2e-7
            )
