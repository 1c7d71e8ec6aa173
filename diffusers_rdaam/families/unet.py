"""UNets with text cross-attention: Stable Diffusion 1, 2 and XL, and what is built on them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.attribution.frame_mapping import FrameMapping
from diffusers_rdaam.errors import (
    MaskedRowsWarning,
    NoAttributionError,
    RecordingError,
    UnsupportedPipelineError,
)
from diffusers_rdaam.families.family import DenoiserCall, TextColumns
from diffusers_rdaam.families.layouts import GUIDED
from diffusers_rdaam.families.rows import (
    Branch,
    Layout,
    LayoutLike,
    RowsByText,
    RowsOfBranches,
    as_layout,
    rows_of,
)
from diffusers_rdaam.tokens.alignment import tokenizer_of
from diffusers_rdaam.tokens.chatglm import CHATGLM_COLUMNS, is_chatglm

_PLACE = re.compile(r"^(down_blocks|up_blocks|mid_block)(?:\.(\d+))?\.")
_ENCODERS = ("text_encoder", "text_encoder_2")
# Stable Diffusion's autoencoders enlarge 8 times, and its text encoders read 77 tokens.
_VAE_SCALE, _CLIP_COLUMNS = 8, 77
_MOST_COLUMNS = 4096
# A ControlNet inside of a UNet makes no pixels.
_NOT_PIXELS = ("ctrl_attentions", "ctrl_midblock")


@dataclass(frozen=True)
class UNetFamily:
    """A UNet of diffusers with text in spatial transformers, for images or for frames.

    Args:
        layout: the layout of the rows of its calls, or what :func:`as_layout` makes one from.
    """

    layout: LayoutLike | RowsByText = GUIDED

    denoiser_name: ClassVar[str] = "unet"

    @property
    def tokens(self) -> str:
        """No rule: all columns are recorded, and their words looked up after the run."""
        return ""

    @property
    def no_other_texts(self) -> str:
        """Empty: every site projects its keys from the text embedding itself."""
        return ""

    @staticmethod
    def has(module: Any) -> bool:
        """True for a module with down and up blocks that run in Python.

        A ControlNet has no up blocks; a traced UNet does not run in Python.
        """
        return _is_unet(module)

    def with_layout(self, layout: LayoutLike | RowsByText) -> UNetFamily:
        """The same family with another layout of the rows of its calls."""
        return replace(self, layout=layout)

    def denoiser(self, pipe: Any) -> nn.Module:
        """The UNet whose modules are recorded: ``pipe.unet``, or the UNet itself, without wrappers
        such as those of ``torch.compile`` or of data parallelism. A module without blocks is
        returned as it is, and :meth:`sites` refuses it.
        """
        outer = _called(pipe)
        inside = [module for module in _modules_of(outer) if _is_unet(module)]
        # A wrapper has one; with several it is not known which makes the image.
        outermost = [one for one in inside if not any(one in _below(other) for other in inside)]
        return outermost[0] if len(outermost) == 1 else outer

    def entry(self, pipe: Any) -> nn.Module:
        """The module that the pipeline calls: the UNet, or a wrapper around it.

        It is called with the pipeline's arguments; a wrapper may hand on others.
        """
        outer = _called(pipe)
        return outer if isinstance(outer, nn.Module) else self.denoiser(pipe)

    def denoisers(self, pipe: Any) -> dict[str, nn.Module]:
        """The UNet, the only one."""
        return {"": self.denoiser(pipe)}

    def sites(self, denoiser: nn.Module) -> tuple[Site, ...]:
        """Every attention of a spatial transformer that sees text: ``attn2``, and ``attn1`` of
        blocks that have cross-attention only.

        Raises:
            UnsupportedPipelineError: the module has no attention that could be seen, or it is
                called for a part of the rows at a time.
        """
        if not _is_unet(denoiser):
            raise UnsupportedPipelineError(
                f"The denoiser is a {type(denoiser).__name__} without down and up blocks: it is "
                "traced, or runs elsewhere, so that its attention cannot be seen. Put the UNet of "
                "diffusers in its place to record."
            )
        levels = _Levels(denoiser)
        modules = dict(denoiser.named_modules())
        if any(type(module).__name__ == "SplitInferenceModule" for module in modules.values()):
            raise UnsupportedPipelineError(
                "enable_free_noise_split_inference makes each attention see a few rows at a time, "
                "and no argument says which, so this denoiser cannot be recorded. Load the "
                "pipeline again without it, or use the stock pipeline."
            )
        return tuple(
            Site(name, module, levels.of(name))
            for name, module in modules.items()
            if isinstance(module, Attention) and _sees_text(name, modules)
        )

    def self_attention_sites(self, denoiser: nn.Module) -> tuple[Site, ...]:
        """Every attention of a spatial transformer from the image to itself."""
        if not _is_unet(denoiser):
            return ()
        levels = _Levels(denoiser)
        modules = dict(denoiser.named_modules())
        return tuple(
            Site(name, module, levels.of(name), kind="self")
            for name, module in modules.items()
            if isinstance(module, Attention) and _sees_itself(name, modules)
        )

    def read_call(
        self, pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> DenoiserCall | None:
        """The latent's size, the columns of the text, and the rows by the layout.

        The latent of a video is ``(rows, channels, frames, height, width)``; its frames join the
        rows, each row's frames side by side.
        """
        sample: Tensor = _argument(args, kwargs, 0, "sample")
        rows = self._rows(pipe, args, kwargs, sample.shape[0])
        if rows is None:
            return None
        text: Tensor = _argument(args, kwargs, 2, "encoder_hidden_states")
        height, width = sample.shape[-2:]
        _check_mask(args, kwargs, rows)
        start, stop = rows.get(Branch.CONDITIONAL, (0, 0))
        # Some pipelines repeat the text for every frame themselves, others leave it to the UNet.
        times = text.shape[0] / sample.shape[0]
        frames = sample.shape[2] if sample.ndim == 5 else 1
        columns = text.shape[1]
        return DenoiserCall(
            grid=(height, width),
            texts=tuple(TextColumns(name, 0, columns) for name in _encoders_of(pipe)),
            branches={branch: (a * frames, b * frames) for branch, (a, b) in rows.items()},
            device=sample.device,
            timestep=_argument(args, kwargs, 1, "timestep"),
            frames=frames,
            is_video=sample.ndim == 5,
            rows=sample.shape[0] * frames,
            text=text[int(start * times) : int(stop * times)],
            states=text,
            latents=sample[start:stop],
        )

    def _rows(
        self, pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any], count: int
    ) -> RowsOfBranches | None:
        if isinstance(self.layout, RowsByText):
            return self.layout.rows(_argument(args, kwargs, 2, "encoder_hidden_states"))
        layout: Layout = as_layout(self.layout)
        return rows_of(layout.now(pipe, args, kwargs), count)

    def grid(self, site: Site, grid: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of the latent, halved ``level`` times and rounded up each time.

        A stride-2 convolution with padding 1 makes ceil(n / 2) of n; the way up is resized to the
        way down. The square root of a sequence length would be wrong for all but squares.
        """
        height, width = grid
        for _ in range(site.level):
            height, width = -(-height // 2), -(-width // 2)
        return height, width

    def frame_mapping(
        self, pipe: Any, grid: tuple[int, ...], frames: int | None = None
    ) -> FrameMapping | None:
        """None: every frame of a video is a row of the call, and has a latent of its own."""
        return None

    def image_size(self, pipe: Any, grid: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of the image in pixels: the latent's, enlarged by the autoencoder.

        Args:
            pipe: a pipeline, or a UNet, whose autoencoder is taken to enlarge 8 times.
            grid: height and width of the latent.
        """
        height, width = grid
        factor = _enlargement(pipe)
        return height * factor, width * factor

    def grid_of_image(self, pipe: Any, size: tuple[int, int]) -> tuple[int, ...]:
        """Height and width of the latent, rounded down as the pipelines do."""
        factor = _enlargement(pipe)
        return size[0] // factor, size[1] // factor

    def rows_of_video(
        self, pipe: Any, grid: tuple[int, ...], frames: int
    ) -> tuple[int, tuple[int, ...]]:
        """A row for each frame."""
        return frames, grid

    def text_columns(self, pipe: Any) -> int:
        """The length that the pipeline pads its prompts to, 77 where nothing says it.

        Of text encoders side by side the first one's.
        """
        tokenizer = tokenizer_of(pipe)
        if is_chatglm(tokenizer):
            return CHATGLM_COLUMNS
        length = getattr(tokenizer, "model_max_length", _CLIP_COLUMNS)
        # A tokenizer that was saved without its length says 10**30.
        return length if length <= _MOST_COLUMNS else _CLIP_COLUMNS


def _enlargement(pipe: Any) -> int:
    """How many pixels of the image a cell of the latent is high and wide."""
    return getattr(pipe, "vae_scale_factor", _VAE_SCALE)


def _encoders_of(pipe: Any) -> list[str]:
    """The names of the pipeline's text encoders, whose channels lie side by side."""
    found = [name for name in _ENCODERS if getattr(pipe, name, None) is not None]
    return found or [_ENCODERS[0]]


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], index: int, name: str) -> Any:
    value = kwargs[name] if name in kwargs else args[index] if index < len(args) else None
    if value is None:
        raise RecordingError(
            f"The denoiser was called without {name}, so there is nothing to record. Pass it by "
            f"name or as argument {index}."
        )
    return value


