"""``rdaam evaluate`` as a user meets it, and the page about it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from diffusers_rdaam import drawn_scenes, write_dataset
from diffusers_rdaam.cli import app

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"
FEW = ("--noise", "0.3", "--draws", "1")


def rdaam(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_folder_from_the_command_to_the_table_and_on_again(tmp_path):
    data = write_dataset(drawn_scenes(2), tmp_path / "data")
    arguments = ("evaluate", data, "--protocol", "daam", *FEW, "--out", tmp_path / "out")
    result = rdaam(*arguments, "--gallery", "1")
    assert result.exit_code == 0, result.output
    assert "mIoU per image and word" in result.stdout and "2 of 2" in result.stdout
    assert (tmp_path / "out/gallery.html").is_file()
    again = rdaam(*arguments, "--format", "json")
    printed = json.loads(again.stdout)
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert printed["numbers"]["mean"]["ap"] == report["numbers"]["mean"]["ap"]
    other = rdaam(*arguments, "--seed", "1")
    assert other.exit_code == 2 and "with other settings: seed" in other.stderr


def test_the_list_names_protocols_flaws_and_formats():
    text = rdaam("evaluate", "--list").stdout
    assert "Acc/(2 - Acc)" in text and "voc2012: JPEGImages/" in text
    listed = json.loads(rdaam("evaluate", "--list", "--format", "json").stdout)
    assert len(listed["protocols"]) == 8 and len(listed["formats"]) == 13


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "The folder of the data set is missing"),
        (("nowhere",), "There is no folder nowhere"),
        (("drawn_scenes", "--protocol", "dam"), "Did you mean 'daam'"),
        (("drawn_scenes", "--maps", "meen"), "Did you mean 'mean'"),
        (("drawn_scenes", "--option", "threshold"), "--option is name=value"),
        (("drawn_scenes", "--option", "threshold=2"), r"A threshold lies in [0, 1)"),
        (("drawn_scenes", "--split", "val"), "has the splits 'held out' and 'seen'"),
        (("drawn_scenes", "--tune-on", "held out"), "has images that are evaluated"),
        ((".", "--data-format", "drawn_scenes"), "is given in place of a folder"),
        ((".", "--data-format", "voc"), "is not a format of data sets"),
        ((str(PAGE),), "evaluation.md is a file; give the folder of the data set"),
        (("drawn_scenes", "--model", "./nothing"), "No pipeline could be loaded"),
        (("drawn_scenes", "--source", "disk"), "is not a source"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_is_written(
    tmp_path, monkeypatch, arguments, text
):
    monkeypatch.chdir(tmp_path)
    result = rdaam("evaluate", *arguments)
    assert result.exit_code == 2 and text in result.stderr and result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_page_names_every_format():
    text = PAGE.read_text(encoding="utf-8")
    from diffusers_rdaam import protocols
    from diffusers_rdaam.evaluation.datasets.formats import FORMATS

    assert all(f"`{name}`" in text for name in (*FORMATS, *protocols()))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_place_that_is_taken_is_said_before_a_model_is_loaded(tmp_path, monkeypatch, kind):
    """A threshold may be chosen first, which takes as long as the evaluation."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(
        "diffusers_rdaam.cli.evaluate.load_pipeline", lambda *_: pytest.fail("a model was loaded")
    )
    result = rdaam("evaluate", "drawn_scenes", "--out", tmp_path / kind)
    assert result.exit_code == 2, result.output
    wanted = {"file": "is a file, not a folder", "folder": "is not the folder of an evaluation"}
    assert wanted[kind] in " ".join(result.stderr.split())
