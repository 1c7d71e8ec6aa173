"""Logits: the products of a tile's queries with the keys, in float32 for inputs of any type."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffusers_rdaam import float32_products
from diffusers_rdaam.float32_products import (
    are_rounded,
    multiply_widened,
    widen_left,
    widen_right,
)
from diffusers_rdaam.shapes import Key, Query

_HALVES = (torch.float16, torch.bfloat16)
# Products of halves come as float32, unrounded, on CUDA devices of torch 2.8 and later.
_MULTIPLIES_HALVES = "dtype" in torch.ops.aten.bmm.overloads() and torch.version.hip is None


@dataclass(frozen=True)
class Logits:
    """The keys of a call, prepared once for the products of all its tiles; made by :meth:`of`.

    Args:
        keys: ``(rows, heads, columns, dim)``, multiplied with ``factor`` unless that is ``after``;
            halves where the device multiplies these, float64 where a processor would round float32,
            with three times the ``dim`` where another device would.
        after: a factor that the products still need; None if they need none.
        widened: whether the keys have three times the ``dim``.
    """

    keys: Tensor
    after: float | None
    widened: bool = False

    @classmethod
    def of(cls, query: Query, key: Key, factor: float) -> Logits:
        """Prepare the products of ``query`` and ``key`` times ``factor`` in the fastest exact way.

        On devices other than the CPU halves are multiplied as they are, and the products scaled:
        halves have at most the 11 bits that TF32 keeps, and halves times a factor have more.
        """
        group = query.shape[1] // key.shape[1]
        if group > 1:
            key = key.repeat_interleave(group, dim=1)
        on_cpu = float32_products.device_type(key.device) == "cpu"
        if not on_cpu and key.dtype in _HALVES and query.dtype in _HALVES:
            return cls(key if _multiplies(query, key) else key.float(), factor)
        keys = key.float() * factor
        if not are_rounded(key.device):
            return cls(keys, None)
        return cls(keys.double(), None) if on_cpu else cls(widen_left(keys), None, widened=True)

    def __getitem__(self, rows: slice) -> Logits:
        return Logits(self.keys[rows], self.after, self.widened)

    def __call__(self, query: Query, added: Tensor | None = None) -> Tensor:
        """Float32 ``(rows, heads, columns, positions)``: columns first, so that sums over them run
        along rows of neighbours and a tile is added to the planes without a transposition.

        Args:
            query: ``(rows, heads, positions, dim)``.
            added: to every column, ``(rows, heads, positions)``.
        """
        if self.keys.dtype in _HALVES:
            columns = query.flatten(0, 1).transpose(-1, -2)
            products = torch.bmm(self.keys.flatten(0, 1), columns, out_dtype=torch.float32)
            return self._scaled(products.unflatten(0, query.shape[:2]), added)
        if self.widened:
            columns = widen_right(query.float()).transpose(-1, -2)
            return self._scaled(multiply_widened(self.keys, columns), added)
        columns = query.to(self.keys.dtype).transpose(-1, -2)
        if added is None or self.after is not None or self.keys.dtype == torch.float64:
            return self._scaled((self.keys @ columns).float(), added)
        sums = added.flatten(0, 1).unsqueeze(1).expand(-1, self.keys.shape[2], -1)
        logits = torch.baddbmm(sums, self.keys.flatten(0, 1), columns.flatten(0, 1))
        return logits.unflatten(0, query.shape[:2])

    def _scaled(self, products: Tensor, added: Tensor | None) -> Tensor:
        if added is not None:
            factor = 1.0 if self.after is None else self.after
            return torch.add(added.unsqueeze(2), products, alpha=factor)
        return products if self.after is None else products.mul_(self.after)


def product_type(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The type in which queries are multiplied with keys of the same type: halves where the device
    multiplies these into float32, else float32.

    Args:
        dtype: of both.
        device: where they are.
    """
    on_cuda = float32_products.device_type(device) == "cuda"
    if dtype not in _HALVES or not on_cuda or not _MULTIPLIES_HALVES:
        return torch.float32
    # With this setting torch refuses such products of float16.
    refused = dtype == torch.float16 and getattr(
        torch.backends.cuda.matmul, "allow_fp16_accumulation", False
    )
    return torch.float32 if refused else dtype


def _multiplies(query: Query, key: Key) -> bool:
    """Whether the device multiplies halves into float32, and with these settings and types."""
    return query.dtype == key.dtype == product_type(key.dtype, key.device)
