"""The examination finds recording right where it is, and wrong where it was made wrong."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from builders_joint import CASES as JOINT
from builders_single import CASES as SINGLE
from diffusers import StableDiffusionPipeline
from toys import ALL_CASES, CASES, build, mask, parts_of, picture, toy_controlnet

from diffusers_rdaam.attention.map_target import Target
from diffusers_rdaam.diagnosis.call_inputs import CallInputs
from diffusers_rdaam.diagnosis.examination import Examination, SiteError, examine
from diffusers_rdaam.errors import InputError, UnsupportedPipelineError
from diffusers_rdaam.families import family_of
from diffusers_rdaam.pipelines.record_attention import Recording
from diffusers_rdaam.recording.buffers.accumulator import HeatMapAccumulator

# Of each class one, and a row that is attended to in a call of its own where there is one.
TRANSFORMERS = list({make().name: name for name, make in JOINT.items()}.values())[::9]
SETTINGS: dict[str, Any] = {"height": 64, "width": 96, "rounds": 1, "prompt": "a red cat"}


def unet(name: str = "StableDiffusion") -> Any:
    case = ALL_CASES[name]
    return build(case.stock, parts_of(case))


@pytest.mark.parametrize("name", ["StableDiffusion", "StableDiffusionXL"])
def test_a_unet_is_right(name):
    found = examine(unet(name), guidance_scale=5.0, **SETTINGS)
    assert found.is_identical and found.passed and found.attention == "cross"
    assert found.largest_error < 1e-6 and len(found.sites) > 1 and not found.unseen
    assert found.image == (64, 96) and found.pipeline == CASES[name].stock.__name__
    assert set(found.words) == {"a", "red", "cat"} and all(found.words.values())
    assert found.stock_seconds > 0 and found.recorded_seconds > 0


# Of those without a property for guidance, and with colour and depth in place of images.
BY_ARGUMENT = ["TextToVideoSD", "StableUnCLIP", "StableDiffusionSAG", "StableDiffusionModelEditing"]


@pytest.mark.parametrize("name", [*BY_ARGUMENT, "StableDiffusionLDM3D"])
def test_a_pipeline_whose_guidance_only_its_call_says(name):
    pipe = unet(name)
    found = examine(pipe, **SETTINGS)
    assert found.is_identical and found.passed and found.largest_error < 1e-6
    assert found.sites and not found.unseen and all(found.words.values())
    left = [name for name in vars(pipe) if name.startswith("_rdaam") or "encode_prompt" in name]
    assert not left


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_transformer_is_right(name):
    case = JOINT[name]()
    call = {key: value for key, value in case.call.items() if key not in _OWN}
    pipe = case.make()
    pipe.set_progress_bar_config(disable=True)
    found = examine(pipe, prompt=case.call["prompt"], rounds=1, **call)
    assert found.passed and found.is_identical and found.attention == "joint"
    assert found.largest_error < 1e-6 and found.sites and not found.unseen


_OWN = ("prompt", "num_inference_steps", "output_type")


def test_one_site_that_is_nan_is_not_passed_over():
    sites = tuple(SiteError(str(error), error, 0.0, 1) for error in (1e-9, float("nan")))
    found = Examination("", "", "", "", "", "", "", (8, 8), 1, True, sites)
    assert found.largest_error != found.largest_error
    assert found.are_maps_right is False and not found.passed


def test_half_precision_has_a_tolerance_of_its_own():
    found = examine(unet().to(dtype=torch.bfloat16), **SETTINGS)
    assert found.dtype == "bfloat16" and found.tolerance == 1e-3
    assert found.passed and 0 < found.largest_error <= 1e-3


def test_maps_that_are_wrong_are_found(monkeypatch):
    read = HeatMapAccumulator.read

    def shifted(self: HeatMapAccumulator) -> Any:
        grids = read(self)
        for of_image in grids:
            for grid in of_image:
                grid.maps.copy_(grid.maps.roll(1, dims=-1))
        return grids

    monkeypatch.setattr(HeatMapAccumulator, "read", shifted)
    see = Target.see

    def doubled(self: Target, call: Any) -> None:
        see(self, call._replace(scale=call.scale * 2))

    monkeypatch.setattr(Target, "see", doubled)
    found = examine(unet(), **SETTINGS)
    assert found.are_maps_right is False and not found.passed
    assert found.largest_error > found.tolerance


def test_an_image_that_differs_is_found(monkeypatch):
    enter = Recording.__init__

    def disturbed(self: Recording, pipe: Any) -> None:
        enter(self, pipe)
        with torch.no_grad():
            pipe.unet.conv_out.bias += 0.5

    monkeypatch.setattr(Recording, "__init__", disturbed)
    found = examine(unet(), **SETTINGS)
    assert found.is_identical is False and not found.passed


def test_runs_that_do_not_repeat_say_nothing():
    pipe = unet()
    pipe.unet.conv_out.register_forward_hook(lambda module, args, out: out + next(noise))
    noise = iter(torch.arange(1000.0))
    found = examine(pipe, **SETTINGS)
    assert found.is_identical is None and found.are_maps_right is None


def test_a_model_that_overflows_is_not_said_to_differ_from_itself():
    pipe = unet()
    with torch.no_grad():
        pipe.unet.conv_in.weight.fill_(float("nan"))
    found = examine(pipe, **SETTINGS)
    assert found.is_identical is True and "NaN" in found.reason and not found.passed


SIDES = {"height": 64, "width": 96}


def test_a_picture_that_is_drawn_has_the_sides_that_were_given():
    found = examine(unet("StableDiffusionImg2Img"), **SETTINGS)
    assert found.passed and found.is_identical and found.sites and not found.unseen
    # The call takes no height and width: its image is as large as its picture.
    assert found.image == (64, 96) and found.inputs == "image (64x96), strength (1.0)"


def test_what_the_user_gives_is_not_drawn():
    given = {"image": picture(), "strength": 0.5, "mask_image": mask()}
    found = examine(unet("StableDiffusionInpaint"), steps=4, **given, **SETTINGS)
    assert found.passed and found.image == (64, 96) and found.inputs == ""
    del given["mask_image"]
    found = examine(unet("StableDiffusionInpaint"), steps=4, **given, **SETTINGS)
    assert found.passed and found.inputs == "mask_image (64x96)"


def test_two_networks_have_a_picture_each():
    case = ALL_CASES["StableDiffusionControlNet"]
    parts = parts_of(case)
    parts["controlnet"] = [toy_controlnet(parts["unet"], seed) for seed in (1, 2)]
    found = examine(build(case.stock, parts), **SETTINGS)
    assert found.passed and found.inputs == "image (2 of 64x96)"


def test_a_picture_that_is_taken_and_not_needed_is_named():
    case = JOINT["FluxKontextPipeline"]()
    pipe = case.make()
    pipe.set_progress_bar_config(disable=True)
    call = {"max_area": 384, "_auto_resize": False, "height": 16, "width": 24}
    found = examine(pipe, prompt="a red cat", rounds=1, **call)
    assert found.passed and found.inputs == "" and found.left_out == "image"
    found = examine(pipe, prompt="a red cat", rounds=1, image=picture(), **call)
    assert found.passed and found.left_out == ""


def test_an_autoencoder_that_works_in_tiles_only():
    pipe = SINGLE["AllegroPipeline"]().make()
    pipe.set_progress_bar_config(disable=True)
    pipe.vae.disable_tiling()
    size = {"height": 32, "width": 48, "num_frames": 8}
    found = examine(pipe, prompt="a red cat", rounds=1, clean_caption=False, **size)
    assert found.passed and found.is_identical and found.sites
    assert pipe.vae.use_tiling is False


def test_a_run_that_fails_with_what_was_drawn_as_well(monkeypatch):
    pipe = unet("StableDiffusionInpaint")

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ValueError("the weights are wrong")

    monkeypatch.setattr(pipe.vae, "encode", broken)
    said = (
        r"^StableDiffusionInpaintPipeline makes no image of a prompt here, without recording "
        r"either, with image \(64x96\), mask_image \(64x96\), strength \(1.0\) made for this "
        r"check: its run ended with ValueError: the weights are wrong\. .*Its inputs besides the "
        r"prompt are image= \(--image\), mask_image= \(--mask\)\.$"
    )
    with pytest.raises(InputError, match=said):
        examine(pipe, **SETTINGS)


def test_an_input_that_is_not_known_is_named():
    class Tinted(StableDiffusionPipeline):
        def __call__(self, tint: Any, *args: Any, **call: Any) -> Any:
            return super().__call__(*args, **call)

        stock = inspect.signature(StableDiffusionPipeline.__call__)
        tint = inspect.Parameter("tint", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        own, *others = stock.parameters.values()
        __call__.__signature__ = stock.replace(parameters=[own, tint, *others])

    pipe = Tinted(**parts_of(ALL_CASES["StableDiffusion"]))
    said = r"^Tinted takes tint=, which is not built here\. Give it: examine\(pipe, tint=…\)\.$"
    with pytest.raises(InputError, match=said):
        examine(pipe, **SETTINGS)
    assert examine(pipe, tint=1, **SETTINGS).passed


@pytest.mark.parametrize("name", ["EasyAnimateInpaintPipeline", "WanVACEPipeline"])
def test_a_picture_of_the_user_is_every_frame_of_a_video(name):
    case = SINGLE[name]()
    pipe = case.make()
    pipe.set_progress_bar_config(disable=True)
    sizes = {key: case.call[key] for key in ("height", "width", "num_frames")}
    inputs = CallInputs(pipe, family_of(pipe), prompt="a red cat", steps=2, call=sizes)
    # With a mask that is not all white diffusers asks EasyAnimate's autoencoder for a setting
    # that it does not have.
    white = picture().point(lambda level: 255)
    given = inputs.files({"--image": picture(), "--mask": white})
    found = examine(pipe, prompt="a red cat", rounds=1, **sizes, **given)
    assert found.passed and found.is_identical and found.sites and "video" not in found.inputs
    # The one without a default for its negative text is given one.
    assert ("negative_prompt ('')" in found.inputs) is name.startswith("Easy")
    assert set(given) == {"video", "mask_video" if name.startswith("Easy") else "mask"}


def test_a_schedule_with_a_value_for_each_step_is_as_long_as_the_run():
    pipe = SINGLE["Ideogram4Pipeline"]().make()
    inputs = CallInputs(pipe, family_of(pipe), prompt="a red cat", steps=16, call={})
    # Of 48 values the last three are others.
    assert inputs.steps["guidance_schedule"] == [7.0] * 15 + [3.0]
    pipe.set_progress_bar_config(disable=True)
    found = examine(pipe, prompt="a red cat", rounds=1, height=12, width=20)
    assert found.passed and found.sites and found.inputs == ""


def test_a_latent_mask_of_the_user_has_the_size_of_the_latents():
    pipe = unet("StableDiffusionDiffEdit")
    inputs = CallInputs(pipe, family_of(pipe), prompt="a red cat", steps=2, call=SIDES)
    given = inputs.files({"--mask": mask()})
    assert given["mask_image"].size == (12, 8)
    found = examine(pipe, **given, **SETTINGS)
    assert found.passed and found.image == (64, 96) and found.inputs.startswith("image_latents (1x")


def test_an_argument_that_the_call_does_not_take_is_named():
    with pytest.raises(InputError, match="takes no heigth=, so it cannot be examined with it"):
        examine(unet(), heigth=64)


def test_a_pipeline_stays_as_it_was():
    pipe = unet()
    before = dict(pipe.unet.attn_processors)
    examine(pipe, **SETTINGS)
    assert pipe.unet.attn_processors == before
    assert not any(it._forward_pre_hooks or it._forward_hooks for it in pipe.unet.modules())


def test_a_class_that_is_not_recorded():
    with pytest.raises(UnsupportedPipelineError):
        examine(object())
