"""An image as the latents of a pipeline's loop: encoded, scaled, packed.

A new line needs a look at the pipeline's source: what does it do with its latents before it decodes
them, and in which shape does its loop have them?
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from diffusers_rdaam.errors import UnsupportedPipelineError
from diffusers_rdaam.families.layouts import LAYOUTS
from diffusers_rdaam.families.registry import RECORDED, stock_class, unsupported

Layout = Callable[[Any, Tensor], Tensor]


def _scaled(config: Any, latents: Tensor) -> Tensor:
    """Times the factor, or to the mean and deviation that some configurations have."""
    mean, deviation = (config.get(name) for name in ("latents_mean", "latents_std"))
    if mean is None or deviation is None:
        return latents * config.get("scaling_factor", 1.0)
    mean, deviation = (_per_channel(values, latents) for values in (mean, deviation))
    return (latents - mean) / deviation * config.get("scaling_factor", 1.0)


def _per_channel(values: Any, latents: Tensor) -> Tensor:
    found = torch.as_tensor(values, device=latents.device, dtype=latents.dtype)
    return found.view(1, -1, *[1] * (latents.ndim - 2))


def plain(vae: Any, pixels: Tensor) -> Tensor:
    """``(images, channels, height, width)``, scaled."""
    return _scaled(vae.config, mode_of(vae.encode(pixels)))


def shifted(vae: Any, pixels: Tensor) -> Tensor:
    """The same, with the shift of the autoencoder's configuration taken off first."""
    config = vae.config
    shift = config.get("shift_factor") or 0.0
    return (mode_of(vae.encode(pixels)) - shift) * config.get("scaling_factor", 1.0)


def packed(vae: Any, pixels: Tensor) -> Tensor:
    """Shifted latents, two by two to a position: ``(images, positions, 4 channels)``."""
    return _in_fours(shifted(vae, pixels))


def packed_frames(vae: Any, pixels: Tensor) -> Tensor:
    """Those of a video's autoencoder for one frame, normalised and packed."""
    latents = mode_of(vae.encode(pixels.unsqueeze(2)))
    mean, deviation = (
        _per_channel(vae.config[name], latents) for name in ("latents_mean", "latents_std")
    )
    return _in_fours(((latents - mean) / deviation).squeeze(2))


def normalised_patches(vae: Any, pixels: Tensor) -> Tensor:
    """Patches of two by two latents, normalised by the autoencoder's batch statistics."""
    patches = rearrange(
        mode_of(vae.encode(pixels)), "image c (y down) (x across) -> image (c down across) y x",
        down=2, across=2,
    )  # fmt: skip
    mean = _per_channel(vae.bn.running_mean, patches)
    variance = _per_channel(vae.bn.running_var, patches)
    return (patches - mean) / torch.sqrt(variance + vae.config.batch_norm_eps)


def listed_patches(vae: Any, pixels: Tensor) -> Tensor:
    """The same as ``(images, positions, channels)``."""
    return rearrange(normalised_patches(vae, pixels), "image c y x -> image (y x) c")


def _in_fours(latents: Tensor) -> Tensor:
    return rearrange(
        latents, "image c (y down) (x across) -> image (y x) (c down across)", down=2, across=2
    )


def mode_of(encoded: Any) -> Tensor:
    """The most likely latents of an autoencoder's output; some have one alone."""
    distribution = getattr(encoded, "latent_dist", None)
    if distribution is not None:
        return distribution.mode()
    return encoded.latents if hasattr(encoded, "latents") else encoded.latent


