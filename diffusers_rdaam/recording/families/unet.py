"""UNets with text cross-attention: Stable Diffusion 1 and 2."""

from __future__ import annotations

import re
from typing import Any

from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from diffusers_rdaam.errors import RecordingError
from diffusers_rdaam.recording.families.base import DenoiserCall
from diffusers_rdaam.recording.sites import Site

PIPELINES = ("StableDiffusionPipeline",)

_PLACE = re.compile(r"^(down_blocks|up_blocks|mid_block)(?:\.(\d+))?\.")


class UNetFamily:
    """``UNet2DConditionModel`` called with rows ``[unconditional, conditional]``."""

    def denoiser(self, pipe: Any) -> nn.Module:
        """``pipe.unet``, without the wrapper of ``torch.compile``."""
        unet = pipe.unet
        return getattr(unet, "_orig_mod", unet)

    def sites(self, denoiser: nn.Module) -> tuple[Site, ...]:
        """Every ``attn2`` of a spatial transformer; those of motion modules see no text."""
        levels = _Levels(denoiser)
        return tuple(
            Site(name, module, levels.of(name))
            for name, module in denoiser.named_modules()
            if isinstance(module, Attention)
            and name.endswith(".attn2")
            and "motion_modules" not in name
        )

    def read_call(
        self, pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> DenoiserCall | None:
        """Guidance is read at every call, because a callback may switch it off during the run."""
        sample: Tensor = kwargs["sample"] if "sample" in kwargs else args[0]
        text: Tensor = (
            kwargs["encoder_hidden_states"] if "encoder_hidden_states" in kwargs else args[2]
        )
        rows = sample.shape[0]
        guided = bool(pipe.do_classifier_free_guidance)
        if guided and rows % 2:
            raise RecordingError(
                f"The denoiser was called with {rows} rows under classifier-free guidance, where "
                "[unconditional, conditional] were expected. This layout is not known."
            )
        height, width = sample.shape[-2:]
        start = rows // 2 if guided else 0
        return DenoiserCall((height, width), text.shape[1], start, rows, sample.device)

    def grid(self, site: Site, latent_size: tuple[int, int]) -> tuple[int, int]:
        """The latent's size, halved ``level`` times and rounded up each time.

        A stride-2 convolution with padding 1 makes ceil(n / 2) of n; the way up is resized to the
        way down. The square root of a sequence length would be wrong for all but squares.
        """
        height, width = latent_size
        for _ in range(site.level):
            height, width = -(-height // 2), -(-width // 2)
        return height, width


class _Levels:
    """How often each block's input has been halved, from the samplers that are really there."""

    def __init__(self, unet: nn.Module) -> None:
        self._down = _running(unet.down_blocks, "downsamplers")
        self._up = _running(unet.up_blocks, "upsamplers")

    def of(self, name: str) -> int:
        match = _PLACE.match(name)
        if match is None:
            raise RecordingError(f"{name} lies in no down, mid or up block of the UNet.")
        block, index = match.groups()
        deepest = self._down[-1]
        if block == "down_blocks":
            return self._down[int(index)]
        return deepest if block == "mid_block" else deepest - self._up[int(index)]


def _running(blocks: Any, samplers: str) -> list[int]:
    """The number of samplers before each block, and after the last."""
    counts = [0]
    for block in blocks:
        counts.append(counts[-1] + bool(getattr(block, samplers, None)))
    return counts
