"""Which words an attribution has: prompts, embeddings, long and empty texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from diffusers_rdaam.errors import (
    NoAttributionError,
    NotRecordedWarning,
    PromptTruncatedWarning,
    WordError,
)

TEXT = "a red cat near a house"


def embed(pipe: Any, *texts: str) -> torch.Tensor:
    """The embeddings that the pipeline makes of its prompts."""
    with torch.no_grad():
        return pipe.encode_prompt(list(texts), "cpu", 1, False)[0]


def same_maps(one: Any, other: Any) -> bool:
    return all(torch.equal(a.maps, b.maps) for a, b in zip(one.grids, other.grids, strict=True))


def test_prompt_embeds_without_a_text(ours, generate):
    plain = generate(ours, TEXT)
    output = generate(ours, prompt_embeds=embed(ours, TEXT))
    assert np.array_equal(np.asarray(output.images[0]), np.asarray(plain.images[0]))
    attribution = output.attribution
    assert attribution.words == () and attribution.prompt.text is None
    assert same_maps(attribution, plain.attribution)
    assert torch.equal(attribution.column(3).values, plain.attribution.column(3).values)
    with pytest.raises(WordError) as error:
        attribution.word("cat")
    assert str(error.value) == (
        "This image was made from prompt_embeds, so its columns have no words. Pass "
        "attribution_prompt='…' to the pipeline, or ask for attribution.column(index)."
    )
    words = attribution.region((0, 0, 50, 40))
    assert len(words) == 0
    assert words.special == {"unknown": pytest.approx(1.0, abs=1e-4)}


def test_prompt_embeds_with_their_text(ours, generate):
    plain = generate(ours, TEXT).attribution
    told = generate(ours, prompt_embeds=embed(ours, TEXT), attribution_prompt=TEXT).attribution
    assert told.prompt == plain.prompt and same_maps(told, plain)
    assert torch.equal(told.word("cat").values, plain.word("cat").values)


@pytest.mark.parametrize("told", [True, False])
def test_several_prompt_embeds(ours, generate, told):
    texts = [TEXT, "two dogs"]
    output = generate(
        ours,
        prompt_embeds=embed(ours, *texts),
        attribution_prompt=texts if told else None,
        num_images_per_prompt=2,
    )
    expected = [text if told else None for text in texts for _ in range(2)]
    assert [attribution.prompt.text for attribution in output.attributions] == expected


def test_too_few_texts_for_the_embeddings(ours, generate):
    with pytest.warns(NotRecordedWarning) as caught:
        output = generate(
            ours, prompt_embeds=embed(ours, TEXT, "two dogs"), attribution_prompt=TEXT
        )
    why = (
        "The image was made, but not its attribution: attribution_prompt has 1 texts for 2 "
        "prompt_embeds; give one for each."
    )
    assert [str(w.message) for w in caught] == [why]
    assert len(output.images) == 2
    with pytest.raises(NoAttributionError) as error:
        _ = ours.attributions
    assert str(error.value) == why


def test_embeddings_in_two_parts(ours, generate):
    long = " ".join(["a"] * 74 + ["red", "cat", "house"])
    parts = [" ".join(["a"] * 74 + ["red"]), "cat house"]
    embeds = torch.cat([embed(ours, part) for part in parts], dim=1)
    negative = torch.cat([embed(ours, "")] * 2, dim=1)
    settings = {"prompt_embeds": embeds, "negative_prompt_embeds": negative}
    output = generate(ours, **settings, attribution_prompt=long)
    attribution = output.attribution
    assert len(attribution.prompt.tokens) == 154
    assert attribution.prompt.lost_words == ()
    assert attribution.word("red").columns == (75,)
    assert attribution.word("cat").columns == (78,)
    assert torch.equal(attribution.word("cat").values, attribution.column(78).values)
    unknown = generate(ours, **settings).attribution
    assert same_maps(unknown, attribution) and unknown.words == ()


def test_embeddings_with_less_padding(ours, generate):
    embeds = embed(ours, TEXT)[:, :60]
    settings = {"prompt_embeds": embeds, "negative_prompt_embeds": embed(ours, "")[:, :60]}
    output = generate(ours, **settings, attribution_prompt=TEXT)
    assert output.attribution.word("cat").columns == (3,)
    assert len(generate(ours, **settings).attribution.prompt.tokens) == 60


def test_the_empty_prompt(ours, generate):
    attribution = generate(ours, "").attribution
    assert attribution.words == ()
    words = attribution.region((0, 0, 96, 64))
    assert len(words) == 0 and set(words.special) == {"start", "end", "padding"}
    with pytest.raises(WordError) as error:
        attribution.word("cat")
    assert str(error.value) == "'cat' is not a word of the prompt, which has none: ''."


def test_a_prompt_that_is_too_long_names_what_was_lost(ours):
    long = " ".join(["a"] * 75 + ["cat", "hat"])
    with pytest.warns(PromptTruncatedWarning) as caught:
        output = ours(long, 64, 96, 1)
    assert [str(w.message) for w in caught] == [
        "The prompt is longer than the text encoder's 77 tokens; these words were not seen and "
        "have no heat map: cat, hat."
    ]
    assert caught[0].filename == __file__, "the warning points at the caller"
    with pytest.raises(WordError) as error:
        output.attribution.word("hat")
    assert str(error.value) == (
        "'hat' stands behind the last position that the text encoder saw (77 tokens), so it made "
        "nothing. Shorten the prompt or move the word forward."
    )
    assert [w.text for w in output.attribution.region((0, 0, 9, 9))] == ["a"]


def test_many_lost_words_are_cut_short_and_told_once_a_prompt(ours, generate):
    lost = [f"{a}{b}" for a in "bcdef" for b in "aeiou"]
    long = " ".join(["a"] * 75 + lost)
    with pytest.warns(PromptTruncatedWarning) as caught:
        generate(ours, [long, "a cat", long])
    [warning] = caught
    assert str(warning.message).endswith(f"no heat map: {', '.join(lost[:20])}, ….")


def test_a_word_that_is_cut_is_named(ours):
    long = " ".join(["a"] * 74 + ["astronautical"])
    with pytest.warns(PromptTruncatedWarning) as caught:
        ours(long, 64, 96, 1)
    assert [str(w.message) for w in caught] == [
        "The prompt is longer than the text encoder's 77 tokens; of 'astronautical' only a part "
        "was seen, and the heat map is that part's. Shorten the prompt or move the word forward."
    ]
    with pytest.warns(PromptTruncatedWarning, match="no heat map: hat. Of 'astronautical' only a"):
        ours(f"{long} hat", 64, 96, 1)


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_a_negative_prompt_is_not_recorded_as_the_prompt(ours, generate, guidance):
    settings = {"guidance_scale": guidance, "num_inference_steps": 1}
    plain = generate(ours, TEXT, **settings).attribution
    negative = generate(ours, TEXT, negative_prompt="two dogs", **settings).attribution
    assert negative.prompt == plain.prompt
    for a, b in zip(plain.grids, negative.grids, strict=True):
        torch.testing.assert_close(a.maps, b.maps, rtol=1e-5, atol=1e-8)


def test_unicode_prompts(ours, generate):
    text = "ein rotes Café \N{CAT FACE} für 2 cafe\N{COMBINING ACUTE ACCENT}s"
    attribution = generate(ours, text).attribution
    assert [word.text for word in attribution.words] == text.split()
    for word in attribution.words:
        assert word.columns and attribution.word(word).values.sum() > 0
