"""``rdaam doctor``: whether recording is right on this machine, or with somebody's own model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from PIL import Image

from diffusers_rdaam.cli.environment import environment_facts
from diffusers_rdaam.cli.models import (
    Model,
    best_device,
    check_device,
    check_dtype,
    find_model,
    load_stock_pipeline,
    on_device,
    quiet_libraries,
)
from diffusers_rdaam.cli.options import check_size, check_steps, check_texts
from diffusers_rdaam.cli.report import FAILED, Report
from diffusers_rdaam.diagnosis.call_inputs import CallInputs
from diffusers_rdaam.diagnosis.examination import Examination, examine, run_of
from diffusers_rdaam.diagnosis.first_run import first_run, tiling_as_it_was
from diffusers_rdaam.diagnosis.self_test import TOLERANCE, SelfTest, self_test
from diffusers_rdaam.errors import IncompleteModelWarning, InputError
from diffusers_rdaam.families import family_of
from diffusers_rdaam.families.refused import REFUSED
from diffusers_rdaam.families.registry import unsupported
from diffusers_rdaam.files.pictures import read_picture
from diffusers_rdaam.files.writing import check_target, write_text
from diffusers_rdaam.images.input_images import as_rgb


@dataclass(frozen=True)
class DoctorRequest:
    """The options of ``rdaam doctor``."""

    model: str | None
    prompt: str
    steps: int
    height: int | None
    width: int | None
    device: str | None
    dtype: str | None
    offload: bool
    out: Path | None
    image: Path | None = None
    control_image: Path | None = None
    mask: Path | None = None

    def files(self) -> dict[str, Path]:
        """The user's pictures, by option."""
        files = {"--image": self.image, "--control-image": self.control_image, "--mask": self.mask}
        return {option: path for option, path in files.items() if path is not None}


def run_doctor(request: DoctorRequest, report: Report) -> None:
    """Examine, print, and write the report; exit with 1 where a check failed.

    Raises:
        InputError: an option is wrong. Nothing has been generated then.
        AttributionFileError: a picture cannot be read. Nothing has been loaded then.
        UnsupportedPipelineError: the model is not recorded.
    """
    check_texts([("--prompt", request.prompt)])
    check_size(request.height, request.width)
    check_dtype(request.dtype)
    if request.out is not None:
        if request.out.is_dir():
            raise InputError(
                f"--out {request.out} is a folder. Give the name of the report's file."
            )
        check_target(request.out)
    model = _checked_model(request)
    pictures = {
        option: as_rgb(read_picture(path, formats=None)) for option, path in request.files().items()
    }
    device = best_device() if request.device is None else request.device
    check_device(device)
    facts = environment_facts()
    for name, value in facts.items():
        report.say(f"{name:<16} {value}")
    report.say("")
    examinations: list[tuple[str, Examination, SelfTest | None]] = []
    if model is None:
        tests = _embedded(request, device)
        examinations += [(f"embedded {test.model}", test.examination, test) for test in tests]
    else:
        examinations.append((str(model.name), _own(request, model, device, report, pictures), None))
    text = "\n\n".join(examination_text(*one) for one in examinations)
    report.say(text)
    passed = all((test or one).passed for _, one, test in examinations)
    verdict = _verdict(passed, whole=all(one.is_whole for _, one, _ in examinations))
    report.say(f"\n{verdict}")
    report.add(
        environment=facts,
        passed=passed,
        examinations={name: asdict(test or one) for name, one, test in examinations},
    )
    if request.out is not None:
        table = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
        page = (
            f"# rdaam doctor\n\n{verdict}\n\n```text\n{text}\n```\n\n| fact | value |\n|---|---|\n"
            f"{table}\n"
        )
        write_text(request.out, page, "report")
        report.say(f"report:  {request.out}")
        report.add(report=str(request.out))
    if not passed:
        raise typer.Exit(FAILED)


def _checked_model(request: DoctorRequest) -> Model | None:
    """The model to examine, before anything is loaded; None for the embedded ones."""
    if request.model is None:
        sizes = {"--height": request.height, "--width": request.width, "--offload": request.offload}
        options = [*(name for name, value in sizes.items() if value), *request.files()]
        if options:
            raise InputError(
                f"{', '.join(options)}: the embedded models take none of these. Give a model with "
                "--model, or leave them out."
            )
        return None
    if request.offload:
        _check_offloading()
    model = find_model(request.model)
    if model.name is None:
        raise InputError("--model is for other models. Leave --model out for the embedded ones.")
    name = model.pipeline_class()
    if name in REFUSED:
        raise unsupported(name, name)
    check_steps(request.steps, model.most_steps())
    return model


def _check_offloading() -> None:
    """Refuse to offload without the library that does it.

    Raises:
        InputError: as it says.
    """
    from diffusers.utils import is_accelerate_available

    if not is_accelerate_available():
        raise InputError(
            "--offload needs accelerate, which is not installed. Install it (pip install "
            "accelerate), or leave --offload out."
        )


def _verdict(passed: bool, *, whole: bool) -> str:
    if not passed:
        return "Something is wrong: see the lines with FAIL."
    if whole:
        return "Everything is right."
    return "Nothing wrong was found, but not everything could be compared: see the lines with ?."


