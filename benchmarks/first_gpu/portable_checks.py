"""The portable kernel's accuracy with TF32 allowed, as ``python -m …portable_checks`` runs it.

TF32 keeps 10 bits of a float32 factor; speed guides allow it for a whole process. Recorded maps
keep their accuracy all the same.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from benchmarks.first_gpu.scripts import keep_to_one_thread, run_checks
from benchmarks.report import Row, judged
from diffusers_rdaam.kernels import portable, reference
from diffusers_rdaam.kernels.planes import read_planes

NAME = "portable"
GOAL = 1e-5
# Relative errors of smaller probabilities say less: a plane's cells have an absolute grain.
SMALLEST = 1e-4
HEADS, POSITIONS, TOKENS = 4, 1024, 77
DIMS = (40, 64, 160)
# Logits of a trained model, up to about 8.
SIZE = 1.5


def allow_tf32() -> None:
    """As diffusers' speed guide has it."""
    torch.backends.cuda.matmul.allow_tf32 = True


def precision_high() -> None:
    """As torch's own guide has it."""
    torch.set_float32_matmul_precision("high")


SETTINGS: dict[str, Callable[[], None]] = {
    "default settings": lambda: None,
    "allow_tf32": allow_tf32,
    "precision high": precision_high,
}


@contextmanager
def kept_settings() -> Iterator[None]:
    """Leave a process's precision of products as it was."""
    before = torch.get_float32_matmul_precision()
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def check(device: torch.device, setting: str) -> Iterator[Row]:
    """Relative errors of the maps under one of :data:`SETTINGS`, by type and head size."""
    for dtype, with_lse in ((torch.float32, False), (torch.float16, False), (torch.float16, True)):
        for dim in DIMS:
            with kept_settings():
                SETTINGS[setting]()
                error = relative_error(device, dtype, dim, with_lse=with_lse)
            lse = " and lse" if with_lse else ""
            kind = f"{str(dtype).removeprefix('torch.')}{lse}, heads of {dim}, {setting}"
            what = f"portable on {device.type} against reference, {kind}"
            measured, goal = f"{error:.1e} relative at most", f"at most {GOAL:g}"
            yield judged(NAME, what, measured, goal, error <= GOAL)


def relative_error(device: torch.device, dtype: torch.dtype, dim: int, *, with_lse: bool) -> float:
    """The largest relative error of one addition's probabilities of at least 1e-4."""
    generator = torch.Generator().manual_seed(dim)
    query, key = (
        (SIZE * torch.randn(1, HEADS, length, dim, generator=generator)).to(device, dtype)
        for length in (POSITIONS, TOKENS)
    )
    scale = dim**-0.5
    exact = (query.double(), key.double())
    logits = scale * exact[0] @ exact[1].mT
    lse = logits.logsumexp(dim=-1)
    high = torch.zeros(1, TOKENS, POSITIONS, dtype=torch.float16, device=device)
    low = torch.zeros_like(high)
    given = lse.float() if with_lse else None
    portable.accumulate(query, key, high, low, scale=scale, lse=given)
    # The logarithms that the kernel is given are the definition's as well.
    used = None if given is None else given.double()
    wanted = reference.head_mean_probabilities(*exact, scale=scale, lse=used)
    errors = (read_planes(high, low).double() - wanted).abs() / wanted
    return float(errors[wanted >= SMALLEST].max())


def main(arguments: list[str]) -> int:
    """Each setting's rows; exit status 1 where one is over its goal."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.first_gpu.portable_checks", description=__doc__
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    given = parser.parse_args(arguments)
    keep_to_one_thread(given.device)
    checks = {name: partial(check, torch.device(given.device), name) for name in SETTINGS}
    return run_checks(NAME, checks, given.json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
