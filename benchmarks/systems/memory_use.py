"""Bytes of tensors: what is kept, and the most that are there at once during a call."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor


@contextmanager
def older_objects_left_out() -> Iterator[None]:
    """In the block, look at no object from before it: there are half a million of libraries."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def live_bytes() -> int:
    """Of all tensors of this process on all devices; of a view, all that it keeps alive.

    Within :func:`older_objects_left_out` of those that are younger than the block.
    """
    gc.collect()
    storages = {}
    for found in gc.get_objects():
        # By its type: isinstance would wake lazy objects of other libraries.
        if issubclass(type(found), Tensor) and found.device.type != "meta":
            storage = found.untyped_storage()
            storages[found.device, storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def peak_bytes(call: Callable[[], object], device: torch.device) -> int:
    """The most bytes allocated at once during a call, over what was there before it.

    On a CUDA device the caching allocator tells; on the CPU every allocation and release of torch's
    allocator, temporaries inside of operations included. What libraries below torch allocate for
    themselves is not seen.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated(device) - before
    with torch.autograd.profiler.profile(profile_memory=True, use_kineto=True) as profile:
        call()
    results = profile.kineto_results
    assert results is not None
    changes = [event for event in results.events() if event.name() == "[memory]"]
    changes.sort(key=lambda event: event.start_ns())
    return max(accumulate((event.nbytes() for event in changes), initial=0))


def free_bytes(device: str = "cpu") -> int | None:
    """Memory of the host that can be had without swapping, where the system tells; of a GPU."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    information = Path("/proc/meminfo")
    if not information.is_file():
        return None
    lines = information.read_text().splitlines()
    kibibytes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(kibibytes[0]) * 1024 if kibibytes else None
