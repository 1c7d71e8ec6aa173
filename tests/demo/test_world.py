"""The shapes world and its judge: the ground truth must itself be right."""

import itertools

import numpy as np
import pytest

from diffusers_rdaam.demo.judge import classify, colour_masks, find_blobs, judge
from diffusers_rdaam.demo.world import (
    COLOURS,
    IMAGE_SIZE,
    SHAPES,
    SceneObject,
    caption,
    coverage,
    held_out_prompts,
    is_held_out,
    object_pairs,
    random_scene,
    render,
    seen_prompts,
    signed_distance,
)


def thing(name: str, x: float, y: float, radius: float = 24.0) -> SceneObject:
    colour, shape = name.split()
    red, green, blue = COLOURS[colour]
    return SceneObject(colour, shape, x, y, radius, (red, green, blue))


def centred_mask(shape: str, radius: float) -> np.ndarray:
    y, x = np.mgrid[0:IMAGE_SIZE, 0:IMAGE_SIZE] - IMAGE_SIZE / 2 + 0.5
    return coverage(shape, x, y, radius) > 0.5


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [23.0, 30.0, 36.0])
def test_the_judge_knows_every_shape_at_every_size(shape: str, radius: float) -> None:
    name, fit = classify(centred_mask(shape, radius))
    assert name == shape
    assert fit > 0.9


def test_an_unknown_shape_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"'star' is not a shape of this world\. Shapes: circle"):
        signed_distance("star", np.zeros(1), np.zeros(1), 1.0)


def test_random_scenes_hold_no_held_out_pair_and_their_objects_lie_apart_and_inside() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:IMAGE_SIZE, 0:IMAGE_SIZE] + 0.5
    for _ in range(200):
        scene = random_scene(rng)
        inside = [coverage(o.shape, x - o.x, y - o.y, o.radius) > 0 for o in scene]
        for mask in inside:
            assert not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())
        for a, b in itertools.combinations(scene, 2):
            assert a.colour != b.colour
            assert not is_held_out(a.name, b.name)
        if len(scene) == 2:
            assert not (inside[0] & inside[1]).any()


def test_the_split_ignores_the_order_and_holds_out_some() -> None:
    pairs = object_pairs()
    held = [pair for pair in pairs if is_held_out(*pair)]
    assert len(pairs) == 375
    assert 30 <= len(held) <= 80
    assert all(is_held_out(b, a) for a, b in held)


def test_prompts_name_their_objects_in_order_and_come_from_their_side_of_the_split() -> None:
    for text, (first, second) in held_out_prompts(60, 1):
        assert text == f"a {first} and a {second}"
        assert is_held_out(first, second)
        assert first.split()[1] != second.split()[1]
    assert not any(is_held_out(*names) for _, names in seen_prompts(60, 1))
    assert held_out_prompts(60, 1) == held_out_prompts(60, 1) != held_out_prompts(60, 2)


def test_captions_name_all_objects() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        text = caption(rng, ("red circle", "blue heart"))
        assert "a red circle" in text and "a blue heart" in text


def test_a_crop_is_a_part_of_the_whole() -> None:
    scene = (thing("red heart", 40, 50), thing("black cross", 95, 90))
    whole = render(scene)
    crop = render(scene, left=20, top=30, size=64)
    np.testing.assert_array_equal(crop, whole[30:94, 20:84])


def test_a_right_image_is_perfect_and_every_fault_is_seen() -> None:
    names = ("red circle", "blue square")
    right = (thing("red circle", 34, 34), thing("blue square", 92, 92))
    assert judge(render(right), names).perfect

    wrong_shape = judge(render((right[0], thing("blue heart", 92, 92))), names)
    assert wrong_shape.both_colours and not wrong_shape.both_objects

    missing = judge(render(right[:1]), names)
    assert not missing.both_colours and not missing.two_blobs

    stray = judge(render((*right, thing("green cross", 92, 30, 18.0))), names)
    assert not stray.no_stray and not stray.two_blobs and stray.both_objects

    swapped = judge(render((thing("blue circle", 34, 34), thing("red square", 92, 92))), names)
    assert swapped.both_colours and not swapped.both_objects


def test_blobs_and_masks_cover_the_objects() -> None:
    scene = (thing("magenta triangle", 34, 40), thing("yellow cross", 92, 88))
    image = render(scene)
    blobs = {blob.name: blob.mask for blob in find_blobs(image)}
    assert set(blobs) == {"magenta triangle", "yellow cross"}
    y, x = np.mgrid[0:IMAGE_SIZE, 0:IMAGE_SIZE] + 0.5
    for part in scene:
        truth = coverage(part.shape, x - part.x, y - part.y, part.radius) > 0.5
        mask = blobs[part.name]
        assert (mask & truth).sum() / (mask | truth).sum() > 0.9
    assert not colour_masks(image)["green"].any()
