"""A run under another default type or device, as far as the stock pipeline itself works there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import torch
from oracle import check, watched


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("setting", ["float64", "bfloat16", "cpu"])
def test_a_run_is_recorded_in_float32(setting, make, generate):
    """Stock runs where the model is of the default type; attention is that of the run itself."""
    dtype = torch.float32 if setting == "cpu" else getattr(torch, setting)
    pipe = make(dtype=dtype)
    with (
        torch.device("cpu") if setting == "cpu" else default_dtype(dtype),
        watched(pipe) as seen,
    ):
        attribution = generate(pipe).attribution
        words = attribution.region((0, 0, 9, 9))
    check([attribution], seen)
    assert {grid.maps.dtype for grid in attribution.grids} == {torch.float32}
    assert words.scores.dtype == torch.float32
    assert torch.equal(words.scores, attribution.region((0, 0, 9, 9)).scores)


def test_a_pipeline_that_ran_in_inference_mode_runs_outside_of_it(ours, generate):
    """Its buffers are used again."""
    with torch.inference_mode():
        wanted = generate(ours).attribution
    found = generate(ours).attribution
    for mine, its in zip(wanted.grids, found.grids, strict=True):
        assert torch.equal(mine.maps, its.maps)
