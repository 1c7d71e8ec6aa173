"""The cost table of stand-ins: its cells, its goals, and its reasons."""

from __future__ import annotations

import math

import pytest
import torch
from cost_standins import KEPT, TINY, Keeper, Missing, tiny_stage

from benchmarks import cost
from benchmarks.cost import Case
from benchmarks.systems import all_systems
from benchmarks.systems.clock import ThreadClock, rounds, timed
from benchmarks.systems.ours import Ours
from benchmarks.systems.record_cells import RecordPlan, Stages, boxes_of, record_cells
from benchmarks.systems.stage import Stage, Work
from benchmarks.systems.stock import Stock
from benchmarks.systems.timing_cells import call_cells
from benchmarks.table import Table
from benchmarks.timing import Sample

PLAN = RecordPlan(calls=(1, 10, 50), slow_calls=1, wide_calls=10, limit=10**9)


def _kept(plan: RecordPlan, **attributes: object) -> dict[int, int | str]:
    return record_cells(Keeper(**attributes), Stages(Work(TINY)), plan).kept


def test_bytes_kept_are_those_of_the_tensors() -> None:
    assert _kept(PLAN) == {1: 2 * KEPT, 10: 20 * KEPT, 50: 100 * KEPT}
    assert _kept(PLAN, grows=False) == dict.fromkeys((1, 10, 50), 2 * KEPT)


@pytest.mark.slow
def test_longer_runs_than_allowed_are_not_made_up() -> None:
    assert _kept(PLAN, kept_by_width=True)[50] == "not measured (minutes)"
    slow = _kept(PLAN, visits_self=True)
    assert slow == {1: 2 * KEPT} | dict.fromkeys((10, 50), "not measured (minutes)")
    small = RecordPlan(calls=(1, 10, 50), slow_calls=1, wide_calls=10, limit=30 * KEPT)
    assert _kept(small)[50] == "not measured (memory)" and _kept(small)[10] == 20 * KEPT
    quick = RecordPlan((1, 10, 50), 1, 10, 10**9, growing_calls=10)
    assert _kept(quick)[50] == "not measured (minutes)" and _kept(quick)[10] == 20 * KEPT
    assert _kept(quick, grows=False)[50] == 2 * KEPT
    # Constant, as far as was measured: the limit is not in its way.
    assert _kept(small, grows=False)[50] == 2 * KEPT


@pytest.mark.slow
def test_answers_are_times_or_reasons() -> None:
    cells = record_cells(Keeper(), Stages(Work(TINY)), PLAN)
    assert isinstance(cells.first, Sample) and len(cells.first.seconds) == 1
    assert cells.box == "fails: ZeroDivisionError: no area" == cells.region
    assert cells.word == "no such query"


@pytest.mark.slow
def test_our_own_rows_answer_and_are_stock_in_every_bit() -> None:
    for ours in (Ours("cross"), Ours("own", self_attention=True), Ours("keys", keep="queries")):
        cells = record_cells(ours, Stages(Work(TINY)), RecordPlan((1, 2), 2, 2, 10**9))
        answers = (cells.first, cells.box, cells.word, cells.region)
        assert all(isinstance(answer, Sample) for answer in answers)
        stage = tiny_stage(visits_self=True)
        found = call_cells(stage, [Stock(), ours], number=1, warm_up=True)[ours.name]
        assert found.failure is None and found.same and found.restored and found.left == ()
    with pytest.raises(ValueError, match="Stock comes first"):
        call_cells(stage, [ours], number=1, warm_up=False)


@pytest.mark.slow
def test_only_ours_with_steps_apart_grows() -> None:
    plan = RecordPlan((1, 4), 1, 1, 10**9, answers=False)
    one, four = record_cells(Ours("cross"), Stages(Work(TINY)), plan).kept.values()
    assert one == four
    one, four = record_cells(Ours("steps", keep="steps"), Stages(Work(TINY)), plan).kept.values()
    assert four > one


@pytest.mark.slow
def test_a_system_that_fails_has_its_reason_and_the_others_their_times() -> None:
    systems = [Stock(), Keeper(fails=True), Keeper(title="good")]
    for warm_up in (True, False):
        found = call_cells(tiny_stage(), systems, number=2, warm_up=warm_up)
        assert found["keeper"].failure == "RuntimeError: this one cannot record"
        good = found["good"]
        assert good.failure is None and good.same and good.restored
        assert good.inside is not None and len(good.inside.seconds) == 2
        assert not any(math.isnan(value) for value in good.extra.seconds)


