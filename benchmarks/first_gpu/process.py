"""A command in a process of its own, bounded in time; its output is kept, however it ends."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# After an abort, in which Python's faulthandler writes where each thread is, a process is killed.
GRACE = 5.0
TAIL_LINES, TAIL_LETTERS = 30, 4000


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Args:
        seconds: of wall time that it took.
        status: its exit status, or minus the signal that ended it; None if it did not start.
        timed_out: whether it was ended because its time was over.
        error: why it did not start.
    """

    seconds: float
    status: int | None
    timed_out: bool = False
    error: str = ""

    @property
    def text(self) -> str:
        """``"exit status 3"``, ``"ended by SIGSEGV"``, ``"over its limit"``."""
        if self.status is None:
            return f"did not start: {self.error}"
        if self.timed_out:
            return f"over its limit, ended after {self.seconds:.0f} s"
        if self.status < 0:
            return f"ended by {signal.Signals(-self.status).name}"
        return f"exit status {self.status}"


def run(
    arguments: Sequence[str],
    *,
    folder: Path,
    log: Path,
    environment: Mapping[str, str],
    limit: float,
) -> Ended:
    """Run a command; its output and errors go to ``log`` as they come.

    Processes that it has started and left are killed at the end, also where this function is
    interrupted: they would hold the device.

    Args:
        arguments: the program and its arguments.
        folder: where it runs.
        log: a file, overwritten.
        environment: all of its variables.
        limit: seconds after which it is ended.
    """
    start = time.monotonic()
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                arguments,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A group of its own, so that what it starts is ended with it.
                start_new_session=True,
                preexec_fn=_without_core_dump,
            )
        except OSError as error:
            return Ended(time.monotonic() - start, None, error=str(error))
        timed_out = False
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            timed_out = True
            _signal(process, signal.SIGABRT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        finally:
            _signal(process, signal.SIGKILL)
            status = process.wait()
    return Ended(time.monotonic() - start, status, timed_out)


def _without_core_dump() -> None:
    """A process that is aborted with the device's memory mapped would write all of it to disk."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to the process and to all of its group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def tail(log: Path) -> str:
    """The last lines of an output; empty where there is none."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - TAIL_LETTERS))
        text = file.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-TAIL_LINES:])
