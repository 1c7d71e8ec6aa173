"""What a modular pipeline keeps apart: its guider makes a denoiser call for each prompt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ClassifierFreeGuidance
from diffusers.modular_pipelines import StableDiffusionXLAutoBlocks
from oracle import check_kept, watched
from toys import CASES, parts_of

from diffusers_rdaam import RDAAMProcessor, record_attention
from diffusers_rdaam.errors import NoAttributionError, UnsupportedPipelineError

PROMPT = "a red cat near a house"
XL = CASES["StableDiffusionXL"]


def state(unet: Any) -> tuple[Any, ...]:
    return (
        {name: (id(p), type(p), set(vars(p))) for name, p in unet.attn_processors.items()},
        len(unet._forward_pre_hooks),
        len(unet._forward_hooks),
    )


@pytest.fixture(scope="module")
def modular() -> Any:
    pipe = StableDiffusionXLAutoBlocks().init_pipeline()
    specs = pipe._component_specs
    parts = {name: part for name, part in parts_of(XL).items() if name in specs}
    pipe.update_components(**parts, guider=ClassifierFreeGuidance(guidance_scale=5.0))
    return pipe


def run(pipe: Any, **kwargs: Any) -> Any:
    settings = {"prompt": PROMPT, "negative_prompt": "two dogs", "num_inference_steps": 3}
    settings |= {"height": 64, "width": 96, "generator": torch.Generator().manual_seed(7)}
    return pipe(**(settings | kwargs), output="images")[0]


@pytest.mark.parametrize(
    ("scale", "start", "conditional", "negative"),
    [
        (5.0, 0.0, [0, 2, 4], [1, 3, 5]),
        (1.0, 0.0, [0, 1, 2], None),
        (5.0, 0.4, [0, 1, 3], [None, 2, 4]),
    ],
    ids=["guided", "unguided", "guided at the end"],
)
def test_a_modular_pipeline(modular, scale, start, conditional, negative):
    modular.update_components(guider=ClassifierFreeGuidance(guidance_scale=scale, start=start))
    before, plain = state(modular.unet), run(modular)
    template = RDAAMProcessor(keep=("steps", "layers"), keep_negative=True)
    given = {"prompt": PROMPT, "negative_prompt": "two dogs"}
    with watched(modular) as seen, record_attention(modular, template, **given) as recording:
        image = run(modular)
    assert np.array_equal(np.asarray(image), np.asarray(plain)) and state(modular.unet) == before
    attribution = recording.attribution
    check_calls(attribution, seen, conditional)
    assert len(set(attribution.steps.timesteps)) == 3
    if negative is None:
        assert attribution.negative_attribution is None
    else:
        check_calls(attribution.negative, seen, negative)
        assert attribution.negative.steps.timesteps == attribution.steps.timesteps
        assert [word.text for word in attribution.negative.words] == ["two", "dogs"]
    assert attribution.with_image(image).image is image


def check_calls(attribution: Any, seen: Any, calls: list[int | None]) -> None:
    """The steps of an attribution are these calls of the denoiser; None where it had none."""
    chosen = seen.first(0)
    for site in seen:
        numbers = [0 if call is None else call for call in calls]
        chosen[site] = [seen[site][number] for number in numbers]
        chosen.masks[site] = [seen.masks[site][number] for number in numbers]
    check_kept(attribution.kept, chosen, [None if call is None else 0 for call in calls])


def test_an_unknown_guider_is_refused(modular):
    class OwnGuidance(ClassifierFreeGuidance):
        pass

    modular.update_components(guider=OwnGuidance())
    before = state(modular.unet)
    wanted = r"^The order of OwnGuidance's denoiser calls is not known"
    with pytest.raises(UnsupportedPipelineError, match=wanted), record_attention(modular):
        pass
    assert state(modular.unet) == before


def test_two_runs_of_different_sizes_cost_the_attribution_not_the_images(modular):
    modular.update_components(guider=ClassifierFreeGuidance(guidance_scale=5.0))
    plain = run(modular, height=96, width=64)
    with record_attention(modular, prompt=PROMPT) as recording:
        run(modular)
        assert recording.attribution.words
        image = run(modular, height=96, width=64)
    assert np.array_equal(np.asarray(image), np.asarray(plain))
    with pytest.raises(NoAttributionError, match=r"^The denoiser's input changed during the run"):
        _ = recording.attributions
