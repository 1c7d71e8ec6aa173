"""What recording does to the device's queue: whether it waits for it, and its CUDA graphs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.first_gpu.host import Host
from benchmarks.first_gpu.pipeline_checks import NAME, skipped
from benchmarks.report import Row, judged
from diffusers_rdaam.kernels import fused, operator, portable, reference
from diffusers_rdaam.kernels.planes import read_planes

SHOWN = 5
REPLAYS = 3
GOAL_REPLAYED = 1e-4
# Of no model, so that no other check has had these kernels proved.
HEADS, DIM, TOKENS, POSITIONS = 3, 40, 61, 75


def check_synchronisation(host: Host) -> Iterator[Row]:
    """How often the processor waits for the device between the steps of a second run."""
    what = "waits for the device from the first step's end to the last's, second run"
    if host.device.type != "cuda":
        yield skipped(what, "there is no CUDA device to wait for")
        return
    found = {}
    for name, pipe in (("stock", host.stock()), ("recorded", host.recorded("auto"))):
        pipe.to(host.device)
        host.generate(pipe)
        found[name] = waits(host, pipe, torch.cuda.set_sync_debug_mode)
    yield waits_row(what, found["stock"], found["recorded"])


def waits(host: Host, pipe: Any, set_mode: Callable[[str], None]) -> list[str]:
    """Where a run waits for the device between two steps' ends, as file and line.

    Args:
        host: whose settings the run has.
        pipe: of the run.
        set_mode: ``torch.cuda.set_sync_debug_mode``, in whose mode ``"warn"`` torch warns of waits.
    """
    last = 0

    def at_end(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        nonlocal last
        last = max(last, step)
        if step == 0:
            set_mode("warn")
        if step == pipe.num_timesteps - 1:
            set_mode("default")
        return tensors

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            host.generate(pipe, callback_on_step_end=at_end)
        finally:
            set_mode("default")
    if last == 0:
        raise ValueError("Between the steps of a run of one step is nothing. Give two or more.")
    waited = [warning for warning in caught if "synchronizing" in str(warning.message)]
    return [f"{Path(warning.filename).name}:{warning.lineno}" for warning in waited]


def waits_row(what: str, stock: list[str], recorded: list[str]) -> Row:
    """Recording adds none to what the stock run has: its scheduler may read tensors."""
    measured = f"{len(recorded)}, stock {len(stock)}"
    added = list(recorded)
    for place in stock:
        if place in added:
            added.remove(place)
    if added:
        places = list(dict.fromkeys(added))
        more = f" and {len(places) - SHOWN} more places" if len(places) > SHOWN else ""
        measured += f"; at {', '.join(places[:SHOWN])}{more}"
    return judged(NAME, what, measured, "no more than stock", not added)


def check_graph_capture(host: Host) -> Iterator[Row]:
    """The maps_only kernel in a CUDA graph, before it was proved and after."""
    if why := fused.unavailable(host.device):
        yield skipped("kernel in a CUDA graph", why)
        return
    query, key, high, low, count = _site(host.device)
    scale = DIM**-0.5

    def add() -> str | None:
        return operator.maps_only(query, key, high, low, scale=scale, count=count)

    # Products of torch's own set themselves up in the first call, which no graph can hold.
    portable.accumulate(query, key, torch.zeros_like(high), torch.zeros_like(low), scale=scale)
    graphs = host.device.type == "cuda"
    reasons = []
    for proved in ("before its proof", "after it"):
        for tensor in (high, low, count):
            tensor.zero_()
        reasons.append(_replayed(add) if graphs else _called(add))
        yield _sums_row(f"sums of {REPLAYS} replays, {proved}", query, key, high, low, count)
        if not reasons[1:]:
            add()
    what = "kernel in a CUDA graph"
    if not graphs:
        yield skipped(f"{what}, before its proof", "there is no CUDA device to capture")
        return
    before, after = reasons
    measured = before or "Triton's, unproved"
    yield judged(NAME, f"{what}, before its proof", measured, "another", before is not None)
    measured = after or "Triton's"
    yield judged(NAME, f"{what}, after it", measured, "Triton's", after is None)


def _site(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys, planes and a count."""
    generator = torch.Generator().manual_seed(0)
    query, key = (
        torch.randn(1, HEADS, length, DIM, generator=generator).to(device, torch.float16)
        for length in (POSITIONS, TOKENS)
    )
    high = torch.zeros(1, TOKENS, POSITIONS, dtype=torch.float16, device=device)
    count = torch.zeros(1, dtype=torch.int32, device=device)
    return query, key, high, torch.zeros_like(high), count


def _replayed(add: Callable[[], str | None]) -> str | None:
    """Capture one addition, replay it, and say what the captured call said."""
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        why = add()
    for _ in range(REPLAYS):
        graph.replay()
    torch.cuda.synchronize()
    return why


def _called(add: Callable[[], str | None]) -> str | None:
    """As often without a graph."""
    return [add() for _ in range(REPLAYS)][-1]


def _sums_row(
    what: str, query: Tensor, key: Tensor, high: Tensor, low: Tensor, count: Tensor
) -> Row:
    wanted = REPLAYS * reference.head_mean_probabilities(
        query.double(), key.double(), mask=None, scale=DIM**-0.5, lse=None
    )
    difference = float(((read_planes(high, low) - wanted) / wanted).abs().max())
    measured = f"{difference:.1e} relative at most, {int(count)} additions"
    goal = f"at most {GOAL_REPLAYED:g}, {REPLAYS} additions"
    met = difference <= GOAL_REPLAYED and int(count) == REPLAYS
    return judged(NAME, what, measured, goal, met)
