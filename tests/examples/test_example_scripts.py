"""The scripts of examples/ run on the embedded model."""

from __future__ import annotations

import pytest
from PIL import Image
from script_modules import script as _script


def test_attribute_one_image(tmp_path, capsys) -> None:
    out = tmp_path / "found"
    script = _script("attribute_one_image")
    script.main(["--box", "9,65,58,115", "--out", str(out)])
    said = capsys.readouterr().out
    assert "Box (9, 65, 58, 115)" in said
    best = said.split("share\n")[1].split()[0]
    assert best == "circle"
    pictures = [f"word-{number:02d}.png" for number in range(7)]
    files = {"image.png", "attribution.safetensors", "viewer.html", *pictures}
    assert {path.name for path in out.iterdir()} == files

    # Of the image that it made: an image that exists.
    script.main(
        ["a red circle and a blue square", "--image", str(out / "image.png"), "--out", str(out)]
    )
    assert "circle" in capsys.readouterr().out


def test_a_box_of_three_numbers(capsys) -> None:
    with pytest.raises(SystemExit):
        _script("attribute_one_image").main(["--box", "1,2,3"])
    assert "left,top,right,bottom" in capsys.readouterr().err


def test_batch_to_parquet(tmp_path, capsys) -> None:
    script = _script("batch_to_parquet")
    arguments = ["--out", str(tmp_path / "data"), "--steps", "2"]
    done = script.main(arguments)
    assert (done.rows, done.made, done.errors) == (3, 3, 1)
    said = capsys.readouterr().out
    assert "3 rows" in said and "wrong    failed: " in said and "'yellow'" in said
    assert "heart    green heart" in said
    again = script.main([*arguments, "--resume"])
    assert (again.rows, again.made) == (3, 0)


def test_evaluate_folder(tmp_path, capsys) -> None:
    script = _script("evaluate_folder")
    found = script.main(["--scenes", "2", "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert found.images == 2 and "mean, sharpen=true against mean: " in said
    assert (tmp_path / "table.md").is_file() and (tmp_path / "report.json").is_file()
    # The same folder, as a user's data set.
    folder = tmp_path / "scenes-2"
    again = script.main([str(folder), "--maps", "mean", "--out", str(tmp_path / "again")])
    assert again[again.headline].value == pytest.approx(found[found.headline].value)


def test_compare_two_prompts(tmp_path, capsys) -> None:
    found = _script("compare_two_prompts").main(["--seeds", "2", "--out", str(tmp_path)])
    assert [word.text for word in found][-1] == "circle / square"
    assert "circle / square" in capsys.readouterr().out
    with Image.open(tmp_path / "first.png") as picture:
        assert picture.size == (256, 128)
