"""Runs of whole UNets on a CUDA device in fp16, stock against recorded: time and peak memory.

One measurement is a run: ten guided calls of the UNet, recorded from its first to its last as a
pipeline does it. All kinds of runs are measured in one process, in interleaved rounds.
"""

from __future__ import annotations

import gc
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.report import Row, equality, judged
from benchmarks.sizes import SD15, SDXL, Model, unet_without_memory
from benchmarks.timing import DeviceClock, Sample, interleaved
from benchmarks.whole_unet import STOCK, WholeUNet, against_stock, memory_missing, size_text
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.kernels.dispatch import choose
from diffusers_rdaam.recording.processor import RDAAMProcessor

GUARDS = (
    "tests/kernels/test_portable.py",
    "tests/kernels/test_planes.py",
    "tests/recording/test_processor.py",
    "tests/recording/test_accumulator.py",
)
GUARDS_ON = {"cuda": ("tests/kernels/test_fused_on_device.py",)}

NO_DEVICE = "not measured: no CUDA device"
DTYPE = torch.float16
CALLS = 10
ROUNDS, FULL_ROUNDS = 9, 25
# Of a recorded run over a stock one, by backend; the second is the default on a GPU.
GOALS: dict[str, float | None] = {"portable": 1.03, "beside": None, "fused": 1.01}
GOAL_BYTES = 4_000_000


def run(*, full: bool = False, device: str = "cpu") -> list[Row]:
    """SD1.5 at 512x512 and SDXL at 1024x1024, guidance, random weights."""
    rounds = FULL_ROUNDS if full else ROUNDS
    return [row for model in (SD15, SDXL) for row in _model(model, device, rounds)]


def _model(model: Model, device: str, rounds: int) -> list[Row]:
    unet = unet_without_memory(model)
    what = f"{model.name} {model.size_text}, {size_text(unet)}, fp16, runs of {CALLS} UNet calls"
    reasons = _reasons(unet, device)
    templates = {
        name: RDAAMProcessor(backend=name)  # type: ignore[arg-type]  # checked by _reasons
        for name in GOALS
        if name not in reasons
    }
    rows = [row for name, reason in reasons.items() for row in _skipped(what, name, reason)]
    if not templates:
        return rows
    whole = WholeUNet(unet, model, templates, device=device, dtype=DTYPE, calls=CALLS)
    # Kernels are chosen and compiled, and their memory is taken, by the first run of each kind.
    for call in whole.runs().values():
        call()
    peaks = {name: _peak(whole, name) for name in whole.runs()}
    taken = interleaved(whole.runs(), rounds=rounds, warm_up=False, clock=DeviceClock(device))
    apart = stock_kernels_apart(whole)
    return rows + rows_of_runs(what, taken, peaks, whole.outputs, apart)


def stock_kernels_apart(
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
    return _apart(one, other)


class _Under(AttnProcessor2_0):
    """Stock attention by one of torch's kernels."""

    def __init__(self, kernel: SDPBackend) -> None:
        super().__init__()
        self.kernel = kernel

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        with sdpa_kernel(self.kernel):
            return super().__call__(*args, **kwargs)


def rows_of_runs(
    what: str,
    taken: dict[str, Sample],
    peaks: dict[str, int],
    outputs: dict[str, Tensor],
    apart: float | None,
) -> list[Row]:
    """Time, memory and output of each recorded kind of run, against stock.

    Args:
        what: which model and runs.
        taken: a run's time, by kind.
        peaks: bytes at most, by kind.
        outputs: of the last UNet call, by kind.
        apart: two stock kernels' outputs, where there are two: the fused one's goal.
    """
    rows = []
    for name in taken:
        if name != STOCK:
            rows.append(against_stock("gpu", _time(what, name), taken, name, GOALS[name]))
            rows.append(_memory_row(what, name, peaks))
            rows.append(_output_row(what, name, outputs[STOCK], outputs[name], apart))
    return rows


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


def _time(what: str, name: str) -> str:
    return f"{what}, device time, backend {name!r}"


def _memory(what: str, name: str) -> str:
    return f"{what}, peak memory over stock, backend {name!r}"


def _goal(name: str) -> str:
    goal = GOALS[name]
    return "" if goal is None else f"at most {goal:g}"


def _skipped(what: str, name: str, reason: str) -> list[Row]:
    return [
        Row("gpu", _time(what, name), reason, _goal(name), "SKIP"),
        Row("gpu", _memory(what, name), reason, f"at most {GOAL_BYTES / 1e6:g} MB", "SKIP"),
    ]


def _peak(whole: WholeUNet, name: str) -> int:
    """Bytes that tensors take at most during a run, the weights and the run's buffers included."""
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    whole.run(name)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


def _memory_row(what: str, name: str, peaks: dict[str, int]) -> Row:
    extra = peaks[name] - peaks[STOCK]
    measured = f"{extra / 1e6:.2f} MB on {peaks[STOCK] / 1e6:,.0f} MB"
    goal = f"at most {GOAL_BYTES / 1e6:g} MB"
    return judged("gpu", _memory(what, name), measured, goal, extra <= GOAL_BYTES)


def _output_row(what: str, name: str, stock: Tensor, recorded: Tensor, apart: float | None) -> Row:
    text = f"{what}, output against stock, backend {name!r}"
    if name != "fused":
        return equality("gpu", text, torch.equal(stock, recorded))
    found = _apart(stock, recorded)
    measured = f"{found:.1e} of the largest value apart"
    if apart is None:
        return Row("gpu", text, measured)
    goal = f"at most {apart:.1e}, as two stock kernels are"
    return judged("gpu", text, measured, goal, found <= apart)


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).abs().max() / one.float().abs().max())
