"""StepAccumulators: buffers for every step, by grid, layer and head, and what is read of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from diffusers_rdaam.recording.buffers.accumulator import AccumulatorShape
from diffusers_rdaam.recording.buffers.step_accumulators import StepAccumulators

# Two sites share a grid and a number of heads, one has more heads there.
GRIDS = (("a", (2, 3)), ("b", (4, 6)), ("c", (4, 6)), ("d", (4, 6)))
HEADS = (2, 2, 2, 3)
IMAGES, TOKENS, STEPS = 2, 5, 3
AXES = [("steps",), ("layers",), ("heads",), ("steps", "layers", "heads")]


def shape(axes: tuple[str, ...], *, pair: bool = True) -> AccumulatorShape:
    heads = HEADS if "heads" in axes else ()
    device = torch.device("cpu")
    return AccumulatorShape(IMAGES, TOKENS, GRIDS, pair, device, heads, "layers" in axes)


def maps(step: int, site: int) -> torch.Tensor:
    """Each head's probabilities ``(images, heads, tokens, pixels)``."""
    height, width = GRIDS[site][1]
    generator = torch.Generator().manual_seed(10 * step + site)
    size = (IMAGES, HEADS[site], TOKENS, height * width)
    return torch.randn(size, generator=generator).softmax(dim=2)


def filled(axes: tuple[str, ...], *, skip: Any = (), pair: bool = True) -> StepAccumulators:
    steps = "steps" in axes
    frames = StepAccumulators(shape(axes, pair=pair), STEPS if steps else 1)
    for step in range(STEPS):
        for index, (site, _) in enumerate(GRIDS):
            if (step, site) not in skip:
                added = maps(step, index)
                added = added if "heads" in axes else added.mean(dim=1)
                frames.accumulators[step if steps else 0].add(site, added)
    return frames


def mean_of(size: tuple[int, int], image: int, skip: Any = ()) -> torch.Tensor:
    parts = [
        maps(step, index)[image].double().mean(dim=0)
        for step in range(STEPS)
        for index, (site, grid) in enumerate(GRIDS)
        if grid == size and (step, site) not in skip
    ]
    return torch.stack(parts).mean(0)


@pytest.mark.parametrize("axes", AXES, ids="+".join)
@pytest.mark.parametrize(
    "skip", [(), {(1, "b"), (1, "c"), (1, "d"), (2, "a")}], ids=["all", "some"]
)
def test_the_means_over_all_weigh_every_addition_alike(axes, skip):
    frames = filled(axes, skip=skip)
    times = [9.0, 5.0, 1.0] if "steps" in axes else []
    for image, one in enumerate(frames.read(axes, times)):
        assert [grid.size for grid in one.grids] == [(4, 6), (2, 3)]
        assert one.kept.timesteps == tuple(times) and one.kept.axes == axes
        for grid in one.grids:
            wanted = mean_of(grid.size, image, skip)
            torch.testing.assert_close(grid.maps.flatten(1).double(), wanted, rtol=1e-5, atol=1e-7)
    counts = frames.site_counts()
    assert counts == {s: 3 - sum(name == s for _, name in skip) for s, _ in GRIDS}


def test_steps_that_were_skipped_have_no_additions():
    skip = {(1, "b"), (1, "c"), (1, "d"), (2, "a")}
    one = filled(("steps", "heads"), skip=skip).read(("steps", "heads"), [9.0, 5.0, 1.0])[0]
    additions = {detail.sites: detail.additions for detail in one.kept.details}
    assert additions == {("b", "c"): (2, 0, 2), ("d",): (1, 0, 1), ("a",): (1, 1, 0)}
    assert [detail.maps.shape[1] for detail in one.kept.details] == [2, 3, 2]


def test_a_site_that_is_silent_is_left_out():
    skip = {(step, site) for step in range(STEPS) for site in ("b", "c", "d")}
    [one, _] = filled(("layers",), skip=skip).read(("layers",))
    assert [detail.sites for detail in one.kept.details] == [("a",)]
    assert [grid.size for grid in one.grids] == [(2, 3)]


@pytest.mark.parametrize("axes", [(), *AXES], ids="+".join)
@pytest.mark.parametrize("pair", [True, False])
def test_bytes_are_known_before(axes, pair):
    frames = StepAccumulators(shape(axes, pair=pair), 2)
    counts = 2 * 4 * len(GRIDS)
    assert frames.nbytes == 2 * shape(axes, pair=pair).nbytes + counts
    frames.grow()
    assert frames.nbytes == 3 * shape(axes, pair=pair).nbytes + counts // 2 * 3


def test_what_was_read_stays_when_the_buffers_are_used_again():
    for axes in [(), *AXES]:
        frames = filled(axes)
        one = frames.read(axes)[1]
        parts = [grid.maps for grid in one.grids]
        parts += [detail.maps for detail in one.kept.details] if axes else []
        before = [part.clone() for part in parts]
        frames.zero_()
        assert not any(frames.site_counts().values())
        assert all(torch.equal(a, b) for a, b in zip(parts, before, strict=True))
        assert all(part.any() for part in parts)


def test_only_the_calls_that_were_made_are_read():
    frames = filled(("steps",))
    frames.grow()
    [one, _] = frames.read(("steps",), [9.0, 5.0], 2)
    assert one.kept.steps == 2 and one.kept.details[0].additions == (3, 3)


def test_half_precision_is_read_as_it_was_stored():
    [one, _] = filled(("steps", "heads"), pair=False).read(("steps", "heads"))
    assert {detail.maps.dtype for detail in one.kept.details} == {torch.float16}
    assert {grid.maps.dtype for grid in one.grids} == {torch.float32}
