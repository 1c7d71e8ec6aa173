"""Every pipeline at toy size: saved as a folder, loaded as a command does, and examined."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from builders_joint import CASES as JOINT
from builders_single import CASES as SINGLE
from toys import ALL_CASES, build, parts_of

from diffusers_rdaam.cli.models import find_model, load_stock_pipeline
from diffusers_rdaam.diagnosis.examination import Examination, examine
from diffusers_rdaam.errors import IncompleteModelWarning, InputError, UnsupportedPipelineError

# A few of every kind are quick; the others take minutes together.
QUICK = 16
# The rows of a call are attended to one by one, with as many keys as each one's text has.
ALWAYS = ("MochiPipeline",)
# What examine gives itself.
OF_THE_RUN = ("prompt", "num_inference_steps", "output_type", "generator")
# Toys that are not whole as a folder; the reason is what a command says of it.
NOT_WHOLE = {
    "IFImg2ImgSuperResolutionPipeline": "names no watermarker",
    "Kandinsky5": "names no tokenizer",
    "UnCLIPPipeline": "names UnCLIPTextProjModel of diffusers",
    "PRXPipeline": "its weights are not of the sizes that its config.json says",
    "Cosmos": "`cosmos_guardrail` is not installed",
    "FluxPipeline, image prompt": "have more weights than transformer/config.json has a place for",
    "NucleusMoEImagePipeline": "names no processor",
    "Flux2KleinKVPipeline": "Flux2KleinKVPipeline cannot be recorded",
}
# Their autoencoder decodes one video at a time.
ONE_PROMPT = ("HunyuanVideo15Pipeline",)
# Arguments that are pictures, or go with some: without them the doctor draws what the call needs.
INPUTS = {
    "image", "mask_image", "control_image", "original_image", "control_mask", "mask",
    "video", "mask_video", "control_video", "pose_video", "face_video", "conditioning_frames",
    "conditions", "control_mode", "depth_map", "gligen_phrases", "gligen_boxes", "gligen_images",
    "image_latents", "inpaint_strength", "source_prompt", "strength",
}  # fmt: skip
# Of every kind of input one is quick: a picture with a mask and one that controls, a picture of one
# pixel a latent, boxes, latents, a video, and none that is needed.
QUICK_INPUTS = (
    "FluxControlInpaintPipeline",
    "StableDiffusionUpscale",
    "StableDiffusionGLIGENTextImage",
    "StableDiffusionDiffEdit",
    "CogVideoXFunControlPipeline",
    "EasyAnimateInpaintPipeline",
)
SLOW = pytest.mark.slow
Made = tuple[Any, Mapping[str, Any]]


def _of_unet(name: str) -> Made:
    case = ALL_CASES[name]
    return build(case.stock, parts_of(case)), {"prompt": "a red cat", **case.call}


def _of_transformer(make: Callable[[], Any]) -> Made:
    case = make()
    return case.make(), case.call


CASES: dict[str, Callable[[], Made]] = {
    **{name: lambda name=name: _of_unet(name) for name in ALL_CASES},
    **{name: lambda make=make: _of_transformer(make) for name, make in (JOINT | SINGLE).items()},
}


def _with_inputs() -> list[str]:
    """The first toy of every class whose call has a picture."""
    calls = {name: case.call for name, case in ALL_CASES.items()}
    calls |= {name: make().call for name, make in (JOINT | SINGLE).items()}
    first = {name.partition(",")[0].partition(" ")[0]: name for name in reversed(calls)}
    return [name for name in first.values() if INPUTS & set(calls[name])][::-1]


# What the libraries say of themselves, which other folders of tests do not hear.
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:In CPU autocast")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if number % QUICK == 0 or name in ALWAYS else SLOW)
        for number, name in enumerate(CASES)
    ],
)
def test_a_saved_model_is_right(name: str, tmp_path: Path) -> None:
    made, call = CASES[name]()
    if name in ONE_PROMPT:
        texts = {key: value[0] for key, value in call.items() if _is_texts(key, value)}
        call = {**call, **texts}
    _check(name, made, call, tmp_path)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:In CPU autocast")
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in QUICK_INPUTS else SLOW) for name in _with_inputs()],
)
def test_a_saved_model_is_right_with_inputs_that_are_drawn(name: str, tmp_path: Path) -> None:
    made, call = CASES[name]()
    texts = {key: value[0] for key, value in call.items() if _is_texts(key, value)}
    options = {key: value for key, value in call.items() if key not in INPUTS} | texts
    options.pop("num_images_per_prompt", None)
    _check(name, made, options | {"num_inference_steps": 2}, tmp_path)


def _is_texts(key: str, value: Any) -> bool:
    return "prompt" in key and isinstance(value, list)


def _check(name: str, made: Any, call: Mapping[str, Any], folder: Path) -> None:
    try:
        made.save_pretrained(folder)
    except (AttributeError, FileNotFoundError) as error:
        pytest.skip(f"the toy has a part that cannot be saved, such as a tokenizer: {error}")
    reason = next((text for part, text in NOT_WHOLE.items() if name.startswith(part)), "")
    if reason:
        refused = (InputError, UnsupportedPipelineError, IncompleteModelWarning)
        with pytest.raises(refused, match=reason):
            _examined(folder, call)
        return
    found = _examined(folder, call)
    assert found.passed and found.is_identical, found
    assert found.sites and not found.unseen and found.largest_error < 1e-4


def _examined(folder: Path, call: Mapping[str, Any]) -> Examination:
    pipe = load_stock_pipeline(find_model(str(folder)), "cpu", None)
    pipe.set_progress_bar_config(disable=True)
    options = {key: value for key, value in call.items() if key not in OF_THE_RUN}
    steps = call.get("num_inference_steps", 2)
    return examine(pipe, prompt=call["prompt"], steps=steps, rounds=1, **options)
