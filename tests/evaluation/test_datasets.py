"""Every format: two images of 8 x 6 with what is awkward in it, compared with what was written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusers_rdaam.errors import DataSetError, InputError
from diffusers_rdaam.evaluation.datasets import class_lists
from diffusers_rdaam.evaluation.datasets.coco import panoptic_picture
from diffusers_rdaam.evaluation.datasets.formats import FORMATS, open_dataset
from diffusers_rdaam.evaluation.datasets.plain_folder import write_dataset
from diffusers_rdaam.evaluation.datasets.run_length_text import (
    counts_of_text,
    polygon_mask,
    text_of_counts,
)
from diffusers_rdaam.evaluation.sample import DataSet, Sample, Target
from diffusers_rdaam.geometry.run_lengths import run_lengths
from diffusers_rdaam.images.input_images import as_rgb

HEIGHT, WIDTH = 6, 8
SIZE = (HEIGHT, WIDTH)


def numbers(*rows_and_values, fill=0):
    """A label map: ``(rows, columns, value)`` slices over a ground."""
    found = np.full(SIZE, fill, dtype=np.int64)
    for rows, columns, value in rows_and_values:
        found[rows, columns] = value
    return found


def save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def photo(path: Path, seed: int = 0, size=(WIDTH, HEIGHT)) -> None:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    save(path, Image.fromarray(pixels))


def palette(path: Path, values: np.ndarray) -> None:
    image = Image.fromarray(values.astype(np.uint8), mode=None)
    image = image.convert("P")
    image.putdata(values.astype(np.uint8).ravel().tolist())
    # Colours that are not their numbers, as VOC's.
    image.putpalette([(i * 37 + 90) % 256 for i in range(768)])
    save(path, image)


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def masks(sample: Sample) -> dict[str, np.ndarray]:
    return {str(one.class_name): one.mask for one in sample.targets}


def assert_labels(sample: Sample, values: np.ndarray, names: dict[int, str], unscored) -> None:
    """The sample's targets and ignored pixels are those of a label map."""
    present = {n: names[n] for n in np.unique(values).tolist() if n in names}
    found = masks(sample)
    assert found.keys() == set(present.values())
    for number, name in present.items():
        np.testing.assert_array_equal(found[name], values == number)
    ignored = np.isin(values, list(unscored))
    if ignored.any():
        np.testing.assert_array_equal(sample.ignore, ignored)
    else:
        assert sample.ignore is None
    assert sample.size == SIZE


VOC_MAPS = {
    "2007_000001": numbers((slice(1, 4), slice(2, 7), 12), (4, slice(None), 255)),
    "2007_000002": numbers((slice(0, 3), slice(0, 3), 15), (slice(3, 6), slice(5, 8), 11)),
}


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for number, (name, values) in enumerate(VOC_MAPS.items()):
        photo(root / "JPEGImages" / f"{name}.jpg", number)
        palette(root / "SegmentationClass" / f"{name}.png", values)
    write_text(root / "ImageSets/Segmentation/val.txt", "\n".join(VOC_MAPS) + "\n")
    return tmp_path


def test_voc_reads_indices_and_not_colours_and_ignores_the_border(voc):
    data = open_dataset(voc, "voc2012")
    assert data.ids == tuple(VOC_MAPS) and len(data.classes) == 20 and not data.generated
    names = dict(enumerate(class_lists.VOC, start=1))
    for name, values in VOC_MAPS.items():
        assert_labels(data[name], values, names, [255])
    assert [one.text for one in data["2007_000002"].targets] == ["dining table", "person"]


def test_vocs_numbers_are_in_the_order_of_its_development_kit():
    names = """
        aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike
        person pottedplant sheep sofa train tvmonitor"""
    assert " ".join(class_lists.VOC) == " ".join(names.split())


def test_voc_with_plain_label_maps_and_with_those_of_sbd(voc):
    import scipy.io

    root = voc / "VOCdevkit" / "VOC2012"
    values = VOC_MAPS["2007_000002"]
    for name in VOC_MAPS:
        save(root / f"SegmentationClassAug/{name}.png", Image.fromarray(values.astype(np.uint8)))
        (root / "cls").mkdir(exist_ok=True)
        cell = {"Segmentation": values.astype(np.uint8)}
        scipy.io.savemat(root / f"cls/{name}.mat", {"GTcls": cell})
    for kind in ("SegmentationClassAug", "cls"):
        sample = open_dataset(voc, "voc2012", masks=kind)["2007_000001"]
        assert_labels(sample, values, dict(enumerate(class_lists.VOC, start=1)), [255])


def test_a_number_that_is_not_a_class_and_a_mask_of_another_size_are_errors(voc):
    path = voc / "VOCdevkit/VOC2012/SegmentationClass/2007_000001.png"
    palette(path, numbers((1, 1, 77)))
    data = open_dataset(voc, "voc2012")
    with pytest.raises(DataSetError, match=r"2007_000001.png has the number 77, which is not a"):
        data["2007_000001"]
    save(path, Image.fromarray(np.ones((WIDTH, HEIGHT), np.uint8)))
    with pytest.raises(DataSetError, match="6 wide and 8 high, the image 8 wide and 6 high"):
        data["2007_000001"]
    assert data["2007_000002"].targets, "the other images are not touched by it"


def test_a_mask_in_colours_or_broken_is_an_error_that_names_the_file(voc):
    path = voc / "VOCdevkit/VOC2012/SegmentationClass/2007_000001.png"
    data = open_dataset(voc, "voc2012")
    save(path, Image.new("RGB", (WIDTH, HEIGHT)))
    with pytest.raises(DataSetError, match=r"2007_000001.png is an image of mode RGB; a label map"):
        data["2007_000001"]
    path.write_bytes(b"\x89PNG nothing")
    with pytest.raises(DataSetError, match=r"2007_000001.png cannot be read as an image"):
        data["2007_000001"]


