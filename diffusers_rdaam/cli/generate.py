"""``rdaam generate``: one run, its image, words, regions and attribution file."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.attribution.aggregations.aggregation import SELF_ATTENTION
from diffusers_rdaam.attribution.aggregations.table import aggregations
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.region_words import Ranking
from diffusers_rdaam.checkpoints.failures import explained_run, is_length
from diffusers_rdaam.cli.folder import OutputFolder
from diffusers_rdaam.cli.models import (
    Model,
    best_device,
    check_device,
    check_dtype,
    find_model,
    load_pipeline,
)
from diffusers_rdaam.cli.options import (
    OF_ITS_OWN_TEXT,
    check_aggregation,
    check_guidance,
    check_size,
    check_steps,
    check_texts,
    check_words,
    parse_box,
)
from diffusers_rdaam.cli.queries import report_regions
from diffusers_rdaam.cli.report import Report
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.file_names import FileNames
from diffusers_rdaam.geometry.region import Box
from diffusers_rdaam.pipelines.call_options import call_options

# The setting of a denoiser that says how wide its latents usually are.
_SIDE = "sample_size"
_FILES = (
    "image.png",
    "attribution.safetensors",
    "word-*.png",
    "timeline-*.png",
    "timeline-*.gif",
)


@dataclass(frozen=True)
class Request:
    """The options of ``rdaam generate``; None is "the model's own"."""

    prompt: str
    model: str | None
    boxes: list[str]
    words: list[str]
    aggregation: str
    timelines: list[str]
    negative_prompt: str | None
    seed: int | None
    steps: int | None
    guidance_scale: float | None
    height: int | None
    width: int | None
    device: str | None
    dtype: str | None
    out: Path
    ranking: Ranking


def run(request: Request, report: Report) -> None:
    """Check everything that can be checked, generate, and only then ask.

    Raises:
        InputError: a box, option, folder or model is wrong. Nothing has been generated then.
    """
    device = best_device() if request.device is None else request.device
    model, boxes = _checked(request, device)
    folder = OutputFolder(request.out, _FILES)
    pipe = load_pipeline(model, device, request.dtype)
    _check_with_pipeline(pipe, request, boxes)
    steps = ("steps",) if request.timelines else ()
    negative = request.negative_prompt is not None
    pipe.set_attn_processor(processor_for(request.aggregation, steps, keep_negative=negative))
    seed = secrets.randbits(32) if request.seed is None else request.seed
    options = _call_options(pipe, request, is_embedded=model.name is None)
    if request.aggregation == OF_ITS_OWN_TEXT:
        options["attribution_vocabulary"] = list(dict.fromkeys(request.words))
    with explained_run(pipe):
        output = pipe(request.prompt, generator=_generator(seed), **options)
    report_removed(folder, report)
    image_path = folder.save("image.png", output.images[0].save)
    report.say(f"image:        {image_path} (seed {seed})")
    report.add(image=str(image_path), seed=seed)
    attribution = output.attribution
    path = folder.save("attribution.safetensors", attribution.save)
    report.say(f"attribution:  {path}")
    report.add(attribution=str(path))
    draw_words(attribution, request.words, request.aggregation, folder, report)
    _draw_timelines(attribution, request, folder, report)
    report_regions(attribution, boxes, request.ranking, report)


def processor_for(
    aggregation: str, keep: Sequence[str] = (), *, keep_negative: bool = False
) -> RDAAMProcessor:
    """A processor that keeps what an aggregation needs.

    Args:
        aggregation: its name.
        keep: what is to be kept besides.
        keep_negative: whether the unconditional rows are recorded too.
    """
    needs = aggregations()[aggregation].needs
    kept = dict.fromkeys((*keep, *(name for name in needs if name != SELF_ATTENTION)))
    # What weighs layers by their self-attention needs that of each.
    each: Any = "each" if "layers" in needs else True
    return RDAAMProcessor(
        keep=tuple(kept),  # type: ignore[arg-type]  # names that it knows
        self_attention=each if SELF_ATTENTION in needs else False,
        keep_negative=keep_negative,
    )


def report_removed(folder: OutputFolder, report: Report) -> None:
    """Remove what an earlier run left in the folder, and say so."""
    removed = folder.remove_earlier()
    if removed:
        report.say(f"removed:      {removed} files of an earlier run in {folder.path}")
        report.add(removed=removed)


def _checked(request: Request, device: str) -> tuple[Model, list[Box]]:
    """The model and the boxes, after a check of all options; nothing is loaded for it."""
    texts = [("PROMPT", request.prompt), ("--negative-prompt", request.negative_prompt)]
    named = (("--word", request.words), ("--timeline", request.timelines))
    check_texts([*texts, *((name, word) for name, words in named for word in words)])
    check_words(request.prompt, (*request.words, *request.timelines))
    check_aggregation(request.aggregation)
    if request.aggregation == OF_ITS_OWN_TEXT and not request.words:
        raise InputError(
            f"--aggregation {OF_ITS_OWN_TEXT} makes each word the only text of its map, so that "
            "the words are named before the run. Give --word, once for each."
        )
    check_guidance(request.guidance_scale, request.negative_prompt)
    check_size(request.height, request.width)
    check_dtype(request.dtype)
    check_device(device)
    for text in request.boxes:
        parse_box(text)
    model = find_model(request.model)
    check_steps(request.steps, model.most_steps())
    size = _image_size(model.size(), request)
    return model, [parse_box(text, size) for text in request.boxes]


def _image_size(default: tuple[int, int] | None, request: Request) -> tuple[int, int] | None:
    height, width = default or (None, None)
    height, width = request.height or height, request.width or width
    return None if height is None or width is None else (height, width)


def _check_with_pipeline(pipe: Any, request: Request, boxes: list[Box]) -> None:
    """Check what only the tokenizer or the loaded settings know, before an image is made."""
    from diffusers_rdaam.tokens.alignment import align

    unet = getattr(pipe, "unet", None)
    if unet is None and request.aggregation == OF_ITS_OWN_TEXT:
        raise InputError(
            f"--aggregation {OF_ITS_OWN_TEXT} is for models with a UNet; a transformer rewrites "
            "its text from block to block. Take another aggregation."
        )
    # A length that no text has is said by the run, which cannot be made with it.
    if unet is not None and is_length(pipe.tokenizer.model_max_length):
        prompt = align(pipe.tokenizer, request.prompt, pipe.tokenizer.model_max_length)
        for word in (*request.words, *request.timelines):
            prompt.find(word)
    side = getattr(getattr(unet or getattr(pipe, "transformer", None), "config", None), _SIDE, None)
    default = None
    if isinstance(side, int):
        default = (side * pipe.vae_scale_factor, side * pipe.vae_scale_factor)
    size = _image_size(default, request)
    if size is not None:
        for box in boxes:
            box.inside(size)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


def _call_options(pipe: Any, request: Request, *, is_embedded: bool) -> dict[str, Any]:
    """The arguments of the pipeline's call that were given, by their names there."""
    options = {
        "num_inference_steps": request.steps,
        "guidance_scale": request.guidance_scale,
        "height": request.height,
        "width": request.width,
        "negative_prompt": request.negative_prompt,
    }
    return call_options(pipe, options, is_embedded=is_embedded)


