"""How faithful attention and gradients are: against generation without each word.

Two-object prompts over pairs that training never showed together, on the embedded models; a box
around each object. Every explanation ranks the words of the box. What is right depends on what is
asked, so three references are held against it, all from generations in which the model does not see
one word: the change of the box over all words, the same over the words that name the objects, and
over all words the change of the box minus that of the rest of the image. With ``--full`` also the
area under the deletion curve, for which words are taken away best first. Scenes that are done stay
in ``out/faithfulness``, so that a run that was ended goes on where it was.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.embedded_model import bounding_box
from benchmarks.header import header, markdown_header
from benchmarks.report import Row
from benchmarks.table import Table
from benchmarks.truth.models import NAMES, Model, model_of
from benchmarks.truth.scenes import masks_of
from diffusers_rdaam import RDAAMProcessor
from diffusers_rdaam.demo.world import held_out_prompts
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.explain.ablations.ablation import explain_ablation, measure
from diffusers_rdaam.explain.ablations.deletion import Deletion
from diffusers_rdaam.explain.compare import rank_correlation
from diffusers_rdaam.explain.gradients.gradient_words import GradientWords
from diffusers_rdaam.explain.gradients.reductions import PixelMethod, reduce_entries
from diffusers_rdaam.explain.gradients.regeneration import (
    GradientOptions,
    GradientRegeneration,
    entries_last,
)
from diffusers_rdaam.explain.gradients.requirements import hold_still
from diffusers_rdaam.explain.prompt_columns import prompt_of_columns
from diffusers_rdaam.geometry.region import Box

FIRST_SEED = 40_000
COUNT, FULL = 30, 200
METHODS: tuple[PixelMethod, ...] = ("grad_x_input", "max_grad", "min_grad", "mean_grad")
REFERENCES = ("all words, inside", "content words, inside", "all words, inside minus outside")
RIGHT, AREA = "best word is the object's", "deletion area"
RESAMPLES = 4000
CACHE = Path("out/faithfulness")
Scores = dict[str, float]
# By explanation and by number.
SceneNumbers = dict[str, dict[str, float]]

_tables: list[Table] = []


def main(arguments: Sequence[str]) -> int:
    """The command: a table for each model; exit status 2 where a model is not there."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks faithfulness", description=__doc__)
    parser.add_argument("--model", choices=NAMES, help="default: all of them")
    parser.add_argument(
        "--scenes", type=int, metavar="N", help=f"default: {COUNT}, with --full {FULL}"
    )
    parser.add_argument("--full", action="store_true", help="deletion curves too")
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"scenes: {CACHE}")
    given = parser.parse_args(arguments)
    count = given.scenes if given.scenes is not None else FULL if given.full else COUNT
    if count < 1:
        parser.error(f"--scenes is {count}. It is at least 1.")
    torch.set_num_threads(1)
    print(markdown_header(header()))
    for name in NAMES if given.model is None else (given.model,):
        try:
            found = evaluate(model_of(name), count, curves=given.full, cache=given.cache)
        except InputError as error:
            print(f"faithfulness: {error}", file=sys.stderr)
            return 2
        print(f"\n{table_of(name, found).markdown()}")
    return 0


def run(*, full: bool = False) -> list[Row]:
    """30 prompts of each embedded model, or with ``full`` 200 and their deletion curves."""
    rows: list[Row] = []
    _tables.clear()
    for name in NAMES:
        try:
            found = evaluate(model_of(name), FULL if full else COUNT, curves=full)
        except InputError as error:
            rows.append(Row("faithfulness", name, f"not measured: {error}", status="SKIP"))
            continue
        rows += rows_of(name, found)
        _tables.append(table_of(name, found))
    return rows


def tables() -> list[Table]:
    """A table for each model of the last :func:`run`."""
    return list(_tables)


def rows_of(name: str, found: Sequence[SceneNumbers]) -> list[Row]:
    """A row for each explanation."""
    what = f"{name}, {len(found)} scenes"
    return [
        Row(
            "faithfulness",
            f"{explanation}; {what}",
            "; ".join(f"{number} {interval(values)}" for number, values in numbers.items()),
        )
        for explanation, numbers in _by_explanation(found).items()
    ]


def table_of(name: str, found: Sequence[SceneNumbers]) -> Table:
    """The same as a table: the references as columns."""
    numbers = _by_explanation(found)
    columns = list(dict.fromkeys(number for each in numbers.values() for number in each))
    lines = [
        [explanation, *(interval(each[column]) for column in columns)]
        for explanation, each in numbers.items()
    ]
    return Table(f"{name}, {len(found)} scenes", ["explanation", *columns], lines)


def evaluate(model: Model, count: int, *, curves: bool = False, cache: Path = CACHE) -> list[Any]:
    """The numbers of each scene; those that the cache has are read from it.

    Args:
        model: whose images are explained.
        count: prompts; a scene in whose image both objects cannot be told has no numbers.
        curves: also deletion curves, and the ablation by padding.
        cache: a folder.

    Raises:
        InputError: the weights are not there.
    """
    pipe: Any = None
    folder = cache / (f"{model.name}_curves" if curves else model.name)
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for index, (prompt, names) in enumerate(held_out_prompts(count, 1)):
        file = folder / f"{FIRST_SEED + index}.json"
        if not file.is_file():
            pipe = pipe or _pipe(model)
            make = functools.partial(torch.Generator().manual_seed, FIRST_SEED + index)
            numbers = scene(pipe, model, prompt, names, make, curves=curves)
            file.write_text(json.dumps(numbers))
            print(f"{model.name}: {index + 1} of {count}", file=sys.stderr, flush=True)
        if numbers := json.loads(file.read_text()):
            found.append(numbers)
    return found


