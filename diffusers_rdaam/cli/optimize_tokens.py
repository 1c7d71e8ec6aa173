"""``rdaam optimize-tokens``: a token for each class, fitted to images with masks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from diffusers_rdaam.attention.options import QueryOptions
from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.checkpoints.failures import explained_run
from diffusers_rdaam.cli.models import (
    best_device,
    check_device,
    check_dtype,
    find_model,
    load_pipeline,
)
from diffusers_rdaam.cli.options import check_guidance, check_steps
from diffusers_rdaam.cli.report import Report
from diffusers_rdaam.cli.segment import classes_of
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.open_vocabulary.optimize import Schedule
from diffusers_rdaam.segmentation.classes import ObjectClass
from diffusers_rdaam.segmentation.folder import SegmentationFolder, open_folder, read_kept
from diffusers_rdaam.segmentation.generate import PromptRow, class_prompts
from diffusers_rdaam.segmentation.label_map import IGNORE, Segmentation
from diffusers_rdaam.segmentation.tokens import Example, optimize_tokens, save_tokens


@dataclass(frozen=True)
class TokensRequest:
    """The options of ``rdaam optimize-tokens``; None is "the model's own"."""

    data: Path | None
    classes: list[str]
    images: int
    model: str | None
    out: Path
    iterations: int
    learning_rate: float
    step_size: int
    gamma: float
    every: int
    seed: int
    steps: int | None
    guidance_scale: float | None
    device: str | None
    dtype: str | None


def make_tokens(request: TokensRequest, report: Report) -> None:
    """Generate the images of the data set again, with their queries, and fit a token to each class.

    Raises:
        InputError: an option, folder or model is wrong, or no class has an image with a mask.
    """
    Schedule(request.iterations, request.learning_rate, request.step_size, request.gamma)
    data = None if request.data is None else open_folder(request.data)
    classes = classes_of(request.classes) if data is None or request.classes else data.classes
    if data is not None:
        _check_classes(classes, data)
    pipe = _pipeline(request)
    _make_folder(request.out)
    call = {"num_inference_steps": request.steps, "guidance_scale": request.guidance_scale}
    given = {name: value for name, value in call.items() if value is not None}
    source = _drawn(pipe, classes, request, given)
    if data is not None:
        source = _kept(pipe, data, classes, given)
    examples = _collected(source, classes, request.images)
    without = left_out(classes, examples)
    if without:
        report.say(f"left out:     {', '.join(without)}: no image with a mask of these classes")

    def told(name: str, token: Any) -> None:
        report.say(
            f"{name + ':':<13} loss {token.losses[0]:.4f} to {token.loss:.4f}, "
            f"{len(examples[name])} images"
        )

    tokens = optimize_tokens(
        pipe,
        examples,
        classes,
        iterations=request.iterations,
        learning_rate=request.learning_rate,
        step_size=request.step_size,
        gamma=request.gamma,
        callback=told,
    )
    folder = save_tokens(tokens, request.out, model=request.model or "the embedded model")
    report.say(f"tokens:       {folder}")
    report.add(
        folder=str(folder),
        left_out=without,
        tokens={
            name: {"first_loss": token.losses[0], "loss": token.loss, "best": token.best}
            for name, token in tokens.items()
        },
    )


def left_out(classes: Sequence[ObjectClass], examples: Mapping[str, Any]) -> list[str]:
    """The classes that no image shows.

    Raises:
        InputError: these are all of them.
    """
    without = [one.name for one in classes if one.name not in examples]
    if not examples:
        raise InputError(
            f"No image has a mask of one of the classes {', '.join(without)}, so there is nothing "
            "to fit a token to. Give classes that the images show; in masks, the number of a pixel "
            f"is its class, and {IGNORE} is not counted."
        )
    return without


def _check_classes(classes: tuple[ObjectClass, ...], data: SegmentationFolder) -> None:
    """Refuse a class that the data set does not have, before its images are made again."""
    known = [one.name for one in data.classes]
    unknown = [one.name for one in classes if one.name not in known]
    if unknown:
        raise InputError(
            f"{data.path} has no class {unknown[0]!r}. Its classes: {', '.join(known)}."
        )


def _make_folder(path: Path) -> None:
    """Make the folder of the tokens before hours are spent on them."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be made: {error}. Give another --out.") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise InputError(f"{path} may not be written. Give another --out.")


