"""What was expected of an H100 before any GPU had run this, beside what was measured.

The ranges are estimates for an H100 SXM in fp16 with one guided call of one image, from bytes,
FLOPs, exponentials and launches: 3.35 TB/s, 50 MB of second-level cache, 800 TFLOP/s, 3.7e12
exponentials a second, 2.5 us a launch on the device and 6 to 7 us of an eager host. On another
device they say less. A ratio outside its range fails nothing; it says where to look.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

DEVICE = "H100"
RATIO = r"ratio (\d+(?:\.\d+)?)"
NUMBER = r"(\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)"
GRAPHS = "graph"


@dataclass(frozen=True)
class Expectation:
    """A number that a row or a table's line is expected to show.

    Args:
        name: in the report.
        benchmark: whose row it is.
        words: that the row's ``what`` has, all of them, in whatever case.
        number: a pattern whose first group is the number in what was measured.
        low, high: of the range.
        unit: of the three.
        without: words that it must not have.
        below, above: what a number outside of the range would mean.
    """

    name: str
    benchmark: str
    words: tuple[str, ...]
    number: str
    low: float
    high: float
    unit: str = ""
    without: tuple[str, ...] = ()
    below: str = ""
    above: str = ""

    def found_in(self, benchmark: str, what: str, measured: str) -> float | None:
        """The number that a row shows; None where the row is not this one or has none."""
        text = what.lower()
        if benchmark != self.benchmark or not all(word.lower() in text for word in self.words):
            return None
        if any(word.lower() in text for word in self.without):
            return None
        match = re.search(self.number, measured)
        return None if match is None else float(match[1].replace(",", ""))

    def judge(self, found: float) -> str:
        """Where a number lies, and what that means if it is outside."""
        if self.low <= found <= self.high:
            return "as expected"
        side, meaning = ("below", self.below) if found < self.low else ("above", self.above)
        return f"{side}: {meaning}" if meaning else side


def _run(
    model: str, backend: str, eager: tuple[float, float], graphs: tuple[float, float] | None
) -> list[Expectation]:
    """A whole run's ratio to stock, launched call by call, and from CUDA graphs."""
    words = (model, f"backend {backend!r}")
    drift = "the clock drifted, or nothing was recorded"
    found = [
        Expectation(
            f"{model}, {backend}, run / stock",
            *("gpu", words, RATIO, *eager),
            without=(GRAPHS, "memory", "first run"),
            below=drift,
            above="more than launches: a wait for the device, or a proof at every call",
        )
    ]
    if graphs is not None:
        found.append(
            Expectation(
                f"{model}, {backend}, run / stock, CUDA graphs",
                *("gpu", (*words, GRAPHS), RATIO, *graphs),
                without=("memory",),
                below=drift,
                above="the kernel is slower than twice its floor: vary its blocks and splits",
            )
        )
    return found


def _site(model: str, kernel: str, low: float, high: float) -> Expectation:
    """A kernel's time at a model's largest text attention."""
    words = (f"{model}: 4096 positions", kernel)
    name = f"{model}, {kernel} at 64x64"
    above = "one program of few warps a multiprocessor hides no latency: vary blocks and splits"
    return Expectation(name, "roofline", words, NUMBER, low, high, "us", above=above)


EXPECTED: tuple[Expectation, ...] = (
    *_run("SD1.5", "maps_only", (1.03, 1.06), (1.02, 1.03)),
    *_run("SD1.5", "portable", (1.08, 1.12), (1.09, 1.13)),
    *_run("SD1.5", "fused", (1.01, 1.04), None),
    *_run("SDXL", "maps_only", (1.02, 1.08), (1.01, 1.03)),
    *_run("SDXL", "portable", (1.06, 1.15), (1.06, 1.08)),
    *_run("SDXL", "fused", (1.00, 1.02), None),
    *(
        Expectation(
            f"{model}, {backend}, peak memory over stock",
            *("gpu", (model, "peak memory over stock", f"backend {backend!r}"), NUMBER, 0.0, 4.0),
            unit="MB",
            without=("first run",),
            above="logits or partial sums coincide with the UNet's own peak",
        )
        for model in ("SD1.5", "SDXL")
        for backend in ("portable", "maps_only", "fused")
    ),
    Expectation(
        "memory bandwidth", "roofline", ("ceiling", "bandwidth"), NUMBER, 2700, 3350, "GB/s"
    ),
    Expectation(
        "half-precision products", "roofline", ("ceiling", "matrix product, float16"),
        NUMBER, 700_000, 800_000, "GFLOP/s",
    ),
    _site("SD1.5", "stock SDPA", 8, 12),
    _site("SD1.5", "fused.accumulate", 8, 14),
    _site("SD1.5", "fused.attend", 12, 25),
    *(
        Expectation(
            f"{model}, recording kernels of a call",
            *("profile", (model, "device time of the recording kernels"), NUMBER, low, high),
            unit="ms",
            above="the kernel is slower than twice its floor: vary its blocks and splits",
        )
        for model, low, high in (("SD1.5", 0.05, 0.3), ("SDXL", 0.3, 1.5))
    ),
)  # fmt: skip


def beside_expected(commands: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Each expectation beside what was measured, or beside "not measured".

    Args:
        commands: with ``rows`` and ``tables`` as the benchmarks write them.
    """
    lines = [line for command in commands for line in _lines(command)]
    table = []
    for expected in EXPECTED:
        found = [number for line in lines if (number := expected.found_in(*line)) is not None]
        unit = f" {expected.unit}" if expected.unit else ""
        entry = {"what": expected.name, "expected": f"{expected.low:g} to {expected.high:g}{unit}"}
        for number in found or [None]:
            measured = "not measured" if number is None else f"{number:g}{unit}"
            verdict = "" if number is None else expected.judge(number)
            table.append(entry | {"measured": measured, "verdict": verdict})
    return table


def _lines(command: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
    """Benchmark, what and measured of every row that was measured, and of every kernel's time."""
    for row in command.get("rows", ()):
        if row["status"] != "SKIP":
            yield row["benchmark"], row["what"], row["measured"]
    for table in command.get("tables", ()):
        if table["columns"][:3] == ["site", "kernel", "time of a call"]:
            for site, kernel, time, *_ in table["rows"]:
                yield table.get("benchmark", ""), f"{site}, {kernel}", time
