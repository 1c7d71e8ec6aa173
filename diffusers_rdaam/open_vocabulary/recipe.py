"""MapRecipe: how logits of queries and keys become one map for each token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusers_rdaam.errors import InputError

Activation = str | Callable[[Tensor], Tensor] | None
Aggregation = str | Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda values: values,
    # The tokens' axis is the third from the end wherever there is one.
    "softmax": partial(torch.softmax, dim=-3),
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid+relu": lambda values: torch.relu(2 * torch.sigmoid(values) - 1),
    "clamp": lambda values: values.clamp(0, 1),
}
AGGREGATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda values: values.mean(dim=0),
    "sum": lambda values: values.sum(dim=0),
    "max": lambda values: values.amax(dim=0),
}
INTERPOLATIONS = ("bicubic", "bilinear", "nearest")


@dataclass(frozen=True)
class MapRecipe:
    """The stages from logits ``(calls, heads, tokens, height, width)`` of each site to maps.

    An activation is one of ``ACTIVATIONS``, None for ``"linear"``, or a function of a tensor of the
    same shape; ``"softmax"`` is over the tokens of the text. An aggregation is ``"mean"``,
    ``"sum"``, ``"max"`` or a function that takes away the first axis.

    Args:
        activation: activation of the logits.
        over_calls: aggregation over the denoiser calls.
        head_activation: activation of ``(heads, tokens, height, width)``.
        over_heads: aggregation over the heads.
        interpolation: with which the maps of all sites come to one size.
        over_sites: aggregation over the sites.
        map_activation: activation of ``(tokens, height, width)``.
        enlargement: with which these come to the size that was asked for.

    Raises:
        InputError: a name is unknown.
    """

    activation: Activation = "softmax"
    over_calls: Aggregation = "mean"
    head_activation: Activation = None
    over_heads: Aggregation = "mean"
    interpolation: str = "bicubic"
    over_sites: Aggregation = "mean"
    map_activation: Activation = None
    enlargement: str = "bicubic"

    def __post_init__(self) -> None:
        for name in ("activation", "head_activation", "map_activation"):
            _check(name, getattr(self, name) or "linear", ACTIVATIONS)
        for name in ("over_calls", "over_heads", "over_sites"):
            _check(name, getattr(self, name), AGGREGATIONS)
        for name in ("interpolation", "enlargement"):
            _check(name, getattr(self, name), dict.fromkeys(INTERPOLATIONS, None))

    @property
    def streams(self) -> bool:
        """True if calls can be added up one by one."""
        named = self.activation is None or isinstance(self.activation, str)
        return named and self.over_calls in ("mean", "sum")


def _check(name: str, given: Any, choices: dict[str, Any]) -> None:
    if not (callable(given) or (isinstance(given, str) and given in choices)):
        names = ", ".join(repr(choice) for choice in choices)
        function = "" if None in choices.values() else ", or a function"
        raise InputError(
            f"{given!r} is not a valid {name} of a recipe. Give one of {names}{function}."
        )


def activate(given: Activation, values: Tensor) -> Tensor:
    """Apply an activation; the shape stays."""
    if given is None:
        return values
    return (ACTIVATIONS[given] if isinstance(given, str) else given)(values)


def aggregate(given: Aggregation, values: Tensor) -> Tensor:
    """Aggregate over the first axis.

    Raises:
        InputError: a function returns another shape.
    """
    if isinstance(given, str):
        return AGGREGATIONS[given](values)
    found = given(values)
    if not isinstance(found, Tensor) or found.shape != values.shape[1:]:
        came = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(
            f"An aggregation must take away the first axis of {tuple(values.shape)}; "
            f"{tuple(values.shape[1:])} was expected, the function returned {came}."
        )
    return found


def resized(maps: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """``(tokens, height, width)`` at another size; pixel centres aligned, no anti-aliasing."""
    if tuple(maps.shape[-2:]) == size:
        return maps
    options = {} if mode == "nearest" else {"align_corners": False}
    return F.interpolate(maps.unsqueeze(0), size, mode=mode, **options)[0]
