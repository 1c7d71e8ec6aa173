"""``rdaam batch``: the embedded model from files, in one process."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from diffusers_rdaam import read_batch
from diffusers_rdaam.cli import app

pytest.importorskip("pyarrow")


def rdaam(*arguments: object):
    return CliRunner().invoke(app, ["batch", *map(str, arguments)])


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "prompts.csv"
    path.write_text('caption,box,web\na red circle,"9,9,60,60",x\n"",,\na blue square,,y\n')
    return path


def test_a_table_becomes_a_data_set(table, tmp_path):
    out = tmp_path / "out"
    columns = ("--column", "prompt=caption", "--column", "boxes=box", "--ignore-columns")
    arguments = (table, "-o", out, *columns, "--steps", 2, "--format", "json")
    result = rdaam(*arguments)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["rows"], said["errors"], said["made"]) == (3, 1, 3)
    first, empty, last = read_batch(out)
    assert empty.error == "line 3: it has no prompt."
    assert first.prompt == "a red circle" and first.values["boxes"][0]["box"] == [9, 9, 60, 60]
    assert last.image.size == (128, 128) and last.values["seed"] == 2
    again = rdaam(*arguments)
    assert again.exit_code == 2 and "--resume" in json.loads(again.stdout)["error"]
    resumed = rdaam(*arguments, "--resume")
    assert json.loads(resumed.stdout)["made"] == 0
    other = rdaam(*arguments[:-2], "--steps", 3, "--resume")
    assert other.exit_code == 2 and "steps (2 there, 3 now)" in other.stderr


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ((), "no column 'prompt'"),
        (("--column", "caption"), "is not NAME=COLUMN"),
        (("--column", "prompt=caption"), "is not a column of a batch"),
        (("--height", "64"), "height= and width= are given together"),
        (("--height", "65", "--width", "64"), "--height must be a positive multiple of 8"),
        (("--model", "nowhere/at/all"), "No pipeline could be loaded from --model"),
        (("--no-ray", "--workers", "2", "--column", "prompt=caption", "--ignore-columns"), "leave"),
        (("--input-format", "exel"), "is not a format of rows"),
        (("--images", "nowhere"), "There is no folder of images"),
        (("--split", "train"), "has no splits, which a folder of datasets has"),
        (("--steps", "100000"), "more than the model's scheduler has"),
    ],
)
def test_wrong_options_are_an_error_of_one_line(table, tmp_path, options, text):
    result = rdaam(table, "-o", tmp_path / "out", *options)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ") and text in line
    assert not (tmp_path / "out").exists()


def test_a_batch_whose_every_row_failed_is_a_failure(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a cat", "seed": -1}\n')
    result = rdaam(path, "-o", tmp_path / "out")
    assert result.exit_code == 1 and "Every row failed; the first: line 1: seed" in result.stderr
    assert next(read_batch(tmp_path / "out")).error is not None
