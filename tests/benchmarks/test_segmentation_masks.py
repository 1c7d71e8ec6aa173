"""Masks of classes: an image has the mean of its objects' IoU, and the table has every way."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest

from benchmarks import segmentation
from benchmarks.embedded_model import Sample
from diffusers_rdaam import Attribution, segment
from diffusers_rdaam.demo.judge import Blob, Verdict
from diffusers_rdaam.segmentation.segment import Refine

NAMES = ("blue eyes", "red mat")


@pytest.fixture
def sample(make_attribution: Callable[..., Attribution]) -> Sample:
    """An image with two masks that a plain loop can compare."""
    blobs = {}
    for place, name in enumerate(NAMES):
        mask = np.zeros((64, 96), dtype=bool)
        mask[10:50, 46 * place : 46 + 46 * place] = True
        blobs[name] = Blob(name.split()[0], name.split()[1], 1.0, mask)
    verdict = Verdict(True, True, True, True)
    return Sample(NAMES, make_attribution(), verdict, blobs)


def test_the_overlap_of_an_image(sample: Sample) -> None:
    labels = segment(sample.attribution, list(NAMES), background=0.5).labels.tolist()
    wanted = []
    for number, name in enumerate(NAMES, 1):
        mask, both, either = sample.blobs[name].mask, 0, 0
        for y, line in enumerate(labels):
            for x, label in enumerate(line):
                both += label == number and mask[y, x]
                either += label == number or mask[y, x]
        wanted.append(both / either)
    assert 0.0 < wanted[0] != wanted[1] > 0.0
    assert segmentation.overlaps([sample], background=0.5) == [pytest.approx(sum(wanted) / 2)]


def test_every_way_has_a_row_and_a_cell(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        segmentation, "overlaps", lambda samples, **how: asked.append(how) or [0.5, 0.75]
    )
    rows = segmentation.rows_of([sample] * 2)
    table = segmentation.tables()[0]
    assert [line[0] for line in table.rows] == list(get_args(Refine))
    cells = [cell for line in table.rows for cell in line[1:]]
    assert [row.measured for row in rows] == [*cells, *[".625 ± .245"] * 3]
    assert len(cells) == 12 and set(cells) == {".625 ± .245"}
    assert len({str(how) for how in asked}) == len(rows) == len({row.what for row in rows})
