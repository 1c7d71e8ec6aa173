"""``rdaam image``: the words and regions of an image in a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.region_words import Ranking
from diffusers_rdaam.checkpoints.failures import explained_run
from diffusers_rdaam.cli.folder import OutputFolder
from diffusers_rdaam.cli.generate import draw_words, processor_for, report_removed
from diffusers_rdaam.cli.models import (
    best_device,
    check_device,
    check_dtype,
    find_model,
    load_pipeline,
)
from diffusers_rdaam.cli.options import (
    OF_ITS_OWN_TEXT,
    check_aggregation,
    check_size,
    check_texts,
    check_words,
    parse_box,
)
from diffusers_rdaam.cli.queries import report_regions
from diffusers_rdaam.cli.report import Report
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.files.pictures import read_picture
from diffusers_rdaam.geometry.region import Box

_FILES = ("image.png", "attribution.safetensors", "word-*.png")


@dataclass(frozen=True)
class ImageFileRequest:
    """The options of ``rdaam image``; ``options`` are those of the method."""

    file: Path
    prompt: str
    model: str | None
    boxes: list[str]
    words: list[str]
    aggregation: str
    options: dict[str, Any]
    height: int | None
    width: int | None
    seed: int
    device: str | None
    dtype: str | None
    out: Path
    ranking: Ranking


def attribute_file(request: ImageFileRequest, report: Report) -> None:
    """Check everything that can be checked, attribute the image, and only then ask.

    Raises:
        InputError: the file is not an image, or a box, option, folder or model is wrong.
    """
    from diffusers_rdaam.images.attribute import ImageRequest
    from diffusers_rdaam.images.input_images import as_rgb

    check_texts([("PROMPT", request.prompt), *(("--word", word) for word in request.words)])
    check_words(request.prompt, request.words)
    check_aggregation(request.aggregation)
    if request.aggregation == OF_ITS_OWN_TEXT:
        raise InputError(
            f"--aggregation {OF_ITS_OWN_TEXT} is for images that the run makes: rdaam generate."
        )
    size = _size(request)
    ImageRequest(**request.options)
    device = best_device() if request.device is None else request.device
    check_dtype(request.dtype)
    check_device(device)
    picture = as_rgb(read_picture(request.file, formats=None))
    boxes = [parse_box(text, (picture.height, picture.width)) for text in request.boxes]
    model = find_model(request.model)
    folder = OutputFolder(request.out, _FILES)
    pipe = load_pipeline(model, device, request.dtype)
    pipe.set_attn_processor(processor_for(request.aggregation))
    generator = torch.Generator("cpu").manual_seed(request.seed)
    with explained_run(pipe):
        attribution = pipe.attribute_image(
            picture, request.prompt, size=size, generator=generator, **request.options
        )
    report_removed(folder, report)
    _report_run(attribution, folder, report)
    draw_words(attribution, request.words, request.aggregation, folder, report)
    scaled = [_scaled(box, picture, attribution.image_size) for box in boxes]
    report_regions(attribution, scaled, request.ranking, report)


def _size(request: ImageFileRequest) -> tuple[int, int] | None:
    check_size(request.height, request.width)
    if (request.height is None) != (request.width is None):
        raise InputError("--height and --width are given together, or neither of them.")
    if request.height is None or request.width is None:
        return None
    return request.height, request.width


def _scaled(box: Box, picture: Image.Image, size: tuple[int, int]) -> Box:
    """A box of the file's image in pixels of the image that the attribution is of."""
    down, across = size[0] / picture.height, size[1] / picture.width
    if down == across == 1.0:
        return box
    left, top, right, bottom = box.as_tuple()
    return Box(left * across, top * down, right * across, bottom * down)


def _report_run(attribution: Attribution, folder: OutputFolder, report: Report) -> None:
    """Write the image and the attribution, and say what was done."""
    run = attribution.run
    assert attribution.image is not None
    image_path = folder.save("image.png", attribution.image.save)
    height, width = attribution.image_size
    given = f"{run['given_width']}x{run['given_height']}"
    shown = "" if given == f"{width}x{height}" else f" (scaled from {given}, width by height)"
    report.say(f"image:        {image_path}{shown}")
    path = folder.save("attribution.safetensors", attribution.save)
    report.say(f"attribution:  {path}")
    facts = {"image": str(image_path), "attribution": str(path), "method": run["method"]}
    if run["method"] == "invert":
        error, psnr = run["latent_error"], run["reconstruction_psnr"]
        report.say(f"inversion:    relative error {error:.3f}, {psnr:.1f} dB")
        facts |= {"latent_error": error, "reconstruction_psnr": psnr}
    else:
        report.say(f"noise:        {run['noise_levels']} x {run['draws']} draws")
        facts |= {"noise_levels": run["noise_levels"], "draws": run["draws"]}
    report.add(**facts)
