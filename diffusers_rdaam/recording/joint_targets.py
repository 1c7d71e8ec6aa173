"""Targets of a transformer's sites, for one denoiser call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from diffusers_rdaam.attention.joint_target import ImagePlace, JointBranch, JointTarget
from diffusers_rdaam.attention.map_target import BranchTarget
from diffusers_rdaam.families import DenoiserCall
from diffusers_rdaam.families.joint_layout import JointLayout
from diffusers_rdaam.kernels.dispatch import KernelChoice
from diffusers_rdaam.recording.chosen_columns import ChosenColumns


@dataclass(frozen=True)
class RecordedRows:
    """The planes of some rows of a denoiser call; the arguments are :class:`BranchTarget`'s."""

    high: Tensor
    low: Tensor | None
    count: Tensor
    start: int
    stop: int
    squares: tuple[Tensor, Tensor] | None = None

    def as_branch(self) -> BranchTarget:
        """The same rows at a site that attends to all columns of a text."""
        return BranchTarget(
            self.high, self.low, self.count, self.start, self.stop, squares=self.squares
        )


def joint_target(
    site: str,
    recorded: Sequence[RecordedRows],
    choice: KernelChoice,
    call: DenoiserCall,
    columns: Sequence[Sequence[ChosenColumns]] | None = None,
) -> JointTarget:
    """The target of a site's maps during one denoiser call.

    Args:
        site: its name.
        recorded: the rows of each branch.
        choice: where the kernel comes from.
        call: the denoiser call, which has a layout of its columns.
        columns: for each branch the columns of each image that are recorded; None for those of the
            image itself.
    """
    assert call.joint is not None
    branches = []
    for index, rows in enumerate(recorded):
        layout = call.joint.of_rows(rows.start, rows.stop)
        keys = None
        if columns is not None:
            keys = _key_columns(layout, columns[index], rows.high.shape[-2], rows.high.device)
        planes = (rows.high, rows.low, rows.count, rows.start, rows.stop, rows.squares)
        branches.append(JointBranch(*planes, columns=keys, places=_places(layout)))
    # Layers that are perturbed for guidance see the other branches' rows in a call of their own.
    guided = max(stop for _, stop in call.branches.values())
    target = JointTarget.of(site, tuple(branches), choice, rows=call.rows, kind="joint")
    target.guided_rows, target.row_by_row = guided, call.joint.row_by_row
    return target


def _key_columns(
    layout: JointLayout, chosen: Sequence[ChosenColumns], tokens: int, device: torch.device
) -> Tensor:
    """The key columns of each image, ``(images, tokens)``; images with fewer repeat their first."""
    keys = []
    for row, one in enumerate(chosen):
        of_row = layout.key_columns(row, one.columns)
        keys.append(of_row + of_row[:1] * (tokens - len(of_row)))
    return torch.tensor(keys, dtype=torch.int64, device=device)


def _places(layout: JointLayout) -> tuple[ImagePlace, ...]:
    """Where the images begin; adjacent ones that begin at the same position are together."""
    keys = layout.keys or (0,) * len(layout.queries)
    pairs = list(enumerate(zip(layout.queries, keys, strict=True)))
    places = []
    for (query, key), group in groupby(pairs, key=lambda pair: pair[1]):
        rows = [row for row, _ in group]
        places.append(ImagePlace(query, key, rows[0], rows[-1] + 1))
    return tuple(places)