@pytest.fixture
def context(tmp_path):
    write_context(tmp_path)
    return tmp_path


CONTEXT = {
    "2008_000002": numbers((slice(0, 2), slice(None), 360), (slice(3, 6), slice(2, 5), 2), fill=7),
    "2008_000003": numbers((slice(0, 5), slice(1, 4), 113), fill=187),
}


def write_context(root: Path) -> None:
    images, annotations = [], []
    for number, (name, values) in enumerate(CONTEXT.items(), start=5):
        photo(root / "JPEGImages" / f"{name}.jpg", number)
        images.append(
            {
                "image_id": number,
                "file_name": f"{name}.jpg",
                "phase": "val",
                "height": HEIGHT,
                "width": WIDTH,
            }
        )
        # The ground first: later annotations are drawn over it.
        whole = {"image_id": number, "category_id": int(values[5, 7])}
        annotations.append({**whole, "segmentation": run_lengths_of(np.ones(SIZE, bool))})
        for value in np.unique(values).tolist():
            if value != int(values[5, 7]):
                form = run_lengths_of(values == value, compressed=value == 360)
                annotations.append({"image_id": number, "category_id": value, "segmentation": form})
    photo(root / "JPEGImages" / "2008_000001.jpg")
    other = {"image_id": 4, "file_name": "2008_000001.jpg", "phase": "train"}
    images.append({**other, "height": HEIGHT, "width": WIDTH})
    form = run_lengths_of(np.ones(SIZE, bool))
    annotations.append({"image_id": 4, "category_id": 454, "segmentation": form})
    text = json.dumps({"images": images, "annos_segmentation": annotations})
    write_text(root / "trainval_merged.json", text)


def run_lengths_of(mask: np.ndarray, *, compressed: bool = False):
    import torch

    form = dict(run_lengths(torch.from_numpy(mask)))
    return {**form, "counts": text_of_counts(form["counts"])} if compressed else form


def test_pascal_contexts_numbers_are_those_of_its_authors():
    # In the order of frequency, as the data set's page has them.
    numbers = """
        2 259 260 415 324 9 258 144 18 19 22 23 397 25 284 158 159 416 33 162 420 454 295 296 427
        44 45 46 308 59 440 445 31 232 65 354 424 68 326 72 458 34 207 80 355 85 347 220 349 360
        98 187 104 105 366 189 368 113 115"""
    assert class_lists.CONTEXT_59.keys() == set(map(int, numbers.split()))


def test_pascal_context_from_json_and_from_matlab(context):
    import scipy.io

    names = class_lists.CONTEXT_59
    assert len(names) == 59 and list(names.values()) == sorted(names.values())
    others = set(range(460)) - names.keys()
    data = open_dataset(context, "pascal_context")
    assert data.ids == tuple(CONTEXT), "the image of the other split is left out"
    for name, values in CONTEXT.items():
        assert_labels(data[name], values, names, others)
    assert open_dataset(context, "pascal_context", split="train").ids == ("2008_000001",)
    with pytest.raises(DataSetError, match=r"has no image of 'test'. Phases: train, val"):
        open_dataset(context, "pascal_context", split="test")
    (context / "trainval_merged.json").unlink()
    (context / "trainval").mkdir()
    for name, values in CONTEXT.items():
        scipy.io.savemat(context / f"trainval/{name}.mat", {"LabelMap": values.astype(np.uint16)})
    write_text(context / "val.txt", "\n".join(CONTEXT))
    again = open_dataset(context, "pascal_context")
    for name, values in CONTEXT.items():
        assert_labels(again[name], values, names, others)


SQUARE = [1, 1, 4, 1, 4, 4, 1, 4]


def test_a_polygon_is_half_open_as_in_cocos_tools():
    mask = polygon_mask(SQUARE, (6, 6), "here")
    wanted = np.zeros((6, 6), dtype=bool)
    wanted[1:4, 1:4] = True
    np.testing.assert_array_equal(mask, wanted)


def test_run_lengths_as_text_are_column_by_column():
    assert text_of_counts([0, 2, 1, 1]) == "021O"
    assert counts_of_text(b"021O") == [0, 2, 1, 1]


# The library's own use of numpy.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("seed", range(8))
def test_polygons_and_run_lengths_are_those_of_pycocotools(seed):
    from pycocotools import mask as tools

    rng = np.random.default_rng(seed)
    height, width = rng.integers(5, 60, 2).tolist()
    points = (rng.random((int(rng.integers(3, 9)), 2)) * [width + 6, height + 6] - 3).ravel()
    if seed % 2:
        points = points.round(1)
    (form,) = tools.frPyObjects([points.tolist()], height, width)
    wanted = tools.decode(form).astype(bool)
    np.testing.assert_array_equal(polygon_mask(points, (height, width), "here"), wanted)
    plain = tools.frPyObjects(
        {"size": [height, width], "counts": counts_of_text(form["counts"])}, height, width
    )
    assert plain["counts"] == form["counts"]
    assert text_of_counts(counts_of_text(form["counts"])).encode() == form["counts"]


