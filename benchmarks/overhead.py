"""What recording costs where arithmetic costs nothing: Python, and calls of torch's operators.

On a GPU calls are queued, so the processor's time for a recorded site matters only where the device
waits for it; then this is what a recorded run costs. Measured on a site of 2 rows, 4 positions and
1 head; the operators are counted as torch dispatches them. With kernels that do nothing, what is
left is the package's own work on the way to them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.idle_kernels import KINDS, missing
from benchmarks.one_site import Pair, recorded_pair
from benchmarks.report import Row, judged
from benchmarks.table import Table
from benchmarks.timing import Sample, interleaved
from diffusers_rdaam.attention.processor import RDAAMProcessor

GUARDS = ("tests/kernels/test_operator.py", "tests/attention/test_processor.py")

ROUNDS = 15
REPEATS = 100
# With kernels that do nothing: many short rounds, because the quickest one counts.
IDLE_ROUNDS, IDLE_REPEATS = 60, 20
# Microseconds of the processor that a recorded site may add, its kernel apart: a third of a
# millisecond in a denoiser call of 16 sites.
GOAL = 20
ROWS, GRID, HEADS, DIM, TOKENS = 2, (2, 2), 1, 8, 7
# Of Stable Diffusion 1.5, for what a denoiser call costs beside its sites.
SITES = 16
# What returns its argument's numbers without being declared a view.
VIEWS = ("_unsafe_view",)

_found: list[Table] = []


def run(*, full: bool = False, device: str = "cpu") -> list[Row]:
    """The processor's time and operators of a site call; and of arming 16 sites for a call."""
    attention = Attention(
        query_dim=HEADS * DIM, cross_attention_dim=DIM, heads=HEADS, dim_head=DIM
    ).to(device, torch.float16 if device == "cuda" else torch.float32)
    options: Any = {"rows": ROWS, "images": 1, "tokens": TOKENS}
    with recorded_pair(attention.eval(), GRID, **options) as pair:
        site = _times(pair, device, REPEATS)
        stock, recorded = _operators(pair, device)
    with recorded_pair(attention, GRID, copies=SITES, **options) as pair:
        armed = _times(pair, device, 0)
    size = f"{ROWS} rows of which 1 is recorded, {GRID[0] * GRID[1]} positions, {HEADS} head"
    _found[:] = [_table(f"Operators of a site call ({size}, {device})", stock, recorded)]
    extra = site["recorded"].minus(site["stock"])
    measured = f"{extra.text('us')} on {site['stock'].text('us')} stock"
    counts = (
        f"{sum(recorded.values()) - sum(stock.values())} more than the {sum(stock.values())} of "
        f"stock, {_working(recorded) - _working(stock)} of them with arithmetic or copies"
    )
    more = armed["recorded"].minus(armed["stock"])
    return [
        Row("overhead", f"processor's time that recording adds to a site call ({size})", measured),
        Row("overhead", "operators that it adds to one", counts, deterministic=True),
        Row(
            "overhead",
            f"processor's time that it adds to a denoiser call besides its {SITES} sites",
            more.text("us"),
        ),
        *(
            _idle_row(attention, backend, instead, f"{size}, {device}")
            for backend, instead in KINDS
        ),
    ]


def tables() -> list[Table]:
    """The operators of the last :func:`run`, by name."""
    return list(_found)


def _idle_row(attention: Attention, backend: str, instead: str, size: str) -> Row:
    """What a site adds where its kernel, or also the launcher of it, does nothing.

    The least of all rounds: Python's work is the same in each, and what other processes add is not.
    """
    what = f"processor's time of a recorded site next to stock, {instead}, {backend!r} ({size})"
    goal = f"at most {GOAL} us" if "kernel" in instead else ""
    why = missing(backend)
    if why is not None:
        return Row("overhead", what, why, goal, "SKIP")
    template = RDAAMProcessor(backend=backend)  # type: ignore[arg-type]  # one of KINDS
    options: Any = {"rows": ROWS, "images": 1, "tokens": TOKENS, "template": template}
    with KINDS[backend, instead](), recorded_pair(attention, GRID, **options) as pair:
        taken = _times(pair, str(pair.states.device.type), IDLE_REPEATS, IDLE_ROUNDS)
    stock, recorded = (1e6 * min(taken[name].seconds) for name in ("stock", "recorded"))
    extra = recorded - stock
    measured = f"{extra:.3g} us on {stock:.3g} us stock, {extra / stock:.2f} of it"
    if not goal:
        return Row("overhead", what, measured)
    return judged("overhead", what, measured, goal, extra <= GOAL)


def _times(pair: Pair, device: str, repeats: int, rounds: int | None = None) -> dict[str, Sample]:
    """Of one site call, or with no repeats of one denoiser call that calls no site."""
    calls: dict[str, Any] = {
        "stock": partial(pair.call_stock, repeats),
        "recorded": partial(pair.call_recorded, repeats),
    }
    taken = interleaved(calls, rounds=rounds or ROUNDS, repeats=1 if repeats else REPEATS)
    _wait(device)
    return {name: sample.times(1 / max(repeats, 1)) for name, sample in taken.items()}


def _operators(pair: Pair, device: str) -> tuple[dict[str, int], dict[str, int]]:
    """Of one site call, stock and recorded: two calls less one, so that arming is not in them."""
    counts = []
    for call in (pair.call_stock, pair.call_recorded):
        # The first call of a run makes its buffers.
        call(1)
        once, twice = (_count(partial(call, repeats)) for repeats in (1, 2))
        differences = {name: twice[name] - once.get(name, 0) for name in twice}
        counts.append({name: number for name, number in differences.items() if number})
    _wait(device)
    return counts[0], counts[1]


def _count(call: Any) -> dict[str, int]:
    with _Counter() as counter:
        call()
    return counter.counts


class _Counter(TorchDispatchMode):
    """Counts operators by name; views, which compute nothing, are told apart by ``(view)``."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if func.is_view or name in VIEWS:
            name += " (view)"
        self.counts[name] = self.counts.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


def _working(counts: dict[str, int]) -> int:
    return sum(number for name, number in counts.items() if not name.endswith("(view)"))


def _table(title: str, stock: dict[str, int], recorded: dict[str, int]) -> Table:
    names = sorted(stock | recorded)
    rows = [
        [name, str(stock.get(name, 0)), str(recorded.get(name, 0))]
        for name in names
        if stock.get(name, 0) != recorded.get(name, 0)
    ]
    totals = [str(sum(counts.values())) for counts in (stock, recorded)]
    return Table(title, ["operator", "stock", "recorded"], [*rows, ["all, with equal", *totals]])


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
