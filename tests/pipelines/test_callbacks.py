"""Callbacks that watch a run: the image stays the same, and so does a callback of one's own."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from diffusers.callbacks import MultiPipelineCallbacks, SDCFGCutoffCallback
from toys import CASES, call, toy

from diffusers_rdaam import (
    Attribution,
    IntermediateImages,
    LivePreview,
    RDAAMProcessor,
    record_attention,
)
from diffusers_rdaam.errors import InputError, NoAttributionError, NotRecordedWarning
from diffusers_rdaam.recording.buffers.accumulator import HeatMapAccumulator


def pixels(output) -> np.ndarray:
    return np.stack([np.asarray(image) for image in output.images])


def test_a_preview_sees_what_a_shorter_record_has(ours, generate, stock):
    seen: list[tuple[int, list[Attribution]]] = []
    ours.set_attn_processor(RDAAMProcessor(keep="steps"))
    preview = LivePreview(lambda attributions, step: seen.append((step, attributions)), every=2)
    output = generate(ours, num_inference_steps=6, callback_on_step_end=preview)
    assert np.array_equal(pixels(output), pixels(generate(stock, num_inference_steps=6)))
    assert [step for step, _ in seen] == [0, 2, 4, 5], "every second one, and the last"
    for step, (attribution,) in seen:
        assert attribution.image is None and attribution.image_size == (64, 96)
        assert attribution.words == output.attribution.words
        part = output.attribution.steps[: step + 1]
        for a, b in zip(attribution.grids, part.grids, strict=True):
            assert a.additions == b.additions and torch.equal(a.maps, b.maps)


def test_a_preview_with_images_of_the_moment(ours, generate, stock):
    seen = []
    preview = LivePreview(
        lambda attributions, step: seen.append([a.image for a in attributions]),
        steps=[1],
        images=True,
    )
    output = generate(ours, num_images_per_prompt=2, callback_on_step_end=preview)
    ((first, second),) = seen
    assert first.size == (96, 64)
    # After the last step the latents are those of the images.
    assert np.array_equal(np.stack([first, second]), pixels(output))


def test_it_goes_with_a_callback_of_ones_own(ours, generate, stock):
    given = []

    def own(pipe, step, timestep, tensors):
        given.append((step, sorted(tensors)))
        return {"latents": tensors["latents"] * 0.5}

    keep = IntermediateImages(every=1, then=own, tensor_inputs=["prompt_embeds"])
    output = generate(ours, callback_on_step_end=keep)
    assert given == [(0, ["latents", "prompt_embeds"]), (1, ["latents", "prompt_embeds"])]
    given.clear()
    plain = generate(stock, callback_on_step_end=own)
    assert np.array_equal(pixels(output), pixels(plain))
    assert len(keep) == 2


def test_it_goes_with_those_of_diffusers(ours, generate, stock):
    cut = SDCFGCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=1)
    keep = IntermediateImages()
    for callback in (MultiPipelineCallbacks([keep, cut]), IntermediateImages(then=cut)):
        output = generate(ours, num_inference_steps=4, callback_on_step_end=callback)
        plain = generate(stock, num_inference_steps=4, callback_on_step_end=cut)
        assert np.array_equal(pixels(output), pixels(plain))
        assert output.attribution.run["denoiser_calls"] == 4


@pytest.mark.parametrize("name", ["StableDiffusion", "StableDiffusionXL", "StableDiffusionInpaint"])
def test_intermediate_images(name, tmp_path):
    case = CASES[name]
    stock, ours = toy(case)
    keep = IntermediateImages(every=1)
    output = call(case, ours, num_images_per_prompt=2, callback_on_step_end=keep)
    assert np.array_equal(pixels(output), pixels(call(case, stock, num_images_per_prompt=2)))
    assert [kept.step for kept in keep] == [0, 1]
    assert keep[0].timestep > keep[1].timestep
    assert all(len(kept.images) == 2 for kept in keep)
    assert not np.array_equal(*(np.asarray(kept.images[1]) for kept in keep))
    # The last ones are the images.
    assert np.array_equal(np.stack(keep[-1].images), pixels(output))
    page = keep.html(tmp_path / "steps.html", image=1, title="<b>a cat</b>").read_text("utf-8")
    assert page.count("data:image/") >= 2 and "<b>a cat</b>" not in page
    assert f"step 1 of 2, timestep {keep[0].timestep:g}" in page
    assert keep.gif(tmp_path / "steps.gif", image=-1).read_bytes().startswith(b"GIF89a")
    call(case, ours, callback_on_step_end=keep)
    assert [len(kept.images) for kept in keep] == [1, 1], "a new call starts afresh"


def test_half_precision_decoders_are_left_as_they_were():
    case = CASES["StableDiffusionXL"]
    _, ours = toy(case)
    before = ours.vae.dtype
    ours.vae.to(torch.float16)
    seen = []
    keep = IntermediateImages(then=lambda pipe, *rest: seen.append(pipe.vae.dtype) or rest[-1])
    try:
        call(case, ours, output_type="latent", callback_on_step_end=keep)
    finally:
        ours.vae.to(before)
    assert seen == [torch.float16] * 2 and len(keep) == 2


def test_what_cannot_be_shown_is_a_warning_and_the_image_is_made(stock, generate):
    shown = []
    preview = LivePreview(lambda *given: shown.append(given), every=9)
    text = "step 0: this StableDiffusionPipeline does not record. Call it within record_attention"
    with pytest.warns(NotRecordedWarning, match=re.escape(text)) as caught:
        output = generate(stock, callback_on_step_end=preview)
    assert len([w for w in caught if w.category is NotRecordedWarning]) == 1, "one for the run"
    assert shown == [] and np.array_equal(pixels(output), pixels(generate(stock)))
    with record_attention(stock):
        generate(stock, callback_on_step_end=preview)
    assert [step for _, step in shown] == [0, 1]


def test_a_preview_of_a_run_that_is_not_recorded(ours, generate, stock):
    from diffusers.models.attention_processor import AttnProcessor2_0

    ours.set_attn_processor(AttnProcessor2_0())
    shown = []
    preview = LivePreview(lambda *given: shown.append(given), every=9)
    text = "LivePreview has nothing of step 0: No recorded run is going on."
    with pytest.warns(NotRecordedWarning, match=re.escape(text)):
        output = generate(ours, callback_on_step_end=preview)
    assert shown == []
    assert np.array_equal(pixels(output), pixels(generate(stock)))


def test_bad_input(ours, generate, tmp_path):
    for every in (0, -1, 2.5, True):
        with pytest.raises(InputError, match=r"every= is a number of steps of at least 1; got"):
            IntermediateImages(every=every)
    keep = IntermediateImages()
    assert "No steps were kept yet" in keep._repr_html_()
    with pytest.raises(InputError, match=r"No steps were kept yet\. Call the pipeline with"):
        keep.gif(tmp_path / "steps.gif")
    generate(ours, callback_on_step_end=keep)
    with pytest.raises(InputError, match="The call made 1 images; 1 is not the index of one"):
        keep.html(tmp_path / "steps.html", image=1)
    with pytest.raises(InputError, match="The page could not be written to"):
        keep.html(tmp_path / "missing" / "steps.html")
    with pytest.raises(NoAttributionError, match="No recorded run is going on"):
        _ = ours.attributions_so_far


def test_previews_copy_what_a_step_kept_once(ours, generate, monkeypatch):
    copied = []
    sums = HeatMapAccumulator.sums
    monkeypatch.setattr(
        HeatMapAccumulator, "sums", lambda self, bank: copied.append(bank) or sums(self, bank)
    )
    ours.set_attn_processor(RDAAMProcessor(keep="steps"))
    kept = []
    banks = 0
    for steps in (6, 12):
        copied.clear()
        preview = LivePreview(lambda attributions, step: kept.append(attributions[0]), every=1)
        output = generate(ours, num_inference_steps=steps, callback_on_step_end=preview)
        banks = banks or len(set(copied))
        # The last step's preview and the output's own reading: one copy more of each step.
        assert len(copied) <= 2 * steps * banks
    for step, attribution in enumerate(kept[-12:]):
        assert attribution.kept.steps == step + 1
        part = output.attribution.steps[: step + 1]
        for a, b in zip(attribution.kept.details, part.kept.details, strict=True):
            assert torch.equal(a.maps, b.maps), "an earlier preview is not written to"


def test_a_callback_begins_anew_with_every_run(ours, generate, stock):
    keep = IntermediateImages(steps=[3])
    generate(ours, num_inference_steps=4, callback_on_step_end=keep)
    assert [kept.step for kept in keep] == [3]
    generate(ours, num_inference_steps=2, callback_on_step_end=keep)
    assert len(keep) == 0, "the run before had four steps"
    generate(ours, num_inference_steps=4, callback_on_step_end=keep)
    generate(stock, num_inference_steps=2, callback_on_step_end=keep)
    assert len(keep) == 0, "another pipeline, which does not say that its run begins"


def test_a_callback_after_an_interrupt(ours, generate):
    keep = IntermediateImages(every=1)
    chain = LivePreview(lambda *given: None, then=keep)
    for callback in (keep, chain, MultiPipelineCallbacks([keep])):
        generate(ours, num_inference_steps=3, callback_on_step_end=callback)
        assert len(keep) == 3

        def interrupt(*unused):
            raise KeyboardInterrupt

        handle = ours.unet.register_forward_hook(interrupt)
        try:
            with pytest.raises(KeyboardInterrupt):
                generate(ours, num_inference_steps=3, callback_on_step_end=callback)
        finally:
            handle.remove()
        assert len(keep) == 0, "no step of this run was kept"


def test_a_callback_does_not_keep_its_pipeline(ours, generate):
    keep = IntermediateImages(every=1)
    generate(ours, callback_on_step_end=keep)
    assert keep._pipeline() is ours and ours not in vars(keep).values()
