"""rdaam's logging set-up."""

from __future__ import annotations

import logging
import sys
from pathlib import Path


def setup_logger(
    name: str,
    level: int = logging.INFO,
    log_file: str | Path | None = None,
    console: bool = True,
) -> logging.Logger:
    """A logger that writes to standard output, to a file, or to both.

    Where it has handlers already only its level is set, so that lines are not written twice.
    """
    logger = logging.getLogger(name)
    logger.setLevel(level)
    if logger.handlers:
        return logger
    form = logging.Formatter(
        "%(asctime)s - %(name)s - %(levelname)s - %(message)s", datefmt="%Y-%m-%d %H:%M:%S"
    )
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)] if console else []
    if log_file is not None:
        handlers.append(logging.FileHandler(log_file, encoding="utf-8"))
    for handler in handlers:
        handler.setLevel(level)
        handler.setFormatter(form)
        logger.addHandler(handler)
    return logger
