"""Text attention alone, stock and recorded; and the benchmarks that are made of it."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention

from benchmarks import growth, idle_kernels, overhead
from benchmarks.growth import Case, Found
from benchmarks.one_site import recorded_pair
from benchmarks.timing import Sample
from diffusers_rdaam import RDAAMProcessor
from diffusers_rdaam.kernels import dispatch, fused_proof
from diffusers_rdaam.kernels.reference import head_mean_probabilities

NO_TRITON = importlib.util.find_spec("triton") is None


@pytest.fixture
def attention() -> Attention:
    """Two heads of 8 channels."""
    module = Attention(query_dim=16, cross_attention_dim=12, heads=2, dim_head=8)
    return module.eval().requires_grad_(False)


def test_the_last_rows_are_recorded_and_the_output_is_stock(attention: Attention) -> None:
    with recorded_pair(attention, (3, 5), rows=4, images=2, tokens=7) as pair:
        assert torch.equal(pair.call_recorded(2), pair.call_stock())
        assert pair.bytes_kept == 4 * 2 * 7 * 15 + 4
        maps = [image.text.grids[0].maps for image in pair.recorder.read()]
    query, key = (
        layer(states[2:]).unflatten(-1, (2, 8)).transpose(1, 2)
        for layer, states in ((attention.to_q, pair.states), (attention.to_k, pair.text))
    )
    wanted = head_mean_probabilities(query, key, scale=8**-0.5).unflatten(-1, (3, 5))
    torch.testing.assert_close(torch.stack(maps), wanted, atol=1e-5, rtol=1e-4)


def test_maps_alone_are_those_of_a_call(attention: Attention) -> None:
    with recorded_pair(attention, (3, 5), rows=2, images=1, tokens=7) as pair:
        pair.call_recorded()
        (before,) = pair.recorder.read()
        pair.call_record()
        (after,) = pair.recorder.read()
    assert after.text.grids[0].additions == 2
    torch.testing.assert_close(after.text.grids[0].maps, before.text.grids[0].maps)


def test_copies_are_sites_of_their_own(attention: Attention) -> None:
    with recorded_pair(attention, (3, 5), rows=2, images=1, tokens=7, copies=3) as pair:
        assert torch.equal(pair.call_recorded(0), pair.states)
        pair.call_recorded()
        (image,) = pair.recorder.read()
        assert len(image.text.grids[0].sites) == 3


def test_the_module_stays_as_it_was(attention: Attention) -> None:
    before = attention.processor
    with recorded_pair(attention, (3, 5), rows=2, images=1, tokens=7) as pair:
        pair.call_recorded()
    assert attention.processor is before


def test_growth_has_a_line_for_every_case(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("ROUNDS", 3),
        ("WIDTH", 3),
        ("HEIGHTS", (4, 8)),
        ("GRID", (4, 3)),
        ("TEXT_GRID", (4, 3)),
        ("BATCHES", ((1, 1), (4, 2))),
        ("TEXTS", (7, 14)),
        ("RUNS", ((1, 1), (2, 2))),
        ("STEPS", 1),
    ):
        monkeypatch.setattr(growth, name, value)
    rows = growth.run()
    assert {row.status for row in rows} == {"-", "PASS"}
    assert [row.measured for row in rows if row.deterministic] == [
        *["2 of 2 as the formula has them"] * 3,
        "2 of 2",
    ]
    tables = growth.tables()
    assert [row[:2] for row in tables[0].rows] == [["3x4", "12"], ["3x8", "24"]]
    assert [row[-1] for row in tables[0].rows] == ["3,700", "7,396"]
    assert [row[:2] for row in tables[1].rows] == [["1", "1"], ["4", "2"]]
    assert [row[0] for row in tables[2].rows] == ["7", "14"]
    assert [row[0] for row in tables[3].rows] == ["1 x 1", "2 x 2"]


def _found(size: int, seconds: float, kept: int) -> Found:
    case = Case((str(size),), size, grid=(size, 1), tokens=1)
    return Found(case, Sample((seconds,)), Sample((1.0,)), Sample((1.5,)), kept)


def test_exponents_and_bytes_that_do_not_grow_as_told() -> None:
    exact = [_found(size, size**2 / 1e4, 4 * size + 4) for size in (2, 4, 8)]
    power, kept = growth._rows("something", exact)
    assert (power.measured, kept.status) == ("2.00", "PASS")
    power, kept = growth._rows("something", [*exact, _found(16, -0.1, 5)])
    assert power.measured == "not fitted"
    assert (kept.measured, kept.status) == ("3 of 4 as the formula has them", "FAIL")


def test_overhead_counts_what_a_recorded_call_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhead, "ROUNDS", 1)
    monkeypatch.setattr(overhead, "REPEATS", 2)
    monkeypatch.setattr(overhead, "IDLE_ROUNDS", 2)
    rows = overhead.run()
    (table,) = overhead.tables()
    counts = {name: (int(stock), int(recorded)) for name, stock, recorded in table.rows}
    assert counts["exp2_"] == (0, 1)
    stock, recorded = counts.pop("all, with equal")
    assert recorded > stock
    assert recorded - stock == sum(more - less for less, more in counts.values())
    assert rows[1].measured.startswith(f"{recorded - stock} more than the {stock} of stock")


def test_the_count_is_of_one_call_without_arming_or_buffers(attention: Attention) -> None:
    with recorded_pair(attention, (2, 2), rows=2, images=1, tokens=7) as pair:
        first: Any = overhead._operators(pair, "cpu")
        assert overhead._operators(pair, "cpu") == first


def test_a_site_with_a_kernel_that_does_nothing_has_a_goal(
    attention: Attention, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = {"stock": Sample((9e-5, 5e-5, 7e-5)), "recorded": Sample((7e-5, 9e-5, 8e-5))}

    def times(pair: Any, *unused: Any) -> dict[str, Sample]:
        pair.call_recorded()
        return taken

    monkeypatch.setattr(overhead, "_times", times)
    row = overhead._idle_row(attention, "portable", "a kernel that does nothing", "toy")
    assert (row.measured, row.status) == ("20 us on 50 us stock, 0.40 of it", "PASS")
    taken["recorded"] = Sample((7.2e-5,))
    row = overhead._idle_row(attention, "portable", "a kernel that does nothing", "toy")
    assert row.status == "FAIL"


@pytest.mark.skipif(NO_TRITON, reason="Triton is not installed")
@pytest.mark.parametrize("kind", idle_kernels.KINDS, ids=" ".join)
def test_a_kernel_that_does_nothing_is_reached_and_leaves_nothing(
    attention: Attention, kind: tuple[str, str]
) -> None:
    backend, _ = kind
    template = RDAAMProcessor(backend=backend)  # type: ignore[arg-type]
    proved, options = set(fused_proof._proved), {"rows": 2, "images": 1, "tokens": 7}
    with (
        idle_kernels.KINDS[kind]() as idle,
        recorded_pair(attention, (3, 5), **options, template=template) as pair,
    ):
        # The first call may be a trial of the kernel, and does not count.
        pair.call_recorded()
        before = idle.calls
        assert torch.equal(pair.call_recorded(), pair.call_stock())
        assert idle.calls > before
        (frames,) = pair.recorder.buffers.text.values()
        assert not any(plane.any() for plane in frames.accumulators[0]._high.values())
        assert pair.recorded.sites[0].processor.used.name == backend
    assert fused_proof._proved == proved
    assert dispatch.choose("maps_only", device=torch.device("cuda")).name == "portable"


def test_a_kernel_that_does_nothing_and_is_not_called_is_an_error() -> None:
    with (
        pytest.raises(RuntimeError, match="accumulate was replaced by what does nothing, and was"),
        idle_kernels.idle_portable(),
    ):
        pass
