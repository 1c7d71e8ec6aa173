"""optimize_token: what is fitted, what comes back, and its file."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from toys import ALL_CASES, build, call, parts_of

from diffusers_rdaam import (
    Attribution,
    MapRecipe,
    OptimizedToken,
    QueryOptions,
    RDAAMProcessor,
    optimize_token,
)
from diffusers_rdaam.compat.ovam import optimize_embedding
from diffusers_rdaam.errors import AttributionFileError, InputError, NoAttributionError, RegionError
from diffusers_rdaam.open_vocabulary.encode import encoded
from diffusers_rdaam.open_vocabulary.optimize import OptimizationStep

BOX = (16, 16, 64, 48)
NAMES = ("StableDiffusion", "StableDiffusionXL")


@cache
def recorded(name: str = "StableDiffusion") -> tuple[Any, list[Attribution]]:
    pipe = build(ALL_CASES[name].ours, parts_of(ALL_CASES[name]))
    pipe.set_attn_processor(RDAAMProcessor(keep="queries", queries=QueryOptions(precision="fp32")))
    return pipe, call(ALL_CASES[name], pipe, num_images_per_prompt=2).attributions


def fitted(name: str = "StableDiffusion", **options: Any) -> OptimizedToken:
    pipe, attributions = recorded(name)
    settings = {"initial": "cat", "iterations": 12, "learning_rate": 10.0} | options
    return optimize_token(pipe, attributions[0], BOX, **settings)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("space", ["encoded", "token"])
def test_the_loss_falls_and_the_best_comes_back(name, space):
    pipe, attributions = recorded(name)
    seen: list[OptimizationStep] = []
    rate = {"encoded": 10.0, "token": 3.0}[space]
    token = fitted(name, space=space, learning_rate=rate, callback=seen.append)
    assert token.loss == min(token.losses) < token.losses[0] - 1e-4
    assert [step.loss for step in seen] == list(token.losses) and len(token.losses) == 12
    assert torch.equal(token.embedding, seen[token.best].embedding)
    assert tuple(seen[0].maps.shape) == (2, *attributions[0].grids[0].size)
    with torch.no_grad():
        start = encoded(pipe, "cat").embedding
    torch.testing.assert_close(seen[0].embedding, start[: len(seen[0].embedding)])
    if space == "encoded":
        # The same loss again, from the embedding alone.
        again = fitted(name, initial=token, iterations=1)
        assert again.loss == pytest.approx(token.loss, rel=1e-5)
    assert not any(weights.grad is not None for weights in pipe.unet.parameters())
    assert not any(weights.grad is not None for weights in pipe.text_encoder.parameters())


def test_a_rate_that_is_too_high_returns_what_was_best_on_the_way():
    token = fitted(space="token", learning_rate=30.0)
    assert token.losses[-1] > token.loss and token.best < len(token.losses) - 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("space", ["encoded", "token"])
def test_on_other_images_both_ways_and_from_a_file(name, space, tmp_path):
    pipe, attributions = recorded(name)
    token = fitted(name, space=space, iterations=3)
    loaded = OptimizedToken.load(token.save(tmp_path / "cat.safetensors"))
    torch.testing.assert_close(loaded.embedding, token.embedding)
    assert loaded.prompt == token.prompt and loaded.losses == token.losses
    assert (loaded.space, loaded.best) == (space, token.best)
    after = pipe.query(attributions[1], loaded)
    assert [word.text for word in after.words] == ["cat"]
    output = call(ALL_CASES[name], pipe, seed=8, attribution_vocabulary=[loaded])
    before = output.attribution.vocabulary["cat"]
    again = pipe.query(output.attribution, token)
    for mine, other in zip(before.grids, again.grids, strict=True):
        assert float((mine.maps - other.maps).abs().max()) < 1e-5


def test_diffusers_loads_the_file_and_prompts_with_it(tmp_path):
    pipe = build(ALL_CASES["StableDiffusion"].ours, parts_of(ALL_CASES["StableDiffusion"]))
    _, attributions = recorded()
    token = optimize_token(
        pipe, attributions[0], BOX, "cat", space="token", iterations=3, learning_rate=1.0
    )
    pipe.load_textual_inversion(token.save(tmp_path / "a.safetensors", token="<my-cat>"))
    with torch.no_grad():
        loaded = encoded(pipe, "<my-cat>")
    torch.testing.assert_close(loaded.embedding, token.embedding)
    assert [word.columns for word in loaded.prompt.words if word.columns] != []


def test_two_encoders_have_a_tensor_each(tmp_path):
    from safetensors.torch import load_file

    path = fitted("StableDiffusionXL", space="token", iterations=2).save(tmp_path / "a.safetensors")
    file = load_file(path)
    assert {name: tuple(part.shape) for name, part in file.items()} == {
        "clip_l": (1, 32),
        "clip_g": (1, 32),
    }
    other = build(ALL_CASES["StableDiffusionXL"].ours, parts_of(ALL_CASES["StableDiffusionXL"]))
    other.load_textual_inversion(file["clip_l"], token="<c>")
    ids = other.tokenizer.convert_tokens_to_ids("<c>")
    assert torch.equal(other.text_encoder.get_input_embeddings().weight[ids], file["clip_l"][0])
    coded = load_file(fitted("StableDiffusionXL", iterations=2).save(tmp_path / "b.safetensors"))
    assert {name: part.shape[1] for name, part in coded.items()} == {"clip_l": 32, "clip_g": 32}


def test_several_images():
    pipe, attributions = recorded()
    both = optimize_token(pipe, attributions, [BOX, BOX], "cat", iterations=1)
    each = [optimize_token(pipe, a, BOX, "cat", iterations=1).loss for a in attributions]
    assert both.loss == pytest.approx(sum(each) / 2, rel=1e-6) and each[0] != each[1]
    with pytest.raises(InputError) as error:
        optimize_token(pipe, attributions, [BOX], "cat")
    assert str(error.value) == "There are 2 attributions and 1 masks; give one for each, in a list."
    with pytest.raises(InputError, match="There are 2 attributions and Tensor masks"):
        optimize_token(pipe, attributions, torch.zeros(64, 96), "cat")


def _labels(size: tuple[int, int], void: tuple[slice, slice]) -> np.ndarray:
    """BOX is 1, the rest 0, and 255 somewhere."""
    left, top, right, bottom = BOX
    labels = np.zeros(size, dtype=np.uint8)
    labels[top:bottom, left:right] = 1
    labels[void] = 255
    return labels


def _first_step(mask: Any, **options: Any) -> tuple[float, torch.Tensor, torch.Tensor]:
    """The loss, the gradient's step, and the maps that the loss saw."""
    seen: list[OptimizationStep] = []
    pipe, attributions = recorded()
    settings = {"initial": "cat", "iterations": 2, "learning_rate": 10.0, "callback": seen.append}
    optimize_token(pipe, attributions[0], mask, **(settings | options))
    return seen[0].loss, seen[1].embedding - seen[0].embedding, seen[0].maps


