"""Kernels against the device's measured ceilings, at the sites of SD1.5 and SDXL.

A kernel's floor is the longest of what its bytes, its matrix products and its exponentials take at
the ceilings. Bytes are the least that it can move: queries, keys, values and planes read once, maps
and output written once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.ceilings import Ceilings, Work, measure
from benchmarks.report import Row, judged
from benchmarks.sizes import SD15, SDXL, TOKENS, Model, unet_without_memory
from benchmarks.table import Table
from benchmarks.timing import UNITS, Clock, DeviceClock, Sample, ThreadClock, interleaved
from diffusers_rdaam.families.unet import UNetFamily
from diffusers_rdaam.kernels import portable
from diffusers_rdaam.kernels.logits import product_type

GUARDS = (
    "tests/kernels/test_portable.py",
    "tests/kernels/test_planes.py",
)
GUARDS_ON = {"cuda": ("tests/kernels/test_fused_on_device.py",)}

ROUNDS = {"cpu": 7, "cuda": 25}
UNIT = {"cpu": "ms", "cuda": "us"}
# A guided call of one image: the second row is recorded.
ROWS, FIRST = 2, 1
# More than any GPU's caches hold, written before each call.
COLD_BYTES = 2**29
GOAL_CALL, GOAL_FLOOR = 1.15, 1.3
LARGE = 4096
NO_DEVICE = "not measured: no CUDA device"

_found: list[Table] = []


@dataclass(frozen=True)
class Site:
    """A kind of site: its model, image positions, heads, head size; how many the model has."""

    model: str
    positions: int
    heads: int
    dim: int
    count: int

    def __str__(self) -> str:
        return f"{self.model}: {self.positions} positions, {self.heads} heads of {self.dim}"

    def work(self, kernel: str, dtype: torch.dtype, device: str) -> Work:
        """The least that one of the kernels must do here.

        Args:
            kernel: ``"stock SDPA"``, or one that ends in ``"accumulate"`` (maps alone, of the
                recorded row) or ``"attend"`` (all rows' output, and the maps of the recorded one).
            dtype: of the inputs.
            device: where it runs: ``"cpu"`` or ``"cuda"``.
        """
        size = dtype.itemsize
        query, key = (self.heads * length * self.dim for length in (self.positions, TOKENS))
        cells = self.heads * self.positions * TOKENS
        # Two half-precision planes, read and written.
        planes = (ROWS - FIRST) * self.positions * TOKENS * 2 * 2 * 2
        if kernel.endswith("accumulate"):
            rows = ROWS - FIRST
            product = dtype
            if kernel.startswith("portable"):
                product = product_type(dtype, torch.device(device))
            nbytes = rows * (query + key) * size + planes
            return Work(nbytes, 2 * rows * cells * self.dim, rows * cells, product)
        nbytes = ROWS * 2 * (query + key) * size + (planes if kernel.endswith("attend") else 0)
        return Work(nbytes, 4 * ROWS * cells * self.dim, ROWS * cells, dtype)


def run(*, full: bool = False, device: str = "cpu") -> list[Row]:
    """Ceilings; then each kernel at each kind of site. Those of a GPU are skipped elsewhere."""
    clock: Clock = DeviceClock(device, cold=COLD_BYTES) if device == "cuda" else ThreadClock()
    dtype = torch.float16 if device == "cuda" else torch.float32
    ceilings = measure(device, sorted({dtype, torch.float32}, key=str), clock)
    fused, reason = _fused(device)
    found: list[tuple[Site, dict[str, Sample]]] = []
    for site in (*sites_of(SD15), *sites_of(SDXL)):
        calls = dict(_calls(site, device, dtype, fused))
        with torch.no_grad():
            found.append((site, interleaved(calls, rounds=ROUNDS[device], clock=clock)))
    how = f"{clock.name}, {device}, {_short(dtype)}"
    _found[:] = [_table(found, ceilings, dtype, device, how=how)]
    rows = [*_ceiling_rows(ceilings, device), *_model_rows(found, ceilings, dtype, device)]
    return rows + _goal_rows(found, ceilings, dtype, None if fused else reason)


def tables() -> list[Table]:
    """The kernel table of the last :func:`run`."""
    return list(_found)


def sites_of(model: Model) -> list[Site]:
    """The kinds of site of a model, the largest first."""
    family, unet = UNetFamily(), unet_without_memory(model)
    kinds: Counter[tuple[int, int, int]] = Counter()
    for site in family.sites(unet):
        height, width = family.grid(site, model.latent)
        module: Any = site.module
        kinds[height * width, module.heads, module.inner_dim // module.heads] += 1
    return [Site(model.name, *kind, count) for kind, count in sorted(kinds.items(), reverse=True)]


def _fused(device: str) -> tuple[ModuleType | None, str]:
    """The fused kernels, or why they are not measured."""
    if device != "cuda":
        return None, NO_DEVICE
    try:
        from diffusers_rdaam.kernels import fused
    except ImportError as error:
        return None, f"not measured: {error}"
    reason = fused.unavailable(torch.device(device))
    return (fused, "") if reason is None else (None, f"not measured: {reason}")


def _calls(
    site: Site, device: str, dtype: torch.dtype, fused: ModuleType | None
) -> Iterator[tuple[str, Callable[[], object]]]:
    """What to call by the kernels' names, with tensors laid out as the processor has them."""

    def projected(length: int) -> Tensor:
        states = torch.randn(ROWS, length, site.heads * site.dim, device=device, dtype=dtype)
        return states.unflatten(-1, (site.heads, -1)).transpose(1, 2)

    query, key, value = (projected(length) for length in (site.positions, TOKENS, TOKENS))
    high, low = (
        torch.zeros(ROWS - FIRST, TOKENS, site.positions, dtype=torch.float16, device=device)
        for _ in range(2)
    )
    scale = site.dim**-0.5
    maps = (query[FIRST:], key[FIRST:], high, low)
    yield "stock SDPA", lambda: F.scaled_dot_product_attention(query, key, value)
    yield "portable.accumulate", lambda: portable.accumulate(*maps, scale=scale)
    if fused is not None:
        everything = (query, key, value, high, low)
        yield "fused.accumulate", lambda: fused.accumulate(*maps, scale=scale)
        yield "fused.attend", lambda: fused.attend(*everything, first=FIRST, scale=scale)


def _table(
    found: list[tuple[Site, dict[str, Sample]]],
    ceilings: Ceilings,
    dtype: torch.dtype,
    device: str,
    *,
    how: str,
) -> Table:
    rows, unit = [], UNIT[device]
    for site, taken in found:
        for kernel, sample in taken.items():
            work, seconds = site.work(kernel, dtype, device), sample.median
            floors = work.floors(ceilings)
            longest = max(floors, key=lambda name: floors[name])
            rows.append(
                [
                    str(site),
                    kernel,
                    sample.text(unit),
                    f"{work.nbytes / seconds / 1e9:.3g} ({floors['memory'] / seconds:.1%})",
                    f"{work.flops / seconds / 1e9:.3g} ({floors['matrix'] / seconds:.1%})",
                    f"{work.exps / seconds / 1e9:.3g} ({floors['exponentials'] / seconds:.1%})",
                    f"{floors[longest] * UNITS[unit]:.3g} {unit} ({longest})",
                    f"{seconds / floors[longest]:.2f}",
                ]
            )
    reached = ["GB/s (of ceiling)", "GFLOP/s (of ceiling)", "Gexp/s (of ceiling)"]
    columns = ["site", "kernel", "time of a call", *reached, "floor", "time / floor"]
    return Table(f"Kernels against the measured ceilings ({how})", columns, rows)


def _ceiling_rows(ceilings: Ceilings, device: str) -> list[Row]:
    where = "one thread" if device == "cpu" else "the whole device"
    measured = {
        "memory bandwidth, copy or triad out of cache": f"{ceilings.bandwidth / 1e9:.4g} GB/s",
        **{
            f"matrix product, {_short(dtype)}": f"{rate / 1e9:.4g} GFLOP/s"
            for dtype, rate in ceilings.flops.items()
        },
        "exp2, float32": f"{ceilings.exps / 1e9:.4g} G/s",
    }
    return [Row("roofline", f"ceiling ({where}): {what}", text) for what, text in measured.items()]


def _model_rows(
    found: list[tuple[Site, dict[str, Sample]]],
    ceilings: Ceilings,
    dtype: torch.dtype,
    device: str,
) -> list[Row]:
    """Each kernel over all sites of a model: time of a UNet call, and its ratio to the floor."""
    rows = []
    for model in dict.fromkeys(site.model for site, _ in found):
        of_model = [(site, taken) for site, taken in found if site.model == model]
        for kernel in of_model[0][1]:
            seconds = sum(site.count * taken[kernel].median for site, taken in of_model)
            floor = sum(
                site.count * max(site.work(kernel, dtype, device).floors(ceilings).values())
                for site, _ in of_model
            )
            what = f"{kernel}, all {sum(site.count for site, _ in of_model)} sites of {model}"
            measured = f"{seconds * 1e3:.3g} ms a UNet call, {seconds / floor:.2f} times its floor"
            rows.append(Row("roofline", what, measured))
    return rows


def _goal_rows(
    found: list[tuple[Site, dict[str, Sample]]],
    ceilings: Ceilings,
    dtype: torch.dtype,
    missing: str | None,
) -> list[Row]:
    one_call = "one cross-attention call, fused.attend / stock SDPA"
    to_floor = "fused.attend, time / floor"
    goals = (f"at most {GOAL_CALL}", f"at most {GOAL_FLOOR}")
    rows = []
    for site, taken in found:
        if site.positions != LARGE:
            continue
        whats = (f"{one_call}, {site}", f"{to_floor}, {site}")
        if missing is not None:
            pairs = zip(whats, goals, strict=True)
            rows += [Row("roofline", what, missing, goal, "SKIP") for what, goal in pairs]
            continue
        ratio, low, high = taken["fused.attend"].over(taken["stock SDPA"])
        floor = max(site.work("fused.attend", dtype, "cuda").floors(ceilings).values())
        above = taken["fused.attend"].median / floor
        text = f"{ratio:.3f} ({low:.3f} to {high:.3f})"
        rows.append(judged("roofline", whats[0], text, goals[0], ratio <= GOAL_CALL))
        rows.append(judged("roofline", whats[1], f"{above:.2f}", goals[1], above <= GOAL_FLOOR))
    return rows


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