@pytest.mark.slow
def test_extra_time_and_peak_are_over_stocks() -> None:
    class Slow(Keeper):
        def _keep(self, module: object, args: tuple[object, ...]) -> None:
            super()._keep(module, args)
            for _ in range(1000):
                torch.ones(100, 100) @ torch.ones(100, 100)

    systems = [Stock(), Keeper(), Slow(title="slow")]
    found = call_cells(tiny_stage(), systems, number=3, warm_up=True)
    stock, slow = found[systems[0].name], found["slow"]
    assert stock.peak == 0 and set(stock.extra.seconds) == {0.0}
    assert found["keeper"].peak == 2 * KEPT
    # Its work is in a hook of the denoiser, outside of the recorded modules.
    assert slow.call.median > 2 * stock.call.median
    pairs = zip(slow.inside.seconds, stock.inside.seconds, strict=True)
    assert slow.extra.seconds == tuple(one - other for one, other in pairs)


def test_other_bits_are_seen() -> None:
    found = call_cells(tiny_stage(), [Stock(), Keeper(spoils=True)], number=1, warm_up=True)
    assert found["keeper"].same is False and found["keeper"].restored
    assert any(name.endswith("attn2.forward") for name in found["keeper"].left)


@pytest.mark.slow
def test_the_table_and_its_rows() -> None:
    ours = Ours("cross-attention")
    systems = [Stock(), ours, Missing(), Keeper(), Keeper(title="bad", fails=True)]
    rows = cost.measure([Case(Work(TINY, part="unet"), 2, PLAN)], systems)
    (table,) = cost.tables()
    cells = {line[0]: dict(zip(table.columns, line, strict=True)) for line in table.rows}
    assert list(cells)[1:] == [ours.name, "missing", "keeper", "bad"]
    assert cells["missing"]["s per UNet call"] == "not run: not installed here"
    assert cells["bad"]["s per UNet call"] == "RuntimeError: this one cannot record"
    assert cells["keeper"]["kept after 1 step"] == "0.00 MB"
    assert cells[ours.name]["output"] == "equal in every bit"
    assert "(" in cells[ours.name]["ratio to stock"]
    reasons = {row.what: row.measured for row in rows if row.status == "SKIP"}
    assert reasons == {
        "tiny, batch 2, UNet: bad": "RuntimeError: this one cannot record",
        "tiny, batch 2, UNet: missing": "not run: not installed here",
    }
    assert not any("left behind" in row.what for row in rows)
    goals = {row.what: row for row in rows if row.goal}
    assert goals[f"tiny, batch 2, UNet: recorded call over stock, {ours.name}"].goal.endswith(
        "1.005"
    )
    assert goals[f"tiny, batch 2, UNet: bytes kept, {ours.name}"].status == "PASS"
    assert goals["tiny, batch 2, UNet: outputs of 1 of our rows against stock"].status == "PASS"
    assert table.markdown().count("\n") == len(systems) + 3


@pytest.mark.slow
def test_what_a_system_leaves_behind_is_a_row() -> None:
    case = Case(Work(TINY), 1, None)
    rows = cost.measure([case], [Stock(), Ours("plain"), Keeper(spoils=True)])
    (row,) = (row for row in rows if "left behind by keeper" in row.what)
    assert row.measured == "pipeline.stray, and 2 more"
    (row,) = (row for row in rows if "stock's output after each of 3 systems" in row.what)
    assert row.status == "PASS"


@pytest.mark.slow
def test_a_whole_unets_table_shows_the_record_that_was_measured_before() -> None:
    found = [Case(Work(TINY), 1, PLAN), Case(Work(TINY, part="unet"), 1, None)]
    rows = cost.measure(found, [Stock(), Ours("plain"), Keeper()])
    attention, whole = (table.rows[1] for table in cost.tables())
    assert attention[6:] == whole[6:] and "not measured" not in whole[6]
    assert attention[1] != whole[1]
    assert sum("bytes kept" in row.what for row in rows) == 1


@pytest.mark.slow
def test_a_batch_has_as_many_prompts_and_no_answers() -> None:
    once = RecordPlan(calls=(1,), slow_calls=1, wide_calls=1, limit=10**9, answers=False)
    systems = [Stock(), Ours("cross-attention"), Keeper()]
    cost.measure([Case(Work(TINY, rows=8), 1, once)], systems)
    (table,) = cost.tables()
    assert "4 prompts with guidance (batch 8)" in table.title
    row = dict(zip(table.columns, table.rows[2], strict=True))
    assert row["10 steps"] == row["a word"] == "not measured"
    assert row["s per UNet call"] == "whole UNet only"