@pytest.mark.parametrize("scaling", [0.5, "tokens", "min-max"])
@pytest.mark.parametrize(
    "void",
    [np.s_[20:61, 30:75], np.s_[0:64, 0:1], np.s_[16:48, 16:40]],
    ids=["across cells", "a part of the first column", "a part of the object"],
)
def test_void_pixels_count_neither_as_object_nor_as_background(scaling, void):
    """Against a plain loop over pixels, each with the logits of its cell."""
    _, attributions = recorded()
    size = attributions[0].image_size
    labels = _labels(size, void)
    loss, _, maps = _first_step(labels, scaling=scaling)
    down, across = (side // cells for side, cells in zip(size, maps.shape[1:], strict=True))
    wholly = torch.zeros(maps.shape[1:], dtype=torch.bool)
    expected, count = 0.0, 0
    for row in range(maps.shape[1]):
        for column in range(maps.shape[2]):
            cell = labels[row * down : (row + 1) * down, column * across : (column + 1) * across]
            wholly[row, column] = bool((cell == 255).all())
            logits = maps[:, row, column].double()
            for label in cell[cell != 255]:
                expected -= float(torch.log_softmax(logits, dim=0)[int(label)])
                count += 1
    assert loss == pytest.approx(expected / count, rel=1e-5)
    assert bool((maps[:, wholly] == 0).all())
    if scaling == "min-max":
        assert float(maps[:, ~wholly].min()) == 0.0 and float(maps[:, ~wholly].max()) == 1.0


def test_what_lies_in_void_cells_changes_nothing():
    """The queries there are other ones, and the loss stays to the last bit."""
    pipe, attributions = recorded()
    size = attributions[0].image_size
    labels = _labels(size, np.s_[:, 72:])
    queries = attributions[0].queries
    sites = []
    for stored in queries.sites:
        parts = [stored.read(index).clone() for index in range(len(stored.calls))]
        for part in parts:
            part.unflatten(1, stored.size)[:, :, math.ceil(stored.size[1] * 3 / 4) :] *= 3.0
        sites.append(replace(stored, parts=tuple(parts)))
    other = attributions[0].with_queries(replace(queries, sites=tuple(sites)))

    def loss(attribution: Attribution, mask: Any) -> float:
        seen: list[OptimizationStep] = []
        recipe = MapRecipe(interpolation="nearest")
        optimize_token(pipe, attribution, mask, "cat", iterations=1, recipe=recipe,
                       callback=seen.append)  # fmt: skip
        return seen[0].loss

    assert loss(other, labels) == loss(attributions[0], labels)
    assert loss(other, BOX) != loss(attributions[0], BOX)


def _inside(size: tuple[int, int]) -> np.ndarray:
    return _labels(size, np.s_[0:0, 0:0])


@pytest.mark.parametrize(
    "convert",
    [
        lambda inside: inside.astype(bool),
        lambda inside: inside,
        lambda inside: inside * np.uint8(255),
        lambda inside: Image.fromarray(inside * np.uint8(255)),
        lambda inside: torch.from_numpy(inside).float(),
    ],
    ids=["booleans", "0 and 1", "0 and 255", "a black and white image", "floats"],
)
def test_a_mask_without_void_is_the_box(convert):
    """255 without a 1 is inside, as in every other mask."""
    size = recorded()[1][0].image_size
    loss, step, maps = _first_step(convert(_inside(size)))
    expected = _first_step(BOX)
    assert loss == expected[0] and torch.equal(step, expected[1])
    assert torch.equal(maps, expected[2])


def _palette(labels: np.ndarray) -> Image.Image:
    from diffusers_rdaam.segmentation.label_map import palette_image

    return palette_image(labels)


@pytest.mark.parametrize(
    "convert",
    [
        Image.fromarray,
        _palette,
        lambda labels: labels.tolist(),
        lambda labels: torch.from_numpy(labels).long(),
        lambda labels: labels.astype(np.float32)[None],
    ],
    ids=["grey image", "palette image", "lists", "int64", "floats of one channel"],
)
def test_void_in_every_form_of_a_mask(convert):
    labels = _labels(recorded()[1][0].image_size, np.s_[20:61, 30:75])
    loss, step, _ = _first_step(convert(labels))
    expected = _first_step(labels)
    assert loss == expected[0] and torch.equal(step, expected[1])
    assert loss != _first_step(BOX)[0]


def test_masks_whose_void_leaves_nothing_to_distinguish():
    pipe, attributions = recorded()
    size = attributions[0].image_size
    labels = np.where(_inside(size) == 1, 1, 255)
    with pytest.raises(InputError) as error:
        optimize_token(pipe, attributions[0], labels, "cat")
    assert str(error.value) == (
        "A mask of nothing or of the whole image has nothing to distinguish. Give a region that is "
        "a part of the image. Pixels of 255 are not counted, as the mask has 1 as well."
    )
    labels = _labels(size, np.s_[20:61, 30:75])
    labels[labels == 1] = 15
    with pytest.raises(RegionError, match=r"mask == label, where 255 is none of the labels\. For"):
        optimize_token(pipe, attributions[0], labels, "cat")


def test_options():
    stopped = fitted(callback=lambda step: step.iteration == 4)
    assert len(stopped.losses) == 5
    tokens = fitted(scaling="tokens", iterations=1).loss
    divided = fitted(scaling=0.5, iterations=1).loss
    assert len({tokens, divided, fitted(iterations=1).loss}) == 3
    # A stretched map is the same for a sum as for a mean.
    sums = MapRecipe(over_calls="sum", over_heads="sum")
    assert fitted(recipe=sums, iterations=1).loss == pytest.approx(fitted(iterations=1).loss)
    slower = fitted(step_size=1, gamma=1e-6, iterations=3)
    assert slower.losses[2] == pytest.approx(slower.losses[1], abs=1e-5)
    two = fitted(initial="cat house", iterations=1)
    assert [word.text for word in two.prompt.words] == ["cat", "house"]


def test_the_grad_mode_is_left_as_it_was():
    pipe, attributions = recorded()
    with torch.no_grad():
        assert len(optimize_token(pipe, attributions[0], BOX, "cat", iterations=2).losses) == 2
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        assert len(optimize_token(pipe, attributions[0], BOX, "cat", iterations=2).losses) == 2


def test_a_model_in_half_precision():
    case = ALL_CASES["StableDiffusion"]
    pipe = build(case.ours, parts_of(case)).to(torch.bfloat16)
    pipe.set_attn_processor(RDAAMProcessor(keep="queries"))
    attribution = call(case, pipe).attribution
    for space, rate in (("encoded", 10.0), ("token", 3.0)):
        token = optimize_token(
            pipe, attribution, BOX, "cat", space=space, iterations=6, learning_rate=rate
        )
        assert token.loss < token.losses[0]
    # Weights are shared with other toys.
    pipe.to(torch.float32)


def test_what_cannot_be_fitted():
    pipe, attributions = recorded()

    def message(kind: type[Exception] = InputError, mask: Any = BOX, **options: Any) -> str:
        with pytest.raises(kind) as error:
            optimize_token(pipe, attributions[0], mask, **({"iterations": 2} | options))
        return str(error.value)

    assert "64" in message(RegionError, mask=torch.ones(32, 32))
    assert message(mask=(0, 0, 96, 64)) == (
        "A mask of nothing or of the whole image has nothing to distinguish. Give a region that is "
        "a part of the image."
    )
    assert message(initial=torch.zeros(2, 31)).startswith("The embedding has shape (2, 31);")
    assert message(initial=torch.zeros(1, 32)) == (
        "The initial embedding has 1 rows; at least two are needed, the background's (the start "
        "token's) and one of the word."
    )
    assert message(initial="") == "The text is empty. Give a word or a sentence to look for."
    assert message(space="pixels") == "space= is 'encoded' or 'token'; got 'pixels'."
    assert message(initial=torch.zeros(2, 32), space="token") == (
        "With space='token' the start is a word, whose vectors the text encoder has; got a Tensor."
    )
    assert message(scaling="none") == (
        "scaling= is 'min-max', 'tokens' or a number over 0; got 'none'."
    )
    assert message(learning_rate=-1) == (
        "iterations= and step_size= are whole numbers from 1, learning_rate= and gamma= numbers "
        "over 0; got 2, 80, -1 and 0.7."
    )
    assert message(initial=torch.full((2, 32), torch.nan)) == (
        "The gradient of iteration 0 is not finite (loss nan). Give a lower learning_rate= than "
        "300.0, or a model in float32."
    )


def test_without_queries():
    pipe, _ = recorded()
    plain = build(ALL_CASES["StableDiffusion"].ours, parts_of(ALL_CASES["StableDiffusion"]))
    attribution = call(ALL_CASES["StableDiffusion"], plain).attribution
    with pytest.raises(NoAttributionError, match="queries, which this run did not keep"):
        optimize_token(pipe, attribution, BOX, "cat")


def test_files_that_are_none(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    tensors = {"<cat>": torch.zeros(2, 32)}
    save_file(tensors, path)
    with pytest.raises(AttributionFileError, match="but not an optimised token"):
        OptimizedToken.load(path)
    for header in ("[", "{}", '{"encoders": ["clip_l"], "token": "<dog>"}'):
        metadata = {"format": "diffusers_rdaam.token", "version": "1", "optimized": header}
        save_file(tensors, path, metadata)
        with pytest.raises(AttributionFileError, match="is not a valid optimised token"):
            OptimizedToken.load(path)
    path.write_bytes(b"no")
    with pytest.raises(AttributionFileError, match="is not a whole safetensors file"):
        OptimizedToken.load(path)
    with pytest.raises(InputError, match="The token could not be written to"):
        fitted(iterations=1).save(tmp_path / "missing" / "a.safetensors")


def test_maps_that_are_flat_say_so_and_blame_no_learning_rate():
    nothing = MapRecipe(activation=lambda logits: logits * 0.0)
    with pytest.raises(InputError, match=r"The maps are 0 everywhere, so scaling='min-max' has no"):
        fitted(recipe=nothing)
    with pytest.raises(InputError, match=r"sum to 0 at \d+ of \d+ cells, so scaling='tokens'"):
        fitted(recipe=nothing, scaling="tokens")
    for flat, text in ((True, "are 0 everywhere"), (False, "sum to 0 at some places")):
        with pytest.raises(InputError, match=text):
            optimize_embedding(
                lambda x: x.sum() * torch.zeros(1, 2, 4, 4),
                torch.ones(2, 8),
                torch.full((1, 2, 4, 4), 0.5),
                apply_min_max=flat,
            )