def draw_words(
    attribution: Attribution,
    asked: Sequence[str],
    aggregation: str,
    folder: OutputFolder,
    report: Report,
) -> None:
    """One overlay a word, of every word if none is asked; several occurrences are one picture."""
    maps = attribution.aggregated(aggregation)
    seen: dict[str, str] = {}
    for found in attribution.words:
        if found.columns:
            seen.setdefault(found.text.casefold(), found.text)
    words = list(dict.fromkeys(asked)) or list(seen.values())
    written: dict[str, str] = {}
    names = FileNames()
    for index, word in enumerate(words):
        match = attribution.prompt.find(word)
        name = names.name(word, prefix="word-", suffix=".png", number=index)
        path = folder.save(name, maps.match(match).overlay().save)
        written[word] = str(path)
        report.say(f"{'heat maps:' if index == 0 else '':<13} {path}")
    report.add(heat_maps=written, aggregation=aggregation)


def _draw_timelines(
    attribution: Attribution, request: Request, folder: OutputFolder, report: Report
) -> None:
    """A film strip of eight steps and an animation of all, for each word that was asked for."""
    written: dict[str, list[str]] = {}
    names = FileNames()
    for index, word in enumerate(dict.fromkeys(request.timelines)):
        timeline = attribution.match(attribution.prompt.find(word)).over_time()
        # One name for both files, and room for either ending.
        stem = names.name(word, prefix="timeline-", suffix=".gif", number=index)[: -len(".gif")]
        every = max(1, -(-(len(timeline) - 1) // 7))
        strip = folder.save(f"{stem}.png", timeline.film_strip(columns=8, every=every).save)
        animation = folder.save(f"{stem}.gif", timeline.gif)
        written[word] = [str(strip), str(animation)]
        report.say(f"{'timelines:' if index == 0 else '':<13} {strip} and {animation.name}")
    if written:
        report.add(timelines=written)
