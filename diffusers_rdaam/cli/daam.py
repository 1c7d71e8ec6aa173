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

from diffusers_rdaam.cli.folder import OutputFolder
from diffusers_rdaam.cli.generate import report_removed
from diffusers_rdaam.cli.models import check_device, find_model, load_pipeline
from diffusers_rdaam.cli.options import check_steps, check_texts, check_words
from diffusers_rdaam.cli.report import Report
from diffusers_rdaam.compat.daam import (
    GenerationExperiment,
    compute_token_merge_indices,
    trace,
)
from diffusers_rdaam.errors import InputError, NoAttributionError, WordError

_FILES = ("output.png", "prompt.txt", "seed.txt", "generation.safetensors", "*.heat_map.png")


@dataclass(frozen=True)
class DaamRequest:
    """The options of ``rdaam daam``; None is "the model's own".

    ``prompt`` is "-" for one prompt a line from standard input.
    """

    prompt: str
    model: str | None
    out: Path
    seed: int
    random_seed: bool
    steps: int
    low_memory: bool
    all_heads: bool
    word: str | None
    device: str | None


def run_daam(request: DaamRequest, report: Report) -> None:
    """Generate and write ``output.png``, the maps, and a picture a word, for each prompt.

    Raises:
        InputError: the model, device or folder is wrong, or there is no prompt.
        WordError: the prompt does not have the word.
    """
    # Pictures are named after words, and a full stop is no part of one.
    prompts = [
        (name, text.replace(",", " ,").replace(".", " .").strip())
        for name, text in _prompts(request)
    ]
    for _, prompt in prompts:
        check_texts([("PROMPT", prompt), ("--word", request.word)])
        check_words(prompt, [] if request.word is None else [request.word])
    device = request.device
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device)
    model = find_model(request.model)
    check_steps(request.steps, model.most_steps())
    numbered = (f"{name}/{file}" for name, _ in prompts if name != "." for file in _FILES)
    folder = OutputFolder(request.out, (*_FILES, *numbered))
    pipe = load_pipeline(model, device, None)
    if request.word is not None:
        for _, prompt in prompts:
            compute_token_merge_indices(pipe.tokenizer, prompt, request.word)
    report_removed(folder, report)
    experiments = []
    for name, prompt in prompts:
        seed = time.time_ns() % 2**32 if request.random_seed else request.seed
        with folder.scratch() as scratch:
            _generate(pipe, prompt, name, seed, replace(request, out=scratch))
            folder.adopt(scratch)
        place = request.out / name
        report.say(f"{place / 'output.png'} (seed {seed})")
        experiments.append({"prompt": prompt, "seed": seed, "folder": str(place)})
    report.add(experiments=experiments)


def _prompts(request: DaamRequest) -> Iterator[tuple[str, str]]:
    if request.prompt != "-":
        yield ".", request.prompt
        return
    try:
        lines = [line.strip() for line in sys.stdin or ()]
    except UnicodeDecodeError as error:
        raise InputError(f"Standard input is not valid text: {error}. Give UTF-8.") from error
    if not any(lines):
        raise InputError("Standard input has no prompt. Give one a line, or one as the argument.")
    for number, line in enumerate(lines):
        if line:
            yield str(number), line


def _generate(pipe: Any, prompt: str, name: str, seed: int, request: DaamRequest) -> None:
    generator = torch.Generator("cpu").manual_seed(seed)
    with trace(pipe, low_memory=request.low_memory) as tracer:
        pipe(prompt, num_inference_steps=request.steps, generator=generator)
    experiment = tracer.to_experiment(request.out, seed=seed, id=name)
    experiment.save(heat_maps=request.word is None)
    if request.word is not None:
        experiment.save_heat_map(request.word)
    if request.all_heads:
        words = [request.word] if request.word is not None else list(dict.fromkeys(prompt.split()))
        for part, prefix in _heads(tracer, experiment):
            for word in words:
                # Behind the text encoder's last position, as in save().
                with suppress(WordError):
                    part.save_heat_map(word, output_prefix=prefix)


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