def coco_root(root: Path) -> Path:
    images = [
        {"id": 9, "file_name": "000000000009.jpg", "width": WIDTH, "height": HEIGHT},
        {"id": 25, "file_name": "000000000025.jpg", "width": WIDTH, "height": HEIGHT},
    ]
    for number in (9, 25):
        photo(root / "val2017" / f"{number:012d}.jpg", number)
    crowd = np.zeros(SIZE, dtype=bool)
    crowd[:, 5:] = True
    annotations = [
        # Two polygons are one object.
        {
            "id": 1,
            "image_id": 9,
            "category_id": 18,
            "iscrowd": 0,
            "segmentation": [[1, 1, 3, 1, 3, 3, 1, 3], [4, 3, 7, 3, 7, 5, 4, 5]],
            "bbox": [1, 1, 6, 4],
        },
        {
            "id": 2,
            "image_id": 9,
            "category_id": 1,
            "iscrowd": 1,
            "segmentation": run_lengths_of(crowd),
        },
        {
            "id": 3,
            "image_id": 25,
            "category_id": 90,
            "iscrowd": 0,
            "segmentation": run_lengths_of(~crowd, compressed=True),
        },
    ]
    categories = [
        {"id": 90, "name": "toothbrush"},
        {"id": 1, "name": "person"},
        {"id": 18, "name": "dog"},
    ]
    found = {"images": images, "annotations": annotations, "categories": categories}
    write_text(root / "annotations/instances_val2017.json", json.dumps(found))
    listed = [(9, "A dog and people. "), (9, "People with a dog.")]
    captions = {"annotations": [{"image_id": n, "caption": text} for n, text in listed]}
    write_text(root / "annotations/captions_val2017.json", json.dumps(captions))
    return root


def test_coco_instances_have_gaps_in_their_ids_crowds_and_several_polygons(tmp_path):
    data = open_dataset(coco_root(tmp_path), "coco_instances")
    assert [one.name for one in data.classes] == ["person", "dog", "toothbrush"]
    first, second = data
    (dog,) = first.targets
    wanted = np.zeros(SIZE, dtype=bool)
    wanted[1:3, 1:3] = wanted[3:5, 4:7] = True
    np.testing.assert_array_equal(dog.mask, wanted)
    assert dog.edges == (1.0, 1.0, 7.0, 5.0) and first.prompt == "A dog and people."
    crowd = np.zeros(SIZE, dtype=bool)
    crowd[:, 5:] = True
    np.testing.assert_array_equal(first.ignore, crowd & ~wanted)
    assert first.meta == {"crowds": 1}
    np.testing.assert_array_equal(masks(second)["toothbrush"], ~crowd)
    assert second.prompt is None and second.ignore is None


def test_coco_panoptic_ids_are_over_255(tmp_path):
    root = coco_root(tmp_path)
    ids = numbers(
        (slice(1, 3), slice(1, 5), 70_001), (slice(4, 6), slice(None), 300), (3, slice(None), 9)
    )
    save(root / "annotations/panoptic_val2017/000000000009.png", panoptic_picture(ids))
    found = json.loads((root / "annotations/instances_val2017.json").read_text())
    found["images"] = found["images"][:1]
    found["annotations"] = [
        {
            "image_id": 9,
            "file_name": "000000000009.png",
            "segments_info": [
                {"id": 70_001, "category_id": 18, "iscrowd": 0},
                {"id": 300, "category_id": 1, "iscrowd": 0},
                {"id": 9, "category_id": 1, "iscrowd": 1},
            ],
        }
    ]
    write_text(root / "annotations/panoptic_val2017.json", json.dumps(found))
    (sample,) = open_dataset(root, "coco_panoptic")
    np.testing.assert_array_equal(masks(sample)["dog"], ids == 70_001)
    np.testing.assert_array_equal(masks(sample)["person"], ids == 300)
    np.testing.assert_array_equal(sample.ignore, (ids == 0) | (ids == 9))


def test_coco_stuff_and_its_27_classes(tmp_path):
    values = numbers(
        *((0, slice(None), 255), (slice(1, 3), slice(None), 52), (5, 1, 120), (5, 2, 18)), fill=17
    )
    for name in ("000000000009", "000000000025"):
        photo(tmp_path / "val2017" / f"{name}.jpg")
        path = tmp_path / "stuffthingmaps/val2017" / f"{name}.png"
        save(path, Image.fromarray(values.astype(np.uint8)))
    names = {18: "dog", 19: "horse", 53: "apple", 121: "food-other"}
    listed = "".join(f"{number}: {name}\n" for number, name in names.items())
    write_text(tmp_path / "labels.txt", f"0: unlabeled\n{listed}")
    fine = open_dataset(tmp_path, "coco_stuff")["000000000009"]
    assert_labels(fine, values, {number - 1: name for number, name in names.items()}, [255])
    coarse = open_dataset(tmp_path, "coco_stuff_27")
    together = np.where(values == 18, 17, values)
    wanted = {17: "animal", 52: "food-things", 120: "food-stuff"}
    assert_labels(coarse["000000000025"], together, wanted, [255])
    sizes = [list(class_lists.stuff_27().values()).count(one.name) for one in coarse.classes]
    assert sizes[:12] == [6, 6, 10, 10, 8, 8, 8, 10, 6, 1, 10, 8]
    assert sizes[12:] == [2, 6, 4, 11, 4, 11, 7, 2, 6, 11, 9, 2, 6, 5, 5] and sum(sizes) == 182


def test_coco_stuffs_names_come_from_its_annotations_where_there_is_no_list(tmp_path):
    photo(tmp_path / "val2017/000000000009.jpg")
    values = numbers((0, slice(None), 170), fill=17)
    path = tmp_path / "stuffthingmaps/val2017/000000000009.png"
    save(path, Image.fromarray(values.astype(np.uint8)))
    with pytest.raises(DataSetError, match="The names of COCO-Stuff's classes are not in"):
        open_dataset(tmp_path, "coco_stuff")
    for kind, entry in (("instances", (18, "dog")), ("stuff", (171, "wall-brick"))):
        categories = [dict(zip(("id", "name"), entry, strict=True))]
        text = json.dumps({"categories": categories})
        write_text(tmp_path / f"annotations/{kind}_val2017.json", text)
    (sample,) = open_dataset(tmp_path, "coco_stuff")
    assert_labels(sample, values, {17: "dog", 170: "wall-brick"}, [255])
    assert [one.text for one in sample.targets] == ["dog", "brick wall"]


