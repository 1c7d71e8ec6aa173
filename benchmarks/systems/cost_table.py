"""The wide table: a row for each system, a column for each cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.systems.record_cells import CALLS, Cell, RecordCells
from benchmarks.systems.stage import Work
from benchmarks.systems.system import System
from benchmarks.systems.timing_cells import CallCells
from benchmarks.table import Table
from benchmarks.timing import Sample

COLUMNS = (
    "system",
    "s per UNet call",
    "ratio to stock",
    "extra in the recorded modules",
    "output",
    "peak memory over stock",
    "kept after 1 step",
    "10 steps",
    "50 steps",
    "run end to first answer (1 step)",
    "first box",
    "a word",
    "a new region",
    "note",
)
NOT_MEASURED = "not measured"


def cost_table(
    title: str,
    work: Work,
    systems: Sequence[System],
    calls: Mapping[str, CallCells],
    records: Mapping[str, RecordCells],
) -> Table:
    """All cells as text; what was not measured says so.

    Args:
        title: of the table.
        work: whose calls were timed.
        systems: stock first.
        calls, records: of each that was measured, by name.
    """
    stock = calls[systems[0].name]
    rows = [
        _row(system, work, calls.get(system.name), records.get(system.name), stock)
        for system in systems
    ]
    return Table(title, list(COLUMNS), rows)


def megabytes(size: int) -> str:
    """``"1.68 MB"``, in units of 1 000 000 bytes."""
    return f"{size / 1e6:.2f} MB" if abs(size) < 1e8 else f"{size / 1e6:,.0f} MB"


def readable(sample: Sample) -> str:
    """In seconds, or in milliseconds if it is less than one."""
    return sample.text("s" if sample.median > 1 else "ms")


def _row(
    system: System,
    work: Work,
    call: CallCells | None,
    record: RecordCells | None,
    stock: CallCells,
) -> list[str]:
    if call is not None and call.failure is not None:
        return [system.name, call.failure, *[""] * (len(COLUMNS) - 2)]
    timed = [NOT_MEASURED + " (whole UNet only)"] * 5 if call is None else _timed(call, work, stock)
    if stock is call:
        return [system.name, *timed, *[""] * 8]
    return [system.name, *timed, *_recorded(record), system.note]


def _timed(call: CallCells, work: Work, stock: CallCells) -> list[str]:
    assert call.call is not None and call.inside is not None and call.extra is not None
    seconds, ratio = "whole UNet only", "whole UNet only"
    if work.part == "unet":
        assert stock.call is not None
        seconds = readable(call.call)
        ratio = "{:.4f} ({:.4f} to {:.4f})".format(*call.call.over(stock.call))
    if call is stock:
        base = readable(call.inside)
        return [seconds, "1", f"0 ({base} in attn2)", "", "0"]
    same = "equal in every bit" if call.same else "other bits"
    return [seconds, ratio, readable(call.extra), same, _peak(call.peak)]


def _peak(size: int | None) -> str:
    return NOT_MEASURED if size is None else megabytes(size)


def _recorded(record: RecordCells | None) -> list[str]:
    if record is None:
        return [NOT_MEASURED] * 7
    kept = [record.kept.get(steps, NOT_MEASURED) for steps in CALLS]
    texts = [size if isinstance(size, str) else megabytes(size) for size in kept]
    return [*texts, *map(_answer, (record.first, record.box, record.word, record.region))]


def _answer(cell: Cell) -> str:
    if isinstance(cell, Sample):
        return readable(cell)
    return cell or NOT_MEASURED
