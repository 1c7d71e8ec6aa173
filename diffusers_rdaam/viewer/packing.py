"""Maps as text for a page: 16 bits a value, deflated, in base64.

A column's values lie between its lowest and its highest in 65535 even steps: the error is at most a
130000th of the column's range, which half floats with as many bits reach near zero alone. Of each
value the difference to the one before is written, first the upper bytes of all and then the lower,
so that what is smooth becomes small.
"""

from __future__ import annotations

import base64
import zlib

import numpy as np

LEVELS = 65535
# Bytes of text for each value, at most: 2 bytes that did not get smaller, 4 characters for 3 bytes.
BYTES_A_CELL = 2 * 4 / 3
_EFFORT = 6


def packed(maps: np.ndarray) -> str:
    """Maps ``(columns, height, width)`` as base64 text.

    Values that are not finite become 0. Its bytes are a zlib stream: for each column the lowest
    value and the size of a step (float32, little-endian), then the upper bytes of all differences,
    then the lower bytes.
    """
    flat = np.ascontiguousarray(maps, dtype=np.float32).reshape(len(maps), -1)
    # Of a file that somebody has damaged: one such value would spoil its whole column.
    flat = np.nan_to_num(flat, nan=0.0, posinf=0.0, neginf=0.0)
    low = flat.min(axis=1).astype(np.float64)
    step = ((flat.max(axis=1).astype(np.float64) - low) / LEVELS).astype("<f4")
    low = low.astype("<f4")
    divisor = np.where(step > 0.0, step, 1.0).astype(np.float64)
    scaled = (flat - low[:, None].astype(np.float64)) / divisor[:, None]
    levels = scaled.round().clip(0, LEVELS).astype(np.uint16).ravel()
    # Unsigned numbers wrap around, here and where the page adds them up.
    differences = np.diff(levels, prepend=np.uint16(0)).astype(np.uint16)
    head = np.stack([low, step], axis=1).astype("<f4").tobytes()
    upper, lower = (differences >> 8).astype(np.uint8), (differences & 255).astype(np.uint8)
    raw = head + upper.tobytes() + lower.tobytes()
    return base64.b64encode(zlib.compress(raw, _EFFORT)).decode("ascii")
