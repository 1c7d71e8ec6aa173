"""The options and arguments that several commands take: each with its name and help, once."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

_MOST_SEED = 2**64 - 1


class Format(str, Enum):
    """How results are printed."""

    text = "text"
    json = "json"


class Ranking(str, Enum):
    """What words of a region are ordered by."""

    lift = "lift"
    score = "score"
    share = "share"


FormatOption = Annotated[Format, typer.Option("--format", help="How results are printed.")]
RankingOption = Annotated[Ranking, typer.Option(help="What words of a region are ordered by.")]
BoxOption = Annotated[
    list[str] | None,
    typer.Option("--box", metavar="L,T,R,B", help="A box in pixels; may be given again."),
]
ModelOption = Annotated[
    str | None,
    typer.Option(help="A diffusers folder or hub id; the embedded model if not given."),
]
WordOption = Annotated[
    list[str] | None,
    typer.Option("--word", help="A word or phrase to draw; every word if none is given."),
]
DeviceOption = Annotated[
    str | None, typer.Option(help="cpu, cuda, mps, …; the best there is if not given.")
]
DtypeOption = Annotated[
    str | None, typer.Option(help="float32, float16 or bfloat16; by device if not given.")
]
OutOption = Annotated[
    Path,
    typer.Option(
        "--out", "-o", help="Folder for the files; those of an earlier run in it are removed."
    ),
]
AggregationOption = Annotated[
    str,
    typer.Option(
        "--aggregation", metavar="NAME", help="How the maps of words are made: mean, rms, refined …"
    ),
]
FileArgument = Annotated[Path, typer.Argument(help="An attribution file (.safetensors).")]
StepsOption = Annotated[int | None, typer.Option(min=1, help="Denoising steps.")]
GuidanceOption = Annotated[
    float | None, typer.Option(help="Classifier-free guidance; the model's own default.")
]
SideOption = Annotated[int | None, typer.Option(help="In pixels; the model's own size.")]


def seed_option(*names: str, help: str) -> Any:
    """The option of a seed that a generator of torch takes.

    Args:
        names: on the command line; the parameter's own if none is given.
        help: of what the seed is.
    """
    return typer.Option(*names, min=0, max=_MOST_SEED, metavar="0..2**64-1", help=help)


NoiseSeedOption = Annotated[int, seed_option(help="Of the noise.")]
