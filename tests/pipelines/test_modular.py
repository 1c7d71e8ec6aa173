"""Modular pipelines: their guiders call the denoiser once a part, and the layout tells which."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import guiders
from diffusers.hooks import LayerSkipConfig
from diffusers.modular_pipelines import StableDiffusionXLAutoBlocks
from toys import CASES, PROMPT, parts_of, toy

from diffusers_rdaam.errors import UnsupportedPipelineError
from diffusers_rdaam.families import Branch
from diffusers_rdaam.families.guiders import GUIDERS, guider_layout
from diffusers_rdaam.families.unet import UNetFamily

XL = CASES["StableDiffusionXL"]
SKIPPED = LayerSkipConfig(
    indices=[0],
    fqn="mid_block.attentions.0.transformer_blocks",
    skip_attention=False,
    skip_attention_scores=True,
    skip_ff=False,
)
ENERGY = guiders.SmoothedEnergyGuidance
PERTURBED = guiders.PerturbedAttentionGuidance
SKIP = {"skip_layer_guidance_start": 0.0, "skip_layer_guidance_stop": 1.0}
PERTURB = {"perturbed_guidance_start": 0.0, "perturbed_guidance_stop": 1.0}
C, N, X = Branch.CONDITIONAL, Branch.UNCONDITIONAL, None
# Two steps. Skipped layers begin after the first.
RUNS: list[Any] = [
    (guiders.ClassifierFreeGuidance(guidance_scale=5.0), [C, N, C, N]),
    (guiders.ClassifierFreeGuidance(guidance_scale=1.0), [C, C]),
    (guiders.ClassifierFreeGuidance(guidance_scale=5.0, stop=0.5), [C, N, C]),
    (guiders.AdaptiveProjectedGuidance(guidance_scale=5.0), [C, N, C, N]),
    (
        guiders.SkipLayerGuidance(guidance_scale=5.0, skip_layer_config=SKIPPED, **SKIP),
        [C, N, C, N, X],
    ),
    (
        guiders.SkipLayerGuidance(guidance_scale=1.0, skip_layer_config=SKIPPED, **SKIP),
        [C, C, X],
    ),
    (PERTURBED(guidance_scale=5.0, perturbed_guidance_config=SKIPPED, **PERTURB), [C, N, C, N, X]),
]


@pytest.fixture(scope="module")
def modular():
    parts = parts_of(XL)
    pipe = StableDiffusionXLAutoBlocks().init_pipeline()
    names = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    pipe.update_components(**{name: parts[name] for name in (*names, "scheduler")})
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize(
    ("guider", "wanted"), RUNS, ids=[f"{type(g).__name__} {g.guidance_scale}" for g, _ in RUNS]
)
def test_each_call_is_told(modular, guider, wanted):
    modular.update_components(guider=guider)
    family = UNetFamily(guider_layout(lambda: modular.guider))
    assert family.denoiser(modular) is modular.unet
    calls = []

    def note(module, args, kwargs):
        calls.append((family.read_call(modular, args, kwargs), kwargs["encoder_hidden_states"]))

    handle = modular.unet.register_forward_pre_hook(note, with_kwargs=True)
    try:
        modular(
            prompt=[PROMPT, "two dogs"],
            negative_prompt=["ugly", "ugly"],
            height=64,
            width=96,
            num_inference_steps=2,
            output="images",
            generator=torch.Generator().manual_seed(7),
        )
    finally:
        handle.remove()
    rows = {C: {C: (0, 2)}, N: {N: (0, 2)}, X: None}
    found = [call and call.branches for call, _ in calls]
    assert found == [rows[part] for part in wanted]
    stock = toy(XL)[0]
    with torch.no_grad():
        text, negative, *_ = stock.encode_prompt(
            [PROMPT, "two dogs"], negative_prompt=["ugly", "ugly"], device="cpu"
        )
    assert not torch.equal(text, negative)
    for part, (_, given) in zip(wanted, calls, strict=True):
        if part is not None:
            assert torch.equal(given, text if part == C else negative)


def test_every_guider_of_diffusers_for_images_is_known():
    names = {name for name in dir(guiders) if name.endswith("Guidance")}
    assert names - {"BaseGuidance", "LTX2Guidance"} == set(GUIDERS)


def test_an_unknown_guider_is_refused_by_name():
    with pytest.raises(UnsupportedPipelineError) as error:
        guider_layout(guiders.LTX2Guidance())
    assert str(error.value) == (
        "The order of LTX2Guidance's denoiser calls is not known, and it is never guessed. Known "
        f"guiders: {', '.join(GUIDERS)}."
    )


def test_calls_outside_of_the_guiders_loop():
    guider = guiders.ClassifierFreeGuidance(guidance_scale=5.0)
    guider.set_state(step=0, num_inference_steps=2, timestep=1)
    with pytest.raises(UnsupportedPipelineError) as error:
        guider_layout(guider)((), {})
    assert str(error.value) == (
        "This is call 0 of a step in which ClassifierFreeGuidance makes 2. Was the denoiser called "
        "by something else than the guider's loop?"
    )
