"""``rdaam generate``: one run, its image, words, regions and attribution file."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.region_words import Ranking
from diffusers_rdaam.cli.queries import parse_box, tell_regions
from diffusers_rdaam.cli.report import Report
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.recording.processor import RDAAMProcessor

DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Request:
    """The options of ``rdaam generate``; None is "the model's own"."""

    prompt: str
    model: str | None
    boxes: list[str]
    words: list[str]
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
        InputError: a box, option, folder or model is wrong. Nothing has been generated then, or
            the image has been written.
    """
    boxes = [parse_box(text) for text in request.boxes]
    prepare_folder(request.out)
    device = request.device or _best_device()
    pipe = load_pipeline(request.model, device, request.dtype)
    _check_words(pipe, request)
    negative = request.negative_prompt is not None
    if request.timelines or negative:
        keep: Any = "steps" if request.timelines else ()
        pipe.set_attn_processor(RDAAMProcessor(keep=keep, keep_negative=negative))
    seed = secrets.randbits(32) if request.seed is None else request.seed
    options = _call_options(request)
    output = pipe(request.prompt, generator=torch.Generator("cpu").manual_seed(seed), **options)
    image_path = request.out / "image.png"
    output.images[0].save(image_path)
    report.say(f"image:        {image_path} (seed {seed})")
    report.add(image=str(image_path), seed=seed)
    attribution = output.attribution
    path = attribution.save(request.out / "attribution.safetensors")
    report.say(f"attribution:  {path}")
    report.add(attribution=str(path))
    _draw_words(attribution, request, report)
    _draw_timelines(attribution, request, report)
    tell_regions(attribution, boxes, request.ranking, report)


def load_pipeline(model: str | None, device: str, dtype: str | None) -> Any:
    """The embedded pipeline, or one from a folder or the hub.

    Raises:
        InputError: there is no such model, device or type.
        UnsupportedPipelineError: the model cannot be recorded.
    """
    quiet_libraries()
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"--dtype {dtype!r} is not known. Types: {', '.join(DTYPES)}.")
    half = model is not None and device.startswith("cuda")
    torch_dtype = getattr(torch, dtype or ("float16" if half else "float32"))
    if model is None:
        from diffusers_rdaam.demo.loader import load_demo_pipeline

        # So small a model is slower on several threads, by far where others use the cores too.
        torch.set_num_threads(1)
        pipe: Any = load_demo_pipeline(dtype=torch_dtype)
    else:
        pipe = _load_model(model, torch_dtype)
    try:
        return pipe.to(device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {device!r} cannot be used here: {error}") from error


def quiet_libraries() -> None:
    """Silence the libraries' bars and notes about loading; this process is ours alone."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    import diffusers

    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()


def _load_model(model: str, torch_dtype: torch.dtype) -> Any:
    from diffusers_rdaam.pipelines.auto import AutoRDAAMPipelineForText2Image

    try:
        return AutoRDAAMPipelineForText2Image.from_pretrained(model, dtype=torch_dtype)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"No pipeline could be loaded from --model {model}: it is neither a folder with a "
            f"model_index.json nor a hub id that can be reached. ({reason})"
        ) from error


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _call_options(request: Request) -> dict[str, Any]:
    options = {
        "num_inference_steps": request.steps,
        "guidance_scale": request.guidance_scale,
        "height": request.height,
        "width": request.width,
        "negative_prompt": request.negative_prompt,
    }
    for name in ("height", "width"):
        side: Any = options[name]
        if side is not None and (side < 8 or side % 8):
            raise InputError(f"--{name} must be a positive multiple of 8; got {side}.")
    given = {name: value for name, value in options.items() if value is not None}
    if request.model is None:
        from diffusers_rdaam.demo.loader import GUIDANCE_SCALE, STEPS

        return {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE_SCALE} | given
    return given


def prepare_folder(folder: Path) -> None:
    """Make the folder and see that it may be written, before time is spent on an image."""
    probe = folder / ".rdaam-write-test"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"--out {folder} cannot be written: {reason}. Give a folder that may be made or "
            "written."
        ) from error


def _check_words(pipe: Any, request: Request) -> None:
    """Refuse a word that the prompt lacks before time is spent on an image."""
    from diffusers_rdaam.recording.tokenize import align

    prompt = align(pipe.tokenizer, request.prompt, pipe.tokenizer.model_max_length)
    for word in (*request.words, *request.timelines):
        prompt.find(word)


def _draw_words(attribution: Attribution, request: Request, report: Report) -> None:
    """One overlay a word; several occurrences of a word are one picture."""
    seen: dict[str, str] = {}
    for found in attribution.words:
        if found.columns:
            seen.setdefault(found.text.casefold(), found.text)
    words = request.words or list(seen.values())
    written: dict[str, str] = {}
    for index, word in enumerate(words):
        path = request.out / f"word-{_slug(word, index)}.png"
        match = attribution.prompt.find(word)
        attribution.match(match).overlay().save(path)
        written[word] = str(path)
        report.say(f"{'heat maps:' if index == 0 else '':<13} {path}")
    report.add(heat_maps=written)


def _draw_timelines(attribution: Attribution, request: Request, report: Report) -> None:
    """A film strip of eight steps and an animation of all, for each word that was asked for."""
    written: dict[str, list[str]] = {}
    for index, word in enumerate(request.timelines):
        timeline = attribution.match(attribution.prompt.find(word)).over_time()
        stem = request.out / f"timeline-{_slug(word, index)}"
        strip, animation = stem.with_suffix(".png"), stem.with_suffix(".gif")
        timeline.film_strip(columns=8, every=max(1, -(-(len(timeline) - 1) // 7))).save(strip)
        timeline.gif(animation)
        written[word] = [str(strip), str(animation)]
        report.say(f"{'timelines:' if index == 0 else '':<13} {strip} and {animation.name}")
    if written:
        report.add(timelines=written)


def _slug(word: str, index: int) -> str:
    return re.sub(r"[^\w]+", "-", word).strip("-") or str(index)