def test_imagenet_segmentation_turns_matlabs_axes(tmp_path):
    import h5py

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)
    labels = [numbers((slice(1, 4), slice(2, 7), 1)), numbers((slice(2, 6), slice(0, 2), 3))]
    with h5py.File(tmp_path / "gtsegs_ijcv.mat", "w") as file:
        parts = {
            key: file.create_dataset(f"value/{key}", (2, 1), dtype=h5py.ref_dtype)
            for key in ("img", "gt", "id")
        }
        for number, text in enumerate(["n02084071_10", "n01503061_4"]):
            image = file.create_dataset(f"i{number}", data=pixels[number].transpose(2, 1, 0))
            mask = file.create_dataset(f"m{number}", data=labels[number].T.astype(np.uint8))
            cell = file.create_dataset(f"c{number}", (1, 1), dtype=h5py.ref_dtype)
            cell[0, 0] = mask.ref
            codes = np.array([[ord(c)] for c in text], dtype=np.uint16)
            name = file.create_dataset(f"n{number}", data=codes)
            for key, one in (("img", image), ("gt", cell), ("id", name)):
                parts[key][number, 0] = one.ref
    with pytest.raises(DataSetError, match=r"There is no .*classes.json: a JSON object"):
        open_dataset(tmp_path, "imagenet_segmentation")
    write_text(tmp_path / "classes.json", json.dumps({"n02084071": "dog", "n01503061": "bird"}))
    data = open_dataset(tmp_path, "imagenet_segmentation")
    for number, sample in enumerate(data):
        np.testing.assert_array_equal(np.asarray(sample.image), pixels[number])
        (target,) = sample.targets
        np.testing.assert_array_equal(target.mask, labels[number] != 0)
    assert [sample.targets[0].text for sample in data] == ["dog", "bird"]


def test_ade20k_ignores_zero_and_strips_blanks(tmp_path):
    values = numbers((slice(1, 4), slice(2, 7), 8), (5, slice(None), 2))
    for name in ("ADE_val_00000001", "ADE_val_00000002"):
        photo(tmp_path / f"images/validation/{name}.jpg")
        path = tmp_path / f"annotations/validation/{name}.png"
        save(path, Image.fromarray(values.astype(np.uint8)))
    table = "Idx\tRatio\tTrain\tVal\tName\n2\t.1\t1\t1\tbuilding; edifice\n8 \t.02\t1\t1\tbed \n"
    write_text(tmp_path / "objectInfo150.txt", table)
    data = open_dataset(tmp_path, "ade20k")
    assert data.classes[0].words == ("building", "edifice")
    for sample in data:
        assert_labels(sample, values, {2: "building", 8: "bed"}, [0])


def test_two_classes_of_ade20k_that_begin_with_one_word_stay_two(tmp_path):
    values = numbers((slice(1, 4), slice(2, 7), 131), (5, slice(None), 144))
    photo(tmp_path / "images/validation/one.jpg")
    save(tmp_path / "annotations/validation/one.png", Image.fromarray(values.astype(np.uint8)))
    table = "131\t.1\t1\t1\tscreen;silver screen\n144\t.1\t1\t1\tscreen, CRT screen\n"
    write_text(tmp_path / "objectInfo150.txt", table)
    (sample,) = open_dataset(tmp_path, "ade20k")
    assert_labels(sample, values, {131: "screen", 144: "screen, CRT screen"}, [0])


def test_cityscapes_table_is_that_of_its_scripts():
    scored = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
    names = (
        *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light"),
        *("traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car", "truck"),
        *("bus", "train", "motorcycle", "bicycle"),
    )
    assert list(class_lists.CITYSCAPES.items()) == list(zip(scored, names, strict=True))


def test_cityscapes_scores_only_the_19_classes(tmp_path):
    values = numbers((0, slice(None), 4), (slice(1, 3), slice(None), 7), (5, 5, 33), fill=0)
    for name in ("ulm_000000_000019", "ulm_000001_000019"):
        photo(tmp_path / f"leftImg8bit/val/ulm/{name}_leftImg8bit.png")
        path = tmp_path / f"gtFine/val/ulm/{name}_gtFine_labelIds.png"
        save(path, Image.fromarray(values.astype(np.uint8)))
    data = open_dataset(tmp_path, "cityscapes")
    assert len(data.classes) == 19 and data.classes[10].name == "sky"
    for sample in data:
        assert_labels(sample, values, {7: "road", 33: "bicycle"}, [0, 4])


def test_daams_folders_take_alpha_and_stems_in_lower_case(tmp_path):
    mask = np.zeros((*SIZE, 4), dtype=np.uint8)
    mask[1:4, 2:5, 3] = 128
    mask[..., :3] = 255
    for name in ("101", "7"):
        folder = tmp_path / name
        photo(folder / "output.png")
        save(folder / "Dog.gt.png", Image.fromarray(mask))
        write_text(folder / "prompt.txt", "a dog runs\n")
        write_text(folder / "seed.txt", "42\n")
        (folder / "generation.pt").write_bytes(b"never opened")
    data = open_dataset(tmp_path, "daam")
    assert data.generated
    for sample in data:
        (dog,) = sample.targets
        assert (dog.text, sample.seed, sample.prompt) == ("dog", 42, "a dog runs")
        np.testing.assert_array_equal(dog.mask, mask[..., 3] > 0)
    # A sub-experiment is a folder in each.
    photo(tmp_path / "101/swapped/output.png", seed=5)
    swapped = open_dataset(tmp_path, "daam", split="swapped")["101"]
    with Image.open(tmp_path / "101/swapped/output.png") as wanted:
        np.testing.assert_array_equal(np.asarray(swapped.image), np.asarray(wanted))
    write_text(tmp_path / "7/seed.txt", "-1")
    with pytest.raises(DataSetError, match="a seed is a whole number from 0"):
        data["7"]


