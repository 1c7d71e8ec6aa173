"""UNets with text cross-attention: Stable Diffusion 1, 2 and XL, and what is built on them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from diffusers_rdaam.errors import RecordingError
from diffusers_rdaam.recording.families.base import DenoiserCall
from diffusers_rdaam.recording.sites import Site


@dataclass(frozen=True)
class RowLayout:
    """The rows of a guided denoiser call; without guidance all are conditional.

    Args:
        parts: the equal parts of the batch, in order; one of them is ``"conditional"``.
        guided: whether a pipeline's next call is guided. Asked at every call, because a callback
            may switch guidance off during the run.
    """

    parts: tuple[str, ...]
    guided: Callable[[Any], bool]

    def conditional(self, pipe: Any, rows: int) -> tuple[int, int]:
        """First and one past the last conditional row of a call with ``rows`` rows.

        Raises:
            RecordingError: the rows cannot be divided so.
        """
        if not self.guided(pipe):
            return 0, rows
        size, rest = divmod(rows, len(self.parts))
        if rest:
            raise RecordingError(
                f"The denoiser was called with {rows} rows under classifier-free guidance, where "
                f"[{', '.join(self.parts)}] were expected. This layout is not known."
            )
        start = size * self.parts.index("conditional")
        return start, start + size


def _by_property(pipe: Any) -> bool:
    return bool(pipe.do_classifier_free_guidance)


def _as_told(pipe: Any) -> bool:
    """A pipeline without the property tells ``encode_prompt``, where the pipeline mixin listens."""
    told = getattr(pipe, "_rdaam_guided", None)
    if told is None:
        raise RecordingError(
            f"{type(pipe).__name__} did not tell encode_prompt whether it uses guidance "
            "(do_classifier_free_guidance=…), so its conditional rows are not known."
        )
    return bool(told)


_PAIR = ("unconditional", "conditional")
_TRIPLE = ("conditional", "image only", "unconditional")
GUIDED = RowLayout(_PAIR, _by_property)
UNGUIDED = RowLayout(("conditional",), lambda pipe: False)

# By the exact name of diffusers' class. A new line needs a look at the pipeline's source: which
# rows does it give the denoiser, in which order, and when?
LAYOUTS: dict[str, RowLayout] = {
    "StableDiffusionPipeline": GUIDED,
    "StableDiffusionImg2ImgPipeline": GUIDED,
    "StableDiffusionInpaintPipeline": GUIDED,
    "StableDiffusionControlNetPipeline": GUIDED,
    "StableDiffusionControlNetImg2ImgPipeline": GUIDED,
    "StableDiffusionControlNetInpaintPipeline": GUIDED,
    "StableDiffusionInstructPix2PixPipeline": RowLayout(_TRIPLE, _by_property),
    "StableDiffusionXLPipeline": GUIDED,
    "StableDiffusionXLImg2ImgPipeline": GUIDED,
    "StableDiffusionXLInpaintPipeline": GUIDED,
    "StableDiffusionXLControlNetPipeline": GUIDED,
    "StableDiffusionXLControlNetImg2ImgPipeline": GUIDED,
    "StableDiffusionXLControlNetInpaintPipeline": GUIDED,
    "StableDiffusionXLInstructPix2PixPipeline": RowLayout(_TRIPLE, _as_told),
    "LatentConsistencyModelPipeline": UNGUIDED,
    "LatentConsistencyModelImg2ImgPipeline": UNGUIDED,
}
PIPELINES = tuple(LAYOUTS)

_PLACE = re.compile(r"^(down_blocks|up_blocks|mid_block)(?:\.(\d+))?\.")


@dataclass(frozen=True)
class UNetFamily:
    """``UNet2DConditionModel``, with text in every ``attn2``.

    Args:
        layout: of the rows of its calls.
    """

    layout: RowLayout = GUIDED

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
        """The latent's size, the columns of the text, and the rows by the layout."""
        sample: Tensor = kwargs["sample"] if "sample" in kwargs else args[0]
        text: Tensor = (
            kwargs["encoder_hidden_states"] if "encoder_hidden_states" in kwargs else args[2]
        )
        height, width = sample.shape[-2:]
        start, stop = self.layout.conditional(pipe, sample.shape[0])
        return DenoiserCall((height, width), text.shape[1], start, stop, sample.device)

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
