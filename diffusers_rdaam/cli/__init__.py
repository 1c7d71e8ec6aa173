"""The command ``rdaam``. Models are imported inside the verbs, so that help is there at once.

Exit status: 0 done, 1 the run failed, 2 something that was given is wrong, 130 interrupted.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from diffusers_rdaam.cli.group import VerbGroup
from diffusers_rdaam.cli.report import reporting

app = typer.Typer(
    help="Which words made this region of a generated image, and which regions this word made.",
    epilog="Exit status: 0 done, 1 failed, 2 something given is wrong, 130 interrupted.",
    cls=VerbGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
MOST_SEED = 2**64 - 1


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


def _print_version(wanted: bool) -> None:
    if wanted:
        from diffusers_rdaam import __version__

        typer.echo(f"rdaam {__version__}")
        raise typer.Exit


@app.callback()
def rdaam(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Which words made this region of a generated image, and which regions this word made."""


@app.command()
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
        typer.Option(
            min=0, max=MOST_SEED, metavar="0..2**64-1", help="Drawn and printed if not given."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.")] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="Classifier-free guidance; the model's own default.")
    ] = None,
    height: Annotated[int | None, typer.Option(help="In pixels; the model's own size.")] = None,
    width: Annotated[int | None, typer.Option(help="In pixels; the model's own size.")] = None,
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


@app.command()
def image(
    file: Annotated[Path, typer.Argument(help="The image, such as photo.png.")],
    prompt: Annotated[str, typer.Argument(help="A text that describes it.")],
    model: ModelOption = None,
    box: BoxOption = None,
    word: WordOption = None,
    aggregation: AggregationOption = "mean",
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
    seed: Annotated[
        int, typer.Option(min=0, max=MOST_SEED, metavar="0..2**64-1", help="Of the noise.")
    ] = 0,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    out: OutOption = Path("rdaam-out"),
    ranking: RankingOption = Ranking.lift,
    output_format: FormatOption = Format.text,
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


@app.command()
def region(
    file: FileArgument,
    box: BoxOption = None,
    ranking: RankingOption = Ranking.lift,
    output_format: FormatOption = Format.text,
) -> None:
    """Which words made a box of a saved attribution."""
    with reporting(output_format.value) as report:
        from diffusers_rdaam.cli.queries import ask_regions

        ask_regions(file, box or [], ranking.value, report)


@app.command()
def word(
    file: FileArgument,
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
    aggregation: AggregationOption = "mean",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the heat map to this PNG.")
    ] = None,
    output_format: FormatOption = Format.text,
) -> None:
    """Where a word of a saved attribution is."""
    with reporting(output_format.value) as report:
        from diffusers_rdaam.cli.queries import ask_word

        ask_word(file, word, occurrence, aggregation, threshold, out, report)


@app.command()
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
    output_format: FormatOption = Format.text,
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


@app.command()
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
    model: ModelOption = None,
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
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.")] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="Classifier-free guidance; the model's own default.")
    ] = None,
    height: Annotated[int | None, typer.Option(help="Of rows without a size, in pixels.")] = None,
    width: Annotated[int | None, typer.Option(help="Of rows without a size, in pixels.")] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0, max=MOST_SEED, metavar="0..2**64-1", help="Of row 0; each further one adds 1."
        ),
    ] = 0,
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
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    output_format: FormatOption = Format.text,
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


@app.command()
def daam(
    prompt: Annotated[
        str | None, typer.Argument(help="What to generate; - for a prompt a line.")
    ] = None,
    model: ModelOption = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", "--output-folder", help="Folder for the files.")
    ] = Path(),
    seed: Annotated[
        int,
        typer.Option(
            "--seed", "-s", min=0, max=MOST_SEED, metavar="0..2**64-1", help="Of the noise."
        ),
    ] = 0,
    random_seed: Annotated[bool, typer.Option("--random-seed", help="Draw the seed.")] = False,
    steps: Annotated[
        int, typer.Option("--num-timesteps", "-n", min=1, help="Denoising steps.")
    ] = 30,
    low_memory: Annotated[
        bool, typer.Option("--low-memory", help="Only the first layer of each block.")
    ] = False,
    all_heads: Annotated[
        bool, typer.Option("--all-heads", help="A picture for each word, layer and head.")
    ] = False,
    word: Annotated[str | None, typer.Option(help="Draw this word or phrase alone.")] = None,
    action: Annotated[
        str | None,
        typer.Option(
            help="prompt, stdin, coco, coco-unreal, template, cconj, or regenerate what is in "
            "--input-folder."
        ),
    ] = None,
    input_folder: Annotated[
        Path,
        typer.Option("--input-folder", "-i", help="Of captions_val2014.json, or of experiments."),
    ] = Path("input"),
    gen_limit: Annotated[int, typer.Option(min=1, help="Images at most.")] = 1000,
    template: Annotated[str, typer.Option(help="Words, and places such as {noun}.")] = (
        "{numeral} {noun}"
    ),
    template_data_file: Annotated[
        Path,
        typer.Option("--template-data-file", "-tdf", help="Tab-separated, with pos and word."),
    ] = Path("template.tsv"),
    seed_offset: Annotated[
        int, typer.Option(min=0, help="Is added to the seeds of template and cconj.")
    ] = 0,
    truth_only: Annotated[
        bool, typer.Option("--truth-only", help="Regenerate only what has a truth mask.")
    ] = False,
    masks: Annotated[
        float | None,
        typer.Option(help="Also write each word's mask over this threshold; DAAM's is 0.4."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, …; the GPU if there is one.")
    ] = None,
    output_format: FormatOption = Format.text,
) -> None:
    """Generate, and write the files that the command of castorini/daam writes."""
    with reporting(output_format.value) as report:
        from diffusers_rdaam.cli.daam import DaamRequest, run_daam

        request = DaamRequest(
            prompt=prompt,
            model=model,
            out=out,
            seed=seed,
            random_seed=random_seed,
            steps=steps,
            low_memory=low_memory,
            all_heads=all_heads,
            word=word,
            device=device,
            action=action,
            input_folder=input_folder,
            limit=gen_limit,
            template=template,
            data_file=template_data_file,
            seed_offset=seed_offset,
            truth_only=truth_only,
            masks=masks,
        )
        run_daam(request, report)


