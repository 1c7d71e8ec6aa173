"""The numbers of additions of many sites, each where a compiled denoiser lets it be."""

from __future__ import annotations

import torch
from torch import Tensor


class SiteCounters:
    """One number for each site, in memory of its own.

    torch copies an input of compiled code whose address is not a multiple of 16, which an element
    of a longer tensor has. What is copied cannot be counted up in a CUDA graph: torch makes none.

    Args:
        sites: how many.
        device: where they are.
    """

    def __init__(self, sites: int, device: torch.device) -> None:
        self._counters = [torch.zeros(1, dtype=torch.int32, device=device) for _ in range(sites)]

    def __getitem__(self, site: int) -> Tensor:
        """One site's, int32 ``(1,)``, to be counted up."""
        return self._counters[site]

    def all(self) -> Tensor:
        """A copy of all, int32 ``(sites,)``, on their device."""
        return torch.cat(self._counters)

    def zero_(self) -> None:
        """Start again, with one operator for all."""
        torch._foreach_zero_(self._counters)

    def add_(self, other: SiteCounters) -> None:
        """Add those of as many sites."""
        torch._foreach_add_(self._counters, other._counters)

    @property
    def nbytes(self) -> int:
        """Bytes that are counted in; a device's allocator rounds each up."""
        return sum(counter.nbytes for counter in self._counters)
