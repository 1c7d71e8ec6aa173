"""Of every system: the bytes that a run leaves, and how long its answers take."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.systems.clock import Clock, clock_of
from benchmarks.systems.finding import short
from benchmarks.systems.memory_use import (
    Storages,
    free_bytes,
    live_bytes,
    older_objects_left_out,
)
from benchmarks.systems.restoring import recorded_by
from benchmarks.systems.stage import WORDS, Stage, Work
from benchmarks.systems.system import Answers, Box, NoSuchQueryError, System
from benchmarks.timing import Sample

BOXES = 9
CALLS = (1, 10, 50)
Cell = Sample | str


@dataclass(frozen=True)
class RecordPlan:
    """What is measured of a run's record.

    Args:
        calls: lengths of the runs, ascending; after the first of them the answers are asked for.
        slow_calls: the longest run of a system whose calls are slow.
        wide_calls: the longest run at full width.
        growing_calls: the longest run where a shorter one has shown that steps add up.
        limit: bytes that a system may keep.
        answers: whether they are asked for.
    """

    calls: tuple[int, ...]
    slow_calls: int
    wide_calls: int
    limit: int
    growing_calls: int = CALLS[-1]
    answers: bool = True


@dataclass(frozen=True)
class RecordCells:
    """What one system keeps and answers.

    Args:
        kept: bytes after runs of so many calls, or why they were not measured.
        first: from the end of the run to the first answer.
        box: the first box of the run; words: a word not asked for before.
        region: a box after that one.
    """

    kept: dict[int, int | str] = field(default_factory=dict)
    first: Cell = ""
    box: Cell = ""
    word: Cell = ""
    region: Cell = ""


class Stages:
    """The denoisers for the records of a model's size, each made when it is first asked for.

    Args:
        work: of which model, how many rows, on what device.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._made: dict[tuple[bool, bool], Stage] = {}

    def of(self, system: System) -> Stage:
        """Full width where what is kept depends on it, and on a device, which has the time."""
        narrow = not system.kept_by_width and self._work.device.type == "cpu"
        key = (narrow, system.visits_self)
        if key not in self._made:
            self._made[key] = Stage(
                Work(
                    self._work.model,
                    self._work.rows,
                    narrow=narrow,
                    visits_self=system.visits_self,
                    device=self._work.device,
                )
            )
        return self._made[key]


def record_cells(system: System, stages: Stages, plan: RecordPlan) -> RecordCells:
    """Runs of the planned lengths; the first one's answers.

    Raises:
        Exception: whatever the system raises when it records.
    """
    stage = stages.of(system)
    longest = plan.slow_calls if system.visits_self else plan.wide_calls
    longest = longest if system.kept_by_width or system.visits_self else plan.calls[-1]
    cells = RecordCells()
    with older_objects_left_out() as older:
        for calls in plan.calls:
            reason = _reason(cells.kept, calls, longest, plan)
            if reason is not None:
                cells.kept[calls] = reason
                continue
            ask = plan.answers and calls == plan.calls[0]
            cells = _run(system, stage, calls, cells, older, ask=ask)
    return cells


def _reason(kept: dict[int, int | str], calls: int, longest: int, plan: RecordPlan) -> str | None:
    """Why a run of so many calls is not made."""
    if calls > longest:
        return "not measured (minutes)"
    measured = {before: size for before, size in kept.items() if isinstance(size, int)}
    if len(measured) < len(kept):
        return "not measured (memory)"
    if len(measured) > 1 and _grows(measured) and calls > plan.growing_calls:
        return "not measured (minutes)"
    free = free_bytes()
    limit = plan.limit if free is None else min(plan.limit, free // 2)
    # Only to decide whether to run it: what is shown was measured.
    if any(size * calls / before > limit for before, size in measured.items() if _grows(measured)):
        return "not measured (memory)"
    return None


def _grows(measured: dict[int, int]) -> bool:
    """Whether runs differ in what they keep; of one alone it is not known."""
    return len(measured) < 2 or len(set(measured.values())) > 1


def _run(
    system: System,
    stage: Stage,
    calls: int,
    cells: RecordCells,
    older: Storages,
    *,
    ask: bool,
) -> RecordCells:
    stage.announce(calls)
    before = live_bytes(older)
    with recorded_by(system, stage) as answers:
        for step in range(calls):
            stage.call(step)
        kept = cells.kept | {calls: live_bytes(older) - before}
        if not ask:
            return RecordCells(kept, cells.first, cells.box, cells.word, cells.region)
        return RecordCells(kept, *_answers(answers, stage, clock_of(stage.work.device)))


def _answers(answers: Answers, stage: Stage, clock: Clock) -> tuple[Cell, Cell, Cell, Cell]:
    first, *boxes = boxes_of(stage.size, BOXES)
    return (
        _ask(clock, [answers.first]),
        _ask(clock, [lambda: answers.box(first)]),
        _ask(clock, [lambda word=word: answers.word(word) for word in WORDS]),
        _ask(clock, [lambda box=box: answers.box(box) for box in boxes]),
    )


def _ask(clock: Clock, questions: Sequence[Callable[[], object]]) -> Cell:
    try:
        return Sample(tuple(clock.answer(question) for question in questions))
    except NoSuchQueryError as error:
        return str(error)
    except Exception as error:
        return f"fails: {short(error)}"


def boxes_of(size: tuple[int, int], number: int) -> list[Box]:
    """Boxes at random, the same every time."""
    draw = random.Random(5)
    height, width = size
    found = []
    for _ in range(number):
        left, right = sorted(draw.sample(range(width + 1), 2))
        top, bottom = sorted(draw.sample(range(height + 1), 2))
        found.append((left, top, right, bottom))
    return found


def quick_plan() -> RecordPlan:
    """In a minute."""
    return RecordPlan(calls=CALLS, slow_calls=1, wide_calls=10, limit=2 * 10**9, growing_calls=10)


def full_plan() -> RecordPlan:
    """In minutes, and in half of the free memory."""
    return RecordPlan(calls=CALLS, slow_calls=10, wide_calls=50, limit=10**10)


def device_plan() -> RecordPlan:
    """On a device, where no run takes long."""
    return RecordPlan(calls=CALLS, slow_calls=50, wide_calls=50, limit=10**10)
