"""One word over the image."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import pickle
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from diffusers_rdaam.attribution.aggregations.aggregation import Aggregation
from diffusers_rdaam.attribution.aggregations.table import aggregations
from diffusers_rdaam.attribution.heat_map import HeatMap
from diffusers_rdaam.attribution.thresholds import (
    DEFAULT_THRESHOLD,
    RAW,
    REFINED,
    SHARPENED_MORE,
    otsu,
    threshold_of,
    threshold_of_refined,
)
from diffusers_rdaam.errors import InputError, RegionError
from diffusers_rdaam.geometry.region import Box


def hill(image: bool = True) -> HeatMap:
    """0.1 everywhere, up to 0.5 in a box of 64x96 pixels."""
    values = torch.full((64, 96), 0.1)
    values[10:20, 70:90] = 0.3
    values[12:18, 75:85] = 0.5
    picture = Image.new("RGB", (96, 64), (200, 30, 30)) if image else None
    return HeatMap(values, "cat", ((2, 5),), (2,), picture)


def flat() -> HeatMap:
    return HeatMap(torch.full((64, 96), 0.25), "fog")


def test_normalized_is_stretched_to_zero_and_one():
    heat = hill()
    assert heat.size == (64, 96)
    assert float(heat.normalized.min()) == 0.0 and float(heat.normalized.max()) == 1.0
    assert float(heat.normalized[10, 70]) == pytest.approx(0.5)
    assert float(heat.values.max()) == 0.5


def test_a_flat_map_is_zero_normalized():
    assert torch.equal(flat().normalized, torch.zeros(64, 96))


@pytest.mark.parametrize(
    ("threshold", "box"),
    [(0.0, (70, 10, 90, 20)), (0.4, (70, 10, 90, 20)), (0.6, (75, 12, 85, 18))],
)
def test_mask_and_box_at_a_threshold(threshold, box):
    mask = hill().mask(threshold)
    assert mask.dtype == torch.bool
    assert torch.equal(mask.float(), Box(*box).coverage((64, 96)))
    assert hill().box(threshold) == Box(*box)


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("threshold", [-0.1, 1.0, 2.0, float("nan"), "ots", True])
@pytest.mark.parametrize("method", ["mask", "box"])
def test_bad_threshold(threshold, method):
    with pytest.raises(InputError) as caught:
        getattr(hill(), method)(threshold)
    assert str(caught.value) == (
        "A threshold lies in [0, 1), on the map stretched to 0 to 1, or is 'otsu'; got "
        f"{threshold!r}."
    )


def test_a_flat_map_has_no_box():
    assert not flat().mask(0.0).any()
    with pytest.raises(RegionError, match=r"^The heat map of 'fog' is flat: it has no region\.$"):
        flat().box()


def several() -> HeatMap:
    """Three parts: of 6 x 10, 8 x 4 and one pixel, at 0.9, 1 and 0.8 of the highest."""
    values = torch.full((40, 60), 0.01)
    values[5:11, 30:40] = 0.09
    values[20:28, 3:7] = 0.1
    values[35, 50] = 0.08
    return HeatMap(values, "cats", threshold=0.6)


@pytest.mark.usefixtures("types_unchecked")
def test_a_box_is_around_the_largest_part():
    heat = several()
    assert heat.box() == Box(30, 5, 40, 11)
    assert heat.box(component="all") == Box(3, 5, 51, 36)
    assert heat.box(0.95) == Box(3, 20, 7, 28)
    with pytest.raises(InputError, match=r"^'bigest' is not a component\. .*'largest'"):
        heat.box(component="bigest")


def test_boxes_are_of_the_parts_that_are_not_specks():
    heat = several()
    large = (Box(30, 5, 40, 11), Box(3, 20, 7, 28))
    assert heat.boxes() == large
    assert heat.boxes(least=0.0) == (*large, Box(50, 35, 51, 36))
    assert heat.boxes(least=1.0) == large[:1] and heat.boxes(0.95) == large[1:]
    with pytest.raises(InputError, match=r"^least=, a share of the largest part, lies in \[0, 1\]"):
        heat.boxes(least=2.0)
    with pytest.raises(RegionError, match=r"^The heat map of 'fog' is flat"):
        flat().boxes()


def test_a_map_has_the_threshold_of_its_kind(make_attribution):
    heat = dataclasses.replace(hill(), threshold=0.6)
    assert torch.equal(heat.mask(), heat.mask(0.6)) and heat.box() == heat.box(0.6)
    assert heat.coco() == heat.coco(0.6) != heat.coco(0.4)
    assert torch.equal(hill().mask(), hill().mask(DEFAULT_THRESHOLD))
    raw = make_attribution()
    assert raw["cat"].threshold == RAW["cross"]
    joint = dataclasses.replace(raw, run={**raw.run, "attention": "joint"})
    assert joint["cat"].threshold == RAW["joint"]
    assert joint["cat"].resize((20, 30)).threshold == RAW["joint"]
    named = Aggregation("named", "m", lambda record, match, _: record.pixels(match.columns))
    assert [named.threshold_of(one.run) for one in (raw, joint)] == [DEFAULT_THRESHOLD] * 2
    named = dataclasses.replace(named, threshold=0.7, joint_threshold=0.3)
    assert raw.word("cat", aggregation=named).threshold == 0.7
    assert joint.word("cat", aggregation=named).threshold == 0.3
    for name, one in aggregations().items():
        thresholds = [one.threshold, one.joint_threshold, one.refined_threshold]
        assert all(each is None or 0.1 < each < 0.9 for each in thresholds), name
    for refine in ("product", "guided", "power", "ovam"):
        cross, other = (threshold_of_refined(refine, one.run) for one in (raw, joint))
        assert cross == REFINED["cross"][refine]
        assert other == REFINED["joint"].get(refine, cross)
        assert threshold_of({**joint.run, "refined": refine}) == other
    assert REFINED["joint"]["product"] < REFINED["cross"]["product"]
    with pytest.raises(InputError, match=r"^A threshold lies in \[0, 1\)"):
        HeatMap(torch.ones(2, 3), "cat", threshold=1.0)


def test_otsu_is_between_two_classes():
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(50, 70, generator=generator) * 0.2
    values[10:30, 20:60] = 0.8 + 0.2 * torch.rand(20, 40, generator=generator)
    heat = HeatMap(values, "cat", threshold=0.9)
    wanted = torch.zeros(50, 70, dtype=torch.bool)
    wanted[10:30, 20:60] = True
    assert torch.equal(heat.mask("otsu"), wanted) and heat.box("otsu") == Box(20, 10, 60, 30)
    assert not flat().mask("otsu").any()


@given(seed=st.integers(0, 999), parts=st.integers(1, 4))
def test_otsu_is_the_best_of_all_edges(seed, parts):
    """Against a loop over the edges of the histogram, with the variances by their definition."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(parts, 37, generator=generator) ** parts
    bins = (values * 256).long().clamp(max=255).flatten()

    def within(edge: int) -> float:
        return sum(
            float(part.double().var(correction=0)) * len(part)
            for part in (bins[bins < edge], bins[bins >= edge])
            if len(part)
        )

    best = min(within(edge) for edge in range(1, 256))
    assert within(round(otsu(values) * 256)) == pytest.approx(best, rel=1e-9)


