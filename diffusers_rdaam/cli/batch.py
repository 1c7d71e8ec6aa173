"""``rdaam batch``: a data set of many prompts, on Ray or in one process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers_rdaam.cli.models import (
    best_device,
    check_device,
    check_dtype,
    find_model,
    quiet_libraries,
)
from diffusers_rdaam.cli.options import check_guidance, check_size, check_steps
from diffusers_rdaam.cli.report import Report
from diffusers_rdaam.errors import BatchError, InputError


@dataclass(frozen=True)
class BatchRequest:
    """The options of ``rdaam batch``; ``settings`` are those that decide the bytes."""

    source: Path
    out: Path
    model: str | None
    columns: list[str]
    settings: dict[str, Any]
    options: dict[str, Any]


def run(request: BatchRequest, report: Report) -> None:
    """Check everything that can be checked without a model, and make the batch.

    Raises:
        InputError: an option, the input, the model or the folder is wrong.
        BatchError: the batch stopped, or every row failed.
    """
    from diffusers_rdaam.batch.run import run_batch

    settings = {name: value for name, value in request.settings.items() if value is not None}
    check_size(settings.get("height"), settings.get("width"))
    check_guidance(settings.get("guidance_scale"), None)
    check_dtype(settings.get("dtype"))
    on_gpus = bool(request.options["gpus_per_worker"])
    if request.options["address"] is None:
        settings.setdefault("device", "cuda" if on_gpus else best_device())
        # A cluster's devices are not those of this machine.
        check_device(settings["device"])
    check_steps(settings.get("steps"), find_model(request.model).most_steps())
    quiet_libraries()
    done = run_batch(
        request.source,
        request.out,
        model=request.model,
        columns=dict(map(_column, request.columns)),
        progress=report.form == "text",
        **request.options,
        **settings,
    )
    report.say(
        f"{done.rows} rows in {len(done.files)} files: {done.out}"
        f" ({done.made} made now, {done.rows_per_second:.2f} rows a second)"
    )
    if done.errors:
        report.say(f"{done.errors} rows failed; the column error says why: {done.first_error}")
    report.add(
        out=str(done.out),
        rows=done.rows,
        errors=done.errors,
        made=done.made,
        files=[str(path) for path in done.files],
        seconds=round(done.seconds, 3),
        rows_per_second=round(done.rows_per_second, 3),
    )
    if done.errors == done.rows:
        raise BatchError(f"Every row failed; the first: {done.first_error}")


def _column(text: str) -> tuple[str, str]:
    name, sign, column = text.partition("=")
    if not (sign and name and column):
        raise InputError(f"--column {text!r} is not NAME=COLUMN, such as --column prompt=caption.")
    return name, column