def test_ovams_annotations_of_an_image_are_one_mask(tmp_path):
    parts = [np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)]
    parts[0][1:3, 1:4], parts[1][4, 5:] = 255, 7
    for stem in ("dining-table_stable-diffusion-v1-5_seed3", "tv_stable-diffusion-v1-5_seed0"):
        photo(tmp_path / f"images/{stem}.png")
        for number, part in enumerate(parts):
            # An object is any pixel that is not black, in whichever channel.
            colours = np.stack([part, part * 0, part * 0], axis=-1)
            save(tmp_path / f"annotations/{stem}_{number}.png", Image.fromarray(colours))
    # Of another image, whose name begins alike.
    whole = Image.new("RGB", (WIDTH, HEIGHT), "white")
    save(tmp_path / "annotations/tv_stable-diffusion-v1-5_seed01_0.png", whole)
    data = open_dataset(tmp_path, "ovam_voc_sim")
    first = data[data.ids[0]]
    assert data.generated and first.prompt == "a photograph of a dining table" and first.seed == 3
    np.testing.assert_array_equal(first.targets[0].mask, (parts[0] > 0) | (parts[1] > 0))
    second = data[data.ids[1]]
    assert second.targets[0].class_name == "tvmonitor"
    np.testing.assert_array_equal(second.targets[0].mask, (parts[0] > 0) | (parts[1] > 0))


def coco_cap(root: Path) -> Path:
    """Three images: a cat that is named, the table of the same caption, and a tv that is not."""
    mask = np.zeros((*SIZE, 3), np.uint8)
    mask[2:4, 1:6, 2] = 9
    for name, caption, seed in (("cat", 12, 5), ("dining-table", 12, 6), ("tv", 7, 5)):
        photo(root / f"images/{name}_sd15_caption{caption}_seed{seed}.png")
        path = root / f"annotations/{name}_sd-15_caption_{caption}_seed_{seed}.png"
        save(path, Image.fromarray(mask))
    photo(root / "images/cat_sd15_caption12_seed99.png")
    table = (
        "caption_id,caption,category_name,categories,word_included,image_id,url\n"
        '12,"A cat, on a table. ",cat,"[\'cat\']",True,1,x\n'
        '12,"A cat, on a table. ",dining table,"[\'cat\']",False,1,x\n'
        "7,A room with a sofa.,tv,[],False,2,x\n"
    )
    write_text(root / "coco_captions_sampled.csv", table)
    return root


def test_ovams_captions_have_their_class_or_not(tmp_path):
    root = coco_cap(tmp_path / "coco_captions")
    data = open_dataset(root, "ovam_coco_cap")
    cat, table, tv = data
    assert data.generated, "and an image without an annotation is left out"
    assert (cat.prompt, cat.seed, cat.targets[0].text) == ("A cat, on a table.", 5, "cat")
    assert (table.targets[0].text, table.targets[0].class_name) == ("table", "diningtable")
    assert (tv.prompt, tv.targets[0].text) == ("A room with a sofa.", "tv")
    for sample in data:
        wanted = numbers((slice(2, 4), slice(1, 6), 1)) > 0
        np.testing.assert_array_equal(sample.targets[0].mask, wanted)
    assert open_dataset(root, "ovam_coco_cap", split="included").ids == data.ids[:1]
    assert open_dataset(root, "ovam_coco_cap", split="not_included").ids == data.ids[1:]
    # The table may lie over the folder, where OVAM has it.
    (root / "coco_captions_sampled.csv").rename(tmp_path / "coco_captions_sampled.csv")
    assert open_dataset(root, "ovam_coco_cap").ids == data.ids


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("coco_captions_sampled.csv", None, "There is no coco_captions_sampled.csv in"),
        ("coco_captions_sampled.csv", b"caption_id,caption\n1,a\n", "no column 'category_name'"),
        ("images/cat.png", b"", r"cat.png is not named \{class\}_\{model\}_caption"),
        ("images/cat_sd15_caption3_seed1.png", b"", "has no caption 3 of cat"),
    ],
)
def test_ovams_captions_that_do_not_fit_are_said(tmp_path, name, content, text):
    root = coco_cap(tmp_path / "deep" / "coco_captions")
    path = root / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(DataSetError, match=text):
        open_dataset(root, "ovam_coco_cap")
    with pytest.raises(DataSetError, match="the splits 'included' and 'not_included'"):
        open_dataset(root, "ovam_coco_cap", split="val")


def plain(root: Path, *, lines: list[dict] | None = None, table: str | None = None) -> Path:
    values = numbers((slice(1, 4), slice(2, 7), 1), (0, slice(None), 255))
    for name in ("one", "two"):
        photo(root / f"images/{name}.png")
    save(root / "masks/one.png", Image.fromarray(values.astype(np.uint16)))
    save(root / "masks/two/red circle.png", Image.fromarray(values == 1))
    classes = {"1": {"name": "dog", "words": ["dog", "puppy"]}}
    write_text(root / "dataset.json", json.dumps({"name": "mine", "classes": classes}))
    given = lines or [
        {"id": "one", "prompt": "a puppy", "split": "val", "seed": 4},
        {
            "id": "two",
            "prompt": "a red circle",
            "targets": [{"text": "red circle", "span": [2, 12]}],
        },
    ]
    if table is None:
        write_text(root / "prompts.jsonl", "\n".join(map(json.dumps, given)))
    else:
        write_text(root / "prompts.csv", table)
    return root


def test_the_plain_folder_with_16_bits_word_masks_and_splits(tmp_path):
    data = open_dataset(plain(tmp_path))
    first, second = data
    assert (data.name, first.seed, first.targets[0].text) == ("mine", 4, "puppy")
    np.testing.assert_array_equal(masks(first)["dog"], numbers((slice(1, 4), slice(2, 7), 1)) > 0)
    np.testing.assert_array_equal(first.ignore, numbers((0, slice(None), 1)) > 0)
    assert second.targets[0].span == (2, 12) and second.ignore is None
    assert open_dataset(tmp_path, split="val").ids == ("one",)
    with pytest.raises(DataSetError, match=r"no entry of the split 'test'. Splits: val"):
        open_dataset(tmp_path, split="test")


