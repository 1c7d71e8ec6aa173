"""diffusers-interpret's explainers: generate, and score tokens and pixels by gradients."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam.compat.diffusers_interpret.data import (
    AttributionMethods,
    PipelineExplainerForBoundingBoxOutput,
    PipelineExplainerOutput,
    PipelineImg2ImgExplainerForBoundingBoxOutputOutput,
    PipelineImg2ImgExplainerOutput,
    TokenAttributions,
    boxed,
)
from diffusers_rdaam.compat.diffusers_interpret.images import GeneratedImages
from diffusers_rdaam.compat.diffusers_interpret.saliency import PixelAttributions
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.explain.explained import check_pipeline
from diffusers_rdaam.explain.gradients.gradient import explain_gradient
from diffusers_rdaam.explain.gradients.gradient_words import GradientWords
from diffusers_rdaam.geometry.region import Box
from diffusers_rdaam.pipelines.decode import decode_latents

Corners = tuple[tuple[int, int], tuple[int, int]]


class StableDiffusionPipelineExplainer:
    """Explain a pipeline's images: ``explainer(prompt, …)``.

    Args:
        pipe: Stable Diffusion 1, 2 or XL, stock or one of this package. It is left as it is.
        verbose: whether the pipeline shows its progress.
        gradient_checkpointing: compute activations again on the way back: less memory, more time.

    Raises:
        UnsupportedPipelineError: another pipeline.
    """

    takes_image: ClassVar[bool] = False
    takes_mask: ClassVar[bool] = False

    def __init__(
        self, pipe: Any, verbose: bool = True, gradient_checkpointing: bool = False
    ) -> None:
        check_pipeline(pipe)
        self.pipe = pipe
        self.verbose = verbose
        self.gradient_checkpointing = gradient_checkpointing

    def gradient_checkpointing_enable(self) -> None:
        """Less memory, more time."""
        self.gradient_checkpointing = True

    def gradient_checkpointing_disable(self) -> None:
        """More memory, less time."""
        self.gradient_checkpointing = False

    def __call__(
        self,
        prompt: str,
        init_image: Any = None,
        mask_image: Any = None,
        *,
        attribution_method: str | AttributionMethods | None = None,
        explanation_2d_bounding_box: Corners | None = None,
        consider_special_tokens: bool = False,
        clean_token_prefixes_and_suffixes: bool = True,
        run_safety_checker: bool = False,
        n_last_diffusion_steps_to_consider_for_attributions: int | None = None,
        get_images_for_all_inference_steps: bool = True,
        output_type: str | None = "pil",
        **arguments: Any,
    ) -> PipelineExplainerOutput:
        """Generate an image, and say how much each token counts for it.

        Args:
            prompt: one text.
            init_image, mask_image: of the explainers that take them.
            attribution_method: ``"grad_x_input"``, ``"max_grad"``, ``"mean_grad"`` or
                ``"min_grad"``; or one for tokens and one for pixels.
            explanation_2d_bounding_box: upper left and lower right corner of the part of the image
                to explain, ``(x, y)`` each.
            consider_special_tokens: have the start and end tokens and the padding as well.
            clean_token_prefixes_and_suffixes: tokens as they are in the prompt, without ``</w>``.
            run_safety_checker: make images black in which the pipeline's checker finds something.
            n_last_diffusion_steps_to_consider_for_attributions: how many steps count, from the
                end; all if None; 0: no scores.
            get_images_for_all_inference_steps: keep the images on the way, each decoded.
            output_type: ``"pil"``, or None for the image as a tensor ``(height, width, 3)``.
            arguments: of the pipeline's own call.

        Raises:
            InputError: an argument is wrong.
            RegionError: the box does not lie in the image.
            GradientError: gradients cannot flow, or are not finite.
        """
        call = self._arguments(init_image, mask_image, arguments)
        if output_type not in ("pil", None):
            raise InputError(f"output_type= is 'pil' or None; got {output_type!r}.")
        pipe = self._quiet(run_safety_checker)
        kept: list[Image.Image] = []
        if get_images_for_all_inference_steps:
            call["callback_on_step_end"] = _keep(self.pipe, kept, call.get("callback_on_step_end"))
        last = n_last_diffusion_steps_to_consider_for_attributions
        box = explanation_2d_bounding_box
        words = None
        if last == 0:
            image = pipe(prompt, **call).images[0]
        else:
            words = self._explain(pipe, prompt, attribution_method, box, last, call)
            image = words.image
        found = self._output(words, box)
        if run_safety_checker and getattr(pipe, "safety_checker", None) is not None:
            # The pipeline makes them black.
            found.nsfw_content_detected = image.getbbox() is None
        if kept:
            found.all_images_during_generation = GeneratedImages(kept)
        shown = image if box is None else boxed(image, box)
        found.image = shown if output_type == "pil" else _tensor(shown)
        if words is not None:
            clean = clean_token_prefixes_and_suffixes
            found.token_attributions = self._tokens(words, consider_special_tokens, clean)
        return found

    def _quiet(self, check: bool) -> Any:
        """The pipeline with a progress bar and a safety checker as asked; its own stay."""
        pipe = copy.copy(self.pipe)
        bar = getattr(self.pipe, "_progress_bar_config", {})
        # Past __setattr__, which would write the configuration that the copy shares.
        pipe.__dict__["_progress_bar_config"] = bar if self.verbose else bar | {"disable": True}
        if not check and hasattr(pipe, "safety_checker"):
            pipe.__dict__["safety_checker"] = None
        return pipe

    def _explain(
        self,
        pipe: Any,
        prompt: str,
        method: Any,
        box: Corners | None,
        last: int | None,
        call: dict[str, Any],
    ) -> GradientWords:
        methods = method
        if not isinstance(method, AttributionMethods):
            methods = AttributionMethods() if method is None else AttributionMethods(method)
        options: dict[str, Any] = {
            "method": _name(methods.tokens_attribution_method),
            "pixel_method": _name(methods.pixels_attribution_method),
            "region": None if box is None else _region(box),
            "last_steps": last,
            "checkpointing": self.gradient_checkpointing,
        }
        return explain_gradient(pipe, prompt, **options, **call)

    def _arguments(self, image: Any, mask: Any, given: dict[str, Any]) -> dict[str, Any]:
        name = type(self).__name__
        for what, one, wanted in (
            ("init_image", image, self.takes_image),
            ("mask_image", mask, self.takes_mask),
        ):
            if (one is not None) != wanted:
                problem = "needs" if wanted else "does not take"
                raise InputError(f"{name} {problem} {what}=.")
        call = dict(given)
        if self.takes_image:
            call["image"] = image
        if self.takes_mask:
            call["mask_image"] = mask
            # The pipeline would paint at the model's own size.
            size = getattr(image, "size", None)
            if isinstance(size, tuple) and "height" not in call and "width" not in call:
                call |= {"width": size[0] // 8 * 8, "height": size[1] // 8 * 8}
        return call

    def _output(self, words: GradientWords | None, box: Corners | None) -> PipelineExplainerOutput:
        if not self.takes_image:
            if box is None:
                return PipelineExplainerOutput(None)
            return PipelineExplainerForBoundingBoxOutput(None, explanation_2d_bounding_box=box)
        scores = None if words is None or words.pixels is None else PixelAttributions(words.pixels)
        if box is None:
            return PipelineImg2ImgExplainerOutput(None, pixel_attributions=scores)
        return PipelineImg2ImgExplainerForBoundingBoxOutputOutput(
            None, pixel_attributions=scores, explanation_2d_bounding_box=box
        )

    def _tokens(self, words: GradientWords, special: bool, clean: bool) -> TokenAttributions:
        names = [token.text for token in words.prompt.tokens]
        if not clean:
            ids = self.pipe.tokenizer(
                words.prompt.text,
                padding="max_length",
                max_length=len(names),
                truncation=True,
            ).input_ids
            names = self.pipe.tokenizer.convert_ids_to_tokens(ids)
        return TokenAttributions(
            (names[token.column], float(words.values[token.column]))
            for token in words.prompt.tokens
            if special or token.kind == "text"
        )


class StableDiffusionImg2ImgPipelineExplainer(StableDiffusionPipelineExplainer):
    """The explainer from an image: ``explainer(prompt=…, init_image=…, strength=…)``."""

    takes_image = True


class StableDiffusionInpaintPipelineExplainer(StableDiffusionImg2ImgPipelineExplainer):
    """The inpainting explainer: ``explainer(prompt=…, init_image=…, mask_image=…)``."""

    takes_mask = True


def _name(method: Any) -> Any:
    return getattr(method, "value", method)


def _region(box: Any) -> Box:
    try:
        (left, top), (right, bottom) = box
    except (TypeError, ValueError):
        raise InputError(
            f"explanation_2d_bounding_box= is ((left, top), (right, bottom)); got {box!r}."
        ) from None
    return Box(left, top, right, bottom)


def _keep(pipe: Any, kept: list[Image.Image], then: Any) -> Any:
    """A callback that keeps the image after every step."""

    def callback(clone: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> Any:
        with torch.no_grad():
            kept.append(decode_latents(pipe, tensors["latents"].detach())[0])
        return tensors if then is None else then(clone, step, timestep, tensors)

    return callback


def _tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"), dtype=np.float32) / 255.0)
