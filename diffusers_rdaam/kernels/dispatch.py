"""Chooses the kernel that adds a site's probabilities to the accumulator, and says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.kernels import operator, reference
from diffusers_rdaam.kernels.planes import add_to_planes
from diffusers_rdaam.shapes import AttentionMask, Key, Plane, Query

Backend = Literal["auto", "portable", "reference"]


@dataclass(frozen=True)
class Choice:
    """A backend's name, the function, and one sentence on why it was taken."""

    name: str
    accumulate: Callable[..., None]
    reason: str


def _accumulate_reference(
    query: Query,
    key: Key,
    high: Plane,
    low: Plane | None,
    *,
    mask: AttentionMask | None = None,
    scale: float,
) -> None:
    mask = None if mask is None else mask.double()
    query, key = query.double(), key.double()
    if high.ndim == 4:
        maps = reference.attention_probabilities(query, key, mask=mask, scale=scale).mT
    else:
        maps = reference.head_mean_probabilities(query, key, mask=mask, scale=scale)
    add_to_planes(maps.float(), high, low)


def choose(backend: Backend = "auto", *, device: torch.device | None = None) -> Choice:
    """The kernel for ``backend`` on ``device``.

    ``"auto"`` takes the fastest that leaves the image bit-identical. A fused kernel joins here: one
    more branch that asks for its device, type and head size, and falls back with a reason.

    Raises:
        InputError: ``backend`` is none of the known ones.
    """
    where = f" on {device.type}" if device is not None else ""
    if backend == "reference":
        return Choice("reference", _accumulate_reference, "asked for: float64, materialised")
    if backend == "portable":
        return Choice("portable", operator.accumulate, f"asked for{where}")
    if backend == "auto":
        reason = f"tiles of image positions; no fused kernel is built in{where}"
        return Choice("portable", operator.accumulate, reason)
    choices = ", ".join(repr(name) for name in get_args(Backend))
    raise InputError(f"{backend!r} is not a backend. Backends: {choices}.")
