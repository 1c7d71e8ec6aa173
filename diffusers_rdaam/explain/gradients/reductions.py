"""How a gradient becomes one number: over the entries of a token, a word, or a pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor

from diffusers_rdaam.errors import InputError

PixelMethod = Literal["grad_x_input", "max_grad", "min_grad", "mean_grad"]
Method = Literal["grad_x_input", "max_grad", "min_grad", "mean_grad", "integrated_gradients"]


def check_method(method: str, choices: object = Method, name: str = "method") -> None:
    """Refuse the name of a method that is not there.

    Args:
        method: the name that the user gave.
        choices: the literal type with the names that there are.
        name: what the argument is called in the error.

    Raises:
        InputError: there is no such method; the text lists those that there are.
    """
    known = get_args(choices)
    if method not in known:
        raise InputError(
            f"{method!r} is not a {name}. Choices: {', '.join(repr(choice) for choice in known)}."
        )


def reduce_entries(method: Method, gradient: Tensor, value: Tensor) -> Tensor:
    """One number over the last axis.

    * ``grad_x_input``: the Euclidean norm of gradient times input;
    * ``max_grad``, ``min_grad``, ``mean_grad``: of the gradient's absolute values;
    * ``integrated_gradients``: the sum of gradient times input, with its sign.

    Args:
        gradient: ``(..., entries)``; for integrated gradients the mean along the path.
        value: the same shape; for integrated gradients the input less the baseline.
    """
    if method == "grad_x_input":
        return (gradient * value).norm(dim=-1)
    if method == "integrated_gradients":
        return (gradient * value).sum(dim=-1)
    sizes = gradient.abs()
    if method == "mean_grad":
        return sizes.mean(dim=-1)
    return sizes.amax(dim=-1) if method == "max_grad" else sizes.amin(dim=-1)


def combine(method: Method, scores: Sequence[float]) -> float:
    """The number over the entries of several tokens, from the number of each of them.

    It is what :func:`reduce_entries` gives for the tokens' entries in one row, so a word does not
    depend on how a tokenizer cuts it; 0 for no tokens.
    """
    if not scores:
        return 0.0
    if method == "grad_x_input":
        return math.hypot(*scores)
    if method == "integrated_gradients":
        return math.fsum(scores)
    if method == "mean_grad":
        return math.fsum(scores) / len(scores)
    return max(scores) if method == "max_grad" else min(scores)
