"""The output of a verb: text as it comes, or one JSON object at the end; an error is one line.

The exit status is 0 where all was done, 2 where something that was given is wrong, 1 where the run
failed, 130 after an interrupt.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import typer

from diffusers_rdaam.errors import InputError, RDAAMError, RDAAMWarning, UnsupportedPipelineError

FAILED, USAGE, INTERRUPTED = 1, 2, 130
# Shows the whole traceback of an error that is not one of this package.
TRACEBACK = "RDAAM_TRACEBACK"
_LONGEST = 2000


class Report:
    """Collects a verb's results.

    Args:
        form: ``"text"`` or ``"json"``.
    """

    def __init__(self, form: str) -> None:
        self.form = form
        self.results: dict[str, Any] = {}
        self.warnings: list[dict[str, str]] = []
        self.unheard = False

    def say(self, text: str) -> None:
        """Print a line, in text form only."""
        if self.form == "text":
            self._write(text)

    def add(self, **results: Any) -> None:
        """Add fields to the JSON object."""
        self.results |= results

    def warn(self, message: Warning | str, category: type[Warning]) -> None:
        """Keep a warning of the package, once, and print it in text form."""
        entry = {"class": category.__name__, "text": str(message)}
        if entry not in self.warnings:
            self.warnings.append(entry)
            if self.form == "text":
                _to_stderr(f"warning: {message}")

    def close(self) -> None:
        """Print the JSON object, where that is the form."""
        if self.form == "json":
            self._write(json_text(self.results | {"warnings": self.warnings}))

    def _write(self, text: str) -> None:
        """To stdout; what is written goes on when nobody listens any more."""
        if self.unheard:
            return
        try:
            typer.echo(text)
        except BrokenPipeError:
            self.unheard = True
            # What is still buffered would fail again at exit.
            with suppress(OSError, ValueError, AttributeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def json_text(results: dict[str, Any]) -> str:
    """One JSON object."""
    return json.dumps(results, indent=2, ensure_ascii=False, default=str)


def print_json(results: dict[str, Any]) -> None:
    """One JSON object on stdout, where there is one."""
    with suppress(OSError):
        typer.echo(json_text(results))


@contextmanager
def reporting(form: str) -> Iterator[Report]:
    """A :class:`Report` for one verb; warnings are plain lines, an error is one line."""
    report = Report(form)
    # Read when these libraries are imported, which is in the block.
    for library in ("TRANSFORMERS", "DIFFUSERS", "HF_HUB"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")

    def keep(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, RDAAMWarning):
            report.warn(message, category)

    status = 0
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.simplefilter("always", RDAAMWarning)
        warnings.showwarning = keep
        try:
            yield report
        except KeyboardInterrupt as error:
            status = INTERRUPTED
            _failed(report, error, "interrupted")
        except RDAAMError as error:
            status = USAGE if isinstance(error, (InputError, UnsupportedPipelineError)) else FAILED
            _failed(report, error, str(error))
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            # Whatever a library raises, a user of a command is told in a line.
            status = FAILED
            _failed(report, error, _unexpected(error))
            if os.environ.get(TRACEBACK):
                traceback.print_exc()
    try:
        report.close()
    except OSError as error:
        status = status or FAILED
        _to_stderr(f"error: the results could not be printed: {error.strerror or error}")
    if status or report.unheard:
        raise typer.Exit(status or FAILED)


def _failed(report: Report, error: BaseException, text: str) -> None:
    half = _LONGEST // 2
    if len(text) > _LONGEST:
        # A prompt, a path or a word may be of any length.
        text = f"{text[:half]} … {text[-half:]}"
    report.add(error=text, error_class=type(error).__name__)
    _to_stderr(f"error: {text}")


def _unexpected(error: Exception) -> str:
    lines = str(error).strip().splitlines() or ["no reason is given"]
    return (
        f"{type(error).__name__}: {lines[0][:500]} (This is not an error of the command's input; "
        f"{TRACEBACK}=1 in the environment shows where it comes from.)"
    )


def _to_stderr(text: str) -> None:
    with suppress(OSError):
        typer.echo(text, err=True)
