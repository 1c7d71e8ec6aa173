"""The output: the stock one, with attributions."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput

from diffusers_rdaam import Attribution
from diffusers_rdaam.errors import NoAttributionError, RecordingError
from diffusers_rdaam.pipelines.output import StableDiffusionRDAAMPipelineOutput


def several(owner: str) -> str:
    return (
        "The run made 2 images, each with an attribution of its own. "
        f"Use {owner}.attributions[i], i from 0 to 1."
    )


def test_it_is_a_stock_output_with_one_field_more(ours, generate):
    output = generate(ours)
    assert type(output) is StableDiffusionRDAAMPipelineOutput
    assert isinstance(output, StableDiffusionPipelineOutput)
    assert list(output) == ["images", "attributions"]
    assert output["images"] is output.images is output[0]
    assert output["attributions"] is output.attributions is output[-1]
    assert output.nsfw_content_detected is None
    assert isinstance(output.attribution, Attribution)
    assert output.attribution is output.attributions[0] is ours.attribution
    assert output.attribution.image is output.images[0]


def test_several_images(ours, generate):
    output = generate(ours, num_images_per_prompt=2)
    for owner, name in ((output, "output"), (ours, "pipe")):
        with pytest.raises(NoAttributionError) as error:
            _ = owner.attribution
        assert str(error.value) == several(name)
        assert len(owner.attributions) == 2
    assert [a.run["image_index"] for a in output.attributions] == [0, 1]


@pytest.mark.parametrize("again", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
@pytest.mark.parametrize("images", [1, 2])
def test_copies(ours, generate, again, images):
    output = generate(ours, num_images_per_prompt=images)
    twin = again(output)
    assert type(twin) is type(output) and list(twin) == list(output)
    assert np.array_equal(np.asarray(twin.images[0]), np.asarray(output.images[0]))
    for one, other in zip(twin.attributions, output.attributions, strict=True):
        assert one.prompt == other.prompt and one.run == other.run
        for a, b in zip(one.grids, other.grids, strict=True):
            assert torch.equal(a.maps, b.maps) and a.sites == b.sites
    if images == 2:
        with pytest.raises(NoAttributionError) as error:
            _ = twin.attribution
        assert str(error.value) == several("output")


@pytest.mark.parametrize("again", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_still_says_why_there_is_none(ours, generate, again):
    from diffusers.models.attention_processor import AttnProcessor2_0

    ours.set_attn_processor(AttnProcessor2_0())
    twin = again(generate(ours))
    assert twin.attributions is None and list(twin) == ["images"]
    with pytest.raises(NoAttributionError, match=r"^Recording is switched off"):
        _ = twin.attribution


def test_an_output_made_by_hand():
    output = StableDiffusionRDAAMPipelineOutput(images=[], nsfw_content_detected=None)
    with pytest.raises(NoAttributionError) as error:
        _ = output.attribution
    assert str(error.value) == "There is no attribution."


def test_before_any_run(ours):
    for attempt in (lambda: ours.attribution, lambda: ours.attributions):
        with pytest.raises(NoAttributionError) as error:
            attempt()
        assert str(error.value) == ("There has been no recorded run yet: call the pipeline first.")
        assert isinstance(error.value, RecordingError) and isinstance(error.value, RuntimeError)


def test_the_attribution_answers_both_ways(ours, generate):
    attribution = generate(ours).attribution
    box = (10, 5, 60, 40)
    words = attribution.region(box)
    assert {word.text for word in words} == {"a", "red", "cat", "near", "house"}
    heat = attribution.word("cat")
    assert heat.size == (64, 96)
    assert heat.mass(box) == pytest.approx(words["cat"], rel=1e-4)
    total = sum(word.score for word in words) + sum(words.special.values())
    assert total == pytest.approx(1.0, abs=1e-4)


def test_facts_of_the_run(make, generate, tiny):
    run = generate(make(), guidance_scale=3.0).attribution.run
    assert run == {
        "pipeline": "StableDiffusionRDAAMPipeline",
        "model": run["model"],
        "scheduler": "DDIMScheduler",
        "num_inference_steps": 2,
        "guidance_scale": 3.0,
        "negative_prompt": None,
        "seed": 7,
        "image_index": 0,
        "denoiser_calls": 2,
        "dtype": "float32",
        "attention": "cross",
    }


def test_the_attribution_needs_no_model_to_be_opened_again(ours, generate, tmp_path):
    attribution = generate(ours).attribution
    again = Attribution.load(attribution.save(tmp_path / "cat.safetensors"))
    assert again.prompt == attribution.prompt and again.run == attribution.run
    for a, b in zip(again.grids, attribution.grids, strict=True):
        torch.testing.assert_close(a.maps, b.maps, rtol=1e-3, atol=1e-6)