def test_the_plain_folders_facts_are_read(tmp_path):
    line = {"id": "one", "prompt": "a puppy", "image": "photo"}
    root = plain(tmp_path, lines=[line, {"id": "two", "prompt": "a red circle"}])
    one = {"name": "dog", "words": ["dog", "puppy"], "template": "my {}"}
    facts = {"ignore": 1, "background": None, "classes": {"700": one}}
    write_text(root / "dataset.json", json.dumps(facts))
    values = numbers((slice(1, 4), slice(2, 7), 1), (0, slice(None), 700))
    save(root / "masks/one.png", Image.fromarray(values.astype(np.uint16)))
    data = open_dataset(root)
    assert data.classes[0].template == "my {}" and data["one"].cluster == "photo"
    np.testing.assert_array_equal(masks(data["one"])["dog"], values == 700)
    # A mask of a word may be an alpha channel, whatever the colours are.
    pixels = np.full((*SIZE, 4), 255, np.uint8)
    pixels[..., 3] = values == 1
    save(root / "masks/two/red circle.png", Image.fromarray(pixels))
    np.testing.assert_array_equal(data["two"].targets[0].mask, values == 1)
    # Without a background 0 has no class, as ADE20K's.
    np.testing.assert_array_equal(data["one"].ignore, values != 700)


def test_the_plain_folder_with_a_table_has_the_classes_of_the_mask(tmp_path):
    data = open_dataset(plain(tmp_path, table="id,prompt\none,a dog\ntwo,\n"))
    assert [one.text for one in data["one"].targets] == ["dog"]
    assert data["two"].prompt is None and data["two"].targets[0].text == "red circle"


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ([{"id": "one", "prompt": "a"}, {"id": "one", "prompt": "b"}], "'one' occurs twice"),
        ([{"prompt": "a dog"}], "an entry has an id and a prompt"),
        ([{"id": "../one", "prompt": "a"}], "is not a name of a file"),
        ([{"id": "one", "prompt": "a dog"}], "is a mask of 'two', which the list"),
    ],
)
def test_the_list_of_prompts_is_checked_when_it_is_opened(tmp_path, lines, text):
    with pytest.raises(DataSetError, match=text):
        open_dataset(plain(tmp_path, lines=lines))


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ({"text": "blue circle"}, "there is no mask of 'blue circle'"),
        ({"text": "dog", "mask": "masks/two/red circle.png"}, "'dog' is not in the prompt"),
        ({"text": "red", "span": [6, 12], "mask": "masks/two/red circle.png"}, r"at \(6, 12\)"),
        ({"text": "red", "mask": "../secret.png"}, "leads out of the data set's folder"),
        ({"text": "red", "class": 3}, "3 is not a class of dataset.json"),
        ({"text": "red circle", "span": [1]}, "'span' is a list of 2 numbers"),
        ({"text": "red circle", "box": "all"}, "'box' is a list of 4 numbers"),
        ("red", "a target has a text"),
        (None, "'targets' is a list of objects with a text"),
    ],
)
def test_a_bad_target_is_an_error_of_its_sample_alone(tmp_path, target, text):
    lines = [
        {"id": "one", "prompt": "a puppy"},
        {"id": "two", "prompt": "a red circle", "targets": [target] if target else 3},
    ]
    data = open_dataset(plain(tmp_path, lines=lines))
    assert data["one"].targets
    with pytest.raises(DataSetError, match=text):
        data["two"]


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"classes": ["dog"]}, "'classes' is an object from the numbers of the masks to names"),
        ({"classes": {"1": {"name": " "}}}, "dataset.json: A class has no name"),
        ({"classes": {"1": {"name": "dog", "words": [""]}}}, "'dog' has an empty word"),
        ({"classes": {"one": "dog"}}, "a class is its number and an object with a name"),
        ({"classes": {"1": "dog", "2": "dog"}}, "The class 'dog' occurs twice"),
        ({"ignore": "255"}, "'ignore' is a number of the masks or null"),
        ({"background": 3}, "'background' is 0, or null where 0 is not scored; got 3"),
        ({"generated": "false"}, "'generated' is true or false; got 'false'"),
    ],
)
def test_facts_that_are_wrong_are_said_when_the_folder_is_opened(tmp_path, facts, text):
    root = plain(tmp_path)
    write_text(root / "dataset.json", json.dumps(facts))
    with pytest.raises(DataSetError, match=text):
        open_dataset(root)


def test_masks_of_classes_that_nobody_named(tmp_path):
    root = plain(tmp_path, lines=[{"id": "one", "prompt": "a"}, {"id": "two", "prompt": "b"}])
    (root / "dataset.json").unlink()
    with pytest.raises(DataSetError, match=r"the number 1, .* Classes: none is named; ignored: 25"):
        open_dataset(root)["one"]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("coco_instances", {"images": None}),
        ("coco_instances", {"images": [{"id": 9}]}),
        ("coco_instances", {"annotations": [3]}),
        ("coco_instances", {"categories": [{"id": 1}]}),
        ("coco_panoptic", {"annotations": [{"segments_info": []}]}),
        ("coco_panoptic", {"annotations": 3}),
        ("pascal_context", {"images": [{"phase": "val"}], "annos_segmentation": []}),
        ("pascal_context", {"images": 3, "annos_segmentation": []}),
    ],
)
def test_entries_without_their_fields_are_said_and_name_the_data_set(tmp_path, name, change):
    root = coco_root(tmp_path)
    (root / "annotations/panoptic_val2017").mkdir()
    (root / "JPEGImages").mkdir()
    found = json.loads((root / "annotations/instances_val2017.json").read_text())
    text = json.dumps({**found, **change})
    for path in (
        "annotations/instances_val2017",
        "annotations/panoptic_val2017",
        "trainval_merged",
    ):
        write_text(root / f"{path}.json", text)
    with pytest.raises(DataSetError, match=f"({tmp_path}|{name})"):
        open_dataset(root, name)


