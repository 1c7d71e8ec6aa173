"""What does not fit is refused with its shapes before anything is written, in every kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.kernels import checks
from diffusers_rdaam.kernels.dispatch import choose

CPU = torch.device("cpu")
BACKENDS = ["portable", "maps_only", "reference"]


def call(**changes: Any) -> dict[str, Any]:
    """Arguments that fit, but for the changes."""
    planes = torch.zeros(2, 2, 7, 5, dtype=torch.float16)
    fitting = {
        "query": torch.randn(2, 6, 5, 4),
        "key": torch.randn(2, 3, 7, 4),
        "high": planes[0],
        "low": planes[1],
        "mask": None,
        "lse": None,
        "scale": 0.5,
    }
    return fitting | changes


def half(*size: int) -> Tensor:
    return torch.zeros(size, dtype=torch.float16)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "axes": (
        {"query": torch.zeros(2, 5, 4)},
        "Queries and keys must be (rows, heads, n, dim); got query (2, 5, 4) and key (2, 3, 7, 4).",
    ),
    "integers": (
        {"key": torch.zeros(2, 3, 7, 4, dtype=torch.int32)},
        "Queries and keys must be floating point; got torch.float32 and torch.int32.",
    ),
    "no columns": (
        {"key": torch.zeros(2, 3, 0, 4)},
        "Attention needs at least one head, query, key and channel; got query (2, 6, 5, 4) and key "
        "(2, 3, 0, 4). Only the number of rows may be 0.",
    ),
    "no positions": ({"query": torch.zeros(2, 6, 0, 4)}, "query (2, 6, 0, 4) and key (2, 3, 7, 4)"),
    "no heads": ({"key": torch.zeros(2, 0, 7, 4)}, "key (2, 0, 7, 4). Only the number of rows"),
    "other dim": (
        {"key": torch.zeros(2, 3, 7, 8)},
        "Queries and keys must have the same rows and dim; got query (2, 6, 5, 4) and key "
        "(2, 3, 7, 8).",
    ),
    "other rows": ({"key": torch.zeros(1, 3, 7, 4)}, "the same rows and dim; got query (2, 6"),
    "other heads": (
        {"key": torch.zeros(2, 4, 7, 4)},
        "The number of key heads, 4, must divide the number of query heads, 6; got query (2, 6, 5, "
        "4) and key (2, 4, 7, 4).",
    ),
    "planes of other columns": (
        {"high": half(2, 8, 5)},
        "The planes have shape (2, 8, 5); wanted (rows, 7 columns, 5 positions), or for each "
        "head (rows, 6 heads, 7 columns, 5 positions), with 2 rows.",
    ),
    "planes of other positions": ({"high": half(2, 7, 4)}, "The planes have shape (2, 7, 4);"),
    "planes of other rows": ({"high": half(1, 7, 5)}, "The planes have shape (1, 7, 5);"),
    "planes of the keys' heads": ({"high": half(2, 3, 7, 5)}, "have shape (2, 3, 7, 5);"),
    "a plane without axes": ({"high": half()}, "The planes have shape ();"),
    "float32 planes": (
        {"high": torch.zeros(2, 7, 5)},
        "The planes must be torch.float16; got torch.float32.",
    ),
    "an odd pair": (
        {"low": half(2, 7, 4)},
        "Both planes of a pair must have one shape and type; got torch.float16 (2, 7, 5) and "
        "torch.float16 (2, 7, 4).",
    ),
    "a pair of types": ({"low": torch.zeros(2, 7, 5)}, "and torch.float32 (2, 7, 5)."),
    "a mask of integers": (
        {"mask": torch.zeros(2, 1, 1, 7, dtype=torch.int64)},
        "A mask must be boolean or floating point; got torch.int64.",
    ),
    "a mask of other columns": (
        {"mask": torch.zeros(2, 1, 1, 6)},
        "A mask of shape (2, 1, 1, 6) does not broadcast to (rows, heads, positions, columns) = "
        "(2, 6, 5, 7). Give it four axes, each of that size or of 1.",
    ),
    "a mask of two axes": ({"mask": torch.zeros(5, 7)}, "A mask of shape (5, 7) does not"),
    "an lse of other heads": (
        {"lse": torch.zeros(2, 3, 5)},
        "lse= must be torch.float32 of shape (rows, heads, positions) = (2, 6, 5); got "
        "torch.float32 (2, 3, 5).",
    ),
    "a half lse": ({"lse": torch.zeros(2, 6, 5).half()}, "got torch.float16 (2, 6, 5)."),
    "planes elsewhere": (
        {"high": half(2, 7, 5).to("meta"), "low": None},
        "All tensors must be on one device; the query is on cpu, high (2, 7, 5) on meta.",
    ),
    "a mask elsewhere": (
        {"mask": torch.zeros(2, 1, 1, 7, device="meta")},
        "the query is on cpu, mask (2, 1, 1, 7) on meta.",
    ),
}


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_named_and_nothing_is_written(kind, backend):
    changes, text = BAD[kind]
    arguments = call(**changes)
    for _ in range(2):
        with pytest.raises(InputError) as caught:
            choose(backend, device=CPU).accumulate(**arguments)
        assert text in str(caught.value)
    for plane in (arguments["high"], arguments["low"]):
        assert plane is None or plane.device.type == "meta" or not plane.any()


ATTENDING: dict[str, tuple[dict[str, Any], str]] = {
    "no columns": (
        {"key": torch.zeros(2, 3, 0, 4), "value": torch.zeros(2, 3, 0, 4)},
        "needs at least one head, query, key and channel; got query (2, 6, 5, 4) and key (2, 3, 0,",
    ),
    "other values": (
        {"value": torch.zeros(2, 3, 6, 4)},
        "Values must have the rows, heads and columns of the keys; got value (2, 3, 6, 4) and key "
        "(2, 3, 7, 4).",
    ),
    "rows beyond the last": (
        {"first": 2},
        "The planes have shape (1, 7, 5); wanted (rows, 7 columns, 5 positions), or for each "
        "head (rows, 6 heads, 7 columns, 5 positions), with at most 0 rows from row 2 of 2.",
    ),
    "a row before the first": ({"first": -1}, "with at most 3 rows from row -1 of 2."),
}


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("kind", ATTENDING)
def test_bad_input_of_the_fused_kernel(kind):
    attend = choose("fused", device=CPU).attend
    high = half(1, 7, 5)
    arguments = call(high=high, low=None, value=torch.zeros(2, 3, 7, 4), first=1)
    del arguments["lse"]
    changes, text = ATTENDING[kind]
    with pytest.raises(InputError) as caught:
        attend(**(arguments | changes))
    assert text in str(caught.value)
    assert not high.any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_rows_nothing_is_done(backend):
    nothing = {"query": torch.zeros(0, 6, 5, 4), "key": torch.zeros(0, 3, 7, 4)}
    count = torch.zeros(1, dtype=torch.int32)
    arguments = call(**nothing, high=half(0, 7, 5), low=None, count=count)
    choose(backend, device=CPU).accumulate(**arguments)
    assert count.item() == 0


def test_the_fused_kernel_without_rows():
    count = torch.zeros(1, dtype=torch.int32)
    output, why = choose("fused", device=CPU).attend(
        torch.zeros(0, 6, 5, 4),
        torch.zeros(0, 3, 7, 4),
        torch.zeros(0, 3, 7, 4),
        half(0, 7, 5),
        None,
        first=0,
        scale=0.5,
        count=count,
    )
    assert why is None and output.shape == (0, 6, 5, 4) and count.item() == 0


def test_what_has_passed_is_not_looked_at_again(monkeypatch):
    looked: list[int] = []
    inspect: Callable[..., None] = checks._check_attention
    monkeypatch.setattr(checks, "_check_attention", lambda *a: (looked.append(1), inspect(*a)))
    monkeypatch.setattr(checks, "_passed", set())
    monkeypatch.setattr(checks, "_MOST", 3)
    del (arguments := call())["scale"]
    for _ in range(3):
        assert checks.check(**arguments)
    assert len(looked) == 1
    for rows in range(3, 8):
        assert checks.check(
            torch.zeros(rows, 1, 5, 4), torch.zeros(rows, 1, 7, 4), half(rows, 7, 5), None
        )
        assert len(checks._passed) <= 3
