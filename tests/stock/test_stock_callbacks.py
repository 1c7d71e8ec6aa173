"""Callbacks at the end of a step: what they are given, what they may change."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from alike import alike, failure, twins
from diffusers.callbacks import MultiPipelineCallbacks, SDCFGCutoffCallback, SDXLCFGCutoffCallback
from toys import CASES, Case, call, toy

ALL = [
    pytest.param(case, id=name)
    for name, case in CASES.items()
    if hasattr(case.stock, "_callback_tensor_inputs")
]
GUIDED = [it for it in ALL if "Consistency" not in it.id and "Pix2Pix" not in it.id]


def test_one_class_has_no_callbacks():
    assert len(ALL) == len(CASES) - 1
    case = CASES["StableDiffusionXLInstructPix2Pix"]
    for cls in (case.stock, case.ours):
        assert "callback_on_step_end" not in inspect.signature(cls.__call__).parameters


@pytest.mark.parametrize("case", ALL)
def test_every_tensor_that_a_callback_may_ask_for(case: Case):
    pipes = toy(case)

    def treat(pipe: Any, wanted: list[str]) -> Any:
        seen = []

        def note(self: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            assert self is pipe
            kept = {
                name: value.clone() if isinstance(value, torch.Tensor) else value
                for name, value in tensors.items()
            }
            seen.append((step, int(timestep), kept))
            return tensors

        output = call(
            case,
            pipe,
            callback_on_step_end=note,
            callback_on_step_end_tensor_inputs=wanted,
        )
        return seen, output

    # Some of the names are those of no variable in some of the stock pipelines.
    given = list(case.stock._callback_tensor_inputs)
    while (error := failure(lambda: treat(pipes[0], given))) is not None:
        missing = alike(pipes, lambda pipe: treat(pipe, given), error=error).error
        given.remove(str(missing).strip("'"))
    seen, output = alike(pipes, lambda pipe: treat(pipe, given)).result
    assert {"latents", "prompt_embeds"} <= set(given)
    assert [list(tensors) for _, _, tensors in seen] == [given] * 2
    assert [step for step, _, _ in seen] == [0, 1] and len(output.attributions) == 1


@pytest.mark.parametrize("case", ALL)
def test_a_callback_may_change_the_latents(case):
    def zero_at_last(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> Any:
        if step == pipe.num_timesteps - 1:
            tensors["latents"] = torch.zeros_like(tensors["latents"])
        return tensors

    settings = {"callback_on_step_end": zero_at_last, "output_type": "latent"}
    settings["callback_on_step_end_tensor_inputs"] = ["latents"]
    output = alike(toy(case), lambda pipe: call(case, pipe, **settings)).result
    # A latent consistency model hands back what it denoised last, not the latents.
    assert output.images.any() == case.always
    assert len(output.attributions) == 1


@pytest.mark.parametrize("case", GUIDED)
def test_a_callback_may_change_the_guidance(case):
    def raise_guidance(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> Any:
        pipe._guidance_scale += 1.0
        return tensors

    def treat(pipe: Any) -> Any:
        output = call(case, pipe, callback_on_step_end=raise_guidance, output_type="latent")
        assert pipe.guidance_scale == 5.0 + pipe.num_timesteps
        return output

    alike(toy(case), treat)


CUTOFF = [it for it in GUIDED if "ControlNet" not in it.id and "2Img" not in it.id]


@pytest.mark.parametrize("case", [it for it in CUTOFF if "Inpaint" not in it.id])
def test_callback_objects_of_diffusers(case):
    cls = SDXLCFGCutoffCallback if case.xl else SDCFGCutoffCallback
    for make in (lambda: cls(cutoff_step_ratio=0.4), lambda: cls(None, 1)):
        settings = {"callback_on_step_end": make(), "num_inference_steps": 4}
        output = alike(toy(case), lambda pipe, it=settings: call(case, pipe, **it)).result
        assert output.attribution.run["denoiser_calls"] == 4
    both = MultiPipelineCallbacks([make(), make()])
    alike(toy(case), lambda pipe: call(case, pipe, callback_on_step_end=both))


@pytest.mark.parametrize("case", ALL[::2])
def test_an_interrupt(case):
    def stop(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> Any:
        pipe._interrupt = True
        return tensors

    def treat(pipe: Any) -> Any:
        output = call(case, pipe, callback_on_step_end=stop, output_type="latent")
        return output, getattr(pipe, "interrupt", None)

    pipes = toy(case)
    output, interrupted = alike(pipes, treat).result
    has_property = hasattr(case.stock, "interrupt")
    assert interrupted is (True if has_property else None)
    assert output.attribution.run["denoiser_calls"] == (1 if has_property else 2)
    # The next call starts afresh.
    assert len(alike(pipes, lambda pipe: call(case, pipe)).result.attributions) == 1


@pytest.mark.parametrize("case", ALL[::3])
def test_an_exception_in_a_callback(case):
    def fail(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> Any:
        raise KeyError(f"step {step}")

    pipes = toy(case)
    alike(pipes, lambda pipe: call(case, pipe, callback_on_step_end=fail), error=KeyError)
    alike(pipes, lambda pipe: call(case, pipe))


@pytest.mark.parametrize("case", ALL[:1] + ALL[7:8] + ALL[-2:])
def test_the_callbacks_of_old(case):
    """``callback`` and ``callback_steps`` are deprecated, and go on as long as in diffusers."""
    pipes = toy(case)

    def treat(pipe: Any, **settings: Any) -> Any:
        seen = []
        settings["callback"] = lambda step, timestep, latents: seen.append(
            (step, int(timestep), latents.clone())
        )
        return call(case, pipe, **settings), seen

    for steps in ({}, {"callback_steps": 2}, {"callback_steps": 0}):
        error = failure(lambda steps=steps: treat(pipes[0], **steps))
        outcome = alike(pipes, lambda pipe, steps=steps: treat(pipe, **steps), error=error)
        if error is None and "kwargs" in inspect.signature(case.stock.__call__).parameters:
            assert any(text.startswith("FutureWarning") for text in outcome.said)


def test_a_callback_that_changes_the_pipeline():
    """A scheduler or a denoiser put in the middle of a run is used, or not, as in diffusers."""
    case = CASES["StableDiffusion"]

    def swap(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> Any:
        with torch.no_grad():
            pipe.unet.conv_out.weight.mul_(1.5)
        return {}

    alike(twins(case), lambda pipe: call(case, pipe, callback_on_step_end=swap))
