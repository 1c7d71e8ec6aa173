"""Classes, where prompts name them, and the label map of an attribution."""

from __future__ import annotations

import json

import pytest
import torch

from diffusers_rdaam import InputError, NoAttributionError, ObjectClass, WordError, segment
from diffusers_rdaam.segmentation.classes import COCO80, VOC20, object_classes, read_classes


def test_the_longer_of_two_words_counts():
    circle = ObjectClass("circle", ("circle", "red circle"))
    text = "a red circle and a blue circle"
    assert [text[start:end] for start, end in circle.spans(text)] == ["red circle", "circle"]
    assert circle.spans("a square") == ()
    assert ObjectClass("cat").spans("a scat") == ()


def test_tables_have_their_lengths_and_order():
    assert len(VOC20) == 20 and list(VOC20)[:2] == ["aeroplane", "bicycle"]
    assert list(VOC20)[-1] == "tvmonitor"
    assert len(COCO80) == 80 == len(set(COCO80))
    assert (COCO80[0], COCO80[-1]) == ("person", "toothbrush")
    assert [one.name for one in object_classes("demo")][:2] == ["circle", "square"]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("voc", "There is no table of classes 'voc'. Tables: voc20, coco80, demo"),
        ([], "1 to 254 classes"),
        ([f"class {n}" for n in range(255)], "got 255"),
        (["cat", "Cat"], "occurs twice"),
        (["dining table", "dining  table"], "occurs twice"),
        (["  "], "A class has a name"),
        ([3], "A class has a name"),
        ({"cat": "cat"}, "are a list of texts"),
        (3, "Classes are a list of names; got a int"),
    ],
)
def test_bad_classes_are_refused(given, text):
    with pytest.raises(InputError, match=text):
        object_classes(given)


def test_classes_of_a_file(tmp_path):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps({"tvmonitor": ["tv", "television"], "cat": ["cat"]}))
    assert [one.words for one in read_classes(path)] == [("tv", "television"), ("cat",)]
    path.write_text('["cat", "dog"]')
    assert [one.name for one in read_classes(path)] == ["cat", "dog"]
    for bad in ("3", "{", '["cat", "cat"]', '{"cat": 3}'):
        path.write_text(bad)
        with pytest.raises(InputError, match="does not hold classes"):
            read_classes(path)
    with pytest.raises(InputError, match="There is no file of classes"):
        read_classes(tmp_path / "none.json")


def test_a_class_s_map_is_the_highest_of_its_phrases(make_attribution):
    attribution = make_attribution("a red cat and a blue cat on a mat")
    found = segment(attribution, {"cat": ["red cat", "blue cat"], "dog": ["dog"], "mat": ["mat"]})
    assert found.names == ("cat", "dog", "mat") and found.found == (1, 3)
    assert found.image is attribution.image
    red, blue, mat = (attribution.word(text).normalized for text in ("red cat", "blue cat", "mat"))
    middle = attribution.word("mat").threshold
    cat = torch.maximum(red, blue)
    cat = (cat - cat.min()) / (cat.max() - cat.min())
    higher = (cat > mat) & (torch.maximum(cat, mat) > middle)
    torch.testing.assert_close(found.mask("cat"), higher)


def test_refinements_are_those_of_heat_maps(make_attribution):
    attribution = make_attribution("a cat on a mat")
    found = segment(attribution, ["cat"], refine="guided")
    torch.testing.assert_close(found.mask("cat"), attribution.word("cat").sharpened().mask())
    with pytest.raises(NoAttributionError, match="self"):
        segment(attribution, ["cat"], refine="self")
    with pytest.raises(InputError, match="'more' is not a refinement"):
        segment(attribution, ["cat"], refine="more")


def test_a_prompt_without_the_classes_is_refused(make_attribution):
    with pytest.raises(WordError, match="names none of the classes: dog, bird"):
        segment(make_attribution("a cat on a mat"), ["dog", "bird"])
    with pytest.raises(WordError, match="prompt_embeds"):
        segment(make_attribution(None), ["dog"])


def test_tokens_stand_in_for_words(make_attribution, bump):
    attribution = make_attribution("a cat on a mat", size=(24, 32))
    found = segment(attribution, ["cat", "dog"], tokens={"dog": bump(20, 10)})
    assert found.found == (1, 2)
    assert bool(found.mask("dog")[10, 20])
