"""Attribution.mean: the weighted mean of P at every pixel, exactly; what has no mean."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.errors import InputError, NoAttributionError

BOX = (10, 10, 60, 50)


def _dense(attribution: Attribution) -> torch.Tensor:
    """P at every pixel, ``(columns, height, width)`` float64."""
    columns = range(len(attribution.prompt.tokens))
    return torch.stack([attribution.pixels([column]) for column in columns]).double()


def _with_seed(attribution: Attribution, seed: int) -> Attribution:
    return dataclasses.replace(attribution, run={**attribution.run, "seed": seed})


@pytest.fixture(scope="module")
def runs(make_attribution) -> list[Attribution]:
    """Three seeds; the second made more denoiser calls, so that its grids have other counts."""
    made = [make_attribution(seed=seed) for seed in (3, 4, 5)]
    grids = tuple(
        dataclasses.replace(grid, additions=7 * grid.additions + 10 * place)
        for place, grid in enumerate(made[1].grids)
    )
    made[1] = dataclasses.replace(made[1], grids=grids)
    return [_with_seed(run, seed) for run, seed in zip(made, (3, 4, 5), strict=True)]


@given(st.lists(st.floats(0.01, 9.0), min_size=3, max_size=3))
def test_it_is_the_weighted_mean_at_every_pixel(runs, weights):
    mean = Attribution.mean(runs, weights=weights)
    total = sum(weights)
    wanted = sum(_dense(run) * weight / total for run, weight in zip(runs, weights, strict=True))
    assert torch.allclose(_dense(mean), wanted, atol=2e-7)
    assert torch.allclose(_dense(mean).sum(dim=0), torch.ones(64, 96, dtype=torch.float64))


def test_each_run_counts_the_same_whatever_its_steps(runs):
    mean = Attribution.mean(runs)
    wanted = sum(run.region(BOX)["cat"] for run in runs) / 3
    assert mean.region(BOX)["cat"] == pytest.approx(wanted, rel=1e-5)
    assert mean.word("cat").mass(BOX) == mean.region(BOX)["cat"]


def test_runs_alike_keep_weights_of_one(make_attribution):
    mean = Attribution.mean([make_attribution(seed=seed) for seed in (1, 2)])
    assert [grid.weight for grid in mean.grids] == [1.0] * 4
    assert [grid.additions for grid in mean.grids] == [100, 200, 300, 400]


def test_a_run_with_weight_zero_does_not_count(runs):
    mean = Attribution.mean(runs, weights=[1, 0, 0])
    assert torch.allclose(_dense(mean), _dense(runs[0]), atol=2e-7)


def test_mean_squares_of_all_runs(make_attribution):
    def with_squares(run):
        grids = [dataclasses.replace(grid, squares=grid.maps**2 + 0.01) for grid in run.grids]
        return dataclasses.replace(run, grids=tuple(grids))

    runs = [make_attribution(seed=seed) for seed in (1, 2)]
    mean = Attribution.mean([with_squares(run) for run in runs], weights=[3, 1])
    for grid, one, two in zip(mean.grids, *(run.grids for run in runs), strict=True):
        wanted = 0.75 * one.maps**2 + 0.25 * two.maps**2 + 0.01
        assert torch.allclose(grid.squares, wanted, atol=1e-6)
    assert Attribution.mean([with_squares(runs[0]), runs[1]]).grids[0].squares is None


def test_facts_that_all_runs_share(runs):
    mean = Attribution.mean(runs)
    assert mean.run["runs"] == 3 and mean.run["seeds"] == "3, 4, 5"
    assert mean.run["model"] == "toy" and "seed" not in mean.run
    assert mean.image is None, "each seed made another image"
    assert "seeds" not in Attribution.mean([runs[0], dataclasses.replace(runs[1], run={})]).run


def test_one_image_that_all_runs_are_of(make_attribution):
    one, other = make_attribution(seed=1), make_attribution(seed=2, image=False)
    copy = dataclasses.replace(other, image=one.image.copy())
    assert Attribution.mean([one, copy]).image is one.image
    assert Attribution.mean([one, other]).image is None
    changed = np.asarray(one.image).copy()
    changed[5, 7, 0] ^= 1
    other = dataclasses.replace(other, image=Image.fromarray(changed))
    assert Attribution.mean([one, other]).image is None


def test_kept_steps_layers_and_heads(make_kept):
    runs = [make_kept(seed=seed)[0] for seed in (0, 1)]
    mean = Attribution.mean(runs, weights=[3.0, 1.0])
    choices = {"steps": slice(1, 4), "heads": [0, 2], "layers": "up_blocks"}
    parts = [_dense(run.select(**choices)) for run in runs]
    found = _dense(mean.select(**choices))
    assert torch.allclose(found, 0.75 * parts[0] + 0.25 * parts[1], atol=5e-7)
    assert mean.steps.timesteps == runs[0].steps.timesteps


def test_what_one_run_did_not_keep_is_left_out(make_kept):
    one, other = make_kept(("steps",))[0], make_kept(("heads",), seed=1)[0]
    grids = tuple(
        dataclasses.replace(grid, sites=like.sites)
        for grid, like in zip(other.grids, one.grids, strict=True)
    )
    mean = Attribution.mean([one, dataclasses.replace(other, grids=grids)])
    assert mean.kept is None
    with pytest.raises(
        NoAttributionError, match="needs single steps, which the mean of several runs"
    ):
        _ = mean.steps


def test_self_attention_of_all_runs(make_attribution):
    rows, runs = [], []
    for seed, calls in ((1, 4), (2, 12)):
        generator = torch.Generator().manual_seed(seed)
        attends = torch.rand(24, 24, generator=generator).softmax(dim=1)
        rows.append(attends)
        grid = SelfGrid((attends.T * calls).contiguous(), calls, (4, 6), ("mid",))
        runs.append(dataclasses.replace(make_attribution(seed=seed), self_grids=(grid,)))
    mean = Attribution.mean(runs)
    weights = torch.rand(1, 24)
    wanted = weights @ ((rows[0] + rows[1]) / 2).T
    assert torch.allclose(mean.self_grids[0].attention_to(weights), wanted, atol=1e-6)
    assert mean.word("cat").refined().values.shape == (64, 96)
    assert Attribution.mean([runs[0], make_attribution(seed=2)]).self_grids == ()


def test_the_negative_prompt_and_a_vocabulary(make_attribution):
    def whole(seed, negative, text="a dog"):
        return dataclasses.replace(
            make_attribution(seed=seed),
            negative_attribution=make_attribution(negative, seed=seed + 10, image=False),
            vocabulary={text: make_attribution(text, seed=seed + 20, image=False)},
        )

    runs = [whole(1, "bad"), whole(2, "bad")]
    mean = Attribution.mean(runs)
    for part in (lambda run: run.negative, lambda run: run.vocabulary["a dog"]):
        wanted = (_dense(part(runs[0])) + _dense(part(runs[1]))) / 2
        assert torch.allclose(_dense(part(mean)), wanted, atol=2e-7)
    mixed = Attribution.mean([runs[0], whole(2, "ugly", "a hat")])
    assert mixed.negative_attribution is None and not mixed.vocabulary


def test_it_is_saved_and_loaded(runs, tmp_path):
    mean = Attribution.mean(runs)
    loaded = Attribution.load(mean.save(tmp_path / "mean.safetensors"))
    assert torch.allclose(_dense(loaded), _dense(mean), atol=2e-7)
    assert loaded.run == mean.run


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda make: make("a dog"), r"'a dog', .*: a column stands for another word there"),
        (lambda make: make(size=(96, 64)), r"one of \(96, 64\); the mean needs one size"),
        (lambda make: make(grids=((8, 12),)), r"run 1 of the grids 8x12 \(height x width\)"),
        (lambda make: "a cat", "number 1 is a str"),
    ],
    ids=["prompt", "size", "grids", "kind"],
)
def test_runs_that_have_no_mean(make_attribution, change, text, types_unchecked):
    with pytest.raises(InputError, match=text):
        Attribution.mean([make_attribution(), change(make_attribution)])


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("nan")], ["a", 1]])
def test_weights_that_are_none(make_attribution, weights, types_unchecked):
    with pytest.raises(InputError, match="weights= has"):
        Attribution.mean([make_attribution(), make_attribution(seed=1)], weights=weights)


def test_what_is_not_a_list_of_runs(make_attribution, types_unchecked):
    with pytest.raises(InputError, match="several attributions; got one Attribution"):
        Attribution.mean(make_attribution())
    with pytest.raises(InputError, match="the list is empty"):
        Attribution.mean([])


def test_a_run_with_several_prompts(make_kept):
    run = make_kept(("steps",))[0]
    switched = dataclasses.replace(run, switched=(run,))
    with pytest.raises(InputError, match="number 1 was exchanged during the run"):
        Attribution.mean([run, switched])
