"""The command line as a user meets it: what it writes, prints, and says when something is wrong."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from diffusers_rdaam import Attribution
from diffusers_rdaam.cli import app
from diffusers_rdaam.cli.environment import extras_text
from diffusers_rdaam.families.registry import unsupported

PROMPT = "a red circle and a blue square"
TINY = Path(__file__).parents[1] / "data" / "tiny_sd"


def pixels(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def rdaam(*arguments: str):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("generated")
    result = rdaam(
        "generate", PROMPT, "--seed", "3", "--steps", "4", "--box", "0,0,64,64", "--out", out
    )
    assert result.exit_code == 0, result.output
    (out / "stdout.txt").write_text(result.stdout, encoding="utf-8")
    return out


def test_generate_writes_the_image_the_maps_and_the_attribution_and_says_where(folder) -> None:
    printed = (folder / "stdout.txt").read_text(encoding="utf-8")
    names = ["image", "word-a", "word-red", "word-circle", "word-and", "word-blue", "word-square"]
    for name in names:
        path = folder / f"{name}.png"
        assert pixels(path).shape == (128, 128, 3)
        assert str(path) in printed
    assert str(folder / "attribution.safetensors") in printed
    assert "seed 3" in printed
    assert "Box (0, 0, 64, 64): words ranked by lift" in printed


def test_the_saved_attribution_is_the_run(folder) -> None:
    attribution = Attribution.load(folder / "attribution.safetensors")
    assert attribution.prompt.text == PROMPT
    assert attribution.run["num_inference_steps"] == 4
    assert attribution.run["seed"] == 3
    np.testing.assert_array_equal(attribution.image, pixels(folder / "image.png"))


def test_region_answers_from_the_file_as_the_attribution_does(folder) -> None:
    path = folder / "attribution.safetensors"
    result = rdaam("region", path, "--box", "0,0,64,64", "--box", "10,20,30,90", "--format", "json")
    told = json.loads(result.stdout)
    assert [entry["box"] for entry in told["regions"]] == [[0, 0, 64, 64], [10, 20, 30, 90]]
    words = Attribution.load(path).region((10, 20, 30, 90))
    assert [w["word"] for w in told["regions"][1]["words"]] == [w.text for w in words]
    assert told["regions"][1]["words"][0]["score"] == pytest.approx(words.words[0].score)
    assert told["warnings"] == []


def test_region_without_a_box_ranks_the_whole_image_by_score(folder) -> None:
    result = rdaam("region", folder / "attribution.safetensors")
    assert "Box (0, 0, 128, 128): words ranked by score" in result.stdout


def test_word_tells_a_box_and_draws(folder, tmp_path) -> None:
    path = folder / "attribution.safetensors"
    result = rdaam("word", path, "red circle", "--out", tmp_path / "map.png", "--format", "json")
    told = json.loads(result.stdout)
    heat = Attribution.load(path).word("red circle")
    assert tuple(told["box"]) == heat.box().as_tuple() and told["threshold"] == heat.threshold
    assert told["peak"] == heat.peak
    assert told["score_in_box"] > told["score_in_image"]
    assert pixels(tmp_path / "map.png").shape == (128, 128, 3)


def test_a_repeated_word_is_told_and_an_occurrence_can_be_chosen(folder) -> None:
    path = folder / "attribution.safetensors"
    result = rdaam("word", path, "a")
    assert "'a' occurs twice in the prompt (characters 0-1 and 17-18)" in result.stderr
    assert rdaam("word", path, "a", "--occurrence", "1").stderr == ""


def test_generate_in_json(tmp_path) -> None:
    result = rdaam(
        *("generate", PROMPT, "--steps", "2", "--word", "red circle", "--out", tmp_path),
        *("--format", "json", "--height", "64", "--width", "96", "--guidance-scale", "1"),
    )
    told = json.loads(result.stdout)
    assert pixels(told["image"]).shape == (64, 96, 3)
    assert list(told["heat_maps"]) == ["red circle"]
    assert Path(told["heat_maps"]["red circle"]).name == "word-red-circle.png"
    assert told["seed"] == Attribution.load(told["attribution"]).run["seed"]


def test_generate_takes_any_stable_diffusion_folder(tmp_path) -> None:
    result = rdaam(
        *("generate", "a cat", "--model", TINY, "--steps", "1", "--height", "64"),
        *("--width", "64", "--out", tmp_path),
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "word-cat.png").exists()


def test_timelines_and_the_negative_prompt(tmp_path) -> None:
    result = rdaam(
        *("generate", PROMPT, "--steps", "3", "--timeline", "red circle", "--out", tmp_path),
        *("--negative-prompt", "green triangle", "--box", "10,10,60,60"),
    )
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "timeline-red-circle.gif") as animation:
        assert animation.n_frames == 3
    assert (tmp_path / "timeline-red-circle.png").exists()
    assert "timeline-red-circle.png and timeline-red-circle.gif" in result.stdout
    attribution = Attribution.load(tmp_path / "attribution.safetensors")
    assert len(attribution.steps) == 3
    assert [word.text for word in attribution.negative.words] == ["green", "triangle"]
    assert "triangle" in result.stdout


def test_an_aggregation_is_kept_for_and_drawn(tmp_path) -> None:
    given = ("--steps", "2", "--word", "red circle", "--height", "64", "--width", "64")
    plain, rms = tmp_path / "plain", tmp_path / "rms"
    assert rdaam("generate", PROMPT, *given, "--seed", "3", "--out", plain).exit_code == 0
    result = rdaam(
        *("generate", PROMPT, *given, "--seed", "3", "--aggregation", "rms", "--out", rms),
        *("--format", "json"),
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["aggregation"] == "rms"
    attribution = Attribution.load(rms / "attribution.safetensors")
    # The run is the same: the images, and the base quantity that regions are asked of.
    np.testing.assert_array_equal(pixels(plain / "image.png"), pixels(rms / "image.png"))
    drawn = pixels(rms / "word-red-circle.png")
    expected = attribution.word("red circle", aggregation="rms").overlay()
    np.testing.assert_array_equal(drawn, np.asarray(expected.convert("RGB")))
    assert (drawn != pixels(plain / "word-red-circle.png")).any()

    told = json.loads(
        rdaam(
            *("word", rms / "attribution.safetensors", "red circle", "--aggregation", "rms"),
            *("--format", "json"),
        ).stdout
    )
    heat = attribution.word("red circle", aggregation="rms")
    assert told["aggregation"] == "rms" and told["peak"] == heat.peak
    assert tuple(told["box"]) == heat.box().as_tuple()
    refused = rdaam("word", plain / "attribution.safetensors", "red", "--aggregation", "rms")
    assert refused.exit_code == 1
    assert (
        "needs the mean squares, which the file does not have: its run did not keep them"
        in " ".join(refused.stderr.split())
    )


@pytest.mark.parametrize("name", ["auto", "ovam"])
def test_what_an_aggregation_needs_is_kept(name, tmp_path) -> None:
    result = rdaam(
        *("generate", PROMPT, "--steps", "2", "--word", "red circle", "--height", "64"),
        *("--width", "64", "--aggregation", name, "--timeline", "red", "--out", tmp_path),
    )
    assert result.exit_code == 0, result.output
    attribution = Attribution.load(tmp_path / "attribution.safetensors")
    assert attribution.word("red circle", aggregation=name).values.max() > 0
    assert len(attribution.steps) == 2


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--aggregation", "rmss"], "--aggregation: 'rmss' is not an aggregation. Did you mean"),
        (["--aggregation", "ovam"], "the words are named before the run. Give --word"),
        (
            ["--aggregation", "ovam", "--word", "red", "--model", "demo-flux"],
            "ovam is for models with a UNet",
        ),
        (["--timeline", "dog"], "'dog' is not a word of the prompt 'a red circle and a blue"),
        (["--box", "1,2,3"], "--box '1,2,3' is not a box. Give --box L,T,R,B, four whole"),
        (["--box", "a,b,c,d"], "--box 'a,b,c,d' is not a box"),
        (["--box", "50,10,20,60"], "The box (50, 10, 20, 60) is inverted."),
        (["--word", "dog"], "'dog' is not a word of the prompt 'a red circle and a blue square'."),
        (["--height", "100"], "--height must be a positive multiple of 8; got 100."),
        (["--dtype", "int8"], "--dtype 'int8' is not known. Types: float32, float16, bfloat16."),
        (["--device", "nowhere"], "--device 'nowhere' cannot be used here:"),
        (["--model", "no-such-folder"], "No pipeline could be loaded from --model no-such-folder"),
    ],
)
def test_bad_options_are_told_before_anything_is_generated(arguments, text, tmp_path) -> None:
    result = rdaam("generate", PROMPT, "--out", tmp_path, *arguments)
    assert result.exit_code == 2
    assert text in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "image.png").exists()


def test_a_folder_that_cannot_be_written_is_told_first(tmp_path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    result = rdaam("generate", PROMPT, "--out", blocked / "out")
    assert result.exit_code == 2
    assert f"error: --out {blocked / 'out'} cannot be written:" in result.stderr


def test_a_model_of_another_family_is_named(tmp_path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "DiTPipeline"}')
    result = rdaam("generate", PROMPT, "--model", tmp_path, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "DiTPipeline, for AutoRDAAMPipelineForText2Image, cannot be recorded" in result.stderr


@pytest.mark.parametrize("verb", [["region"], ["word"]])
def test_a_broken_file_is_an_error_not_a_traceback(verb, tmp_path) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"not a file of ours")
    result = rdaam(*verb, path, *(["x"] if verb == ["word"] else []), "--format", "json")
    assert result.exit_code == 2
    assert "is not a whole safetensors file" in json.loads(result.stdout)["error"]


def test_a_heat_map_that_cannot_be_written_is_told(folder, tmp_path) -> None:
    path = folder / "attribution.safetensors"
    result = rdaam("word", path, "red", "--out", tmp_path / "missing" / "map.png")
    assert result.exit_code == 2
    assert "The heat map could not be written to" in result.stderr


def test_a_box_outside_the_image_is_found_before_anything_is_generated(tmp_path) -> None:
    for size in ([], ["--height", "128", "--width", "256"]):
        result = rdaam(
            "generate", PROMPT, *size, "--box", "500,500,600,600", "--out", tmp_path / "out"
        )
        assert result.exit_code == 2
        assert "The box (500, 500, 600, 600) lies outside the image" in result.stderr
        assert not (tmp_path / "out").exists()


def test_env_names_versions_kernel_and_model() -> None:
    told = json.loads(rdaam("env", "--format", "json").stdout)
    assert told["diffusers"]
    assert told["kernel"].startswith("portable (")
    assert "MB of weights" in told["embedded model"]


def test_env_says_which_extras_are_installed() -> None:
    told = json.loads(rdaam("env", "--format", "json").stdout)
    assert "plot" in told["extras"] and "dev" not in told["extras"]
    assert (
        extras_text(
            [
                "torch>=2.6",
                "numpy>=1.26; extra == 'plot'",
                'nowhere-to-be-had[data]>=1; extra == "batch"',
                "pillow>=1; extra == 'batch'",
                "nowhere-to-be-had<7,>=6.14; extra == 'app'",
                "nothing; extra == 'dev'",
            ]
        )
        == "plot (not installed: app, batch)"
    )
    assert extras_text([]).startswith("unknown: the package is on the path")


def test_env_lists_the_pipelines_that_an_error_sends_there() -> None:
    text = rdaam("env", "--pipelines").stdout
    recorded, _, refused = text.partition("Not recorded:")
    assert "  FluxPipeline\n" in recorded and "  StableDiffusionPipeline\n" in recorded
    assert "  StableVideoDiffusionPipeline: " in refused
    told = json.loads(rdaam("env", "--pipelines", "--format", "json").stdout)
    assert f"{len(told['recorded'])} classes can be recorded" in told["pipelines"]
    assert not set(told["recorded"]) & told["refused"].keys()
    assert "rdaam env --pipelines lists all" in str(unsupported("ExamplePipeline"))


def test_help_is_there_at_once_and_without_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from diffusers_rdaam.cli import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
        "assert 'torch' not in sys.modules and 'diffusers' not in sys.modules"
    )
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True)
    # The goal is half a second; a machine that is busy with other things may take longer.
    assert time.monotonic() - started < 3.0


def test_python_m_is_the_command() -> None:
    command = [sys.executable, "-m", "diffusers_rdaam", "--help"]
    assert "generate" in subprocess.run(command, check=True, capture_output=True, text=True).stdout
