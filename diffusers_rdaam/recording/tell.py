"""Tell the user something before an expensive run starts."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Any

from tqdm.auto import tqdm

_logger = logging.getLogger("diffusers_rdaam")


def tell(text: str, pipe: Any = None) -> None:
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
