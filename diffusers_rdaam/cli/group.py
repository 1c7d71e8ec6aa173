"""The group of verbs: wrong usage, interrupts and closed pipes, said as every other error is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import typer
from typer.core import TyperGroup

from diffusers_rdaam.cli.report import INTERRUPTED, USAGE, print_json


class VerbGroup(TyperGroup):
    """A group whose errors are one line, and with ``--format json`` one object on stdout."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command; the exit status is 2 for wrong usage, 130 after an interrupt."""
        given = list(sys.argv[1:] if args is None else args)
        for stream in (sys.stdout, sys.stderr):
            # A terminal that lacks a character is no reason to lose the answer.
            with suppress(AttributeError, ValueError, OSError):
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # or not
        try:
            status = super().main(
                args=given,
                prog_name=prog_name,
                complete_var=complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )
        except typer.Abort:
            status = INTERRUPTED
        except Exception as error:
            if not hasattr(error, "format_message"):
                raise
            _say_usage(error, given)
            status = USAGE
        if standalone_mode:
            sys.exit(status if isinstance(status, int) else 0)
        return status


def _say_usage(error: Any, args: list[str]) -> None:
    message = error.format_message()
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "rdaam"
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return
    message = message.strip().replace("\n", " ").replace("?.", "?")[:2000]
    stop = "" if message.endswith((".", "?")) else "."
    typer.echo(f"error: {message}{stop} See: {path} --help", err=True)
    text = " ".join(args)
    if "--format json" in text or "--format=json" in text:
        print_json({"error": message, "error_class": type(error).__name__, "warnings": []})
