"""Warn at the line of the user's that called the package."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

_PACKAGE = __name__.partition(".")[0]


def warn_caller(text: str, category: type[Warning]) -> None:
    """Warn as if from the nearest line outside of the package, however deep the call is."""
    frame: FrameType | None = sys._getframe(1)
    level = 2
    while frame is not None and _is_of_package(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
        level += 1
    warnings.warn(text, category, stacklevel=level)


def _is_of_package(module: str) -> bool:
    return module == _PACKAGE or module.startswith(f"{_PACKAGE}.")
