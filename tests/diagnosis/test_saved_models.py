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
from diffusers_rdaam.errors import InputError, UnsupportedPipelineError

# A few of every kind are quick; the others take minutes together.
QUICK = 16
# The rows of a call are attended to one by one, with as many keys as each one's text has.
ALWAYS = ("MochiPipeline",)
# What examine gives itself.
OF_THE_RUN = ("prompt", "num_inference_steps", "output_type", "generator")
# Toys that are not whole as a folder; the reason is what a command says of it.
NOT_WHOLE = {
    "StableDiffusionDepth2Img": "names no depth_estimator",
    "IFImg2ImgSuperResolutionPipeline": "names no watermarker",
    "Kandinsky5": "names no tokenizer",
    "UnCLIPPipeline": "names UnCLIPTextProjModel of diffusers",
    "PRXPipeline": "its weights are not of the sizes that its config.json says",
    "Cosmos": "`cosmos_guardrail` is not installed",
    "FluxPipeline, image prompt": "no attribute 'encoder_hid_proj'",
    "AllegroPipeline": "Decoding without tiling",
    "Flux2KleinKVPipeline": "Flux2KleinKVPipeline cannot be recorded",
}
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
    try:
        made.save_pretrained(tmp_path)
    except (AttributeError, FileNotFoundError) as error:
        pytest.skip(f"the toy has a part that cannot be saved, such as a tokenizer: {error}")
    reason = next((text for part, text in NOT_WHOLE.items() if name.startswith(part)), "")
    if reason:
        with pytest.raises((InputError, UnsupportedPipelineError), match=reason):
            _examined(tmp_path, call)
        return
    found = _examined(tmp_path, call)
    assert found.passed and found.is_identical, found
    assert found.sites and not found.unseen and found.largest_error < 1e-4


def _examined(folder: Path, call: Mapping[str, Any]) -> Examination:
    pipe = load_stock_pipeline(find_model(str(folder)), "cpu", None)
    pipe.set_progress_bar_config(disable=True)
    options = {key: value for key, value in call.items() if key not in OF_THE_RUN}
    steps = call.get("num_inference_steps", 2)
    return examine(pipe, prompt=call["prompt"], steps=steps, rounds=1, **options)
