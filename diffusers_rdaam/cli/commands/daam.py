"""``rdaam daam`` and ``daam-evaluate``: the commands of castorini/daam."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffusers_rdaam.cli.commands import parameters
from diffusers_rdaam.cli.report import reporting


def daam(
    prompt: Annotated[
        str | None, typer.Argument(help="What to generate; - for a prompt a line.")
    ] = None,
    model: parameters.ModelOption = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", "--output-folder", help="Folder for the files.")
    ] = Path(),
    seed: Annotated[int, parameters.seed_option("--seed", "-s", help="Of the noise.")] = 0,
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
    output_format: parameters.FormatOption = parameters.Format.text,
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
    output_format: parameters.FormatOption = parameters.Format.text,
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
