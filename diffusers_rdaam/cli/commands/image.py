"""``rdaam image``: the words of an image that exists."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffusers_rdaam.cli.commands import parameters
from diffusers_rdaam.cli.report import reporting


def image(
    file: Annotated[Path, typer.Argument(help="The image, such as photo.png.")],
    prompt: Annotated[str, typer.Argument(help="A text that describes it.")],
    model: parameters.ModelOption = None,
    box: parameters.BoxOption = None,
    word: parameters.WordOption = None,
    aggregation: parameters.AggregationOption = "mean",
    method: Annotated[
        str, typer.Option(help="forward (noise the image) or invert (to noise and back).")
    ] = "forward",
    noise: Annotated[
        list[float] | None,
        typer.Option(
            "--noise", help="A level of noise over 0 and under 1; may be given again. [forward]"
        ),
    ] = None,
    draws: Annotated[int, typer.Option(help="Of noise at each level. [forward]")] = 2,
    steps: Annotated[int, typer.Option(help="To the noise, and as many back. [invert]")] = 20,
    solver: Annotated[
        str, typer.Option(help="fireflow, fixed_point or euler. [invert]")
    ] = "fireflow",
    until: Annotated[float, typer.Option(help="The level of noise to go to. [invert]")] = 0.7,
    height: Annotated[int | None, typer.Option(help="In pixels; the image's own.")] = None,
    width: Annotated[int | None, typer.Option(help="In pixels; the image's own.")] = None,
    seed: parameters.NoiseSeedOption = 0,
    device: parameters.DeviceOption = None,
    dtype: parameters.DtypeOption = None,
    out: parameters.OutOption = Path("rdaam-out"),
    ranking: parameters.RankingOption = parameters.Ranking.lift,
    output_format: parameters.FormatOption = parameters.Format.text,
) -> None:
    """Rank the words of boxes of an image that exists, and draw where words are in it.

    Boxes are in pixels of the file.
    """
    with reporting(output_format.value) as report:
        from diffusers_rdaam.cli.image import ImageFileRequest, attribute_file

        request = ImageFileRequest(
            file=file,
            prompt=prompt,
            model=model,
            boxes=box or [],
            words=word or [],
            aggregation=aggregation,
            options={
                "method": method,
                "draws": draws,
                "steps": steps,
                "solver": solver,
                "until": until,
                **({"noise": tuple(noise)} if noise else {}),
            },
            height=height,
            width=width,
            seed=seed,
            device=device,
            dtype=dtype,
            out=out,
            ranking=ranking.value,
        )
        attribute_file(request, report)
