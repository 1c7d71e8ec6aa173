"""OVAM's CRFs, annotation helpers, and the writers of its experiments."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_rdaam import Box
from diffusers_rdaam.compat.ovam import (
    compute_masks,
    dcrf_mask,
    densecrf,
    generate_binary_mask,
    group_mask_by_label,
    masks_to_tensor,
    write_synthetic_dataset,
    write_voc_sim,
)
from diffusers_rdaam.errors import InputError


@pytest.fixture
def image() -> Image.Image:
    """A dark rectangle, wider than high, so that sides cannot be mistaken."""
    pixels = np.random.default_rng(0).integers(210, 240, (24, 40, 3), dtype=np.uint8)
    pixels[6:16, 8:24] -= 180
    return Image.fromarray(pixels)


@pytest.mark.parametrize("crf", [densecrf, dcrf_mask])
def test_probabilities_move_to_the_edges(image, crf):
    soft = np.full((24, 40), 0.2)
    soft[7:15, 10:26] = 0.7
    options = {"alpha": 20.0} if crf is densecrf else {"srgb": 10.0, "compat": 10.0}
    found = crf(image, soft, **options)
    truth = np.zeros((24, 40), dtype=bool)
    truth[6:16, 8:24] = True
    plain = soft > 0.5

    def overlap(mask):
        return (mask & truth).sum() / (mask | truth).sum()

    assert found.shape == (24, 40)
    assert overlap(found == 1) > overlap(plain) + 0.05
    both = np.stack([1 - soft, soft], axis=-1)
    np.testing.assert_array_equal(crf(image, both, **options), found)
    with pytest.raises(InputError, match=r"of the image's size \(24, 40\); got \(40, 24\)"):
        crf(image, soft.T)


def test_boxes_become_masks_by_a_segmenter(image):
    boxes = []

    def predictor(picture, box, point):
        boxes.append(box)
        return box.coverage((picture.height, picture.width))

    annotations = [
        {"x": 2, "y": 3, "width": 5, "height": 4, "label": "cat"},
        {"x": 10, "y": 3, "width": 5, "height": 4, "label": "cat"},
        {"x": 0, "y": 0, "width": 3, "height": 3, "label": "dog"},
    ]
    masks = compute_masks(image, annotations, predictor)
    assert boxes[0] == Box(2, 3, 7, 7) and masks[0]["mask"].sum() == 20
    grouped = group_mask_by_label(masks)
    assert {label: int(mask.sum()) for label, mask in grouped.items()} == {"cat": 40, "dog": 9}
    target = masks_to_tensor(grouped, ["dog", "bird", "cat"])
    assert target.shape == (1, 4, 24, 40)
    assert target.sum(dim=(2, 3)).tolist() == [[24 * 40 - 49, 9, 0, 40]]
    with pytest.raises(InputError, match="An annotation is"):
        compute_masks(image, [{"x": 1}], predictor)
    with pytest.raises(InputError, match="of one size"):
        masks_to_tensor({}, ["cat"])


def test_masks_of_a_category(image):
    maps = np.zeros((2, 6, 10), dtype=np.float32)
    maps[1, 2:4, 2:6] = 3.0
    with_crf, without = generate_binary_mask(maps, image, 12)
    assert set(np.unique(without)) == {12, 255} and without.shape == (24, 40)
    assert without[12, 16] == 12 and without[0, 0] == 255
    # OVAM's CRF is on the mask itself, of which little changes.
    assert (with_crf == 12).sum() >= (without == 12).sum()
    for number in (0, 255):
        with pytest.raises(InputError, match="from 1 to 254"):
            generate_binary_mask(maps, image, number)


def test_voc_sim_s_files(demo, tmp_path):
    token = torch.randn(2, 64)
    options = {"classes": ["red circle", "heart"], "n_per_classname": 1, "num_inference_steps": 2}
    paths = write_voc_sim(demo, tmp_path, tokens={"heart": [token]}, **options)
    stems = [path.stem for path in paths]
    assert [stem.rsplit("_", 1)[0] for stem in stems] == ["sd-15_red-circle", "sd-15_heart"]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(
        [
            *(f"{stem}.png" for stem in stems),
            *(f"{stem}_heatmap_0.npy" for stem in stems),
            f"{stems[1]}_heatmap_1.npy",
        ]
    )
    maps = np.load(tmp_path / f"{stems[0]}_heatmap_0.npy")
    assert maps.shape == (2, 16, 16) and maps.min() >= 0 and maps[1].std() > 0
    before = paths[0].stat().st_mtime_ns
    paths[1].unlink()
    assert write_voc_sim(demo, tmp_path, **options) == paths
    assert paths[0].stat().st_mtime_ns == before and paths[1].exists()


def test_the_synthetic_data_set_s_files(demo, tmp_path):
    rows = [
        {"category": "heart", "category_id": 3, "coco_caption_id": 17, "seed": 5,
         "prompt": "A Red Heart"},
    ]  # fmt: skip
    tokens = {"heart": torch.randn(2, 64)}
    (path,) = write_synthetic_dataset(demo, rows, tokens, tmp_path, num_inference_steps=2)
    names = sorted(str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*.*"))
    assert names == [
        "heatmap/3_17_5.npy",
        "image/3_17_5.jpg",
        "masks/3_17_5.png",
        "masks_sin_dcrf/3_17_5.png",
    ]
    with Image.open(path) as mask:
        assert set(np.unique(np.asarray(mask))) <= {3, 255} and mask.size == (128, 128)
    with pytest.raises(InputError, match="no token for 'heart'"):
        write_synthetic_dataset(demo, rows, {}, tmp_path)
    with pytest.raises(InputError, match="A row has category"):
        write_synthetic_dataset(demo, [{"category": "heart"}], tokens, tmp_path)
