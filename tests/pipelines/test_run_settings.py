"""What else a user may switch on or load: right maps and the stock image, or a clear error."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.callbacks import SDCFGCutoffCallback, SDXLCFGCutoffCallback
from diffusers.utils import convert_state_dict_to_diffusers
from oracle import check, watched
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from toys import ALL_CASES, CASES, PROMPT, SITES, Case, build, call, parts_of, toy, toy_unet

from diffusers_rdaam.errors import (
    NotRecordedWarning,
    SiteMisfitWarning,
    UnsupportedPipelineError,
)
from diffusers_rdaam.families import family_of
from diffusers_rdaam.tokens.given_text import converted_places

SD, XL = CASES["StableDiffusion"], CASES["StableDiffusionXL"]
PAIR = [pytest.param(SD, id="SD"), pytest.param(XL, id="XL")]


def pair(case: Case, **parts: Any) -> tuple[Any, Any]:
    """A stock pipeline and ours that the test may change."""
    made = parts_of(case, **parts)
    return build(case.stock, made), build(case.ours, made)


def check_pair(case: Case, stock: Any, ours: Any, rows: str = "", **kwargs: Any) -> Any:
    """The images are equal and the maps those of float64; gives ours."""
    with watched(ours) as seen:
        output = call(case, ours, **kwargs)
    wanted = call(case, stock, **kwargs)
    assert np.array_equal(*(np.asarray(result[0][0]) for result in (output, wanted)))
    check(ours.attributions, seen, case.sites, rows=rows)
    return output


def same_maps(one: Any, other: Any) -> bool:
    return all(torch.equal(a.maps, b.maps) for a, b in zip(one.grids, other.grids, strict=True))


def plain(case: Case) -> Any:
    return call(case, toy(case)[1]).attribution


@pytest.mark.parametrize("vectors", [1, 3])
@pytest.mark.parametrize("case", PAIR)
def test_textual_inversion(case, vectors):
    own = ("tokenizer", "text_encoder")
    pipes = [
        build(cls, parts | {name: copy.deepcopy(parts[name]) for name in own})
        for cls in (case.stock, case.ours)
        for parts in [parts_of(case)]
    ]
    torch.manual_seed(1)
    embeddings = {"<cat-toy>": torch.randn(vectors, 32), "<cat>": torch.randn(2, 32)}
    for pipe in pipes:
        for token, value in embeddings.items():
            tokens = {"tokenizer": pipe.tokenizer, "text_encoder": pipe.text_encoder}
            pipe.load_textual_inversion({token: value}, **tokens)
        if case.xl:
            pipe.text_encoder_2 = copy.deepcopy(pipe.text_encoder_2)
            pipe.tokenizer_2 = pipe.tokenizer
            pipe.text_encoder_2.resize_token_embeddings(len(pipe.tokenizer))
            table = pipes[0].text_encoder_2.get_input_embeddings().weight.data
            pipe.text_encoder_2.get_input_embeddings().weight.data.copy_(table)
    text = "a <cat-toy> near <cat> and a house"
    attribution = check_pair(case, *pipes, prompt=text).attribution
    assert attribution.prompt.text == text
    assert attribution.prompt.find("<cat-toy>").columns == tuple(range(2, 2 + vectors))
    word = attribution.word("<cat-toy>").values
    columns = [attribution.column(2 + index).values for index in range(vectors)]
    np.testing.assert_allclose(word, sum(columns), rtol=1e-5)
    names = [w.text for w in attribution.words]
    assert names == ["a", "<cat-toy>", "near", "<cat>", "and", "a", "house"]
    spans = {(token.start, token.end) for token in attribution.prompt.tokens}
    assert {(2, 11), (17, 22)} <= spans


def test_clip_skip():
    # Stable Diffusion 1's own fails with transformers 5, before anything is recorded.
    attribution = check_pair(XL, *toy(XL), clip_skip=1).attribution
    assert not same_maps(attribution, plain(XL)) and attribution.prompt == plain(XL).prompt
    assert attribution.run["clip_skip"] == 1 and "clip_skip" not in plain(XL).run


def test_long_embeddings_of_two_encoders():
    stock, ours = toy(XL)
    texts = ["a red cat", "near a house"]
    with torch.no_grad():
        made = [ours.encode_prompt(text, device="cpu", num_images_per_prompt=1) for text in texts]
    long, negative = (torch.cat([part[index] for part in made], dim=1) for index in (0, 1))
    given = {"prompt_embeds": long, "negative_prompt_embeds": negative}
    given |= {"pooled_prompt_embeds": made[0][2], "negative_pooled_prompt_embeds": made[0][3]}
    with watched(ours) as seen:
        output = call(XL, ours, None, **given, attribution_prompt=[texts])
    assert output.images[0].tobytes() == call(XL, stock, None, **given).images[0].tobytes()
    check(output.attributions, seen, SITES)
    columns = [word.columns for word in output.attribution.words]
    assert columns == [(1,), (2,), (3,), (78,), (79,), (80,)]


@pytest.mark.parametrize("case", PAIR)
def test_lora(case):
    stock, ours = pair(case)
    without = check_pair(case, stock, ours).attribution
    torch.manual_seed(2)
    donor = copy.deepcopy(stock.unet)
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    donor.add_adapter(LoraConfig(r=2, target_modules=targets, init_lora_weights=False))
    state = convert_state_dict_to_diffusers(get_peft_model_state_dict(donor))
    for pipe in (stock, ours):
        pipe.load_lora_weights({f"unet.{name}": value for name, value in state.items()})
    loaded = check_pair(case, stock, ours).attribution
    half = check_pair(case, stock, ours, cross_attention_kwargs={"scale": 0.5}).attribution
    assert not same_maps(loaded, without) and not same_maps(half, loaded)
    for pipe in (stock, ours):
        pipe.fuse_lora()
    fused = check_pair(case, stock, ours).attribution
    for one, other in zip(fused.grids, loaded.grids, strict=True):
        torch.testing.assert_close(one.maps, other.maps, atol=1e-4, rtol=1e-3)
    for pipe in (stock, ours):
        pipe.unfuse_lora()
        pipe.unload_lora_weights()
    after = check_pair(case, stock, ours).attribution
    for one, other in zip(after.grids, without.grids, strict=True):
        torch.testing.assert_close(one.maps, other.maps, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("case", PAIR)
def test_free_u(case):
    stock, ours = pair(case)
    for pipe in (stock, ours):
        pipe.enable_freeu(s1=0.5, s2=0.2, b1=1.4, b2=1.6)
    check_pair(case, stock, ours)


@pytest.mark.parametrize("case", PAIR)
def test_guidance_rescale(case):
    check_pair(case, *toy(case), guidance_rescale=0.7)


@pytest.mark.parametrize(
    ("case", "callback"), [(SD, SDCFGCutoffCallback), (XL, SDXLCFGCutoffCallback)], ids=["SD", "XL"]
)
def test_guidance_that_is_cut_off_during_the_run(case, callback):
    settings = {"num_inference_steps": 4, "callback_on_step_end": callback(cutoff_step_ratio=0.5)}
    stock, ours = toy(case)
    with watched(ours) as seen:
        output = call(case, ours, **settings)
    assert output.images[0].tobytes() == call(case, stock, **settings).images[0].tobytes()
    assert [len(query) for query, _ in next(iter(seen.values()))] == [2, 2, 2, 1]
    check(output.attributions, seen, SITES)


def test_base_and_refiner_are_told_apart():
    refiner = Case("StableDiffusionXLImg2Img", {})
    parts = {"unet": toy_unet(xl=True, encoders=1, ids=5)}
    made = parts_of(refiner, **parts) | {"tokenizer": None, "text_encoder": None}
    made["requires_aesthetics_score"] = True
    second = [build(cls, made) for cls in (refiner.stock, refiner.ours)]
    steps = {"num_inference_steps": 5}
    base = check_pair(XL, *toy(XL), **steps, denoising_end=0.8, output_type="latent")
    given = {"image": base.images, "denoising_start": 0.8}
    fine = check_pair(refiner, *second, **steps, **given)
    runs = base.attribution.run, fine.attribution.run
    assert [run.get("denoising_end") for run in runs] == [0.8, None]
    assert [run.get("denoising_start") for run in runs] == [None, 0.8]
    assert [run["denoiser_calls"] for run in runs] == [4, 1]


@contextmanager
def tiled(pipe: Any, last: str) -> Iterator[None]:
    """Attention modules of a name work on the image's halves, as tools for large images do."""
    handles = []
    for name, module in pipe.unet.named_modules():
        if name.endswith(last):
            forward = module.forward

            def halves(hidden_states, *args, forward=forward, **kwargs):
                parts = hidden_states.chunk(2, dim=1)
                return torch.cat([forward(part, *args, **kwargs) for part in parts], dim=1)

            module.forward = halves
            handles.append(module)
    try:
        yield
    finally:
        for module in handles:
            del module.forward


