"""The connected parts of masks, against scipy's labels."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from diffusers_rdaam.geometry.components import components
from diffusers_rdaam.geometry.region import Box


@given(
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    share=st.sampled_from([0.1, 0.4, 0.6, 0.9]),
    seed=st.integers(0, 9999),
)
def test_they_are_those_of_scipy(size, share, seed):
    mask = torch.rand(size, generator=torch.Generator().manual_seed(seed)) < share
    labels, count = ndimage.label(mask.numpy())
    wanted = [
        (int((labels[rows, columns] == number).sum()), columns.start, rows.start, columns.stop)
        for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1)
    ]
    found = components(mask)
    assert len(found) == count
    assert sorted((p.pixels, p.box.left, p.box.top, p.box.right) for p in found) == sorted(wanted)
    assert [part.pixels for part in found] == sorted((p.pixels for p in found), reverse=True)


def test_a_spiral_is_one_part_and_corners_do_not_join():
    spiral = torch.tensor(
        [
            [1, 1, 1, 1, 1, 0],
            [0, 0, 0, 0, 1, 0],
            [1, 1, 1, 0, 1, 0],
            [1, 0, 0, 0, 1, 0],
            [1, 1, 1, 1, 1, 0],
            [0, 0, 0, 0, 0, 1],
        ]
    ).bool()
    first, second = components(spiral)
    assert (first.pixels, first.box) == (17, Box(0, 0, 5, 5))
    assert (second.pixels, second.box) == (1, Box(5, 5, 6, 6))
    assert components(torch.zeros(3, 4, dtype=torch.bool)) == []
