"""The libraries of the extra ``batch``, imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any

from diffusers_rdaam.errors import BatchExtraError

_CURE = 'pip install "diffusers_rdaam[batch]"'


def import_arrow(module: str = "pyarrow") -> Any:
    """pyarrow, or one of its modules.

    Raises:
        BatchExtraError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BatchExtraError(
            f"Batches need pyarrow, which cannot be imported here: {error}. Install it with: "
            f"{_CURE}"
        ) from error


def import_ray() -> Any:
    """Ray, with its module for data.

    Raises:
        BatchExtraError: it is not installed.
    """
    try:
        importlib.import_module("ray.data")
        return importlib.import_module("ray")
    except ImportError as error:
        raise BatchExtraError(
            f"Several workers need Ray, which cannot be imported here: {error}. Run in one process "
            f"with --no-ray (use_ray=False), or install it with: {_CURE}"
        ) from error
