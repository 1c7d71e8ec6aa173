"""Tell the user something before an expensive run starts."""

from __future__ import annotations

import logging
import sys
from typing import Any

_logger = logging.getLogger("diffusers_rdaam")


def tell(text: str, pipe: Any = None) -> None:
    """Write a line to standard error, where a pipeline's progress bar is: unless that is off."""
    _logger.info(text)
    if not getattr(pipe, "_progress_bar_config", {}).get("disable", False):
        print(text, file=sys.stderr)
