"""Mean squares as a run keeps them, against every probability of the same run; and their file."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from toys import CASES, build, call, parts_of

from diffusers_rdaam import Attribution, RDAAMProcessor
from diffusers_rdaam.attribution.kept_maps import by_grid, grid_key
from diffusers_rdaam.errors import AttributionFileError, NoAttributionError

SD = CASES["StableDiffusion"]
PROMPTS = ["a red cat near a house", "two blue dogs, on the mat"]


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    return parts_of(SD)


def run(parts, keep, **options: Any) -> Any:
    pipe = build(SD.ours, parts)
    pipe.set_attn_processor(RDAAMProcessor(keep=keep, keep_negative=True, **options))
    return call(SD, pipe, PROMPTS)


def squares_by_hand(record) -> list[torch.Tensor]:
    """Of each grid, the mean over sites, calls and heads of the squared probabilities."""
    grids = []
    for grid in record.grids:
        details = by_grid(record.kept.details)[grid_key(grid)]
        parts = [
            (maps.double() ** 2).mean(dim=0) * count
            for detail in details
            for maps, count in zip(detail.maps, detail.additions, strict=True)
        ]
        grids.append(sum(parts) / grid.additions)
    return grids


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_against_every_probability(parts, backend):
    plain = run(parts, (), backend=backend)
    output = run(parts, ("steps", "layers", "heads", "squares"), backend=backend)
    few = run(parts, "squares", backend=backend)
    for index, attribution in enumerate(output.attributions):
        assert np.array_equal(np.asarray(output.images[index]), np.asarray(plain.images[index]))
        for one, other in zip(
            plain.attributions[index].grids, few.attributions[index].grids, strict=True
        ):
            assert torch.equal(one.maps, other.maps) and one.squares is None
        for one, other in (
            (attribution, few.attributions[index]),
            (attribution.negative, few.attributions[index].negative),
        ):
            wanted = squares_by_hand(one)
            for grid, same, squares in zip(one.grids, other.grids, wanted, strict=True):
                torch.testing.assert_close(grid.squares.double(), squares, rtol=2e-4, atol=0.0)
                assert torch.equal(grid.squares, same.squares) and grid.squares.std() > 0
        alone = few.attributions[index].word(PROMPTS[index].split()[1], aggregation="rms")
        without = dataclasses.replace(
            attribution,
            grids=tuple(dataclasses.replace(grid, squares=None) for grid in attribution.grids),
        )
        by_kept = without.word(PROMPTS[index].split()[1], aggregation="rms")
        torch.testing.assert_close(alone.values, by_kept.values, rtol=2e-4, atol=1e-6)


def test_memory_is_what_is_reported(parts):
    pipe = build(SD.ours, parts)
    size = {"height": 64, "width": 96, "steps": 2}
    without = pipe.recording_bytes(**size)
    pipe.set_attn_processor(RDAAMProcessor(keep="squares"))
    assert pipe.recording_bytes(**size) == 2 * without
    attribution = call(SD, pipe).attribution
    planes = [plane for grid in attribution.grids for plane in (grid.maps, grid.squares)]
    assert attribution.nbytes == sum(plane.nbytes for plane in planes) == 2 * without


def test_a_part_of_the_layers_has_none(parts):
    attribution = run(parts, ("layers", "squares")).attributions[0]
    part = attribution.select(resolutions=[attribution.grids[0].size])
    assert part.word("cat", aggregation="rms").values.std() > 0, "a whole grid keeps its squares"
    part = attribution.select(layers="down_blocks")
    with pytest.raises(NoAttributionError, match="needs the mean squares, which this run did not"):
        part.word("cat", aggregation="rms")


def test_files(parts, tmp_path):
    attribution = run(parts, "squares").attributions[0]
    path = attribution.save(tmp_path / "cat.safetensors", kept=False)
    loaded = Attribution.load(path)
    for one, other in zip(
        (*attribution.grids, *attribution.negative.grids),
        (*loaded.grids, *loaded.negative.grids),
        strict=True,
    ):
        assert torch.equal(one.squares, other.squares)
    assert torch.equal(
        loaded.word("cat", aggregation="rms").values,
        attribution.word("cat", aggregation="rms").values,
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"drop": True}, "the tensor 'squares.0' is missing"),
        ({"tensor": torch.zeros(2, 2, 2)}, "squares 0 has shape [2, 2, 2] and type F32"),
        ({"type": torch.float16}, "and type F16"),
        ({"nan": True}, "squares 0 has values that are not finite"),
        ({"field": "yes"}, "is not a grid"),
    ],
)
def test_damaged_files(parts, tmp_path, changes, text):
    import json

    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    path = run(parts, "squares").attributions[0].save(tmp_path / "cat.safetensors")
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
    header, tensors = json.loads(metadata["attribution"]), load_file(path)
    if "drop" in changes:
        del tensors["squares.0"]
    if "tensor" in changes:
        tensors["squares.0"] = changes["tensor"]
    if "type" in changes:
        tensors["squares.0"] = tensors["squares.0"].to(changes["type"])
    if "nan" in changes:
        tensors["squares.0"][0] = torch.nan
    if "field" in changes:
        header["grids"][0]["squares"] = changes["field"]
    save_file(tensors, path, metadata | {"attribution": json.dumps(header)})
    with pytest.raises(AttributionFileError) as error:
        Attribution.load(path)
    assert text in str(error.value)
