"""``rdaam generate``: an image, and what its words made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffusers_rdaam.cli.commands import parameters
from diffusers_rdaam.cli.report import reporting


def generate(
    prompt: Annotated[str, typer.Argument(help="What to generate.")],
    model: parameters.ModelOption = None,
    box: parameters.BoxOption = None,
    word: parameters.WordOption = None,
    aggregation: parameters.AggregationOption = "mean",
    timeline: Annotated[
        list[str] | None,
        typer.Option("--timeline", help="A word or phrase to draw step by step, also as a GIF."),
    ] = None,
    negative_prompt: Annotated[
        str | None, typer.Option(help="What not to generate; its words are ranked too.")
    ] = None,
    seed: Annotated[
        int | None, parameters.seed_option(help="Drawn and printed if not given.")
    ] = None,
    steps: parameters.StepsOption = None,
    guidance_scale: parameters.GuidanceOption = None,
    height: parameters.SideOption = None,
    width: parameters.SideOption = None,
    device: parameters.DeviceOption = None,
    dtype: parameters.DtypeOption = None,
    out: parameters.OutOption = Path("rdaam-out"),
    ranking: parameters.RankingOption = parameters.Ranking.lift,
    output_format: parameters.FormatOption = parameters.Format.text,
) -> None:
    """Generate an image, rank the words of boxes, draw where words are, keep the attribution."""
    with reporting(output_format.value) as report:
        from diffusers_rdaam.cli.generate import Request, run

        request = Request(
            prompt=prompt,
            model=model,
            boxes=box or [],
            words=word or [],
            aggregation=aggregation,
            timelines=timeline or [],
            negative_prompt=negative_prompt,
            seed=seed,
            steps=steps,
            guidance_scale=guidance_scale,
            height=height,
            width=width,
            device=device,
            dtype=dtype,
            out=out,
            ranking=ranking.value,
        )
        run(request, report)
