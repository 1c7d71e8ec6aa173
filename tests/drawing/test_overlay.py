"""Colours and overlays without matplotlib."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_rdaam.drawing.overlay import (
    check_opacity,
    colour_table,
    colourise,
    outline,
    overlay,
    scale_colours,
)
from diffusers_rdaam.errors import InputError


def lightness(colours: np.ndarray) -> np.ndarray:
    """CIE L* of sRGB colours."""
    values = colours / 255.0
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(luminance > 0.008856, 116.0 * np.cbrt(luminance) - 16.0, 903.3 * luminance)


@pytest.fixture
def photo() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_colours_grow_lighter_all_the_way():
    table = colour_table()
    assert table.shape == (256, 3) and table.dtype == np.uint8
    steps = np.diff(lightness(table.astype(np.float64)))
    assert steps.min() > -0.05
    assert (np.diff(lightness(table[::8].astype(np.float64))) > 1.0).all()
    assert lightness(table[:1])[0] < 15 and lightness(table[-1:])[0] > 90


def test_colourise_maps_zero_to_the_first_colour_and_one_to_the_last():
    picture = np.asarray(colourise(torch.tensor([[0.0, 0.5, 1.0], [-3.0, 0.25, 7.0]])))
    assert picture.shape == (2, 3, 3)
    table = colour_table()
    assert (picture[:, 0] == table[0]).all() and (picture[:, 2] == table[255]).all()
    assert (picture[0, 1] == table[128]).all()


def test_opacity_zero_is_the_image(photo):
    shown = overlay(photo, torch.rand(64, 96), opacity=0.0)
    assert np.array_equal(np.asarray(shown), np.asarray(photo))


@pytest.mark.parametrize("opacity", [0.3, 0.8, 1.0])
def test_the_image_shows_where_the_map_is_weak_and_the_colours_where_it_is_strong(photo, opacity):
    heat = torch.linspace(0.0, 1.0, 96).expand(64, 96)
    shown = np.asarray(overlay(photo, heat, opacity=opacity), dtype=np.float64)
    image, colours = (np.asarray(p, dtype=np.float64) for p in (photo, colourise(heat)))
    assert np.array_equal(shown[:, 0], image[:, 0])
    share = opacity * heat.numpy()[..., None]
    assert np.abs(shown - (image + (colours - image) * share)).max() <= 0.51
    if opacity == 1.0:
        assert np.array_equal(shown[:, -1], colours[:, -1])


def test_hues_of_the_image_are_kept_where_the_map_is_weak():
    image = Image.new("RGB", (96, 64), (220, 30, 40))
    shown = np.asarray(overlay(image, torch.full((64, 96), 0.1)).convert("HSV"), dtype=int)
    hue = np.asarray(image.convert("HSV"), dtype=int)[0, 0, 0]
    assert (np.abs((shown[..., 0] - hue + 128) % 256 - 128) <= 6).all()


def test_a_scale_has_the_colours_of_the_overlay_over_white():
    white = Image.new("RGB", (256, 1), "white")
    shown = np.asarray(overlay(white, torch.linspace(0.0, 1.0, 256)[None]), dtype=int)[0]
    assert np.abs(shown - scale_colours()).max() <= 1
    assert np.array_equal(scale_colours(opacity=None), colour_table())


@pytest.mark.parametrize("opacity", [-0.1, 1.1, float("nan"), "1", True])
def test_an_opacity_lies_in_zero_to_one(opacity):
    with pytest.raises(InputError, match=rf"^An opacity lies in \[0, 1\]; got {opacity!r}\.$"):
        check_opacity(opacity)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "1", "P"])
def test_overlay_of_every_kind_of_image_is_rgb_of_its_size(photo, mode):
    shown = overlay(photo.convert(mode), torch.rand(64, 96))
    assert (shown.size, shown.mode) == ((96, 64), "RGB")


def test_overlay_and_outline_leave_the_image_as_it_is(photo):
    before = np.asarray(photo).copy()
    overlay(photo, torch.rand(64, 96))
    assert outline(photo, [(10.0, 10.0), (20.0, 10.0), (20.0, 30.0)]) is not photo
    assert np.array_equal(np.asarray(photo), before)


@pytest.mark.parametrize("ground", [0, 128, 255])
def test_outline_is_seen_on_any_ground(ground):
    image = Image.new("L", (96, 64), ground)
    pixels = np.asarray(outline(image, [(20.0, 10.0), (70.0, 10.0), (70.0, 50.0), (20.0, 50.0)]))
    assert pixels.shape == (64, 96, 3)
    for side in (pixels[10, 20:71], pixels[50, 20:71], pixels[10:51, 20], pixels[10:51, 70]):
        assert (side == 20).all()
    assert (pixels[11, 25:65] == 255).all()
    assert (pixels[20:40, 30:60] == ground).all() and (pixels[:5] == ground).all()


def test_outline_far_beyond_the_image_is_quick_and_right():
    image = Image.new("RGB", (96, 64), (128, 128, 128))
    start = time.perf_counter()
    far = outline(image, [(20.0, 10.0), (1e12, 10.0), (1e12, 1e12), (20.0, 1e12)])
    assert time.perf_counter() - start < 1.0
    near = outline(image, [(20.0, 10.0), (200.0, 10.0), (200.0, 200.0), (20.0, 200.0)])
    assert np.array_equal(np.asarray(far), np.asarray(near))
