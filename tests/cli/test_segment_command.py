"""``rdaam segment`` and ``rdaam optimize-tokens``, from prompts to files."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from typer.testing import CliRunner

from diffusers_rdaam import InputError, load_tokens
from diffusers_rdaam.cli import app
from diffusers_rdaam.segmentation.classes import object_classes
from diffusers_rdaam.segmentation.label_map import Segmentation

SHORT = ("--steps", "2", "--areas", "all")


def rdaam(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_data_set_from_prompts_and_back(tmp_path: Path, capsys) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(
        '{"id": "one", "prompt": "a red circle", "seed": 5}\n'
        '{"id": "two", "prompt": "a red circle and a blue square"}\n'
    )
    out = tmp_path / "set"
    command = ("segment", prompts, "--class", "demo", "--out", out, *SHORT)
    result = rdaam(*command, "--export", "coco", "--export", "voc", "--format", "json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["kept"] + len(found["dropped"]) == 2
    rows = [json.loads(line) for line in (out / "generated.jsonl").read_text().splitlines()]
    assert [(row["id"], row["seed"]) for row in rows] == [("one", 5), ("two", 1)]
    assert set(rows[1]["areas"]) == {"circle", "square"}
    coco = COCO(str(out / "annotations" / "instances.json"))
    assert len(coco.getImgIds()) == found["kept"] and len(coco.getCatIds()) == 5
    assert (out / "VOCdevkit/VOC2012/ImageSets/Segmentation/trainval.txt").exists()

    # Half of the journal is lost: the same command makes that image again, and no other.
    before = {path: path.read_bytes() for path in out.rglob("*.png")}
    times = {path: path.stat().st_mtime_ns for path in out.rglob("one.png")}
    journal = out / "generated.jsonl"
    journal.write_text(journal.read_text()[:-30])
    assert rdaam(*command).exit_code == 0
    assert {path: path.read_bytes() for path in out.rglob("*.png")} == before
    assert {path: path.stat().st_mtime_ns for path in out.rglob("one.png")} == times

    result = rdaam(*command, "--refine", "none")
    assert result.exit_code == 2 and "begun with other settings: refine guided" in result.stderr
    prompts.write_text('{"id": "one", "prompt": "a blue circle", "seed": 5}\n')
    result = rdaam(*command)
    assert result.exit_code == 2 and "has 'one' already, from 'a red circle'" in result.stderr


def test_prompts_of_classes_and_tokens_in_place_of_words(tmp_path: Path) -> None:
    out = tmp_path / "tokens"
    options = ("--class", "demo", "--images", 1, "--iterations", 2, "--every", 10, "--steps", 20)
    classes = tmp_path / "classes.json"
    classes.write_text('{"circle": ["red circle", "circle"]}')
    result = rdaam("optimize-tokens", *options[2:], "--class", classes, "--out", out)
    assert result.exit_code == 0, result.output
    assert "circle:       loss" in result.stdout
    (token,) = load_tokens(out).values()
    assert token.prompt.text == "circle" and len(token.losses) == 2

    data = tmp_path / "set"
    command = ("segment", "--class", classes, "--count", 1, "--out", data, "--tokens", out)
    result = rdaam(*command, "--refine", "self+guided", *SHORT)
    assert result.exit_code == 0, result.output
    with Image.open(next(data.rglob("masks/000000.png"))) as mask:
        assert set(np.unique(np.asarray(mask))) <= {0, 1} and mask.size == (128, 128)
    row = json.loads((data / "generated.jsonl").read_text())
    assert row["prompt"] == "a photo of a red circle"

    # Tokens are fitted to the masks of a data set that is there.
    again = ("optimize-tokens", "--data", data, "--iterations", 1, "--every", 2, "--steps", 2)
    result = rdaam(*again, "--out", tmp_path / "again")
    if list((data / "masks").iterdir()):
        assert result.exit_code == 0 and set(load_tokens(tmp_path / "again")) == {"circle"}
    else:
        assert result.exit_code == 2


def test_the_tokens_that_come_with_the_package(tmp_path: Path) -> None:
    data = tmp_path / "set"
    command = ("segment", "--class", "demo", "--count", 1, "--out", data, "--tokens", "demo")
    result = rdaam(*command, *SHORT)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in (data / "generated.jsonl").read_text().splitlines()]
    assert len(rows) == 5 and all(len(row["areas"]) == 1 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--class", "dog"], "of 1 prompts name none of the classes (dog)"),
        (["--class", "voc99.json"], "There is no file of classes"),
        (["--refine", "more"], "'more' is not a refinement"),
        (["--crf", "more"], "--crf 'more' is not known. Choices: none, soft, ovam."),
        (["--export", "yolo"], "--export 'yolo' is not known. Formats: coco, voc."),
        (["--areas", "5"], "--areas is the lowest and highest percentile"),
        (["--areas", "95,5"], "the lowest and the highest percentile"),
        (["--background", "2"], "background= is Attn2Mask's beta, from -1 to 1; got 2.0"),
        (["--margin", "-0.5"], "A margin between probabilities lies in [0, 1]; got -0.5"),
        (["--export", "voc", "--validation", "7"], "--validation, a share of the images,"),
        (["--per-class", "few"], "--per-class is a number of images, or 'least'"),
        (["--tokens", "nowhere"], "has no optimised tokens"),
        (["--clip", "nowhere"], "No CLIP model could be loaded from nowhere"),
        (["--model", "no-such-folder"], "No pipeline could be loaded"),
    ],
)
def test_bad_options_are_said_before_anything_is_made(arguments, text, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red circle\n")
    out = tmp_path / "set"
    result = rdaam("segment", prompts, "--out", out, *arguments)
    assert result.exit_code == 2, result.output
    assert text in result.stderr and not out.exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--learning-rate", "nan"], "learning_rate= and gamma= numbers over 0"),
        (["--gamma", "0"], "learning_rate= and gamma= numbers over 0"),
        (["--data", "SET", "--class", "dog"], "has no class 'dog'. Its classes: circle."),
        (["--out", "FILE"], "cannot be made"),
    ],
)
def test_bad_options_of_tokens_are_said_before_an_image(arguments, text, tmp_path, monkeypatch):
    """The images alone take hours of a real model."""
    header = {"classes": {"1": {"name": "circle", "words": ["circle"]}}}
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dataset.json").write_text(json.dumps(header))
    (tmp_path / "file").write_text("")
    places = {"SET": tmp_path / "set", "FILE": tmp_path / "file"}
    command = importlib.import_module("diffusers_rdaam.cli.optimize_tokens")
    monkeypatch.setattr(command, "_run", lambda *_: pytest.fail("an image was made"))
    out = [] if "FILE" in arguments else ["--out", tmp_path / "tokens"]
    result = rdaam("optimize-tokens", *(places.get(one, one) for one in arguments), *out)
    assert result.exit_code == 2, result.output
    assert text in result.stderr and not (tmp_path / "tokens").exists()


def test_masks_of_a_class_leave_out_what_the_data_set_ignores():
    """Uncertain pixels, which --margin makes, VOC's borders: neither the class nor background."""
    command = importlib.import_module("diffusers_rdaam.cli.optimize_tokens")
    labels = torch.tensor([[0, 1, 255], [2, 1, 0]])
    found = command._class_mask(Segmentation(labels, ("cat", "dog")), "cat")
    assert found.tolist() == [[0, 1, 255], [0, 1, 0]]
    assert command._class_mask(Segmentation(labels, ("cat", "dog")), "dog").tolist() == [
        [0, 0, 255],
        [1, 0, 0],
    ]
    for nothing in ([[0, 255]], [[1, 255]], [[1, 1]], [[0, 0]]):
        assert command._class_mask(Segmentation(torch.tensor(nothing), ("cat",)), "cat") is None