def test_the_peak_is_the_highest_value_and_where_it_is():
    heat = hill()
    assert heat.peak == 0.5 and heat.peak_pixel == (75, 12)
    assert heat.values[12, 75] == heat.peak
    assert "cat, peak 0.5" in heat._repr_html_()


def test_sharpening_takes_the_edges_of_the_image():
    """A blurred disc over an image of the disc: the map comes out with the disc's edge."""
    y, x = np.mgrid[0:64, 0:96]
    disc = (x - 50) ** 2 + (y - 30) ** 2 < 15**2
    image = Image.fromarray(np.where(disc[..., None], [220, 40, 40], [250, 250, 250]).astype("u1"))
    blurred = 0.2 * torch.exp(torch.from_numpy(-((x - 48) ** 2 + (y - 32) ** 2) / 300.0)).float()
    heat = HeatMap(blurred, "disc", image=image, threshold=0.55)

    def overlap(one: HeatMap) -> float:
        mask = one.mask(0.55).numpy()
        return float((mask & disc).sum() / (mask | disc).sum())

    sharp = heat.sharpened()
    assert overlap(heat) < 0.75 and overlap(sharp) > 0.9
    assert (sharp.text, sharp.size, sharp.threshold) == ("disc", (64, 96), 0.55 + SHARPENED_MORE)
    assert float(sharp.values.min()) >= 0.0
    assert float(sharp.values.mean()) == pytest.approx(float(heat.values.mean()), rel=0.1)
    alone = dataclasses.replace(heat, image=None)
    assert torch.equal(alone.sharpened(image).values, sharp.values)
    assert overlap(alone.sharpened(image.resize((192, 128), 0))) > 0.85
    # A guide without edges leaves means of means.
    smooth = heat.sharpened(Image.new("RGB", (96, 64)), radius=2).values
    assert float((smooth - heat.values).abs().max()) < 0.02