def test_a_unet_that_does_not_fit_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "free_bytes", lambda: 10**9)
    (row,) = cost.measure([Case(Work(TINY, part="unet"), 1, None)], [Stock()])
    assert row.status == "SKIP" and row.measured == "2 GB of memory needed, 1 GB free"
    assert cost.tables() == []


def test_the_attention_stage_has_the_unets_modules_in_its_order() -> None:
    stage = tiny_stage(visits_self=True)
    called: list[object] = []
    for module, _, _ in stage.unet.visits:
        module.register_forward_hook(lambda module, *unused: called.append(module))
    stage.call()
    attention = list(called)
    whole = Stage(Work(TINY, part="unet"))
    called.clear()
    names = {module: name for name, module in whole.unet.named_modules()}
    for module in names:
        if type(module).__name__ == "Attention":
            module.register_forward_hook(lambda module, *unused: called.append(module))
    whole.call()
    of_stage = {module: name for name, module in stage.unet.named_modules()}
    assert [of_stage[module] for module in attention] == [names[module] for module in called]
    shapes = [tuple(states.shape) for _, states, _ in stage.unet.visits]
    assert shapes[:2] == [(2, 64, 8), (2, 64, 8)] and (2, 1, 16) in shapes


def test_the_clock_sees_hooks_and_patches_of_the_modules() -> None:
    class Ticks:
        now = 0.0

        def mark(self) -> float:
            return self.now

        def seconds(self, start: float, stop: float) -> float:
            return stop - start

    clock, module = Ticks(), torch.nn.Linear(1, 1)

    def wait(seconds: float) -> None:
        clock.now += seconds

    def call() -> None:
        wait(10.0)
        module(torch.ones(1))

    module.register_forward_pre_hook(lambda *unused: wait(1.0))
    module.register_forward_hook(lambda *unused: wait(2.0))
    original = module.forward
    module.forward = lambda values: (wait(4.0), original(values))[1]
    assert timed(call, [[module], []], clock) == (17.0, 7.0, 0)
    assert not len(module._forward_hooks) - 1


def test_rounds_rotate() -> None:
    order: list[str] = []

    def candidate(name: str):
        return lambda: (order.append(name), (1.0, 2.0))[1]

    taken = rounds({name: candidate(name) for name in "abc"}, 3)
    assert "".join(order) == "abcbcacab"
    assert taken["a"] == (Sample((1.0,) * 3), Sample((2.0,) * 3))


def test_the_cpu_clock_wants_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pytest.raises(RuntimeError, match="set_num_threads"):
        ThreadClock()


def test_tables_are_markdown_and_of_one_width() -> None:
    table = Table("A title", ["a", "b"], [["1", "two | three\nfour"]])
    body = "| a | b |\n| --- | --- |\n| 1 | two \\| three four |"
    assert table.markdown() == f"**A title**\n\n{body}"
    with pytest.raises(ValueError, match="A row of 1 cells"):
        Table("", ["a", "b"], [["1"]])


def test_boxes_have_an_area_and_are_the_same_every_time() -> None:
    boxes = boxes_of((20, 30), 50)
    assert boxes == boxes_of((20, 30), 50)
    assert all(0 <= a < c <= 30 and 0 <= b < d <= 20 for a, b, c, d in boxes)


def test_cases_by_device() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    (quick,) = cost.cases(full=False, device=cpu)
    assert (quick.work.model.name, quick.work.part, quick.work.rows) == ("SD1.5", "attention", 2)
    sizes = {
        (c.work.model.name, c.work.rows, c.work.part) for c in cost.cases(full=True, device=cpu)
    }
    assert {("SD1.5", 2, "unet"), ("SD1.5", 8, "attention"), ("SDXL", 2, "unet")} < sizes
    found = cost.cases(full=True, device=cuda)
    assert {c.work.part for c in found} == {"unet"}
    assert {c.work.dtype for c in found} == {torch.float16}
    assert len({c.work.rows for c in found}) == 2 == len({c.work.model.name for c in found})
    assert "whole UNet, fp16 on cuda" in cost.title(found[0])


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a CUDA device")
def test_kernels_of_a_device_say_that_there_is_none() -> None:
    rows = cost.measure([Case(Work(TINY), 1, None)], [Stock(), Ours("fused", backend="fused")])
    assert [row.measured for row in rows if row.status == "SKIP"] == [
        "not run: no CUDA device here"
    ]


def test_the_rows_are_those_of_the_table() -> None:
    names = [system.title for system in all_systems()]
    assert names[0] == "stock diffusers" and len(names) == len(set(names))
    assert [name for name in names if name.startswith("ours")] == names[1:7]
