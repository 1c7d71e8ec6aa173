"""What must hold for every attribution, region and word: the project in five equations."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.prompt import Match
from diffusers_rdaam.geometry.region import Box, Mask, Polygon, as_region

HEIGHT, WIDTH = 64, 96
GRIDS = [(8, 12), (4, 6), (2, 3), (1, 2), (5, 3), (64, 96)]

edges = st.tuples(
    st.integers(-20, 115), st.integers(-20, 83), st.integers(1, 120), st.integers(1, 90)
)
boxes = edges.map(lambda e: Box(e[0], e[1], e[0] + e[2], e[1] + e[3])).filter(
    lambda box: box.left < WIDTH and box.top < HEIGHT and box.right > 0 and box.bottom > 0
)
seeds = st.integers(0, 9999)
grids = st.lists(st.sampled_from(GRIDS), min_size=1, max_size=4, unique=True).map(tuple)
words = st.sampled_from(["cat", "blue eyes", "on", (0, 8), -1])


# Three corners that enclose a few pixels of the image, and any others.
outlines = st.lists(st.tuples(st.floats(-30, 130), st.floats(-30, 100)), max_size=5).map(
    lambda points: ((40.0, 30.0), (45.5, 30.0), (40.0, 35.5), *points)
)


@st.composite
def masks(draw) -> Mask:
    generator = torch.Generator().manual_seed(draw(seeds))
    weights = torch.rand(HEIGHT, WIDTH, generator=generator)
    return Mask((weights - draw(st.sampled_from([0.0, 0.5, 0.99]))).clamp(min=0.0) + 1e-6)


def assert_mass_is_the_score(attribution: Attribution, region, word) -> None:
    heat_map, words = attribution[word], attribution.region(region)
    score = words.score_of(word)
    assert heat_map.mass(region) == score
    assert heat_map.inside(region) == attribution.inside(region).score_of(word)
    # The definition, apart from the shortcut through the grids: a mean over the map's pixels.
    weights = as_region(region).coverage(heat_map.size).double()
    mean = float((heat_map.values.double() * weights).sum() / weights.sum())
    assert mean == pytest.approx(score, rel=2e-5, abs=1e-6)
    assert replace(heat_map).mass(region) == pytest.approx(score, rel=2e-5, abs=1e-6)


@given(seed=seeds, sizes=grids, region=boxes, word=words)
def test_the_mass_in_a_box_is_the_score_of_the_word(make_attribution, seed, sizes, region, word):
    assert_mass_is_the_score(make_attribution(seed=seed, grids=sizes), region, word)


@given(seed=seeds, sizes=grids, outline=outlines, word=words)
def test_the_mass_in_a_polygon_is_the_score_of_the_word(
    make_attribution, seed, sizes, outline, word
):
    attribution = make_attribution(seed=seed, grids=sizes)
    assert_mass_is_the_score(attribution, Polygon(outline), word)


@given(seed=seeds, sizes=grids, region=masks(), word=words)
def test_the_mass_in_a_mask_is_the_score_of_the_word(make_attribution, seed, sizes, region, word):
    assert_mass_is_the_score(make_attribution(seed=seed, grids=sizes), region, word)


forms = st.sampled_from(
    [np.float64, np.float32, np.float16, bool, np.uint8, torch.float64, torch.bfloat16, "grid"]
)


@given(seed=seeds, sizes=grids, form=forms, word=words, weights=st.sampled_from([1.0, 0.25, 7.5]))
def test_the_mass_is_the_score_in_regions_of_any_type_and_for_any_mix_of_grids(
    make_attribution, seed, sizes, form, word, weights
):
    attribution = make_attribution(seed=seed, grids=sizes)
    mix = {size: weights if i == 0 else 1.0 for i, size in enumerate(sizes)}
    attribution = attribution.select(resolutions=mix)
    plane = torch.zeros(HEIGHT, WIDTH)
    plane[seed % 30 : seed % 30 + 20, seed % 50 : seed % 50 + 31] = 1.0
    region = (seed % 50, seed % 30, seed % 50 + 31.5, seed % 30 + 20.25)
    if isinstance(form, torch.dtype):
        region = plane.to(form)
    elif form != "grid":
        region = plane.numpy().astype(form)
    heat_map, answer = attribution[word], attribution.region(region)
    assert heat_map.mass(region) == answer.score_of(word)
    assert heat_map.inside(region) == attribution.inside(region).score_of(word)
    for entry in answer:
        columns = {column for place in entry.occurrences for column in place.columns}
        whole = attribution.match(Match(entry.text, (), tuple(sorted(columns))))
        assert whole.mass(region) == entry.score == answer[entry.text]


@given(seed=seeds, sizes=grids, cut=st.integers(1, 59), box=st.just((10, 4, 70, 50)))
def test_disjoint_boxes_add_weighted_by_area(make_attribution, seed, sizes, cut, box):
    attribution = make_attribution(seed=seed, grids=sizes)
    left, top, right, bottom = box
    whole, one, other = (
        attribution.region(part).scores
        for part in (box, (left, top, left + cut, bottom), (left + cut, top, right, bottom))
    )
    share = cut / (right - left)
    torch.testing.assert_close(whole, share * one + (1.0 - share) * other, rtol=1e-4, atol=1e-6)


@given(seed=seeds, region=masks())
def test_a_mask_and_the_rest_add_to_the_whole_image(make_attribution, seed, region):
    attribution = make_attribution(seed=seed)
    rest = Mask(1.0 - region.weights.clamp(max=0.999))
    mask = Mask(region.weights.clamp(max=0.999))
    share = float(mask.weights.mean())
    total = share * attribution.region(mask).scores
    total += (1.0 - share) * attribution.region(rest).scores
    torch.testing.assert_close(total, attribution.region(mask).levels, rtol=1e-4, atol=1e-5)


@given(seed=seeds, sizes=grids)
def test_all_columns_sum_to_one_at_every_pixel(make_attribution, seed, sizes):
    attribution = make_attribution(seed=seed, grids=sizes)
    total = sum(attribution.column(i).values for i in range(len(attribution.prompt.tokens)))
    torch.testing.assert_close(total, torch.ones(HEIGHT, WIDTH), rtol=0, atol=5e-6)


@given(seed=seeds, sizes=grids, region=boxes)
def test_scores_sum_to_one_in_every_region(make_attribution, seed, sizes, region):
    answer = make_attribution(seed=seed, grids=sizes).region(region)
    assert float(answer.scores.sum()) == pytest.approx(1.0, abs=1e-5)
    everything = sum(word.score for word in answer) + sum(answer.special.values())
    assert everything == pytest.approx(1.0, abs=1e-5)


@given(seed=seeds, sizes=grids, region=boxes, word=words)
def test_transposing_the_image_transposes_the_map(make_attribution, seed, sizes, region, word):
    upright = make_attribution(seed=seed, grids=sizes, image=False)
    turned = dataclasses.replace(
        upright,
        image_size=(WIDTH, HEIGHT),
        grids=tuple(
            Grid(grid.maps.transpose(1, 2), grid.additions, grid.sites) for grid in upright.grids
        ),
    )
    torch.testing.assert_close(turned[word].values, upright[word].values.T, rtol=1e-4, atol=1e-6)
    box = Box(region.top, region.left, region.bottom, region.right)
    torch.testing.assert_close(
        turned.region(box).scores, upright.region(region).scores, rtol=1e-4, atol=1e-6
    )


@given(seed=seeds, order=st.permutations(range(3)))
def test_the_order_of_the_grids_does_not_matter(make_attribution, seed, order):
    attribution = make_attribution(seed=seed, grids=tuple(GRIDS[:3]))
    other = dataclasses.replace(attribution, grids=tuple(attribution.grids[i] for i in order))
    torch.testing.assert_close(other["cat"].values, attribution["cat"].values)


def test_a_grid_counts_by_its_additions(make_attribution):
    attribution = make_attribution(grids=((8, 12), (4, 6)))
    coarse, fine = (
        dataclasses.replace(attribution, grids=(grid,))["cat"].values
        for grid in reversed(attribution.grids)
    )
    assert [grid.additions for grid in attribution.grids] == [50, 100]
    torch.testing.assert_close(attribution["cat"].values, fine / 3 + coarse * 2 / 3)
