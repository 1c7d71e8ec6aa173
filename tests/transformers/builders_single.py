"""Every case of this group: ``CASES`` has one function for each."""

from __future__ import annotations

from collections.abc import Callable

from dense_oracle import Case
from single_images import IMAGE_CASES

__all__ = ["CASES"]

CASES: dict[str, Callable[[], Case]] = {**IMAGE_CASES}
