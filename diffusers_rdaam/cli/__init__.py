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
    model: Annotated[
        str | None,
        typer.Option(help="A diffusers folder or hub id; the embedded model if not given."),
    ] = None,
    box: BoxOption = None,
    word: Annotated[
        list[str] | None,
        typer.Option("--word", help="A word or phrase to draw; every word if none is given."),
    ] = None,
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
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, mps, …; the best there is if not given.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, float16 or bfloat16; by device if not given.")
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder for the files; those of an earlier run in it are removed."
        ),
    ] = Path("rdaam-out"),
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
    model: Annotated[
        str | None,
        typer.Option(help="A diffusers folder or hub id; the embedded model if not given."),
    ] = None,
    box: BoxOption = None,
    word: Annotated[
        list[str] | None,
        typer.Option("--word", help="A word or phrase to draw; every word if none is given."),
    ] = None,
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
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, mps, …; the best there is if not given.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, float16 or bfloat16; by device if not given.")
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder for the files; those of an earlier run in it are removed."
        ),
    ] = Path("rdaam-out"),
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
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the heat map to this PNG.")
    ] = None,
    output_format: FormatOption = Format.text,
) -> None:
    """Where a word of a saved attribution is."""
    with reporting(output_format.value) as report:
        from diffusers_rdaam.cli.queries import ask_word

        ask_word(file, word, occurrence, threshold, out, report)


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
    output_format: FormatOption = Format.text,
) -> None:
    """One HTML page that shows saved attributions, side by side, without a server or a model."""
    with reporting(output_format.value) as report:
        from diffusers_rdaam.cli.view import ViewRequest, write_view

        request = ViewRequest(
            files=files, out=out, opens=open_page, title=title, kept=kept, large=large
        )
        write_view(request, report)


@app.command()
def daam(
    prompt: Annotated[str, typer.Argument(help="What to generate; - for a prompt a line.")],
    model: Annotated[
        str | None,
        typer.Option(help="A diffusers folder or hub id; the embedded model if not given."),
    ] = None,
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
        )
        run_daam(request, report)


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
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, mps, …; the best there is if not given.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, float16 or bfloat16; by device if not given.")
    ] = None,
    output_format: FormatOption = Format.text,
) -> None:
    """Serve a page to generate, watch, point and ask in (extra app)."""
    with reporting(output_format.value) as report:
        from diffusers_rdaam.cli.serve import AppRequest, serve

        serve(AppRequest(model, host, port, files, device, dtype), report)


@app.command()
def env(output_format: FormatOption = Format.text) -> None:
    """Versions, devices, the kernel that would record, and the embedded model."""
    with reporting(output_format.value) as report:
        from diffusers_rdaam.cli.environment import describe

        describe(report)