def _pipe(model: Model) -> Any:
    pipe = model.load()
    pipe.set_attn_processor(RDAAMProcessor(self_attention=True))
    return pipe


def scene(
    pipe: Any,
    model: Model,
    prompt: str,
    names: tuple[str, str],
    noise: Callable[[], Any],
    *,
    curves: bool,
) -> SceneNumbers:
    """Every explanation's numbers, the mean of both objects' boxes; none where one is not there."""
    call = model.call()
    attribution = pipe(prompt, generator=noise(), **call).attribution
    masks = masks_of(attribution.image, names)
    if len(masks) < len(names):
        return {}
    boxes = [bounding_box(masks[name]) for name in names]
    gradients = by_gradient(pipe, model, prompt, boxes, call | {"generator": noise()})
    deletion = Deletion(pipe, prompt, generator=noise(), **call)
    padded = None
    if curves:
        padded = explain_ablation(
            pipe, prompt, regions=boxes, mode="padding", generator=noise(), **call
        )
    refined = attribution.refined()
    rng = np.random.default_rng(int(attribution.run["seed"] or 0))
    found = []
    for index, (box, name) in enumerate(zip(boxes, names, strict=True)):
        words = attribution.region(box)
        wanted = _references(deletion, [word.text for word in words], box, names)
        scores: dict[str, Scores] = {
            "attention, lift": {word.text: word.lift for word in words},
            "attention, score": {word.text: word.score for word in words},
            **_refined_scores(refined, box),
            **{f"gradient, {method}": each[index] for method, each in gradients.items()},
            "random": {word.text: float(rng.random()) for word in words},
        }
        if padded is not None:
            scores["ablation by padding"] = {word.text: word.score for word in padded[index]}
            scores["ablation by mask (the reference)"] = wanted[REFERENCES[0]]
        found.append(
            {
                explanation: _numbers(each, wanted, name, deletion if curves else None, box)
                for explanation, each in scores.items()
            }
        )
    return _mean_of(found)


def _refined_scores(refined: Any, box: Box) -> dict[str, Scores]:
    words = refined.region(box)
    return {
        "attention refined, lift": {word.text: word.lift for word in words},
        "attention refined, score": {word.text: word.score for word in words},
    }


def _references(
    deletion: Deletion, words: Sequence[str], box: Box, names: tuple[str, str]
) -> dict[str, Scores]:
    """What really changes without each word, as three questions ask it."""
    inside, difference = {}, {}
    for word in words:
        # What explain_ablation(mode="mask") gives.
        within, _, outside = measure(deletion.without([word]), box)
        inside[word] = within
        difference[word] = within - (outside or 0.0)
    content = {part for name in names for part in name.split()}
    return {
        REFERENCES[0]: inside,
        REFERENCES[1]: {word: change for word, change in inside.items() if word in content},
        REFERENCES[2]: difference,
    }


def _numbers(
    scores: Scores,
    wanted: dict[str, Scores],
    name: str,
    deletion: Deletion | None,
    box: Box,
) -> dict[str, float]:
    numbers = {
        reference: rank_correlation([scores[word] for word in each], list(each.values()))
        for reference, each in wanted.items()
    }
    order = sorted(wanted[REFERENCES[0]], key=lambda word: -scores[word])
    numbers[RIGHT] = float(order[0] in name.split())
    if deletion is not None:
        numbers[AREA] = deletion.curve(box, order).area
    return numbers


def _mean_of(boxes: Sequence[SceneNumbers]) -> SceneNumbers:
    first = boxes[0]
    return {
        explanation: {
            number: float(np.mean([box[explanation][number] for box in boxes]))
            for number in first[explanation]
        }
        for explanation in first
    }


def by_gradient(
    pipe: Any, model: Model, prompt: str, boxes: list[Box], call: dict[str, Any]
) -> dict[str, list[Scores]]:
    """Every method, and every box, from one generation and one way back."""
    settings = GradientOptions("any", None, True, False, True, None)
    found: dict[str, list[Scores]] = {method: [] for method in METHODS}
    with ExitStack() as undo:
        undo.enter_context(torch.enable_grad())
        hold_still({model.denoiser: getattr(pipe, model.denoiser), "vae": pipe.vae}, undo)
        regeneration = GradientRegeneration(pipe, settings, boxes)
        image = regeneration.picture(regeneration.run(call | {"prompt": prompt}))
        text = entries_last(regeneration.leaves["text"])
        for box, gradients in zip(boxes, regeneration.gradients(), strict=True):
            for method in METHODS:
                values = reduce_entries(method, entries_last(gradients["text"]), text)
                columns = prompt_of_columns(pipe, prompt, len(values), call)
                words = GradientWords(columns, box, image, values, method)
                found[method].append({word.text: word.score for word in words})
    return found


def _by_explanation(found: Sequence[SceneNumbers]) -> dict[str, dict[str, list[float]]]:
    """The numbers of all scenes, by explanation and number."""
    first = found[0] if found else {}
    return {
        explanation: {number: [each[explanation][number] for each in found] for number in numbers}
        for explanation, numbers in first.items()
    }


def interval(values: Sequence[float]) -> str:
    """The mean with its 95 % interval, by resampling scenes; a dash where no scene has a value."""
    known = np.asarray(values)[~np.isnan(values)]
    if not len(known):
        return "-"
    draws = np.random.default_rng(0).integers(len(known), size=(RESAMPLES, len(known)))
    low, high = np.percentile(known[draws].mean(axis=1), [2.5, 97.5])
    return f"{known.mean():.2f} ({low:.2f} to {high:.2f})"
