"""A part of a record is an attribution: the mean of that part, by definition."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.errors import InputError, NoAttributionError

DOWN0, DOWN1, MID, UP00, UP01, UP1 = (
    f"{block}.transformer_blocks.0.attn2"
    for block in (
        "down_blocks.0.attentions.0", "down_blocks.1.attentions.0", "mid_block.attentions.0",
        "up_blocks.0.attentions.0", "up_blocks.0.attentions.1", "up_blocks.1.attentions.0",
    )
)  # fmt: skip
# Skipped by a cache at some steps; called several times in others.
COUNTS = {DOWN1: (1, 0, 1, 0, 1), MID: (0, 0, 0, 2, 1), UP00: (2, 1, 2, 3, 2)}


def assert_is(attribution: Attribution, wanted, weights=None) -> None:
    """Grid by grid, and the whole as an enlargement of what is wanted."""
    assert {grid.size for grid in attribution.grids} == set(wanted)
    total, everything = torch.zeros(64, 96, dtype=torch.float64), 0.0
    for grid in attribution.grids:
        maps, additions = wanted[grid.size]
        assert grid.additions == additions
        torch.testing.assert_close(grid.maps.double(), maps, rtol=1e-5, atol=1e-7)
        weight = additions * (1.0 if weights is None else weights[grid.size])
        total += weight * F.interpolate(
            maps[None, 2:3], size=(64, 96), mode="bicubic", align_corners=False
        )[0, 0]  # fmt: skip
        everything += weight
    torch.testing.assert_close(attribution["cat"].values.double(), total / everything)
    columns = range(len(attribution.prompt.tokens))
    ones = sum(attribution.column(column).values for column in columns)
    torch.testing.assert_close(ones, torch.ones(64, 96), rtol=0, atol=5e-6)


@pytest.mark.parametrize(
    ("steps", "numbers"),
    [
        (0, [0]), (-1, [4]), (np.int64(3), [3]), (slice(1, 4), [1, 2, 3]), (slice(None), range(5)),
        (slice(None, None, 2), [0, 2, 4]), (slice(None, None, -2), [0, 2, 4]), ([3, 0], [0, 3]),
        ([4, 4, 0, 1], [0, 1, 4]), (range(0, 5, 3), [0, 3]), (np.array([1, 2]), [1, 2]),
        ({-1, 4}, [4]), (slice(-2, 99), [3, 4]),
    ],
    ids=repr,
)  # fmt: skip
def test_steps(make_kept, steps, numbers):
    attribution, record = make_kept(("steps",), counts=COUNTS)
    selected = attribution.select(steps=steps)
    assert_is(selected, record.mean(steps=list(numbers)))
    assert selected.kept.timesteps == tuple(900.0 - 100 * step for step in numbers)
    assert selected.kept.steps == len(numbers) == len(selected.steps)


@pytest.mark.parametrize(
    ("heads", "numbers"),
    [(0, [0]), (-1, [3]), (slice(1, 3), [1, 2]), ([0, 3], [0, 3]), (range(4), [0, 1, 2, 3])],
    ids=repr,
)
@pytest.mark.parametrize("axes", [("heads",), ("steps", "layers", "heads")], ids="+".join)
def test_heads(make_kept, axes, heads, numbers):
    attribution, record = make_kept(axes, heads=4, counts=COUNTS)
    assert attribution.heads == dict.fromkeys(attribution.layers, 4)
    selected = attribution.select(heads=heads)
    assert_is(selected, record.mean(heads=numbers))
    assert selected.heads == dict.fromkeys(attribution.layers, len(numbers))


@pytest.mark.parametrize(
    ("layers", "sites"),
    [
        (UP01, [UP01]),
        ("up_blocks", [UP00, UP01, UP1]),
        ("up_blocks.0", [UP00, UP01]),
        (["mid_block", DOWN1, "mid_block.attentions"], [DOWN1, MID]),
        ("up_blocks.*.attn2", [UP00, UP01, UP1]),
        ("*.attentions.1.*", [UP01]),
        ("[du]*_blocks.1", None),
        ("[du]*_blocks.1.*", [DOWN1, UP1]),
        ("*", [DOWN0, DOWN1, MID, UP00, UP01, UP1]),
    ],
)
def test_layers(make_kept, layers, sites):
    attribution, record = make_kept(("layers",), counts=COUNTS)
    assert set(attribution.layers) == {DOWN0, DOWN1, MID, UP00, UP01, UP1}
    if sites is None:
        with pytest.raises(InputError):
            attribution.select(layers=layers)
        return
    selected = attribution.select(layers=layers)
    assert_is(selected, record.mean(sites=sites))
    assert set(selected.layers) == set(sites)


@pytest.mark.parametrize("axes", [None, ("steps",), ("steps", "heads")])
def test_layers_of_whole_grids_need_nothing_kept(make_kept, axes):
    attribution, record = make_kept(axes or ("steps",))
    if axes is None:
        attribution = dataclasses.replace(attribution, kept=None)
    assert_is(attribution.select(layers="mid_block"), record.mean(sites=[MID]))
    sites = [DOWN0, UP1, MID]
    assert_is(attribution.select(layers=sites), record.mean(sites=sites))
    with pytest.raises(NoAttributionError) as caught:
        attribution.select(layers="up_blocks")
    assert str(caught.value) == (
        f"{UP1} was recorded together with {DOWN0} (grid 8x12), so it cannot be selected alone. "
        'Record with RDAAMProcessor(keep="layers") to keep them separately, or choose both.'
    )


FINE, MIDDLE, COARSE = (8, 12), (4, 6), (2, 3)


@pytest.mark.parametrize(
    ("resolutions", "weights"),
    [
        ((4, 6), {MIDDLE: 1.0}),
        ([(4, 6)], {MIDDLE: 1.0}),
        ([(2, 3), (8, 12)], {FINE: 1.0, COARSE: 1.0}),
        (((2, 3), (8, 12)), {FINE: 1.0, COARSE: 1.0}),
        ({(8, 12): 0.2, (2, 3): 3.0}, {FINE: 0.2, COARSE: 3.0}),
        ({(8, 12): 1, (2, 3): 0, (4, 6): 2.5}, {FINE: 1.0, MIDDLE: 2.5}),
    ],
    ids=repr,
)
@pytest.mark.parametrize("kept", [True, False])
def test_resolutions(make_kept, resolutions, weights, kept):
    attribution, record = make_kept(("steps", "layers"), counts=COUNTS)
    if not kept:
        attribution = dataclasses.replace(attribution, kept=None)
    selected = attribution.select(resolutions=resolutions)
    wanted = {size: value for size, value in record.mean().items() if size in weights}
    assert_is(selected, wanted, weights)
    assert {grid.size: grid.weight for grid in selected.grids} == weights
    # What was selected is a view of the same maps.
    assert all(any(grid.maps is old.maps for old in attribution.grids) for grid in selected.grids)
    if kept:
        again = selected.select(steps=2)
        assert {grid.size: grid.weight for grid in again.grids} == {
            size: weight for size, weight in weights.items() if size != COARSE
        }


def test_a_mapping_sets_the_weights_anew(make_attribution):
    attribution = make_attribution().select(resolutions={(8, 12): 3.0, (4, 6): 0.5})
    assert [grid.weight for grid in attribution.select(resolutions=[(4, 6)]).grids] == [0.5]
    again = attribution.select(resolutions={(8, 12): 2.0, (4, 6): 7.0})
    assert [grid.weight for grid in again.grids] == [2.0, 7.0]


def test_square_grids_go_by_one_number(make_attribution):
    attribution = make_attribution(grids=((8, 8), (4, 4), (4, 6)))
    sizes = {
        8: [(8, 8)], (4, 6): [(4, 6)], np.int64(4): [(4, 4)],
    }  # fmt: skip
    for resolutions, wanted in sizes.items():
        assert [grid.size for grid in attribution.select(resolutions=resolutions).grids] == wanted
    several = attribution.select(resolutions=[8, (4, 6)])
    assert [grid.size for grid in several.grids] == [(8, 8), (4, 6)]
    weighted = attribution.select(resolutions={4: 0.5, (4, 6): 1.0})
    assert [(grid.size, grid.weight) for grid in weighted.grids] == [((4, 4), 0.5), ((4, 6), 1.0)]


def test_all_choices_at_once_and_one_after_another(make_kept):
    attribution, record = make_kept(counts=COUNTS)
    sites = [DOWN0, UP1, UP00]
    at_once = attribution.select(
        layers=sites, heads=[0, 2], steps=slice(1, 4), resolutions=[(8, 12), (4, 6)]
    )
    assert_is(at_once, record.mean(sites=sites, heads=[0, 2], steps=[1, 2, 3]))
    chained = attribution.select(steps=slice(1, 4)).select(heads=[0, 2]).select(layers=sites)
    assert_is(chained, record.mean(sites=sites, heads=[0, 2], steps=[1, 2, 3]))
    assert_is(chained.select(steps=-1, heads=1), record.mean(sites=sites, heads=[2], steps=[3]))


def test_iterators_are_read_once(make_kept):
    attribution, record = make_kept()
    both = dataclasses.replace(attribution, negative_attribution=attribution)
    part = both.select(
        heads=iter([0, 2]), steps=iter([1, 3]), layers=iter(["up_blocks"]),
        resolutions=iter([(8, 12), (4, 6)]),
    )  # fmt: skip
    wanted = record.mean(sites=[UP00, UP01, UP1], heads=[0, 2], steps=[1, 3])
    assert_is(part, wanted)
    assert_is(part.negative_attribution, wanted)


def test_everything_is_the_original(make_kept):
    attribution, _ = make_kept(counts=COUNTS)
    same = attribution.select(
        layers="*", heads=slice(None), steps=range(5), resolutions=[COARSE, FINE, MIDDLE]
    )
    for grid, other in zip(same.grids, attribution.grids, strict=True):
        assert grid.maps is other.maps and grid.weight == other.weight
    for detail, other in zip(same.kept.details, attribution.kept.details, strict=True):
        assert detail is other
    assert same.kept.timesteps == attribution.kept.timesteps
    assert attribution.select().grids == attribution.grids


def test_regular_numbers_copy_nothing(make_kept):
    attribution, _ = make_kept()
    starts = {detail.maps.untyped_storage().data_ptr() for detail in attribution.kept.details}
    selected = attribution.select(steps=[1, 3], heads=slice(1, 3), layers="up_blocks")
    for detail in selected.kept.details:
        assert detail.maps.untyped_storage().data_ptr() in starts


numbers = st.sets(st.integers(0, 4), min_size=1, max_size=4)


@given(seed=st.integers(0, 99), first=numbers, weights=st.booleans())
def test_disjoint_steps_average_to_the_whole(make_kept, seed, first, weights):
    attribution, _ = make_kept(("steps",), counts=COUNTS, seed=seed)
    if weights:
        attribution = attribution.select(resolutions={FINE: 0.3, COARSE: 2.0})
    total, everything = torch.zeros(64, 96), 0.0
    for steps in (first, set(range(5)) - first):
        part = attribution.select(steps=steps)
        weight = sum(grid.weight * grid.additions for grid in part.grids)
        total += weight * part["cat"].values
        everything += weight
    torch.testing.assert_close(total / everything, attribution["cat"].values)


@given(
    steps=numbers, heads=st.sets(st.integers(0, 2), min_size=1),
    layers=st.sets(st.sampled_from([DOWN0, UP00, UP01, UP1]), min_size=1),
    box=st.sampled_from([(0, 0, 96, 64), (3, 5, 20, 60), (90, 0, 200, 9)]),
)  # fmt: skip
def test_every_part_obeys_the_laws(make_kept, steps, heads, layers, box):
    part = make_kept(counts=COUNTS)[0].select(steps=steps, heads=heads, layers=layers)
    answer = part.region(box)
    assert float(answer.scores.sum()) == pytest.approx(1.0, abs=1e-5)
    assert part["blue eyes"].mass(box) == pytest.approx(answer["blue eyes"], rel=2e-5, abs=1e-6)


def test_the_rest_stays(make_kept):
    attribution, _ = make_kept()
    part = attribution.select(steps=1, resolutions=FINE)
    assert part.image is attribution.image and part.prompt is attribution.prompt
    assert part.run == attribution.run and part.image_size == (64, 96)


def test_the_negative_is_selected_too_where_it_was_kept(make_kept):
    attribution, _ = make_kept()
    negative, record = make_kept(text="a dog", seed=3)
    both = dataclasses.replace(attribution, negative_attribution=negative)
    part = both.select(steps=1, layers="up_blocks", heads=2, resolutions=[FINE, MIDDLE])
    wanted = record.mean(steps=[1], heads=[2], sites=[UP00, UP01, UP1])
    for grid in part.negative_attribution.grids:
        torch.testing.assert_close(grid.maps.double(), wanted[grid.size][0], rtol=1e-5, atol=1e-7)
    bare = dataclasses.replace(
        attribution, negative_attribution=dataclasses.replace(negative, kept=None)
    )
    assert bare.select(steps=1).negative_attribution is None
    assert len(bare.select(resolutions=FINE).negative_attribution.grids) == 1


def test_sites_with_different_numbers_of_heads(make_kept):
    heads = {DOWN0: 2, UP1: 2, DOWN1: 4, UP00: 4, UP01: 4, MID: 4}
    attribution, record = make_kept(("layers", "heads"), heads=heads)
    assert attribution.heads == heads
    assert_is(attribution.select(heads=[0, 1]), record.mean(heads=[0, 1]))
    with pytest.raises(InputError) as caught:
        attribution.select(heads=3)
    assert str(caught.value) == (
        f"{DOWN0}: There are 2 heads, numbered from 0; there is no 3. Heads of each grid: 8x12 has "
        "2, 4x6 has 4, 2x3 has 4. Choose layers= or resolutions= whose sites all have those heads."
    )
    with pytest.raises(InputError, match=r"slice\(2, None, None\) chooses none of the 2 heads\."):
        attribution.select(heads=slice(2, None))
    coarse = record.mean(heads=[3], sites=[DOWN1, UP00, UP01, MID])
    assert_is(attribution.select(heads=3, resolutions=[(4, 6), (2, 3)]), coarse)
    assert_is(attribution.select(heads=3, layers="mid_block"), record.mean(heads=[3], sites=[MID]))


def test_steps_are_a_sequence_of_attributions(make_kept):
    attribution, record = make_kept(("steps", "heads"))
    steps = attribution.steps
    assert len(steps) == 5 and steps.timesteps == (900.0, 800.0, 700.0, 600.0, 500.0)
    assert_is(steps[3], record.mean(steps=[3]))
    assert_is(steps[-2:], record.mean(steps=[3, 4]))
    for step, each in enumerate(steps):
        assert_is(each, record.mean(steps=[step]))
    assert step == 4
    assert steps[1:3].steps.timesteps == (800.0, 700.0)
    assert_is(steps[1:4].steps[2], record.mean(steps=[3]))
    with pytest.raises(InputError, match=r"^There are 5 steps, numbered from 0; there is no 5\.$"):
        steps[5]
    assert repr(steps).startswith("Steps(5 of Attribution('a cat with blue eyes")
