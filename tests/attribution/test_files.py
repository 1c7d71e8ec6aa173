"""Saved and loaded again: equal, whole or not at all, and without any model library."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.prompt import Prompt, Token
from diffusers_rdaam.errors import AttributionFileError, InputError


def assert_equal(one: Attribution, other: Attribution) -> None:
    assert one.prompt == other.prompt
    assert one.image_size == other.image_size
    assert one.run == other.run
    assert len(one.grids) == len(other.grids)
    for grid, same in zip(one.grids, other.grids, strict=True):
        assert same.maps.dtype == torch.float32 and torch.equal(grid.maps, same.maps)
        assert (grid.additions, grid.sites) == (same.additions, same.sites)
    assert (one.image is None) == (other.image is None)
    if one.image is not None:
        assert np.array_equal(np.asarray(one.image), np.asarray(other.image))


@pytest.mark.parametrize("image", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        "a cat with blue eyes, on a red mat",
        None,
        "",
        'quotes " and \\ and \x00 and \n',
        "un café, cafe\u0301, кошка 猫 👩‍🚀",
    ],
)
def test_round_trip(make_attribution, tmp_path, text, image):
    attribution = make_attribution(text, image=image)
    path = attribution.save(tmp_path / "cat.safetensors")
    assert path == tmp_path / "cat.safetensors"
    assert [file.name for file in tmp_path.iterdir()] == ["cat.safetensors"]
    loaded = Attribution.load(path)
    assert_equal(attribution, loaded)
    assert repr(loaded) == repr(attribution)
    one, other = (made.region((10, 20, 50, 60)) for made in (attribution, loaded))
    torch.testing.assert_close(one.scores, other.scores)


def test_paths_may_be_text_and_have_any_name(make_attribution, tmp_path):
    attribution = make_attribution()
    path = attribution.save(f"{tmp_path}/eine Katze 🐱")
    assert isinstance(path, Path)
    assert_equal(attribution, Attribution.load(str(path)))


def test_grids_of_any_layout(make_attribution, tmp_path):
    attribution = make_attribution()
    count = len(attribution.prompt.tokens)
    shared = torch.rand(count, 4, 6)
    grids = (
        Grid(shared, 1),
        Grid(shared, 2),
        Grid(shared.transpose(1, 2), 3),
        Grid(torch.rand(2, count, 4, 6)[1], 4),
        Grid(torch.rand(count, 1, 1).expand(count, 4, 6), 5),
    )
    odd = Attribution(attribution.prompt, grids, (64, 96))
    assert_equal(odd, Attribution.load(odd.save(tmp_path / "odd")))


def test_overwriting_replaces_the_file_as_a_whole(make_attribution, tmp_path):
    path = make_attribution("a dog").save(tmp_path / "file")
    dog = Attribution.load(path)
    cat = make_attribution("a cat", seed=1)
    cat.save(path)
    assert_equal(cat, Attribution.load(path))
    assert_equal(dog, make_attribution("a dog"))


def test_what_is_loaded_does_not_change_with_its_file(make_attribution, tmp_path):
    attribution = make_attribution(grids=((32, 48),))
    path = attribution.save(tmp_path / "file")
    loaded = Attribution.load(path)
    with path.open("r+b") as file:
        file.truncate(1)
        file.write(b"\xff" * 100)
    assert_equal(attribution, loaded)


def test_everybody_may_read_the_file(make_attribution, tmp_path):
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    path = make_attribution().save(tmp_path / "file")
    assert path.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("place", ["missing/cat", "file/cat", "folder", "x" * 300, "nul\x00byte"])
def test_unwritable_path(make_attribution, tmp_path, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"text")
    with pytest.raises(InputError) as caught:
        make_attribution().save(tmp_path / place)
    text = str(caught.value)
    assert text.startswith(f"The attribution could not be written to {tmp_path / place}: ")
    assert text.endswith(". Give a path in a folder that exists and may be written.")
    assert ".part" not in text and "Errno" not in text
    assert ("there is no folder" in text) == (place == "missing/cat")
    assert not isinstance(caught.value, AttributionFileError)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == b"text"


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_path_without_a_name(make_attribution, path):
    with pytest.raises(InputError, match=r"^The attribution could not be written to .* empty name"):
        make_attribution().save(path)


def test_text_that_no_file_can_hold(make_attribution, tmp_path):
    attribution = make_attribution()
    prompt = Prompt("\ud800", (Token(0, "x", "text", 0, 1),))
    odd = Attribution(prompt, (Grid(attribution.grids[0].maps[:1], 1),), (64, 96))
    with pytest.raises(InputError, match=r"^The attribution could not be written to .*surrogates"):
        odd.save(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["missing", ".", "missing/cat", "x" * 300, "nul\x00byte"])
def test_no_file(tmp_path, place):
    with pytest.raises(AttributionFileError) as caught:
        Attribution.load(tmp_path / place)
    assert str(tmp_path / place) in str(caught.value)
    if len(place) < 300:
        assert str(caught.value) == f"There is no attribution file at {tmp_path / place}."


SCRIPT = """
import sys
for name in ("diffusers", "transformers", "typer", "matplotlib", "gradio"):
    sys.modules[name] = None
from diffusers_rdaam import Attribution
attribution = Attribution.load(sys.argv[1])
words = attribution.region((10, 20, 50, 60))
print(words.top(1)[0].text, round(words["cat"], 4), attribution["cat"].overlay().size)
assert attribution._repr_html_() and words._repr_html_() and attribution["cat"]._repr_html_()
attribution.save(sys.argv[2])
"""


def test_opens_and_answers_without_a_model_library(make_attribution, tmp_path):
    attribution = make_attribution()
    paths = [str(attribution.save(tmp_path / "one")), str(tmp_path / "other")]
    environment = {**os.environ, "JAXTYPING_DISABLE": "1"}
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, *paths],
        capture_output=True, text=True, env=environment, timeout=120, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    words = attribution.region((10, 20, 50, 60))
    wanted = f"{words.top(1)[0].text} {round(words['cat'], 4)} (96, 64)"
    assert answer.stdout.strip() == wanted
    assert_equal(attribution, Attribution.load(paths[1]))


def test_nothing_is_warned_of(make_attribution, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = Attribution.load(make_attribution().save(tmp_path / "file"))
        loaded.image.convert("L")
