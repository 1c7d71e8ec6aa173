"""The backward pass: gradients of several values from one graph, watched for what is not finite."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diffusers_rdaam.errors import GradientError

# A gradient of float16 that overflows is computed again from a value that is so much smaller.
_SMALLER = 2.0**-5
_SCALES = 4


class Watch:
    """Which denoiser calls were given a gradient that is not finite."""

    def __init__(self) -> None:
        self.bad: set[int] = set()
        self.on = True

    def see(self, index: int, gradient: Tensor) -> None:
        """Look at the gradient that comes to the output of a call."""
        if self.on and not is_finite(gradient):
            self.bad.add(index)


def differentiate(
    values: list[Tensor],
    leaves: dict[str, Tensor],
    watch: Watch,
    why: Callable[[float], str],
) -> list[dict[str, Tensor]]:
    """The gradients of each value, in float32 or wider.

    All values go one way back together, which computes what is checkpointed only once; where that
    cannot be done, or is not finite, they go one by one.

    Args:
        values: scalars of one graph.
        leaves: by name; one that does not count gets zeros.
        watch: which the graph's hooks report to.
        why: the error's text, given the smallest scale of the values that was tried.

    Raises:
        GradientError: they are not finite.
    """
    found = _together(values, leaves, watch) if len(values) > 1 else None
    if found is not None:
        return found
    keep = [True] * (len(values) - 1) + [False]
    return [
        _alone(value, leaves, watch, why, keep=more)
        for value, more in zip(values, keep, strict=True)
    ]


def _together(
    values: list[Tensor], leaves: dict[str, Tensor], watch: Watch
) -> list[dict[str, Tensor]] | None:
    stacked = torch.stack(values)
    # What is batched has no truth of its own to look at.
    watch.on = False
    each = torch.eye(len(values), dtype=stacked.dtype, device=stacked.device)
    try:
        found = _gradients(stacked, leaves, each, keep=True)
    except RuntimeError as error:
        # Not every operation can be batched on its way back.
        if "vmap" not in str(error) and "atching rule" not in str(error):
            raise
        return None
    finally:
        watch.on = True
    if not all(is_finite(gradient) for gradient in found.values()):
        return None
    return [
        {name: _wide(gradient[index]) for name, gradient in found.items()}
        for index in range(len(values))
    ]


def _alone(
    value: Tensor,
    leaves: dict[str, Tensor],
    watch: Watch,
    why: Callable[[float], str],
    *,
    keep: bool,
) -> dict[str, Tensor]:
    half = any(leaf.dtype == torch.float16 for leaf in leaves.values())
    scales = [_SMALLER**power for power in range(_SCALES if half else 1)]
    for scale in scales:
        watch.bad.clear()
        again = keep or scale != scales[-1]
        found = _gradients(value * scale, leaves, None, keep=again)
        if all(is_finite(gradient) for gradient in found.values()):
            return {name: _wide(gradient) / scale for name, gradient in found.items()}
    raise GradientError(why(scales[-1]))


def _gradients(
    values: Tensor, leaves: dict[str, Tensor], directions: Tensor | None, *, keep: bool
) -> dict[str, Tensor]:
    found = torch.autograd.grad(
        values,
        list(leaves.values()),
        directions,
        retain_graph=keep,
        allow_unused=True,
        is_grads_batched=directions is not None,
    )
    batch = () if directions is None else (len(directions),)
    return {
        name: leaf.new_zeros(batch + leaf.shape) if gradient is None else gradient
        for (name, leaf), gradient in zip(leaves.items(), found, strict=True)
    }


def _wide(gradient: Tensor) -> Tensor:
    return gradient.float() if gradient.dtype.itemsize < 4 else gradient


def is_finite(values: Tensor) -> bool:
    """True if all values are finite."""
    return bool(values.isfinite().all())
