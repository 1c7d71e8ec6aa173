"""The embedded model, loaded from the package: no hub, no download."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import Any, Literal, overload

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModel, CLIPTokenizer

from diffusers_rdaam.argument_checks import check_choice
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.pipelines.classes import FluxRDAAMPipeline, StableDiffusionRDAAMPipeline

WEIGHTS = Path(__file__).parent / "weights"
# What the card's numbers were measured with.
STEPS = 20
GUIDANCE_SCALE = 4.0
_DEFAULTS: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE_SCALE}


# The same of the embedded FLUX, whose own defaults (1024 pixels, 512 text positions, no guidance)
# are those of a model that is ten thousand times as large.
FLUX_WEIGHTS = Path(__file__).parent / "weights_flux"
FLUX_DEFAULTS: dict[str, Any] = {
    "height": 256,
    "width": 256,
    "num_inference_steps": 16,
    "true_cfg_scale": 4.0,
    "negative_prompt": "",
    "max_sequence_length": 32,
}
DemoModel = Literal["stable-diffusion", "flux"]


def _with_defaults(call: Any, defaults: dict[str, Any]) -> Any:
    """The call of a pipeline class with the defaults of an embedded model.

    Every argument may be given, by name or by position, and nothing else of the call changes.
    """
    signature = inspect.signature(call)
    parameters = [
        parameter.replace(default=defaults.get(name, parameter.default))
        for name, parameter in signature.parameters.items()
    ]

    @functools.wraps(call)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = signature.bind_partial(self, *args).arguments
        missing = {name: value for name, value in defaults.items() if name not in given}
        if {"negative_prompt_embeds", "prompt_embeds"} & kwargs.keys():
            # A negative text beside negative embeddings is an error of the stock call.
            missing.pop("negative_prompt", None)
        prompt = {**given, **kwargs}.get("prompt")
        if "negative_prompt" in missing and isinstance(prompt, list):
            # One for each: with several images of each prompt diffusers needs as many.
            missing["negative_prompt"] = [missing["negative_prompt"]] * len(prompt)
        return call(self, *args, **{**missing, **kwargs})

    # A method that only fills in arguments: what it calls records, under the mark that
    # functools.wraps has copied, so that no second recording is put around it.
    __call__.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # read by inspect.signature
    return __call__


class DemoRDAAMPipeline(StableDiffusionRDAAMPipeline):
    """The pipeline of the embedded model: 20 steps and a guidance scale of 4 unless given."""

    __call__ = _with_defaults(StableDiffusionRDAAMPipeline.__call__, _DEFAULTS)


class DemoFluxRDAAMPipeline(FluxRDAAMPipeline):
    """The pipeline of the embedded FLUX: 256x256 pixels, 16 steps, true guidance 4 unless given."""

    __call__ = _with_defaults(FluxRDAAMPipeline.__call__, FLUX_DEFAULTS)


@overload
def load_demo_pipeline(
    model: Literal["stable-diffusion"] = ..., **kwargs: Any
) -> StableDiffusionRDAAMPipeline: ...
@overload
def load_demo_pipeline(model: Literal["flux"], **kwargs: Any) -> FluxRDAAMPipeline: ...
def load_demo_pipeline(model: DemoModel = "stable-diffusion", **kwargs: Any) -> Any:
    """One of the two tiny models of coloured shapes that ship with the package.

    Prompts such as ``"a red circle and a blue square"``. Colours: red, green, blue, yellow,
    magenta, black; shapes: circle, square, triangle, heart, cross. The cards are in
    ``demo/README.md``.

    Args:
        model: ``"stable-diffusion"``, 128x128 pixels, whose call makes 20 steps with a guidance
            scale of 4 unless these are given, as the command ``rdaam generate`` does; or
            ``"flux"``, a FLUX.1 with 3 double and 3 single blocks, 256x256 pixels, 16 steps with
            true guidance 4 and 32 text positions unless given.
        kwargs: as for ``from_pretrained``, e.g. ``dtype=torch.float16``.

    Raises:
        InputError: there is no such model, or this installation lacks its weights.
    """
    check_choice(model, DemoModel, "an embedded model")
    if model == "flux":
        pipe: Any = _load_flux(**kwargs)
    else:
        pipe = DemoRDAAMPipeline.from_pretrained(WEIGHTS, safety_checker=None, **kwargs)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _load_flux(**kwargs: Any) -> DemoFluxRDAAMPipeline:
    """The embedded FLUX; its CLIP and autoencoder are the embedded Stable Diffusion's."""
    if not (FLUX_WEIGHTS / "model_index.json").is_file():
        raise InputError(
            f"The weights of the embedded FLUX are not in {FLUX_WEIGHTS}: the installation is not "
            "whole. Install the package again; or load the embedded Stable Diffusion with "
            "load_demo_pipeline()."
        )
    dtype = kwargs.pop("dtype", kwargs.pop("torch_dtype", torch.float32))
    parts: dict[str, Any] = {
        # FluxPipeline subtracts the shift, which the embedded autoencoder's configuration lacks.
        "vae": AutoencoderKL.from_pretrained(WEIGHTS / "vae", shift_factor=0.0, dtype=dtype),
        "text_encoder": CLIPTextModel.from_pretrained(WEIGHTS / "text_encoder", dtype=dtype),
        "tokenizer": CLIPTokenizer.from_pretrained(WEIGHTS / "tokenizer"),
    }
    missing = {name: part for name, part in parts.items() if name not in kwargs}
    return DemoFluxRDAAMPipeline.from_pretrained(FLUX_WEIGHTS, dtype=dtype, **missing, **kwargs)
