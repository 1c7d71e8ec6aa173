"""Bytes of tensors: what is kept, and the most that are there at once during a call."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import is_fake

Storages = dict[tuple[torch.device, int], torch.UntypedStorage]


@contextmanager
def older_objects_left_out() -> Iterator[Storages]:
    """In the block, look at no object from before it: there are half a million of libraries.

    Yields:
        The memory of the tensors from before it, for :func:`live_bytes`. It is held, so that no
        tensor of the block has an address of theirs.
    """
    gc.collect()
    older = _storages()
    gc.freeze()
    try:
        yield older
    finally:
        gc.unfreeze()


def live_bytes(older: Storages | None = None) -> int:
    """Of all tensors of this process on all devices; of a view, all that it keeps alive.

    Within :func:`older_objects_left_out` of those that are younger than the block.

    Args:
        older: the memory from before the block. A new view of it, such as one of the text that
            the pipeline holds itself, adds nothing.
    """
    gc.collect()
    known = older or {}
    return sum(one.nbytes() for place, one in _storages().items() if place not in known)


def _storages() -> Storages:
    storages = {}
    for found in gc.get_objects():
        # By its type: isinstance would wake lazy objects of other libraries.
        if not issubclass(type(found), Tensor) or found.device.type == "meta":
            continue
        # What torch.compile traces with has no memory: some of it warns when it is asked for its
        # address, some raises.
        if is_fake(found):
            continue
        storage = found.untyped_storage()
        with suppress(RuntimeError):
            storages[found.device, storage.data_ptr()] = storage
    return storages


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
