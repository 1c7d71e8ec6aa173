"""explain_gradient: how the pixels of a region would change with each word's embedding."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, overload

import torch

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.explain.explained import check_pipeline
from diffusers_rdaam.explain.gradients.gradient_words import GradientWords
from diffusers_rdaam.explain.gradients.input_pixels import InputPixels
from diffusers_rdaam.explain.gradients.integrated_gradients import integrate
from diffusers_rdaam.explain.gradients.reductions import (
    Method,
    PixelMethod,
    check_method,
    reduce_entries,
)
from diffusers_rdaam.explain.gradients.regeneration import (
    GradientOptions,
    GradientRegeneration,
    RegionGradient,
    entries_last,
)
from diffusers_rdaam.explain.gradients.requirements import check_requirements, hold_still
from diffusers_rdaam.explain.prompt_columns import prompt_of_columns
from diffusers_rdaam.explain.regeneration import (
    ReplayedNoise,
    as_regions,
    check_arguments,
    to_picture,
)
from diffusers_rdaam.families import family_of, inpaint_masks
from diffusers_rdaam.families.call_keywords import check_call_keywords
from diffusers_rdaam.geometry.region import Region, RegionLike
from diffusers_rdaam.recording.announce import print_line

PATH_STEPS = 16


@overload
def explain_gradient(
    pipe: Any, prompt: str, *, region: RegionLike | None = ..., regions: None = ..., **options: Any
) -> GradientWords: ...
@overload
def explain_gradient(
    pipe: Any, prompt: str, *, regions: Sequence[RegionLike], **options: Any
) -> list[GradientWords]: ...
def explain_gradient(
    pipe: Any,
    prompt: str,
    *,
    region: RegionLike | None = None,
    regions: Sequence[RegionLike] | None = None,
    method: Method = "grad_x_input",
    pixel_method: PixelMethod = "max_grad",
    last_steps: int | None = None,
    checkpointing: bool = True,
    path_steps: int = PATH_STEPS,
    clamp: bool = True,
    budget: int | None = None,
    **arguments: Any,
) -> Any:
    """Generate an image, and say on which words' embeddings the pixels of a region depend.

    What is differentiated is the sum of red, green and blue (0 to 1) over the region, by the text
    embeddings that the denoiser is given. The image is the stock pipeline's from the same noise.
    The memory cost is reported before it is spent. The pipeline, its generator, the grad mode and
    the random state are left as they were.

    Args:
        pipe: Stable Diffusion 1, 2, XL, 3 or 3.5, or FLUX.1: text to image, image to image or
            inpainting; a stock pipeline or one of ours.
        prompt: one text; with ``prompt_embeds=`` the text that these were made from.
        region: as for ``attribution.region``; the whole image if not given.
        regions: several, all from one generation.
        method: ``"grad_x_input"``, ``"max_grad"``, ``"min_grad"``, ``"mean_grad"`` (all without a
            sign) or ``"integrated_gradients"`` (Sundararajan et al., 2017), whose scores have a
            sign and sum to the difference to an empty prompt's image.
        pixel_method: the same for the pixels of an input image.
        last_steps: only the last steps are differentiated; what the earlier ones made counts as
            given, and there are no scores for the pixels of an input image.
        checkpointing: compute a call's activations again on the way back, in place of keeping all.
        path_steps: of integrated gradients, each a generation.
        clamp: whether pixels that are fully dark or bright count as not changing.
        budget: bytes of activations that may be kept.
        arguments: of the pipeline's own call.

    Returns:
        The words of the region; a list of them with ``regions=``.

    Raises:
        InputError: an argument is wrong, or the memory cost is over the budget.
        RegionError: a region is not valid for the image.
        UnsupportedPipelineError: another pipeline.
        GradientError: gradients cannot flow (quantised, offloaded), or are not finite.
    """
    check_method(method)
    check_method(pixel_method, PixelMethod, "pixel_method")
    _check_numbers(last_steps=last_steps, path_steps=path_steps, budget=budget)
    check_pipeline(pipe)
    asked = as_regions(region, regions)
    given, arguments = arguments, check_arguments(pipe, prompt, arguments)
    check_call_keywords(pipe, given, explain_gradient)
    if method == "integrated_gradients" and last_steps is not None:
        raise InputError(
            "last_steps= goes with the other methods: integrated gradients sum to a difference of "
            "images only where every denoiser call counts. Leave one of them out."
        )
    denoiser = family_of(pipe).denoiser_name
    modules = {denoiser: getattr(pipe, denoiser), "vae": pipe.vae}
    check_requirements(modules)
    pixels = last_steps is None and method != "integrated_gradients"
    settings = GradientOptions(method, last_steps, checkpointing, pixels, clamp, budget)
    noise = ReplayedNoise(pipe, arguments)
    undo = ExitStack()
    # Closed twice: an interrupt on the way out of ``with`` itself would leave the list unused.
    try:
        with undo:
            undo.enter_context(torch.inference_mode(False))
            undo.enter_context(torch.enable_grad())
            hold_still(modules, undo)
            if method == "integrated_gradients":
                found = integrate(pipe, settings, asked, noise, arguments, path_steps)
            else:
                found = _once(pipe, settings, asked, noise, arguments, method, pixel_method)
    finally:
        undo.close()
    columns = found[0].columns.shape[0]
    words = [
        GradientWords(
            prompt_of_columns(pipe, prompt, columns, arguments),
            one,
            part.image,
            part.columns,
            method,
            **part.more,
        )
        for one, part in zip(asked, found, strict=True)
    ]
    return words if regions is not None else words[0]


def _once(
    pipe: Any,
    settings: GradientOptions,
    regions: Sequence[Region | None],
    noise: ReplayedNoise,
    arguments: dict[str, Any],
    method: Method,
    pixel_method: PixelMethod,
) -> list[RegionGradient]:
    """One generation, and the way back once for each region."""
    regeneration = GradientRegeneration(
        pipe, settings, regions, announce=lambda text: print_line(text, pipe)
    )
    image = regeneration.picture(regeneration.run(noise.again(arguments)))
    found = []
    for gradients in regeneration.gradients():
        scores = {
            name: reduce_entries(
                pixel_method if name == "pixels" else method,
                entries_last(gradient),
                entries_last(regeneration.leaves[name]).to(gradient.dtype),
            )
            for name, gradient in gradients.items()
        }
        more: dict[str, Any] = {"memory": regeneration.memory}
        if "pooled" in scores:
            more["pooled"] = float(scores["pooled"])
        if "pixels" in scores:
            masks = inpaint_masks(pipe, arguments.get("mask_image"), (image.height, image.width))
            more["pixels"] = InputPixels(
                scores["pixels"].float(),
                pixel_method,
                to_picture(pipe, regeneration.leaves["pixels"] / 2 + 0.5),
                masks[0] if masks else None,
            )
        found.append(RegionGradient(scores["text"], image, more))
    return found


def _check_numbers(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is None and name != "path_steps":
            continue
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InputError(f"{name}= is a whole number from 1; got {number!r}.")
