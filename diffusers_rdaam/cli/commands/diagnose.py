"""``rdaam env`` and ``doctor``: what is installed here, and whether recording is right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffusers_rdaam.cli.commands import parameters
from diffusers_rdaam.cli.report import reporting


def env(
    pipelines: Annotated[
        bool, typer.Option("--pipelines", help="List the classes that can be recorded.")
    ] = False,
    output_format: parameters.FormatOption = parameters.Format.text,
) -> None:
    """Versions, devices, the kernel that would record, and the embedded model."""
    with reporting(output_format.value) as report:
        from diffusers_rdaam.cli.environment import describe

        describe(report, pipelines=pipelines)


def doctor(
    model: Annotated[
        str | None,
        typer.Option(
            help="A diffusers folder or hub id to examine; the embedded models if not given."
        ),
    ] = None,
    prompt: Annotated[str, typer.Option(help="What is generated.")] = "a cat next to a red ball",
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps of each run.")] = 2,
    image: Annotated[
        Path | None,
        typer.Option(
            help="What the pipeline begins from, as a picture; one is drawn if not given."
        ),
    ] = None,
    control_image: Annotated[
        Path | None, typer.Option(help="What a ControlNet or a pose reads, as a picture.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="A picture that is white where the image is painted anew.")
    ] = None,
    height: parameters.SideOption = None,
    width: parameters.SideOption = None,
    device: parameters.DeviceOption = None,
    dtype: parameters.DtypeOption = None,
    offload: Annotated[
        bool, typer.Option("--offload", help="Keep on the GPU only the part that computes.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write a report in Markdown to this file.")
    ] = None,
    output_format: parameters.FormatOption = parameters.Format.text,
) -> None:
    """Check that recording is right here: same image, right maps, and what it costs.

    Every check compares a recorded run with a stock one of the same seed, and recorded maps with
    attention that is computed in double precision from the stock run's own queries and keys.

    A picture, mask or video that the pipeline needs and that is not given is drawn. A video has the
    picture in each of its frames.
    """
    with reporting(output_format.value) as report:
        from diffusers_rdaam.cli.doctor import DoctorRequest, run_doctor

        request = DoctorRequest(
            model=model,
            prompt=prompt,
            steps=steps,
            height=height,
            width=width,
            device=device,
            dtype=dtype,
            offload=offload,
            out=out,
            image=image,
            control_image=control_image,
            mask=mask,
        )
        run_doctor(request, report)
