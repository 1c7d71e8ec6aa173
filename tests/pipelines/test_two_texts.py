"""Stable Diffusion XL with another text in the second encoder: whose words the columns are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from toys import CASES, build, call, parts_of, toy

from diffusers_rdaam import Attribution, RDAAMProcessor
from diffusers_rdaam.tokens.alignment import align

XL = CASES["StableDiffusionXL"]
FIRST, SECOND = "a red cat near a house", "two blue dogs, on the mat"
BOX = (0, 0, 20, 30)


def words(attribution: Any, encoder: int) -> list[str]:
    return [word.text for word in attribution.words if word.encoder == encoder]


@pytest.fixture(scope="module")
def attribution() -> Attribution:
    return call(XL, toy(XL)[1], FIRST, prompt_2=SECOND).attribution


def test_each_word_has_the_columns_of_its_own_tokenizer(attribution):
    _, ours = toy(XL)
    texts = ((FIRST, ours.tokenizer), (SECOND, ours.tokenizer_2))
    for encoder, (text, tokenizer) in enumerate(texts, 1):
        wanted = align(tokenizer, text, len(attribution.prompt.tokens))
        found = [word for word in attribution.words if word.encoder == encoder]
        assert [(w.text, w.columns) for w in found] == [(w.text, w.columns) for w in wanted.words]
        assert attribution.prompt.texts[encoder - 1] == wanted
    assert [word.index for word in attribution.words] == list(range(len(attribution.words)))
    assert attribution.words[0].encoder == 1 and attribution.words[-1].encoder == 2


def test_region_and_word_agree_and_the_columns_sum_to_1(attribution, tmp_path):
    loaded = Attribution.load(attribution.save(tmp_path / "two.safetensors"))
    assert loaded.prompt == attribution.prompt and loaded.words == attribution.words
    for one in (attribution, loaded, attribution.with_image(attribution.image)):
        answer = one.region(BOX)
        for word in one.words:
            assert answer[word] == pytest.approx(one.word(word).mass(BOX), abs=0.0)
        assert {entry.encoders for entry in answer} == {(1,), (2,)}
        distinct = {column for word in one.words for column in word.columns}
        total = float(answer.scores[sorted(distinct)].double().sum())
        assert total + sum(answer.special.values()) == pytest.approx(1.0, abs=1e-5)
        assert sum(entry.share for entry in answer) == pytest.approx(1.0)


def test_the_second_tokenizer_decides_the_second_words_columns():
    """Another tokenizer than the first, so that reading the first by mistake shows."""
    parts = parts_of(XL)
    other = parts["tokenizer"].from_pretrained(parts["tokenizer"].name_or_path)
    other.add_tokens(["two"])
    pipe = build(XL.ours, parts | {"tokenizer_2": other})
    pipe.text_encoder_2 = type(pipe.text_encoder_2)(pipe.text_encoder_2.config).eval()
    pipe.text_encoder_2.resize_token_embeddings(len(other), mean_resizing=False)
    text = "two on two"
    attribution = call(XL, pipe, FIRST, prompt_2=text).attribution
    wanted = align(other, text, len(attribution.prompt.tokens))
    assert attribution.prompt.further == (wanted,)
    assert wanted != align(parts["tokenizer"], text, len(wanted.tokens))


def test_the_negative_prompt_has_two_texts_too():
    pipe = build(XL.ours, parts_of(XL))
    pipe.set_attn_processor(RDAAMProcessor(keep_negative=True))
    options = {"negative_prompt": "ugly", "negative_prompt_2": "grey mud"}
    attribution = call(XL, pipe, FIRST, **options).attribution
    assert attribution.prompt.further == ()
    negative = attribution.negative
    assert (words(negative, 1), words(negative, 2)) == (["ugly"], ["grey", "mud"])
    assert attribution.region(BOX).negative["mud"] == negative.word("mud").mass(BOX)
    same = call(XL, pipe, FIRST, negative_prompt="ugly", negative_prompt_2="ugly").attribution
    assert same.negative.prompt.further == ()


@pytest.mark.parametrize("zeros", [True, False])
def test_a_second_negative_text_alone_counts_where_the_model_reads_it(zeros):
    pipe = build(XL.ours, parts_of(XL, force_zeros_for_empty_prompt=zeros))
    pipe.set_attn_processor(RDAAMProcessor(keep_negative=True))
    negative = call(XL, pipe, FIRST, negative_prompt_2="grey mud").attribution.negative
    assert negative.prompt.text == ""
    assert [word.text for word in negative.words] == ([] if zeros else ["grey", "mud"])


def test_each_of_two_prompts_has_its_own_second_text():
    output = call(
        XL,
        toy(XL)[1],
        [FIRST, "a hat"],
        prompt_2=["a hat", "a hat"],
        num_images_per_prompt=2,
    )
    found = [(a.prompt.text, [b.text for b in a.prompt.further]) for a in output.attributions]
    assert found == [(FIRST, ["a hat"])] * 2 + [("a hat", [])] * 2


def test_what_a_rewritten_call_has_encoded_counts():
    class Rewriting(XL.ours):
        def encode_prompt(self, *args: Any, **kwargs: Any) -> Any:
            return super().encode_prompt(*args, **(kwargs | {"prompt_2": SECOND}))

    pipe = build(Rewriting, parts_of(XL))
    attribution = call(XL, pipe, FIRST, prompt_2="a hat").attribution
    assert words(attribution, 1) == FIRST.split()
    assert words(attribution, 2) == ["two", "blue", "dogs", "on", "the", "mat"]


def test_steps_and_refined_maps_keep_both_texts():
    pipe = build(XL.ours, parts_of(XL))
    pipe.set_attn_processor(RDAAMProcessor(keep=("steps",), self_attention=True))
    attribution = call(XL, pipe, FIRST, prompt_2=SECOND).attribution
    parts = (attribution.steps[0], attribution.refined(), attribution.select(steps=1))
    for part in parts:
        assert part.words == attribution.words
    over_time = attribution.word("dogs").over_time()
    assert over_time.encoders == over_time[0].encoders == (2,)
    assert torch.equal(over_time[1].values, attribution.steps[1].word("dogs").values)
