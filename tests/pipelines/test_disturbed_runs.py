"""Runs that something disturbs: the image is stock's, and what the attribution lacks is told."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from oracle import watched
from own_loops import rows_of_calls
from torch import nn

from diffusers_rdaam import (
    Attribution,
    RDAAMProcessor,
    StableDiffusionRDAAMPipeline,
    record_attention,
)
from diffusers_rdaam.attention.map_target import Target
from diffusers_rdaam.errors import (
    DenoiserReplacedWarning,
    ForeignThreadWarning,
    InputError,
    NoAttributionError,
    NotFiniteWarning,
    PromptSwitchedWarning,
    RecordingFailedWarning,
    SiteMisfitWarning,
    UnreadableDenoiserWarning,
    UnsupportedPipelineError,
)
from diffusers_rdaam.recording.buffers.accumulator import HeatMapAccumulator
from diffusers_rdaam.recording.recorder import Recorder
from diffusers_rdaam.recording.records.queries import QueriesRecord
from diffusers_rdaam.recording.records.self_attention import SelfAttentionRecord
from diffusers_rdaam.recording.records.text import TextRecord
from diffusers_rdaam.recording.records.vocabulary import VocabularyRecord


def pixels(output: Any) -> np.ndarray:
    return np.stack([np.asarray(image) for image in output.images])


OPERATIONS = [
    (Target, "add_branches"),
    (Target, "matches"),
    (TextRecord, "targets"),
    (TextRecord, "check"),
    (SelfAttentionRecord, "targets"),
    (VocabularyRecord, "targets"),
    (QueriesRecord, "targets"),
    (QueriesRecord, "after_call"),
    (QueriesRecord, "_put"),
    (Recorder, "_arm"),
    (HeatMapAccumulator, "make_room"),
]


MEMORY = torch.OutOfMemoryError("no memory")
FAILURES = [
    *((cls, name, MEMORY) for cls, name in OPERATIONS),
    (Target, "add_branches", RuntimeError("torch")),
    (TextRecord, "targets", AttributeError("mine")),
]


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("cls", "name", "error"), FAILURES, ids=lambda part: getattr(part, "__name__", str(part))
)
def test_an_exception_of_recording_never_ends_a_run(
    ours, stock, generate, left, monkeypatch, cls, name, error
):
    """Of every operation, at a later step; the next run is as any."""
    ours.set_attn_processor(RDAAMProcessor(keep="queries", self_attention=True))
    inner, steps = getattr(cls, name), []

    def fail(self: Any, *args: Any, **kwargs: Any) -> Any:
        if steps:
            raise error
        return inner(self, *args, **kwargs)

    def note(pipe: Any, step: int, timestep: Any, tensors: Any) -> Any:
        steps.append(step)
        return tensors

    monkeypatch.setattr(cls, name, fail)
    call = {"num_inference_steps": 3, "attribution_vocabulary": ["a dog"]}
    with pytest.warns(RecordingFailedWarning, match=str(error)) as caught:
        output = generate(ours, callback_on_step_end=note, **call)
    assert len(caught) == 1
    monkeypatch.undo()
    assert np.array_equal(pixels(output), pixels(generate(stock, num_inference_steps=3)))
    with pytest.raises(NoAttributionError, match=type(error).__name__):
        _ = output.attribution
    assert left(ours) == []
    assert generate(ours, **call).attribution.words


def test_an_exception_while_the_buffers_are_made_is_noted_too(ours, stock, generate, monkeypatch):
    def fail(*arguments: Any) -> Any:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(HeatMapAccumulator, "_plane", fail)
    with pytest.warns(RecordingFailedWarning, match="OutOfMemoryError: no memory. Make smaller"):
        output = generate(ours)
    assert np.array_equal(pixels(output), pixels(generate(stock)))


def split(unet: Any) -> Any:
    """The guided halves one after the other."""
    inner = unet.forward

    def forward(sample: Any, timestep: Any, encoder_hidden_states: Any, **kwargs: Any) -> Any:
        parts = zip(sample.chunk(2), encoder_hidden_states.chunk(2), strict=True)
        kwargs["return_dict"] = False
        return (torch.cat([inner(s, timestep, e, **kwargs)[0] for s, e in parts]),)

    return forward


def doubled(unet: Any) -> Any:
    """Every row twice, as for test-time augmentation."""
    inner = unet.forward

    def forward(sample: Any, timestep: Any, encoder_hidden_states: Any, **kwargs: Any) -> Any:
        kwargs["return_dict"] = False
        found = inner(
            torch.cat([sample] * 2), timestep, torch.cat([encoder_hidden_states] * 2), **kwargs
        )
        return (found[0].chunk(2)[0],)

    return forward


def shortened(unet: Any) -> Any:
    """A coarser latent inside, as in two-pass tricks for high resolutions."""
    inner = unet.forward

    def forward(sample: Any, timestep: Any, encoder_hidden_states: Any, **kwargs: Any) -> Any:
        kwargs["return_dict"] = False
        small = inner(sample[..., ::2, ::2], timestep, encoder_hidden_states, **kwargs)[0]
        return (small.repeat_interleave(2, -1).repeat_interleave(2, -2),)

    return forward


@pytest.mark.parametrize(
    ("way", "text"),
    [
        (split, "attends with 1 rows, where its denoiser call has 2"),
        (doubled, "attends with 4 rows, where its denoiser call has 2"),
        (shortened, "attends from 24 image positions, where 96"),
    ],
)
def test_what_happens_inside_of_the_denoiser_is_told(make, stock, generate, way, text):
    ours = make(share=stock, cls=StableDiffusionRDAAMPipeline)
    stock.unet.forward = way(stock.unet)
    wanted = pixels(generate(stock))
    with pytest.warns(SiteMisfitWarning, match=text) as caught:
        output = generate(ours)
    assert len(caught) == 1 and np.array_equal(pixels(output), wanted)
    assert output.attributions is None


def test_merged_tokens_are_told(ours, stock, generate):
    """Half of the image's tokens leave before the text attention and come back after it."""
    for pipe in (ours, stock):
        for name, module in pipe.unet.named_modules():
            if name.endswith("attn2"):
                module.forward = merged(module.forward)
    with pytest.warns(SiteMisfitWarning, match="attends from 48 image positions, where 96"):
        output = generate(ours)
    assert np.array_equal(pixels(output), pixels(generate(stock)))


