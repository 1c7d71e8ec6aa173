"""Masks that span over 2**31 elements: a file with holes, of which a few pages exist."""

from __future__ import annotations

import pytest
import torch

from diffusers_rdaam.kernels import fused
from tests.kernels.fused_checks import check_attend, check_maps_only, vectors

pytestmark = pytest.mark.skipif(
    not fused.interpreted(), reason="the memory of the mask is a file, which a GPU cannot read"
)
ROWS, HEADS, POSITIONS = 1, 3, 3
# Fits 31 bits, as twice as far does not: a stride that does not is of 64 bits by itself.
FAR = 2**30 + 64


def _far_mask(path, columns, far):
    """``(rows, heads, positions, columns)`` with ``far`` between two of the axis."""
    sizes = (ROWS, HEADS, POSITIONS, columns)
    strides = {
        "heads": (0, FAR, columns, 1),
        "positions": (0, columns, FAR, 1),
        "columns": (0, POSITIONS, 1, 2 * FAR // (columns - 1) + 1),
    }[far]
    cells = 1 + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    # Room on both sides: a wrong address is a wrong cell then, and no crash.
    before = 2**32
    with path.open("wb") as file:
        file.truncate(before + cells + 64)
    memory = torch.from_file(str(path), shared=True, size=before + cells + 64, dtype=torch.bool)
    mask = memory.as_strided(sizes, strides, before)
    mask.copy_(torch.rand(sizes, generator=torch.Generator().manual_seed(0)) > 0.4)
    return mask


@pytest.mark.values
@pytest.mark.parametrize("columns", [20, 300])
@pytest.mark.parametrize("far", ["heads", "positions", "columns"])
def test_offsets_over_31_bits(tmp_path, far, columns):
    query, key, value = (
        vectors(ROWS, HEADS, count, 16, seed=seed)
        for seed, count in enumerate((POSITIONS, columns, columns))
    )
    mask = _far_mask(tmp_path / "mask", columns, far)
    check_attend(query, key, value, mask=mask)
    check_maps_only(query, key, mask=mask)


@pytest.mark.parametrize("far", ["queries", "keys", "values"])
def test_queries_keys_and_values_that_lie_far_apart_are_not_served(far):
    shapes = {"queries": (1, 2, 3, 8), "keys": (1, 2, 5, 8), "values": (1, 2, 5, 8)}
    given = {
        name: torch.empty_strided(
            shape, (0, 2**31 if name == far else 64, 8, 1), dtype=torch.float16, device="meta"
        )
        for name, shape in shapes.items()
    }
    why = fused.unserved(given["queries"], given["keys"], value=given["values"])
    assert why == f"the {far} of one row span more than 2**31 elements of memory"