def test_an_entry_that_lacks_a_field_is_an_error_of_its_sample(tmp_path):
    root = coco_root(tmp_path)
    found = json.loads((root / "annotations/instances_val2017.json").read_text())
    (root / "annotations/panoptic_val2017").mkdir()
    found["annotations"] = [{"image_id": 9, "file_name": "000000000009.png"}]
    save(root / "annotations/panoptic_val2017/000000000009.png", panoptic_picture(numbers()))
    write_text(root / "annotations/panoptic_val2017.json", json.dumps(found))
    data = open_dataset(root, "coco_panoptic")
    with pytest.raises(DataSetError, match=r"9 is not as coco_panoptic .* no 'segments_info'"):
        data["000000000009"]
    with pytest.raises(DataSetError, match="has no segments of image 25"):
        data["000000000025"]


def test_without_images_it_is_a_generated_set(tmp_path):
    root = plain(tmp_path)
    for path in (root / "images").iterdir():
        path.unlink()
    (root / "images").rmdir()
    data = open_dataset(root)
    assert data.generated and data["one"].image is None and data["one"].size == SIZE


@pytest.mark.parametrize("name", ["voc2012", "coco_instances", "folder"])
def test_any_format_is_written_in_the_plain_form_and_read_back(tmp_path, voc, name):
    root = {"voc2012": lambda: voc, "coco_instances": lambda: coco_root(tmp_path / "c")}
    make = root.get(name, lambda: plain(tmp_path / "p"))
    data = open_dataset(make(), name)
    again = open_dataset(write_dataset(data, tmp_path / "written"))
    assert again.ids == data.ids and again.classes == data.classes
    for one, other in zip(data, again, strict=True):
        np.testing.assert_array_equal(np.asarray(one.image), np.asarray(other.image))
        assert [(t.text, t.class_name, t.box) for t in one.targets] == [
            (t.text, t.class_name, t.box) for t in other.targets
        ]
        for a, b in zip(one.targets, other.targets, strict=True):
            np.testing.assert_array_equal(a.mask, b.mask)
        if one.ignore is None:
            assert other.ignore is None
        else:
            np.testing.assert_array_equal(one.ignore, other.ignore)
    with pytest.raises(DataSetError, match="is not empty"):
        write_dataset(data, tmp_path / "written")


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_folder_that_is_missing_or_empty_says_what_it_should_have(tmp_path, name):
    with pytest.raises(InputError, match=f"There is no folder .*nowhere.* {name} has "):
        open_dataset(tmp_path / "nowhere", name)
    with pytest.raises(DataSetError, match=str(tmp_path)):
        open_dataset(tmp_path, name)


def test_an_unknown_format_or_option_suggests_the_nearest(tmp_path):
    with pytest.raises(InputError, match="Did you mean 'voc2012'"):
        open_dataset(tmp_path, "voc2011")
    with pytest.raises(InputError, match="has no argument 'mask'"):
        open_dataset(tmp_path, "voc2012", mask="cls")


def test_samples_and_data_sets_check_themselves():
    mask = np.zeros(SIZE, dtype=bool)
    image = Image.new("RGB", (WIDTH, HEIGHT))
    with pytest.raises(DataSetError, match=r"is int64 \(6, 8\); it is boolean"):
        Target("dog", mask.astype(int))
    with pytest.raises(DataSetError, match="no image, and no prompt"):
        Sample("one")
    with pytest.raises(DataSetError, match="8 wide and 6 high"):
        Sample("one", Image.new("RGB", (HEIGHT, WIDTH)), targets=(Target("dog", mask),))
    sample = Sample("one", image, targets=(Target("dog", mask),))
    with pytest.raises(DataSetError, match="'one' occurs twice"):
        DataSet("mine", ("one", "one"), lambda _: sample)
    with pytest.raises(DataSetError, match="has no sample"):
        DataSet("mine", (), lambda _: sample)
    assert sample.targets[0].edges is None and sample.cluster == "one"


def test_a_missing_library_names_the_extra(tmp_path, monkeypatch):
    from diffusers_rdaam.errors import DataSetsExtraError
    from diffusers_rdaam.evaluation import extras

    def gone(name):
        raise ImportError(name)

    monkeypatch.setattr(extras.importlib, "import_module", gone)
    with pytest.raises(DataSetsExtraError, match=r'needs h5py.*"diffusers_rdaam\[datasets\]"'):
        open_dataset(tmp_path, "imagenet_segmentation")


def turned_photo(path: Path, size=(WIDTH, HEIGHT)) -> np.ndarray:
    """Save a picture that the camera says is to be turned; returns its pixels as they lie there."""
    pixels = np.random.default_rng(5).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif)
    return pixels


def test_a_picture_lies_as_its_masks_whatever_the_camera_says(tmp_path):
    """Whoever turned it later would have maps of another side than the masks."""
    root = plain(tmp_path)
    pixels = turned_photo(root / "images/one.png")
    sample = open_dataset(root)["one"]
    np.testing.assert_array_equal(np.asarray(sample.image), pixels)
    np.testing.assert_array_equal(np.asarray(as_rgb(sample.image)), pixels)
    # Masks of the turned picture: then it is turned.
    standing = numbers((slice(1, 4), slice(2, 7), 1)).T.astype(np.uint8)
    save(root / "masks/one.png", Image.fromarray(standing))
    sample = open_dataset(root)["one"]
    np.testing.assert_array_equal(np.asarray(sample.image), np.rot90(pixels, -1))
    np.testing.assert_array_equal(np.asarray(as_rgb(sample.image)), np.rot90(pixels, -1))


