"""The command ``rdaam``. Models are imported inside the verbs, so that help is there at once.

Exit status: 0 done, 1 the run failed, 2 something that was given is wrong, 130 interrupted.
"""

from __future__ import annotations

from typing import Annotated

import typer

from diffusers_rdaam.cli.commands.batch import batch
from diffusers_rdaam.cli.commands.daam import daam, daam_evaluate
from diffusers_rdaam.cli.commands.diagnose import doctor, env
from diffusers_rdaam.cli.commands.evaluate import evaluate
from diffusers_rdaam.cli.commands.generate import generate
from diffusers_rdaam.cli.commands.image import image
from diffusers_rdaam.cli.commands.saved import region, view, word
from diffusers_rdaam.cli.commands.segment import optimize_tokens, segment
from diffusers_rdaam.cli.commands.serve import serve_app
from diffusers_rdaam.cli.group import VerbGroup

app = typer.Typer(
    help="Which words made this region of a generated image, and which regions this word made.",
    epilog="Exit status: 0 done, 1 failed, 2 something given is wrong, 130 interrupted.",
    cls=VerbGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from diffusers_rdaam import __version__

        typer.echo(f"rdaam {__version__}")
        raise typer.Exit


@app.callback()
def rdaam(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Which words made this region of a generated image, and which regions this word made."""


# In the order in which the help lists them.
for _name, _command in (
    ("generate", generate),
    ("image", image),
    ("region", region),
    ("word", word),
    ("view", view),
    ("batch", batch),
    ("daam", daam),
    ("daam-evaluate", daam_evaluate),
    ("segment", segment),
    ("optimize-tokens", optimize_tokens),
    ("app", serve_app),
    ("evaluate", evaluate),
    ("env", env),
    ("doctor", doctor),
):
    app.command(_name)(_command)
