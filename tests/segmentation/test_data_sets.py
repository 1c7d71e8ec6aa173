"""Data sets on disk: begun, gone on with, filtered, and opened as COCO and VOC."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from labelled_images import labelled
from PIL import Image
from pycocotools.coco import COCO

from diffusers_rdaam import AttributionFileError, InputError, write_coco, write_voc
from diffusers_rdaam.segmentation.classes import object_classes
from diffusers_rdaam.segmentation.folder import (
    SegmentationFolder,
    open_folder,
    read_kept,
    read_prompt_rows,
)
from diffusers_rdaam.segmentation.sample import SampleFacts, choose, is_safe_image


def test_what_was_written_is_read(data_set):
    again = open_folder(data_set.path)
    assert [facts.id for facts in again.samples()] == ["one", "two"]
    assert again.samples()[1].areas == labelled(cat=64, dog=33).areas
    found = again.segmentation("two")
    np.testing.assert_array_equal(found.labels, labelled(cat=64, dog=33).labels)
    np.testing.assert_array_equal(found.image, labelled().image)


def test_a_folder_of_somebody_else_is_opened(data_set):
    # Other settings, a field that is not ours, and a photo.
    file = data_set.path / "dataset.json"
    header = json.loads(file.read_text())
    header["classes"]["1"]["template"] = "a {}"
    del header["settings"], header["classes"]["2"]["words"]
    file.write_text(json.dumps(header))
    with Image.open(data_set.path / "images" / "one.png") as image:
        image.save(data_set.path / "images" / "one.jpg")
    (data_set.path / "images" / "one.png").unlink()
    again = open_folder(data_set.path)
    assert [one.words for one in again.classes] == [("cat",), ("dog",)]
    np.testing.assert_array_equal(again.segmentation("one").labels, labelled().labels)
    header["classes"] = {"2": {"name": "cat"}}
    file.write_text(json.dumps(header))
    with pytest.raises(InputError, match="classes are numbered from '1'"):
        open_folder(data_set.path)


def _rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# pycocotools 2.0.11 with numpy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pycocotools_opens_what_is_exported(data_set, capsys):
    instances, captions = write_coco(data_set, data_set.samples())
    coco = COCO(str(instances))
    assert [one["name"] for one in coco.loadCats(coco.getCatIds())] == ["cat", "dog"]
    for image in coco.loadImgs(coco.getImgIds()):
        id = image["file_name"].removesuffix(".png")
        with Image.open(data_set.path / "images" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])
        truth = data_set.segmentation(id)
        labels = np.zeros(truth.size, dtype=np.int64)
        for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
            mask = coco.annToMask(annotation).astype(bool)
            labels[mask] = annotation["category_id"]
            rows, columns = np.nonzero(mask)
            left, top, width, height = annotation["bbox"]
            assert (left, top) == (columns.min(), rows.min())
            assert (width, height) == (columns.max() + 1 - left, rows.max() + 1 - top)
            assert annotation["area"] == mask.sum() and annotation["iscrowd"] == 0
        np.testing.assert_array_equal(labels, truth.labels.numpy())
    texts = COCO(str(captions))
    assert texts.loadAnns(texts.getAnnIds(2))[0]["caption"] == "a cat and a dog"


def test_voc_s_layout(data_set):
    root = write_voc(data_set, data_set.samples(), validation=0.5)
    lists = {
        path.stem: path.read_text().split()
        for path in (root / "ImageSets" / "Segmentation").iterdir()
    }
    assert sorted(lists["train"] + lists["val"]) == lists["trainval"] == ["one", "two"]
    with Image.open(root / "SegmentationClass" / "two.png") as mask:
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.asarray(mask), data_set.segmentation("two").labels)
    with Image.open(root / "SegmentationObject" / "two.png") as mask:
        assert sorted(np.unique(np.asarray(mask))) == [0, 1, 2]
    with Image.open(root / "JPEGImages" / "two.jpg") as image:
        assert image.size == (32, 24)
    found = ElementTree.parse(root / "Annotations" / "two.xml").getroot()
    assert [one.findtext("name") for one in found.iter("object")] == ["cat", "dog"]
    edges = [int(one.text) for one in found.find("object/bndbox")]
    assert edges == [1, 1, 32, 2], "pixels from 1, the last one inside"


def test_a_class_s_name_is_data_in_xml(tmp_path):
    classes = object_classes(["<cat> & co", "dog"])
    folder = SegmentationFolder(tmp_path / "set", classes, {})
    segmentation = labelled()
    named = type(segmentation)(
        segmentation.labels, tuple(c.name for c in classes), segmentation.image
    )
    folder.add(SampleFacts("one", "a", 1, {"<cat> & co": 0.1}), named)
    root = write_voc(folder, folder.samples())
    found = ElementTree.parse(root / "Annotations" / "one.xml").getroot()
    assert found.findtext("object/name") == "<cat> & co"


def test_a_choice_moves_files_and_can_be_taken_back(data_set):
    samples = data_set.samples()
    data_set.publish(choose(samples, areas=None, per_class=1))
    rows = _rows(data_set.path / "prompts.jsonl")
    assert rows == [
        {"id": "one", "prompt": "a cat", "seed": 7,
         "targets": [{"text": "cat", "span": [2, 5], "class": 1}]},
    ]  # fmt: skip
    reasons = _rows(data_set.path / "dropped.jsonl")
    assert reasons == [{"id": "two", "reason": "1 images of cat are kept already"}]
    assert (data_set.path / "dropped" / "masks" / "two.png").exists()
    assert not (data_set.path / "images" / "two.png").exists()
    np.testing.assert_array_equal(
        data_set.segmentation("two").labels, labelled(cat=64, dog=33).labels
    )
    data_set.publish(choose(samples, areas=None))
    assert read_kept(data_set.path) == [("one", "a cat", 7), ("two", "a cat and a dog", 7)]
    assert (data_set.path / "images" / "two.png").exists()


def test_other_settings_or_classes_are_refused(data_set):
    with pytest.raises(InputError, match=r"begun with other settings: steps 4 \(now 5\)"):
        SegmentationFolder(data_set.path, data_set.classes, {"steps": 5})
    with pytest.raises(InputError, match="begun with other settings"):
        SegmentationFolder(data_set.path, object_classes(["cat"]), {"steps": 4})
    with pytest.raises(InputError, match="not empty and not a data set"):
        SegmentationFolder(data_set.path / "images", data_set.classes, {})


def test_a_cut_journal_line_is_made_again(data_set):
    journal = data_set.path / "generated.jsonl"
    journal.write_text(journal.read_text()[:-20])
    assert [facts.id for facts in data_set.samples()] == ["one"]
    segmentation = labelled(cat=64, dog=33)
    data_set.add(SampleFacts("two", "a cat and a dog", 7, segmentation.areas), segmentation)
    assert [facts.id for facts in data_set.samples()] == ["one", "two"]
    journal.write_text('{"id": "../x"}\n')
    with pytest.raises(AttributionFileError, match=r"Line 1 of .*generated\.jsonl"):
        data_set.samples()


def test_spoilt_masks_are_refused_by_name(data_set):
    mask = data_set.path / "masks" / "one.png"
    Image.new("L", (32, 24), 9).save(mask)
    with pytest.raises(InputError, match=r"one\.png: Labels are 0 .* got \[9\]"):
        data_set.segmentation("one")
    Image.new("L", (16, 24)).save(mask)
    with pytest.raises(AttributionFileError, match=r"one\.png is a mask of 16x24 pixels"):
        data_set.segmentation("one")
    Image.new("RGB", (32, 24)).save(mask)
    with pytest.raises(AttributionFileError, match="in mode RGB"):
        data_set.segmentation("one")
    mask.unlink()
    with pytest.raises(AttributionFileError, match="There is no image"):
        data_set.segmentation("one")


def test_what_is_not_counted_is_what_the_header_says(data_set):
    """As rdaam evaluate reads the same folder."""
    file, mask = data_set.path / "dataset.json", data_set.path / "masks" / "one.png"
    header = json.loads(file.read_text())
    labels = np.zeros((24, 32), dtype=np.uint8)
    labels[:6], labels[6:9], labels[9:12] = 1, 200, 255
    Image.fromarray(labels).save(mask)

    def ignored(**facts):
        file.write_text(json.dumps({**header, **facts}))
        found = open_folder(data_set.path).segmentation("one")
        assert found.areas["cat"] == 0.25
        return found.ignored.numpy()

    with pytest.raises(InputError, match=r"one\.png: Labels are 0 .* got \[200\]"):
        ignored()
    with pytest.raises(InputError, match=r"one\.png: 255 is not a class, and dataset\.json does"):
        ignored(ignore=200)
    labels[9:12] = 0
    Image.fromarray(labels).save(mask)
    np.testing.assert_array_equal(ignored(ignore=200), labels == 200)
    np.testing.assert_array_equal(ignored(ignore=200, background=None), labels != 1)
    labels[6:9] = 255
    Image.fromarray(labels).save(mask)
    np.testing.assert_array_equal(ignored(), labels == 255)
    for wrong in ({"ignore": "255"}, {"ignore": True}, {"background": 1}, {"background": False}):
        with pytest.raises(InputError, match="'ignore' is a number of the masks or null"):
            ignored(**wrong)


def _facts(id: str, **more) -> SampleFacts:
    return SampleFacts(id, "a cat", 0, **{"areas": {"cat": 0.2}, **more})


def test_percentiles_are_of_each_class():
    samples = [_facts(f"c{n:02d}", areas={"cat": n / 100}) for n in range(1, 41)]
    samples += [_facts(f"d{n:02d}", areas={"dog": 0.5 + n / 100}) for n in range(40)]
    found = choose(samples, areas=(5, 95), clip=None)
    low, high = np.percentile([n / 100 for n in range(1, 41)], [5, 95])
    cats = [one.id for one in found.kept if "cat" in one.areas]
    assert cats == [f"c{n:02d}" for n in range(1, 41) if low <= n / 100 <= high]
    assert len(found.kept) == 72 and set(found.dropped) >= {"c01", "c40", "d00", "d39"}
    assert found.dropped["c01"].startswith("area of cat 0.0100 is below 0.0295, percentile 5")
    few = choose(samples[:19], areas=(5, 95))
    assert not few.dropped, "percentiles of 19 images say nothing"


def test_unsafe_and_empty_images_are_never_kept():
    samples = [_facts("a", is_safe=False), _facts("b", areas={"cat": 0.0}), _facts("c", areas={})]
    found = choose([*samples, _facts("d")], areas=None)
    assert [one.id for one in found.kept] == ["d"]
    assert found.dropped == {"a": "not safe", "b": "no pixel of cat", "c": "no class"}


def test_clip_drops_the_lowest_quarter_and_nothing_that_was_not_ranked():
    samples = [_facts(f"c{n:02d}", clip={"cat": n / 40}) for n in range(40)]
    found = choose([*samples, _facts("unranked")], areas=None)
    assert list(found.dropped) == [f"c{n:02d}" for n in range(10)]


def test_classes_are_balanced():
    samples = [_facts(f"c{n}") for n in range(5)] + [_facts("d", areas={"dog": 0.1})]
    assert [one.id for one in choose(samples, areas=None, per_class="least").kept] == ["c0", "d"]
    assert len(choose(samples, areas=None, per_class=3).kept) == 4


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"areas": (-1, 95)}, "from 0 to 100; got -1"),
        ({"areas": (95, 5)}, "the lowest and the highest"),
        ({"clip": 101}, "from 0 to 100; got 101"),
        ({"per_class": 0}, "per_class="),
    ],
)
def test_bad_filters_are_refused(options, text):
    with pytest.raises(InputError, match=text):
        choose([_facts("a")], **options)
    with pytest.raises(InputError, match="The id 'a' occurs twice"):
        choose([_facts("a"), _facts("a")])


def test_a_black_image_is_not_safe(image):
    assert is_safe_image(image) and not is_safe_image(image, True)
    assert not is_safe_image(Image.new("RGB", (8, 8)))
    assert not is_safe_image(Image.new("RGB", (8, 8), (9, 8, 7)))


def test_prompts_of_a_file(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("a cat\n\n a dog \n")
    assert list(read_prompt_rows(path)) == [("000001", "a cat", None), ("000003", "a dog", None)]
    lines = tmp_path / "prompts.jsonl"
    lines.write_text('{"id": "x", "prompt": "a cat", "seed": 3}\n{"prompt": "a dog"}\n')
    assert list(read_prompt_rows(lines)) == [("x", "a cat", 3), ("000002", "a dog", None)]
    for bad, text in (
        ('{"prompt": ""}', "Line 1 .* is not a prompt"),
        ('{"prompt": 3}', "is not a prompt"),
        ('["a cat"]', "is not a prompt"),
        ("{", "is not JSON"),
        ('{"prompt": "a", "seed": -1}', "is not a prompt"),
        ('{"prompt": "a", "id": "../x"}', "An image's id names its files"),
        ('{"prompt": "a", "id": "x"}\n{"prompt": "b", "id": "x"}', "Line 2 .* an earlier one has"),
    ):
        lines.write_text(bad + "\n")
        with pytest.raises(InputError, match=text):
            list(read_prompt_rows(lines))
