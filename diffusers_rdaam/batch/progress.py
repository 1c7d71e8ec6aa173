"""The progress of a batch: rows, rows a second and the time that is left, on standard error."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

# Seconds between two looks at the folder, and between two lines where nobody looks at a terminal.
_LOOK = 0.5
_LINE = 30.0


@contextmanager
def showing(total: int, ready: Callable[[], int], *, shown: bool) -> Iterator[None]:
    """A bar of the rows that are ready, while the block runs.

    Workers are other processes, on other machines: their files say how far they are.

    Args:
        total: of all rows.
        ready: how many there are now.
        shown: False for no bar.
    """
    if not shown:
        yield
        return
    ended = threading.Event()
    every = 0.1 if sys.stderr.isatty() else _LINE
    with tqdm(total=total, initial=ready(), unit="row", mininterval=every, smoothing=0.05) as bar:

        def look() -> None:
            while not ended.wait(_LOOK):
                bar.update(max(0, ready() - bar.n))

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            bar.update(max(0, ready() - bar.n))
