"""Boxes and points become label maps, by any segmenter and by a tiny random SAM."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from toy_sam import PlainSam2Processor, toy_sam, toy_sam2
from transformers.utils import is_torchvision_available

from diffusers_rdaam import (
    AttributionFileError,
    Box,
    InputError,
    RegionError,
    SamSegmenter,
    annotate,
    annotate_heat_maps,
    annotation_page,
    read_annotations,
)


def test_boxes_are_painted_small_over_large(image):
    found = annotate(image, {"cat": (0, 0, 20, 20), "dog": [(4, 4, 10, 12), (25, 2, 30, 8)]})
    assert found.names == ("cat", "dog") and found.image.size == image.size
    assert int(found.mask("dog").sum()) == 6 * 8 + 5 * 6
    assert int(found.mask("cat").sum()) == 400 - 48
    assert found.found == (1, 2)


def test_a_segmenter_is_given_each_box_with_its_point(image):
    calls = []

    def segmenter(picture, box, point):
        calls.append((box, point))
        mask = np.zeros((24, 32))
        mask[:2] = 1.0
        return mask

    found = annotate(
        image,
        {"cat": [(0, 0, 5, 5), (6, 6, 9, 9)]},
        {"cat": [(2, 3)], "dog": (20.5, 11)},
        segmenter=segmenter,
        names=["bird", "cat", "dog"],
    )
    assert calls == [
        (Box(0, 0, 5, 5), (2.0, 3.0)),
        (Box(6, 6, 9, 9), None),
        (None, (20.5, 11.0)),
    ]
    assert found.names == ("bird", "cat", "dog")
    assert set(found.areas) == {"cat", "dog"}


def test_attention_points_and_a_segmenter_fills(bump, image):
    heat_map = bump(12, 10, wide=3)
    seen = []

    def segmenter(picture, box, point):
        seen.append((box, point))
        return np.asarray(picture)[..., 0] < 120

    found = annotate_heat_maps({"square": heat_map}, segmenter=segmenter)
    assert seen == [(heat_map.box(), (12.5, 10.5))]
    truth = torch.zeros(24, 32, dtype=torch.bool)
    truth[6:16, 8:20] = True
    torch.testing.assert_close(found.mask("square"), truth)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({}, InputError, "nothing to annotate"),
        ({"boxes": {"cat": (40, 0, 50, 9)}}, RegionError, "outside"),
        ({"boxes": {"cat": (5, 5, 1, 1)}}, RegionError, "inverted"),
        ({"boxes": {"cat": [[(0, 0), (3, 0), (3, 3)]]}}, RegionError, "An annotation is a box"),
        ({"points": {"cat": (32, 3)}}, RegionError, r"A point is \(x, y\) inside"),
        ({"points": {"cat": "ab"}}, RegionError, "a point two; got 'ab'"),
        ({"points": {"cat": (3, 3)}}, InputError, "A point alone is not an area"),
        (
            {"boxes": {"cat": (0, 0, 5, 5)}, "names": ["dog"]},
            InputError,
            "not one of the classes in names=",
        ),
        (
            {"boxes": {"cat": (0, 0, 5, 5)}, "segmenter": lambda *_: np.zeros((3, 3))},
            InputError,
            r"a mask of shape \(3, 3\)",
        ),
    ],
)
def test_bad_annotations_are_refused(image, options, error, text):
    with pytest.raises(error, match=text):
        annotate(image, **options)


def test_maps_without_an_image_are_refused(bump):
    from dataclasses import replace

    bare = replace(bump(5, 5), image=None)
    with pytest.raises(InputError, match="Give image="):
        annotate_heat_maps({"cat": bare}, segmenter=lambda *_: None)


@pytest.fixture(scope="module")
def sam():
    """A SAM of some hundred weights, and its processor."""
    torch.manual_seed(0)
    return toy_sam()


def test_a_sam_answers_boxes_and_points_with_its_surest_mask(sam, image):
    model, processor = sam
    segmenter = SamSegmenter(model, processor)
    box, point = Box(4, 4, 20, 16), (10.0, 9.0)
    found = segmenter(image, box, point)
    given = processor(
        images=image,
        input_boxes=[[[4.0, 4.0, 20.0, 16.0]]],
        input_points=[[[[10.0, 9.0]]]],
        input_labels=[[[1]]],
        return_tensors="pt",
    )
    sizes = given.pop("original_sizes"), given.pop("reshaped_input_sizes")
    with torch.inference_mode():
        output = model(**given)
    masks = processor.post_process_masks(output.pred_masks, *sizes)[0]
    best = int(output.iou_scores.argmax())
    assert found.shape == (24, 32) and 0 < float(found.float().mean()) < 1
    torch.testing.assert_close(found, masks[0, best].bool())
    for one in (segmenter(image, box, None), segmenter(image, None, point)):
        assert one.shape == (24, 32) and one.dtype == torch.bool
    annotated = annotate(image, {"cat": box}, {"cat": point}, segmenter=segmenter)
    torch.testing.assert_close(annotated.mask("cat"), found)
    with pytest.raises(InputError, match="needs a box or a point"):
        segmenter(image, None, None)


@pytest.fixture(scope="module")
def sam2():
    torch.manual_seed(0)
    return toy_sam2()


def test_a_sam_2_answers_as_a_sam(sam2, image):
    """Its boxes, points and masks have the axes of the first SAM."""
    processor = PlainSam2Processor()
    segmenter = SamSegmenter(sam2, processor)
    box, point = Box(4, 4, 20, 16), (10.0, 9.0)
    found = segmenter(image, box, point)
    with torch.inference_mode():
        output = sam2(
            pixel_values=processor(images=image, return_tensors="pt")["pixel_values"],
            input_boxes=torch.tensor([[[4 * 2, 4 * 64 / 24, 20 * 2, 16 * 64 / 24]]]),
            input_points=torch.tensor([[[[10 * 2, 9 * 64 / 24]]]]),
            input_labels=torch.tensor([[[1]]]),
        )
    best = int(output.iou_scores.argmax())
    masks = torch.nn.functional.interpolate(output.pred_masks[0], size=(24, 32), mode="bilinear")
    assert found.shape == (24, 32) and 0 < float(found.float().mean()) < 1
    torch.testing.assert_close(found, masks[0, best] > 0)
    answers = [found, segmenter(image, box, None), segmenter(image, None, point)]
    assert all(one.shape == (24, 32) and one.dtype == torch.bool for one in answers)
    assert not torch.equal(answers[0], answers[1]) and not torch.equal(answers[1], answers[2])
    annotated = annotate(image, {"cat": box}, {"cat": point}, segmenter=segmenter)
    torch.testing.assert_close(annotated.mask("cat"), found)


@pytest.mark.skipif(not is_torchvision_available(), reason="torchvision is not installed")
@pytest.mark.parametrize("kind", ["sam2", "sam2_video"])
def test_a_sam_2_from_a_folder(sam2, image, tmp_path, kind):
    """Checkpoints of SAM 2 are of its model of videos, and name a processor of videos."""
    from transformers import (
        Sam2ImageProcessor,
        Sam2Processor,
        Sam2VideoProcessor,
        Sam2VideoVideoProcessor,
    )

    sizes = {"size": {"height": 64, "width": 64}, "mask_size": {"height": 16, "width": 16}}
    pictures = Sam2ImageProcessor(**sizes)
    processor = Sam2Processor(pictures, target_size=64)
    if kind == "sam2_video":
        processor = Sam2VideoProcessor(pictures, Sam2VideoVideoProcessor(**sizes), target_size=64)
    sam2.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": kind}))
    loaded = SamSegmenter.from_pretrained(tmp_path)
    assert type(loaded.processor) is Sam2Processor
    plain = SamSegmenter(sam2, PlainSam2Processor())
    for box, point in ((Box(4, 4, 20, 16), (10.0, 9.0)), (None, (10.0, 9.0))):
        # They resize by other filters.
        same = loaded(image, box, point) == plain(image, box, point)
        assert float(same.float().mean()) > 0.95


@pytest.mark.skipif(is_torchvision_available(), reason="torchvision is installed")
def test_a_sam_2_without_torchvision_says_what_to_install(sam2, tmp_path):
    sam2.save_pretrained(tmp_path)
    (tmp_path / "processor_config.json").write_text('{"processor_class": "Sam2Processor"}')
    with pytest.raises(InputError, match="SAM 2 needs torchvision: pip install torchvision"):
        SamSegmenter.from_pretrained(tmp_path)


def test_a_folder_that_is_not_a_sam_is_refused(tmp_path):
    with pytest.raises(InputError, match="No SAM could be loaded from"):
        SamSegmenter.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(InputError, match="it is a 'clip'; kinds: sam, sam_hq, sam2"):
        SamSegmenter.from_pretrained(tmp_path)


SAVED = {
    "format": "diffusers_rdaam.annotations",
    "version": "1",
    "size": [24, 32],
    "classes": ["cat", "dog"],
    "objects": [
        {"class": "dog", "box": [1, 2, 9, 10], "point": None},
        {"class": "dog", "box": [12, 2, 20, 10], "point": [15, 5.5]},
    ],
}


def test_what_a_page_saved_is_annotated(tmp_path, image):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(SAVED))
    points = []

    def segmenter(picture, box, point):
        points.append(point)
        return box.coverage((24, 32))

    found = annotate(image, read_annotations(path), segmenter=segmenter)
    assert points == [None, (15.0, 5.5)], "a point stays with its own box"
    assert found.names == ("cat", "dog") and found.areas == {"dog": 128 / (24 * 32)}
    with pytest.raises(InputError, match=r"of an image of \(24, 32\) .*, this one is \(12, 16\)"):
        annotate(image.resize((16, 12)), read_annotations(path))


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"version": "2"},
        {"size": [24]},
        {"size": ["a", 3]},
        {"classes": [3]},
        {"objects": [{"class": "cow", "box": None, "point": None}]},
        {"objects": [{"class": "cat", "box": [1, 2, 3], "point": None}]},
        {"objects": [{"class": "cat", "box": None, "point": ["1", 2]}]},
        {"objects": [{"class": "cat"}]},
        {"objects": 3},
    ],
)
def test_files_that_hold_no_annotations_are_refused(tmp_path, change):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({**SAVED, **change}))
    with pytest.raises(AttributionFileError, match="does not hold annotations"):
        read_annotations(path)


def test_a_page_is_one_file_whose_names_are_data(tmp_path, image):
    name = "</script><b>"
    path = annotation_page(image, ["cat", name], tmp_path / "page.html")
    text = path.read_text(encoding="utf-8")
    assert text.count("</script>") == 2 and "default-src &#x27;none&#x27;" in text
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert annotation_page(image, ["cat", name]) == text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"boxes": [(0, 0, 5, 5)]}, "boxes= has the classes' names: .* got a list"),
        ({"boxes": {"cat": (0, 0, 5, 5)}, "points": (1, 1)}, "points= has the classes' names"),
        ({"boxes": {"cat": 5}}, "A box is four numbers and a point two; got 5"),
        ({"boxes": {}, "points": {"cat": None}}, "A box is four numbers and a point two; got None"),
        ({"boxes": {"cat": (0, 0, 5, 5)}, "names": "cat"}, "names= are several classes; got the"),
    ],
)
def test_forms_that_are_none_of_boxes_and_points(image, options, text):
    with pytest.raises((InputError, RegionError), match=text):
        annotate(image, **options)