def test_tiles_of_self_attention_change_nothing():
    stock, ours = toy(SD)
    with tiled(stock, "attn1"), tiled(ours, "attn1"):
        attribution = check_pair(SD, stock, ours).attribution
    assert not same_maps(attribution, plain(SD))


def test_tiles_of_text_attention_cost_the_attribution_with_a_reason():
    _, ours = toy(SD)
    with (
        tiled(ours, "attn2"),
        pytest.warns(SiteMisfitWarning, match="from 12 image positions,"),
    ):
        assert call(SD, ours).attributions is None
    assert same_maps(call(SD, ours).attribution, plain(SD))


VIDEO = ALL_CASES["AnimateDiff"]


def test_free_init_counts_every_call():
    stock, ours = pair(VIDEO)
    for pipe in (stock, ours):
        pipe.enable_free_init(num_iters=2)
    attribution = check_pair(VIDEO, stock, ours, rows="uc") and ours.attributions[0]
    assert attribution.run["denoiser_calls"] == 4


@pytest.mark.parametrize("guidance", [5.0, 1.0])
def test_free_noise_with_one_prompt(guidance):
    stock, ours = pair(VIDEO)
    for pipe in (stock, ours):
        pipe.enable_free_noise(context_length=2, context_stride=1)
    rows = VIDEO.rows(guidance)
    check_pair(VIDEO, stock, ours, rows=rows, guidance_scale=guidance)
    assert {a.prompt.text for a in ours.attributions} == {PROMPT} and len(ours.attributions) == 3


