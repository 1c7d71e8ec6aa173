"""JointTarget: the buffers of a site in which the image attends to text among other columns.

In a transformer the softmax of a call runs over the keys of text and image together, or over all
columns of a padded text, and the maps are of some of the text's columns only: ``P = exp(q · k *
scale - lse)`` with the log-sum-exp over *all* keys of the call. Compiled code calls this as one
operator, so nothing here is traced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor

from diffusers_rdaam.attention.attention_call import AttentionCall
from diffusers_rdaam.attention.map_target import BranchTarget, Target
from diffusers_rdaam.kernels.log_sum_exp import log_sum_exp
from diffusers_rdaam.kernels.operator import accumulate_squares


class ImagePlace(NamedTuple):
    """Where some adjacent images of a branch begin among the positions of a call.

    Args:
        query, key: the image's first position among queries and among keys.
        start, stop: the images.
    """

    query: int
    key: int
    start: int
    stop: int


@dataclass
class JointBranch(BranchTarget):
    """Rows of a denoiser call that are recorded together, at a site with other columns than text.

    Args:
        columns: the keys that are recorded, ``(images, tokens)`` of integers; None for those of the
            image itself.
        places: where the images begin among the positions of the call; those that begin at the
            same one are together.
    """

    columns: Tensor | None = None
    places: tuple[ImagePlace, ...] = ()


@dataclass
class JointTarget(Target):
    """The observer that adds the maps of some of a call's columns to its buffers.

    Its ``branches`` are of :class:`JointBranch`. It sees calls that have been computed; where their
    kernel returned no log-sum-exp, that is formed in tiles for the recorded rows.

    Args:
        guided_rows: how many rows of the denoiser call belong to a prompt; a layer that is
            perturbed for guidance sees the others in a call of its own.
        row_by_row: whether each row of the denoiser call has an attention call of its own, in
            their order.
    """

    guided_rows: int | None = None
    row_by_row: bool = False
    _next_row: int = 0

    def see(self, call: AttentionCall) -> None:
        """Add the probabilities of the recorded rows, unless the call does not match them."""
        if not self._fits(call):
            return
        add = self._add_row if self.row_by_row else self._add
        if torch.is_grad_enabled():
            with torch.no_grad():
                add(call)
        else:
            add(call)

    def _add(self, call: AttentionCall) -> None:
        for one in self.branches:
            branch = cast("JointBranch", one)
            for place in branch.places:
                rows = slice(branch.start + place.start, branch.start + place.stop)
                self._add_rows(call, branch, place, rows)

    def _add_row(self, call: AttentionCall) -> None:
        """Add the maps of the row whose turn it is; the call has no other."""
        assert self.rows is not None
        row, self._next_row = self._next_row, (self._next_row + 1) % self.rows
        for one in self.branches:
            branch = cast("JointBranch", one)
            image = row - branch.start
            for place in branch.places:
                if place.start <= image < place.stop:
                    own = ImagePlace(place.query, place.key, image, image + 1)
                    self._add_rows(call, branch, own, slice(0, 1))

    def _add_rows(
        self, call: AttentionCall, branch: JointBranch, place: ImagePlace, rows: slice
    ) -> None:
        """Add the maps of images that begin at the same position, from these rows of the call."""
        images = slice(place.start, place.stop)
        positions = branch.high.shape[-1]
        queries = slice(place.query, place.query + positions)
        query, key = call.query[rows, :, queries], call.key[rows]
        mask = _rows_of_mask(call.mask, rows, queries)
        if call.lse is None:
            lse = log_sum_exp(query, key, mask=mask, scale=call.scale)
        else:
            lse = call.lse[rows, :, queries]
        if branch.columns is None:
            key = key[:, :, place.key : place.key + positions]
            mask = mask if mask is None else _columns(mask, place.key, positions)
        else:
            columns = branch.columns[images]
            key = _gathered(key, columns)
            mask = mask if mask is None else _gathered_mask(mask, columns)
        low = None if branch.low is None else branch.low[images]
        self.accumulate(
            query,
            key,
            branch.high[images],
            low,
            mask=mask,
            scale=call.scale,
            lse=lse,
            count=branch.count if place.start == 0 else None,
            first=None,
        )
        if branch.squares is not None:
            squares, count = branch.squares
            accumulate_squares(
                query,
                key,
                squares[images],
                mask=mask,
                scale=call.scale,
                lse=lse,
                count=count if place.start == 0 else None,
            )

    def _fits(self, call: AttentionCall) -> bool:
        """Whether a call has the rows and positions of the buffers; else note how not."""
        rows, _, positions, _ = call.query.shape
        wanted = self.branches[0].high.shape[-1]
        right = self.rows is None or rows in (self.rows, self.guided_rows)
        if self.row_by_row:
            right = rows == 1
        for one in self.branches:
            for place in cast("JointBranch", one).places:
                right = right and positions >= place.query + wanted
        if not right:
            self._note_misfit(self._how_not(rows, positions))
        return right

    def _how_not(self, rows: int, positions: int) -> str:
        if self.rows is not None and rows != (1 if self.row_by_row else self.rows):
            return (
                f"with {rows} rows, where its denoiser call has {self.rows}: something splits the "
                "batch inside of the denoiser, or multiplies it"
            )
        wanted = self.branches[0].high.shape[-1]
        return (
            f"from {positions} positions, where the image alone was expected to have {wanted}: "
            "something merges or drops positions inside of the denoiser"
        )


def _rows_of_mask(mask: Tensor | None, rows: slice, queries: slice) -> Tensor | None:
    """The mask of some rows and positions, ``(rows or 1, heads or 1, positions or 1, columns)``."""
    if mask is None:
        return None
    if mask.shape[0] != 1:
        mask = mask[rows]
    return mask if mask.shape[2] == 1 else mask[:, :, queries]


def _columns(mask: Tensor, begin: int, count: int) -> Tensor:
    return mask if mask.shape[3] == 1 else mask[..., begin : begin + count]


def _gathered(key: Tensor, columns: Tensor) -> Tensor:
    """The keys ``(rows, key_heads, tokens, dim)`` of each row's columns."""
    index = columns[:, None, :, None].expand(-1, key.shape[1], -1, key.shape[3])
    return key.gather(2, index)


def _gathered_mask(mask: Tensor, columns: Tensor) -> Tensor:
    if mask.shape[3] == 1:
        return mask
    index = columns[:, None, None, :].expand(-1, mask.shape[1], mask.shape[2], -1)
    return mask.expand(columns.shape[0], -1, -1, -1).gather(3, index)