@pytest.mark.usefixtures("types_unchecked")
def test_bad_sharpening():
    with pytest.raises(InputError, match=r"^There is no image to lay the heat map over"):
        hill(image=False).sharpened()
    with pytest.raises(InputError, match=r"^radius= is a whole number from 1; got 0\."):
        hill().sharpened(radius=0)
    for eps in (0.0, -1.0, float("nan"), "small"):
        with pytest.raises(InputError, match=r"^eps= is over 0, a variance of colours"):
            hill().sharpened(eps=eps)


def test_mass_is_the_mean_over_the_region():
    heat = hill()
    assert heat.mass((75, 12, 85, 18)) == pytest.approx(0.5)
    assert heat.mass((0, 0, 70, 64)) == pytest.approx(0.1)
    assert heat.mass((0, 0, 96, 64)) == pytest.approx(float(heat.values.mean()))
    assert heat.mass(Box(75, 12, 85, 18).edges()) == pytest.approx(0.5)
    weights = torch.zeros(64, 96)
    weights[15, 80], weights[0, 0] = 0.25, 0.75
    assert heat.mass(weights) == pytest.approx(0.25 * 0.5 + 0.75 * 0.1)


def test_mass_outside_the_image():
    with pytest.raises(RegionError, match="lies outside the image, which is 96 pixels wide and 64"):
        hill().mass((100, 0, 120, 10))
    with pytest.raises(RegionError, match="The mask is 64 pixels wide and 96 high, the image 96 w"):
        hill().mass(torch.ones(96, 64))


@pytest.mark.parametrize("size", [(128, 192), (32, 48), (10, 70), (1, 1)])
def test_resize(size):
    other = hill().resize(size)
    assert other.size == size and other.values.shape == size
    assert other.image.size == size[::-1]
    assert (other.text, other.spans, other.columns) == ("cat", ((2, 5),), (2,))
    assert float(other.values.mean()) == pytest.approx(float(hill().values.mean()), rel=0.05)


def test_resize_keeps_a_flat_map_flat():
    torch.testing.assert_close(flat().resize((13, 7)).values, torch.full((13, 7), 0.25))


@pytest.mark.parametrize("size", [(0, 5), (5, -1)])
def test_resize_to_nothing(size):
    with pytest.raises(InputError) as caught:
        hill().resize(size)
    assert str(caught.value) == f"A size is (height, width) of at least 1 pixel each; got {size}."


def test_overlay_is_of_the_images_size():
    assert hill().overlay().size == (96, 64)
    assert hill(image=False).overlay(Image.new("RGBA", (192, 128))).size == (192, 128)
    assert hill().overlay(Image.new("L", (5, 7))).size == (5, 7)


def test_overlay_marks_the_hill():
    pixels = np.asarray(hill().overlay(Image.new("RGB", (96, 64)), opacity=1.0)).sum(axis=-1)
    assert (pixels[12:18, 75:85] > pixels[0, 0]).all()


def test_overlay_without_an_image():
    with pytest.raises(
        InputError, match=r"^There is no image to lay the heat map over\. Pass image=…$"
    ):
        hill(image=False).overlay()


@pytest.mark.parametrize("image", [True, False])
def test_plot_is_a_figure(image):
    from matplotlib.figure import Figure

    figure = hill(image).plot()
    assert isinstance(figure, Figure)
    assert figure.axes[0].get_title() == "cat"
    assert len(figure.axes[0].images) == 1 + image
    figure.savefig(io.BytesIO())


def test_repr():
    assert repr(hill()) == "HeatMap('cat', 96x64 pixels, 0.1 to 0.5)"


