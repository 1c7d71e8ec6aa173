"""Steps: the parts of a check, each with its faults and its time, printed as they end."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Of a command that failed: the last lines, which say why.
_LAST_LINES = 12


class CommandError(Exception):
    """A command that a step needs has failed; its text has the command and its last lines."""


@dataclass(frozen=True)
class Step:
    """One part of a check that has ended.

    Args:
        name: what was checked.
        seconds: how long it took.
        faults: what is wrong, a line each; none where all is right.
    """

    name: str
    seconds: float
    faults: tuple[str, ...]


@dataclass
class Steps:
    """Runs steps one after another and keeps what they found."""

    done: list[Step] = field(default_factory=list)

    def run(self, name: str, check: Callable[[], Sequence[str]]) -> bool:
        """Run a check and print its line; True where it found no fault.

        Args:
            name: what is checked.
            check: gives the faults, or raises :class:`CommandError`.
        """
        print(f"…     {name}", flush=True)
        begun = time.perf_counter()
        try:
            faults = tuple(check())
        except CommandError as error:
            faults = (str(error),)
        step = Step(name, time.perf_counter() - begun, faults)
        self.done.append(step)
        print(line(step), flush=True)
        return not faults

    @property
    def passed(self) -> bool:
        """Whether no step found a fault."""
        return not any(step.faults for step in self.done)

    def summary(self) -> str:
        """All steps as a table, and the verdict."""
        lines = [line(step) for step in self.done]
        seconds = sum(step.seconds for step in self.done)
        failed = sum(bool(step.faults) for step in self.done)
        verdict = f"{failed} of {len(self.done)} steps failed" if failed else "All is right"
        return "\n".join([*lines, f"{verdict}, in {seconds:.0f} s."])


def line(step: Step) -> str:
    """One step: its verdict, its time, and its faults below it."""
    verdict = "FAIL" if step.faults else "ok"
    return "\n".join(
        [
            f"{verdict:<5} {step.name} ({step.seconds:.1f} s)",
            *(f"      {one}" for one in step.faults),
        ]
    )


def command(
    *arguments: str | Path, folder: Path | None = None, extra: Mapping[str, str] | None = None
) -> str:
    """Run a command and return what it printed.

    The environment is this process's without what would let the working tree be imported.

    Raises:
        CommandError: it is not there, or it ended with another status than 0.
    """
    words = [str(one) for one in arguments]
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    try:
        done = subprocess.run(
            words,
            cwd=folder,
            env=environment | dict(extra or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise CommandError(f"{words[0]} cannot be run: {error}") from error
    if done.returncode:
        last = "\n      ".join(done.stdout.strip().splitlines()[-_LAST_LINES:])
        raise CommandError(f"{' '.join(words)} ended with {done.returncode}:\n      {last}")
    return done.stdout
