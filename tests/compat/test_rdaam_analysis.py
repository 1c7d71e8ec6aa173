"""rdaam's quantitative analysis and its comparison with DAAM."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_rdaam.compat.daam import trace
from diffusers_rdaam.compat.rdaam import (
    analyze_annotations,
    calculate_bbox_score,
    compare_daam,
    plot_results,
    run_forward_daam,
    run_reverse_daam,
)
from diffusers_rdaam.errors import InputError, WordError

PROMPT = "a red circle and a blue square"


@pytest.mark.parametrize(
    ("key", "score"),
    [
        ("Cat", 0.5),  # the token itself, not the higher "cats"
        ("hat", 1.0),  # no token: the first that holds it
        ("red scarf", 0.75),  # its words' first tokens, the higher of them
        ("dog", 0.0),
    ],
)
def test_the_score_of_a_key_token(key, score):
    tokens = ["a", " cat ", "cats", "thatch", "red", "scarfs", "thatches"]
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.3, 0.1, 0.4])
    assert calculate_bbox_score(scores, tokens, key) == pytest.approx(score)


def test_zeros_score_zero():
    assert calculate_bbox_score([0.0, 0.0], ["a", "cat"], "cat") == 0.0


def annotations(path: Path, boxes: list[tuple[list[int], str]]) -> Path:
    edges = ("x_min", "y_min", "x_max", "y_max")
    listed = [
        {"bounding_box": dict(zip(edges, box, strict=True)), "key_token": key} for box, key in boxes
    ]
    image = {"caption_id": 7, "caption": PROMPT, "annotations": listed}
    path.write_text(
        json.dumps({"annotated_images": [image], "metadata": {"total_annotations": len(boxes)}})
    )
    return path


def test_boxes_are_scored_as_by_one_call_each(demo, tmp_path):
    boxes = [([0, 0, 64, 64], "circle"), ([64, 64, 128, 128], "square"), ([5, 5, 5, 5], "red")]
    path = annotations(tmp_path / "boxes.json", boxes)
    found = analyze_annotations(path, demo, generation_steps=2)
    wanted = []
    for box, key in boxes[:2]:
        _, tokens, scores = run_reverse_daam(PROMPT, 42, 2, "", box, pipe=demo)
        wanted.append(calculate_bbox_score(scores, tokens, key))
    assert [score for _, score in found["all_bbox_scores"]] == pytest.approx(wanted, rel=1e-4)
    assert found["caption_scores"] == {7: pytest.approx(np.mean(wanted), rel=1e-4)}
    assert found["overall_std"] == pytest.approx(np.std(wanted), rel=1e-3)
    assert found["total_bboxes"] == 2
    assert [error["box"] for error in found["errors"]] == [[5, 5, 5, 5]]
    picture, scores = plot_results(found, tmp_path / "out")
    with Image.open(picture) as image:
        assert image.size == (2400, 900)
    assert json.loads(scores.read_text())["overall_statistics"]["total_bboxes"] == 2


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"annotated_images": [{}]}', '{"annotated_images": 3}']
)
def test_files_that_hold_no_annotations_are_refused(demo, tmp_path, text):
    path = tmp_path / "boxes.json"
    path.write_text(text)
    with pytest.raises(InputError, match="does not hold annotated boxes"):
        analyze_annotations(path, demo)
    with pytest.raises(InputError, match="There is no file of annotations"):
        analyze_annotations(tmp_path / "none.json", demo)


def test_the_two_maps_are_compared(demo, tmp_path):
    found = compare_daam(demo, PROMPT, "circle", seed=3, steps=2)
    image, heat_map, _ = run_forward_daam(demo, PROMPT, "circle", seed=3, steps=2)
    np.testing.assert_array_equal(found.image, image)
    np.testing.assert_array_equal(found.library_image, image)
    torch.testing.assert_close(found.heat_map, heat_map)
    with trace(demo) as tracer:
        demo(PROMPT, generator=torch.Generator().manual_seed(3), num_inference_steps=2)
        theirs = tracer.compute_global_heat_map().compute_word_heat_map("circle").value
    torch.testing.assert_close(found.library_heat_map, theirs.float())
    assert found.mse > 0 and 0 < found.scaled_mse < 0.2
    path = found.save(tmp_path / "both.png")
    with Image.open(path) as picture:
        assert picture.size == (2000, 500)
    with pytest.raises(WordError, match="'dog' is not a word"):
        compare_daam(demo, PROMPT, "dog", steps=1)
