"""Words of pipelines with one or two text encoders, and what else a run says of itself."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from diffusers.pipelines.stable_diffusion_xl import StableDiffusionXLPipelineOutput
from oracle import check, watched
from toys import CASES, PROMPT, SITES, Case, build, call, parts_of, toy, toy_unet

from diffusers_rdaam import Attribution, RDAAMPipelineMixin, RDAAMProcessor
from diffusers_rdaam.errors import InputError, PromptTruncatedWarning
from diffusers_rdaam.pipelines.output import StableDiffusionXLRDAAMPipelineOutput

XL = CASES["StableDiffusionXL"]


def same_maps(one, other) -> bool:
    return all(torch.equal(a.maps, b.maps) for a, b in zip(one.grids, other.grids, strict=True))


def test_one_text_in_both_encoders_is_one_prompt():
    _, ours = toy(XL)
    plain = call(XL, ours).attribution
    assert "prompt_2" not in plain.run
    twice = call(XL, ours, prompt_2=PROMPT).attribution
    assert twice.prompt == plain.prompt and same_maps(twice, plain)
    assert twice.prompt.further == () and all(word.encoder is None for word in twice.words)
    other = call(XL, ours, prompt_2="two blue dogs").attribution
    assert other.prompt.texts[0] == plain.prompt and not same_maps(other, plain)
    assert other.run["prompt_2"] == "two blue dogs"


def test_columns_are_told_by_the_first_tokenizer():
    """The second may pad with another token, which is no other kind of column."""
    parts = parts_of(XL)
    other = copy.deepcopy(parts["tokenizer"])
    other.pad_token = "!"
    ours = build(XL.ours, parts | {"tokenizer_2": other})
    attribution = call(XL, ours).attribution
    assert attribution.prompt == call(XL, toy(XL)[1]).attribution.prompt
    assert attribution.prompt.tokens[-1].text == "<|endoftext|>"


def test_the_refiner_has_the_second_encoder_only():
    case = Case("StableDiffusionXLImg2Img", CASES["StableDiffusionXLImg2Img"].call)
    parts = parts_of(case, unet=toy_unet(xl=True, encoders=1, ids=5)) | {
        "tokenizer": None,
        "text_encoder": None,
        "requires_aesthetics_score": True,
    }
    stock, ours = build(case.stock, parts), build(case.ours, parts)
    with watched(ours) as seen:
        output = call(case, ours, prompt_2="unread")
    check(output.attributions, seen, SITES)
    assert output.images[0].tobytes() == call(case, stock).images[0].tobytes()
    assert [word.text for word in output.attribution.words] == PROMPT.split()


def test_embeddings_with_their_text():
    _, ours = toy(XL)
    with torch.no_grad():
        embeds, negative, pooled, negative_pooled = ours.encode_prompt(PROMPT, device="cpu")
    given = {
        "prompt_embeds": embeds,
        "negative_prompt_embeds": negative,
        "pooled_prompt_embeds": pooled,
        "negative_pooled_prompt_embeds": negative_pooled,
    }
    plain = call(XL, ours).attribution
    told = call(XL, ours, None, **given, attribution_prompt=PROMPT).attribution
    assert told.prompt == plain.prompt and same_maps(told, plain)
    assert call(XL, ours, None, **given).attribution.words == ()


def test_a_prompt_that_is_too_long():
    _, ours = toy(XL)
    with pytest.warns(PromptTruncatedWarning, match="no heat map: cat, hat"):
        call(XL, ours, " ".join(["a"] * 75 + ["cat", "hat"]))


@pytest.mark.parametrize(
    "name", ["StableDiffusionInstructPix2Pix", "StableDiffusionXL", "LatentConsistencyModel"]
)
def test_a_call_that_rewrites_the_prompt(name):
    class Painted(RDAAMPipelineMixin, CASES[name].stock):
        def __call__(self, prompt, **kwargs):
            return super().__call__(f"a painting of {prompt}", **kwargs)

    case = CASES[name]
    painted = build(Painted, parts_of(case))
    attribution = call(case, painted).attribution
    wanted = call(case, toy(case)[1], f"a painting of {PROMPT}").attribution
    assert attribution.prompt == wanted.prompt and same_maps(attribution, wanted)


def test_the_output_is_a_stock_output_with_one_field_more():
    output = call(XL, toy(XL)[1])
    assert type(output) is StableDiffusionXLRDAAMPipelineOutput
    assert isinstance(output, StableDiffusionXLPipelineOutput)
    assert list(output) == ["images", "attributions"]
    for twin in (pickle.loads(pickle.dumps(output)), copy.deepcopy(output)):
        assert type(twin) is type(output) and list(twin) == list(output)
        assert same_maps(twin.attribution, output.attribution)


def test_facts_of_the_run(tmp_path):
    cases = {
        "StableDiffusionXLImg2Img": {"strength": 0.5, "denoiser_calls": 2},
        "StableDiffusionInstructPix2Pix": {"image_guidance_scale": 1.5, "num_inference_steps": 2},
        "StableDiffusionControlNet": {"guidance_scale": 5.0, "seed": 7, "model": None},
    }
    for name, facts in cases.items():
        attribution = call(CASES[name], toy(CASES[name])[1]).attribution
        assert facts.items() <= attribution.run.items()
        again = Attribution.load(attribution.save(tmp_path / f"{name}.safetensors"))
        assert again.run == attribution.run and again.prompt == attribution.prompt


@pytest.mark.parametrize(("strength", "calls"), [(0.25, 1), (0.5, 2), (1.0, 4)])
@pytest.mark.parametrize("name", ["StableDiffusionImg2Img", "StableDiffusionXLInpaint"])
def test_strength_decides_how_many_calls_there_are(name, strength, calls):
    case = CASES[name]
    _, ours = toy(case)
    with watched(ours) as seen:
        output = call(case, ours, strength=strength)
    check(output.attributions, seen, SITES)
    assert output.attribution.run["denoiser_calls"] == calls
    assert output.attribution.grids[0].additions == SITES * calls


@pytest.mark.parametrize("image_guidance", [1.5, 0.5])
@pytest.mark.parametrize(
    "name", ["StableDiffusionInstructPix2Pix", "StableDiffusionXLInstructPix2Pix"]
)
def test_pix2pix_is_guided_by_text_and_image_together(name, image_guidance):
    case = CASES[name]
    stock, ours = toy(case)
    with watched(ours) as seen:
        output = call(case, ours, image_guidance_scale=image_guidance)
    wanted = call(case, stock, image_guidance_scale=image_guidance)
    assert output.images[0].tobytes() == wanted.images[0].tobytes()
    rows = {len(query) for pairs in seen.values() for query, _ in pairs}
    assert rows == {3 if image_guidance >= 1 else 1}
    check(output.attributions, seen, SITES, first=True)


def test_guidance_that_is_switched_off_during_the_run():
    _, ours = toy(XL)

    def cut(pipe, step, timestep, tensors):
        if step == 0:
            pipe._guidance_scale = 0.0
            for name in tensors:
                tensors[name] = tensors[name].chunk(2)[-1]
        return tensors

    inputs = ["prompt_embeds", "add_text_embeds", "add_time_ids"]
    with watched(ours) as seen:
        output = call(XL, ours, callback_on_step_end=cut, callback_on_step_end_tensor_inputs=inputs)
    assert [len(query) for query, _ in next(iter(seen.values()))] == [2, 1]
    check(output.attributions, seen, SITES)


# Of numpy, about how diffusers' schedulers turn tensors into arrays.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_base_and_refiner_share_the_steps():
    """``denoising_end`` and ``denoising_start``: each records the calls that it made."""
    _, base = toy(XL)
    case = CASES["StableDiffusionXLImg2Img"]
    parts = parts_of(case, scheduler=EulerDiscreteScheduler(num_train_timesteps=1000))
    refiner = build(case.ours, parts)
    steps = {"num_inference_steps": 4}
    latents = call(XL, base, **steps, denoising_end=0.5, output_type="latent")
    assert latents.attribution.run["denoiser_calls"] == 2
    image = call(case, refiner, **steps, denoising_start=0.5, image=latents.images)
    assert image.attribution.run["denoiser_calls"] == 2
    assert image.attribution.image_size == (64, 96)


@pytest.mark.parametrize("name", ["StableDiffusionXL", "StableDiffusionXLInstructPix2Pix"])
def test_a_single_plane_is_refused_where_it_would_stagnate(name):
    """Also by a pipeline that does not count its steps."""
    case = CASES[name]
    ours = build(case.ours, parts_of(case))
    ours.set_attn_processor(RDAAMProcessor(precision="fp16"))
    assert call(case, ours).attribution.words
    with pytest.raises(InputError, match="4 sites x 200 denoiser calls = 800 times"):
        call(case, ours, num_inference_steps=200)
