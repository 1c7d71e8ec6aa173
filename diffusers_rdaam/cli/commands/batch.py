"""``rdaam batch``: a data set of many prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffusers_rdaam.cli.commands import parameters
from diffusers_rdaam.cli.report import reporting


def batch(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="JSONL, CSV, TSV, Parquet, text, COCO's captions, or a data set on disk.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the data set.")] = Path(
        "rdaam-batch"
    ),
    model: parameters.ModelOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what is in the folder.")
    ] = False,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column", metavar="NAME=COLUMN", help="A column's name in the input; again for more."
        ),
    ] = None,
    ignore_columns: Annotated[
        bool, typer.Option("--ignore-columns", help="Leave columns of other names out.")
    ] = False,
    input_format: Annotated[
        str | None,
        typer.Option(help="jsonl, csv, tsv, parquet, text, json or dataset; by the ending."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of a data set on disk.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images of COCO's captions.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes, each with a pipeline.")] = 1,
    gpus_per_worker: Annotated[
        float, typer.Option(min=0.0, help="A fraction shares one GPU.")
    ] = 0.0,
    address: Annotated[
        str | None, typer.Option(help="Of a cluster of Ray; one on this machine if not given.")
    ] = None,
    ray: Annotated[
        bool | None,
        typer.Option(
            "--ray/--no-ray",
            help="Workers on Ray, or this process alone, as embedded models do by default.",
        ),
    ] = None,
    retries: Annotated[
        int, typer.Option(min=0, help="Of a row after a failure that is not of its fields.")
    ] = 2,
    steps: parameters.StepsOption = None,
    guidance_scale: parameters.GuidanceOption = None,
    height: Annotated[int | None, typer.Option(help="Of rows without a size, in pixels.")] = None,
    width: Annotated[int | None, typer.Option(help="Of rows without a size, in pixels.")] = None,
    seed: Annotated[int, parameters.seed_option(help="Of row 0; each further one adds 1.")] = 0,
    method: Annotated[
        str, typer.Option(help="forward or invert, for rows with an image.")
    ] = "forward",
    noise: Annotated[
        list[float] | None,
        typer.Option("--noise", help="A level of noise for rows with an image; may be repeated."),
    ] = None,
    rows_per_file: Annotated[
        int | None, typer.Option(min=1, help="Of the Parquet files; by the number of rows.")
    ] = None,
    folder: Annotated[
        bool, typer.Option("--folder", help="Images and attributions as files as well.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads of a worker.")] = 1,
    device: parameters.DeviceOption = None,
    dtype: parameters.DtypeOption = None,
    output_format: parameters.FormatOption = parameters.Format.text,
) -> None:
    """Make a data set of many prompts: images, attributions, words and masks."""
    with reporting(output_format.value) as report:
        from diffusers_rdaam.cli.batch import BatchRequest, run

        options = {
            "resume": resume,
            "ignore_columns": ignore_columns,
            "input_format": input_format,
            "split": split,
            "images": images,
            "workers": workers,
            "gpus_per_worker": gpus_per_worker,
            "address": address,
            "use_ray": ray,
            "retries": retries,
        }
        settings = {
            "steps": steps,
            "guidance_scale": guidance_scale,
            "height": height,
            "width": width,
            "seed": seed,
            "image_options": {"method": method, **({"noise": tuple(noise)} if noise else {})},
            "rows_per_file": rows_per_file,
            "folder": folder,
            "threads": threads,
            "device": device,
            "dtype": dtype,
        }
        run(BatchRequest(source, out, model, column or [], settings, options), report)
