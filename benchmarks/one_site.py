"""Text attention alone: a denoiser that is nothing else, recorded as a pipeline's is.

The real recorder arms the real processors, so that what is measured here is what a site costs in a
run, whichever kernel its backend takes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from diffusers_rdaam.attention.attention_call import AttentionCall
from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.attention.unet_projection import split
from diffusers_rdaam.families import Branch, DenoiserCall, TextColumns
from diffusers_rdaam.recording.installation import install
from diffusers_rdaam.recording.recorder import Recorder

# Queries and keys, ``(rows, heads, pixels or tokens, dim)``.
Projected = tuple[Tensor, Tensor]


class AttentionDenoiser(nn.Module):
    """Attention modules that all see the same states and text.

    Args:
        modules: of one shape.
    """

    def __init__(self, modules: Sequence[Attention]) -> None:
        super().__init__()
        self.sites = nn.ModuleList(modules)

    def forward(
        self, states: Tensor, text: Tensor, *, repeats: int = 1, alone: Projected | None = None
    ) -> Tensor:
        """What the last module gives for states ``(rows, pixels, channels)``.

        Args:
            states: the image's side of attention.
            text: ``(rows, tokens, channels)``.
            repeats: how often every module is called; with 0 the states come back.
            alone: queries and keys that every site's target is given, and nothing attends.
        """
        attended = states
        for _ in range(repeats):
            for site in self.sites:
                if alone is None:
                    attended = site(states, text)
                else:
                    query, key = alone
                    call = AttentionCall(query, key, None, None, query.shape[-1] ** -0.5)
                    site.processor.target.see(call)
        return attended


@dataclass(frozen=True)
class OneGrid:
    """The family of :class:`AttentionDenoiser`: all sites work on one grid.

    Args:
        size: its height and width.
        images: rows that are recorded, the last ones.
    """

    size: tuple[int, int]
    images: int

    denoiser_name: ClassVar[str] = "denoiser"

    @property
    def tokens(self) -> str:
        """No rule: all columns are recorded."""
        return ""

    @property
    def no_other_texts(self) -> str:
        """Empty, as of a UNet."""
        return ""

    @staticmethod
    def has(module: Any) -> bool:
        """Its only class."""
        return isinstance(module, AttentionDenoiser)

    def with_layout(self, layout: Any) -> OneGrid:
        """The rows are always the last ones."""
        return self

    def denoiser(self, pipe: Any) -> nn.Module:
        """``pipe.denoiser``."""
        return pipe.denoiser

    def denoisers(self, pipe: Any) -> dict[str, nn.Module]:
        """The only one."""
        return {"": pipe.denoiser}

    def frame_mapping(self, pipe: Any, grid: tuple[int, ...], frames: int | None = None) -> None:
        """None: it makes no videos."""

    def rows_of_video(
        self, pipe: Any, grid: tuple[int, ...], frames: int
    ) -> tuple[int, tuple[int, ...]]:
        """A row for each frame."""
        return frames, grid

    def sites(self, denoiser: nn.Module) -> tuple[Site, ...]:
        """Every module."""
        modules: Any = denoiser.sites
        return tuple(Site(f"sites.{index}", module, 0) for index, module in enumerate(modules))

    def self_attention_sites(self, denoiser: nn.Module) -> tuple[Site, ...]:
        """None."""
        return ()

    def read_call(
        self, pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> DenoiserCall | None:
        """The last rows are recorded, as in a guided call."""
        states, text = args
        rows = states.shape[0]
        return DenoiserCall(
            self.size,
            (TextColumns("text_encoder", 0, text.shape[1]),),
            {Branch.CONDITIONAL: (rows - self.images, rows)},
            states.device,
        )

    def grid(self, site: Site, grid: tuple[int, ...]) -> tuple[int, int]:
        """The one."""
        return self.size

    def image_size(self, pipe: Any, grid: tuple[int, ...]) -> tuple[int, int]:
        """A pixel is a position."""
        return self.size

    def grid_of_image(self, pipe: Any, size: tuple[int, int]) -> tuple[int, ...]:
        """A position is a pixel."""
        return size

    def text_columns(self, pipe: Any) -> int:
        """Stable Diffusion's."""
        return 77


@dataclass(frozen=True)
class Pair:
    """The same modules twice, stock and recorded, on the same input.

    Args:
        stock, recorded, recorder: the second denoiser is the recorder's.
        states, text: the input.
        projected: the recorded modules' queries and keys of it.
    """

    stock: AttentionDenoiser
    recorded: AttentionDenoiser
    recorder: Recorder
    states: Tensor
    text: Tensor
    projected: Projected

    def call_stock(self, repeats: int = 1) -> Tensor:
        """One denoiser call without recording."""
        return self.stock(self.states, self.text, repeats=repeats)

    def call_recorded(self, repeats: int = 1) -> Tensor:
        """One recorded denoiser call."""
        return self.recorded(self.states, self.text, repeats=repeats)

    def call_record(self) -> Tensor:
        """What a recorded call does beside the stock one: its maps alone.

        The difference of the other two is the small one of large times; this is not.
        """
        return self.recorded(self.states, self.text, alone=self.projected)

    @property
    def bytes_kept(self) -> int:
        """Of the buffers that the first recorded call has made."""
        return sum(frames.nbytes for frames in self.recorder.buffers.text.values())


@contextmanager
def recorded_pair(
    module: Attention,
    grid: tuple[int, int],
    *,
    rows: int,
    images: int,
    tokens: int,
    copies: int = 1,
    template: RDAAMProcessor | None = None,
) -> Iterator[Pair]:
    """A stock and a recorded denoiser of ``copies`` modules each, ready to be called in turn.

    Args:
        module: with numbers in its weights; it stays as it is.
        grid: height and width of the states.
        rows: of a call, of which the last ``images`` are recorded.
        images: rows that are recorded.
        tokens: columns of the text.
        copies: modules in each denoiser.
        template: with options; the default one if not given.
    """
    weight = module.to_q.weight
    like: Any = {"device": weight.device, "dtype": weight.dtype}
    height, width = grid
    states = torch.randn(rows, height * width, module.to_q.in_features, **like)
    text = torch.randn(rows, tokens, module.to_k.in_features, **like)
    stock, recorded = (
        AttentionDenoiser([copy.deepcopy(module) for _ in range(copies)]) for _ in range(2)
    )
    template = template or RDAAMProcessor()
    family = OneGrid(grid, images)
    install(family.sites(recorded), template)
    pipe = SimpleNamespace(denoiser=recorded, _num_timesteps=1)
    with torch.no_grad(), Recorder(pipe, family, template.options) as recorder:
        projected = (
            split(module, layer(given))
            for layer, given in ((module.to_q, states), (module.to_k, text))
        )
        yield Pair(stock, recorded, recorder, states, text, tuple(projected))
