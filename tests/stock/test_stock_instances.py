"""A pipeline that was made: its parts, its configuration, its properties, what may be put in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from alike import alike, failure, plain, twins
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from toys import CASES, PROMPT, SIZE, build, call, parts_of, picture, toy, toy_unet

ALL = [pytest.param(case, id=name) for name, case in CASES.items()]
SOME = ["StableDiffusion", "StableDiffusionXLControlNet", "StableDiffusionInstructPix2Pix"]
SOME = [pytest.param(CASES[name], id=name) for name in [*SOME, "LatentConsistencyModel"]]


@pytest.mark.parametrize("case", ALL)
def test_components_and_configuration(case):
    parts = parts_of(case)
    stock, ours = (cls(**parts) for cls in (case.stock, case.ours))
    for name, part in stock.components.items():
        assert ours.components[name] is part is getattr(ours, name)
    assert list(ours.components) == list(stock.components)
    assert ours.parameters == stock.parameters
    assert dict(ours.config) == dict(stock.config)
    assert type(ours.config) is type(stock.config)
    assert ours._internal_dict == stock._internal_dict
    assert ours.to_json_string() == stock.to_json_string()
    assert plain(repr(ours)) == repr(stock)
    assert repr(ours).startswith(f"{case.ours.__name__} {{")
    for name in ("device", "dtype", "_execution_device", "name_or_path", "hf_device_map"):
        assert getattr(ours, name) == getattr(stock, name)
    assert vars(ours).keys() == vars(stock).keys()


@pytest.mark.parametrize("case", ALL)
def test_a_pipeline_is_made_of_anothers_components(case):
    stock, ours = toy(case)
    for cls, parts in ((case.ours, stock), (case.stock, ours)):
        pipe = cls(**parts.components, **parts.parameters)
        assert pipe.unet is parts.unet
        # A pipeline that was loaded or copied knows its class and version, too.
        given = {name: value for name, value in parts.config.items() if name[0] != "_"}
        assert {name: value for name, value in pipe.config.items() if name[0] != "_"} == given


def test_properties_of_a_call_are_readable_during_and_after_it():
    names = ("guidance_scale", "guidance_rescale", "clip_skip", "do_classifier_free_guidance")
    names += ("cross_attention_kwargs", "num_timesteps", "interrupt", "denoising_end")
    names += ("image_guidance_scale", "strength", "original_size", "target_size")

    def treat(pipe: Any) -> list[Any]:
        read = []

        def note(pipe, step, timestep, tensors):
            read.append({name: getattr(pipe, name) for name in names if hasattr(pipe, name)})
            return tensors

        call(case, pipe, callback_on_step_end=note)
        note(pipe, 0, 0, {})
        return read

    seen: set[str] = set()
    for case in list(CASES.values())[::3]:
        if hasattr(case.stock, "_callback_tensor_inputs"):
            seen |= alike(toy(case), treat).result[0].keys()
    assert seen >= {"guidance_scale", "clip_skip", "do_classifier_free_guidance", "num_timesteps"}


@pytest.mark.parametrize("name", ["nothing_of_this_name", "unet_2", "requires_safety_checker"])
def test_attributes_that_are_not_there_or_deprecated(name):
    stock, ours = (cls(**parts_of(CASES["StableDiffusion"])) for cls in _classes())
    error = None if name == "requires_safety_checker" else AttributeError
    alike((stock, ours), lambda pipe: getattr(pipe, name), error=error)


def _classes() -> tuple[Any, Any]:
    return CASES["StableDiffusion"].stock, CASES["StableDiffusion"].ours


@pytest.mark.parametrize("how", ["attribute", "register_modules"])
@pytest.mark.parametrize("case", SOME)
def test_another_denoiser(case, how):
    def treat(pipe: Any) -> Any:
        torch.manual_seed(5)
        settings = {"xl": case.xl, "encoders": 1 + case.xl} | case.unet
        unet = toy_unet(**settings, norm_num_groups=2)
        if how == "attribute":
            pipe.unet = unet
        else:
            pipe.register_modules(unet=unet)
        assert pipe.components["unet"] is unet
        return call(case, pipe), json.loads(pipe.to_json_string())

    pipes = tuple(build(cls, parts_of(case)) for cls in (case.stock, case.ours))
    output = alike(pipes, treat).result[0]
    assert len(output.attributions) == 1
    # And after a run, with another: the old one's processors are no concern of the new one.
    assert len(alike(pipes, treat).result[0].attributions) == 1


@pytest.mark.parametrize("scheduler", [DDIMScheduler, EulerDiscreteScheduler])
@pytest.mark.parametrize("case", SOME[:3])
def test_another_scheduler(case, scheduler):
    def treat(pipe: Any) -> Any:
        pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
        return call(case, pipe), pipe.config.scheduler

    output = alike(tuple(build(cls, parts_of(case)) for cls in (case.stock, case.ours)), treat)
    assert output.result[1] == ("diffusers", scheduler.__name__)


def test_a_part_set_to_none():
    def treat(pipe: Any) -> Any:
        pipe.image_encoder = None
        pipe.feature_extractor = None
        return pipe.config, call(CASES["StableDiffusion"], pipe)

    alike(twins(CASES["StableDiffusion"]), treat)


def test_progress_bars(capfd):
    def bars(pipe: Any) -> list[str]:
        capfd.readouterr()
        text = ""
        for settings in ({"disable": True}, {"desc": "steps", "ascii": True}, {"leave": False}):
            # Every step shows, however quick it is.
            pipe.set_progress_bar_config(mininterval=0, **settings)
            pipe("a red cat", **SIZE, num_inference_steps=2, output_type="latent")
            text += capfd.readouterr().err.replace("\r", "\n")
        # Without the times.
        return [line.partition(" [")[0] for line in text.splitlines()]

    shown = alike(twins(CASES["StableDiffusion"]), bars).result
    assert any("steps: 100%" in line and "2/2" in line for line in shown)


@pytest.mark.parametrize("case", ALL)
def test_the_prompt_may_be_encoded_without_a_run(case):
    """By the parameters that the signature says are needed, as diffusers' own test does."""
    stock, ours = toy(case)
    assert hasattr(ours, "encode_prompt") == hasattr(stock, "encode_prompt")
    if not hasattr(stock, "encode_prompt"):
        return
    needed = {"prompt": PROMPT, "device": "cpu", "num_images_per_prompt": 2}
    needed |= {"do_classifier_free_guidance": True, "negative_prompt": "blue"}
    embeds = alike((stock, ours), lambda pipe: pipe.encode_prompt(**needed)).result
    assert embeds[0].shape == (2, 77, 32 * (1 + case.xl))
    alike((stock, ours), lambda pipe: pipe.encode_prompt(), error=failure(stock.encode_prompt))
    if "ControlNet" in case.name or "Pix2Pix" in case.name:
        return
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds")
    names += ("negative_pooled_prompt_embeds",)
    given = dict(zip(names, embeds, strict=False))
    if case.always:
        del given["negative_prompt_embeds"]
    again = {"image": [picture(0)] * 2} if "image" in case.call else {}
    alike((stock, ours), lambda pipe: call(case, pipe, None, **(given | again)))