def _embedded(request: DoctorRequest, device: str) -> list[SelfTest]:
    quiet_libraries()
    threads = torch.get_num_threads()
    # So small a model is slower on several threads, by far where others use the cores too.
    torch.set_num_threads(1)
    try:
        return self_test(device, getattr(torch, request.dtype or "float32"))
    finally:
        torch.set_num_threads(threads)


def _own(
    request: DoctorRequest,
    model: Model,
    device: str,
    report: Report,
    pictures: Mapping[str, Image.Image],
) -> Examination:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", IncompleteModelWarning)
        pipe = load_stock_pipeline(model, device, request.dtype)
    incomplete = [one for one in caught if issubclass(one.category, IncompleteModelWarning)]
    pipe.set_progress_bar_config(disable=True)
    if request.offload:
        pipe.enable_model_cpu_offload(device=device)
    else:
        pipe = on_device(pipe, device)
    sizes: dict[str, Any] = {"height": request.height, "width": request.width}
    call = {name: value for name, value in sizes.items() if value is not None}
    inputs = CallInputs(
        pipe, family_of(pipe), prompt=request.prompt, steps=request.steps, call=call
    )
    call |= inputs.files(pictures)
    if incomplete:
        from diffusers_rdaam.checkpoints.weights import models, random_weights

        texts = " ".join(str(one.message) for one in incomplete)
        if any(random_weights(one) for one in models(pipe).values()):
            if not _is_independent(pipe, request.prompt, call):
                raise InputError(texts)
            texts += " The image of this check does not depend on these random numbers."
        report.warn(texts, IncompleteModelWarning)
    return examine(pipe, prompt=request.prompt, steps=request.steps, **call)


def _is_independent(pipe: Any, prompt: str, call: dict[str, Any]) -> bool:
    """Whether an image is the same without the random weights; False where it cannot be said."""
    from diffusers_rdaam.checkpoints.weights import without_random_weights

    def image(arguments: dict[str, Any]) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(run_of(pipe, prompt, arguments)[0])

    try:
        inputs = CallInputs(pipe, family_of(pipe), prompt=prompt, steps=1, call=call)
        with tiling_as_it_was(pipe):
            usual, arguments = first_run(inputs, image)
            with without_random_weights(pipe):
                other = image(arguments)
    except Exception:
        # A pipeline that does not run, with or without them, says nothing of its weights.
        return False
    return bool(np.isfinite(usual).all()) and np.array_equal(usual, other)


def examination_text(name: str, found: Examination, test: SelfTest | None = None) -> str:
    """An examination in lines, each with its verdict first."""
    images = {
        True: "ok    image equal to the stock run's in every bit",
        None: "?     nothing can be compared: two stock runs of one seed differ here",
        False: "FAIL  image differs from the stock run's",
    }
    lines = [
        f"{name}: {found.pipeline}, {found.denoiser}, {found.attention} attention",
        f"      {found.image[0]}x{found.image[1]} (height x width), {found.steps} steps, "
        f"{found.dtype} on {found.device}",
        f"      kernel: {found.kernel} ({found.why})",
        *_input_lines(found),
        images[found.is_identical],
    ]
    if not found.is_finite:
        lines.append(
            "FAIL  the stock image has NaN or infinity: weights or their type (--dtype) are wrong"
        )
    if found.reason:
        lines.append(f"FAIL  no attribution: {found.reason}")
    elif found.sites:
        verdict = {True: "ok  ", False: "FAIL", None: "?   "}[found.are_maps_right]
        count = sum(site.compared for site in found.sites)
        lines.append(
            f"{verdict}  maps against float64 at {len(found.sites)} sites, {count} probabilities: "
            f"largest error {found.largest_error:.1e} (at most {found.tolerance:.0e})"
        )
        lines += [
            f"        {site.name}: largest {site.largest:.1e}, mean {site.mean:.1e}"
            for site in found.sites
        ]
    if found.unseen:
        lines.append(f"?     maps not compared at {found.unseen}")
    if test is not None:
        verdict = "ok  " if test.largest_deviation <= TOLERANCE else "FAIL"
        lines.append(
            f"{verdict}  the words' numbers differ from the stored ones by "
            f"{test.largest_deviation:.2%} at most"
        )
    lines.append(_cost_text(found))
    return "\n".join(lines)


def _input_lines(found: Examination) -> list[str]:
    lines = [f"      made for this check: {found.inputs}"] if found.inputs else []
    if found.left_out:
        lines.append(f"      not given, and not needed: {found.left_out}")
    return lines


def _cost_text(found: Examination) -> str:
    extra = found.recorded_seconds / found.stock_seconds - 1 if found.stock_seconds else 0.0
    text = (
        f"      time of a run: stock {found.stock_seconds:.2f} s, recorded "
        f"{found.recorded_seconds:.2f} s ({extra:+.1%})"
    )
    if found.stock_peak:
        more = (found.recorded_peak - found.stock_peak) / 1e6
        text += f"; peak memory {found.stock_peak / 1e9:.2f} GB, recorded {more:+.1f} MB"
    return text
