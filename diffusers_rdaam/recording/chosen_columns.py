"""ChosenColumns: the columns of an image's text that a run records, and the prompt that they are.

At the joint sites of a transformer most columns are padding, a template, or the image; recording
all of them would cost tens of times what the prompt's own tokens do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.kept_maps import KeptMaps, MapStack
from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.families import Branch, DenoiserCall
from diffusers_rdaam.recording.buffers.step_accumulators import ImageMaps


@dataclass(frozen=True)
class ChosenColumns:
    """The recorded columns of one image.

    Args:
        columns: of the image's text embedding, in the order of the maps.
        prompt: whose tokens they are, and a last one for everything else; None if not known.
    """

    columns: tuple[int, ...]
    prompt: Prompt | None = None

    @classmethod
    def all_of(cls, length: int) -> ChosenColumns:
        """All columns of a text that is not known."""
        return cls(tuple(range(length)))


# The columns of each image of a branch, from a denoiser call in which the branch has rows.
ColumnChooser = Callable[[DenoiserCall, Branch], Sequence[ChosenColumns]]


def every_column(call: DenoiserCall, branch: Branch) -> list[ChosenColumns]:
    """Choose all columns of each image's text."""
    start, stop = call.branches[branch]
    return [ChosenColumns.all_of(call.length_of(row)) for row in range(start, stop)]


def with_rest(maps: ImageMaps, tokens: int) -> ImageMaps:
    """The maps of an image's tokens, and of the rest of each position's attention as a last one.

    Args:
        maps: of a run, whose buffers may have more columns than the image has tokens.
        tokens: of the image.
    """
    grids = tuple(_completed_grid(grid, tokens) for grid in maps.grids)
    kept = maps.kept
    if kept is not None:
        details = tuple(_completed_stack(detail, tokens) for detail in kept.details)
        kept = KeptMaps(kept.axes, details, kept.timesteps, kept.numbers)
    return ImageMaps(grids, kept)


def _completed_grid(grid: Grid, tokens: int) -> Grid:
    maps, squares = _completed(grid.maps[:tokens]), grid.squares
    if squares is not None:
        # Of the rest only the mean is known: its square is the least that its mean square can be.
        squares = torch.cat([squares[:tokens], maps[tokens:].square()])
    return replace(grid, maps=maps, squares=squares)


def _completed_stack(detail: MapStack, tokens: int) -> MapStack:
    maps = detail.maps[:, :, :tokens]
    rest = _rest(maps, dim=2)
    for step, additions in enumerate(detail.additions):
        if not additions:
            rest[step] = 0.0
    return replace(detail, maps=torch.cat([maps, rest], dim=2))


def _completed(maps: Tensor) -> Tensor:
    return torch.cat([maps, _rest(maps, dim=0)])


def _rest(maps: Tensor, dim: int) -> Tensor:
    # Rounding may leave a sum a little over 1.
    rest = (1.0 - maps.sum(dim=dim, keepdim=True, dtype=torch.float32)).clamp_(min=0.0)
    return rest.to(maps.dtype)


def appended_rest(maps: Sequence[ImageMaps], chosen: Sequence[ChosenColumns]) -> list[ImageMaps]:
    """:func:`with_rest` of each image."""
    return [with_rest(one, len(columns.columns)) for one, columns in zip(maps, chosen, strict=True)]