@app.command("daam-evaluate")
def daam_evaluate(
    input_folder: Annotated[
        Path, typer.Option("--input-folder", "-i", help="Has a folder for each image.")
    ],
    pred_prefix: Annotated[
        str, typer.Option("--pred-prefix", "-p", help="Of the predicted masks.")
    ] = "daam",
    mask_type: Annotated[
        str, typer.Option("--mask-type", "-m", help="word or composite.")
    ] = "word",
    eval_type: Annotated[
        str, typer.Option("--eval-type", "-e", help="labeled, unlabeled or hungarian.")
    ] = "labeled",
    restrict_set: Annotated[
        str, typer.Option("--restrict-set", "-r", help="none, coco27 or coco80.")
    ] = "none",
    subtype: Annotated[str, typer.Option("--subtype", "-st", help="A folder within.")] = ".",
    output_format: FormatOption = Format.text,
) -> None:
    """Score predicted masks with the measures of castorini/daam's evaluation."""
    with reporting(output_format.value) as report:
        from diffusers_rdaam.cli.daam import evaluate_daam

        evaluate_daam(
            report,
            input_folder=input_folder,
            pred_prefix=pred_prefix,
            mask_type=mask_type,
            eval_type=eval_type,
            restrict_set=restrict_set,
            subtype=subtype,
        )


@app.command()
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
    model: ModelOption = None,
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
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.")] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="Classifier-free guidance; the model's own default.")
    ] = None,
    height: Annotated[int | None, typer.Option(help="In pixels; the model's own size.")] = None,
    width: Annotated[int | None, typer.Option(help="In pixels; the model's own size.")] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    output_format: FormatOption = Format.text,
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


@app.command("optimize-tokens")
def optimize_tokens(
    data: Annotated[
        Path | None,
        typer.Option(help="A folder of rdaam segment; the embedded model needs none."),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", help="A class, as in rdaam segment; those of --data by default."),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Of each class, at most.")] = 1,
    model: ModelOption = None,
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
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.")] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="Classifier-free guidance; the model's own default.")
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    output_format: FormatOption = Format.text,
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


@app.command("app")
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
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    output_format: FormatOption = Format.text,
) -> None:
    """Serve a page to generate, watch, point and ask in (extra app)."""
    with reporting(output_format.value) as report:
        from diffusers_rdaam.cli.serve import AppRequest, serve

        serve(AppRequest(model, host, port, files, device, dtype), report)


@app.command()
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
    model: ModelOption = None,
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
    seed: Annotated[
        int, typer.Option(min=0, max=MOST_SEED, metavar="0..2**64-1", help="Of the noise.")
    ] = 0,
    gallery: Annotated[
        int, typer.Option(min=0, help="How many best and worst images gallery.html shows.")
    ] = 0,
    listing: Annotated[
        bool, typer.Option("--list", help="List protocols and formats, and do nothing else.")
    ] = False,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder of the rows and the report; a run in it is continued."
        ),
    ] = Path("rdaam-evaluation"),
    output_format: FormatOption = Format.text,
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


@app.command()
def env(
    pipelines: Annotated[
        bool, typer.Option("--pipelines", help="List the classes that can be recorded.")
    ] = False,
    output_format: FormatOption = Format.text,
) -> None:
    """Versions, devices, the kernel that would record, and the embedded model."""
    with reporting(output_format.value) as report:
        from diffusers_rdaam.cli.environment import describe

        describe(report, pipelines=pipelines)


@app.command()
def doctor(
    model: Annotated[
        str | None,
        typer.Option(
            help="A diffusers folder or hub id to examine; the embedded models if not given."
        ),
    ] = None,
    prompt: Annotated[str, typer.Option(help="What is generated.")] = "a cat next to a red ball",
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps of each run.")] = 2,
    height: Annotated[int | None, typer.Option(help="In pixels; the model's own size.")] = None,
    width: Annotated[int | None, typer.Option(help="In pixels; the model's own size.")] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    offload: Annotated[
        bool, typer.Option("--offload", help="Keep on the GPU only the part that computes.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write a report in Markdown to this file.")
    ] = None,
    output_format: FormatOption = Format.text,
) -> None:
    """Check that recording is right here: same image, right maps, and what it costs.

    Every check compares a recorded run with a stock one of the same seed, and recorded maps with
    attention that is computed in double precision from the stock run's own queries and keys.
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
        )
        run_doctor(request, report)
