"""DAAM's evaluators, label sets, sets of prompts, and the scores of a folder of masks."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from diffusers_rdaam.cli import app
from diffusers_rdaam.compat import daam, daami2i
from diffusers_rdaam.compat.daam.masks import write_mask
from diffusers_rdaam.compat.daam.prompt_sets import PLURAL, plural, seed_of
from diffusers_rdaam.errors import InputError


def square(*box: int) -> torch.Tensor:
    left, top, right, bottom = box
    mask = torch.zeros(10, 12)
    mask[top:bottom, left:right] = 1
    return mask


def test_the_mean_its_interval_and_intensities():
    evaluator = daam.MeanEvaluator()
    truth = square(0, 0, 6, 5)
    evaluator.log_iou(square(0, 0, 3, 5), truth).log_intensity(square(0, 0, 3, 5))
    evaluator.log_iou([square(8, 8, 9, 9), truth], truth)
    assert evaluator.ious == pytest.approx([0.5, 1.0])
    assert evaluator.mean_iou == pytest.approx(0.75) and len(evaluator) == 2
    assert evaluator.ci95_miou == pytest.approx(1.96 * 0.25 / np.sqrt(2))
    assert evaluator.mean_intensity == pytest.approx(15 / 120)
    assert str(evaluator).startswith("MeanEvaluator<0.7500 (±0.346 mIoU) 0.1250 (mInt) 2 samples>")
    with pytest.raises(InputError, match="Nothing was logged"):
        _ = daam.MeanEvaluator().mean_iou
    with pytest.raises(InputError, match="no prediction"):
        evaluator.log_iou([], truth)


def test_segments_are_matched_for_the_highest_sum():
    evaluator = daam.UnsupervisedEvaluator()
    truth = square(0, 0, 6, 5)
    for pred, gt_idx, pred_idx in (
        (square(0, 0, 6, 5), 0, 1),
        (square(0, 0, 3, 5), 0, 0),
        (square(0, 0, 6, 5), 1, 1),
        (square(0, 0, 6, 5), 1, 1),
        (square(8, 8, 9, 9), 1, 0),
    ):
        evaluator.log_iou(pred, truth, gt_idx=gt_idx, pred_idx=pred_idx)
    evaluator.increment()
    # 0-0 and 1-1 sum to 2.5, the other way round to 1: three meetings.
    assert evaluator.mean_iou == pytest.approx(2.5 / 3) and len(evaluator) == 1


def test_overlaps_are_those_of_daams_formulas():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        a, b = torch.rand(2, 7, 9, generator=generator)
        shared = (a * b).sum()
        whole = float(shared / (a.sum() + b.sum() - shared + 1e-8))
        assert daam.compute_iou(a, b) == pytest.approx(whole, rel=1e-5)
        assert daam.compute_ioa(a, b) == pytest.approx(float(shared / a.sum()), rel=1e-5)
    nothing = torch.zeros(7, 9)
    assert daam.compute_iou(nothing, nothing) == daam.compute_ioa(nothing, nothing) == 0.0


def test_label_sets():
    assert len(daam.COCO80_LABELS) == 80 and daam.COCO80_INDICES["toothbrush"] == 79
    assert len(daam.COCOSTUFF27_LABELS) == 27 and daam.COCOSTUFF27_LABELS.index("food") == 2
    assert set(daam.COCO80_TO_27) == set(daam.COCO80_LABELS) - {"person"}
    assert set(daam.COCO80_TO_27.values()) <= set(daam.COCOSTUFF27_LABELS)
    groups = {name: daam.COCO80_TO_27[name] for name in ("boat", "bench", "kite", "sink", "vase")}
    assert groups == {"boat": "vehicle", "bench": "furniture", "kite": "sports",
                      "sink": "appliance", "vase": "indoor"}  # fmt: skip
    words = daam.build_word_list_coco80()
    assert "vehicle" not in words and words["pets"] == ["cat", "dog"]
    assert all(word in daam.COCO80_INDICES for group in words.values() for word in group)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images: one with a cat found by half and a dog missed; one with a bus found whole."""
    for id, truth, predicted in (
        ("a", {"cat": square(0, 0, 6, 5), "dog": square(8, 0, 12, 5)}, {"cat": square(0, 0, 3, 5)}),
        ("b", {"bus": square(0, 0, 4, 4), "Tree": square(5, 5, 9, 9)}, {"bus": square(0, 0, 4, 4)}),
    ):
        (tmp_path / id).mkdir()
        for word, mask in truth.items():
            write_mask(tmp_path / id / f"{word}.gt.png", mask)
        for word, mask in predicted.items():
            write_mask(tmp_path / id / f"{word}.daam.pred.png", mask)
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_the_scores_of_a_folder(folder):
    found = daam.evaluate_experiments(folder)
    assert (found.images, found.words, found.missing) == (2, 4, 2)
    assert found.mean_iou == pytest.approx(0.75) and found.strict_mean_iou == pytest.approx(0.375)
    coco = daam.evaluate_experiments(folder, restrict_set="coco80")
    assert (coco.words, coco.missing) == (3, 1)
    groups = daam.evaluate_experiments(folder, restrict_set="coco27")
    # Cat and dog are one group: found 15 of 50 pixels.
    assert groups.words == 2 and groups.evaluator.ious == pytest.approx([15 / 50, 1.0])
    any_ = daam.evaluate_experiments(folder, eval_type="unlabeled")
    assert any_.missing == 0 and any_.mean_iou == pytest.approx((0.5 + 0 + 1 + 0) / 4)
    matched = daam.evaluate_experiments(folder, eval_type="hungarian")
    assert matched.mean_iou == pytest.approx((0.5 + 1.0) / 2)
    with pytest.raises(InputError, match="no words that could be missing"):
        _ = matched.strict_mean_iou
    assert daami2i.evaluate_experiments is daam.evaluate_experiments


