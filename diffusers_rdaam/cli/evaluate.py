"""``rdaam evaluate``: a data set, a protocol, and a table with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffusers_rdaam.argument_checks import real_number
from diffusers_rdaam.checkpoints.failures import explained_run
from diffusers_rdaam.cli.models import (
    best_device,
    check_device,
    check_dtype,
    find_model,
    load_pipeline,
)
from diffusers_rdaam.cli.report import Report
from diffusers_rdaam.demo.world import IMAGE_SIZE
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.evaluation.datasets.formats import FORMATS, open_dataset
from diffusers_rdaam.evaluation.evaluation import Evaluation
from diffusers_rdaam.evaluation.gallery import write_gallery
from diffusers_rdaam.evaluation.maps import Maps, maps_of
from diffusers_rdaam.evaluation.protocols.table import protocol_of, protocols
from diffusers_rdaam.evaluation.rows import check_folder
from diffusers_rdaam.evaluation.run import RunSettings, evaluate, tune_threshold
from diffusers_rdaam.evaluation.sample import DataSet
from diffusers_rdaam.evaluation.worlds import WORLDS, generated_scenes


@dataclass(frozen=True)
class EvaluationRequest:
    """The options of ``rdaam evaluate``."""

    data: str
    format: str
    split: str | None
    tune_on: str | None
    protocol: str
    strict: bool
    maps: list[str]
    options: list[str]
    model: str | None
    limit: int | None
    source: str
    noise: list[float] | None
    draws: int | None
    seed: int
    steps: int | None
    gallery: int
    device: str | None
    dtype: str | None
    out: Path


def list_protocols(report: Report) -> None:
    """Print every protocol with its flaws, and every format of data sets."""
    report.say(repr(protocols()))
    report.say("\nformats of data sets")
    for name, one in FORMATS.items():
        report.say(f"  {name}: {one.files}")
    report.add(
        protocols={
            name: {"summary": one.summary, "reference": one.reference, "flaws": list(one.flaws)}
            for name, one in protocols().items()
        },
        formats={name: one.files for name, one in FORMATS.items()},
    )


def run_evaluation(request: EvaluationRequest, report: Report) -> None:
    """Check everything that can be checked, load the model, and evaluate.

    Raises:
        InputError: an option, the data set or the model is wrong; or no image could be scored.
    """
    options = parsed_options(request.options)
    protocol = protocol_of(request.protocol, strict=request.strict, **options)
    maps = maps_of(request.maps or ["mean"])
    data = _data(request, request.split)
    tuning = _tuning(request, data, maps)
    run = _run_options(request)
    # Before a threshold is chosen, which takes as long as the evaluation.
    check_folder(request.out)
    device = best_device() if request.device is None else request.device
    check_dtype(request.dtype)
    check_device(device)
    model = find_model(request.model)
    pipe = load_pipeline(model, device, request.dtype)
    if tuning is not None:
        chosen = {"maps": maps[0], **run, **options}
        with explained_run(pipe):
            best, curve = tune_threshold(pipe, tuning, request.protocol, **chosen)
        report.say(f"threshold {best:g}, chosen on {request.tune_on}")
        report.add(threshold=best, threshold_curve={f"{key:g}": one for key, one in curve.items()})
        protocol = replace(protocol, threshold=best)
    with explained_run(pipe):
        found = evaluate(
            pipe,
            data,
            protocol,
            maps=maps,
            out=request.out,
            model=request.model or model.embedded,
            progress=_Progress(report),
            **run,
        )
    _report(found, request, report)
    if not found.scored:
        raise InputError(f"No image could be scored: {found.summary().rstrip('.')}.")
    if request.gallery:
        path = request.out / "gallery.html"
        write_gallery(pipe, data, protocol, found, path, count=request.gallery, **run)
        report.say(f"gallery of the best and the worst: {path}")
        report.add(gallery=str(path))


def _run_options(request: EvaluationRequest) -> dict[str, Any]:
    """The arguments of :func:`evaluate` about images, checked."""
    run: dict[str, Any] = {
        "source": request.source,
        "noise": tuple(request.noise) if request.noise else None,
        "draws": request.draws,
        "seed": request.seed,
        "call": {} if request.steps is None else {"num_inference_steps": request.steps},
    }
    RunSettings(**run)
    return run


def _tuning(request: EvaluationRequest, data: DataSet, maps: tuple[Maps, ...]) -> DataSet | None:
    """The data set that the threshold is chosen on.

    Raises:
        InputError: it has images that are evaluated; or there are several kinds of maps.
    """
    if request.tune_on is None:
        return None
    found = _data(request, request.tune_on)
    if set(found.ids) & set(data.ids):
        raise InputError(
            f"--tune-on {request.tune_on} has images that are evaluated: a threshold that is "
            "chosen on them makes their numbers too good. Give another split."
        )
    if len(maps) > 1:
        raise InputError("--tune-on chooses the threshold of one --maps; several were given.")
    return found


def _report(found: Evaluation, request: EvaluationRequest, report: Report) -> None:
    report.say(str(found.table()))
    for flaw in found.flaws:
        report.say(f"as published: {flaw}")
    report.say(f"report: {request.out / 'report.json'}, table.md, table.csv, images.csv")
    report.add(**found.to_dict(), out=str(request.out))


class _Progress:
    """A line on the screen for every tenth of the images, and for every error."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def __call__(self, done: int, total: int, row: Mapping[str, Any]) -> None:
        if row["status"] == "error":
            self._report.say(f"{row['id']}: {row['error']}")
        if done == total or done % max(1, total // 10) == 0:
            self._report.say(f"{done} of {total}")


def _data(request: EvaluationRequest, split: str | None) -> DataSet:
    """The data set of a split; or a world of the embedded models, which lies on no disk."""
    if request.data in WORLDS and not Path(request.data).exists():
        if split not in (None, "held out", "seen"):
            raise InputError(f"{request.data} has the splits 'held out' and 'seen'; got {split!r}.")
        world = WORLDS[request.data]
        more = {} if world is generated_scenes else {"size": _scene_size(request.model)}
        return world(request.limit or 40, seed=request.seed, seen=split == "seen", **more)
    if request.format not in FORMATS and request.format in WORLDS:
        raise InputError(
            f"{request.format!r} is given in place of a folder: rdaam evaluate {request.format}."
        )
    found = open_dataset(request.data, request.format, split=split)
    return found if request.limit is None else found.first(request.limit)


def _scene_size(name: str | None) -> int:
    """The side of drawn scenes: that of the embedded model's images."""
    size = find_model(name).size()
    return IMAGE_SIZE if size is None else min(size)


def parsed_options(texts: list[str]) -> dict[str, Any]:
    """Options of a protocol as ``name=value``: numbers, true, false, texts; ``|`` between several.

    Raises:
        InputError: one has no value, or two have one name.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or not value or name in found:
            raise InputError(f"--option is name=value, each name once; got {text!r}.")
        found[name] = _value(value)
        if name in ("labels", "concepts", "backgrounds") and isinstance(found[name], str):
            found[name] = (found[name],)
    return found


def _value(text: str) -> Any:
    if "|" in text:
        return tuple(part.strip() for part in text.split("|"))
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        number = real_number(float(text))
    except ValueError:
        return text
    if number is None:
        return text
    return int(number) if number.is_integer() and "." not in text else number
