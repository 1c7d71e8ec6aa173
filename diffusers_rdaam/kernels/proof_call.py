"""ProvedCall: a call whose planes and output are compared with other kernels, part by part.

Parts have few cells, so that a comparison takes a few megabytes whatever the sizes are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusers_rdaam.kernels import portable, reference
from diffusers_rdaam.kernels.planes import read_planes

# Logits of a part: a megabyte in float32, and the portable kernel holds three such tensors.
CELLS = 2**18
# Columns of a part, where the log-sum-exp is known and not all columns are needed at once.
COLUMNS = 256
# Positions that are compared with float64: spread over the grid, and at either end.
SPREAD, ENDS = 32, 8
# Cells of a part of the output, which is compared with torch's attention.
OUTPUT_CELLS = 2**18
# Tolerances of probabilities, and of outputs by their type relative to the largest value. A wrong
# kernel differs by far more, and rounding by far less.
_MAPS = 1e-4
# A single plane rounds every sum.
_SINGLE = 1e-3
_OUTPUT = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}

# Positions or columns: a slice, or the indices themselves.
Part = slice | Tensor
ALL = slice(None)


@dataclass(frozen=True)
class ProvedCall:
    """The arguments of a call that was made with empty planes, which now hold its maps.

    Args:
        query, key, high, low, count, mask, scale, lse: see
            :func:`diffusers_rdaam.kernels.fused.accumulate`.
        value, first: see :func:`diffusers_rdaam.kernels.fused.attend`; ``value`` is None where no
            output is computed.
    """

    query: Tensor
    key: Tensor
    high: Tensor
    low: Tensor | None
    count: Tensor
    mask: Tensor | None
    scale: float
    lse: Tensor | None
    value: Tensor | None
    first: int

    def maps_agree(self) -> bool:
        """Compare all cells with the portable kernel, and some positions with float64."""
        images = self.high.shape[0]
        worst = self.high.new_zeros((), dtype=torch.float32)
        for image in range(images):
            for columns, part in self._parts():
                worst = self._worst(worst, image, columns, part, self._portable_maps)
        spread = self._spread()
        for image in {0, images - 1}:
            for columns in self._columns():
                worst = self._worst(worst, image, columns, spread, self._exact_maps)
        # NaN is not at most anything, so it does not agree.
        return bool(worst <= (_SINGLE if self.low is None else _MAPS))

    def output_agrees(self, output: Tensor) -> bool:
        """Compare all of the output with torch's attention, and some positions with float64.

        Args:
            output: ``(rows, heads, positions, dim)``.
        """
        assert self.value is not None
        rows, heads, positions, dim = output.shape
        limit = _OUTPUT[output.dtype] * self.value.abs().amax().float()
        grouped = {"enable_gqa": True} if heads != self.key.shape[1] else {}
        worst = torch.zeros((), dtype=torch.float32, device=output.device)
        for row in range(rows):
            for part in _slices(positions, max(1, OUTPUT_CELLS // (heads * dim))):
                query, key, mask, _ = self._cut(row, ALL, ALL, part)
                value = self.value[row : row + 1]
                wanted = F.scaled_dot_product_attention(
                    query, key, value, attn_mask=mask, scale=self.scale, **grouped
                )
                # Where nothing may be attended to, some kernels of torch's have no number.
                wanted = wanted.float().nan_to_num_(0.0)
                difference = (output[row : row + 1, :, part].float() - wanted).abs().max()
                worst = torch.maximum(worst, difference)
        spread = self._spread()
        for row in {self.first, self.first + self.high.shape[0] - 1}:
            for heads_of in self._heads(self.key.shape[2]):
                exact = self._exact_output(row, heads_of, spread).float()
                found = output[row : row + 1, heads_of][:, :, spread].float()
                worst = torch.maximum(worst, (found - exact).abs().max())
        return bool(worst <= limit)

    def _worst(
        self,
        worst: Tensor,
        image: int,
        columns: slice,
        part: Part,
        maps: Callable[[int, slice, slice, Part], Tensor],
    ) -> Tensor:
        """The larger of ``worst`` and the largest difference of some cells from ``maps``."""
        groups = self._heads(_length(columns, self.key.shape[2]))
        if self.high.ndim == 4:
            for heads in groups:
                wanted = maps(self.first + image, heads, columns, part)
                found = self._read(image, (heads, columns), part)
                worst = torch.maximum(worst, (found - wanted).abs().max())
            return worst
        # One group of heads at a time, so that the maps of one exist at once.
        difference = self._read(image, (columns,), part)
        for heads in groups:
            difference -= maps(self.first + image, heads, columns, part) / len(groups)
        return torch.maximum(worst, difference.abs().max())

    def _read(self, image: int, cut: tuple[slice, ...], part: Part) -> Tensor:
        # Indexed before the conversion: a whole plane in float32 would be the largest tensor here.
        high = self.high[(slice(image, image + 1), *cut)][..., part]
        low = None if self.low is None else self.low[(slice(image, image + 1), *cut)][..., part]
        return read_planes(high, low)

    def _portable_maps(self, row: int, heads: slice, columns: slice, part: Part) -> Tensor:
        """A row's maps ``(1, [heads,] columns, positions)`` by the portable kernel."""
        query, key, mask, lse = self._cut(row, heads, columns, part)
        per_head = (query.shape[1],) if self.high.ndim == 4 else ()
        shape = (1, *per_head, key.shape[2], query.shape[2])
        high, low = (torch.zeros(shape, dtype=torch.float16, device=key.device) for _ in "ab")
        portable.accumulate(query, key, high, low, mask=mask, scale=self.scale, lse=lse)
        return read_planes(high, low)

    def _exact_maps(self, row: int, heads: slice, columns: slice, part: Part) -> Tensor:
        """A row's maps by the definition, computed in float64."""
        maps = self._probabilities(row, heads, columns, part).mT
        return (maps if self.high.ndim == 4 else maps.mean(dim=1)).float()

    def _exact_output(self, row: int, heads: slice, part: Part) -> Tensor:
        assert self.value is not None
        values = self.value[row : row + 1, self._key_heads(heads)].double()
        group = self.query.shape[1] // self.key.shape[1]
        if _length(heads, self.query.shape[1]) > 1:
            values = values.repeat_interleave(group, dim=1)
        return self._probabilities(row, heads, ALL, part) @ values

    def _probabilities(self, row: int, heads: slice, columns: slice, part: Part) -> Tensor:
        query, key, mask, lse = self._cut(row, heads, columns, part)
        if mask is not None and mask.dtype != torch.bool:
            mask = mask.double()
        return reference.attention_probabilities(
            query.double(),
            key.double(),
            mask=mask,
            scale=self.scale,
            lse=None if lse is None else lse.double(),
        )

    def _cut(
        self, row: int, heads: slice, columns: slice, part: Part
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Cut query, key, mask and log-sum-exp to one row, and to heads, columns and positions."""
        query = self.query[row : row + 1, heads][:, :, part]
        key = self.key[row : row + 1, self._key_heads(heads)][:, :, columns]
        lse = None if self.lse is None else self.lse[row : row + 1, heads][:, :, part]
        mask = self.mask
        if mask is not None:
            # An axis of one element holds for all.
            mask = mask if mask.shape[0] == 1 else mask[row : row + 1]
            mask = mask if mask.shape[1] == 1 else mask[:, heads]
            mask = mask if mask.shape[2] == 1 else mask[:, :, part]
            mask = mask if mask.shape[3] == 1 else mask[..., columns]
        return query, key, mask, lse

    def _key_heads(self, heads: slice) -> slice:
        """The heads of the keys that belong to all heads, or to a single one."""
        if heads == ALL:
            return ALL
        at = heads.start * self.key.shape[1] // self.query.shape[1]
        return slice(at, at + 1)

    def _heads(self, columns: int) -> list[slice]:
        """All heads at once; one by one where even the smallest part would be too large."""
        heads = self.query.shape[1]
        if heads * columns * portable.SHORTEST_TILE <= CELLS:
            return [ALL]
        return [slice(head, head + 1) for head in range(heads)]

    def _columns(self) -> list[slice]:
        """Parts of the columns; all of them where the softmax needs them."""
        return [ALL] if self.lse is None else _slices(self.key.shape[2], COLUMNS)

    def _parts(self) -> Iterator[tuple[slice, slice]]:
        """Parts of columns and positions, of up to :data:`CELLS` logits each."""
        for columns in self._columns():
            length = _length(columns, self.key.shape[2])
            heads = _length(self._heads(length)[0], self.query.shape[1])
            for part in _slices(self.query.shape[2], max(1, CELLS // (heads * length))):
                yield columns, part

    def _spread(self) -> Tensor:
        """Positions over the whole grid, and at both ends, where blocks are seldom full."""
        positions = self.query.shape[2]
        last = max(1, min(SPREAD, positions) - 1)
        spread = {round(index * (positions - 1) / last) for index in range(last + 1)}
        ends = range(min(ENDS, positions))
        chosen = sorted({*spread, *ends, *(positions - 1 - index for index in ends)})
        return torch.tensor(chosen, dtype=torch.int64, device=self.query.device)


def _slices(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def _length(part: slice, whole: int) -> int:
    return len(range(whole)[part])