def _pipeline(request: TokensRequest) -> Any:
    """The pipeline, which keeps queries, after a check of all options.

    Raises:
        InputError: one is wrong, or tokens cannot be fitted with this model.
    """
    check_guidance(request.guidance_scale, None)
    check_dtype(request.dtype)
    device = best_device() if request.device is None else request.device
    check_device(device)
    model = find_model(request.model)
    check_steps(request.steps, model.most_steps())
    if request.data is None and model.name is not None:
        raise InputError(
            "Tokens are fitted to masks. Give --data, a folder of rdaam segment whose masks were "
            "looked at; only the embedded model's images have masks of their own."
        )
    pipe = load_pipeline(model, device, request.dtype)
    if getattr(pipe, "unet", None) is None:
        raise InputError(
            f"{type(pipe).__name__} reads its text in every block, so that no token can be asked "
            "for afterwards. Give a pipeline with a UNet, such as Stable Diffusion."
        )
    queries = QueryOptions(steps=slice(None, None, request.every))
    pipe.set_attn_processor(RDAAMProcessor(keep="queries", queries=queries))
    return pipe


Found = tuple[str, Example]


def _collected(
    source: Iterator[Found], classes: tuple[ObjectClass, ...], images: int
) -> dict[str, list[Example]]:
    """The first ``images`` examples of each class; nothing more is generated than these."""
    examples: dict[str, list[Example]] = {one.name: [] for one in classes}
    for name, example in source:
        if len(examples[name]) < images:
            examples[name].append(example)
        if all(len(found) >= images for found in examples.values()):
            break
    return {name: found for name, found in examples.items() if found}


def _kept(
    pipe: Any, data: SegmentationFolder, classes: tuple[ObjectClass, ...], call: dict[str, Any]
) -> Iterator[Found]:
    """The images of a data set, generated again from prompt and seed, with the masks on disk."""
    names = {one.name for one in classes}
    for id, prompt, seed in read_kept(data.path):
        segmentation = data.segmentation(id)
        attribution = _run(pipe, prompt, seed, call)
        if attribution.image_size != segmentation.size:
            raise InputError(
                f"The mask of {id!r} is of {segmentation.size} (height, width), the model makes "
                f"images of {attribution.image_size}. Give the --model that the data set is of."
            )
        for name in segmentation.areas:
            mask = _class_mask(segmentation, name)
            if name in names and mask is not None:
                yield name, (attribution, mask)


def _class_mask(segmentation: Segmentation, name: str) -> Any:
    """Where a class is (1), is not (0), and what is not counted (255).

    None where one of the first two is nowhere.
    """
    mask, ignored = segmentation.mask(name), segmentation.ignored
    if not bool(mask.any()) or bool((mask | ignored).all()):
        return None
    return mask.to(torch.uint8).masked_fill(ignored, IGNORE)


def _drawn(
    pipe: Any, classes: tuple[ObjectClass, ...], request: TokensRequest, call: dict[str, Any]
) -> Iterator[Found]:
    """Images of the embedded model with two objects, which are found by their colours.

    Of images with one object a token would learn where *an* object is.
    """
    from diffusers_rdaam.demo.judge import find_blobs

    rows: list[PromptRow] = class_prompts(
        classes, count=8 * request.images, seed=request.seed, template="a {}"
    )
    for place, row in enumerate(rows):
        prompt = f"{row.prompt} and a {_another(row.prompt, place)}"
        attribution = _run(pipe, prompt, row.seed, call)
        blobs = find_blobs(attribution.image)
        for one in classes if len(blobs) == 2 else ():
            found = [blob.mask for blob in blobs if one.spans(blob.name)]
            if one.spans(prompt) and len(found) == 1:
                yield one.name, (attribution, torch.from_numpy(found[0]).float())


def _another(prompt: str, place: int) -> str:
    """An object of another colour and shape than the prompt has."""
    from diffusers_rdaam.demo.world import COLOURS, SHAPES

    words = set(prompt.split())
    colours = [one for one in COLOURS if one not in words]
    shapes = [one for one in SHAPES if one not in words]
    return f"{colours[place % len(colours)]} {shapes[place % len(shapes)]}"


def _run(pipe: Any, prompt: str, seed: int, call: dict[str, Any]) -> Any:
    generator = torch.Generator("cpu").manual_seed(seed)
    with explained_run(pipe):
        return pipe(prompt, generator=generator, **call).attribution
