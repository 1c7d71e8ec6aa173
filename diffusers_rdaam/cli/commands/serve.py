"""``rdaam app``: the served page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffusers_rdaam.cli.commands import parameters
from diffusers_rdaam.cli.report import reporting


def serve_app(
    model: Annotated[
        str | None,
        typer.Option(help="A diffusers folder or hub id; the embedded models if not given."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address; 127.0.0.1 is of this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="The first free one from 7860 if not given."),
    ] = None,
    files: Annotated[
        Path | None,
        typer.Option(
            help="A folder of attribution files to show; without --model no model is loaded."
        ),
    ] = None,
    device: parameters.DeviceOption = None,
    dtype: parameters.DtypeOption = None,
    output_format: parameters.FormatOption = parameters.Format.text,
) -> None:
    """Serve a page to generate, watch, point and ask in (extra app)."""
    with reporting(output_format.value) as report:
        from diffusers_rdaam.cli.serve import AppRequest, serve

        serve(AppRequest(model, host, port, files, device, dtype), report)
