"""What a sweep launches: a kernel at a kind of site, its inputs, and what it has to add to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import sweep_candidates
from benchmarks.roofline import FIRST, ROWS, Site
from benchmarks.sizes import TOKENS
from diffusers_rdaam.kernels import blocks, fused, portable
from diffusers_rdaam.kernels.blocks import Blocks
from diffusers_rdaam.kernels.planes import read_planes

Way = Literal["maps_only", "attend", "self-attention"]
# Half precision's rounding is far less, and a wrong kernel is off by far more: of probabilities,
# and of outputs relative to the largest value.
MAPS, OUTPUT = 1e-4, 1e-2


@dataclass(frozen=True)
class Case:
    """A kernel at a kind of site, of a guided call of one image, whose second row is recorded.

    Args:
        site: where.
        way: ``"maps_only"`` (the recorded row's maps), ``"attend"`` (both rows' output, and these
            maps), or ``"self-attention"`` (the image's maps of itself, with its log-sum-exp).
    """

    site: Site
    way: Way

    def __str__(self) -> str:
        return f"{self.site}, {self.way}"

    def default(self, processors: int, element_bytes: int) -> Blocks:
        """How its work is cut on a device with so many multiprocessors."""
        site = self.site
        if self.way == "self-attention":
            return blocks.for_columns(site.positions, site.dim, element_bytes)
        attends = self.way == "attend"
        return blocks.for_text(
            ROWS if attends else ROWS - FIRST, site.positions, TOKENS, site.heads, site.dim,
            element_bytes, processors, attends=attends,
        )  # fmt: skip

    def candidates(self, processors: int, element_bytes: int) -> list[Blocks]:
        """All that a sweep tries; the default is the first."""
        site, default = self.site, self.default(processors, element_bytes)
        sizes: dict[str, int] = {
            "positions": site.positions, "channels": site.dim, "element_bytes": element_bytes
        }  # fmt: skip
        if self.way == "self-attention":
            return sweep_candidates.of_columns(default, columns=site.positions, **sizes)
        return sweep_candidates.of_text(
            default, columns=TOKENS, heads=site.heads, attends=self.way == "attend", **sizes
        )


class Launches:
    """The inputs of a case on a device, what the portable kernel makes of them, and its launches.

    Args:
        case: which.
        device: ``"cuda"``, or with Triton's interpreter ``"cpu"``.
        dtype: of queries, keys and values.
    """

    def __init__(self, case: Case, device: str, dtype: torch.dtype) -> None:
        self.case, self.device = case, device
        site = case.site
        generator = torch.Generator(device).manual_seed(0)

        def projected(length: int) -> Tensor:
            """As diffusers lays it out."""
            shape = (ROWS, length, site.heads * site.dim)
            states = torch.randn(shape, generator=generator, device=device, dtype=dtype)
            return states.unflatten(-1, (site.heads, -1)).transpose(1, 2)

        columns = site.positions if case.way == "self-attention" else TOKENS
        self.query, self.key, self.value = map(projected, (site.positions, columns, columns))
        self.scale = site.dim**-0.5
        self.planes = self._planes(columns)
        recorded = self.query[FIRST:], self.key[FIRST:]
        self.lse = _lse(*recorded, self.scale) if case.way == "self-attention" else None
        wanted = self._planes(columns)
        portable.accumulate(*recorded, *wanted, scale=self.scale, lse=self.lse)
        self.maps = read_planes(*wanted)
        self.output: Tensor | None = None
        if case.way == "attend":
            self.output = F.scaled_dot_product_attention(self.query, self.key, self.value)

    def _planes(self, columns: int) -> tuple[Tensor, Tensor]:
        shape = (ROWS - FIRST, columns, self.case.site.positions)
        high, low = (torch.zeros(shape, dtype=torch.float16, device=self.device) for _ in range(2))
        return high, low

    def of(self, cut: Blocks) -> Callable[[], Tensor | None]:
        """The launch with its work cut so."""
        options: dict[str, Any] = {"scale": self.scale, "cut": cut}
        if self.case.way == "attend":
            everything = (self.query, self.key, self.value, *self.planes)
            return lambda: fused.attend(*everything, first=FIRST, **options)
        maps = (self.query[FIRST:], self.key[FIRST:], *self.planes)
        return lambda: fused.accumulate(*maps, lse=self.lse, **options)

    def why_not(self, cut: Blocks) -> str:
        """Why it cannot be used: it does not compile, does not run, or is wrong; else empty."""
        for plane in self.planes:
            plane.zero_()
        try:
            output = self.of(cut)()
            difference = float((read_planes(*self.planes) - self.maps).abs().max())
        except Exception as error:
            first, *_ = str(error).strip().splitlines() or [""]
            return f"{type(error).__name__}: {first}"
        # NaN is no less than anything, so it is refused.
        if not difference <= MAPS:
            return f"maps are {difference:.1e} off the portable kernel's"
        if output is None or self.output is None:
            return ""
        off = float((output - self.output).abs().max() / self.value.abs().max())
        return "" if off <= OUTPUT else f"the output is {off:.1e} off stock attention's"


def _lse(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """The log-sum-exp of each position, head by head: all logits at once would take a gigabyte."""
    heads = [
        (query[:, head].float() @ key[:, head].float().mT).mul_(scale).logsumexp(dim=-1)
        for head in range(query.shape[1])
    ]
    return torch.stack(heads, dim=1)