_VIDEO = "it makes videos, and only single images are attributed so far"
_PIXELS = "its denoiser works on pixels, and it has no autoencoder"
_SMALLER = "it makes an image out of a smaller one, and reads that in every step"
_FRAMES = "its latents have an axis of frames, which has not been looked at"
_COMPUTED_SIZE = "it works out the size of its image from the one that it edits"
_NOT_LOOKED_AT = "how its loop has its latents has not been looked at"
_CONSISTENCY = "its timesteps are angles of a schedule of its own, which has not been looked at"
_DEPRECATED = "diffusers has deprecated it, and its loop does more with an image than denoise it"
_VIDEO_NAMES = (
    "AnimateDiff", "PIA", "TextToVideo", "VideoToVideo", "Wan", "SkyReels", "LTX", "CogVideoX",
    "HunyuanVideo", "HunyuanSkyreels", "Mochi", "Allegro", "LucyEdit", "ChronoEdit", "EasyAnimate",
    "CosmosTextToWorld", "CosmosVideoToWorld", "Cosmos2VideoToWorld", "Kandinsky5T2V",
    "Kandinsky5I2V", "SanaVideo", "SanaImageToVideo",
)  # fmt: skip
# By the exact name of diffusers' class.
NOT_ATTRIBUTED: dict[str, str] = {
    **{name: _VIDEO for name in RECORDED if name.startswith(_VIDEO_NAMES)},
    **{name: _PIXELS for name in RECORDED if name.startswith(("IF", "UnCLIP"))},
    "PRXPixelPipeline": _PIXELS,
    **dict.fromkeys(
        (
            "BriaFiboPipeline",
            "BriaFiboEditPipeline",
            "BriaFibo2Pipeline",
            "NucleusMoEImagePipeline",
            "Ideogram4Pipeline",
            "ZImageControlNetPipeline",
            "ZImageControlNetInpaintPipeline",
        ),
        _NOT_LOOKED_AT,
    ),
    "StableDiffusionUpscalePipeline": _SMALLER,
    "StableDiffusionLatentUpscalePipeline": _SMALLER,
    "StableDiffusionLDM3DPipeline": "its autoencoder has a depth map in addition to the image",
    "StableDiffusionDiffEditPipeline": _DEPRECATED,
    "CycleDiffusionPipeline": _DEPRECATED,
    "StableUnCLIPPipeline": _DEPRECATED,
    "StableUnCLIPImg2ImgPipeline": _DEPRECATED,
    "LongCatImageEditPipeline": _COMPUTED_SIZE,
    "QwenImageEditInpaintPipeline": _COMPUTED_SIZE,
    "Kandinsky5T2IPipeline": _FRAMES,
    "Kandinsky5I2IPipeline": _COMPUTED_SIZE,
    "Cosmos2TextToImagePipeline": _FRAMES,
    "SanaSprintPipeline": _CONSISTENCY,
    "SanaSprintImg2ImgPipeline": _CONSISTENCY,
}
_KINDS: tuple[tuple[Layout, tuple[str, ...]], ...] = (
    (packed, ("Flux", "Chroma", "Bria", "OvisImage", "LongCatImage")),
    (packed_frames, ("QwenImage", "Krea2")),
    (shifted, ("StableDiffusion3", "ZImage", "Lumina2", "HiDreamImage", "PRX")),
    (plain, ("AuraFlow", "CogView", "HunyuanImage", "HunyuanDiT", "PixArt", "Sana", "Lumina",
             "OmniGen")),
)  # fmt: skip
_ALONE: dict[str, Layout] = {
    "Flux2Pipeline": listed_patches,
    "Flux2KleinPipeline": listed_patches,
    "Flux2KleinInpaintPipeline": listed_patches,
    "ErnieImagePipeline": normalised_patches,
}


def _layout_of(name: str) -> Layout | None:
    if name in NOT_ATTRIBUTED:
        return None
    if name in _ALONE:
        return _ALONE[name]
    for layout, names in _KINDS:
        if name.startswith(names):
            return layout
    return plain if name in LAYOUTS else None


# By the exact name of diffusers' class.
LATENT_LAYOUTS: dict[str, Layout] = {
    name: layout for name in RECORDED if (layout := _layout_of(name)) is not None
}


def check_attributed(pipe: Any) -> str:
    """The name of the class of diffusers that a pipeline is of, if its images can be attributed.

    Raises:
        UnsupportedPipelineError: they cannot; the text says why.
    """
    stock = stock_class(type(pipe))
    name = type(pipe).__name__ if stock is None else stock.__name__
    if name in LATENT_LAYOUTS:
        return name
    if name not in RECORDED:
        raise unsupported(type(pipe).__name__, stock)
    reason = NOT_ATTRIBUTED[name]
    raise UnsupportedPipelineError(
        f"{type(pipe).__name__} cannot attribute an image that exists: {reason}. Use a "
        "text-to-image pipeline of the same model where there is one."
    )


@torch.no_grad()
def encode(pipe: Any, pixels: Tensor) -> Tensor:
    """Latents of images as a pipeline's loop has them, in float32.

    The autoencoder's most likely latents, without a random number; the autoencoder is left in the
    type it had.

    Args:
        pipe: of a class of :data:`LATENT_LAYOUTS`.
        pixels: ``(images, 3, height, width)``, from -1 to 1.

    Raises:
        UnsupportedPipelineError: images are not attributed by this class, or it has lost its
            autoencoder.
    """
    layout = LATENT_LAYOUTS[check_attributed(pipe)]
    vae: Any = getattr(pipe, "vae", None) or getattr(pipe, "vqvae", None)
    if vae is None:
        raise UnsupportedPipelineError(
            f"This {type(pipe).__name__} has no autoencoder loaded, which makes latents of an "
            "image. Load it with its vae."
        )
    undo = ExitStack()
    # Closed twice: an interrupt on the way out of ``with`` itself would leave the list unused.
    try:
        with undo:
            if vae.dtype == torch.float16 and vae.config.get("force_upcast", False):
                undo.callback(vae.to, dtype=vae.dtype)
                vae.to(dtype=torch.float32)
            found = layout(vae, pixels.to(pipe._execution_device, vae.dtype))
    finally:
        undo.close()
    return found.detach().float()
