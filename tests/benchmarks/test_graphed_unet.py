"""Runs under CUDA graphs, with a stand-in for the graph: all else is as on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks import gpu, gpu_rows
from benchmarks.gpu_rows import Use
from benchmarks.graphed_unet import GraphedUNet
from benchmarks.sizes import SD15, unet_without_memory
from benchmarks.timing import Sample, ThreadClock
from benchmarks.whole_unet import WholeUNet
from diffusers_rdaam import RDAAMProcessor
from diffusers_rdaam.kernels import portable

NARROW = replace(SD15, config=SD15.config | SD15.narrow, latent=(8, 12))


class StandIn:
    """Replays by calling again.

    As a graph does, its capture computes nothing, and its replays write their output where the
    first one lay and add to the planes of the capture, whatever is armed by then.
    """

    def __init__(self, whole: WholeUNet) -> None:
        self.whole = whole

    @contextmanager
    def _with_targets(self, targets: list[Any]) -> Iterator[None]:
        processors = [site.module.processor for site in self.whole.sites]
        armed = [getattr(processor, "target", None) for processor in processors]
        for processor, target in zip(processors, targets, strict=True):
            processor.target = target
        try:
            yield
        finally:
            for processor, target in zip(processors, armed, strict=True):
                processor.target = target

    def capture(self, call: Callable[[], Any]) -> Any:
        self.call = call
        self.targets = [getattr(site.module.processor, "target", None) for site in self.whole.sites]
        with self._with_targets([None] * len(self.targets)):
            self.output = call()
        return self.output

    def replay(self) -> None:
        with self._with_targets(self.targets):
            self.output.sample.copy_(self.call().sample)


@pytest.fixture
def whole() -> WholeUNet:
    """Two calls a run."""
    templates = {"portable": RDAAMProcessor(backend="portable")}
    return WholeUNet(unet_without_memory(NARROW), NARROW, templates, calls=2)


def prepared(whole: WholeUNet, stand_in: type[StandIn] = StandIn) -> GraphedUNet:
    graphed = GraphedUNet(whole, lambda: stand_in(whole))
    graphed.prepare()
    return graphed


def test_replays_record_what_eager_calls_do(whole: WholeUNet) -> None:
    graphed = prepared(whole)
    assert (graphed.reasons, graphed.differences) == ({}, {"portable": 0.0})
    assert list(graphed.runs()) == ["stock", "portable"]
    counts = graphed._buffers["portable"].text["conditional"].accumulators[0].counts
    for call in graphed.runs().values():
        call()
        assert "forward" not in vars(whole.unet)
    assert counts.tolist() == [2] * len(whole.sites)


def test_the_next_run_adds_to_the_planes_of_the_capture(
    whole: WholeUNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Forgetting(dict[str, Any]):
        def get(self, *unused: Any) -> None:
            return None

    graphed = GraphedUNet(whole, lambda: StandIn(whole))
    monkeypatch.setattr(graphed, "_buffers", Forgetting())
    graphed.prepare()
    assert list(graphed.reasons) == ["portable"]
    assert "NoAttributionError" in graphed.reasons["portable"]


class AddsTwice(StandIn):
    def replay(self) -> None:
        super().replay()
        super().replay()


class RunsNothing(StandIn):
    def replay(self) -> None:
        pass


class CannotCapture(StandIn):
    def capture(self, call: Callable[[], Any]) -> Any:
        if isinstance(self.whole.sites[0].module.processor, RDAAMProcessor):
            raise RuntimeError("operation not permitted when stream is capturing\nmore of it")
        return super().capture(call)


class CannotRecord(StandIn):
    """An error of a recording kernel under capture ends the record, not the call."""

    def capture(self, call: Callable[[], Any]) -> Any:
        right = portable.accumulate

        def wrong(*unused: Any, **options: Any) -> None:
            raise RuntimeError("no such stream")

        portable.accumulate = wrong
        try:
            call()
        finally:
            portable.accumulate = right
        return super().capture(call)


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("stand_in", "why"),
    [
        (AddsTwice, "not captured: RuntimeError: Replays have added "),
        (RunsNothing, "not captured: NoAttributionError: "),
        (
            CannotCapture,
            "not captured: RuntimeError: operation not permitted when stream is capturing",
        ),
        (CannotRecord, "not captured: NoAttributionError: Recording stopped at denoiser call 1"),
    ],
)
def test_what_cannot_be_captured_is_a_reason(
    whole: WholeUNet, stand_in: type[StandIn], why: str
) -> None:
    graphed = prepared(whole, stand_in)
    assert list(graphed.reasons) == ["portable"]
    assert graphed.reasons["portable"].startswith(why)
    assert "\n" not in graphed.reasons["portable"]
    assert list(graphed.runs()) == ["stock"]
    time, maps = gpu_rows.rows_of_graphs("runs", ["portable"], {}, graphed)
    assert time.status == maps.status == "SKIP"
    assert time.measured == graphed.reasons["portable"]
    assert (time.goal, maps.goal) == ("at most 1.08", "at most 0.0001")
    assert "forward" not in vars(whole.unet)


def test_without_a_stock_graph_there_is_nothing_to_compare(whole: WholeUNet) -> None:
    graphed = prepared(whole)
    graphed.reasons["stock"] = "not captured: OutOfMemoryError: CUDA out of memory"
    rows = gpu_rows.rows_of_graphs("runs", ["portable"], {}, graphed)
    assert {row.measured for row in rows} == {
        "stock not captured: OutOfMemoryError: CUDA out of memory"
    }


def test_graphs_are_judged(whole: WholeUNet) -> None:
    graphed = GraphedUNet(whole)
    graphed.differences = {"maps_only": 0.0, "fused": 2e-4}
    replayed = {name: Sample((time,)) for name, time in
                (("stock", 1.0), ("maps_only", 1.03), ("fused", 1.02))}  # fmt: skip
    rows = gpu_rows.rows_of_graphs("runs", ["maps_only", "fused"], replayed, graphed)
    assert [row.status for row in rows] == ["PASS", "PASS", "FAIL", "FAIL"]
    assert [row.goal for row in rows][::2] == ["at most 1.03", "at most 1.01"]
    assert rows[3].measured == "2.0e-04 difference"


def test_the_first_run_may_take_its_planes_and_a_little() -> None:
    first = {"stock": Use(10**9, 0.5), "portable": Use(10**9 + 25_000_000, 0.6)}
    first |= {"maps_only": Use(1_009_680_000, 3.0), "fused": Use(1_009_680_001, 3.0)}
    kept = dict.fromkeys(("portable", "maps_only", "fused"), 1_680_000)
    rows = gpu_rows.rows_of_first_runs("runs", first, kept)
    assert [row.status for row in rows] == ["-", "PASS", "FAIL"]
    assert rows[1].goal == "at most 8 MB besides the planes"
    assert rows[1].measured == "9.68 MB over stock, with planes of 1.68 MB; 3 s, stock 0.5 s"


@pytest.mark.slow
def test_a_model_is_measured_from_its_first_run_to_its_graphs(
    whole: WholeUNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    right = whole.run
    monkeypatch.setattr(whole, "run", lambda name: (done.append(name), right(name)))
    measured: list[int] = []

    def use_of(call: Callable[[], object]) -> Use:
        measured.append(len(done))
        call()
        return Use(10**9, 0.5)

    rows = gpu.rows_of_model(
        "runs",
        whole,
        rounds=1,
        clock=ThreadClock(),
        use_of=use_of,
        make_graph=lambda: StandIn(whole),
    )
    # What only a first recorded run takes is seen in the first one, and stock's is not counted.
    assert done[:3] == ["stock", "stock", "portable"] and measured[:2] == [1, 2]
    assert [row.what.removeprefix("runs, ").split(",")[0] for row in rows] == [
        "first run with its compilation",
        "run time",
        "peak memory over stock",
        "output against stock",
        "run time under CUDA graphs",
        "maps of a replayed run against an eager one",
    ]
    first, _, _, output, time, maps = rows
    assert first.measured.startswith("0.00 MB over stock, with planes of 0.04 MB")
    assert (output.status, maps.status) == ("PASS", "PASS")
    assert "ratio" in time.measured


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("backend", ["portable", "maps_only", "fused"])
def test_a_real_graph_records_what_eager_calls_do(backend: Any) -> None:
    templates = {backend: RDAAMProcessor(backend=backend)}
    unet = unet_without_memory(NARROW)
    whole = WholeUNet(unet, NARROW, templates, device="cuda", dtype=torch.float16, calls=3)
    graphed = GraphedUNet(whole)
    graphed.prepare()
    assert graphed.reasons == {}
    assert graphed.differences[backend] <= gpu_rows.GOAL_MAPS
