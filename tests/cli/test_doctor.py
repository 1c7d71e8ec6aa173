"""``rdaam doctor`` as a user meets it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from toys import CASES, build, parts_of, picture, second_encoder
from typer.testing import CliRunner

import diffusers_rdaam.cli.doctor as command
import diffusers_rdaam.diagnosis.self_test as stored
from diffusers_rdaam.cli import app
from diffusers_rdaam.diagnosis.examination import examine

TINY = Path(__file__).parents[1] / "data" / "tiny_sd"


def rdaam(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["doctor", *map(str, arguments)])


def test_the_embedded_models_are_right():
    result = rdaam("--format", "json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["passed"] and told["environment"]["kernel"].startswith("portable")
    embedded = [told["examinations"][f"embedded {name}"] for name in ("stable-diffusion", "flux")]
    for one in embedded:
        assert one["examination"]["is_identical"] is True
        assert one["measured"] == pytest.approx(one["expected"], rel=0.02)


def test_numbers_that_are_not_the_stored_ones(monkeypatch):
    wrong = {"stable-diffusion": stored.EXPECTED["stable-diffusion"] | {"red": 0.05}}
    monkeypatch.setattr(stored, "EXPECTED", wrong)
    result = rdaam()
    assert result.exit_code == 1
    assert "FAIL  the words' numbers differ from the stored ones by 19" in result.stdout
    assert "Something is wrong" in result.stdout


def test_a_model_of_the_user_and_its_report(tmp_path):
    path = tmp_path / "report.md"
    result = rdaam("--model", TINY, "--height", 64, "--width", 96, "--out", path)
    assert result.exit_code == 0, result.output
    page = path.read_text(encoding="utf-8")
    for text in ("ok    image equal", "ok    maps against float64 at", "64x96", "| torch |"):
        assert text in page
    assert "ok    image equal" in result.stdout and f"report:  {path}" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nowhere/at all"], "there is no such folder"),
        (["--height", "64"], "--height: the embedded models take none of these"),
        (["--image", "cat.png", "--offload"], "--offload, --image: the embedded models take none"),
        (["--dtype", "int8"], "--dtype 'int8' is not known"),
        (["--device", "moon"], "--device 'moon' cannot be used here"),
        (["--out", "."], "Give the name of the report's file"),
        (["--model", "demo-flux"], "Leave --model out"),
    ],
)
def test_what_is_wrong(arguments, message):
    result = rdaam(*arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output.replace("\n", " ")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("StableDiffusionPanoramaPipeline", "cannot be recorded: it denoises overlapping tiles"),
        ("AudioLDMPipeline", "cannot be recorded: it makes sound"),
    ],
)
def test_a_model_that_is_refused_is_not_loaded(tmp_path, index, message):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": index}))
    result = rdaam("--model", tmp_path)
    assert result.exit_code == 2 and message in result.stderr
    # Nothing is printed of this machine before.
    assert not result.stdout


def saved(name: str, folder: Path) -> Path:
    """The folder of a toy pipeline."""
    build(CASES[name].stock, parts_of(CASES[name])).save_pretrained(folder / "model")
    return folder / "model"


def test_a_model_that_begins_from_pictures(tmp_path):
    model = saved("StableDiffusionInpaint", tmp_path)
    result = rdaam("--model", model, "--height", 64, "--width", 96)
    assert result.exit_code == 0, result.output
    made = "      made for this check: image (64x96), mask_image (64x96), strength (1.0)\n"
    assert made in result.stdout and "Everything is right." in result.stdout


def test_pictures_of_the_user(tmp_path):
    model = saved("StableDiffusionImg2Img", tmp_path)
    # As a camera may write it: transparent, and not of the size that was asked for.
    picture().convert("RGBA").resize((40, 30)).save(tmp_path / "cat.png")
    options = ["--model", model, "--height", 64, "--width", 96, "--image", tmp_path / "cat.png"]
    result = rdaam(*options)
    assert result.exit_code == 0, result.output
    assert "made for this check: strength (1.0)\n" in result.stdout
    assert "64x96 (height x width)" in result.stdout
    result = rdaam(*options, "--mask", tmp_path / "cat.png")
    assert result.exit_code == 2
    said = "has no input for --mask. Its inputs besides the prompt are image= (--image). Leave"
    assert said in result.stderr


def test_a_picture_that_cannot_be_read_is_said_before_the_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "load_stock_pipeline", None)
    result = rdaam("--model", TINY, "--image", tmp_path / "cat.png")
    assert result.exit_code == 2 and "cat.png" in result.stderr
    assert not result.stdout


def test_a_model_without_pictures_takes_none(tmp_path):
    picture().save(tmp_path / "cat.png")
    result = rdaam("--model", TINY, "--image", tmp_path / "cat.png")
    assert result.exit_code == 2
    said = "StableDiffusionPipeline has no input for --image. It takes no picture. Leave --image"
    assert said in result.stderr


def test_what_could_not_be_compared_is_not_called_right(monkeypatch):
    def unseen(*arguments: Any, **call: Any) -> Any:
        return replace(examine(*arguments, **call), is_identical=None, sites=())

    monkeypatch.setattr(command, "examine", unseen)
    result = rdaam("--model", TINY, "--height", 64, "--width", 64)
    assert result.exit_code == 0
    assert "Nothing wrong was found, but not everything could be compared" in result.stdout
    assert "Everything is right" not in result.stdout


def changed(folder: Path, name: str, change: Any) -> Path:
    """A copy of the tiny model with other weights in a file."""
    shutil.copytree(TINY, folder / "model")
    weights = change(load_file(folder / "model" / name))
    save_file(weights, folder / "model" / name, metadata={"format": "pt"})
    return folder / "model"


def not_a_number(weights: Any) -> Any:
    return {key: torch.full_like(value, float("nan")) for key, value in weights.items()}


def without_a_layer(weights: Any) -> Any:
    return {key: value for key, value in weights.items() if "layers.0." not in key}


@pytest.mark.parametrize("part", ["vae", "unet"])
def test_an_image_that_is_not_finite_is_never_called_right(tmp_path, part):
    model = changed(tmp_path, f"{part}/diffusion_pytorch_model.safetensors", not_a_number)
    result = rdaam("--model", model, "--height", 64, "--width", 64)
    assert result.exit_code == 1
    assert "FAIL  the stock image has NaN or infinity" in result.stdout
    assert "Something is wrong" in result.stdout


def test_weights_that_were_drawn_are_never_called_right(tmp_path):
    model = changed(tmp_path, "text_encoder/model.safetensors", without_a_layer)
    result = rdaam("--model", model)
    assert result.exit_code == 2 and "text_encoder/ lack 16 of its 36 weights" in result.stderr


def xl_with_a_projection(folder: Path, *, of: str, name: str = "StableDiffusionXL") -> Path:
    """SDXL, one of whose text encoders has drawn its projection; only the first one's is used."""
    case = CASES[name]
    build(case.stock, parts_of(case) | {"text_encoder": second_encoder()}).save_pretrained(folder)
    path = folder / of / "model.safetensors"
    weights = load_file(path)
    del weights["text_projection.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("name", ["StableDiffusionXL", "StableDiffusionXLInpaint"])
def test_weights_that_nothing_depends_on_are_said_and_the_model_is_examined(name, tmp_path):
    model = xl_with_a_projection(tmp_path, of="text_encoder_2", name=name)
    result = rdaam("--model", model, "--height", 64, "--width", 64)
    assert result.exit_code == 0, result.output
    assert "text_encoder_2/ lack 1 of its 37 weights, such as text_projection" in result.stderr
    assert "The image of this check does not depend on these random numbers." in result.stderr
    assert "Everything is right." in result.stdout


def test_weights_that_an_image_depends_on_are_never_called_right(tmp_path):
    model = xl_with_a_projection(tmp_path, of="text_encoder")
    result = rdaam("--model", model, "--height", 64, "--width", 64)
    assert result.exit_code == 2
    assert "text_encoder/ lack 1 of its 37 weights, such as text_projection" in result.stderr
    assert "does not depend" not in result.stderr


def test_a_text_encoder_of_fewer_layers_is_said_and_the_model_is_examined(tmp_path):
    shutil.copytree(TINY, tmp_path / "model")
    path = tmp_path / "model" / "text_encoder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 1}))
    result = rdaam("--model", tmp_path / "model", "--height", 64, "--width", 64)
    assert result.exit_code == 0, result.output
    assert "its files have 2: the last are left out, as CLIP skip does" in result.stderr
    assert "random numbers" not in result.stderr and "Everything is right." in result.stdout


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("file", "entries", "cause"),
    [
        (
            "vae/config.json",
            {"scaling_factor": "0.18"},
            'The reason may be that vae/ has "0.18" for scaling_factor, where AutoencoderKL takes',
        ),
        (
            "text_encoder/config.json",
            {"num_attention_heads": -2},
            "text_encoder/ has -2 for num_attention_heads, where CLIPTextModel takes a positive",
        ),
        (
            "tokenizer/tokenizer_config.json",
            {"model_max_length": None},
            "as model_max_length in its settings",
        ),
        (
            "model_index.json",
            {"scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]},
            "its scheduler is FlowMatchEulerDiscreteScheduler, where StableDiffusionPipeline takes "
            "a scheduler such as DDIMScheduler",
        ),
        ("scheduler/scheduler_config.json", {"prediction_type": "nope"}, "prediction_type given"),
    ],
)
@pytest.mark.parametrize("verb", ["doctor", "generate", "batch"])
def test_a_run_that_a_library_ends_is_one_line_with_the_reason(
    verb, file, entries, cause, tmp_path
):
    model = Path(shutil.copytree(TINY, tmp_path / "model"))
    path = model / file
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
    (tmp_path / "prompts.txt").write_text("a red cat\n")
    options = ["--model", model, "--height", 64, "--width", 64, "--steps", 1]
    more: list[Any] = ["--out", tmp_path / "out"]
    arguments = {
        "doctor": ["doctor"],
        "generate": ["generate", "a red cat", *more],
        "batch": ["batch", tmp_path / "prompts.txt", *more, "--no-ray"],
    }[verb]
    result = CliRunner().invoke(app, list(map(str, [*arguments, *options])))
    assert result.exit_code in (1, 2) and isinstance(result.exception, SystemExit), result.output
    # The stock pipeline's bar of progress is on stderr too.
    error = result.stderr.splitlines()[-1]
    assert error.startswith("error: ") and result.stderr.count("error: ") == 1, result.stderr
    assert cause in error and "This is not an error of the command" not in error
    assert "Traceback" not in result.output


def test_a_model_that_makes_no_image_by_itself(tmp_path):
    shutil.copytree(TINY, tmp_path / "model")
    # Longer texts than its encoder has positions for.
    path = tmp_path / "model" / "tokenizer" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 200}))
    result = rdaam("--model", tmp_path / "model")
    assert result.exit_code == 2
    assert "makes no image of a prompt here, without recording either" in result.stderr
    assert (
        "The reason may be that tokenizer/ has 200 as model_max_length in its settings, and "
        "text_encoder/ takes 77 tokens." in result.stderr
    )


def test_offloading_without_accelerate(monkeypatch):
    # A fresh install does not have it.
    monkeypatch.setattr(diffusers.utils.import_utils, "_accelerate_available", False)
    result = rdaam("--model", TINY, "--offload")
    assert result.exit_code == 2
    assert "--offload needs accelerate, which is not installed. Install it (pip" in result.stderr
