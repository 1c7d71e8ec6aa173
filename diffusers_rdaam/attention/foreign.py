"""Record the processors of diffusers that are not the stock one; they still compute the output.

Attention slicing, xformers, fused projections and IP-Adapters put processors of their own on the
sites. Each of them attends to the text with the queries and keys of the stock class, so these are
projected once more for the maps. Only the processor's class is replaced, by a subclass of it: its
weights and settings stay, and so does what diffusers does with them.
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
        scales_itself: whether it multiplies with ``attn.scale``; the others pass no scale to
            torch's attention, which is then 1 / sqrt(dim).
        normalizes: whether it applies the module's norms of queries and keys, if there are any.
    """

    scales_itself: bool
    normalizes: bool


# By exact class, because a subclass may compute something else. Read the processor's source before
# adding a line.
_TRAITS = {
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
    return cls.__module__.startswith("diffusers.") and cls.__name__ in _TRAITS


def normalizes(processor: Any) -> bool:
    """Whether a processor applies the module's norm of the keys, as the stock one does."""
    traits = _TRAITS.get(type(processor).__name__)
    return True if traits is None else traits.normalizes


def tap(processor: Any, site: str, kind: SiteKind = "cross") -> Any:
    """Make a processor record for a site; return it, or the copy that does.

    A processor with weights belongs to one site and is changed in place. One without weights may
    be shared by all modules of a denoiser, so each site gets a copy, which knows the original.
    """
    tapped = processor if isinstance(processor, nn.Module) else copy.copy(processor)
    cls: Any = type(processor)
    tapped.__class__ = _recording_class(cls)
    tapped.site, tapped.kind = site, kind
    if tapped is not processor:
        tapped.original = processor
    return tapped


def untap(processor: Any) -> Any:
    """The processor in whose place a recording one stands."""
    if not isinstance(processor, nn.Module):
        if processor.original is not None:
            return processor.original
        # Where diffusers itself makes a new instance of the class, there is no original.
        processor = copy.copy(processor)
    processor.__class__ = cast("Any", type(processor)).stock
    for name in _ADDED_ATTRIBUTES:
        processor.__dict__.pop(name, None)
    return processor


_ADDED_ATTRIBUTES = ("site", "kind", "target", "thread", "used")


def undo_tap(processor: nn.Module, undo: ExitStack) -> None:
    """Add the entries to an undo list that give a processor with weights its class back."""
    for name in _ADDED_ATTRIBUTES:
        undo.callback(processor.__dict__.pop, name, None)
    undo.callback(setattr, processor, "__class__", type(processor))


class ForeignProcessor(RecordingProcessor):
    """Base class, before the foreign processor's, of the classes that :func:`tap` makes.

    Attributes:
        stock: the foreign processor's class.
    """

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
        """Show the call to an observer; what it raises is noted, and the image is still made."""
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
        # An IP-Adapter's encoder states are a pair: the text's, and those of its images.
        text = context[0] if isinstance(context, tuple) else context
        traits = _TRAITS[self.stock.__name__]
        # Gradient checkpointing compares what a call saves for the backward pass with what it saves
        # when it is repeated. The repetition is not recorded, so this projection must save nothing.
        with torch.no_grad():
            query, key, mask, _ = project(
                attn, hidden_states, text, attention_mask, temb, normalize=traits.normalizes
            )
        scale = attn.scale if traits.scales_itself else key.shape[-1] ** -0.5
        observe(observer, AttentionCall(query, key, None, mask, scale))
        target = target_of(observer)
        if target is not None:
            target.note_separate(f"{self.stock.__name__} computes its attention itself")

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Pickled by the name of the foreign class: this one is not an attribute of a module.
        reduced = super().__reduce_ex__(protocol)
        assert isinstance(reduced, tuple)
        return (_new, (self.stock,), *reduced[2:])


def _new(stock: Any) -> Any:
    cls: Any = _recording_class(stock)
    return cls.__new__(cls)


@lru_cache(maxsize=32)
def _recording_class(stock: type) -> type:
    # The name is kept because diffusers looks at the names of processors' classes.
    body = {"__module__": stock.__module__, "__doc__": stock.__doc__, "stock": stock}
    cls: Any = type(stock.__name__, (ForeignProcessor, stock), body)
    stock_call: Any = stock.__call__

    # The signature is copied because diffusers drops every argument that it does not name.
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