@pytest.mark.parametrize("image", [True, False])
def test_html_is_a_picture_with_an_escaped_caption(image):
    picture = Image.new("RGB", (96, 64)) if image else None
    html = HeatMap(hill().values, "<b>'cat'", image=picture)._repr_html_()
    assert "data:image/png;base64," in html
    assert "<b>" not in html and "&lt;b&gt;&#x27;cat&#x27;" in html


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("shape", [(5,), (1, 2, 3), (0, 5), (5, 0)])
def test_values_are_two_dimensional(shape):
    text = re.escape(f"A heat map's values are (height, width), these are {shape}.")
    with pytest.raises(InputError, match=f"^{text}$"):
        HeatMap(torch.zeros(shape), "cat")


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda heat: pickle.loads(pickle.dumps(heat))]
)
def test_a_pickle_or_copy_is_a_value(make_attribution, again):
    attribution = make_attribution(size=(128, 128), grids=((64, 64), (32, 32)))
    heat = attribution["blue eyes"]
    other = again(heat)
    assert torch.equal(other.values, heat.values)
    assert (other.text, other.spans, other.columns) == (heat.text, heat.spans, heat.columns)
    assert other.attribution is None and heat.attribution is attribution
    assert other.mass((3, 4, 70, 90)) == pytest.approx(heat.mass((3, 4, 70, 90)), rel=1e-5)
    for method in ("refined", "over_time"):
        with pytest.raises(InputError, match=r"^The heat map of 'blue eyes' has no attribution, "):
            getattr(other, method)()


def test_a_pickle_has_the_bytes_of_its_values(make_attribution):
    attribution = make_attribution(size=(128, 128), grids=((64, 64), (32, 32)))
    heat = dataclasses.replace(attribution["cat"], image=None)
    values = heat.values.numel() * heat.values.element_size()
    assert attribution.nbytes > 5 * values
    assert len(pickle.dumps(heat)) < values + 2000
    assert dataclasses.replace(heat, text="it").attribution is attribution


def test_numpy(tmp_path):
    heat = hill()
    assert np.array_equal(heat.numpy(), heat.values.numpy()) and heat.numpy().dtype == np.float32
    heat.numpy()[:] = 0.0
    assert float(heat.values.max()) == 0.5
    assert np.asarray(heat).shape == (64, 96) and np.asarray(heat, dtype=np.float64).dtype == float
    assert np.max(heat) == np.float32(0.5)
    with pytest.raises(ValueError, match="copied into an array"):
        heat.__array__(copy=False)
    assert np.array_equal(np.load(heat.save(tmp_path / "cat.npy")), heat.numpy())
    with Image.open(heat.save(str(tmp_path / "cat.png"))) as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(heat.overlay()))
    assert hill(image=False).save(tmp_path / "alone.PNG").exists()
    with pytest.raises(InputError, match=r"^A heat map is saved as \.npy .*; got 'cat\.jpg'\.$"):
        heat.save(tmp_path / "cat.jpg")


def test_overlays_of_one_scale():
    weak = HeatMap(hill().values / 2, "weak", image=hill().image)
    own, strong = weak.overlay(), hill().overlay(vmin=0.0, vmax=0.5)
    same = weak.overlay(vmin=0.0, vmax=0.5)
    inside = (80, 15)
    assert own.getpixel(inside) == strong.getpixel(inside) != same.getpixel(inside)
    assert weak.overlay(vmin=0.0, vmax=0.25).getpixel(inside) == own.getpixel(inside)
    low, high = (float(value) for value in (weak.values.min(), weak.values.max()))
    assert weak.overlay(vmin=low, vmax=high).tobytes() == own.tobytes()
    assert weak.overlay(alpha=0.3).tobytes() == weak.overlay(opacity=0.3).tobytes()
    for limits in ({"vmin": 0.5}, {"vmin": 0.2, "vmax": 0.2}, {"vmax": float("nan")}):
        with pytest.raises(InputError, match=r"^vmin= lies below vmax="):
            weak.overlay(**limits)


def test_colour_maps_of_matplotlib():
    from matplotlib import colormaps

    top = hill().overlay(opacity=1.0, cmap="viridis").getpixel((80, 15))
    assert top == tuple(colormaps["viridis"](255, bytes=True)[:3])
    with pytest.raises(InputError, match=r"^'viridi' is not a colour map\. Did you mean 'viridis'"):
        hill().overlay(cmap="viridi")


def test_plot_in_given_axes():
    from matplotlib.figure import Figure

    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert hill().plot(ax=right) is figure
    assert right.get_title() == "cat" and not left.images


def test_coco_run_lengths():
    heat = hill()
    form = heat.coco()
    assert json.loads(json.dumps(form)) == form and form["size"] == [64, 96]
    values = np.repeat(np.arange(len(form["counts"])) % 2, form["counts"])
    assert np.array_equal(values.reshape(96, 64).T.astype(bool), heat.mask().numpy())
