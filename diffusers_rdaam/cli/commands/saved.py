"""``rdaam region``, ``word`` and ``view``: questions to saved attributions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffusers_rdaam.cli.commands import parameters
from diffusers_rdaam.cli.report import reporting


def region(
    file: parameters.FileArgument,
    box: parameters.BoxOption = None,
    ranking: parameters.RankingOption = parameters.Ranking.lift,
    output_format: parameters.FormatOption = parameters.Format.text,
) -> None:
    """Which words made a box of a saved attribution."""
    with reporting(output_format.value) as report:
        from diffusers_rdaam.cli.queries import ask_regions

        ask_regions(file, box or [], ranking.value, report)


def word(
    file: parameters.FileArgument,
    word: Annotated[str, typer.Argument(help="A word or phrase of the prompt.")],
    occurrence: Annotated[
        int | None, typer.Option(min=0, help="Which one, from 0, where the word repeats.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="For the box, on the map stretched to 0 to 1; that of this kind of map by default."
        ),
    ] = None,
    aggregation: parameters.AggregationOption = "mean",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the heat map to this PNG.")
    ] = None,
    output_format: parameters.FormatOption = parameters.Format.text,
) -> None:
    """Where a word of a saved attribution is."""
    with reporting(output_format.value) as report:
        from diffusers_rdaam.cli.queries import ask_word

        ask_word(file, word, occurrence, aggregation, threshold, out, report)


def view(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Attribution files (.safetensors).")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The page (.html); named after the first file if not given."
        ),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Show it in a browser.")] = False,
    title: Annotated[str | None, typer.Option(help="Of the page; the prompt if not given.")] = None,
    kept: Annotated[
        bool,
        typer.Option(
            "--kept/--no-kept",
            help="Single steps, layers, refined maps and self-attention, where they were kept.",
        ),
    ] = True,
    large: Annotated[bool, typer.Option("--large", help="Also where it has over 50 MB.")] = False,
    annotate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS",
            help="Instead a page to draw boxes and points of this class in, over the image of one "
            "file; may be repeated. Or demo, voc20, coco80, or a .json of names.",
        ),
    ] = None,
    output_format: parameters.FormatOption = parameters.Format.text,
) -> None:
    """One HTML page that shows saved attributions, side by side, without a server or a model."""
    with reporting(output_format.value) as report:
        from diffusers_rdaam.cli.view import ViewRequest, write_view

        request = ViewRequest(
            files=files,
            out=out,
            opens=open_page,
            title=title,
            kept=kept,
            large=large,
            annotate=annotate or [],
        )
        write_view(request, report)