def _check_mask(args: tuple[Any, ...], kwargs: dict[str, Any], rows: RowsOfBranches) -> None:
    """Refuse a text of which every column is masked: no column can be attended to then."""
    mask = kwargs.get("encoder_attention_mask")
    if not isinstance(mask, Tensor) or mask.ndim != 2:
        return
    start, stop = rows.get(Branch.CONDITIONAL, (0, 0))
    part = mask[start:stop]
    seen = part.bool() if part.dtype in (torch.bool, torch.int64, torch.int32) else part > -1000
    if part.shape[0] and not bool(seen.any(dim=-1).all()):
        raise NoAttributionError(
            "The text's attention mask leaves no column of a prompt to attend to. Give a mask with "
            "at least one column, or none.",
            warning=MaskedRowsWarning,
        )


def _is_unet(module: Any) -> bool:
    """True for a module with blocks that run in Python; a ControlNet has no up blocks."""
    return (
        isinstance(module, nn.Module)
        and not isinstance(module, torch.jit.ScriptModule)
        and hasattr(module, "down_blocks")
        and hasattr(module, "up_blocks")
    )


def _called(pipe: Any) -> Any:
    outer = getattr(pipe, "unet", pipe)
    return getattr(outer, "_orig_mod", outer)


def _modules_of(outer: Any) -> list[nn.Module]:
    if isinstance(outer, torch.jit.ScriptModule):
        return []
    if not isinstance(outer, nn.Module):
        # A wrapper that is no module has what it wraps among its attributes.
        parts = list(getattr(outer, "__dict__", {}).values())
        return [m for part in parts if isinstance(part, nn.Module) for m in _modules_of(part)]
    # Most are a UNet themselves, and then nobody looks further.
    return [outer] if _is_unet(outer) else list(outer.modules())


