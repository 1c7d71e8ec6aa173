"""The goals of the cost table, and whether this run meets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.report import Row, equality, judged
from benchmarks.systems.attention_map_diffusers import AttentionMapDiffusers
from benchmarks.systems.cost_table import megabytes, readable
from benchmarks.systems.daam import Daam
from benchmarks.systems.ours import Ours
from benchmarks.systems.record_cells import RecordCells
from benchmarks.systems.stage import Work
from benchmarks.systems.system import System
from benchmarks.systems.timing_cells import CallCells

# The package's promise for an image of SD1.5's size.
KEPT_GOAL = 1_800_000
# Of a recorded call over stock, by device and backend.
CALL_GOAL = {("cpu", "portable"): 1.005, ("cuda", "portable"): 1.03, ("cuda", "fused"): 1.01}
Calls = Mapping[str, CallCells]
Records = Mapping[str, RecordCells]


def goal_rows(work: Work, systems: Sequence[System], calls: Calls, records: Records) -> list[Row]:
    """What the table must show, of one of its sizes.

    Args:
        work: whose calls were timed.
        systems: stock first.
        calls, records: of each that was measured, by name.
    """
    ours = [system for system in systems if isinstance(system, Ours)]
    others = [system for system in systems if system.predecessor]
    rows = []
    if ours:
        rows += _against_predecessors(work, ours[0], others, calls)
        rows += _whole_calls(work, ours, calls)
        rows += _kept(work, ours[0], records)
        rows += _same_outputs(work, ours, calls)
    rows += [
        Row("cost", f"{_where(work)}: {name}", cells.failure, status="SKIP")
        for name, cells in calls.items()
        if cells.failure is not None
    ]
    rows += [
        Row("cost", f"{_where(work)}: left behind by {name}, and put back", _names(cells.left))
        for name, cells in calls.items()
        if cells.left
    ]
    restored = [cells.restored for cells in calls.values() if cells.restored is not None]
    what = f"{_where(work)}: stock's output after each of {len(restored)} systems"
    return [*rows, equality("cost", what, all(restored))]


def _where(work: Work) -> str:
    part = "UNet" if work.part == "unet" else "attn2 alone"
    return f"{work.model.name}, batch {work.rows}, {part}"


def _names(left: Sequence[str]) -> str:
    rest = f", and {len(left) - 1} more" if len(left) > 1 else ""
    return f"{left[0].lstrip('.')}{rest}"


def _measured(system: System, calls: Calls) -> CallCells | None:
    cells = calls.get(system.name)
    return None if cells is None or cells.extra is None else cells


def _against_predecessors(
    work: Work, ours: Ours, others: Sequence[System], calls: Calls
) -> list[Row]:
    """One row for each that makes maps during the call, and for those that put it off."""
    mine = _measured(ours, calls)
    rows = []
    for system in others:
        theirs = _measured(system, calls)
        if mine is None or theirs is None or not isinstance(system, Daam | AttentionMapDiffusers):
            continue
        assert mine.extra is not None and theirs.extra is not None
        what = f"{_where(work)}: extra time in attn2, {ours.name} against {system.name}"
        measured = f"{readable(mine.extra)} against {readable(theirs.extra)}"
        if system.kept_by_width:
            # It computes its maps when it is asked for them.
            rows.append(Row("cost", f"{what}, which makes no map in the call", measured))
            continue
        below = mine.extra.median < theirs.extra.median
        rows.append(judged("cost", what, measured, "below it in the same run", below))
    return rows


def _whole_calls(work: Work, ours: Sequence[Ours], calls: Calls) -> list[Row]:
    rows = []
    stock = next(iter(calls.values()))
    for system in ours:
        cells = _measured(system, calls)
        if work.part != "unet" or cells is None or stock.call is None:
            continue
        assert cells.call is not None
        ratio, low, high = cells.call.over(stock.call)
        what = f"{_where(work)}: recorded call over stock, {system.name}"
        measured = f"{ratio:.4f} ({low:.4f} to {high:.4f})"
        goal = _call_goal(work, system)
        if goal is None:
            rows.append(Row("cost", what, measured))
        else:
            text = f"median at most {goal:g}"
            rows.append(judged("cost", what, measured, text, ratio <= goal))
    return rows


def _call_goal(work: Work, system: Ours) -> float | None:
    """Of the default record alone; more of it costs more, and says so."""
    if set(system.options) - {"backend"}:
        return None
    return CALL_GOAL.get((work.device.type, system.options.get("backend", "portable")))


def _kept(work: Work, ours: Ours, records: Records) -> list[Row]:
    cells = records.get(ours.name)
    if cells is None or len(cells.kept) < 2:
        return []
    sizes = [size for size in cells.kept.values() if isinstance(size, int)]
    measured = ", ".join(
        f"{size if isinstance(size, str) else megabytes(size)} after {calls}"
        for calls, size in cells.kept.items()
    )
    bounded = len(set(sizes)) == 1 and max(sizes) <= KEPT_GOAL
    goal = f"constant, at most {megabytes(KEPT_GOAL)}"
    what = f"{_where(work)}: bytes kept, {ours.name}"
    return [judged("cost", what, measured, goal, bounded, deterministic=True)]


def _same_outputs(work: Work, ours: Sequence[Ours], calls: Calls) -> list[Row]:
    """Every backend but the fused one promises stock's bits."""
    names = [s.name for s in ours if s.options.get("backend") != "fused"]
    found = [calls[name].same for name in names if name in calls]
    same = [value for value in found if value is not None]
    what = f"{_where(work)}: outputs of {len(same)} of our rows against stock"
    return [equality("cost", what, all(same))] if same else []
