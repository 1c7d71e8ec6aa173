"""attribute_image: which words of a text are where in an image that exists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffusers import DiffusionPipeline

from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.families.call_keywords import check_call_keywords
from diffusers_rdaam.images.attribute import NOISE, ImageRequest, ImageRun, Method
from diffusers_rdaam.images.solvers import Solver
from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin
from diffusers_rdaam.pipelines.record_attention import record_attention


def attribute_image(
    pipe: Any,
    image: Any,
    prompt: str | Sequence[str] | None = None,
    *,
    method: Method = "forward",
    noise: float | Sequence[float] = NOISE,
    draws: int = 2,
    steps: int = 20,
    solver: Solver = "fireflow",
    until: float = 0.7,
    size: tuple[int, int] | None = None,
    generator: Any = None,
    pipeline_image: Any = None,
    processor: RDAAMProcessor | None = None,
    **call: Any,
) -> Attribution | list[Attribution]:
    """The attribution of an image that exists: which words of a text made which region of it.

    ``method="forward"`` noises the image's latents ``z`` at a few low levels ``sigma`` and calls
    the denoiser once at each, without guidance: ``x = (1 - sigma) z + sigma eps`` on the scale of
    flow matching, times ``1 / sqrt((1 - sigma)² + sigma²)`` for a diffusion model. The maps are
    the mean over the calls. ``method="invert"`` follows the model's own path to ``until`` and back,
    and records the way back; what comes back is compared with the image.

    A map never says that something is *not* there: a word that the image does not show is given a
    place, too.

    Args:
        pipe: a pipeline of diffusers that makes images, recording or stock; it stays as it is.
        image: a PIL image, a path, or an array or tensor ``(height, width, 3)``; or a list of them.
        prompt: a text that describes the image; for a list of images one for all, or one for each.
        method: ``"forward"`` or ``"invert"``.
        noise: levels over 0 and under 1, for ``"forward"``.
        draws: of noise at each level; 0 for the clean latents under the level's timestep, which
            needs no random number.
        steps: of the inversion and of the replay, for ``"invert"``.
        solver: ``"fireflow"`` (second order, one call a step), ``"fixed_point"`` (the exact inverse
            of Euler's rule, 3 calls a step) or ``"euler"``, for ``"invert"``.
        until: the level to which the image is inverted.
        size: height and width to which the image is scaled, without cropping; that of the image,
            rounded to what the pipeline takes, if not given. Very large and very small images are
            scaled to the pipeline's usual number of pixels.
        generator: of the noise; that of seed 0 if not given. One gives every image of a list the
            same noise; a list has one for each.
        pipeline_image: what the call's own ``image=`` gets, of pipelines that read another image
            as well: a control image, or the one that an edit begins with.
        processor: options of recording, for a stock pipeline.
        call: further arguments of the pipeline's call, such as ``prompt_2``, ``control_image`` or
            ``mask_image``.

    Returns:
        An attribution that holds the image in the size that it was scaled to, and in ``run`` the
        method, the levels, the seed, the size that was given, and for ``"invert"``
        ``latent_error``, ``|z' - z| / |z|``, and ``reconstruction_psnr``, in dB against what the
        autoencoder alone makes of the image. For a list of images, a list.

    Raises:
        InputError: an argument is wrong.
        UnsupportedPipelineError: images are not attributed by this class of pipeline, or the noise
            levels of its scheduler are not known.

    Warns:
        ImageResizedWarning: the image was stretched.
        ReconstructionWarning: the inverted image does not come back.
    """
    if not isinstance(pipe, DiffusionPipeline):
        raise InputError(
            f"attribute_image takes a pipeline of diffusers; got a {type(pipe).__name__}."
        )
    if isinstance(pipe, RDAAMPipelineMixin):
        if processor is not None:
            raise InputError(
                "processor= is for a stock pipeline; this one has options of its own. Set them "
                "with pipe.set_attn_processor(RDAAMProcessor(…))."
            )
        return pipe.attribute_image(
            image,
            prompt,
            method=method,
            noise=noise,
            draws=draws,
            steps=steps,
            solver=solver,
            until=until,
            size=size,
            generator=generator,
            pipeline_image=pipeline_image,
            **call,
        )
    check_call_keywords(pipe, call, attribute_image)

    def record(clone: Any, arguments: dict[str, Any]) -> Sequence[Attribution]:
        with record_attention(clone, processor) as recorded:
            clone(**arguments)
        return recorded.attributions

    request = ImageRequest(
        method, noise, draws, steps, solver, until, size, generator, pipeline_image, call
    )
    run = ImageRun(pipe, request, record=record, plain=lambda clone, named: clone(**named))
    return run.attribute(image, prompt)
