"""Modular pipelines of transformers, recorded in a block, against the attention of a stock run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import builders_flux
import builders_qwen
import builders_sd3
import cases_z_image
import numpy as np
import pytest
from dense_checks import StockRun, check_maps, images_of
from dense_oracle import Case, DenoiserCall
from diffusers import modular_pipelines
from diffusers.image_processor import VaeImageProcessor

from diffusers_rdaam import RDAAMProcessor, record_attention
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.pipelines.modular import ModularParts


def assembled(blocks: str, make: Callable[[], Any]) -> Any:
    """The modular pipeline of some blocks, with the models of a pipeline."""
    pipe = getattr(modular_pipelines, blocks)().init_pipeline()
    given = make().components
    names = pipe.pretrained_component_names
    pipe.update_components(**{name: given[name] for name in names if given.get(name) is not None})
    if "image_processor" in pipe.components:
        # Of Z-Image and Qwen-Image it is made for an autoencoder of 8 pixels to a latent.
        pipe.update_components(image_processor=VaeImageProcessor(vae_scale_factor=4))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def every_call(call: DenoiserCall) -> list[int]:
    """No guidance: every row is of the prompt."""
    latents = next(iter([*call.args, *call.kwargs.values()]))
    return list(range(len(latents)))


def prompt_first(call: DenoiserCall) -> list[int]:
    """The guider's order: the prompt's call, then that of the negative prompt."""
    return every_call(call) if call.number % 2 == 0 else []


def modular(blocks: str, case: Case, *, guided: bool = True, **changes: Any) -> Case:
    """A case of a stock class, run by blocks of diffusers."""
    dropped = {"true_cfg_scale", "guidance_scale", "output_type"} | set(changes)
    call: Mapping[str, Any] = {k: v for k, v in case.call.items() if k not in dropped}
    return replace(
        case,
        name=blocks,
        make=partial(assembled, blocks, case.make),
        call={**call, **changes, "output": ["images"]},
        rows=prompt_first if guided else every_call,
    )


CASES: dict[str, Callable[[], Case]] = {
    "FluxAutoBlocks": lambda: modular(
        "FluxAutoBlocks", builders_flux.CASES["FluxPipeline"](), guided=False
    ),
    "StableDiffusion3AutoBlocks": lambda: modular(
        "StableDiffusion3AutoBlocks", builders_sd3.CASES["StableDiffusion3Pipeline"]()
    ),
    "QwenImageAutoBlocks": lambda: modular(
        "QwenImageAutoBlocks", builders_qwen.CASES["QwenImagePipeline"]()
    ),
    "ZImageAutoBlocks": lambda: modular("ZImageAutoBlocks", cases_z_image.z_image(), guided=False),
}


@pytest.mark.parametrize("name", CASES)
def test_a_modular_pipeline(name: str):
    case = CASES[name]()
    stock = StockRun(case)
    pipe = case.make()
    with record_attention(pipe, RDAAMProcessor(), prompt=list(case.prompts)) as recording:
        output = case.run(pipe)
    assert np.array_equal(images_of(output), stock.images)
    check_maps(stock, recording.attributions)


def test_what_no_block_has_is_an_error_and_a_default_where_one_is_given():
    parts = ModularParts(CASES["QwenImageAutoBlocks"]().make())
    assert "{}" in parts.prompt_template_encode
    with pytest.raises(InputError, match="no block of the QwenImageModularPipeline has a 'magic'"):
        parts.magic  # noqa: B018  # the access is the test
    assert getattr(parts, "magic", 3) == 3
