"""Every kernel records the rows that it is asked for, out of all rows of a call."""

from __future__ import annotations

import pytest
import torch

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.kernels import fused, operator, portable
from diffusers_rdaam.kernels.dispatch import choose

CPU = torch.device("cpu")


def call(*, masked, known, columns):
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(4, 2, n, 8, generator=generator) for n in (19, columns))
    mask = torch.randn(4, 1, 1, columns, generator=generator) if masked else None
    lse = (0.3 * query @ key.mT + (0 if mask is None else mask)).logsumexp(-1) if known else None
    return query, key, {"mask": mask, "lse": lse, "scale": 0.3}


@pytest.mark.pairs
@pytest.mark.parametrize("backend", ["portable", "maps_only", "reference"])
@pytest.mark.parametrize(("first", "images"), [(0, 1), (1, 2), (3, 1), (0, 4)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("known", "columns"), [(False, 7), (True, 7), (False, 300)])
def test_the_recorded_rows_alone(backend, first, images, masked, known, columns):
    if backend == "maps_only":
        pytest.importorskip("triton", reason="Triton is not installed")
        if columns == 300 and (first, images) != (1, 2):
            pytest.skip("Triton's interpreter takes seconds: one choice of rows is enough")
    query, key, given = call(masked=masked, known=known, columns=columns)
    rows = slice(first, first + images)
    wanted = torch.zeros(2, images, columns, 19, dtype=torch.float16)
    found, count = torch.zeros_like(wanted), torch.zeros(1, dtype=torch.int32)
    part = {
        name: value[rows] if isinstance(value, torch.Tensor) else value
        for name, value in given.items()
    }
    portable.accumulate(query[rows], key[rows], wanted[0], wanted[1], **part)
    choice = choose(backend, device=CPU)
    choice.accumulate(query, key, found[0], found[1], count=count, first=first, **given)
    assert choice.used.name == backend and int(count) == 1
    sums = (planes[0].float() + planes[1].float() / 2048 for planes in (found, wanted))
    torch.testing.assert_close(*sums, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("accumulate", [portable.accumulate, operator.maps_only, fused.accumulate])
def test_no_recorded_row_is_nothing_to_do(accumulate):
    query, key, given = call(masked=False, known=False, columns=7)
    high = torch.zeros(0, 7, 19, dtype=torch.float16)
    accumulate(query, key, high, None, first=2, **given)


def test_rows_beyond_the_last_are_an_error():
    query, key, given = call(masked=False, known=False, columns=7)
    high = torch.zeros(2, 7, 19, dtype=torch.float16)
    with pytest.raises(InputError, match="at most 1 rows from row 3 of 4"):
        portable.accumulate(query, key, high, None, first=3, **given)