def test_composite_masks_are_images_of_numbers(folder):
    from PIL import Image

    labels = np.zeros((10, 12), dtype=np.uint8)
    labels[0:5, 0:3] = daam.COCO80_INDICES["cat"]
    Image.fromarray(labels).save(folder / "a" / "composite.daam.pred.png")
    found = daam.evaluate_experiments(folder, mask_type="composite", restrict_set="coco80")
    assert found.evaluator.ious == pytest.approx([0.5]) and found.missing == 2


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mask_type": "box"}, "'box' is not a type of masks"),
        ({"eval_type": "all"}, "'all' is not an evaluation"),
        ({"restrict_set": "voc"}, "'voc' is not a restriction"),
        ({"subtype": "../x"}, "could lead out"),
    ],
)
def test_bad_options_are_refused(folder, options, text):
    with pytest.raises(InputError, match=text):
        daam.evaluate_experiments(folder, **options)


def test_a_folder_without_masks_is_refused(tmp_path):
    with pytest.raises(InputError, match="has no truth mask"):
        daam.evaluate_experiments(tmp_path)
    with pytest.raises(InputError, match="There is no folder"):
        daam.evaluate_experiments(tmp_path / "none")


def test_the_command_says_coverage_too(folder):
    result = CliRunner().invoke(app, ["daam-evaluate", "-i", str(folder), "--format", "json"])
    found = json.loads(result.stdout)
    assert found["mean_iou"] == pytest.approx(0.75) and found["missing"] == 2
    assert found["strict_mean_iou"] == pytest.approx(0.375)
    result = CliRunner().invoke(app, ["daam-evaluate", "-i", str(folder), "-e", "no"])
    assert result.exit_code == 2 and "'no' is not an evaluation" in result.stderr


def _captions(path: Path, *texts: str) -> Path:
    rows = [{"id": number, "image_id": 1, "caption": text} for number, text in enumerate(texts)]
    path.write_text(json.dumps({"annotations": rows}))
    return path


