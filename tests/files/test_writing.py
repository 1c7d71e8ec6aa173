"""Files are whole or not there, links are never followed, and writers do not disturb each other."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import torch

from diffusers_rdaam import OptimizedToken, Queries, SavedAttention
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.prompt import Prompt, Token
from diffusers_rdaam.attribution.site_queries import SiteQueries
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.files.writing import replacing, write_text

PROMPT = Prompt("cat", (Token(0, "cat", "text", 0, 3),))


@pytest.fixture
def savable(make_attribution):
    """One of each kind that has ``save``."""
    rows = torch.ones(1, 4)
    part = torch.ones(1, 6, 2)
    maps = {"site": torch.ones(1, 1, 1, 6, 1).half()}
    return {
        "attribution": make_attribution("a cat", grids=((2, 3),), size=(16, 24)),
        "queries": Queries((SiteQueries("site", (2, 3), 1, 2, (0,), (part,)),)),
        "attention": SavedAttention(PROMPT, maps, (2, 3)),
        "token": OptimizedToken(PROMPT, rows, "encoded", {"clip_l": rows}, (1.0,), 0),
    }


def test_a_link_is_replaced_and_not_followed(savable, tmp_path):
    for name, value in savable.items():
        target, link = tmp_path / f"{name}.other", tmp_path / name
        target.write_text("mine")
        link.symlink_to(target)
        value.save(link)
        assert target.read_text() == "mine" and not link.is_symlink()
        type(value).load(link)
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nowhere")
    savable["attribution"].save(dangling)
    assert not (tmp_path / "nowhere").exists() and not dangling.is_symlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_is_neither_written_nor_replaced(savable, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for value in savable.values():
        with pytest.raises(InputError, match="there is a pipe, socket or device of that name"):
            value.save(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".PKL", ".json", ".png"])
def test_the_ending_of_another_format_is_refused(savable, tmp_path, suffix):
    for name, value in savable.items():
        with pytest.raises(InputError) as caught:
            value.save(tmp_path / f"cat{suffix}")
        assert str(caught.value) == (
            f"The {name} is written as safetensors, and 'cat{suffix}' ends as files of another "
            "format do. Name it 'cat.safetensors'."
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["cat", "cat.safetensors", "v1.5", "cat.2", "a.b c"])
def test_other_endings_and_none_stay(savable, tmp_path, name):
    assert savable["attribution"].save(tmp_path / name) == tmp_path / name


def test_saves_of_one_path_at_once(make_attribution, tmp_path):
    """Each writer puts its own whole file in place, and the last one's stays."""
    made = [make_attribution(text, seed=i) for i, text in enumerate(("a cat", "a dog", "a hat"))]
    problems = []

    def save(attribution: Attribution) -> None:
        try:
            for _ in range(12):
                Attribution.load(attribution.save(tmp_path / "file"))
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=save, args=(value,)) for value in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, SystemExit])
def test_an_exception_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as file:
        file.write(b"half")
        raise error
    assert [found.name for found in tmp_path.iterdir()] == ["file"] and path.read_text() == "old"


def test_an_error_of_the_disk_is_told_and_nothing_is_left(tmp_path):
    with pytest.raises(InputError) as caught, replacing(tmp_path / "file", "picture"):
        raise OSError(28, "No space left on device")
    assert str(caught.value).startswith(f"The picture could not be written to {tmp_path / 'file'}")
    assert "No space left on device" in str(caught.value) and list(tmp_path.iterdir()) == []


def test_text_that_is_no_unicode(tmp_path):
    with pytest.raises(InputError, match="surrogates"):
        write_text(tmp_path / "file", "\ud800")
    assert list(tmp_path.iterdir()) == []


def test_the_current_folder(savable, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert savable["attribution"].save("cat") == Path("cat")
    assert [found.name for found in tmp_path.iterdir()] == ["cat"]
