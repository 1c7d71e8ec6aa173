"""Runs of whole UNets on a CUDA device in fp16, stock against recorded: time and peak memory.

One measurement is a run: ten guided calls of the UNet, recorded from its first to its last as a
pipeline does it. All kinds of runs are measured in one process, in interleaved rounds, twice: as
they are, where a call may wait for the processor that queues its kernels, and with the UNet's call
captured as a CUDA graph, where what is measured is the device's work. The first recorded run, in
which kernels are compiled and proved, is measured by itself.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks import joint_cost
from benchmarks.gpu_rows import (
    GOALS,
    Use,
    distance,
    rows_of_first_runs,
    rows_of_graphs,
    rows_of_runs,
    skipped_rows,
)
from benchmarks.graphed_unet import CudaGraph, Graph, GraphedUNet
from benchmarks.report import Row
from benchmarks.sizes import SD15, SDXL, Model, unet_without_memory
from benchmarks.timing import Clock, DeviceClock, interleaved
from benchmarks.whole_unet import STOCK, WholeUNet, memory_missing, size_text
from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.kernels.dispatch import choose

GUARDS = (
    "tests/kernels/test_portable.py",
    "tests/kernels/test_planes.py",
    "tests/attention/test_processor.py",
    "tests/recording/test_accumulator.py",
)
GUARDS_ON = {"cuda": ("tests/kernels/test_fused_on_device.py",)}

NO_DEVICE = "not measured: no CUDA device"
DTYPE = torch.float16
CALLS = 10
ROUNDS, FULL_ROUNDS = 9, 25


def run(*, full: bool = False, device: str = "cpu") -> list[Row]:
    """SD1.5 at 512x512 and SDXL at 1024x1024, guidance, random weights."""
    rounds = FULL_ROUNDS if full else ROUNDS
    rows = [row for model in (SD15, SDXL) for row in _model(model, device, rounds)]
    return rows + _joint(device)


def _joint(device: str) -> list[Row]:
    """Joint attention of FLUX's and Stable Diffusion 3's size, or why it is not measured."""
    if torch.device(device).type == "cuda":
        return joint_cost.rows_on(device)
    what = "FLUX's and Stable Diffusion 3's blocks, recording the prompt's columns"
    return [Row("gpu", what, NO_DEVICE, status="SKIP")]


def _model(model: Model, device: str, rounds: int) -> list[Row]:
    unet = unet_without_memory(model)
    what = f"{model.name} {model.size_text}, {size_text(unet)}, fp16, runs of {CALLS} UNet calls"
    reasons = _reasons(unet, device)
    templates = {
        name: RDAAMProcessor(backend=name)  # type: ignore[arg-type]  # checked by _reasons
        for name in GOALS
        if name not in reasons
    }
    rows = [row for name, reason in reasons.items() for row in skipped_rows(what, name, reason)]
    if not templates:
        return rows
    whole = WholeUNet(unet, model, templates, device=device, dtype=DTYPE, calls=CALLS)
    return rows + rows_of_model(what, whole, rounds=rounds, clock=DeviceClock(device))


def rows_of_model(
    what: str,
    whole: WholeUNet,
    *,
    rounds: int,
    clock: Clock,
    use_of: Callable[[Callable[[], object]], Use] | None = None,
    make_graph: Callable[[], Graph] = CudaGraph,
) -> list[Row]:
    """All that is measured of a model.

    Args:
        what: which model and runs.
        whole: of which nothing has run yet.
        rounds: of each kind of run.
        clock: of a run.
        use_of: what measures memory; the CUDA device's if not given.
        make_graph: what captures a call.
    """
    use_of = use_of or device_use
    first = first_runs(whole, use_of)
    # Kernels are chosen and compiled, and their memory is taken.
    uses = {name: use_of(call) for name, call in whole.runs().items()}
    taken = interleaved(whole.runs(), rounds=rounds, warm_up=False, clock=clock)
    difference = difference_of_stock_kernels(whole)
    peaks = {name: use.nbytes for name, use in uses.items()}
    rows = rows_of_first_runs(what, first, whole.kept)
    rows += rows_of_runs(what, taken, peaks, whole.outputs, difference)
    graphed = GraphedUNet(whole, make_graph)
    graphed.prepare()
    calls = graphed.runs()
    replayed = interleaved(calls, rounds=rounds, clock=clock) if calls else {}
    return rows + rows_of_graphs(what, list(whole.templates), replayed, graphed)


def first_runs(whole: WholeUNet, use_of: Callable[[Callable[[], object]], Use]) -> dict[str, Use]:
    """Of each kind of recorded run the very first, with what only that one takes; stock's second.

    What libraries take at their first call is not recording's: stock runs once before.
    """
    runs = whole.runs()
    runs[STOCK]()
    return {name: use_of(call) for name, call in runs.items()}


def difference_of_stock_kernels(
    whole: WholeUNet,
    kernels: tuple[SDPBackend, SDPBackend] = (
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.EFFICIENT_ATTENTION,
    ),
) -> float | None:
    """How far two of torch's own kernels in the text attention put a stock run's output apart.

    None where one of them does not serve it.
    """
    for kernel in kernels:
        whole.processors[kernel.name] = [_Under(kernel) for _ in whole.sites]
        try:
            whole.run(kernel.name)
        except RuntimeError:
            return None
    one, other = (whole.outputs[kernel.name] for kernel in kernels)
    return distance(one, other)


class _Under(AttnProcessor2_0):
    """Stock attention by one of torch's kernels."""

    def __init__(self, kernel: SDPBackend) -> None:
        super().__init__()
        self.kernel = kernel

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        with sdpa_kernel(self.kernel):
            return super().__call__(*args, **kwargs)


def _reasons(unet: torch.nn.Module, device: str) -> dict[str, str]:
    """Why backends cannot be measured, by their names."""
    if device != "cuda":
        return dict.fromkeys(GOALS, NO_DEVICE)
    missing = memory_missing(unet, DTYPE, device)
    if missing:
        return dict.fromkeys(GOALS, f"not measured: {missing}")
    reasons = {}
    for name in GOALS:
        try:
            choice = choose(name, device=torch.device(device))  # type: ignore[arg-type]
        except InputError as error:
            reasons[name] = f"not measured: {error}"
            continue
        if choice.name != name:
            reasons[name] = f"not measured: {choice.reason}"
    return reasons


def device_use(call: Callable[[], object]) -> Use:
    """Of a call on the CUDA device; the weights and the run's buffers are among its bytes."""
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return Use(torch.cuda.max_memory_allocated(), time.perf_counter() - start)
