"""Label maps: the background channel and the highest class, against loops over pixels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from labelled_images import labelled
from PIL import Image

from diffusers_rdaam import DenseCRF, HeatMap, InputError, Segmentation, label_map
from diffusers_rdaam.segmentation.label_map import ATTN2MASK, voc_palette


def test_attn2mask_is_its_formula_pixel_by_pixel(bump):
    maps = {"cat": bump(8, 10), "dog": bump(24, 12, wide=4)}
    beta = 0.2
    found = label_map(maps, names=["bird", "cat", "dog"], background=beta)
    cat, dog = (heat_map.normalized.numpy() for heat_map in maps.values())
    for y in range(24):
        for x in range(32):
            scores = [1 - max(cat[y, x], dog[y, x]) - beta, cat[y, x], dog[y, x]]
            assert int(found.labels[y, x]) == (0, 2, 3)[int(np.argmax(scores))]
    assert found.found == (2, 3) and set(found.areas) == {"cat", "dog"}


def test_a_negative_beta_keeps_more_background(bump):
    areas = [label_map({"cat": bump(8, 10)}, background=beta).areas["cat"] for beta in (0.2, -0.2)]
    assert areas[0] > areas[1] > 0 and sorted(ATTN2MASK.values()) == [-0.2, 0.2]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_without_a_beta_one_class_is_the_mask_of_its_map(bump, threshold):
    heat_map = bump(8, 10, threshold=threshold)
    found = label_map({"cat": heat_map})
    torch.testing.assert_close(found.mask("cat"), heat_map.mask())


def test_probabilities_sum_to_one_and_the_higher_class_wins_where_both_are_high(bump):
    left, right = bump(12, 10), bump(18, 10)
    found = label_map({"cat": left, "dog": right})
    torch.testing.assert_close(found.probabilities.sum(0), torch.ones(24, 32))
    both = left.mask() & right.mask()
    assert bool(both.any())
    wins = left.normalized > right.normalized
    assert bool((found.mask("cat")[both] == wins[both]).all())


def test_uncertain_pixels_are_ignored(bump):
    found = label_map({"cat": bump(8, 10)})
    ignored = found.with_ignored(0.3)
    unsure = (found.probabilities[0] - found.probabilities[1]).abs() < 0.3
    torch.testing.assert_close(ignored.labels == 255, unsure)
    assert bool(unsure.any()) and "cat" in ignored.areas
    with pytest.raises(InputError, match="lies in \\[0, 1\\]; got 2"):
        found.with_ignored(2)
    with pytest.raises(InputError, match="no probabilities"):
        labelled().with_ignored(0.1)


def test_pictures_have_the_numbers_and_voc_s_colours(tmp_path):
    found = labelled(cat=40, dog=33)
    path = tmp_path / "mask.png"
    found.label_image().save(path)
    with Image.open(path) as mask:
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.asarray(mask), found.labels.numpy())
    colours = voc_palette()
    assert [tuple(colours[i]) for i in (0, 1, 15, 255)] == [
        (0, 0, 0),
        (128, 0, 0),
        (192, 128, 128),
        (224, 224, 192),
    ]
    shown = np.asarray(found.overlay(opacity=1.0))
    assert tuple(shown[0, 0]) == (128, 0, 0)
    np.testing.assert_array_equal(shown[12], np.asarray(found.image)[12])
    assert "data:image/png;base64," in found._repr_html_()
    assert repr(found) == "Segmentation(32x24 pixels: cat 5.2%, dog 4.3%)"


def test_objects_are_connected_parts_without_crumbs():
    labels = torch.zeros(10, 12, dtype=torch.int64)
    labels[1:4, 1:5], labels[6:9, 6:10], labels[9, 0] = 1, 1, 1
    labels[0, 11] = 2
    found = Segmentation(labels, ("cat", "dog"))
    parts = [(name, int(mask.sum())) for name, mask in found.objects()]
    assert parts == [("cat", 12), ("cat", 12), ("dog", 1)]
    assert [name for name, _ in found.objects(least=0.0)] == ["cat", "cat", "cat", "dog"]


def test_a_crf_takes_the_image_s_edges_and_a_hard_unary_hardly_moves(bump, image):
    # The map is off the dark rectangle by some pixels.
    truth = torch.zeros(24, 32, dtype=torch.bool)
    truth[6:16, 8:20] = True
    heat_map = bump(15, 12, wide=4.5)

    def overlap(crf: DenseCRF | None) -> float:
        found = label_map({"cat": heat_map}, crf=crf).mask("cat")
        return float((found & truth).sum() / (found | truth).sum())

    soft = DenseCRF(bilateral_xy=20.0)
    hard = dataclasses.replace(soft, unary="hard", bilateral_weight=2.0)
    plain = overlap(None)
    assert overlap(soft) > plain + 0.1
    assert abs(overlap(hard) - plain) < 0.1


def test_the_crf_is_pydensecrf_s_with_ovam_s_numbers(bump, image):
    import pydensecrf.densecrf as densecrf

    crf = DenseCRF.ovam()
    assert (crf.bilateral_weight, crf.bilateral_xy, crf.bilateral_rgb) == (10.0, 80.0, 13.0)
    assert (crf.smoothness_weight, crf.smoothness_xy, crf.iterations) == (3.0, 3.0, 5)
    probabilities = label_map({"cat": bump(12, 10)}).probabilities
    before = probabilities.clone()
    mask = (probabilities[1] > probabilities[0]).float()
    field = densecrf.DenseCRF2D(32, 24, 2)
    unary = -np.log(np.clip(np.stack([1 - mask, mask]), 1e-5, 1 - 1e-5)).reshape(2, -1)
    field.setUnaryEnergy(np.ascontiguousarray(unary.astype(np.float32)))
    field.addPairwiseGaussian(sxy=3, compat=3)
    field.addPairwiseBilateral(sxy=80, srgb=13, rgbim=np.array(image), compat=10)
    wanted = np.array(field.inference(5)).reshape(2, 24, 32)
    np.testing.assert_allclose(crf(image, probabilities).numpy(), wanted, atol=1e-5)
    torch.testing.assert_close(probabilities, before)


def test_a_missing_library_names_the_extra(monkeypatch, bump):
    import sys

    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(ImportError, match=r'pip install "diffusers_rdaam\[crf\]"'):
        label_map({"cat": bump(8, 10)}, crf=DenseCRF())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"iterations": 0}, "iterations="),
        ({"bilateral_rgb": 0}, "bilateral_rgb= is a number over 0; got 0"),
        ({"smoothness_weight": float("nan")}, "smoothness_weight= is a number from 0"),
        ({"unary": "firm"}, "'firm' is not a unary term"),
        ({"image_side": 0}, "image_side= is a number of pixels over 0, or None; got 0"),
        ({"image_side": "512"}, "image_side= is a number of pixels over 0"),
    ],
)
def test_numbers_of_a_crf_are_checked(change, text):
    with pytest.raises(InputError, match=text):
        DenseCRF(**change)


@pytest.mark.parametrize("unary", ["soft", "hard"])
def test_distances_are_scaled_to_the_image(bump, image, unary):
    scores = label_map({"cat": bump(8, 10)}).probabilities
    # The image is 32 pixels wide.
    for side, share in ((512, 1 / 16), (32, 1.0), (16, 2.0)):
        scaled = DenseCRF(unary=unary, image_side=side)(image, scores)
        wanted = DenseCRF(bilateral_xy=80.0 * share, smoothness_xy=3.0 * share, unary=unary)
        torch.testing.assert_close(scaled, wanted(image, scores), rtol=0, atol=0)
    as_given = DenseCRF(unary=unary)(image, scores)
    torch.testing.assert_close(as_given, DenseCRF(unary=unary, image_side=32)(image, scores))


def test_bad_maps_are_refused(bump, image):
    with pytest.raises(InputError, match="There is no heat map"):
        label_map({})
    small = HeatMap(torch.rand(8, 8), "dog")
    with pytest.raises(InputError, match=r"of the sizes \[\(8, 8\), \(24, 32\)\]"):
        label_map({"cat": bump(8, 8), "dog": small})
    with pytest.raises(InputError, match="all in names="):
        label_map({"cat": bump(8, 8)}, names=["dog"])
    with pytest.raises(InputError, match="Attn2Mask's beta, from -1 to 1; got 3"):
        label_map({"cat": bump(8, 8)}, background=3)
    with pytest.raises(InputError, match="There is no image"):
        label_map({"dog": small}, crf=DenseCRF())
    with pytest.raises(
        InputError, match=r"The image is 32x24 pixels .*, the probabilities are 8x8"
    ):
        label_map({"dog": small}, crf=DenseCRF(), image=image.resize((32, 24)))


@pytest.mark.parametrize("number", [3, 254, -1, 256])
def test_an_unknown_label_is_refused(number):
    with pytest.raises(
        InputError, match=rf"Labels are 0 \(background\), 1 to 2 .* got \[{number}\]"
    ):
        Segmentation(torch.full((2, 3), number), ("cat", "dog"))


def test_a_flat_map_is_background():
    assert label_map({"cat": HeatMap(torch.full((4, 5), 0.3), "cat")}).areas == {"cat": 0.0}
