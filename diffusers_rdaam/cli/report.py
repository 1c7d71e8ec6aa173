"""What a verb prints: text as it comes, or one JSON object at the end; an error is one line."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from diffusers_rdaam.errors import RDAAMError, RDAAMWarning


class Report:
    """Collects a verb's results.

    Args:
        form: ``"text"`` or ``"json"``.
    """

    def __init__(self, form: str) -> None:
        self.form = form
        self.results: dict[str, Any] = {}

    def say(self, text: str) -> None:
        """Print a line, in text form only."""
        if self.form == "text":
            typer.echo(text)

    def add(self, **results: Any) -> None:
        """Add fields to the JSON object."""
        self.results |= results


@contextmanager
def reporting(form: str) -> Iterator[Report]:
    """A :class:`Report` for one verb; warnings are plain lines, our errors one line and exit 2."""
    report = Report(form)
    told: list[str] = []

    def tell(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, RDAAMWarning):
            told.append(str(message))
            typer.echo(f"warning: {message}", err=True)

    failure: RDAAMError | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.simplefilter("always", RDAAMWarning)
        warnings.showwarning = tell
        try:
            yield report
        except RDAAMError as error:
            failure = error
    if failure is not None:
        typer.echo(f"error: {failure}", err=True)
        report.add(error=str(failure))
    if form == "json":
        json.dump(report.results | {"warnings": told}, sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
    if failure is not None:
        raise typer.Exit(2)
