"""Tap: record a processor of diffusers that is not the stock one, and leave its output to it.

Attention slicing, xformers, fused projections and IP-Adapters put processors of their own on the
sites. Each of them attends to the text with the queries and keys of the stock class, so these are
projected once more beside it. Only the processor's class becomes another, a subclass of what it
was: weights, settings and what diffusers does with them stay.
"""

from __future__ import annotations

import copy
import functools
from contextlib import ExitStack
from functools import lru_cache
from typing import Any, NamedTuple, cast

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from diffusers_rdaam.attention.attention_call import AttentionCall
from diffusers_rdaam.attention.map_target import target_of
from diffusers_rdaam.attention.observer import Observer, observe, without_frames
from diffusers_rdaam.attention.recording_processor import RecordingProcessor
from diffusers_rdaam.attention.site import SiteKind
from diffusers_rdaam.attention.unet_projection import project


class ProcessorTraits(NamedTuple):
    """How a processor of diffusers differs from the stock one.

    Args:
        scales_itself: with ``attn.scale``; the others pass no scale to the fused attention and get
            1 / sqrt(dim).
        normalizes: queries and keys, where the module has norms for them.
    """

    scales_itself: bool
    normalizes: bool


# By exact class. A new line needs a look at the processor's source.
_MANNERS = {
    "AttnProcessor": ProcessorTraits(True, False),
    "FusedAttnProcessor2_0": ProcessorTraits(False, True),
    "IPAdapterAttnProcessor": ProcessorTraits(True, False),
    "IPAdapterAttnProcessor2_0": ProcessorTraits(False, False),
    "IPAdapterXFormersAttnProcessor": ProcessorTraits(True, False),
    "SlicedAttnProcessor": ProcessorTraits(True, False),
    "XFormersAttnProcessor": ProcessorTraits(True, False),
}


def is_supported(processor: Any) -> bool:
    """Whether the queries and keys of a processor are known to be the stock ones."""
    cls = type(processor)
    return cls.__module__.startswith("diffusers.") and cls.__name__ in _MANNERS


def normalizes(processor: Any) -> bool:
    """Whether it norms the keys where the module has a norm for them, as the stock one does."""
    manner = _MANNERS.get(type(processor).__name__)
    return True if manner is None else manner.normalizes


def tap(processor: Any, site: str, kind: SiteKind = "cross") -> Any:
    """What records for a site in the place of a processor: itself, or a copy.

    One with weights belongs to one site and is changed in place. One without may be shared by all
    modules of a denoiser, so each site gets a copy, which knows the original.
    """
    tapped = processor if isinstance(processor, nn.Module) else copy.copy(processor)
    cls: Any = type(processor)
    tapped.__class__ = _tapped_class(cls)
    tapped.site, tapped.kind = site, kind
    if tapped is not processor:
        tapped.original = processor
    return tapped


def untap(processor: Any) -> Any:
    """What stood in a tapped processor's place."""
    if not isinstance(processor, nn.Module):
        if processor.original is not None:
            return processor.original
        # diffusers makes another of the same class in places: that one stands for nothing.
        processor = copy.copy(processor)
    processor.__class__ = cast("Any", type(processor)).stock
    for name in _OF_A_TAP:
        processor.__dict__.pop(name, None)
    return processor


_OF_A_TAP = ("site", "kind", "target", "thread", "used")


def undo_tap(processor: nn.Module, undo: ExitStack) -> None:
    """Fill an undo list with what gives a processor with weights its class back."""
    for name in _OF_A_TAP:
        undo.callback(processor.__dict__.pop, name, None)
    undo.callback(setattr, processor, "__class__", type(processor))


class ForeignProcessor(RecordingProcessor):
    """Mixed before the class of a foreign processor by :func:`tap`; ``stock`` is that class."""

    stock: type

    def observe(
        self,
        observer: Observer,
        attn: Attention,
        hidden_states: Tensor,
        context: Any,
        attention_mask: Tensor | None,
        temb: Tensor | None,
    ) -> None:
        """Add the maps of the text. An IP-Adapter's context is the text and its images."""
        if torch.compiler.is_compiling():
            self._observe(observer, attn, hidden_states, context, attention_mask, temb)
            return
        try:
            self._observe(observer, attn, hidden_states, context, attention_mask, temb)
        except Exception as error:
            # The processor's own attention comes after this, and makes the image.
            observer.failure = without_frames(error)

    def _observe(
        self,
        observer: Observer,
        attn: Attention,
        hidden_states: Tensor,
        context: Any,
        attention_mask: Tensor | None,
        temb: Tensor | None,
    ) -> None:
        text = context[0] if isinstance(context, tuple) else context
        manner = _MANNERS[self.stock.__name__]
        # Gradient checkpointing compares what a call saved for its way back with what it saves when
        # it is called again, and then nothing is recorded.
        with torch.no_grad():
            query, key, mask, _ = project(
                attn, hidden_states, text, attention_mask, temb, normalize=manner.normalizes
            )
        scale = attn.scale if manner.scales_itself else key.shape[-1] ** -0.5
        observe(observer, AttentionCall(query, key, None, mask, scale))
        target = target_of(observer)
        if target is not None:
            target.note_separate(f"{self.stock.__name__} computes its attention itself")

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Pickled by the name of the class that it was: this one has no place in a module.
        reduced = super().__reduce_ex__(protocol)
        assert isinstance(reduced, tuple)
        return (_new, (self.stock,), *reduced[2:])


def _new(stock: Any) -> Any:
    cls: Any = _tapped_class(stock)
    return cls.__new__(cls)


@lru_cache(maxsize=32)
def _tapped_class(stock: type) -> type:
    # Its own name: diffusers looks at the names of processors' classes.
    body = {"__module__": stock.__module__, "__doc__": stock.__doc__, "stock": stock}
    cls: Any = type(stock.__name__, (ForeignProcessor, stock), body)
    stock_call: Any = stock.__call__

    # The stock signature: diffusers drops every argument that it does not name.
    @functools.wraps(stock_call)
    def __call__(
        self: Any,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Any = None,
        attention_mask: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        observer = self.observer(encoder_hidden_states)
        if observer is not None:
            temb = args[0] if args else kwargs.get("temb")
            self.observe(observer, attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        return stock_call(
            self, attn, hidden_states, encoder_hidden_states, attention_mask, *args, **kwargs
        )

    cls.__call__ = __call__
    return cls