def test_free_noise_with_prompts_of_frames_has_no_attribution():
    stock, ours = pair(VIDEO)
    prompts = {0: "a red cat", 2: "two dogs"}
    for pipe in (stock, ours):
        pipe.enable_free_noise(context_length=2, context_stride=1)
    with pytest.warns(NotRecordedWarning, match="of these 2: 'a red cat', 'two dogs'"):
        output = call(VIDEO, ours, dict(prompts))
    wanted = call(VIDEO, stock, dict(prompts))
    assert np.array_equal(*(np.asarray(result.frames[0][1]) for result in (output, wanted)))


def test_rows_that_come_in_parts_are_refused():
    _, ours = pair(VIDEO)
    ours.enable_free_noise(context_length=2, context_stride=1)
    ours.enable_free_noise_split_inference(temporal_split_size=2)
    with pytest.raises(UnsupportedPipelineError, match=r"^enable_free_noise_split_inference makes"):
        call(VIDEO, ours)
    with pytest.raises(UnsupportedPipelineError, match=r"or use the stock pipeline\.$"):
        family_of(ours).sites(ours.unet)


def test_a_token_whose_name_begins_with_another():
    tokenizer = SimpleNamespace(added_tokens_encoder={"sk": 1, "sks": 2, "sks_1": 3})
    places = converted_places(tokenizer, "a sks b", "a sks sks_1 b")
    assert places == [(0, 1), (1, 2), *[(2, 5)] * 9, (5, 6), (6, 7)]
    assert converted_places(tokenizer, "a sks b", "a painting") is None