def merged(inner: Any) -> Any:
    def forward(hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        return inner(hidden_states[:, ::2], *args, **kwargs).repeat_interleave(2, dim=1)

    return forward


def switched(text: str, after: int) -> Any:
    """Prompt scheduling by a callback."""

    def switch(pipe: Any, step: int, timestep: Any, tensors: Any) -> Any:
        if step == after:
            positive, negative = pipe.encode_prompt(text, "cpu", 1, True)
            tensors["prompt_embeds"] = torch.cat([negative, positive])
        return tensors

    return {
        "callback_on_step_end": switch,
        "callback_on_step_end_tensor_inputs": ["prompt_embeds"],
        "num_inference_steps": 4,
    }


def test_a_prompt_that_is_switched_is_told_and_not_mixed(ours, generate):
    with (
        watched(ours) as seen,
        pytest.warns(PromptSwitchedWarning, match="those of the 2 of 4 denoiser calls") as caught,
    ):
        output = generate(ours, "a red cat", **switched("two dogs", 1))
    assert len(caught) == 1
    rows_of_calls(output.attributions, seen, lambda number: [1] if number < 2 else [])
    assert [word.text for word in output.attribution.words] == ["a", "red", "cat"]


def test_with_steps_kept_each_step_has_the_words_that_it_was_made_with(ours, generate, tmp_path):
    ours.set_attn_processor(RDAAMProcessor(keep=("steps", "heads"), keep_negative=True))
    with (
        watched(ours) as seen,
        pytest.warns(PromptSwitchedWarning, match="has the words of its own prompt"),
    ):
        output = generate(ours, "a red cat", **switched("two dogs", 1))
    saved = Attribution.load(output.attribution.save(tmp_path / "switched.safetensors"))
    for attribution in (output.attribution, saved):
        rows_of_calls([attribution], seen, lambda number: [1] if number < 2 else [])
        assert len(attribution.steps) == len(attribution.steps.timesteps) == 4
        assert sorted(attribution.steps.timesteps, reverse=True) == list(
            attribution.steps.timesteps
        )
        for step, words in enumerate([["a", "red", "cat"]] * 2 + [["two", "dogs"]] * 2):
            part = attribution.steps[step]
            assert [word.text for word in part.words] == words
            rows_of_calls([part], seen, lambda number, step=step: [1] if number == step else [])
        assert attribution.steps[2:].word("dogs").values.shape == (64, 96)
        assert attribution.select(steps=[-1], heads=[0]).prompt.text == "two dogs"
        with pytest.raises(InputError, match="Step 1 was made with the prompt 'a red cat', step 2"):
            _ = attribution.steps[1:3]
        assert attribution.word("cat").over_time().timesteps == attribution.steps.timesteps[:2]


def test_a_prompt_that_changes_in_place_is_told(ours, generate):
    """The same tensor with other values."""

    def change(pipe: Any, step: int, timestep: Any, tensors: Any) -> Any:
        if step == 0:
            tensors["prompt_embeds"].mul_(0.5)
        return tensors

    with pytest.warns(PromptSwitchedWarning, match="those of the 1 of 2 denoiser calls"):
        output = generate(
            ours,
            callback_on_step_end=change,
            callback_on_step_end_tensor_inputs=["prompt_embeds"],
        )
    assert {grid.additions for grid in output.attribution.grids} == {3, 1}


def test_the_same_prompt_in_another_tensor_is_no_switch(ours, generate):
    output = generate(ours, "a red cat", **switched("a red cat", 1))
    assert output.attribution.run["denoiser_calls"] == 4


def test_a_denoiser_that_is_replaced_is_told(ours, stock, generate):
    def swap(pipe: Any, step: int, timestep: Any, tensors: Any) -> Any:
        if step == 1:
            pipe.unet = other[type(pipe)]
        return tensors

    other = {type(pipe): copy.deepcopy(pipe.unet) for pipe in (ours, stock)}
    first = ours.unet
    call = {"num_inference_steps": 4, "callback_on_step_end": swap}
    with pytest.warns(DenoiserReplacedWarning, match="made 2 calls of 4 steps") as caught:
        output = generate(ours, **call)
    assert len(caught) == 1 and output.attributions is None
    assert np.array_equal(pixels(output), pixels(generate(stock, **call)))
    ours.unet = first
    assert generate(ours).attribution.words


class Threaded(StableDiffusionPipeline):
    """Its denoiser is called by a thread of a pool."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        inner = self.unet.forward
        with ThreadPoolExecutor(1) as pool:
            unet = self.unet

            class Elsewhere(nn.Module):
                config, dtype, device = unet.config, unet.dtype, torch.device("cpu")

                def __init__(self) -> None:
                    super().__init__()
                    self.inner = unet

                def forward(self, *args: Any, **kwargs: Any) -> Any:
                    with torch.no_grad():
                        return pool.submit(torch.no_grad()(inner), *args, **kwargs).result()

            self.unet = Elsewhere()
            try:
                return super().__call__(*args, **kwargs)
            finally:
                self.unet = unet


def test_sites_in_another_thread_are_told(make, generate):
    pipe = make(Threaded)
    with pytest.warns() as caught, record_attention(pipe) as recording:
        generate(pipe)
    assert len(caught) == 1
    with pytest.raises(NoAttributionError):
        _ = recording.attribution


def test_a_loop_in_a_worker_thread_is_told(stock):
    text = torch.randn(1, 77, 32, generator=torch.manual_seed(0))

    def loop() -> None:
        with torch.no_grad():
            stock.unet(torch.randn(1, 4, 8, 12), 500, text)

    with record_attention(stock.unet, rows="conditional") as recording:
        worker = threading.Thread(target=loop)
        worker.start()
        worker.join()
    with pytest.raises(NoAttributionError, match="All 1 calls of the denoiser came from another"):
        _ = recording.attribution
    with (
        pytest.warns(ForeignThreadWarning, match="1 calls of the denoiser came from another thre"),
        record_attention(stock.unet, rows="conditional") as recording,
    ):
        loop()
        worker = threading.Thread(target=loop)
        worker.start()
        worker.join()
    assert recording.attribution.run["denoiser_calls"] == 1


class Wrapper(nn.Module):
    """As data parallelism wraps a module."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module
        self.config, self.dtype, self.device = module.config, module.dtype, module.device

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


def test_a_wrapped_denoiser_is_unwrapped(make, generate):
    ours = make()
    wanted = generate(ours)
    ours.register_modules(unet=Wrapper(ours.unet))
    output = generate(ours)
    assert np.array_equal(pixels(output), pixels(wanted))
    for one, two in zip(output.attribution.grids, wanted.attribution.grids, strict=True):
        assert torch.equal(one.maps, two.maps)


class Opaque(nn.Module):
    """A denoiser that runs somewhere else: nothing of it can be seen."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.config, self.dtype, self.device = unet.config, unet.dtype, unet.device
        self.call = [unet]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.call[0](*args, **kwargs)


def test_a_denoiser_without_modules_gives_the_image_and_a_warning(make, stock, generate):
    ours = make(share=stock)
    wanted = pixels(generate(stock))
    ours.register_modules(unet=Opaque(stock.unet))
    with pytest.warns(UnreadableDenoiserWarning, match="a Opaque without down and up") as caught:
        output = generate(ours)
    assert len(caught) == 1 and np.array_equal(pixels(output), wanted)
    stock.register_modules(unet=ours.unet)
    with pytest.raises(UnsupportedPipelineError, match="Opaque"), record_attention(stock):
        pass
    assert type(stock) is StableDiffusionPipeline


def test_numbers_that_are_none_are_told(ours, stock, generate):
    for pipe in (ours, stock):
        site = pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn2
        site.to_q.weight.data[0, 0] = float("nan")
    with (
        pytest.warns(NotFiniteWarning, match="The usual cause is half precision that overflowed"),
        np.errstate(invalid="ignore"),
    ):
        output = generate(ours, output_type="latent")
    wanted = generate(stock, output_type="latent")
    assert torch.equal(torch.isnan(output.images), torch.isnan(wanted.images))
    assert output.attributions is None


def test_a_text_of_which_every_column_is_masked_is_told(stock):
    text = torch.randn(2, 77, 32, generator=torch.manual_seed(0))
    mask = torch.zeros(2, 77, dtype=torch.long)
    call = {"encoder_hidden_states": text, "encoder_attention_mask": mask}
    with torch.no_grad(), record_attention(stock.unet, rows="conditional") as recording:
        made = stock.unet(torch.ones(2, 4, 8, 12), 500, **call).sample
    with torch.no_grad():
        assert torch.equal(made, stock.unet(torch.ones(2, 4, 8, 12), 500, **call).sample)
    with pytest.raises(NoAttributionError, match="leaves no column of a prompt to attend to"):
        _ = recording.attributions


def test_large_buffers_are_given_back_and_small_ones_on_request(ours, generate, monkeypatch):
    assert ours.release_recording() == 0
    generate(ours)
    held = ours._rdaam_buffers.nbytes
    assert ours.release_recording() == held > 0 and ours._rdaam_buffers is None
    monkeypatch.setattr("diffusers_rdaam.pipelines.mixin.KEPT_BUFFER_BYTES", held - 1)
    assert generate(ours).attribution.words and ours._rdaam_buffers is None
