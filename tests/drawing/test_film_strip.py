"""Film strips and animations of any images and labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from diffusers_rdaam.drawing.overlay import colour_table
from diffusers_rdaam.drawing.timeline import coloured_frames, film_strip, save_gif, write
from diffusers_rdaam.errors import InputError

COLOURS = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10)]
IMAGES = [Image.new("RGB", (90, 60), colour) for colour in COLOURS]
LABELS = ["one", "two", "three", "four"]


@pytest.mark.parametrize(("columns", "rows"), [(None, 1), (4, 1), (9, 1), (3, 2), (1, 4)])
@pytest.mark.parametrize("title", ["", "cat"])
@pytest.mark.parametrize("scale", [None, (0.0, 0.25)])
def test_every_image_stands_in_its_place(columns, rows, title, scale):
    strip = film_strip(IMAGES, LABELS, columns=columns, title=title, scale=scale)
    pixels = np.asarray(strip)
    places = []
    for colour in COLOURS:
        down, across = (pixels == colour).all(axis=2).nonzero()
        assert len(down) == 90 * 60
        places.append((down.min(), across.min()))
    assert places == sorted(places)
    assert len({row for row, _ in places}) == rows
    assert (pixels == (255, 255, 255)).all(axis=2).any()


def test_labels_title_and_scale_are_drawn():
    plain = np.asarray(film_strip(IMAGES, [""] * 4))
    labelled = np.asarray(film_strip(IMAGES, LABELS))
    assert plain.shape == labelled.shape and not np.array_equal(plain, labelled)
    title = film_strip(IMAGES, LABELS, title="cat")
    scale = np.asarray(film_strip(IMAGES, LABELS, scale=(0.0, 0.25)))
    assert title.height > len(labelled) and len(scale) > len(labelled)
    bar = scale[-16, 6:102]
    assert np.abs(bar.astype(int) - colour_table()[np.linspace(0, 255, 96).astype(int)]).max() < 12


@pytest.mark.parametrize("without_freetype", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "a cat",
        "кошка 猫 👩‍🚀",
        "line\nbreak\tand \x00 nul",
        "x\ud800",
        "w" * 10_000_000,
        "é" * 99,
    ],
    ids=["empty", "plain", "other letters", "control", "half", "long", "accents"],
)
def test_any_text_is_written_and_stays_within_its_width(text, without_freetype, monkeypatch):
    if without_freetype:
        small = ImageFont.load_default_imagefont()

        def load_default(size=None):
            if size is not None:
                raise ImportError("no FreeType")
            return small

        monkeypatch.setattr(ImageFont, "load_default", load_default)
    picture = Image.new("RGB", (200, 40), (255, 255, 255))
    write(picture, text, (10, 10), 100)
    inked = (np.asarray(picture) < 200).any(axis=2)
    assert inked.any() == bool(text.strip())
    assert not inked[:, :8].any() and not inked[:, 113:].any() and not inked[32:].any()


def test_what_is_cut_ends_in_dots():
    long, cut = (Image.new("RGB", (200, 40), (255, 255, 255)) for _ in range(2))
    write(long, "w" * 99, (0, 0), 100)
    write(cut, "w" * 98, (0, 0), 100)
    assert np.array_equal(np.asarray(long), np.asarray(cut))


def test_frames_share_a_scale():
    maps = [torch.tensor([[0.1, 0.4]]), torch.tensor([[0.0, 0.2]])]
    frames, scale = coloured_frames(maps, None)
    assert scale == pytest.approx((0.0, 0.4))
    table = colour_table()
    shown = [np.asarray(frame)[0] for frame in frames]
    assert np.array_equal(shown[0], table[[64, 255]])
    assert np.array_equal(shown[1], table[[0, 128]])


def test_flat_frames_are_the_first_colour():
    frames, _ = coloured_frames([torch.full((2, 3), 0.5)] * 2, None)
    assert (np.asarray(frames[1]) == colour_table()[0]).all()


def test_gif_shows_every_frame_in_its_colours(tmp_path):
    path = save_gif(IMAGES, LABELS, tmp_path / "file.gif", duration=0.5)
    assert [file.name for file in tmp_path.iterdir()] == ["file.gif"]
    with Image.open(path) as animation:
        assert animation.n_frames == 4
        for i, colour in enumerate(COLOURS):
            animation.seek(i)
            assert animation.info["duration"] == 500
            middle = np.asarray(animation.convert("RGB"))[30, 45].astype(int)
            assert np.abs(middle - colour).max() <= 8


def test_all_frames_have_the_same_colours(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (5, 30, 40, 3), dtype=np.uint8)
    images = [Image.fromarray(pixels) for pixels in noise]
    path = save_gif(images, [""] * 5, tmp_path / "file.gif", duration=0.1)
    seen = set()
    with Image.open(path) as animation:
        for i in range(animation.n_frames):
            animation.seek(i)
            seen |= set(map(tuple, np.asarray(animation.convert("RGB")).reshape(-1, 3).tolist()))
    assert 100 < len(seen) <= 256


@pytest.mark.parametrize("duration", [0.0, -1.0, 0.01, 601.0, float("nan")])
def test_bad_duration(tmp_path, duration):
    with pytest.raises(InputError) as caught:
        save_gif(IMAGES, LABELS, tmp_path / "file.gif", duration=duration)
    assert str(caught.value) == (
        f"duration= is the seconds of a frame, 0.02 to 600; got {duration}. Viewers show shorter "
        "ones more slowly."
    )


@pytest.mark.parametrize("place", ["missing/cat.gif", "folder", "nul\x00byte", "x" * 300])
def test_unwritable_path(tmp_path, place):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError) as caught:
        save_gif(IMAGES, LABELS, tmp_path / place, duration=0.1)
    assert str(caught.value).startswith(
        f"The animation could not be written to {tmp_path / place}: "
    )
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(("images", "labels"), [([], []), (IMAGES, LABELS[:3])])
def test_images_and_labels_go_together(tmp_path, images, labels):
    for call in (
        lambda: film_strip(images, labels),
        lambda: save_gif(images, labels, tmp_path / "file.gif", duration=0.1),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert str(caught.value) == (
            f"Every image has a label, and there is at least one; got {len(images)} images and "
            f"{len(labels)} labels."
        )
