"""explain_ablation against attention that is masked by hand, and embeddings exchanged by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from explained import EXPLAINED

from diffusers_rdaam.errors import InputError, RegionError, WordError
from diffusers_rdaam.explain.ablations.ablation import explain_ablation, measure
from diffusers_rdaam.explain.ablations.regeneration import AblationRegeneration
from diffusers_rdaam.geometry.region import Box

BOX, OTHER = (24, 8, 72, 40), (0, 40, 96, 64)


def pixels(image) -> np.ndarray:
    return np.asarray(image, dtype=np.float64) / 255.0


@pytest.mark.values
@pytest.mark.parametrize("case", EXPLAINED)
@pytest.mark.parametrize("mode", ["mask", "padding"])
def test_every_pipeline(case, mode, make, settings, prompt):
    pipe = make(case, ours=mode == "mask")
    before, given = dict(pipe.__dict__), settings(case)
    state = given["generator"].get_state()
    found = explain_ablation(pipe, prompt, regions=[BOX, OTHER], mode=mode, **given)
    assert pipe.__dict__ == before
    assert torch.equal(given["generator"].get_state(), state)
    stock = make(case)(prompt=prompt, **settings(case)).images[0]
    for words, (left, top, right, bottom) in zip(found, (BOX, OTHER), strict=True):
        assert np.array_equal(words.image, stock)
        assert [match.text for match in words.matches] == ["a", "red", "cat", "near", "house"]
        for word in words:
            change = np.abs(pixels(word.image) - pixels(stock)).mean(axis=-1)
            inside = change[top:bottom, left:right]
            # The images are rounded to 256 levels.
            assert word.score == pytest.approx(inside.mean(), abs=0.004)
            rest = (change.sum() - inside.sum()) / (change.size - inside.size)
            assert word.outside == pytest.approx(rest, abs=0.004)
            assert word.score > 0.0
        assert sum(word.share for word in words) == pytest.approx(1.0)


@pytest.mark.parametrize("guidance", [5.0, 1.0])
def test_masked_columns_are_not_attended_to(guidance, make, settings, prompt):
    """By hand: attention of the conditional row over the columns that are left."""
    pipe = make()
    arguments = settings(guidance_scale=guidance) | {"prompt": prompt}
    masked = AblationRegeneration(pipe, (2, 3), "mask").run(arguments)

    def without(module, args, kwargs):
        hidden, context = args[0], kwargs["encoder_hidden_states"]
        rows = []
        for index in range(len(hidden)):
            kept = context[index : index + 1]
            if index == len(hidden) - 1:
                kept = torch.cat([kept[:, :2], kept[:, 4:]], dim=1)
            rows.append(module.processor(module, hidden[index : index + 1], kept))
        return torch.cat(rows)

    by_hand = make()
    for name, module in by_hand.unet.named_modules():
        if name.endswith("attn2"):
            module.forward = forward_of(module, without)
    generator = torch.Generator().manual_seed(7)
    wanted = by_hand(**(arguments | {"generator": generator}), output_type="pt").images[0]
    assert torch.allclose(masked, wanted, atol=2e-5)
    assert not torch.allclose(
        masked, AblationRegeneration(pipe).run(settings() | arguments), atol=1e-3
    )


def forward_of(module, function):
    return lambda *args, **kwargs: function(module, args, kwargs)


def test_padding_is_the_empty_prompts_embedding(make, settings, prompt):
    pipe = make()
    embeds, empty = (part.clone() for part in pipe.encode_prompt(prompt, "cpu", 1, True, ""))
    embeds[:, 3] = empty[:, 3]
    given = settings(prompt_embeds=embeds.detach(), negative_prompt_embeds=empty.detach())
    wanted = pipe(**given, output_type="pt").images[0]
    regeneration = AblationRegeneration(pipe, (3,), "padding")
    assert torch.equal(regeneration.run(settings() | {"prompt": prompt}), wanted)


def test_the_same_noise_again(make, settings, prompt):
    pipe = make()
    given = settings(eta=1.0)
    one, other = (explain_ablation(pipe, prompt, region=BOX, **given) for _ in range(2))
    assert one.changes == other.changes
    # Whatever was generated before it.
    words = explain_ablation(pipe, prompt, region=BOX, words=["cat"], **given)
    assert words["cat"] == one["cat"]


def test_inside_and_outside_by_hand():
    change = torch.arange(6.0).reshape(2, 3).double()
    assert measure(change, Box(1, 0, 3, 1)) == (1.5, 2.5, 3.0)
    assert measure(change, Box(0, 0, 3, 2)) == (2.5, 2.5, None)
    assert measure(change, None) == (2.5, 2.5, None)


def test_words_and_phrases(make, settings, prompt):
    words = explain_ablation(make(), prompt, words=["red cat", 5], **settings())
    assert {word.text for word in words} == {"red cat", "house"}
    assert words.region is None and all(word.lift == 1.0 for word in words)
    assert all(word.outside is None for word in words)
    assert words["Red cat"] == words.word("red cat").score
    with pytest.raises(WordError, match=r"'dog' was not taken away. What was: red cat, house"):
        words["dog"]


def test_a_result_shows_itself(make, settings, prompt):
    words = explain_ablation(make(), prompt, region=BOX, words=["red", "cat"], **settings())
    assert ": words ranked by the change without each (mode mask)" in str(words)
    assert words.film_strip().width > 3 * 96
    found = json.loads(json.dumps(words.to_dict()))
    assert found["mode"] == "mask" and set(found["outside"]) == {"red", "cat"}
    assert words._repr_html_().count("data:image") == 1
    assert len(words.plot().axes) == 2


@pytest.mark.parametrize(
    "more, error, text",
    [
        ({"mode": "delete"}, InputError, "'delete' is not a mode. Choices: 'mask', 'padding'"),
        ({"words": "cat"}, InputError, r"words= is a list, such as words=\['cat'\]"),
        ({"words": []}, InputError, "There is no word to take away from the prompt"),
        ({"words": ["dog"]}, WordError, "'dog' is not a word of the prompt"),
        ({"region": (200, 0, 220, 20)}, RegionError, "lies outside the image"),
        ({"regions": [], "region": None}, InputError, "regions= is empty"),
    ],
)
def test_bad_arguments(more, error, text, make, settings, prompt):
    with pytest.raises(error, match=text):
        explain_ablation(make(), prompt, **settings(), **more)
