"""What the output of a command that has ended says of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks.first_gpu.outcome import CommandOutcome
from benchmarks.first_gpu.process import Ended, tail
from benchmarks.first_gpu.steps import Command

# Of pytest: no test was collected.
NOTHING_COLLECTED = 5
COUNTS = re.compile(r"(\d+) (passed|failed|skipped|errors?)")
SUMMARY = re.compile(r"^=*\s*(?:\d+ \w+, )*\d+ \w+ in \d.*$", re.MULTILINE)
SHOWN = 3


def read(outcome: CommandOutcome, command: Command, ended: Ended, log: Path, rows: Path) -> None:
    """Fill in an outcome.

    Args:
        outcome: of the command; its result, reason, seconds, rows, tables and tail are set.
        command: what was to be seen.
        ended: how it ended.
        log: its output.
        rows: the file that it was to write, if it writes rows.
    """
    outcome.seconds = ended.seconds
    text = log.read_text(errors="replace") if log.is_file() else ""
    faults = _faults(command, ended, text)
    if command.reads == "rows":
        faults += _read_rows(outcome, rows)
    counted = _tests(text) if command.reads == "tests" else {}
    if counted:
        outcome.reason = ", ".join(f"{count} {name}" for name, count in counted.items())
    if ended.timed_out:
        outcome.result, outcome.reason = "timed out", _joined(outcome.reason, [ended.text])
    elif not faults and command.reads == "tests" and not counted.get("passed"):
        # Of tests that are all skipped none has shown anything.
        outcome.result = "skipped"
        outcome.reason = _joined(outcome.reason, _skip_reasons(text) or ["no test ran"])
    elif not faults and outcome.rows and all(row["status"] == "SKIP" for row in outcome.rows):
        outcome.result = "skipped"
        reasons = dict.fromkeys(row["measured"] for row in outcome.rows)
        outcome.reason = "; ".join(list(reasons)[:SHOWN])
    else:
        outcome.result = "FAILED" if faults else "passed"
        outcome.reason = _joined(outcome.reason, faults)
    if outcome.result in ("FAILED", "timed out"):
        outcome.tail = tail(log)


def _joined(reason: str, others: list[str]) -> str:
    return "; ".join([reason, *others] if reason else others)


def _faults(command: Command, ended: Ended, text: str) -> list[str]:
    """Why it did not pass: its end, and what its output shows or does not show."""
    faults = []
    nothing = command.reads == "tests" and ended.status == NOTHING_COLLECTED
    if ended.status != 0 and not nothing and not ended.timed_out:
        faults.append(ended.text)
    if nothing and "no tests" not in text:
        faults.append(ended.text)
    passed = command.reads != "tests" or bool(_tests(text).get("passed"))
    if passed and not ended.timed_out:
        faults += [
            f"does not show: {what}"
            for pattern, what in command.wanted.items()
            if not re.search(pattern, text)
        ]
    later = text.rpartition(command.after)[2] if command.after else text
    if not command.after or command.after in text:
        found = [what for pattern, what in command.unwanted.items() if re.search(pattern, later)]
        faults += found
    if command.none_skipped and (skipped := _tests(text).get("skipped")):
        faults.append(f"{skipped} skipped, where none may be")
    return faults


def _tests(text: str) -> dict[str, int]:
    """Counts of the last line in which pytest counts tests."""
    summaries = SUMMARY.findall(text)
    if not summaries:
        return {}
    return {name: int(count) for count, name in COUNTS.findall(summaries[-1])}


def _skip_reasons(text: str) -> list[str]:
    """What ``-rs`` tells, each reason once."""
    found = re.findall(r"^SKIPPED \[\d+\] [^:]+(?::\d+)?: (.*)$", text, re.MULTILINE)
    return list(dict.fromkeys(found))[:SHOWN]


def _read_rows(outcome: CommandOutcome, file: Path) -> list[str]:
    """Take the rows over, also those of a command that was ended; say what is wrong with them."""
    try:
        content = json.loads(file.read_text())
        outcome.rows, outcome.tables = content["rows"], content.get("tables", [])
    except FileNotFoundError:
        return ["wrote no rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"rows cannot be read: {type(error).__name__}: {error}"]
    # Of times that miss their goal another machine may be the cause; the report shows them.
    return [
        f"{row['what']}: {row['measured']}"
        for row in outcome.rows
        if row["status"] == "FAIL" and row["deterministic"]
    ][:SHOWN]
