"""``rdaam segment`` and ``optimize-tokens``: data sets of images with masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffusers_rdaam.cli.commands import parameters
from diffusers_rdaam.cli.report import reporting


def segment(
    prompts: Annotated[
        Path | None,
        typer.Argument(help="A file with a prompt a line, or .jsonl with prompt, id and seed."),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            help="A class; may be given again. Or demo, voc20, coco80, or a .json file of names "
            "with their words in prompts.",
        ),
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, help="Images of each class, where there is no file of prompts.")
    ] = 1,
    template: Annotated[
        str, typer.Option(help="Of the prompts of classes; {} is the class.")
    ] = "a photo of a {}",
    model: parameters.ModelOption = None,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder of the data set; one that was begun goes on."),
    ] = Path("rdaam-segments"),
    export: Annotated[
        list[str] | None, typer.Option("--export", help="coco or voc; may be given again.")
    ] = None,
    refine: Annotated[
        str, typer.Option(help="Of the maps: none, guided (the image's edges), self, self+guided.")
    ] = "guided",
    crf: Annotated[str, typer.Option(help="none, soft or ovam; needs the extra crf.")] = "none",
    background: Annotated[
        float | None,
        typer.Option(help="Attn2Mask's beta; where maps reach their thresholds if not given."),
    ] = None,
    margin: Annotated[
        float, typer.Option(help="Pixels less certain than this are 255 in masks, to be ignored.")
    ] = 0.0,
    tokens: Annotated[
        str | None,
        typer.Option(
            help="A folder of tokens that rdaam optimize-tokens wrote; demo for those of the "
            "embedded Stable Diffusion."
        ),
    ] = None,
    areas: Annotated[
        str, typer.Option(help="Percentiles of a class's area to keep, or all.")
    ] = "5,95",
    clip: Annotated[
        str | None, typer.Option(help="A CLIP model's folder or hub id, to rank images by.")
    ] = None,
    clip_percentile: Annotated[
        float, typer.Option(help="Of a class's CLIP scores; what is below is dropped.")
    ] = 25.0,
    per_class: Annotated[
        str | None, typer.Option(help="Images kept of each class, or least.")
    ] = None,
    validation: Annotated[float, typer.Option(help="Share of images in VOC's val.txt.")] = 0.1,
    seed: Annotated[
        int, typer.Option(min=0, max=2**63, help="Of the first image; each next one's is 1 more.")
    ] = 0,
    steps: parameters.StepsOption = None,
    guidance_scale: parameters.GuidanceOption = None,
    height: parameters.SideOption = None,
    width: parameters.SideOption = None,
    device: parameters.DeviceOption = None,
    dtype: parameters.DtypeOption = None,
    output_format: parameters.FormatOption = parameters.Format.text,
) -> None:
    """Make a data set of images with masks from prompts, and export it as COCO and VOC."""
    with reporting(output_format.value) as report:
        from diffusers_rdaam.cli.segment import SegmentRequest, make_data_set

        request = SegmentRequest(
            prompts=prompts,
            classes=classes or [],
            count=count,
            template=template,
            model=model,
            out=out,
            formats=export or [],
            refine=refine,
            crf=crf,
            background=background,
            margin=margin,
            tokens=tokens,
            areas=areas,
            clip=clip,
            clip_percentile=clip_percentile,
            per_class=per_class,
            validation=validation,
            seed=seed,
            steps=steps,
            guidance_scale=guidance_scale,
            height=height,
            width=width,
            device=device,
            dtype=dtype,
        )
        make_data_set(request, report)


def optimize_tokens(
    data: Annotated[
        Path | None,
        typer.Option(
            help="A folder of rdaam segment; the embedded model needs none. In its masks a pixel's "
            "number is its class, and 255 counts neither as a class nor as background."
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", help="A class, as in rdaam segment; those of --data by default."),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Of each class, at most.")] = 1,
    model: parameters.ModelOption = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the tokens, a file for each class.")
    ] = Path("rdaam-tokens"),
    iterations: Annotated[int, typer.Option(min=1, help="Of gradient descent.")] = 800,
    learning_rate: Annotated[float, typer.Option(help="Of the first iteration.")] = 100.0,
    step_size: Annotated[
        int, typer.Option(min=1, help="Iterations after which the rate falls.")
    ] = 120,
    gamma: Annotated[float, typer.Option(help="What the rate is multiplied by then.")] = 0.7,
    every: Annotated[
        int, typer.Option(min=1, help="Of the denoiser's calls, every so-many-th is fitted to.")
    ] = 1,
    seed: Annotated[
        int, typer.Option(min=0, max=2**63, help="Of the embedded model's first image.")
    ] = 0,
    steps: parameters.StepsOption = None,
    guidance_scale: parameters.GuidanceOption = None,
    device: parameters.DeviceOption = None,
    dtype: parameters.DtypeOption = None,
    output_format: parameters.FormatOption = parameters.Format.text,
) -> None:
    """Fit a token to each class of a data set with masks, for rdaam segment --tokens."""
    with reporting(output_format.value) as report:
        from diffusers_rdaam.cli.optimize_tokens import TokensRequest, make_tokens

        request = TokensRequest(
            data=data,
            classes=classes or [],
            images=images,
            model=model,
            out=out,
            iterations=iterations,
            learning_rate=learning_rate,
            step_size=step_size,
            gamma=gamma,
            every=every,
            seed=seed,
            steps=steps,
            guidance_scale=guidance_scale,
            device=device,
            dtype=dtype,
        )
        make_tokens(request, report)
