"""``rdaam image``: an image in a file, with boxes in its pixels."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import diffusers_rdaam.cli.image
from diffusers_rdaam import Attribution
from diffusers_rdaam.cli import app
from diffusers_rdaam.demo.world import SceneObject, render

PROMPT = "a red circle and a blue square"


def rdaam(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def photo(tmp_path):
    """A drawn scene of twice the size that the embedded model takes."""
    scene = (
        SceneObject("red", "circle", 40.0, 45.0, 26.0, (220, 40, 40)),
        SceneObject("blue", "square", 92.0, 85.0, 24.0, (45, 75, 215)),
    )
    path = tmp_path / "photo.png"
    image = Image.fromarray(render(scene).round().astype(np.uint8))
    image.resize((256, 256), Image.Resampling.BICUBIC).save(path)
    return path


def test_an_image_is_attributed_and_its_boxes_are_in_its_pixels(photo, tmp_path):
    out = tmp_path / "out"
    box = ("--box", "40,50,120,130")
    arguments = ("image", photo, PROMPT, *box, "--noise", 0.3, "--draws", 1, "-o", out)
    result = rdaam(*arguments, "--format", "json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["method"] == "forward" and said["draws"] == 1 and said["warnings"] == []
    (region,) = said["regions"]
    assert region["box"] == [20, 25, 60, 65]
    assert {word["word"] for word in region["words"][:2]} == {"red", "circle"}
    attribution = Attribution.load(out / "attribution.safetensors")
    assert attribution.image_size == (128, 128)
    with Image.open(out / "image.png") as image:
        assert np.array_equal(attribution.image, image)
    assert {path.name for path in out.glob("word-*.png")} >= {"word-red.png", "word-blue.png"}
    again = rdaam(*arguments, "--word", "red circle", "--seed", "1", "--aggregation", "refined")
    assert again.exit_code == 0 and "scaled from 256x256" in again.stdout
    refined = Attribution.load(out / "attribution.safetensors").word("red circle").refined()
    with Image.open(out / "word-red-circle.png") as drawn:
        assert np.array_equal(refined.overlay().convert("RGB"), drawn.convert("RGB"))
    assert [path.name for path in out.glob("word-*.png")] == ["word-red-circle.png"]


def test_an_inversion_says_its_error(photo, tmp_path):
    options = ("--method", "invert", "--steps", 2, "--until", 0.3, "--word", "red")
    result = rdaam("image", photo, PROMPT, *options, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "inversion:    relative error 0." in result.stdout and " dB" in result.stdout


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--method", "inverse"), "Did you mean 'invert'?"),
        (("--noise", "1.5"), "over 0 and under 1"),
        (("--draws", "-1"), "draws= is a whole number from 0"),
        (("--method", "invert", "--solver", "x"), "'x' is not a solver"),
        (("--height", "64"), "--height and --width are given together"),
        (("--box", "300,0,310,10"), "outside"),
        (("--aggregation", "ovam"), "rdaam generate"),
        (("--aggregation", "mod"), "'mod' is not an aggregation"),
        (("--word", "dog"), "'dog' is not a word of the prompt"),
        (("--model", "no-such-folder"), "no-such-folder"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, tuple) else "",
)
def test_a_wrong_option_is_one_line_before_a_model_is_loaded(
    options, text, photo, tmp_path, monkeypatch
):
    monkeypatch.setattr(diffusers_rdaam.cli.image, "load_pipeline", _refuse)
    result = rdaam("image", photo, PROMPT, *options, "-o", tmp_path / "out")
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert text in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [None, b"not an image"])
def test_what_is_not_an_image_is_one_line(content, tmp_path, monkeypatch):
    monkeypatch.setattr(diffusers_rdaam.cli.image, "load_pipeline", _refuse)
    path = tmp_path / "photo.png"
    if content is not None:
        path.write_bytes(content)
    result = rdaam("image", path, PROMPT, "-o", tmp_path / "out")
    assert result.exit_code == 2 and "photo.png" in result.stderr
    assert result.stderr.count("\n") == 1


def _refuse(*given: object) -> None:
    raise AssertionError("A model was loaded.")
