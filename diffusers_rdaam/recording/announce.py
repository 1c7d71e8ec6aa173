"""Tell the user something: before an expensive run starts, or of what it lacks."""

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
    """Write a line to standard error, where a pipeline's progress bar is: unless that is off."""
    _logger.info(text)
    if not any(config.get("disable") for config in _bar_configs(pipe)):
        # The bar is there already; a plain line would be written behind it.
        tqdm.write(text, file=sys.stderr)


def _bar_configs(pipe: Any) -> Iterator[dict[str, Any]]:
    """Of a pipeline, or of all blocks of a modular one."""
    yield getattr(pipe, "_progress_bar_config", {})
    parts = getattr(getattr(pipe, "_blocks", pipe), "sub_blocks", {})
    for part in parts.values():
        yield from _bar_configs(part)


# What may lie between a caller and this package: decorators of torch, and context managers.
_NOT_THE_CALLERS = (str(Path(__file__).parents[1]), "_contextlib.py", "contextlib.py")


def warn(text: str, category: type[Warning]) -> None:
    """Warn where the user's code called this package, however deep below that this is."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_inside(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)


def _is_inside(filename: str) -> bool:
    return filename.startswith(_NOT_THE_CALLERS[0]) or filename.endswith(_NOT_THE_CALLERS[1:])
