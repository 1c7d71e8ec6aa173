"""``rdaam evaluate``: maps measured against masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffusers_rdaam.cli.commands import parameters
from diffusers_rdaam.cli.report import reporting


def evaluate(
    data: Annotated[
        str | None,
        typer.Argument(
            help="The folder of the data set; or drawn_scenes or generated_scenes, the embedded "
            "models' world."
        ),
    ] = None,
    data_format: Annotated[
        str, typer.Option("--data-format", help="Such as voc2012; --list names them all.")
    ] = "folder",
    split: Annotated[str | None, typer.Option(help="The format's usual one if not given.")] = None,
    protocol: Annotated[str, typer.Option(help="--list names them, with their flaws.")] = "daam",
    strict: Annotated[
        bool,
        typer.Option(
            "--strict/--as-published", help="The honest form, or that of the paper with its flaws."
        ),
    ] = True,
    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--maps",
            help="An aggregation, with settings as in 'rms, refine=product'; may be given again.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="Of the protocol, e.g. threshold=0.5."),
    ] = None,
    tune_on: Annotated[
        str | None, typer.Option("--tune-on", help="Choose the threshold on this other split.")
    ] = None,
    model: parameters.ModelOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first images.")] = None,
    source: Annotated[
        str, typer.Option(help="image, generate (from prompt and seed), or auto.")
    ] = "auto",
    noise: Annotated[
        list[float] | None,
        typer.Option("--noise", help="A level over 0 and under 1; the protocol's; repeatable."),
    ] = None,
    draws: Annotated[int | None, typer.Option(min=0, help="Of noise; the protocol's.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of generations.")] = None,
    seed: parameters.NoiseSeedOption = 0,
    gallery: Annotated[
        int, typer.Option(min=0, help="How many best and worst images gallery.html shows.")
    ] = 0,
    listing: Annotated[
        bool, typer.Option("--list", help="List protocols and formats, and do nothing else.")
    ] = False,
    device: parameters.DeviceOption = None,
    dtype: parameters.DtypeOption = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder of the rows and the report; a run in it is continued."
        ),
    ] = Path("rdaam-evaluation"),
    output_format: parameters.FormatOption = parameters.Format.text,
) -> None:
    """Measure maps against masks by a published protocol, with intervals; continue where it ended.

    Images that cannot be read are rows of the report.
    """
    with reporting(output_format.value) as report:
        from diffusers_rdaam.cli.evaluate import (
            EvaluationRequest,
            list_protocols,
            run_evaluation,
        )
        from diffusers_rdaam.errors import InputError

        if listing:
            list_protocols(report)
            return
        if data is None:
            raise InputError("The folder of the data set is missing; --list names the formats.")
        request = EvaluationRequest(
            data=data,
            format=data_format,
            split=split,
            tune_on=tune_on,
            protocol=protocol,
            strict=strict,
            maps=maps or [],
            options=option or [],
            model=model,
            limit=limit,
            source=source,
            noise=noise,
            draws=draws,
            seed=seed,
            steps=steps,
            gallery=gallery,
            device=device,
            dtype=dtype,
            out=out,
        )
        run_evaluation(request, report)
