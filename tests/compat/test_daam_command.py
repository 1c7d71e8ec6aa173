"""``rdaam daam`` writes what the command of castorini/daam writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from diffusers_rdaam.cli import app
from diffusers_rdaam.compat.daam import GenerationExperiment

PROMPT = "a red circle, big."


def rdaam(*arguments: object, lines: str | None = None):
    return CliRunner().invoke(app, ["daam", *map(str, arguments)], input=lines)


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.*")}


def test_one_prompt(tmp_path: Path) -> None:
    result = rdaam(PROMPT, "-o", tmp_path, "-n", 1, "-s", 3, "--format", "json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    # Stops are words of their own, as in DAAM's command.
    text = "a red circle , big ."
    assert found["experiments"] == [{"prompt": text, "seed": 3, "folder": str(tmp_path)}]
    words = {f"{word}.heat_map.png" for word in text.split()}
    files = {"generation.safetensors", "output.png", "prompt.txt", "seed.txt"}
    files.add("rdaam-files.sha256")  # what the command wrote, for its next run
    assert names(tmp_path) == words | files
    assert (tmp_path / "seed.txt").read_text() == "3"
    loaded = GenerationExperiment.load(tmp_path)
    assert loaded.heat_map().compute_word_heat_map("circle").value.shape == (16, 16)


def test_every_layer_and_head_of_a_word(tmp_path: Path) -> None:
    options = ("-n", 1, "--all-heads", "--word", "circle", "--low-memory")
    assert rdaam(PROMPT, "-o", tmp_path, *options).exit_code == 0
    pictures = {name for name in names(tmp_path) if name.endswith(".heat_map.png")}
    expected = {
        f"l{layer}-{name}-h{head}-circle.heat_map.png"
        for layer, name in enumerate(["up-attn-0", "down-attn-0"])
        for head in range(4)
    }
    assert pictures == expected | {"circle.heat_map.png"}
    arrays = []
    for name in sorted(expected):
        with Image.open(tmp_path / name) as image:
            arrays.append(np.asarray(image.convert("RGB")))
    assert not any(np.array_equal(a, b) for i, a in enumerate(arrays) for b in arrays[:i])


def test_prompts_from_standard_input(tmp_path: Path) -> None:
    options = ("-n", 1, "--random-seed", "--word", "circle")
    result = rdaam("-", "-o", tmp_path, *options, lines="a circle\n\na red circle\n")
    assert result.exit_code == 0, result.output
    assert GenerationExperiment.read_seed(tmp_path, "0") != 0
    for name, prompt in (("0", "a circle"), ("2", "a red circle")):
        assert GenerationExperiment.read_prompt(tmp_path, name) == prompt
        seed = GenerationExperiment.read_seed(tmp_path, name)
        assert f"{tmp_path / name / 'output.png'} (seed {seed})" in result.stdout


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    result = rdaam(PROMPT, "-o", tmp_path, "--word", "dog")
    assert result.exit_code == 2
    assert "error: 'dog' is not a word of the prompt 'a red circle , big .'" in result.stderr
    assert names(tmp_path) == set(), "nothing was generated"
    result = rdaam("-", "-o", tmp_path, lines="\n")
    assert result.exit_code == 2 and "error: Standard input has no prompt." in result.stderr
    (tmp_path / "file").write_text("")
    result = rdaam(PROMPT, "-o", tmp_path / "file")
    assert result.exit_code == 2 and "cannot be written" in result.stderr


def test_sets_of_prompts_masks_scores_and_once_more(tmp_path: Path) -> None:
    out, words = tmp_path / "out", tmp_path / "template.tsv"
    words.write_text("pos\tword\ncolour\tred\nnoun\tcircle\n", encoding="utf-8")
    options = ("--action", "template", "--template", "a {colour} {noun}", "-tdf", words)
    result = rdaam(*options, "-o", out, "-n", 1, "--gen-limit", 1, "--seed-offset", 5,
                   "--masks", 0.4, "--word", "circle")  # fmt: skip
    assert result.exit_code == 0, result.output
    one = out / "0"
    assert (one / "prompt.txt").read_text() == "a red circle"
    assert GenerationExperiment.read_seed(one) == 5
    experiment = GenerationExperiment.load(one)
    heat_map = experiment.heat_map().compute_word_heat_map("circle")
    mask = heat_map.expand_as(experiment.image, threshold=0.4)
    assert np.array_equal(experiment.prediction_masks["circle"], mask)
    assert 0 < float(mask.mean()) < 1

    # The prediction as the truth scores 1; the experiment again is the same one.
    (one / "circle.gt.png").write_bytes((one / "circle.daam.pred.png").read_bytes())
    scores = CliRunner().invoke(app, ["daam-evaluate", "-i", str(out), "--format", "json"])
    assert json.loads(scores.stdout)["mean_iou"] == 1.0
    again = ("--action", "regenerate", "-i", out, "-o", tmp_path / "again", "--truth-only")
    assert rdaam(*again, "-n", 1, "--word", "circle").exit_code == 0
    repeated = GenerationExperiment.load(tmp_path / "again" / "0")
    assert np.array_equal(repeated.global_heat_map, experiment.global_heat_map)
    assert set(repeated.truth_masks) == {"circle"}


def test_wrong_actions_are_said(tmp_path: Path) -> None:
    for options, text in (
        (("--action", "draw"), "--action 'draw' is not known. Actions: prompt, stdin, coco"),
        (("--action", "coco", "-i", tmp_path / "none"), "captions_val2014.json"),
        (("--action", "template"), "Give a tab-separated file"),
        (("--action", "regenerate", "-i", tmp_path), "has no experiment"),
        (("--action", "regenerate", "-i", tmp_path / "none"), "There is no folder"),
        ((PROMPT, "--masks", "1"), "--threshold lies in [0, 1)"),
    ):
        result = rdaam(*options, "-o", tmp_path / "out")
        assert result.exit_code == 2 and text in result.stderr, result.output
