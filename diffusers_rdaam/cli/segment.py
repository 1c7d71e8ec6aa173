"""``rdaam segment``: a data set of images with masks, from prompts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers_rdaam.argument_checks import check_share
from diffusers_rdaam.checkpoints.failures import explained_run
from diffusers_rdaam.cli.models import (
    best_device,
    check_device,
    check_dtype,
    find_model,
    load_pipeline,
)
from diffusers_rdaam.cli.options import check_guidance, check_size, check_steps
from diffusers_rdaam.cli.report import Report
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.geometry.dense_crf import PAPER_IMAGE_SIDE, DenseCRF, check_installed
from diffusers_rdaam.segmentation.classes import ObjectClass, object_classes, read_classes
from diffusers_rdaam.segmentation.clip_rank import ClipRank
from diffusers_rdaam.segmentation.coco import write_coco
from diffusers_rdaam.segmentation.folder import SegmentationFolder, read_prompt_rows
from diffusers_rdaam.segmentation.generate import (
    MaskOptions,
    PromptRow,
    check_rows,
    class_prompts,
    fill,
)
from diffusers_rdaam.segmentation.sample import Choice, choose
from diffusers_rdaam.segmentation.tokens import load_tokens
from diffusers_rdaam.segmentation.voc import write_voc

FORMATS = ("coco", "voc")
TABLES = ("demo", "voc20", "coco80")


@dataclass(frozen=True)
class SegmentRequest:
    """The options of ``rdaam segment``; None is "the model's own"."""

    prompts: Path | None
    classes: list[str]
    count: int
    template: str
    model: str | None
    out: Path
    formats: list[str]
    refine: str
    crf: str
    background: float | None
    margin: float
    tokens: str | None
    areas: str
    clip: str | None
    clip_percentile: float
    per_class: str | None
    validation: float
    seed: int
    steps: int | None
    guidance_scale: float | None
    height: int | None
    width: int | None
    device: str | None
    dtype: str | None


def make_data_set(request: SegmentRequest, report: Report) -> None:
    """Check everything that can be checked, make the images that are missing, choose, and export.

    Raises:
        InputError: an option, file, folder or model is wrong.
        CRFExtraError: ``--crf`` was given, and pydensecrf is not installed.
    """
    classes = classes_of(request.classes)
    rows = check_rows(_rows(request, classes), classes)
    areas, per_class = _areas(request.areas), _per_class(request.per_class)
    unknown = [one for one in request.formats if one not in FORMATS]
    if unknown:
        raise InputError(f"--export {unknown[0]!r} is not known. Formats: {', '.join(FORMATS)}.")
    check_share(request.validation, "--validation, a share of the images,")
    choose([], areas=areas, clip=request.clip_percentile, per_class=per_class)
    options = _mask_options(request)
    check_size(request.height, request.width)
    check_guidance(request.guidance_scale, None)
    check_dtype(request.dtype)
    device = best_device() if request.device is None else request.device
    check_device(device)
    model = find_model(request.model)
    check_steps(request.steps, model.most_steps())
    folder = SegmentationFolder(request.out, classes, _settings(request))
    pipe = load_pipeline(model, device, request.dtype)
    progress = _Progress(report, len(rows))
    with explained_run(pipe):
        samples = fill(folder, pipe, rows, options, progress=progress, **_call(request, pipe))
    choice = choose(samples, areas=areas, clip=request.clip_percentile, per_class=per_class)
    chosen = {facts.id for facts in samples}
    others = {
        facts.id: "not among the prompts" for facts in folder.samples() if facts.id not in chosen
    }
    folder.publish(Choice(choice.kept, {**choice.dropped, **others}))
    report.say(
        f"data set:     {folder.path} ({len(choice.kept)} images kept, {len(choice.dropped)} "
        "dropped, why is in dropped.jsonl)"
    )
    report.add(folder=str(folder.path), kept=len(choice.kept), dropped=dict(choice.dropped))
    _export(folder, choice.kept, request, report)


def classes_of(given: list[str]) -> tuple[ObjectClass, ...]:
    """The classes of ``--class``: names, one table, or one JSON file.

    Raises:
        InputError: they are none of these.
    """
    if len(given) == 1 and given[0] in TABLES:
        return object_classes(given[0])
    if len(given) == 1 and given[0].lower().endswith(".json"):
        return read_classes(Path(given[0]))
    return object_classes(given or "demo")


def _rows(request: SegmentRequest, classes: tuple[ObjectClass, ...]) -> list[PromptRow]:
    if request.prompts is None:
        return class_prompts(
            classes, count=request.count, seed=request.seed, template=request.template
        )
    found = read_prompt_rows(request.prompts)
    return [
        PromptRow(id, prompt, request.seed + place if seed is None else seed)
        for place, (id, prompt, seed) in enumerate(found)
    ]


def _areas(text: str) -> tuple[float, float] | None:
    if text == "all":
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"--areas is the lowest and highest percentile of a class's area, such as 5,95, or "
            f"'all'; got {text!r}."
        ) from None
    return low, high


def _per_class(text: str | None) -> int | str | None:
    if text is None or text == "least":
        return text
    if not (text.isascii() and text.isdigit()):
        raise InputError(f"--per-class is a number of images, or 'least'; got {text!r}.")
    return int(text)


def _mask_options(request: SegmentRequest) -> MaskOptions:
    # Images may have any size, and each kind of model has its own.
    crfs = {
        "none": None,
        "soft": DenseCRF(image_side=PAPER_IMAGE_SIDE),
        "ovam": DenseCRF.ovam(image_side=PAPER_IMAGE_SIDE),
    }
    if request.crf not in crfs:
        raise InputError(f"--crf {request.crf!r} is not known. Choices: {', '.join(crfs)}.")
    if request.crf != "none":
        check_installed()
    tokens = {} if request.tokens is None else load_tokens(request.tokens)
    clip = None if request.clip is None else ClipRank.from_pretrained(request.clip)
    return MaskOptions(
        refine=request.refine,  # type: ignore[arg-type]  # checked by the class
        background=request.background,
        crf=crfs[request.crf],
        margin=request.margin,
        tokens=tokens,
        clip=clip,
    )


def _settings(request: SegmentRequest) -> dict[str, Any]:
    """What changes an image or its mask: a data set is of one kind."""
    names = ("model", "steps", "guidance_scale", "height", "width", "dtype", "refine", "crf")
    more = ("background", "margin", "tokens", "clip")
    return {name: getattr(request, name) for name in (*names, *more)}


def _call(request: SegmentRequest, pipe: Any) -> dict[str, Any]:
    from diffusers_rdaam.cli.generate import call_options

    return call_options(
        pipe,
        {
            "num_inference_steps": request.steps,
            "guidance_scale": request.guidance_scale,
            "height": request.height,
            "width": request.width,
        },
        is_embedded=request.model is None or find_model(request.model).name is None,
    )


class _Progress:
    """Says how far it is, at most once in ten seconds."""

    def __init__(self, report: Report, total: int) -> None:
        self.report, self.total, self.done = report, total, 0
        self.start = self.said = time.monotonic()

    def __call__(self, facts: Any) -> None:
        self.done += 1
        now = time.monotonic()
        if now - self.said >= 10.0 or self.done == self.total:
            self.said = now
            rate = self.done / max(now - self.start, 1e-6)
            self.report.say(f"images:       {self.done} of {self.total}, {rate:.2f} a second")


def _export(folder: SegmentationFolder, kept: Any, request: SegmentRequest, report: Report) -> None:
    written: dict[str, str] = {}
    if "coco" in request.formats:
        written["coco"] = str(write_coco(folder, kept)[0])
    if "voc" in request.formats:
        written["voc"] = str(write_voc(folder, kept, validation=request.validation))
    for name, path in written.items():
        report.say(f"{name + ':':<13} {path}")
    report.add(exports=written)
