"""``record_attention``: a stock pipeline records within the block and is itself again after it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor2_0, SlicedAttnProcessor

from diffusers_rdaam import RDAAMProcessor, record_attention
from diffusers_rdaam.errors import (
    AlreadyRecordingError,
    NoAttributionError,
    ProcessorError,
)


def state(pipe: Any) -> tuple[Any, ...]:
    """All that recording could leave behind."""
    modules = dict(pipe.unet.named_modules())
    hooks = {
        name: (len(module._forward_pre_hooks), len(module._forward_hooks))
        for name, module in modules.items()
        if module._forward_pre_hooks or module._forward_hooks
    }
    processors = {name: id(value) for name, value in pipe.unet.attn_processors.items()}
    targets = [getattr(value, "target", None) for value in pipe.unet.attn_processors.values()]
    return (
        type(pipe),
        set(pipe.__dict__),
        {name: set(module.__dict__) for name, module in modules.items()},
        hooks,
        processors,
        [target for target in targets if target is not None],
    )


@pytest.fixture
def used(stock, generate) -> StableDiffusionPipeline:
    """A stock pipeline that has run: it keeps its last call's settings as attributes."""
    generate(stock)
    return stock


def test_within_and_after_the_block(used, generate, make):
    before, plain = state(used), generate(used)
    with record_attention(used) as recording:
        assert isinstance(used, StableDiffusionPipeline)
        output = generate(used)
        inside = recording.attribution
        assert inside is output.attribution is used.attribution
    assert state(used) == before
    assert recording.attribution is inside and recording.attributions == [inside]
    assert np.array_equal(np.asarray(output.images[0]), np.asarray(plain.images[0]))
    ours = generate(make()).attribution
    assert all(torch.equal(a.maps, b.maps) for a, b in zip(inside.grids, ours.grids, strict=True))
    assert inside.run["pipeline"] == "StableDiffusionPipeline"
    assert type(generate(used)) is type(plain)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["block", "run"])
def test_after_an_exception(used, generate, error, where):
    before = state(used)

    def fail(*args):
        raise error("stop")

    with pytest.raises(error, match="stop"), record_attention(used) as recording:
        if where == "run":
            generate(used, callback_on_step_end=fail)
        generate(used)
        fail()
    assert state(used) == before
    if where == "block":
        assert recording.attribution.words
    else:
        with pytest.raises(NoAttributionError, match=r"^The last run ended with an exception"):
            _ = recording.attribution
    with record_attention(used) as again:
        generate(used)
    assert again.attribution.words and state(used) == before


def test_before_and_without_a_run(used):
    with record_attention(used) as recording:
        with pytest.raises(NoAttributionError) as error:
            _ = recording.attribution
        assert str(error.value) == "There has been no recorded run yet: call the pipeline first."
    with pytest.raises(NoAttributionError, match=r"^There has been no recorded run yet"):
        _ = recording.attributions


def test_several_runs_in_a_block(used, generate):
    with record_attention(used) as recording:
        outputs = []
        for prompt in ("a red cat", "two dogs"):
            outputs.append(generate(used, prompt))
            assert recording.attribution is outputs[-1].attribution
    assert [output.attribution.prompt.text for output in outputs] == ["a red cat", "two dogs"]
    assert recording.attribution is outputs[1].attribution


def test_several_images(used, generate):
    with record_attention(used) as recording:
        generate(used, num_images_per_prompt=2)
    assert len(recording.attributions) == 2
    with pytest.raises(NoAttributionError) as error:
        _ = recording.attribution
    assert str(error.value) == (
        "The run made 2 images, each with an attribution of its own. "
        "Use recording.attributions[i], i from 0 to 1."
    )


def test_return_dict_false(used, generate):
    with record_attention(used) as recording:
        result = generate(used, return_dict=False)
    assert type(result) is tuple and len(result) == 2
    assert recording.attribution.image is result[0][0]


def test_options(used, generate):
    before = state(used)
    template = RDAAMProcessor(precision="fp16", backend="reference")
    with record_attention(used, template) as recording:
        bound = [p for p in used.attn_processors.values() if isinstance(p, RDAAMProcessor)]
        assert len(bound) == 10 and {p.options.backend for p in bound} == {"reference"}
        generate(used)
    assert recording.attribution.words and state(used) == before


def test_blocks_do_not_nest(used, generate):
    before = state(used)
    with record_attention(used) as recording:
        with pytest.raises(AlreadyRecordingError) as error, record_attention(used):
            pass
        assert str(error.value) == (
            "This StableDiffusionPipeline records already: its outputs have an attribution. "
            "record_attention is for stock pipelines, and blocks do not nest."
        )
        generate(used)
    assert recording.attribution.words and state(used) == before


def test_our_own_pipeline_needs_no_block(ours):
    wanted = r"^This StableDiffusionRDAAMPipeline records already"
    with pytest.raises(AlreadyRecordingError, match=wanted), record_attention(ours):
        pass


def test_two_pipelines_that_share_a_denoiser(make, generate, used):
    other = make(StableDiffusionPipeline, share=used)
    before = state(used)
    with record_attention(used) as one:
        generate(used, "a red cat")
        plain = generate(other, "two dogs")
        assert not hasattr(plain, "attributions")
    with record_attention(other) as two:
        generate(other, "two dogs")
    assert one.attribution.prompt.text == "a red cat"
    assert two.attribution.prompt.text == "two dogs"
    assert state(used) == before


def test_foreign_processors_are_refused_and_kept(used, generate):
    class Better(AttnProcessor2_0):
        pass

    used.unet.set_attn_processor(Better())
    before = state(used)
    text = "have the processor Better, and it is not known"
    with pytest.raises(ProcessorError, match=text), record_attention(used):
        pass
    assert state(used) == before


def test_processors_that_are_tapped_are_given_back(used, generate):
    used.enable_attention_slicing(1)
    before = state(used)
    with record_attention(used) as recording:
        generate(used)
    assert recording.attribution.words
    assert state(used) == before
    assert {type(processor) for processor in used.unet.attn_processors.values()} == {
        SlicedAttnProcessor
    }
    assert not any("site" in vars(p) for p in used.unet.attn_processors.values())


def test_processors_that_are_set_within_the_block_are_kept(used, generate):
    with record_attention(used) as recording:
        generate(used)
        used.enable_attention_slicing(1)
    kinds = {type(processor) for processor in used.unet.attn_processors.values()}
    assert kinds == {SlicedAttnProcessor}
    assert recording.attribution.words


def test_switched_off_within_the_block(used, generate):
    before = state(used)[:3]
    with record_attention(used) as recording:
        used.set_attn_processor(AttnProcessor2_0())
        generate(used)
        with pytest.raises(NoAttributionError, match=r"^Recording is switched off"):
            _ = recording.attribution
    assert state(used)[:3] == before


def test_what_is_saved_within_the_block_is_a_stock_pipeline(used, tmp_path):
    with record_attention(used):
        used.save_pretrained(tmp_path)
        assert "StableDiffusionPipeline {" in repr(used)
    again = StableDiffusionPipeline.from_pretrained(tmp_path, safety_checker=None)
    assert type(again) is StableDiffusionPipeline
