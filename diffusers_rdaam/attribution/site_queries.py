"""SiteQueries: the attention queries of the image at one site, in memory or in a file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from diffusers_rdaam.errors import AttributionFileError, InputError
from diffusers_rdaam.files.fields import Check
from diffusers_rdaam.files.tensor_file import open_tensors
from diffusers_rdaam.shapes import Size

# The names that safetensors has for types.
TYPES = {torch.float16: "F16", torch.float32: "F32"}
MAX_CALL = 2**31


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a safetensors file, read anew at each use.

    Args:
        path: of the file.
        name: of the tensor in it.
        shape, dtype: that it must have.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    def read(self) -> Tensor:
        """The tensor.

        Raises:
            AttributionFileError: the file is gone, cut off, or another one.
        """
        if not self.path.exists():
            raise AttributionFileError(
                f"The queries in {self.path} are not there any more. Put the file back, or "
                "generate again."
            )
        with open_tensors(self.path, "queries") as file:
            found = file.specs.get(self.name)
            kind = TYPES[self.dtype]
            if found is None or tuple(found.shape) != self.shape or found.dtype != kind:
                there = "no such tensor"
                if found is not None:
                    there = f"{found.dtype} of shape {tuple(found.shape)}"
                raise AttributionFileError(
                    f"{self.path} has {there} for {self.name!r}; queries of shape {self.shape} and "
                    f"type {kind} were expected. It is not the file that was written."
                )
            return file.finite(self.name, Check(self.path, "file of queries"))


@dataclass(frozen=True, eq=False)
class SiteQueries:
    """One image's queries of one site.

    Args:
        site: its name.
        size: height and width of its grid.
        heads, dim: how many heads it has, and the width of each.
        calls: numbers, from 0, of the denoiser calls that were kept.
        parts: for each of these calls ``(heads, height * width, dim)`` float16 or float32. Logits
            are their products with keys, over the root of ``dim``.
    """

    site: str
    size: Size
    heads: int
    dim: int
    calls: tuple[int, ...]
    parts: tuple[Tensor | StoredTensor, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.calls) != len(self.parts) or not self.calls:
            raise InputError(
                f"{self.site} has queries of {len(self.parts)} calls and {len(self.calls)} numbers "
                "of calls; as many are needed, at least one."
            )
        if self.calls[0] < 0 or any(one >= other for one, other in pairwise(self.calls)):
            raise InputError(
                f"{self.site} has queries of the calls {str(self.calls)[:200]}; their numbers are "
                "counted from 0 and ascend, each once."
            )
        for part in self.parts:
            if tuple(part.shape) != self.shape or part.dtype not in TYPES:
                raise InputError(
                    f"Queries of {self.site} have shape {tuple(part.shape)} and type {part.dtype}; "
                    f"{self.shape} (heads, positions, width) of float16 or float32 was expected."
                )

    @property
    def dtype(self) -> torch.dtype:
        """The type of the parts."""
        return self.parts[0].dtype

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of each part: heads, positions, width."""
        return (self.heads, self.size[0] * self.size[1], self.dim)

    @property
    def nbytes(self) -> int:
        """Bytes of all parts, wherever they are."""
        cells = self.heads * self.size[0] * self.size[1] * self.dim
        return sum(cells * part.dtype.itemsize for part in self.parts)

    def read(self, index: int) -> Tensor:
        """The part of one kept call, by its place among them."""
        part = self.parts[index]
        return part.read() if isinstance(part, StoredTensor) else part

    def of_calls(self, wanted: set[int]) -> SiteQueries:
        """The same site at some of its calls, by their numbers; no copy."""
        kept = [index for index, call in enumerate(self.calls) if call in wanted]
        return replace(
            self,
            calls=tuple(self.calls[index] for index in kept),
            parts=tuple(self.parts[index] for index in kept),
        )
