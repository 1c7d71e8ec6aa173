"""``rdaam daam``: the files that the ``daam`` command of castorini/daam writes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from diffusers_rdaam.checkpoints.failures import explained_run
from diffusers_rdaam.cli.folder import OutputFolder
from diffusers_rdaam.cli.generate import report_removed
from diffusers_rdaam.cli.models import check_device, find_model, load_pipeline
from diffusers_rdaam.cli.options import check_steps, check_texts, check_threshold, check_words
from diffusers_rdaam.cli.report import Report
from diffusers_rdaam.compat.daam import (
    GenerationExperiment,
    MeanEvaluator,
    cconj_prompts,
    coco_prompts,
    compute_token_merge_indices,
    evaluate_experiments,
    template_prompts,
    trace,
    unreal_prompts,
)
from diffusers_rdaam.compat.daam.masks import read_annotations, read_masks
from diffusers_rdaam.compat.daam.prompt_sets import seed_of
from diffusers_rdaam.errors import InputError, NoAttributionError, WordError

_FILES = (
    *("output.png", "prompt.txt", "seed.txt", "generation.safetensors", "annotations.json"),
    *("*.heat_map.png", "*.pred.png", "*.gt.png"),
)
ACTIONS = ("prompt", "stdin", "coco", "coco-unreal", "template", "cconj", "regenerate")
# The name of predicted masks, as DAAM's evaluation looks for it.
_MASKS = "daam"


@dataclass(frozen=True)
class DaamRequest:
    """The options of ``rdaam daam``; None is "the model's own".

    Args:
        prompt: "-" for one prompt a line from standard input; None where the action makes them.
        action: one of :data:`ACTIONS`; None is what the prompt says.
        input_folder: of COCO's captions, or of experiments to make again.
        data_file: words for the places of ``template``.
        masks: the threshold of predicted masks to write; None writes none.
        truth_only: make only those experiments again that have a truth mask.
    """

    prompt: str | None
    model: str | None
    out: Path
    seed: int
    random_seed: bool
    steps: int
    low_memory: bool
    all_heads: bool
    word: str | None
    device: str | None
    action: str | None = None
    input_folder: Path = Path("input")
    limit: int = 1000
    template: str = "{numeral} {noun}"
    data_file: Path = Path("template.tsv")
    seed_offset: int = 0
    truth_only: bool = False
    masks: float | None = None


@dataclass(frozen=True)
class _Row:
    """An image to make: its folder, prompt and seed, and where its truth masks are, if anywhere."""

    name: str
    prompt: str
    seed: int
    source: Path | None = None


def run_daam(request: DaamRequest, report: Report) -> None:
    """Generate and write ``output.png``, the maps, and a picture a word, for each prompt.

    Raises:
        InputError: the model, device or folder is wrong, or there is no prompt.
        WordError: the prompt does not have the word.
    """
    rows = _rows(request)
    for row in rows:
        check_texts([("PROMPT", row.prompt), ("--word", request.word)])
        check_words(row.prompt, [] if request.word is None else [request.word])
    if request.masks is not None:
        check_threshold(request.masks)
    device = request.device
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device)
    model = find_model(request.model)
    check_steps(request.steps, model.most_steps())
    numbered = (f"{row.name}/{file}" for row in rows if row.name != "." for file in _FILES)
    folder = OutputFolder(request.out, (*_FILES, *numbered))
    pipe = load_pipeline(model, device, None)
    if request.word is not None:
        for row in rows:
            compute_token_merge_indices(pipe.tokenizer, row.prompt, request.word)
    report_removed(folder, report)
    experiments = []
    for row in rows:
        with folder.scratch() as scratch:
            _generate(pipe, row, replace(request, out=scratch))
            folder.adopt(scratch)
        place = request.out / row.name
        report.say(f"{place / 'output.png'} (seed {row.seed})")
        experiments.append({"prompt": row.prompt, "seed": row.seed, "folder": str(place)})
    report.add(experiments=experiments)


def _rows(request: DaamRequest) -> list[_Row]:
    """What to make, in order.

    Raises:
        InputError: there is no prompt, no such action, or a file of the action is missing.
    """
    action = request.action or ("stdin" if request.prompt == "-" else "prompt")
    if action not in ACTIONS:
        raise InputError(f"--action {action!r} is not known. Actions: {', '.join(ACTIONS)}.")
    if action == "regenerate":
        return list(_again(request))
    numbered = action in ("template", "cconj")
    rows = []
    for name, text in _prompts(request, action)[: request.limit]:
        seed = seed_of(name, request.seed_offset) if numbered else request.seed
        if request.random_seed:
            seed = time.time_ns() % 2**32
        # Pictures are named after words, and a full stop is no part of one.
        rows.append(_Row(name, text.replace(",", " ,").replace(".", " .").strip(), seed))
    return rows


def _prompts(request: DaamRequest, action: str) -> list[tuple[str, str]]:
    options: dict[str, Any] = {"limit": request.limit, "seed": request.seed}
    if action == "coco":
        return coco_prompts(request.input_folder, **options)
    if action == "coco-unreal":
        return unreal_prompts(request.input_folder, _tagger(), **options)
    if action == "template":
        return template_prompts(request.data_file, request.template, **options)
    if action == "cconj":
        return cconj_prompts(**options)
    if action == "stdin":
        return list(_lines())
    if request.prompt is None:
        raise InputError("There is no prompt. Give one, or --action with a set of prompts.")
    return [(".", request.prompt)]


def _tagger() -> Any:
    """A spaCy pipeline for English, where one is installed.

    Raises:
        InputError: spaCy or its model is not installed.
    """
    try:
        import spacy

        for name in ("en_core_web_md", "en_core_web_sm", "en_core_web_lg"):
            with suppress(OSError):
                return spacy.load(name)
    except ImportError:
        pass
    raise InputError(
        "--action coco-unreal needs spaCy, which finds the parts of speech of words. Install it "
        'with: pip install "diffusers_rdaam[nlp]", and an English model of it with: python -m '
        "spacy download en_core_web_sm"
    )


def _again(request: DaamRequest) -> Iterator[_Row]:
    """The experiments of a folder, from their prompts and seeds."""
    root = request.input_folder
    if not root.is_dir():
        raise InputError(f"There is no folder {root}. Give --input-folder with experiments.")
    if root.resolve() == request.out.resolve():
        raise InputError("--input-folder and --output-folder are the same; give another one.")
    found = [path for path in sorted(root.iterdir()) if (path / "prompt.txt").is_file()]
    if request.truth_only:
        found = [path for path in found if GenerationExperiment.contains_truth_mask(path)]
    if not found:
        raise InputError(f"{root} has no experiment, <id>/prompt.txt, to make again.")
    for path in found[: request.limit]:
        seed = GenerationExperiment.read_seed(path)
        yield _Row(path.name, GenerationExperiment.read_prompt(path), seed, path)


def _lines() -> Iterator[tuple[str, str]]:
    try:
        lines = [line.strip() for line in sys.stdin or ()]
    except UnicodeDecodeError as error:
        raise InputError(f"Standard input is not valid text: {error}. Give UTF-8.") from error
    if not any(lines):
        raise InputError("Standard input has no prompt. Give one a line, or one as the argument.")
    for number, line in enumerate(lines):
        if line:
            yield str(number), line


def _generate(pipe: Any, row: _Row, request: DaamRequest) -> None:
    prompt, seed = row.prompt, row.seed
    generator = torch.Generator("cpu").manual_seed(seed)
    with trace(pipe, low_memory=request.low_memory) as tracer, explained_run(pipe):
        pipe(prompt, num_inference_steps=request.steps, generator=generator)
    experiment = tracer.to_experiment(request.out, seed=seed, id=row.name)
    if row.source is not None:
        experiment.truth_masks = read_masks(row.source, ".gt.png")
        experiment.annotations = read_annotations(row.source)
    experiment.save(heat_maps=request.word is None)
    if request.word is not None:
        experiment.save_heat_map(request.word)
    if request.masks is not None:
        _save_masks(experiment, prompt, request)
    if request.all_heads:
        words = [request.word] if request.word is not None else list(dict.fromkeys(prompt.split()))
        for part, prefix in _heads(tracer, experiment):
            for word in words:
                # Behind the text encoder's last position, as in save().
                with suppress(WordError):
                    part.save_heat_map(word, output_prefix=prefix)


def _save_masks(experiment: GenerationExperiment, prompt: str, request: DaamRequest) -> None:
    """The mask of each word, its map over the threshold, as ``<word>.daam.pred.png``."""
    heat_map = experiment.heat_map()
    words = [request.word] if request.word is not None else list(dict.fromkeys(prompt.split()))
    for word in words:
        # Behind the text encoder's last position, as in save().
        with suppress(WordError):
            found = heat_map.compute_word_heat_map(word)
            mask = found.expand_as(experiment.image, threshold=request.masks)
            experiment.save_prediction_mask(mask, word, _MASKS)


def _heads(
    tracer: trace, experiment: GenerationExperiment
) -> Iterator[tuple[GenerationExperiment, str]]:
    """An experiment of each layer and head alone, and what its files begin with."""
    for layer, name in enumerate(tracer.layer_names):
        for head in sorted(tracer.all_heat_maps.heads()):
            # Not every layer has as many heads.
            with suppress(NoAttributionError):
                part = tracer.to_experiment(experiment.path or ".", layer_idx=layer, head_idx=head)
                yield part, f"l{layer}-{name}-h{head}-"


def evaluate_daam(report: Report, **options: Any) -> None:
    """Score the predicted masks of a folder, and say how many words had none.

    Raises:
        InputError: an option is wrong, or there is nothing to score.
    """
    found = evaluate_experiments(**options)
    report.say(str(found))
    report.add(mean_iou=found.mean_iou, images=found.images, words=found.words)
    report.add(missing=found.missing)
    if isinstance(found.evaluator, MeanEvaluator):
        report.say(f"with 0 for words without a prediction: {found.strict_mean_iou:.4f} mIoU")
        report.add(strict_mean_iou=found.strict_mean_iou, ci95=found.evaluator.ci95_miou)
        report.add(mean_intensity=found.evaluator.mean_intensity)
