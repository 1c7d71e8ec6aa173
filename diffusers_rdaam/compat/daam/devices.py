"""DAAM's helpers for seeds and devices."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

_CPU = torch.device("cpu")


def auto_device(obj: Any = _CPU) -> Any:
    """``obj`` on the GPU, or where it is if there is none; a device gives the device."""
    available = torch.cuda.is_available()
    if isinstance(obj, torch.device):
        return torch.device("cuda" if available else "cpu")
    return obj.to("cuda") if available else obj


def auto_autocast(**options: Any) -> torch.autocast:
    """CUDA's autocast, off where there is no GPU; options as of :class:`torch.autocast`."""
    if not torch.cuda.is_available():
        options["enabled"] = False
    return torch.autocast("cuda", **options)


def set_seed(seed: int) -> torch.Generator:
    """Seed Python, numpy and torch, all of them process-wide, and give a seeded generator.

    A generator alone makes a run of a pipeline repeatable: ``torch.Generator().manual_seed(seed)``.
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # the global state is what DAAM seeds
    torch.manual_seed(seed)
    return torch.Generator(device=auto_device()).manual_seed(seed)
