"""HostCopy: copies a device's buffers to the host while the device goes on computing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class HostCopy:
    """Copies buffers of one device together into memory of the host that is used again.

    :meth:`start` queues the copies on a separate stream after the work that is queued so far,
    :meth:`hold_back` keeps later work from overwriting the buffers too early, and :meth:`finish`
    waits. The first two only queue; on a device without streams :meth:`start` copies.

    Torch's allocators need not know of the stream (``record_stream``): the buffers live as long as
    this object, and if it is deleted in the middle of a copy, the result is never read.

    Args:
        buffers: by name, each contiguous and of one axis, all on one device.
    """

    def __init__(self, buffers: dict[str, Tensor]) -> None:
        self.buffers = buffers
        self.device = next(iter(buffers.values())).device
        self._streams = streams_of(self.device)
        self._side = None if self._streams is None else self._streams.Stream(self.device)
        # The event of the last copy, until the host has waited for it.
        self._copied: Any = None
        # On the CPU the buffers are read where they are.
        self._host = buffers
        if self.device.type != "cpu" or self._streams is not None:
            pinned = self._streams is not None
            self._host = {name: _host_memory(one, pinned) for name, one in buffers.items()}

    @property
    def nbytes(self) -> int:
        """Bytes of the host's memory that it takes."""
        return sum(host.nbytes for host in self._host.values()) if self.copies else 0

    @property
    def is_pending(self) -> bool:
        """Whether a copy is queued that :meth:`finish` will wait for."""
        return self._copied is not None

    @property
    def copies(self) -> bool:
        """Whether there is memory on the host in addition to the buffers."""
        return self._host is not self.buffers

    def start(self, names: Iterable[str]) -> None:
        """Copy some buffers as they will be when the work that is queued now has run."""
        if self._streams is None or self._side is None:
            for name in names if self.copies else ():
                self._host[name].copy_(self.buffers[name])
            return
        self._side.wait_stream(self._streams.current_stream(self.device))
        with self._streams.stream(self._side):
            for name in names:
                self._host[name].copy_(self.buffers[name], non_blocking=True)
        self._copied = self._streams.Event()
        self._copied.record(self._side)

    def hold_back(self) -> None:
        """Make the device write to the buffers only after the copies; the host does not wait."""
        if self._copied is not None and self._streams is not None:
            self._streams.current_stream(self.device).wait_event(self._copied)

    def finish(self) -> dict[str, Tensor]:
        """Wait for the last copies, and return them by name; :meth:`start` overwrites them."""
        if self._copied is not None:
            self._copied.synchronize()
            self._copied = None
        return self._host


def streams_of(device: torch.device) -> Any:
    """The module with a device's streams and events; None where copies are made at once."""
    return torch.cuda if device.type == "cuda" else None


def host_buffers(device: torch.device) -> int:
    """How many buffers on the host a buffer on a device has."""
    return int(device.type != "cpu" or streams_of(device) is not None)


def _host_memory(buffer: Tensor, pinned: bool) -> Tensor:
    """Memory on the host in the shape of a buffer.

    If ``pinned`` it is page-locked, so that the device writes to it without the host; where that is
    refused it is ordinary memory.
    """
    # A tensor that is made in inference mode could not be written to outside of it.
    with torch.inference_mode(False):
        try:
            return torch.empty(buffer.shape, dtype=buffer.dtype, device="cpu", pin_memory=pinned)
        except RuntimeError:
            # The host then waits for the copy, which is slower and right.
            return torch.empty(buffer.shape, dtype=buffer.dtype, device="cpu")
