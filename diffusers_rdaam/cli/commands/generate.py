"""``rdaam generate``: an image, and what its words made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffusers_rdaam.cli.commands.parameters import (
    AggregationOption,
    BoxOption,
    DeviceOption,
    DtypeOption,
    Format,
    FormatOption,
    GuidanceOption,
    ModelOption,
    OutOption,
    Ranking,
    RankingOption,
    SideOption,
    StepsOption,
    WordOption,
    seed_option,
)
from diffusers_rdaam.cli.report import reporting


def generate(
    prompt: Annotated[str, typer.Argument(help="What to generate.")],
    model: ModelOption = None,
    box: BoxOption = None,
    word: WordOption = None,
    aggregation: AggregationOption = "mean",
    timeline: Annotated[
        list[str] | None,
        typer.Option("--timeline", help="A word or phrase to draw step by step, also as a GIF."),
    ] = None,
    negative_prompt: Annotated[
        str | None, typer.Option(help="What not to generate; its words are ranked too.")
    ] = None,
    seed: Annotated[
        int | None,
        seed_option(help="Drawn and printed if not given."),
    ] = None,
    steps: StepsOption = None,
    guidance_scale: GuidanceOption = None,
    height: SideOption = None,
    width: SideOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    out: OutOption = Path("rdaam-out"),
    ranking: RankingOption = Ranking.lift,
    output_format: FormatOption = Format.text,
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
