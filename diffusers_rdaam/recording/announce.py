"""Messages to the user: the memory cost before a run, and warnings about its results."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

_logger = logging.getLogger("diffusers_rdaam")


def print_line(text: str, pipe: Any = None) -> None:
    """Write a line to standard error, next to the progress bar, unless that is switched off."""
    _logger.info(text)
    if not any(config.get("disable") for config in _bar_configs(pipe)):
        # A plain line would be written into the bar.
        tqdm.write(text, file=sys.stderr)


def _bar_configs(pipe: Any) -> Iterator[dict[str, Any]]:
    """The settings of a pipeline's progress bar, or of those of a modular pipeline's blocks."""
    yield getattr(pipe, "_progress_bar_config", {})
    parts = getattr(getattr(pipe, "_blocks", pipe), "sub_blocks", {})
    for part in parts.values():
        yield from _bar_configs(part)


# Files of frames between the caller and this package: its own, and those of context managers.
_NOT_THE_CALLERS = (str(Path(__file__).parents[1]), "_contextlib.py", "contextlib.py")


def warn(text: str, category: type[Warning]) -> None:
    """Warn at the line where the user's code called this package, at any depth of the stack."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_inside(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)


def _is_inside(filename: str) -> bool:
    return filename.startswith(_NOT_THE_CALLERS[0]) or filename.endswith(_NOT_THE_CALLERS[1:])
