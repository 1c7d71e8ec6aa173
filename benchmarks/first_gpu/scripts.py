"""Checks as a command: each one's rows are written as it ends, so that a killed run keeps them."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch

from benchmarks.report import Row


def run_checks(
    benchmark: str, checks: Mapping[str, Callable[[], Iterable[Row]]], file: Path | None
) -> int:
    """Run checks in order; one that raises is a row that fails, and the others go on.

    Args:
        benchmark: what its rows are called where a check raises.
        checks: by name.
        file: rows are written there as JSON, if it is given.

    Returns:
        The exit status: 1 where a row fails, else 0.
    """
    rows: list[Row] = []
    _write(file, rows)
    for name, check in checks.items():
        print(f"{name}:", flush=True)
        try:
            for row in check():
                # Not a time: whoever reads the file counts its failure as the command's.
                rows.append(replace(row, deterministic=True))
                goal = f" (wanted: {row.goal})" if row.goal else ""
                print(f"  {row.status:<4}  {row.what}: {row.measured}{goal}", flush=True)
                _write(file, rows)
        except Exception as error:
            traceback.print_exc()
            what = f"{type(error).__name__}: {error}".splitlines()[0]
            rows.append(Row(benchmark, f"the check {name!r} itself", what, "runs", "FAIL", True))
            _write(file, rows)
    return int(any(row.status == "FAIL" for row in rows))


def keep_to_one_thread(device: str) -> None:
    """On a processor, where the pipeline is so small that threads wait for each other."""
    if device == "cpu":
        torch.set_num_threads(1)


def _write(file: Path | None, rows: list[Row]) -> None:
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"rows": [asdict(row) for row in rows]}, indent=2) + "\n")
