"""RDAAMProcessor: stock attention, and a record of its softmaxed text attention."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable
from typing import Any

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor

from diffusers_rdaam.attention.attention_call import AttentionCall
from diffusers_rdaam.attention.call import attend
from diffusers_rdaam.attention.observer import Observer
from diffusers_rdaam.attention.options import (
    DEFAULT_BUDGET,
    Columns,
    Kept,
    Precision,
    QueryOptions,
    RecordingOptions,
    SelfAttentionLike,
)
from diffusers_rdaam.attention.recording_processor import RecordingProcessor
from diffusers_rdaam.attention.site import SiteKind
from diffusers_rdaam.attention.unet_projection import finish, project, split
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.kernels.dispatch import Backend
from diffusers_rdaam.suggestions import nearest

_logger = logging.getLogger("diffusers_rdaam")
_OPTIONS = (
    "keep",
    "keep_negative",
    "self_attention",
    "queries",
    "precision",
    "budget",
    "backend",
    "columns",
)
# Earlier names, and the present ones.
_RENAMED = {
    "storage": "precision=",
    "query_grids": "queries=QueryOptions(grids=…)",
    "query_steps": "queries=QueryOptions(steps=…)",
    "queries_on": "queries=QueryOptions(location=…)",
    "query_precision": "queries=QueryOptions(precision=…)",
}


class RDAAMProcessor(RecordingProcessor, AttnProcessor2_0):
    """An attention processor that computes stock attention and records its probabilities.

    Give it to a pipeline of this package as a template, with
    ``pipe.set_attn_processor(RDAAMProcessor())``: every text cross-attention site gets a bound
    child, and every other processor stays. Unbound, or outside of a recorded run, it is exactly
    :class:`diffusers.models.attention_processor.AttnProcessor2_0`.

    Args:
        keep: ``"steps"``, ``"layers"``, ``"heads"``, or several of them, for
            ``attribution.select``: maps are stored for each of these, and not only their mean.
            ``"squares"`` stores the mean squares of the probabilities, 4 bytes a cell more, for
            ``attribution.aggregated("rms")``.
            ``"queries"``, alone or with them, stores what ``pipe.query`` makes the attribution of
            any other text from. The memory cost is reported before the first step.
        keep_negative: whether the negative prompt's maps are recorded as well, for
            ``attribution.negative``. That doubles the memory cost.
        self_attention: which of the image's self-attention is recorded, for
            ``attribution.self_attention`` and ``refined()``. True or ``"last"``: the last layer of
            the largest grid within the budget, a UNet's last decoder layer; ``"all"``: the mean
            over all layers of that grid; ``"each"``: each of its layers separately, of which
            ``refined()`` takes the one that agrees best with the words' maps. Or a grid as
            ``(height, width)``, ``n`` for a square one; a layer's name, prefix or pattern
            (``"up_blocks.1"``); or several of both: these layers on these grids, the mean of each
            grid. ``n`` positions take ``2 * n**2`` bytes an image, 33.6 MB for 64x64.
        queries: which queries ``keep="queries"`` stores, where, and how precisely; all of them, in
            memory and in half precision, by default.
        precision: ``"fp16-pair"`` (4 bytes a cell, relative error under 1e-4 at any number of
            steps) or ``"fp16"`` (2 bytes a cell, refused where its sums would stagnate).
        budget: how many bytes the buffers of a run may take where ``keep``, ``keep_negative`` or
            ``self_attention`` is given; a run that would take more is refused before its first
            step.
        backend: the kernel. ``"auto"`` takes one that leaves the image bit-identical:
            ``"maps_only"`` (Triton, in addition to the stock attention) on a CUDA device, else
            ``"portable"`` (any device); ``"reference"`` (float64, slow) does so too. ``"fused"``
            (Triton) computes the attention and its maps in one pass that reads queries and keys
            once; its image differs from the stock one by rounding. A kernel that cannot run is
            replaced by the next; the processor's ``repr`` and ``rdaam env`` say why.
        columns: of a transformer, whose softmax runs over text, padding and image together, which
            columns are recorded: ``"prompt"``, the prompt's tokens, and what remains as one special
            ``(rest)``; or ``"all"`` columns of the text, with the image as ``(rest)``. A UNet's
            columns are always all recorded.

    Attributes:
        options: the arguments as one frozen :class:`RecordingOptions`.

    Raises:
        InputError: an option has an invalid value, or an earlier name.
        TypeError: there is no such option.
    """

    options: RecordingOptions
    _has_warned = False

    def __init__(
        self,
        *,
        keep: Kept | Iterable[Kept] = (),
        keep_negative: bool = False,
        self_attention: bool | SelfAttentionLike = False,
        queries: QueryOptions | None = None,
        precision: Precision = "fp16-pair",
        budget: int = DEFAULT_BUDGET,
        backend: Backend = "auto",
        columns: Columns = "prompt",
        **unknown: Any,
    ) -> None:
        super().__init__()
        _refuse(unknown)
        # Each may be one value or several; the options make tuples of them.
        several: dict[str, Any] = {"keep": keep, "self_attention": self_attention}
        self.options = RecordingOptions(
            keep_negative=keep_negative,
            queries=queries,
            precision=precision,
            budget=budget,
            backend=backend,
            columns=columns,
            **several,
        )

    @classmethod
    def with_options(cls, options: RecordingOptions) -> RDAAMProcessor:
        """Make a processor with these options."""
        made = cls()
        made.options = options
        return made

    def bind(self, site: str, kind: SiteKind = "cross") -> RDAAMProcessor:
        """Make a child for one site, with this template's options.

        Args:
            site: the site's name.
            kind: the site's kind.
        """
        child = copy.copy(self)
        child.site, child.kind, child.original = site, kind, None
        return child

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Compute stock attention; in a recorded run add the maps of the recorded rows.

        The signature is explicit because diffusers drops every argument that it does not name.
        """
        observer = self.observer(encoder_hidden_states)
        if observer is None:
            if self.site is None and encoder_hidden_states is not None:
                self._warn_of_unbound()
            return super().__call__(
                attn, hidden_states, encoder_hidden_states, attention_mask, temb, *args, **kwargs
            )
        return self._attend(
            observer, attn, hidden_states, encoder_hidden_states, attention_mask, temb
        )

    def _warn_of_unbound(self) -> None:
        """Log once that nothing is recorded, because a stock pipeline runs with this processor."""
        if torch.compiler.is_compiling() or self._has_warned:
            return
        self._has_warned = True
        _logger.warning(
            "An RDAAMProcessor was set on a denoiser itself, outside of a recorded run, and "
            "computes stock attention. To record, use record_attention(pipe), or a pipeline of "
            "diffusers_rdaam with pipe.set_attn_processor(RDAAMProcessor(…))."
        )

    def _attend(
        self,
        observer: Observer,
        attn: Attention,
        hidden_states: Tensor,
        context: Tensor | None,
        attention_mask: Tensor | None,
        temb: Tensor | None,
    ) -> Tensor:
        """Compute the stock attention operation by operation, and show it to the observer."""
        residual = hidden_states
        query, key, mask, context = project(attn, hidden_states, context, attention_mask, temb)
        value = split(attn, attn.to_v(context))
        # The stock processor passes no scale, so its attention uses this one, whatever attn.scale
        # is.
        call = AttentionCall(query, key, value, mask, key.shape[-1] ** -0.5)
        attended = attend(observer, call)
        return finish(attn, attended.to(query.dtype), residual)

    def __repr__(self) -> str:
        place = "unbound" if self.site is None else self.site
        used = "" if self.used is None else f", used {self.used.name}: {self.used.reason}"
        return f"RDAAMProcessor({place}, {self.options}{used})"


def _refuse(unknown: dict[str, Any]) -> None:
    """Refuse keywords that are not options; for an earlier name the error gives the present one.

    Raises:
        InputError: an option was renamed.
        TypeError: there is no such option.
    """
    for name in unknown:
        if name in _RENAMED:
            raise InputError(f"{name}= is not an option any more: write {_RENAMED[name]}.")
        close = nearest(name, _OPTIONS)
        hint = "" if close is None else f" Did you mean {close}=?"
        raise TypeError(
            f"{name}= is not an option of RDAAMProcessor. Options: {', '.join(_OPTIONS)}.{hint}"
        )