def test_cocos_pictures_are_turned_where_its_sizes_are(tmp_path):
    root = coco_root(tmp_path)
    pixels = turned_photo(root / "val2017/000000000009.jpg", (HEIGHT, WIDTH))
    sample = open_dataset(root, "coco_instances")["000000000009"]
    assert sample.image.size == (WIDTH, HEIGHT) and pixels.shape == (WIDTH, HEIGHT, 3)
    assert as_rgb(sample.image).size == (WIDTH, HEIGHT)


def test_pictures_of_other_modes_are_what_they_show(tmp_path):
    root = plain(tmp_path)
    grey = np.linspace(0, 65535, HEIGHT * WIDTH).reshape(SIZE).round().astype(np.uint16)
    save(root / "images/one.png", Image.fromarray(grey))
    shown = np.asarray(open_dataset(root)["one"].image)
    np.testing.assert_array_equal(shown[..., 0], (grey / 257.0).round())
    clear = Image.new("RGBA", (WIDTH, HEIGHT), (200, 0, 0, 0))
    save(root / "images/one.png", clear)
    assert (np.asarray(open_dataset(root)["one"].image) == 255).all(), "clear parts are white"
    (root / "images/one.png").unlink()
    save(root / "images/one.jpg", Image.new("CMYK", (WIDTH, HEIGHT), (0, 255, 255, 0)))
    red, green, blue = np.asarray(open_dataset(root)["one"].image)[2, 2]
    assert red > 200 and green < 60 and blue < 60


def test_black_and_white_with_an_opaque_alpha_channel_is_a_mask(tmp_path):
    root = plain(tmp_path)
    wanted = numbers((slice(1, 4), slice(2, 7), 1)) == 1
    grey = Image.fromarray((wanted * 255).astype(np.uint8))
    for mode in ("LA", "RGBA"):
        save(root / "masks/two/red circle.png", grey.convert(mode))
        np.testing.assert_array_equal(open_dataset(root)["two"].targets[0].mask, wanted)


def test_cocos_picture_of_another_size_than_it_was_annotated_in(tmp_path):
    root = coco_root(tmp_path)
    photo(root / "val2017/000000000009.jpg", size=(2 * WIDTH, 2 * HEIGHT))
    data = open_dataset(root, "coco_instances")
    with pytest.raises(DataSetError, match=r"is 16 wide and 12 high, and .* has it 8 wide and 6"):
        data["000000000009"]
    assert data["000000000025"].targets


def panoptic_root(root: Path, *, listed: int = 300, mode: str = "RGB", times: int = 1) -> Path:
    coco_root(root)
    ids = numbers((slice(1, 3), slice(1, 5), 300))
    path = root / "annotations/panoptic_val2017/000000000009.png"
    save(path, panoptic_picture(ids).convert(mode))
    found = json.loads((root / "annotations/instances_val2017.json").read_text())
    segments = [{"id": listed, "category_id": 18, "iscrowd": 0}]
    entry = {"image_id": 9, "file_name": path.name, "segments_info": segments}
    found["annotations"] = [entry] * times
    write_text(root / "annotations/panoptic_val2017.json", json.dumps(found))
    return root


def test_panoptic_segments_that_are_not_listed_are_no_background(tmp_path):
    assert open_dataset(panoptic_root(tmp_path), "coco_panoptic")["000000000009"].targets
    panoptic_root(tmp_path, listed=301)
    with pytest.raises(DataSetError, match=r"000000000009.png has the segment 300, which .* not"):
        open_dataset(tmp_path, "coco_panoptic")["000000000009"]
    panoptic_root(tmp_path, mode="L")
    with pytest.raises(DataSetError, match="mode L; a map of segments is RGB"):
        open_dataset(tmp_path, "coco_panoptic")["000000000009"]
    panoptic_root(tmp_path, times=2)
    with pytest.raises(DataSetError, match="the image 9 has two lists of segments"):
        open_dataset(tmp_path, "coco_panoptic")


def test_two_images_of_coco_with_one_id(tmp_path):
    path = coco_root(tmp_path) / "annotations/instances_val2017.json"
    found = json.loads(path.read_text())
    found["images"][1]["id"] = 9
    write_text(path, json.dumps(found))
    with pytest.raises(DataSetError, match="two images have the id 9"):
        open_dataset(tmp_path, "coco_instances")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"box": [5, 1, 2, 4]}, "with left < right and top < bottom"),
        ({"box": [1, 1, 4, 1]}, "with left < right and top < bottom"),
        ({"box": [20, 1, 24, 4]}, "lies outside the image, which is 8 wide and 6 high"),
        ({"box": [-9, 1, 0, 4]}, "lies outside the image"),
        ({"span": [2, 99]}, "reaches beyond the prompt, which has 12 characters"),
        ({"span": [-3, 12]}, "characters of the prompt from 0"),
    ],
)
def test_boxes_and_spans_that_are_nowhere(tmp_path, change, text):
    target = {"text": "red circle", **change}
    line = {"id": "two", "prompt": "a red circle", "targets": [target]}
    data = open_dataset(plain(tmp_path, lines=[{"id": "one", "prompt": "a dog"}, line]))
    with pytest.raises(DataSetError, match=text):
        data["two"]
    assert data["one"].targets


def test_every_mask_of_a_text_has_the_images_size():
    """Two objects of one text: the size of the first was not looked at."""
    picture = Image.new("RGB", (WIDTH, HEIGHT))
    small, whole = np.ones((2, 2), dtype=bool), np.ones(SIZE, dtype=bool)
    for first, second in ((small, whole), (whole, small)):
        with pytest.raises(DataSetError, match="the mask of 'cat' is 2 wide and 2 high"):
            Sample("one", picture, targets=(Target("cat", first), Target("cat", second)))
