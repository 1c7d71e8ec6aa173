"""``record_attention`` of a UNet in somebody's own loop, and of a modular pipeline."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import ControlNetModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from oracle import check, check_kept, watched
from toys import CASES, build, call, parts_of, toy_controlnet, toy_unet

from diffusers_rdaam import RDAAMProcessor, record_attention
from diffusers_rdaam.errors import (
    AlreadyRecordingError,
    InputError,
    NoAttributionError,
    RecordingError,
    UncheckedTextWarning,
    UnsupportedPipelineError,
)

PROMPT = "a red cat near a house"
BOTH = ("unconditional", "conditional")
SD, XL = CASES["StableDiffusion"], CASES["StableDiffusionXL"]


class Holder:
    """What ``watched`` wants: something with a UNet."""

    def __init__(self, unet: Any) -> None:
        self.unet = unet


@pytest.fixture
def unet() -> Any:
    return toy_unet()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return parts_of(SD)["tokenizer"]


@torch.no_grad()
def loop(unet: Any, rows: int = 2, times: Any = (9, 5, 1), size: Any = (8, 12)) -> list[Any]:
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(rows, 77, 32, generator=generator)
    outputs = []
    for time in times:
        sample = torch.randn(rows, 4, *size, generator=generator)
        outputs.append(unet(sample, time, text).sample)
    return outputs


def state(unet: Any) -> tuple[Any, ...]:
    return (
        {name: (id(p), type(p), set(vars(p))) for name, p in unet.attn_processors.items()},
        len(unet._forward_pre_hooks),
        len(unet._forward_hooks),
    )


def test_a_loop_of_ones_own(unet, tokenizer):
    before, plain = state(unet), loop(unet)
    given = {"prompt": PROMPT, "negative_prompt": "two dogs", "tokenizer": tokenizer}
    template = RDAAMProcessor(keep_negative=True)
    with (
        watched(Holder(unet)) as seen,
        record_attention(unet, template, rows=BOTH, **given) as recording,
    ):
        outputs = loop(unet)
        inside = recording.attribution
    assert all(torch.equal(a, b) for a, b in zip(outputs, plain, strict=True))
    assert state(unet) == before
    check(recording.attributions, seen, sites=4)
    (of_the_run,) = recording.attributions_of_runs
    check(of_the_run, seen, sites=4)
    attribution = recording.attribution
    assert torch.equal(attribution.grids[0].maps, inside.grids[0].maps)
    assert [word.text for word in attribution.negative.words] == ["two", "dogs"]
    assert attribution.image_size == (64, 96) and attribution["cat"].values.shape == (64, 96)
    assert attribution.run == {
        "denoiser": "UNet2DConditionModel",
        "image_index": 0,
        "denoiser_calls": 3,
        "attention": "cross",
    }


@pytest.mark.parametrize("negative_first", [True, False])
def test_a_call_for_each_prompt(unet, negative_first):
    part = ["unconditional" if negative_first else "conditional"]

    def rows(args: Any, kwargs: Any) -> tuple[str, ...]:
        now = part[0]
        part[0] = "conditional" if now == "unconditional" else "unconditional"
        return (now,)

    template = RDAAMProcessor(keep=("steps", "heads"), keep_negative=True)
    with watched(Holder(unet)) as seen, record_attention(unet, template, rows=rows) as recording:
        loop(unet, 1, (9, 9, 5, 5, 1, 1))
    attribution, odd = recording.attribution, int(negative_first)
    for one, first in ((attribution, odd), (attribution.negative, 1 - odd)):
        every = seen.first(6)
        for site in seen:
            every[site], every.masks[site] = seen[site][first::2], seen.masks[site][first::2]
        check_kept(one.kept, every, [0] * 3)
        assert one.steps.timesteps == (9.0, 5.0, 1.0)


def test_steps_grow_where_their_number_is_not_known(unet):
    template = RDAAMProcessor(keep="steps")
    recorded = record_attention(unet, template, rows="conditional")
    with watched(Holder(unet)) as seen, recorded as recording:
        loop(unet, 3, range(7, 0, -1))
    for image, attribution in enumerate(recording.attributions):
        check_kept(attribution.kept, seen, [image] * 7)
        assert attribution.steps.timesteps == tuple(map(float, range(7, 0, -1)))
        assert attribution.words == () and len(attribution.prompt.tokens) == 77


def test_growing_over_the_budget_costs_the_attribution_not_the_image(unet):
    plain = loop(unet)
    template = RDAAMProcessor(keep="steps", budget=2 * 77 * 24 * 4)
    with record_attention(unet, template, rows=BOTH) as recording:
        outputs = loop(unet)
    assert all(torch.equal(a, b) for a, b in zip(outputs, plain, strict=True))
    with pytest.raises(NoAttributionError, match=r"^Keeping 22\.2 kB \(1 image, 3 steps, 77 col"):
        _ = recording.attributions


def test_what_is_not_given_is_not_known(unet, tokenizer):
    template = RDAAMProcessor(keep_negative=True)
    with record_attention(unet, template, rows=BOTH, prompt=PROMPT, tokenizer=tokenizer) as one:
        loop(unet)
    assert one.attribution.prompt.text == PROMPT and one.attribution.negative.prompt.text is None
    with pytest.raises(InputError) as error, record_attention(unet):
        pass
    assert str(error.value) == (
        "Which rows of UNet2DConditionModel's calls carry the prompt is not known. Give "
        "rows='conditional' if all do; the names of the equal parts of the batch in order, such "
        "as rows=('unconditional', 'conditional'); or a function of the call's args and kwargs "
        "that returns them."
    )
    with record_attention(unet, rows=BOTH, prompt=["a", "b"], tokenizer=tokenizer) as recording:
        loop(unet, 6)
    with pytest.raises(InputError) as error:
        _ = recording.attributions
    assert str(error.value) == (
        "2 prompts do not divide the 3 images that were recorded. Give one prompt, or one for "
        "each image."
    )


def test_what_cannot_be_recorded_is_refused(unet):
    before = state(unet)
    for subject in (parts_of(SD)["vae"], toy_controlnet(unet)):
        recorded = record_attention(subject, rows="conditional")
        with pytest.raises(UnsupportedPipelineError) as error, recorded:
            pass
        assert str(error.value) == (
            f"{type(subject).__name__} has no attention to a text that could be recorded. "
            "UNets of diffusers with spatial transformers have, and the transformers of its table."
        )
    assert isinstance(subject, ControlNetModel)
    recorded = record_attention(unet, rows=("unconditional", "image", "conditional"))
    wanted = r"^The denoiser was called with 2 rows, where"
    with recorded, pytest.raises(RecordingError, match=wanted):
        loop(unet)
    assert state(unet) == before
    recorded = record_attention(build(SD.stock, parts_of(SD)), image_size=(64, 96))
    wanted = r"^StableDiffusionPipeline is a pipeline: .* image_size= are for a denoiser; rows= and"
    with pytest.raises(InputError, match=wanted), recorded:
        pass


def test_without_a_call_and_without_the_prompt(unet):
    never = pytest.raises(NoAttributionError, match=r"^The run did not call the denoiser")
    with record_attention(unet, rows=BOTH) as recording, never:
        _ = recording.attribution
    with record_attention(
        unet, RDAAMProcessor(keep_negative=True), rows=("unconditional",)
    ) as recording:
        loop(unet)
    with pytest.raises(NoAttributionError) as error:
        _ = recording.attribution
    assert str(error.value) == (
        "None of the 3 recorded calls of the denoiser had rows of the prompt, only of the "
        "negative prompt. Give the layout of its rows as rows=."
    )


def test_two_runs_of_different_sizes_are_no_attribution(unet):
    plain = loop(unet, size=(12, 8))
    with record_attention(unet, rows=BOTH) as recording:
        loop(unet)
        again = loop(unet, size=(12, 8))
    assert all(torch.equal(a, b) for a, b in zip(again, plain, strict=True))
    with pytest.raises(NoAttributionError) as error:
        _ = recording.attributions
    assert str(error.value) == (
        "The denoiser's input changed during the run: (images, columns, latent grid) were "
        "(1, 77, (8, 12)) at the first call and (1, 77, (12, 8)) at call 4."
    )


@pytest.mark.parametrize("kind", [AttnProcessor2_0, AttnProcessor])
def test_after_an_exception(unet, kind):
    unet.set_attn_processor(kind())
    before = state(unet)
    with pytest.raises(KeyboardInterrupt), record_attention(unet, rows=BOTH) as recording:
        loop(unet)
        raise KeyboardInterrupt
    assert state(unet) == before and recording.attribution.run["denoiser_calls"] == 3


def test_a_run_that_is_going_on_keeps_its_processors(unet):
    pipe = build(SD.ours, parts_of(SD, unet=unet))
    seen = []

    def nest(pipe: Any, step: int, timestep: Any, tensors: Any) -> Any:
        before = state(pipe.unet)
        with pytest.raises(AlreadyRecordingError), record_attention(pipe.unet, rows=BOTH):
            pass
        seen.append(state(pipe.unet) == before)
        return tensors

    assert call(SD, pipe, callback_on_step_end=nest).attribution.words
    assert seen == [True, True]


@pytest.mark.parametrize("kind", [AttnProcessor2_0, AttnProcessor])
def test_gradient_checkpointing_counts_each_call_once(unet, kind):
    unet.set_attn_processor(kind())
    unet.enable_gradient_checkpointing()
    unet.train()
    sample = torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(0))
    text = torch.randn(2, 77, 32, generator=torch.Generator().manual_seed(1))
    grads = []
    for record in (False, True):
        leaf = text.clone().requires_grad_()
        if record:
            with record_attention(unet, rows=BOTH) as recording:
                unet(sample, 5, leaf).sample.square().sum().backward()
        else:
            unet(sample, 5, leaf).sample.square().sum().backward()
        grads.append(leaf.grad)
    assert torch.equal(*grads)
    [grid] = recording.attribution.grids
    assert grid.additions == 4
    torch.testing.assert_close(grid.maps.sum(dim=0), torch.ones(grid.size), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_columns_that_may_be_windows_or_one_text(unet, tokenizer):
    text = " ".join(["a"] * 90 + ["cat"])
    with record_attention(unet, rows=("conditional",), prompt=text, tokenizer=tokenizer) as one:
        unet(torch.randn(1, 4, 8, 12), 5, torch.randn(1, 154, 32))
    with pytest.warns(UncheckedTextWarning, match="The 154 columns of 'a a .*' can be windows"):
        assert one.attribution.prompt.find("cat").columns == (93,)
    # Once is enough.
    assert one.attribution.prompt.lost_words == ()