def _below(module: nn.Module) -> list[nn.Module]:
    return [other for other in module.modules() if other is not module]


def _sees_text(name: str, modules: dict[str, nn.Module]) -> bool:
    parts = name.split(".")
    if any(part in _NOT_PIXELS for part in parts):
        return False
    block = modules[".".join(parts[:-1])]
    if parts[-1] == "attn1":
        # The upscaler's blocks: their first attention takes the text, too.
        return bool(getattr(block, "only_cross_attention", False))
    # Motion modules have two, and both attend from frame to frame.
    return parts[-1] == "attn2" and not getattr(block, "double_self_attention", False)


def _sees_itself(name: str, modules: dict[str, nn.Module]) -> bool:
    *path, last = name.split(".")
    if last != "attn1" or any(part in _NOT_PIXELS for part in path):
        return False
    block = modules[".".join(path)]
    others = ("only_cross_attention", "double_self_attention")
    return not any(getattr(block, other, False) for other in others)


def levels_of(unet: nn.Module) -> Callable[[str], int]:
    """From the path of a module in a UNet to how often the latent is halved where it works."""
    return _Levels(unet).of


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
        # ControlNet-XS puts its own beside those of the UNet.
        found = getattr(block, samplers, None) or getattr(block, f"base_{samplers}", None)
        counts.append(counts[-1] + bool(found))
    return counts