def test_tokens_of_masks_with_void(tmp_path):
    """The whole command: 255 is neither what 0 is nor what 1 is."""
    losses = []
    for void in (255, 0, 1):
        data = tmp_path / str(void)
        for name in ("images", "masks"):
            (data / name).mkdir(parents=True)
        header = {"classes": {"1": {"name": "circle", "words": ["circle"]}}}
        (data / "dataset.json").write_text(json.dumps(header))
        (data / "prompts.jsonl").write_text('{"id": "a", "prompt": "a red circle", "seed": 3}\n')
        mask = np.zeros((128, 128), dtype=np.uint8)
        mask[30:70, 30:90], mask[60:100, 60:100] = 1, void
        Image.fromarray(mask).save(data / "masks" / "a.png")
        Image.new("RGB", (128, 128)).save(data / "images" / "a.png")
        out = tmp_path / f"tokens{void}"
        options = ("--data", data, "--iterations", 1, "--every", 2, "--steps", 2, "--out", out)
        result = rdaam("optimize-tokens", *options, "--format", "json")
        assert result.exit_code == 0, result.output
        losses.append(json.loads(result.stdout)["tokens"]["circle"]["loss"])
    assert len(set(losses)) == 3


def test_classes_that_no_image_shows():
    """One is named and left out; where these are all of them, that is the error."""
    left_out = importlib.import_module("diffusers_rdaam.cli.optimize_tokens").left_out
    classes = object_classes(["dog", "circle"])
    assert left_out(classes, {"circle": [object()]}) == ["dog"]
    assert left_out(classes, {"circle": [], "dog": []}) == []
    with pytest.raises(InputError, match="has a mask of one of the classes dog, circle"):
        left_out(classes, {})
