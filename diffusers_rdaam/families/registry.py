"""Which family a pipeline belongs to, by its class of diffusers; and why it has none."""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import Any

from torch import nn

from diffusers_rdaam.errors import UnsupportedPipelineError
from diffusers_rdaam.families.added_keys import ADDED_KEYS_PIPELINES, AddedKeysFamily
from diffusers_rdaam.families.family import Family
from diffusers_rdaam.families.layouts import LAYOUTS, PIPELINES
from diffusers_rdaam.families.refused import REFUSED
from diffusers_rdaam.families.rows import CountedRowsLayout, SeparateCallsLayout, TwoCallLayout
from diffusers_rdaam.families.transformers.family import TransformerFamily
from diffusers_rdaam.families.transformers.pipelines import TRANSFORMER_PIPELINES
from diffusers_rdaam.families.unet import UNetFamily

# The families, which are asked in this order whether a denoiser is theirs.
FAMILIES: tuple[type[UNetFamily] | type[TransformerFamily], ...] = (UNetFamily, TransformerFamily)


# The names of all classes of diffusers that are recorded.
RECORDED = (*PIPELINES, *ADDED_KEYS_PIPELINES, *TRANSFORMER_PIPELINES)


def family_of(pipe: Any, rows: Any = None) -> Family:
    """The family of a pipeline, by its stock class.

    Args:
        pipe: a pipeline of a class of diffusers, or of one derived from such a class.
        rows: which rows of a call carry the prompt, where the class does not say so.

    Raises:
        UnsupportedPipelineError: the class is not known, or known not to be recordable.
    """
    stock = stock_class(type(pipe))
    if rows is not None:
        if stock is not None and stock.__name__ in TRANSFORMER_PIPELINES:
            return _transformer_family(pipe, stock).with_layout(rows)
        for kind in FAMILIES:
            if isinstance(getattr(pipe, kind.denoiser_name, None), nn.Module):
                return kind(rows)
    if stock is not None and stock.__name__ in TRANSFORMER_PIPELINES:
        return _transformer_family(pipe, stock)
    if stock is not None and stock.__name__ in ADDED_KEYS_PIPELINES:
        added = ADDED_KEYS_PIPELINES[stock.__name__]
        return AddedKeysFamily(added.layout, added.denoiser, added.tokens)
    layout = None if stock is None else LAYOUTS.get(stock.__name__)
    if layout is None:
        raise unsupported(type(pipe).__name__, stock)
    # Perturbed-attention guidance adds rows, whichever class it is mixed into.
    perturbs = any(base.__name__ == "PAGMixin" for base in type(pipe).__mro__)
    if perturbs and not layout.perturbs:
        raise unsupported(type(pipe).__name__)
    return UNetFamily(layout.fresh() if isinstance(layout, _WITH_MEMORY) else layout)


def _transformer_family(pipe: Any, stock: type) -> TransformerFamily:
    entry = TRANSFORMER_PIPELINES[stock.__name__]
    layout = entry.layout.fresh() if isinstance(entry.layout, _WITH_MEMORY) else entry.layout
    # Wan 2.2 may be without the first one.
    found = [name for name in entry.denoisers if getattr(pipe, name, None) is not None]
    first, *others = found or entry.denoisers[:1]
    family = TransformerFamily(layout, first, entry.tokens, tuple(others), entry.video)
    if entry.tokens:
        return family
    return replace(family, tokens=family.kind(family.denoiser(pipe)).source)


# Layouts that remember the calls of a run, and are made anew for each.
_WITH_MEMORY = (CountedRowsLayout, TwoCallLayout, SeparateCallsLayout)


def has_denoiser(pipe: Any) -> bool:
    """True if a pipeline has a denoiser of some family, whatever its class is."""
    return any(_has_denoiser_of(pipe, kind.denoiser_name) for kind in FAMILIES)


def _has_denoiser_of(pipe: Any, name: str) -> bool:
    return isinstance(getattr(pipe, name, None), nn.Module)


def pixels_per_latent(pipe: Any) -> int:
    """How many pixels of an image's side the pipeline takes for a cell of the latent."""
    return int(getattr(pipe, "vae_scale_factor", 8))


def family_of_module(subject: Any, rows: Any = None) -> Family:
    """The family of a denoiser that no pipeline class describes.

    Args:
        subject: a denoiser, also in a wrapper; or a pipeline that has one.
        rows: the layout of the rows of its calls, as of :func:`as_layout`.

    Raises:
        UnsupportedPipelineError: the denoiser is of no family, or has no site with text.
    """
    for kind in FAMILIES:
        if not isinstance(subject, nn.Module) and not _has_denoiser_of(subject, kind.denoiser_name):
            continue
        family = kind(rows)
        denoiser = family.denoiser(subject)
        if kind.has(denoiser) and family.sites(denoiser):
            if isinstance(family, TransformerFamily):
                return replace(family, tokens=family.kind(denoiser).source)
            return family
    raise UnsupportedPipelineError(
        f"{type(denoiser).__name__} has no attention to a text that could be recorded. UNets of "
        "diffusers with spatial transformers have, and the transformers of its table."
    )


def stock_class(cls: type) -> type | None:
    """The pipeline class of diffusers that a class is, or descends from most closely.

    Only this one decides: a class of diffusers may inherit from a supported one and call its
    denoiser otherwise. By name, because importing every pipeline would cost seconds.
    """
    for base in cls.__mro__:
        if {"_rdaam_watches", "_rdaam_records"} & base.__dict__.keys():
            # A class of ours under the name of the one that it stands for.
            continue
        name = base.__name__
        named = "Pipeline" in name and not name.endswith("Mixin")
        if named and base.__module__.startswith("diffusers."):
            return base
    return None


_UNKNOWN = "the layout of its denoiser calls is not known, and it is never guessed"


def unsupported(
    name: str, stock: type | str | None = None, *, why: str = _UNKNOWN
) -> UnsupportedPipelineError:
    """The error for a pipeline that is not recorded: why, if that is known; else what is.

    Args:
        name: of the pipeline.
        stock: its class of diffusers, or the name of that, where that is what makes it so.
        why: it is not recorded, where the class is not among those that are refused.
    """
    reason = REFUSED.get(stock if isinstance(stock, str) else getattr(stock, "__name__", ""))
    if reason is not None:
        return UnsupportedPipelineError(f"{name} cannot be recorded: {reason}.")
    close = difflib.get_close_matches(name[:200], RECORDED, n=3, cutoff=0.5)
    nearest = f" Nearest: {', '.join(close)}." if close else ""
    return UnsupportedPipelineError(
        f"{name} cannot be recorded: {why}. Supported: Stable Diffusion, FLUX and others whose "
        f"denoiser attends to text, {len(RECORDED)} classes of diffusers and those derived from "
        f"them; the command rdaam env --pipelines lists all.{nearest}"
    )
