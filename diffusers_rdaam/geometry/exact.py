"""Numbers that do not depend on torch's global settings: default device and type, autocast."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def cpu_tensor(value: Any) -> Tensor:
    """Numbers that a user gives, as a tensor on the CPU in their own type.

    Floats of Python are float64: torch would round them to its default type.

    Args:
        value: a tensor, an array, or lists of numbers.

    Raises:
        TypeError, ValueError, RuntimeError: it is none of these.
    """
    if isinstance(value, Tensor):
        return value.detach().cpu()
    array = np.asarray(value)
    if array.dtype == object:
        # Lists of tensors.
        return torch.as_tensor(value, device="cpu")
    # A copy: arrays may be read-only or run backwards, as a flipped one does.
    return torch.from_numpy(array.copy())


def in_full_precision(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Keep a function's products as they are under ``torch.autocast``, which would round them."""

    @wraps(function)
    def called(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Result:
        if not torch.is_autocast_enabled("cpu"):
            return function(*arguments, **options)
        with torch.autocast("cpu", enabled=False):
            return function(*arguments, **options)

    return called
