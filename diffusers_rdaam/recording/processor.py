"""RDAAMProcessor: stock attention, and on the side its softmaxed text attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from einops import rearrange
from torch import Tensor

from diffusers_rdaam.errors import InputError, RecordingError
from diffusers_rdaam.kernels.dispatch import Backend, choose

Storage = Literal["fp16-pair", "fp16"]


@dataclass
class Target:
    """Where a bound processor adds its maps during one denoiser call.

    Args:
        high, low: planes ``(images, tokens, pixels)`` of the site's grid.
        count: one element, the site's number of additions.
        start, stop: the batch rows that are recorded.
        accumulate: the kernel.
    """

    high: Tensor
    low: Tensor | None
    count: Tensor
    start: int
    stop: int
    accumulate: Callable[..., None]

    def add(self, query: Tensor, key: Tensor, mask: Tensor | None, scale: float) -> None:
        """Add the head-mean probabilities of the recorded rows."""
        rows = slice(self.start, self.stop)
        if mask is not None:
            mask = mask[rows] if mask.shape[0] > 1 else mask
            if mask.dtype == torch.bool:
                # The logits are float32; true means "may be attended".
                mask = torch.zeros_like(mask, dtype=torch.float32).masked_fill_(~mask, -torch.inf)
            mask = mask.float()
        with torch.no_grad():
            self.accumulate(query[rows], key[rows], self.high, self.low, mask=mask, scale=scale)
            self.count.add_(1)


class RDAAMProcessor(AttnProcessor2_0):
    """An attention processor that records what it attends to, and computes what stock computes.

    Give it to a pipeline of this package as a template, with
    ``pipe.set_attn_processor(RDAAMProcessor())``: every text cross-attention site gets a bound
    child, every other processor stays. Unbound, or outside of a recorded run, it is
    :class:`diffusers.models.attention_processor.AttnProcessor2_0`.

    Args:
        storage: ``"fp16-pair"`` (4 bytes a cell, relative error under 1e-4 at any number of steps)
            or ``"fp16"`` (2 bytes a cell, refused where its sums would stagnate).
        backend: ``"auto"``, ``"portable"`` or ``"reference"`` (float64, slow); the image is
            bit-identical with each.

    Raises:
        InputError: an option is unknown.
    """

    def __init__(self, *, storage: Storage = "fp16-pair", backend: Backend = "auto") -> None:
        super().__init__()
        if storage not in get_args(Storage):
            choices = ", ".join(repr(name) for name in get_args(Storage))
            raise InputError(f"{storage!r} is not a storage. Storages: {choices}.")
        choose(backend)
        self.storage = storage
        self.backend = backend
        self.site: str | None = None
        self.target: Target | None = None

    def bind(self, site: str) -> RDAAMProcessor:
        """A child for one site, with this template's options."""
        child = type(self)(storage=self.storage, backend=self.backend)
        child.site = site
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
        """Stock attention; in a recorded run the maps of the conditional rows are added.

        The signature is explicit because diffusers drops every argument that it does not name.
        """
        if self.target is None or encoder_hidden_states is None:
            return super().__call__(
                attn, hidden_states, encoder_hidden_states, attention_mask, temb, *args, **kwargs
            )
        return self._attend(attn, hidden_states, encoder_hidden_states, attention_mask, temb)

    def _attend(
        self,
        attn: Attention,
        hidden_states: Tensor,
        context: Tensor,
        attention_mask: Tensor | None,
        temb: Tensor | None,
    ) -> Tensor:
        """The stock cross-attention, operation by operation, with the record after its softmax.

        diffusers has no hook between projection and attention, so the steps are repeated here; a
        test compares them bitwise with the stock class.
        """
        residual = hidden_states
        if attn.spatial_norm is not None:
            hidden_states = attn.spatial_norm(hidden_states, temb)
        image_shape = hidden_states.shape if hidden_states.ndim == 4 else None
        if image_shape is not None:
            hidden_states = hidden_states.flatten(2).transpose(1, 2)
        rows, tokens, _ = context.shape
        if attention_mask is not None:
            attention_mask = attn.prepare_attention_mask(attention_mask, tokens, rows)
            attention_mask = attention_mask.view(rows, attn.heads, -1, attention_mask.shape[-1])
        if attn.group_norm is not None:
            hidden_states = attn.group_norm(hidden_states.transpose(1, 2)).transpose(1, 2)
        query = attn.to_q(hidden_states)
        if attn.norm_cross:
            context = attn.norm_encoder_hidden_states(context)
        key, value = attn.to_k(context), attn.to_v(context)
        dim = key.shape[-1] // attn.heads
        query, key, value = (
            rearrange(part, "rows n (heads dim) -> rows heads n dim", heads=attn.heads)
            for part in (query, key, value)
        )
        if attn.norm_q is not None:
            query = attn.norm_q(query)
        if attn.norm_k is not None:
            key = attn.norm_k(key)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
        assert self.target is not None
        positions = self.target.high.shape[-1]
        if query.shape[2] != positions:
            raise RecordingError(
                f"{self.site} attends from {query.shape[2]} image positions, where {positions} "
                "were expected of its level and the latent's size: this denoiser's samplers are "
                "not known. To generate without recording, use "
                "pipe.set_attn_processor(AttnProcessor2_0())."
            )
        # The stock call passes no scale, so attention used this one, whatever attn.scale says.
        self.target.add(query, key, attention_mask, dim**-0.5)
        attended = rearrange(attended, "rows heads n dim -> rows n (heads dim)").to(query.dtype)
        attended = attn.to_out[1](attn.to_out[0](attended))
        if image_shape is not None:
            attended = attended.transpose(-1, -2).reshape(image_shape)
        if attn.residual_connection:
            attended = attended + residual
        return attended / attn.rescale_output_factor

    def __getstate__(self) -> dict[str, Any]:
        # A copy of a pipeline is not in the middle of the original's run.
        return self.__dict__ | {"target": None}

    def __repr__(self) -> str:
        place = "unbound" if self.site is None else self.site
        return f"RDAAMProcessor({place}, storage={self.storage!r}, backend={self.backend!r})"
