"""What recording costs beside every predecessor on the same work, at the size of real models.

Rows are stock diffusers, this package with its options, and the predecessors, each through its own
code (``benchmarks.systems`` says where it is looked for: installed, or in the folder that the
environment variable ``RDAAM_BENCHMARK_SYSTEMS`` names). Columns are the time of a denoiser call,
the extra time in the recorded modules, peak memory, the bytes kept after 1, 10 and 50 steps, and
the time of answers. On the CPU, in fp32, the default measures the text cross-attention modules at
full width alone, in about two minutes; ``--full`` whole UNets too. On a CUDA device whole UNets in
fp16 are measured. A cell that was not measured says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from benchmarks.report import Row
from benchmarks.sizes import SD15, SDXL, unet_without_memory
from benchmarks.systems import all_systems
from benchmarks.systems.cost_rows import goal_rows
from benchmarks.systems.cost_table import cost_table
from benchmarks.systems.finding import short
from benchmarks.systems.memory_use import free_bytes
from benchmarks.systems.record_cells import (
    RecordCells,
    RecordPlan,
    Stages,
    device_plan,
    full_plan,
    quick_plan,
    record_cells,
)
from benchmarks.systems.stage import Stage, Work
from benchmarks.systems.system import System, UnavailableError
from benchmarks.systems.timing_cells import CallCells, call_cells
from benchmarks.table import Table

BATCH = 8
# Beside the weights: activations, and what the libraries take.
SPARE_BYTES = 2e9
# What is timed is right, and the predecessors at hand are driven as they are meant to be.
GUARDS = (
    "tests/kernels/test_portable.py",
    "tests/recording/test_accumulator.py",
    "tests/attention/test_processor.py",
    "tests/benchmarks/test_cost_*.py",
)
GUARDS_ON = {"cuda": ("tests/kernels/test_fused_on_device.py",)}
_tables: list[Table] = []


@dataclass(frozen=True)
class Case:
    """One table.

    Args:
        work: of a denoiser call.
        rounds: in which it is timed.
        record: what is measured of the record; None for what a case before it of the same model
            and batch has measured.
    """

    work: Work
    rounds: int
    record: RecordPlan | None


def run(*, full: bool = False, device: str | None = None) -> list[Row]:
    """One table and its goals for each size.

    Args:
        full: also what takes minutes.
        device: ``"cpu"`` or ``"cuda"``; if not given, a CUDA device where there is one.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return measure(cases(full=full, device=torch.device(device)), all_systems())


def tables() -> list[Table]:
    """Of the last run."""
    return list(_tables)


def cases(*, full: bool, device: torch.device) -> list[Case]:
    """Whole UNets on a CUDA device; on the CPU attention, and with ``full`` whole ones too."""
    plan = full_plan() if full else quick_plan()
    if device.type == "cuda":
        plan = device_plan()
    once = RecordPlan(calls=(1,), slow_calls=1, wide_calls=1, limit=plan.limit, answers=False)
    if device.type == "cuda":
        found = [Case(Work(SD15, part="unet", device=device), 9, plan)]
        if full:
            large = Work(SDXL, part="unet", device=device)
            found += [
                Case(replace(found[0].work, rows=BATCH), 5, once),
                Case(large, 5, plan),
                Case(replace(large, rows=BATCH), 3, once),
            ]
        return found
    found = [Case(Work(SD15), 5, plan)]
    if full:
        found += [
            Case(Work(SD15, part="unet"), 3, None),
            Case(Work(SD15, rows=BATCH), 3, once),
            Case(Work(SDXL), 3, plan),
            Case(Work(SDXL, part="unet"), 1, None),
        ]
    return found


def measure(found: Sequence[Case], systems: Sequence[System]) -> list[Row]:
    """The cases one after the other; :func:`tables` has their tables then.

    Args:
        found: what to measure.
        systems: stock first.
    """
    _tables.clear()
    missing: dict[str, str] = {}
    for system in systems:
        try:
            system.load()
        except UnavailableError as error:
            missing[system.name] = str(error)
    rows: list[Row] = []
    known: dict[tuple[str, int], dict[str, RecordCells]] = {}
    for case in found:
        needed = too_large(case.work)
        if needed is not None:
            rows.append(Row("cost", title(case), needed, status="SKIP"))
            continue
        calls, records = _case(case, [s for s in systems if s.name not in missing])
        calls |= {name: CallCells(failure=f"not run: {why}") for name, why in missing.items()}
        shown = known.setdefault((case.work.model.name, case.work.rows), records)
        _tables.append(cost_table(title(case), case.work, systems, calls, shown))
        rows += goal_rows(case.work, systems, calls, records)
    return rows


def _case(
    case: Case, systems: Sequence[System]
) -> tuple[dict[str, CallCells], dict[str, RecordCells]]:
    # On the CPU a whole UNet's call is long enough to drown what only the first one pays.
    warm_up = case.work.part == "attention" or case.work.device.type == "cuda"
    calls = call_cells(Stage(case.work), systems, number=case.rounds, warm_up=warm_up)
    records: dict[str, RecordCells] = {}
    if case.record is None:
        return calls, records
    stages = Stages(case.work)
    for system in systems:
        failed = system.name in calls and calls[system.name].failure is not None
        if failed or system is systems[0]:
            continue
        try:
            records[system.name] = record_cells(system, stages, case.record)
        except Exception as error:
            calls[system.name] = CallCells(failure=short(error))
    return calls, records


def title(case: Case) -> str:
    """The model, the size, the batch, and what of the UNet is computed."""
    work = case.work
    prompts = work.rows // 2
    part = "whole UNet" if work.part == "unet" else "its text cross-attention modules alone"
    kind = "fp16" if work.dtype is torch.float16 else "fp32"
    return (
        f"{work.model.name} at {work.model.size_text}, {prompts} "
        f"{'prompt' if prompts == 1 else 'prompts'} with guidance (batch {work.rows}), {part}, "
        f"{kind} on {work.device.type}, {case.rounds} rounds"
    )


def too_large(work: Work) -> str | None:
    """Why a whole UNet is not made here, if it is not."""
    if work.part != "unet":
        return None
    parameters = sum(p.numel() for p in unet_without_memory(work.model).parameters())
    # Also what goes to a device is filled here first.
    needed, free = 4 * parameters + SPARE_BYTES, free_bytes()
    if free is None or free >= needed:
        return None
    return f"{needed / 1e9:.0f} GB of memory needed, {free / 1e9:.0f} GB free"
