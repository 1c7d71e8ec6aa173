"""The portable kernel as one operator, for compiled denoisers.

Traced through, its loop over tiles would fix the number of tiles, and a denoiser that is compiled
for all sizes would be compiled for each. To the compiler this is a call that changes its planes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffusers_rdaam.kernels import portable


def _accumulate(
    query: Tensor, key: Tensor, high: Tensor, low: Tensor | None, mask: Tensor | None, scale: float
) -> None:
    portable.accumulate(query, key, high, low, mask=mask, scale=scale)


_operator = torch.library.custom_op(
    "diffusers_rdaam::accumulate",
    _accumulate,
    mutates_args=("high", "low"),
    schema=(
        "(Tensor query, Tensor key, Tensor(a!) high, Tensor(b!)? low, Tensor? mask, float scale)"
        " -> ()"
    ),
)


def accumulate(
    query: Tensor,
    key: Tensor,
    high: Tensor,
    low: Tensor | None,
    *,
    mask: Tensor | None = None,
    scale: float,
) -> None:
    """:func:`diffusers_rdaam.kernels.portable.accumulate`, opaque where it is being compiled."""
    if torch.compiler.is_compiling():
        _operator(query, key, high, low, mask, scale)
    else:
        portable.accumulate(query, key, high, low, mask=mask, scale=scale)
