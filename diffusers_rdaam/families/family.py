"""Family: what recording must know of a model architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import nn

from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.attribution.frame_mapping import FrameMapping
from diffusers_rdaam.families.joint_layout import JointLayout
from diffusers_rdaam.families.rows import Branch, RowsOfBranches


@dataclass(frozen=True)
class TextColumns:
    """The columns of a call's text that one text encoder has made.

    Args:
        encoder: the pipeline's name of the text encoder, such as ``"text_encoder_2"``.
        start, stop: its first column and one past its last. Encoders whose channels lie side by
            side have the same columns.
    """

    encoder: str
    start: int
    stop: int


@dataclass(frozen=True)
class DenoiserCall:
    """One call of the denoiser, as the pre-hook sees it.

    Args:
        grid: size of the denoiser's latent grid: height and width, or frames, height and width.
        texts: the columns of the text, encoder by encoder.
        branches: for each branch that the call has, its first row and one past its last, in the
            order of the images.
        device: where the latent is.
        timestep: the scheduler's timestep as the denoiser is given it; read after the run.
        frames: number of a video's frames that are rows, side by side for each video;
            ``branches`` and ``rows`` count them.
        rows: number of all rows of the call; None where it is not checked.
        text: the conditional rows of the text embedding, ``(rows, columns, width)``.
        states: the whole text embedding, of all rows.
        latents: the conditional rows of the denoiser's input.
        is_video: whether the latent has an axis of frames that are rows of the call.
        joint: where image and text lie in the attention calls, of all rows; None where the softmax
            of every site is over the text alone and of all its columns.
        lengths: of each row, how many columns its text has, where rows differ; else empty.
        arguments: those of the call by name, of a transformer; else empty.
    """

    grid: tuple[int, ...]
    texts: tuple[TextColumns, ...]
    branches: RowsOfBranches
    device: torch.device
    timestep: torch.Tensor | float | int | None = None
    frames: int = 1
    rows: int | None = None
    text: torch.Tensor | None = None
    states: torch.Tensor | None = None
    latents: torch.Tensor | None = None
    is_video: bool = False
    joint: JointLayout | None = None
    lengths: tuple[int, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def length_of(self, row: int) -> int:
        """Number of columns of the text of a row."""
        return self.lengths[row] if self.lengths else self.columns

    @property
    def columns(self) -> int:
        """Number of columns of the text."""
        return max((text.stop for text in self.texts), default=0)

    @property
    def images(self) -> int:
        """Number of conditional rows, one an image; 0 where the call has none."""
        start, stop = self.branches.get(Branch.CONDITIONAL, (0, 0))
        return stop - start


@runtime_checkable
class Family(Protocol):
    """What differs between model architectures."""

    # The pipeline's attribute that is the denoiser.
    denoiser_name: ClassVar[str]

    @property
    def tokens(self) -> str:
        """The name of the rule from a prompt to the columns of its text; empty for UNets."""

    @property
    def no_other_texts(self) -> str:
        """Why maps of texts other than the prompt cannot be computed; empty where they can."""

    @staticmethod
    def has(module: Any) -> bool:
        """True for a denoiser of this family whose attention can be seen, without wrappers."""

    def with_layout(self, layout: Any) -> Family:
        """The same family with another layout of the rows of its calls."""

    def denoiser(self, pipe: Any) -> nn.Module:
        """The module whose attention is recorded."""

    def denoisers(self, pipe: Any) -> Mapping[str, nn.Module]:
        """All modules whose attention is recorded, of which each makes a part of the steps.

        By what is put before the names of their sites: nothing for the first one's.
        """

    def sites(self, denoiser: nn.Module) -> tuple[Site, ...]:
        """The denoiser's text cross-attention modules, in the order of ``named_modules``."""

    def self_attention_sites(self, denoiser: nn.Module) -> tuple[Site, ...]:
        """The denoiser's modules in which the image attends to itself."""

    def read_call(
        self, pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> DenoiserCall | None:
        """What a denoiser call's arguments say; None for a call that is not to be recorded."""

    def grid(self, site: Site, grid: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of a site's grid, from the grid of a denoiser call."""

    def frame_mapping(
        self, pipe: Any, grid: tuple[int, ...], frames: int | None = None
    ) -> FrameMapping | None:
        """Which latent frame each of a video's frames is of; None where these are not known.

        Args:
            pipe: the pipeline.
            grid: of a denoiser call; its first side is the number of latent frames.
            frames: of the video, where they are known.
        """

    def image_size(self, pipe: Any, grid: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of the image in pixels, from the grid of a denoiser call."""

    def grid_of_image(self, pipe: Any, size: tuple[int, int]) -> tuple[int, ...]:
        """The grid of a denoiser call, from the image's height and width in pixels."""

    def rows_of_video(
        self, pipe: Any, grid: tuple[int, ...], frames: int
    ) -> tuple[int, tuple[int, ...]]:
        """How many rows of a denoiser call a video of so many frames takes, and the call's grid.

        Args:
            pipe: the pipeline.
            grid: that of a frame.
            frames: of the video.
        """

    def text_columns(self, pipe: Any) -> int:
        """Number of columns that the pipeline's text embedding has without further arguments."""


def sites_of(family: Family, pipe: Any) -> tuple[Site, ...]:
    """The text sites of all denoisers of a pipeline."""
    return _named(family.denoisers(pipe), family.sites)


def self_attention_sites_of(family: Family, pipe: Any) -> tuple[Site, ...]:
    """The self-attention sites of all denoisers of a pipeline."""
    return _named(family.denoisers(pipe), family.self_attention_sites)


def _named(denoisers: Mapping[str, nn.Module], sites_of_one: Any) -> tuple[Site, ...]:
    return tuple(
        replace(site, name=prefix + site.name)
        for prefix, denoiser in denoisers.items()
        for site in sites_of_one(denoiser)
    )
