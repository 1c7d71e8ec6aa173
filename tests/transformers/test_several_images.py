"""Several images of one prompt: each has the attribution that the prompt has in a list.

Joint attention is compared with dense float64 attention. For the others lists of prompts are, in
other tests; here an image or video of ``num_images_per_prompt=2`` has the same bits, words and maps
as in a list of the prompt twice.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from builders_joint import CASES as JOINT
from builders_single import CASES as SINGLE
from dense_checks import check_block, images_of
from dense_oracle import Case

from diffusers_rdaam import record_attention

OPTIONS = ("num_images_per_prompt", "num_videos_per_prompt")
# Of classes that have the option: those whose stock run fails with two, or whose stock run takes no
# list of prompts with the picture of the case.
STOCK_FAILS = {
    "ChronoEditPipeline", "CogVideoXFunControlPipeline", "CogVideoXImageToVideoPipeline",
    "EasyAnimateInpaintPipeline", "HunyuanSkyreelsImageToVideoPipeline",
    "HunyuanVideo15ImageToVideoPipeline", "HunyuanVideo15Pipeline",
    "IFImg2ImgSuperResolutionPipeline", "IFInpaintingSuperResolutionPipeline",
    "Kandinsky5I2IPipeline", "HunyuanVideoImageToVideoPipeline", "PRXPipeline",
    "Kandinsky5T2VPipeline", "LTXConditionPipeline", "LucyEditPipeline",
    "PRXPixelPipeline", "QwenImageEditInpaintPipeline", "QwenImageEditPipeline",
    "SanaImageToVideoPipeline", "SkyReelsV2ImageToVideoPipeline", "WanImageToVideoPipeline",
    "WanVACEPipeline", "ZImageControlNetInpaintPipeline",
}  # fmt: skip
# They take the option, and make one video whatever it says.
MAKE_ONE = {
    "AllegroPipeline", "CogVideoXPipeline", "CogVideoXVideoToVideoPipeline",
    "WanVideoToVideoPipeline",
}  # fmt: skip
# Nothing but a list of prompts makes several images.
WITHOUT = {"LDMTextToImagePipeline"}
# It is refused, with the reason.
REFUSED = {"Flux2KleinKVPipeline"}
# Its prior has another rounding for two prompts than for two images of one.
ROUNDED = {"UnCLIPPipeline"}


def _first_cases() -> dict[str, str]:
    """The first case of each class, by the class's name."""
    found: dict[str, str] = {}
    for name in SINGLE | JOINT:
        found.setdefault(name.replace(",", " ").split()[0], name)
    return found


NAMES = _first_cases()


ASKED = sorted(set(NAMES) - STOCK_FAILS - MAKE_ONE - WITHOUT - REFUSED)
# Qwen-Image's masks of several prompts are repeated in another order than the prompts.
BY_LIST = [name for name in ASKED if NAMES[name] in SINGLE or name.startswith("QwenImage")]
# It takes one prompt.
BY_LIST.remove("QwenImageEditPlusPipeline")
# Their toys take several seconds.
LARGE = {"HiDreamImagePipeline", "HunyuanImagePipeline", "LongCatImageEditPipeline"}
JOINTLY = [
    pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE))
    for name in ASKED
    if name not in BY_LIST
]


@pytest.mark.every(8)
@pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning")
@pytest.mark.parametrize("name", JOINTLY)
def test_two_images_of_each_prompt(name: str) -> None:
    case = JOINT[NAMES[name]]()
    (option,) = _option(case)
    check_block(replace(case, call={**case.call, option: 2}))


@pytest.mark.every(8)
@pytest.mark.filterwarnings("ignore:In CPU autocast")
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")
@pytest.mark.filterwarnings("ignore:`LoraLoaderMixin` is deprecated:FutureWarning")
@pytest.mark.parametrize("name", BY_LIST)
def test_two_images_of_a_prompt(name: str) -> None:
    case = (SINGLE | JOINT)[NAMES[name]]()
    (option,) = _option(case)
    prompt, negative = _first(case.call["prompt"]), _first(case.call.get("negative_prompt"))
    call = {**case.call, "prompt": prompt}
    if negative is not None:
        call["negative_prompt"] = negative
    listed = {**_in_twos(name, call), "prompt": [prompt] * 2}
    if negative is not None:
        listed["negative_prompt"] = [negative] * 2
    one, other = _recorded(case, {**call, option: 2}), _recorded(case, listed)
    tolerance = 1e-5 if name in ROUNDED else 0.0
    np.testing.assert_allclose(images_of(one[0]), images_of(other[0]), rtol=0, atol=tolerance)
    assert len(one[1]) == len(other[1]) == 2
    for attribution, wanted in zip(one[1], other[1], strict=True):
        for part, whole in zip(_parts(attribution), _parts(wanted), strict=True):
            assert part.prompt.text == prompt
            assert part.prompt.tokens == whole.prompt.tokens
            for grid, same in zip(part.grids, whole.grids, strict=True):
                torch.testing.assert_close(grid.maps, same.maps, rtol=0, atol=1e-6)


def _option(case: Case) -> list[str]:
    taken = inspect.signature(type(case.make()).__call__).parameters
    return [name for name in OPTIONS if name in taken]


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value


def _in_twos(name: str, call: dict[str, Any]) -> dict[str, Any]:
    """What DeepFloyd's pipelines want in a list where the prompts are one."""
    if not name.startswith("IF"):
        return call
    pictures = {key: [call[key]] * 2 for key in ("image", "mask_image") if key in call}
    return {**call, **pictures}


def _recorded(case: Case, call: dict[str, Any]) -> tuple[Any, list[Any]]:
    pipe = case.make()
    asked = replace(case, call=call)
    with record_attention(pipe) as recording:
        output = asked.run(pipe)
    return output, list(recording.attributions)


def _parts(attribution: Any) -> list[Any]:
    return list(getattr(attribution, "parts", [attribution]))
