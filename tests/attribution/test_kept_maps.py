"""What a run kept apart merges to the grids that it is apart of, and is checked."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.kept_maps import KeptMaps, MapStack, merge_details
from diffusers_rdaam.errors import InputError, RegionError
from diffusers_rdaam.geometry.region import Mask

# A site that a cache skipped at two steps, and one that was called twice in each.
COUNTS = {
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2": (1, 0, 1, 0, 1),
    "up_blocks.0.attentions.0.transformer_blocks.0.attn2": (2, 2, 2, 2, 2),
}
AXES = [
    ("steps",), ("layers",), ("heads",), ("steps", "heads"), ("layers", "heads"),
    ("steps", "layers"), ("steps", "layers", "heads"),
]  # fmt: skip


@pytest.mark.parametrize("axes", AXES, ids="+".join)
def test_details_merge_to_the_mean_of_all(make_kept, axes):
    attribution, record = make_kept(axes, counts=COUNTS)
    wanted = record.mean()
    assert [grid.size for grid in attribution.grids] == [(8, 12), (4, 6), (2, 3)]
    for grid in attribution.grids:
        maps, additions = wanted[grid.size]
        assert grid.additions == additions and grid.maps.dtype == torch.float32
        torch.testing.assert_close(grid.maps.double(), maps, rtol=1e-5, atol=1e-7)
    sites = [site for grid in attribution.grids for site in grid.sites]
    assert sorted(sites) == sorted(record.maps)


def test_half_precision_merges_in_single(make_kept):
    half, record = make_kept(dtype=torch.float16)
    for grid in merge_details(half.kept.details):
        maps, _ = record.mean()[grid.size]
        torch.testing.assert_close(grid.maps.double(), maps, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(grid.maps.sum(dim=0), torch.ones(grid.size), rtol=0, atol=1e-3)


def test_merging_leaves_the_details_as_they_are(make_kept):
    attribution, _ = make_kept()
    before = [detail.maps.clone() for detail in attribution.kept.details]
    for grid in merge_details(attribution.kept.details):
        grid.maps.fill_(9.0)
    after = [detail.maps for detail in attribution.kept.details]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_bytes_count_what_was_kept(make_kept):
    attribution, _ = make_kept(dtype=torch.float16)
    cells = 17 * (2 * 96 + 3 * 24 + 6)
    assert attribution.kept.nbytes == 5 * 3 * cells * 2
    grids = 17 * (96 + 24 + 6) * 4
    assert attribution.nbytes == grids + attribution.kept.nbytes
    both = dataclasses.replace(attribution, negative_attribution=attribution)
    assert both.nbytes == 2 * attribution.nbytes


def detail(shape=(2, 3, 4, 5, 6), additions=(1, 1), sites=("up.0",)) -> MapStack:
    return MapStack(torch.zeros(shape), additions, sites)


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize(
    ("shape", "additions", "text"),
    [
        ((3, 4, 5, 6), (1,), "got shape (3, 4, 5, 6) and 1 additions."),
        ((2, 3, 4, 5, 6), (1,), "got shape (2, 3, 4, 5, 6) and 1 additions."),
        ((2, 3, 4, 5, 6), (0, 0), "at least one of them over 0; got (0, 0)."),
        ((2, 3, 4, 5, 6), (3, -1), "at least one of them over 0; got (3, -1)."),
    ],
)
def test_bad_detail(shape, additions, text):
    with pytest.raises(InputError) as caught:
        detail(shape, additions)
    assert str(caught.value).endswith(text)


ONE = ((1, 1, 4, 5, 6), (2,))


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize(
    ("axes", "details", "timesteps", "text"),
    [
        ((), [detail()], (), "Axes are some of steps, layers, heads, each once; got ()."),
        (("step",), [detail()], (), "each once; got ('step',)."),
        (("steps", "steps"), [detail()], (), "each once; got ('steps', 'steps')."),
        (("steps",), [], (), "What was kept has no maps."),
        (("heads",), [detail(*ONE), detail((3, 1, 4, 5, 6), (1, 1, 1))], (),
         "Every detail has the same steps; these have [1, 3]."),
        (("steps", "heads"), [detail()], (1.0,), "There are 1 timesteps for 2 steps."),
        (("heads",), [detail()], (), "Steps were not kept, but there are 2 with timesteps."),
        (("heads",), [detail(*ONE)], (1.0,),
         "Steps were not kept, but there are 1 with timesteps."),
        (("steps",), [detail()], (), "Heads were not kept, but there is a detail with several."),
        (("layers",), [detail(*ONE, ("a", "b"))], (),
         "Layers were kept, but there is a detail that is not of one site."),
        (("layers",), [detail(*ONE), detail(*ONE)], (),
         "A site belongs to one detail; these repeat: ['up.0']."),
    ],
)  # fmt: skip
def test_bad_record(axes, details, timesteps, text):
    with pytest.raises(InputError) as caught:
        KeptMaps(axes, tuple(details), timesteps)
    assert str(caught.value).endswith(text)


def test_what_was_kept_belongs_to_the_grids(make_kept):
    attribution, _ = make_kept()
    first, *others = attribution.grids
    extra = Grid(torch.zeros(17, 3, 3), 4)
    for grids, text in (
        ((*others,), "(8, 12) (height, width) has 0 additions, what was kept separately 10."),
        ((*attribution.grids, extra),
         "(3, 3) (height, width) has 4 additions, what was kept separately 0."),
        ((Grid(first.maps, 11, first.sites), *others),
         "(8, 12) (height, width) has 11 additions, what was kept separately 10."),
    ):  # fmt: skip
        with pytest.raises(InputError) as caught:
            dataclasses.replace(attribution, grids=grids)
        assert str(caught.value) == (
            f"What was kept separately must be what the grids are the mean of. The grid {text}"
        )
    with pytest.raises(InputError, match="there is one grid of each size"):
        dataclasses.replace(attribution, grids=(*attribution.grids, first))
    fewer = KeptMaps(("steps",), (detail((2, 1, 4, 8, 12)),))
    with pytest.raises(InputError, match=r"^The maps have 4 columns, the prompt 17 tokens; they"):
        dataclasses.replace(attribution, kept=fewer)


@pytest.mark.parametrize("weight", [0.0, -1.0, 1e-10, 1e10, float("nan"), float("inf")])
def test_bad_weight(weight):
    with pytest.raises(InputError) as caught:
        Grid(torch.zeros(4, 2, 3), 1, (), weight)
    assert str(caught.value) == f"A grid's weight lies between 1e-9 and 1e9; got {weight}."


def test_negative_and_mask_are_of_the_same_image(make_attribution):
    attribution, other = make_attribution(), make_attribution("a dog", size=(32, 48))
    with pytest.raises(InputError) as caught:
        dataclasses.replace(attribution, negative_attribution=other)
    assert str(caught.value) == (
        "The negative prompt's attribution is of an image of (32, 48) (height, width), this one of "
        "(64, 96)."
    )
    same: Attribution = dataclasses.replace(attribution, negative_attribution=attribution)
    with pytest.raises(InputError, match="has no negative prompt of its own"):
        dataclasses.replace(attribution, negative_attribution=same)
    with pytest.raises(RegionError, match="The mask is 96 pixels wide and 96 high"):
        dataclasses.replace(attribution, mask=Mask(torch.ones(96, 96)))
