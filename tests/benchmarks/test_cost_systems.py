"""Each predecessor's own code, where it is at hand: it records, answers, and leaves no trace."""

from __future__ import annotations

import pytest
from cost_standins import TINY

from benchmarks.systems import all_systems
from benchmarks.systems.record_cells import RecordPlan, Stages, record_cells
from benchmarks.systems.restoring import recorded_by, same_bits
from benchmarks.systems.stage import Stage, Work
from benchmarks.systems.system import System, UnavailableError
from benchmarks.timing import Sample

SYSTEMS = all_systems()
# Bytes after one and after two steps, over the four grids of the model and its heads in fp32.
POSITIONS = 5 * 64 + 5 * 16 + 5 * 4
WITH_MIDDLE = POSITIONS + 1
HEADS, TOKENS, BYTES = 2, 77, 4
MAPS = HEADS * TOKENS * BYTES


def _loaded(system: System) -> System:
    try:
        system.load()
    except UnavailableError as error:
        pytest.skip(f"{system.title}: {error}")
    return system


@pytest.mark.every(5)
@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.title)
@pytest.mark.parametrize("part", ["attention", "unet"])
def test_the_unet_is_as_before(system: System, part: str) -> None:
    stage = Stage(Work(TINY, part=part))
    _loaded(system)
    before = stage.outputs()
    stage.announce(2)
    with recorded_by(system, stage) as answers:
        stage.call(0)
        stage.call(1)
        if system is not SYSTEMS[0]:
            assert answers.first() is not None
    assert same_bits(before, stage.outputs())
    left: list[str] = []
    with recorded_by(SYSTEMS[0], stage, left):
        pass
    assert left == []


@pytest.mark.parametrize(
    ("title", "one", "two"),
    [
        # It drops grids that are an eighth of the sample size: here those of 8x8.
        ("DAAM", (POSITIONS - 5 * 64) * MAPS, (POSITIONS - 5 * 64) * MAPS),
        ("rdaam", 2 * WITH_MIDDLE * MAPS, 4 * WITH_MIDDLE * MAPS),
        (
            "attention-map-diffusers, maps of all steps",
            2 * WITH_MIDDLE * TOKENS * BYTES,
            4 * WITH_MIDDLE * TOKENS * BYTES,
        ),
        # States of both rows, a view of which is wanted.
        ("OVAM", 2 * (5 * 64 * 8 + 5 * 16 * 16 + 5 * 4 * 16) * BYTES, None),
    ],
)
def test_what_it_keeps(title: str, one: int, two: int | None) -> None:
    system = _loaded(next(system for system in SYSTEMS if system.title == title))
    cells = record_cells(system, Stages(Work(TINY)), RecordPlan((1, 2), 2, 2, 10**9))
    assert cells.kept == {1: one, 2: 2 * one if two is None else two}
    assert isinstance(cells.first, Sample)


def test_who_has_which_question() -> None:
    asked = {}
    for system in SYSTEMS:
        if system.predecessor:
            try:
                system.load()
            except UnavailableError:
                continue
            cells = record_cells(system, Stages(Work(TINY)), RecordPlan((1,), 1, 1, 10**9))
            asked[system.title] = [isinstance(c, Sample) for c in (cells.box, cells.word)]
    wanted = {"DAAM": [False, True], "rdaam": [True, False], "OVAM": [False, True]}
    for title, questions in asked.items():
        assert questions == wanted.get(title, [False, False])
    if not asked:
        pytest.skip("no predecessor is at hand")


def test_daam_takes_one_prompt_and_says_so() -> None:
    system = _loaded(next(system for system in SYSTEMS if system.title == "DAAM"))
    with pytest.raises(ValueError, match="Only single prompt"):  # noqa: SIM117
        with recorded_by(system, Stage(Work(TINY, rows=8))):
            pass
