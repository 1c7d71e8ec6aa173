"""``rdaam view``: files in, one page out; what is wrong is one line."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from diffusers_rdaam import VideoAttribution
from diffusers_rdaam.cli import app


def rdaam(*arguments: object):
    return CliRunner().invoke(app, ["view", *map(str, arguments)])


@pytest.fixture
def file(make_attribution, tmp_path: Path) -> Path:
    return make_attribution("a red cat").save(tmp_path / "cat.safetensors")


def test_a_page_next_to_the_file(file: Path) -> None:
    result = rdaam(file)
    assert result.exit_code == 0, result.output
    page = file.with_suffix(".html")
    assert str(page) in result.stdout and "<title>a red cat</title>" in page.read_text()


def test_several_files_and_a_video(file: Path, make_attribution, tmp_path: Path) -> None:
    frames = [make_attribution("a dog", seed=seed) for seed in range(2)]
    video = VideoAttribution.of_frames(frames).save(tmp_path / "video.safetensors")
    out = tmp_path / "both.html"
    result = rdaam(file, video, "-o", out, "--title", "two <b>", "--format", "json")
    told = json.loads(result.stdout)
    assert told["page"] == str(out) and told["bytes"] == out.stat().st_size
    assert told["attributions"] == [str(file), str(video)]
    text = out.read_text(encoding="utf-8")
    assert "<title>two &lt;b&gt;</title>" in text and text.count('"facts":') == 2


def test_open(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    assert rdaam(file, "--open").exit_code == 0
    assert opened == [file.with_suffix(".html").resolve().as_uri()]
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    result = rdaam(file, "--open")
    assert result.exit_code == 0 and "no browser that could be opened" in result.stderr


def test_a_page_to_annotate_the_image_in(file: Path, tmp_path: Path) -> None:
    result = rdaam(file, "--annotate", "red cat", "--annotate", "</script>")
    assert result.exit_code == 0, result.output
    page = tmp_path / "cat-annotate.html"
    text = page.read_text(encoding="utf-8")
    assert str(page) in result.stdout and '"red cat"' in text and "data:image/png;base64" in text
    assert '</script>"' not in text
    out = tmp_path / "page.html"
    told = json.loads(rdaam(file, "--annotate", "demo", "-o", out, "--format", "json").stdout)
    assert told["page"] == str(out) and '"circle"' in out.read_text(encoding="utf-8")


def test_a_video_has_no_single_image_to_annotate(make_attribution, tmp_path: Path) -> None:
    frames = [make_attribution("a dog", seed=seed) for seed in range(2)]
    video = VideoAttribution.of_frames(frames).save(tmp_path / "video.safetensors")
    result = rdaam(video, "--annotate", "dog")
    assert result.exit_code == 2 and "has no single image to annotate" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [""],
        ["nowhere.safetensors"],
        ["/dev/null"],
        ["\udcff"],
        ["a" * 5000],
        ["FILE", "-o", "page.png"],
        ["FILE", "-o", "/dev/null/page.html"],
        ["FILE", "-o", ""],
        ["FILE", "--title", "\udcff"],
        ["FILE", "nowhere.safetensors"],
        ["FILE"] * 101,
        ["FILE", "--nope"],
        ["FILE", "--annotate", ""],
        ["FILE", "--annotate", "cat", "--annotate", "Cat"],
        ["FILE", "--annotate", "none.json"],
        ["FILE", "--annotate", "cat", "-o", "page.png"],
        ["FILE", "FILE", "--annotate", "cat"],
    ],
)
def test_what_is_wrong_is_one_line(arguments, file: Path) -> None:
    given = [file if one == "FILE" else one for one in arguments]
    result = rdaam(*given)
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit)
    assert result.stdout == "" and result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert [one.name for one in file.parent.iterdir()] == [file.name]
