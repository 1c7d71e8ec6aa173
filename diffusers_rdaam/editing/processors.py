"""The processors that save attention and that inject it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor

from diffusers_rdaam.attention.unet_projection import finish, project, split
from diffusers_rdaam.editing.column_matching import NEW
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.families import Branch, DenoiserCall
from diffusers_rdaam.kernels.reference import attention_probabilities


@dataclass
class State:
    """The denoiser call that goes on.

    Args:
        calls: with conditional rows, this one included.
        rows: the conditional ones; None outside of a call.
        grid: size of the denoiser's latent grid; None before the first call.
        active: names of the sites that take part.
    """

    calls: int = 0
    rows: slice | None = None
    grid: tuple[int, ...] | None = None
    active: set[str] = field(default_factory=set)

    def advance(self, call: DenoiserCall) -> None:
        """Begin a call."""
        self.calls += 1
        self.rows = slice(*call.branches[Branch.CONDITIONAL])
        self.grid = call.grid


class Saver(AttnProcessor2_0):
    """Stock attention; the probabilities of the conditional rows are kept."""

    def __init__(self, site: str, state: State, store: dict[str, Tensor]) -> None:
        super().__init__()
        self.site, self.state, self.store = site, state, store

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
        """Attend, and keep."""
        rows = self.state.rows if self.site in self.state.active else None
        if rows is not None and encoder_hidden_states is not None:
            maps = self.store[self.site]
            if self.state.calls > len(maps):
                raise InputError(
                    f"The run calls its denoiser more often than the {len(maps)} times that its "
                    "scheduler announced, so its attention cannot be kept."
                )
            with torch.no_grad():
                query, key, mask, _ = project(
                    attn, hidden_states, encoder_hidden_states, attention_mask, temb
                )
                maps[self.state.calls - 1] = _probabilities(query, key, mask, rows).to(
                    maps.device, maps.dtype
                )
        return super().__call__(
            attn, hidden_states, encoder_hidden_states, attention_mask, temb, *args, **kwargs
        )


class Injector(AttnProcessor2_0):
    """Attention whose conditional rows attend with the probabilities of another run."""

    def __init__(
        self,
        site: str,
        state: State,
        maps: Tensor | None,
        steps: set[int],
        columns: dict[str, Tensor],
    ) -> None:
        super().__init__()
        self.site, self.state, self.maps, self.steps = site, state, maps, steps
        self.columns = columns

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
        """Attend with what was saved, where there is something."""
        rows, step = self.state.rows, self.state.calls - 1
        stored = self.maps is not None and step in self.steps
        if rows is None or encoder_hidden_states is None or not stored:
            return super().__call__(
                attn, hidden_states, encoder_hidden_states, attention_mask, temb, *args, **kwargs
            )
        assert self.maps is not None
        residual = hidden_states
        query, key, mask, context = project(
            attn, hidden_states, encoder_hidden_states, attention_mask, temb
        )
        value = split(attn, attn.to_v(context))
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        computed = _probabilities(query, key, mask, rows)
        taken = blend(
            self.maps[step].to(computed.device, computed.dtype), computed, self.columns["all"]
        )
        attended[rows] = (taken @ value[rows].to(taken.dtype)).to(attended.dtype)
        return finish(attn, attended.to(query.dtype), residual)


def blend(saved: Tensor, computed: Tensor, columns: Tensor) -> Tensor:
    """Saved probabilities in the columns of another prompt, computed ones where there are none.

    Args:
        saved: ``(images, heads, pixels, source tokens)``.
        computed: ``(images, heads, pixels, tokens)``, this prompt's own probabilities.
        columns: ``(tokens,)``, the source column of each, or -1.

    Returns:
        Like ``computed``; each position sums to 1.
    """
    taken = saved.index_select(-1, columns.clamp(min=0))
    taken = torch.where(columns == NEW, computed, taken)
    return taken / taken.sum(dim=-1, keepdim=True).clamp(min=1e-12)


def _probabilities(query: Tensor, key: Tensor, mask: Tensor | None, rows: slice) -> Tensor:
    part = mask if mask is None or mask.shape[0] == 1 else mask[rows]
    if part is not None and part.dtype == torch.bool:
        part = torch.zeros_like(part, dtype=torch.float32).masked_fill_(~part, -torch.inf)
    scale = key.shape[-1] ** -0.5
    mask32 = None if part is None else part.float()
    with torch.autocast(device_type=query.device.type, enabled=False):
        return attention_probabilities(
            query[rows].float(), key[rows].float(), mask=mask32, scale=scale
        )