def test_coco_s_captions_shuffled_by_seed(tmp_path):
    _captions(tmp_path / "captions_val2014.json", *(f"caption {n}" for n in range(20)))
    found = daam.coco_prompts(tmp_path, limit=5, seed=1)
    assert len(found) == 5 and found == daam.coco_prompts(tmp_path, limit=5, seed=1)
    assert found != daam.coco_prompts(tmp_path, limit=5, seed=2)
    assert all(text == f"caption {id}" for id, text in found)
    (tmp_path / "bad.json").write_text('{"images": []}')
    with pytest.raises(InputError, match="does not hold captions"):
        daam.coco_prompts(tmp_path / "bad.json")
    with pytest.raises(InputError, match=r"captions_val2014\.json"):
        daam.coco_prompts(tmp_path / "none")


def _tagger(text: str) -> list[Any]:
    kinds = {"cat": "NOUN", "red": "ADJ", "mat": "NOUN", "blue": "ADJ"}
    return [
        SimpleNamespace(text=word, pos_=kinds.get(word, "DET"), whitespace_=" ")
        for word in text.split()
    ]


def test_unreal_captions_keep_the_sentence(tmp_path):
    path = _captions(tmp_path / "c.json", "a red cat", "a blue mat", "the cat")
    found = daam.unreal_prompts(path, _tagger, seed=3)
    assert len(found) == 3
    for id, text in found:
        words = text.split()
        assert words[0] == ("the" if id == "2" else "a")
        assert words[-1] in ("cat", "mat")
        assert len(words) == 2 or words[1] in ("red", "blue")
    with pytest.raises(InputError, match="found no noun or adjective"):
        daam.unreal_prompts(_captions(tmp_path / "d.json", "of the"), _tagger)


def test_templates_are_filled_and_nouns_follow_numerals(tmp_path):
    path = tmp_path / "template.tsv"
    path.write_text('pos\tword\nnumeral\tone\nnumeral\ttwo\nnoun\tdog\nnoun\tbus\nnoun\t"x\n')
    found = dict(daam.template_prompts(path, "{numeral} big {noun}", limit=6))
    assert list(found) == ["0", "1", "2", "3", "4", "5"]
    assert all(text.split()[2] in ("dog", "bus", '"x') for text in found.values())
    for text in dict(daam.template_prompts(path, limit=30, seed=4)).values():
        numeral, noun = text.split()
        assert noun in (("dogs", "buses", '"xes') if numeral in PLURAL else ("dog", "bus", '"x'))
    with pytest.raises(InputError, match=r"no words for: verb\. Places: \{numeral\}, \{noun\}"):
        daam.template_prompts(path, "{verb} {noun}")
    with pytest.raises(InputError, match="has no place"):
        daam.template_prompts(path, "a dog")
    path.write_text("word\ndog\n")
    with pytest.raises(InputError, match="has no words"):
        daam.template_prompts(path)


@pytest.mark.parametrize(
    ("one", "many"),
    [("dog", "dogs"), ("bus", "buses"), ("box", "boxes"), ("bench", "benches"), ("toy", "toys"),
     ("teddy bear", "teddy bears"), ("wine glass", "wine glasses"), ("city", "cities"),
     ("person", "people"), ("mouse", "mice"), ("knife", "knives"), ("sheep", "sheep"),
     ("toothbrush", "toothbrushes"), ("snowman", "snowmen"), ("scissors", "scissors")],
)  # fmt: skip
def test_plurals(one, many):
    assert plural(one) == many


def test_two_nouns_of_one_group_or_of_two():
    groups = daam.build_word_list_coco80()
    found = daam.cconj_prompts(limit=60, seed=5)
    assert {id.split("-")[0] for id, _ in found} == {"cohypo", "diff"}
    for id, text in found:
        first, second = (part.split(" ", 1)[1] for part in text.split(" and "))
        of = [
            {group for group, names in groups.items() if word in names} for word in (first, second)
        ]
        assert first != second
        assert bool(of[0] & of[1]) == id.startswith("cohypo")
        articles = ["an" if word[0] in "aeiou" else "a" for word in (first, second)]
        assert text == f"{articles[0]} {first} and {articles[1]} {second}"
    assert seed_of("diff-12", 100) == 112
    with pytest.raises(InputError, match="has no number"):
        seed_of("diff")
