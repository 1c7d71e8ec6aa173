"""The evidence: its scores against slow or known ones, its replay, and a run of two scenes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks.__main__ import main
from benchmarks.guards import ROOT
from benchmarks.truth import measure as measuring
from benchmarks.truth import scores as scoring
from benchmarks.truth.command import between_marks, with_earlier
from benchmarks.truth.evidence import Evidence, as_json, as_markdown, from_json
from benchmarks.truth.maps import MapScores, with_sites
from benchmarks.truth.measure import Measurement
from benchmarks.truth.models import model_of
from benchmarks.truth.regions import background_boxes, hull, scaled
from benchmarks.truth.sanity import other_names, replay, spoil_attention, spoil_encoders
from benchmarks.truth.scenes import Setting, object_pixels, prompts_of, scenes
from benchmarks.truth.scores import (
    THRESHOLDS,
    box_iou,
    iou_curve,
    mean_and_interval,
    points_inside,
    resampled,
)
from diffusers_rdaam import Attribution, HeatMap
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.evaluation.metrics.ranking import average_precision, roc_area
from diffusers_rdaam.geometry.region import Box

QUICK = Setting("quick", steps=2)
MASK = np.zeros((8, 12), bool)
MASK[2:5, 3:9] = True


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=30))
def test_average_precision_is_the_area_of_its_definition(pixels):
    values = np.array([float(value) for value, _ in pixels])
    mask = np.array([inside for _, inside in pixels])
    area, before = 0.0, 0.0
    for level in sorted(set(values), reverse=True):
        chosen = values >= level
        recall = (chosen & mask).sum() / max(mask.sum(), 1)
        area += (recall - before) * (chosen & mask).sum() / chosen.sum()
        before = recall
    assert average_precision(values, mask) == pytest.approx(area)


def test_a_right_and_a_flat_map():
    values = MASK.astype(float)
    assert average_precision(values, MASK) == 1.0
    assert average_precision(np.ones_like(values), MASK) == pytest.approx(MASK.mean())
    assert np.array_equal(iou_curve(values, MASK), np.ones(len(THRESHOLDS)))
    assert points_inside(values, MASK) and not points_inside(-values, MASK)
    assert iou_curve(np.ones_like(values), MASK).max() == 0.0


def test_boxes():
    assert box_iou((0, 0, 4, 4), (0, 0, 4, 4)) == 1.0
    assert box_iou((0, 0, 4, 4), (2, 0, 6, 4)) == pytest.approx(8 / 24)
    assert box_iou((0, 0, 4, 4), (5, 5, 6, 6)) == 0.0
    assert scaled(Box(4, 4, 8, 6), 0.5, (20, 20)) == Box(5.0, 4.5, 7.0, 5.5)
    assert scaled(Box(0, 4, 8, 6), 2.0, (20, 9)) == Box(0.0, 3.0, 9.0, 7.0)


def test_the_hull_covers_the_mask(make_attribution):
    rng = np.random.default_rng(0)
    mask = np.zeros((64, 96), bool)
    mask[rng.integers(10, 50, 40), rng.integers(20, 80, 40)] = True
    attribution = make_attribution()
    covered = attribution.region(hull(mask)).region.coverage((64, 96)).numpy()
    assert (covered[mask] > 0.999).all()
    rows, columns = np.nonzero(mask)
    box = np.zeros_like(mask)
    box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    assert mask.sum() < (covered > 0.5).sum() < box.sum() and not (covered > 1e-6)[~box].any()
    assert hull(MASK) == [(3.0, 2.0), (9.0, 2.0), (9.0, 5.0), (3.0, 5.0)]


def test_boxes_of_background_keep_clear():
    other = np.zeros((100, 100), bool)
    other[60:90, 50:80] = True
    first = np.zeros_like(other)
    first[10:30, 10:30] = True
    boxes = background_boxes([first, other], np.random.default_rng(1), 20)
    assert len(boxes) == 20
    for box in boxes:
        assert not (first | other)[
            int(box.top) : int(box.bottom), int(box.left) : int(box.right)
        ].any()
    assert background_boxes([np.ones((50, 50), bool)], np.random.default_rng(1), 3) == []


def test_intervals_and_areas():
    assert roc_area([3.0, 2.0], [1.0, 2.0]) == pytest.approx(3.5 / 4)
    value, low, high = mean_and_interval(np.random.default_rng(0).normal(5.0, 2.0, 400))
    assert low < value < high and high - low == pytest.approx(4 * 1.96 * 0.05, rel=0.1)
    assert resampled([1, 2], lambda chosen: 7.0) == (7.0, 7.0, 7.0)


def test_thresholds_are_those_of_the_tuning_scenes():
    values = torch.linspace(0, 1, 96).view(8, 12)
    scores = MapScores()
    scores.add([(HeatMap(values, "cat"), values.numpy() > 0.51)])
    assert THRESHOLDS[scores.best_threshold()] == pytest.approx(0.5)
    assert scores.at(scores.best_threshold())[0] > 0.95 > scores.at(0)[0]
    assert scores.default[0] > 0.9 and scores.precision == [pytest.approx(1.0)]
    assert scores.peak == [1.0]


@pytest.mark.parametrize("sites", ["last", "all", "chosen"])
def test_whose_self_attention_refines(make_attribution, sites):
    names = ("down_blocks.0.attn1", "up_blocks.1.attn1", "mid_block.attn1")
    sizes = ((4, 6), (4, 6), (2, 3))
    grids = tuple(
        SelfGrid(torch.rand(h * w, h * w), 3, (h, w), (name,))
        for name, (h, w) in zip(names, sizes, strict=True)
    )
    attribution = dataclasses.replace(make_attribution(), self_grids=grids)
    found = with_sites(attribution, sites).self_grids
    if sites == "chosen":
        assert found == grids
    elif sites == "last":
        assert found == (grids[1],)
    else:
        assert [grid.sites for grid in found] == [names[:2]]
        assert torch.allclose(found[0].sums, grids[0].sums + grids[1].sums)
    assert with_sites(make_attribution(), sites).self_grids == ()


def test_other_names_share_nothing():
    for seed in range(20):
        first, second = other_names(("red circle", "blue square"), seed)
        used = {"red", "blue", "circle", "square"}
        assert not used & {*first.split(), *second.split()}
        assert len({*first.split(), *second.split()}) == 4


def test_test_and_tuning_prompts_are_of_different_pairs_and_seeds():
    test, tuning = prompts_of("test", 60), prompts_of("tuning", 60)
    assert not {frozenset(names) for _, names, _ in test} & {
        frozenset(names) for _, names, _ in tuning
    }
    assert not {seed for *_, seed in test} & {seed for *_, seed in tuning}


@pytest.fixture(scope="module")
def model():
    return model_of("stable-diffusion")


@pytest.fixture(scope="module")
def pipe(model):
    return model.load()


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("recordings")


@pytest.fixture(scope="module")
def made(model, pipe, cache):
    return list(scenes(model, prompts_of("test", 2), cache, setting=QUICK, pipe=lambda: pipe))


def _maps(attribution: Attribution) -> torch.Tensor:
    return torch.cat([grid.maps.flatten() for grid in attribution.grids])


def test_recordings_are_read_again(model, cache, made):
    def refuse():
        raise AssertionError("nothing is missing")

    again = list(scenes(model, prompts_of("test", 2), cache, setting=QUICK, pipe=refuse))
    for one, other in zip(made, again, strict=True):
        assert torch.equal(_maps(one.attribution), _maps(other.attribution))
        assert one.names == other.names and torch.equal(one.latents, other.latents)
    assert made[0].latents.shape == (2, 4, 16, 16)


def test_a_replay_of_the_same_prompt_has_the_same_maps(model, pipe, made):
    for scene in made:
        found = _maps(replay(pipe, model, scene, scene.prompt))
        assert torch.allclose(found, _maps(scene.attribution), atol=2e-5)
        other = replay(pipe, model, scene, "a yellow heart and a black cross")
        assert not torch.allclose(_maps(other), _maps(scene.attribution), atol=1e-3)


def test_what_is_spoilt(model, made):
    pipe = model.load()
    before = {name: weight.clone() for name, weight in pipe.unet.named_parameters()}
    sites = made[0].attribution.layers
    spoil_attention(pipe, model, sites, torch.Generator().manual_seed(0))
    changed = {
        name
        for name, weight in pipe.unet.named_parameters()
        if not torch.equal(weight, before[name])
    }
    assert changed == {f"{site}.{part}.weight" for site in sites for part in ("to_q", "to_k")}
    text = {name: weight.clone() for name, weight in pipe.text_encoder.named_parameters()}
    spoil_encoders(pipe, model, torch.Generator().manual_seed(0))
    for name, weight in pipe.text_encoder.named_parameters():
        assert torch.equal(weight, text[name]) == (weight.ndim < 2), name


def test_coloured_pixels():
    image = Image.new("RGB", (8, 8), (252, 252, 252))
    image.paste((220, 40, 40), (2, 2, 5, 6))
    assert object_pixels(image).sum() == 12


def test_bars_and_pages():
    found = [
        Evidence("Maps", "mean", "phrase AP", 0.9, 0.8, 0.95, 12, bar=0.95),
        Evidence("Maps", "rms", "phrase AP", 0.9, 0.8, 0.95, 12, threshold="0.50", bar=0.9),
        Evidence("Maps", "hrv", "phrase AP", why="not measured: no heads"),
        Evidence("Sanity", "another prompt", "phrase AP", 0.3, 0.2, 0.4, 9, bar=0.35, at_most=True),
    ]
    assert [one.met for one in found] == [False, True, None, True]
    assert [one.row("m").status for one in found] == ["FAIL", "PASS", "SKIP", "PASS"]
    page = as_markdown({"torch": "2"}, {"scenes": 12}, found)
    assert "| mean | 12 | **0.900 (0.800 to 0.950), bar ≥ 0.95** |" in page
    assert "| rms | 12 | 0.900 (0.800 to 0.950) at 0.50 |" in page
    assert "* hrv: not measured: no heads" in page
    stored = json.loads(json.dumps(as_json({}, {}, found), allow_nan=False))
    assert stored["evidence"][2]["value"] is None and stored["evidence"][0]["met"] is False
    assert repr(from_json(stored)) == repr(found)


def test_a_wide_table_is_divided_by_what_its_numbers_are_of():
    whats = ["phrase AP", "phrase box IoU", "colour AP", "first word, tight box"]
    whats += ["first word, mask", "no word made the region: objects", "top two, mask", "top"]
    found = [Evidence("Drawn images", "lift", what, 0.5, 0.4, 0.6, 3) for what in whats]
    page = as_markdown({}, {}, found)
    titles = ["phrase", "colour", "first word", "no word made the region", "top two", "top"]
    assert [line for line in page.splitlines() if line.startswith("**")] == [
        f"**Drawn images: {title}**" for title in titles
    ]
    assert "|  | scenes | AP | box IoU |" in page and "|  | scenes | tight box | mask |" in page
    assert page.count("0.500 (0.400 to 0.600)") == len(whats)
    assert page.count("**Drawn") == 6
    assert as_markdown({}, {}, found[:7]).count("**Drawn images**") == 1


def test_bars_are_of_the_models_own_images(model):
    of = Measurement(model, Path(), 1, 1, 1)
    number = Evidence("Maps", "mean, refined", "phrase IoU, default threshold", 0.7, 0.6, 0.8, 9)
    assert of.with_bar(number).met is False
    other = dataclasses.replace(of.with_bar(number), section="Drawn images")
    assert of.with_bar(other).met is None


def test_sections_of_an_earlier_run_stay(tmp_path):
    one, two = (Evidence("Maps", "mean", "phrase AP", value, 0.1, 0.9, 3) for value in (0.5, 0.6))
    other = Evidence("Sanity", "another prompt", "phrase AP", 0.3, 0.2, 0.4, 9)
    out = tmp_path / "found"
    assert with_earlier(out, [one]) == [one] == with_earlier(None, [one])
    out.with_suffix(".json").write_text(json.dumps(as_json({}, {}, [other, one])))
    assert with_earlier(out, [two]) == [other, two]


def test_a_page_has_the_tables_between_its_marks():
    page = "# P\n<!-- truth flux: begin -->\nold\n<!-- truth flux: end -->\nrest\n"
    found = between_marks(page, "flux", "| new |")
    assert found == page.replace("old", "| new |")
    assert between_marks(found, "flux", "old") == page
    with pytest.raises(ValueError, match="each once"):
        between_marks(page, "stable-diffusion", "| new |")
    for name in ("stable-diffusion", "flux"):
        between_marks((ROOT / "docs" / "evidence.md").read_text(), name, "")


@pytest.mark.slow
def test_two_scenes_through_every_part(model, pipe, cache, monkeypatch):
    of = Measurement(model, cache, 2, 2, 1)
    monkeypatch.setattr(scoring, "RESAMPLES", 40)
    monkeypatch.setattr(measuring, "CARD", QUICK)
    monkeypatch.setattr(measuring, "SETTINGS", (QUICK,))
    monkeypatch.setattr(measuring.Measurement, "pipe", pipe)
    monkeypatch.setattr(measuring.Measurement, "light_pipe", pipe)
    of_scenes = measuring.scenes
    monkeypatch.setattr(
        measuring, "scenes", lambda *args, **named: of_scenes(*args, **{"setting": QUICK, **named})
    )
    # The scenes whose queries are in no file are those of the files, made again.
    texts = []
    monkeypatch.setattr(
        measuring,
        "unstored_scenes",
        lambda model, wanted, of_names: (
            texts.extend(of_names(names) for _, names, _ in wanted)
            or of_scenes(model, wanted[:1], cache, setting=QUICK, pipe=lambda: pipe)
        ),
    )
    found = [of.with_bar(one) for part in measuring.PARTS.values() for one in part(of)]
    assert {one.section for one in found} >= {"Maps", "Words of regions", "Sanity"}
    assert texts and all(len(each) == len(set(each)) >= 5 for each in texts)
    assert {one.way for one in found if one.why} >= {"goca", "ovam"}
    assert {one.way for one in found if one.what.startswith("best threshold")} >= {"mean", "rms"}
    contrasts = {one.way: one.value for one in found if one.what.startswith("contrast")}
    assert contrasts["boxes: background"] < contrasts["boxes: tight box"]
    assert {one.way for one in found if one.section == "Maps"} >= {"mean", "mean, refined"}
    numbers = [one for one in found if not one.why]
    assert len(numbers) > 60 and all(one.low <= one.value <= one.high for one in numbers)
    barred = [one for one in found if one.bar is not None]
    assert {one.section for one in barred} >= {"Maps", "Words of regions"}


def test_a_model_whose_weights_are_missing(monkeypatch, capsys, tmp_path):
    from diffusers_rdaam.demo import loader

    monkeypatch.setattr(loader, "FLUX_WEIGHTS", tmp_path)
    assert main(["truth", "--model", "flux", "--cache", str(tmp_path), "--parts", "words"]) == 2
    assert "The weights of the embedded FLUX are not in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "text"),
    [(["--parts", "words,cats"], "'cats' is not a part"), (["--scenes", "0"], "are at least 1")],
)
def test_options_that_are_none(given, text, capsys):
    with pytest.raises(SystemExit):
        main(["truth", *given])
    assert text in capsys.readouterr().err
