"""The checks of the first run on a GPU find what is wrong: each is seen red here."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.autograd import DeviceType

from benchmarks.first_gpu import end_to_end, portable_checks, profiled_call, queue_checks
from benchmarks.first_gpu.host import Host
from benchmarks.first_gpu.pipeline_checks import (
    against_stock,
    check_compiled,
    check_inference_mode,
    check_processors,
    maps_row,
)
from benchmarks.first_gpu.scripts import run_checks
from benchmarks.first_gpu.steps import SECOND_RUN
from benchmarks.report import Row
from benchmarks.sizes import SD15, TINY_PIPELINE, unet_without_memory
from benchmarks.whole_unet import STOCK, WholeUNet
from diffusers_rdaam.attention import processor
from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.kernels import operator, portable

CPU = torch.device("cpu")


def tiny(cls: type) -> Any:
    return cls.from_pretrained(TINY_PIPELINE, safety_checker=None)  # type: ignore[attr-defined]


@pytest.fixture
def host() -> Host:
    arguments = {"prompt": "a red cat", "height": 32, "width": 48, "num_inference_steps": 3}
    return Host(CPU, tiny, arguments)


def failed(rows: Iterator[Row]) -> list[str]:
    return [row.what for row in rows if row.status == "FAIL"]


def test_wrong_maps_are_found(host: Host, monkeypatch: pytest.MonkeyPatch):
    right = portable.accumulate

    def wrong(query: Any, key: Any, high: Any, low: Any, **options: Any) -> None:
        right(query, key, high, low, **options)
        high.mul_(1.001)

    monkeypatch.setattr(portable, "accumulate", wrong)
    found = failed(check_inference_mode(host))
    assert found == ["maps, inference mode against reference"]


def output_of(maps: torch.Tensor, additions: int) -> Any:
    grid = SimpleNamespace(maps=maps, additions=additions)
    return SimpleNamespace(attributions=[SimpleNamespace(grids=[grid])])


def test_maps_that_are_no_numbers_and_additions_too_many_are_found():
    maps = torch.full((7, 2, 3), 1 / 7)
    reference = output_of(maps, 12)
    assert maps_row("a run", output_of(maps + 9e-5, 12), reference).status == "PASS"
    assert maps_row("a run", output_of(maps + 2e-4, 12), reference).status == "FAIL"
    assert maps_row("a run", output_of(maps * torch.nan, 12), reference).status == "FAIL"
    row = maps_row("a run", output_of(maps, 13), reference)
    assert (row.status, row.measured) == ("FAIL", "0.0e+00 at most; additions differ")


def test_a_run_that_is_not_recorded_is_found(host: Host, monkeypatch: pytest.MonkeyPatch):
    def breaks(*given: Any, **options: Any) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(portable, "accumulate", breaks)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [row for row in check_inference_mode(host) if row.status == "FAIL"]
    assert [row.what for row in found] == ["maps, inference mode against reference"]
    assert "no such kernel" in found[0].measured


def test_a_changed_image_is_found(host: Host, monkeypatch: pytest.MonkeyPatch):
    right = processor.attend
    monkeypatch.setattr(processor, "attend", lambda *given: right(*given) * 1.0001)
    found = failed(against_stock(host, "a condition"))
    assert found == ["image, a condition"]


@pytest.mark.slow
def test_another_kernel_than_the_one_that_is_wanted_is_found(
    host: Host, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Host, "taken", "maps_only")
    found = [row for row in check_processors(host) if row.status == "FAIL"]
    assert [row.what for row in found] == ["kernel used, auto"]
    assert found[0].measured == "portable (tiles of image positions on cpu)"
    assert found[0].goal == "maps_only at every site"


class Growing(Host):
    """Its second run is larger, which code for one size is compiled again for."""

    def generate(self, pipe: Any, **more: Any) -> Any:
        runs = pipe.__dict__.setdefault("runs", [])
        runs.append(1)
        return super().generate(pipe, **more, height=32 * len(runs))


@pytest.mark.slow
def test_what_is_compiled_again_is_found(host: Host, capfd: pytest.CaptureFixture[str]):
    growing = Growing(CPU, tiny, host.arguments)
    with pytest.raises(RuntimeError, match=r"(?i)recompil"):
        list(check_compiled(growing, "reduce-overhead"))
    torch.compiler.reset()
    assert SECOND_RUN in capfd.readouterr().err


class Waiting:
    """A pipeline that waits for a device within its steps, in some of them."""

    def __init__(self, steps: int, places: int) -> None:
        self.num_timesteps, self.places = steps, places
        self.mode = "default"
        self.modes: list[tuple[int, str]] = []

    def set_mode(self, mode: str) -> None:
        self.mode = mode

    def __call__(self, *, callback_on_step_end: Any, **others: Any) -> None:
        for step in range(self.num_timesteps):
            for _ in range(self.places):
                if self.mode == "warn":
                    warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
            self.modes.append((step, self.mode))
            callback_on_step_end(self, step, None, {})


def test_waits_are_counted_between_the_first_and_the_last_steps_end():
    host = Host(CPU, tiny)
    pipe = Waiting(steps=4, places=2)
    found = queue_checks.waits(host, pipe, pipe.set_mode)
    assert pipe.modes == [(0, "default"), (1, "warn"), (2, "warn"), (3, "warn")]
    assert pipe.mode == "default"
    assert len(found) == 6 and found[0].startswith("test_first_gpu_checks.py:")
    with pytest.raises(ValueError, match="Give two or more"):
        queue_checks.waits(host, Waiting(steps=1, places=1), pipe.set_mode)


def test_waits_that_stock_has_as_well_are_not_recordings():
    stock = ["scheduler.py:7", "scheduler.py:7"]
    row = queue_checks.waits_row("waits", stock, ["scheduler.py:7", "scheduler.py:7"])
    assert (row.status, row.measured) == ("PASS", "2, stock 2")
    row = queue_checks.waits_row("waits", stock, [*stock, "queries.py:207", "queries.py:207"])
    assert (row.status, row.measured) == ("FAIL", "4, stock 2; at queries.py:207")
    # As many, elsewhere.
    row = queue_checks.waits_row("waits", stock, ["scheduler.py:7", "queries.py:207"])
    assert row.status == "FAIL"


@pytest.mark.parametrize("added", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_sums_of_a_graph_that_are_wrong_are_found(monkeypatch: pytest.MonkeyPatch, added: int):
    right = operator.maps_only

    def wrong(*given: Any, **options: Any) -> str | None:
        return [right(*given, **options) for _ in range(added)][-1] if added else None

    monkeypatch.setattr(operator, "maps_only", wrong)
    found = failed(queue_checks.check_graph_capture(Host(CPU, tiny)))
    assert found == ["sums of 3 replays, before its proof", "sums of 3 replays, after it"]


def test_a_portable_kernel_that_loses_bits_is_found(monkeypatch: pytest.MonkeyPatch):
    right = portable.accumulate

    def as_tf32(query: Any, *given: Any, **options: Any) -> None:
        bits = query.float().view(torch.int32)
        right(((bits + 2**12) & -(2**13)).view(torch.float32).to(query.dtype), *given, **options)

    monkeypatch.setattr(portable, "accumulate", as_tf32)
    rows = list(portable_checks.check(CPU, "allow_tf32"))
    assert [row.status for row in rows] == ["FAIL"] * 3 + ["PASS"] * 6


def event(name: str, microseconds: float = 0.0, device: DeviceType = DeviceType.CUDA) -> Any:
    return SimpleNamespace(name=name, device_type=device, device_time=microseconds)


def test_a_profile_is_counted():
    stock = profiled_call.read([event("flash_fwd", 50.0), event("Memcpy DtoH (Device", 1.0)])
    events = [event("attend_to_text", 10.0)] * 3 + [event("fold_shares_0d1d", 2.0)]
    events += [event("flash_fwd", 50.0), event("Memcpy HtoD (Pageable", 1.0)]
    events += [event("cudaStreamSynchronize", device=DeviceType.CPU)]
    recorded = profiled_call.read(events)
    rows = list(profiled_call.rows("SD1.5", 3, stock, recorded))
    assert [row.status for row in rows] == ["PASS", "-", "-", "PASS", "FAIL"]
    assert [row.measured for row in rows] == [
        *("3", "1", "0.032 ms of 0.08 ms in all kernels", "0, stock 1", "1, stock 0")
    ]
    rows = list(profiled_call.rows("SD1.5", 4, stock, recorded))
    assert (rows[0].measured, rows[0].goal, rows[0].status) == ("3", "4", "FAIL")


def test_a_call_is_profiled_stock_and_recorded():
    model = dataclasses.replace(SD15, config=SD15.config | SD15.narrow, latent=(8, 8))
    templates = {profiled_call.BACKEND: RDAAMProcessor(backend="portable")}
    whole = WholeUNet(unet_without_memory(model), model, templates, calls=2)
    for name in (STOCK, profiled_call.BACKEND):
        found = profiled_call.profiled(whole, name, "cpu")
        # No device, and so nothing on it.
        assert found.device_seconds == 0 and not any(found.launches.values())
    assert isinstance(whole.sites[0].module.processor, RDAAMProcessor)


def test_a_check_that_raises_is_a_row_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def breaks() -> Iterator[Row]:
        yield Row("toy", "before", "1")
        raise ValueError("no such cat")

    def works() -> Iterator[Row]:
        yield Row("toy", "after", "2", "2", "PASS")

    file = tmp_path / "rows.json"
    assert run_checks("toy", {"breaks": breaks, "works": works}, file) == 1
    rows = json.loads(file.read_text())["rows"]
    assert [(row["what"], row["measured"], row["status"]) for row in rows] == [
        ("before", "1", "-"),
        ("the check 'breaks' itself", "ValueError: no such cat", "FAIL"),
        ("after", "2", "PASS"),
    ]
    assert all(row["deterministic"] for row in rows)
    assert "no such cat" in capsys.readouterr().err
    assert run_checks("toy", {"works": works}, None) == 0


@pytest.mark.parametrize(
    ("script", "arguments", "text"),
    [
        (end_to_end, ["cats"], "'cats' is not a check. Checks: backends, "),
        (end_to_end, ["--inference-steps", "1"], "Give 2 or more."),
        (profiled_call, ["SD3"], "'SD3' is not a model. Models: SD1.5, SDXL."),
    ],
)
def test_what_scripts_do_not_know(
    script: Any, arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit):
        script.main(arguments)
    assert text in " ".join(capsys.readouterr().err.split())


def test_without_a_device_a_profile_is_skipped(capsys: pytest.CaptureFixture[str]):
    assert profiled_call.main(["--device", "cpu"]) == 0
    assert capsys.readouterr().out.count("SKIP") == 2
