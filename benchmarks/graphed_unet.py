"""A whole UNet under CUDA graphs: one call is captured and then replayed, stock and recorded.

The hooks by which a run is followed are outside of the graph, around the replay, as with a denoiser
whose ``forward`` somebody has captured. What a captured call adds, it adds to the planes and counts
of its capture: tensors that stay, because each run takes over the buffers of the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from benchmarks.whole_unet import STOCK, WholeUNet
from diffusers_rdaam.recording.recorder import Buffers, Recorder

# Of each image its maps, largest grid first, and how often they were added to.
Maps = list[list[tuple[Tensor, int]]]


class Graph(Protocol):
    """One call's work on a device."""

    def capture(self, call: Callable[[], Any]) -> Any:
        """Note what ``call`` would do; what it returns is written anew by every replay."""

    def replay(self) -> None:
        """Do it."""


class CudaGraph:
    """A graph of the current CUDA device."""

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()

    def capture(self, call: Callable[[], Any]) -> Any:
        """See :class:`Graph`."""
        with torch.cuda.graph(self._graph):
            return call()

    def replay(self) -> None:
        """See :class:`Graph`."""
        self._graph.replay()


class GraphedUNet:
    """Runs of a UNet whose forward is a graph.

    Args:
        whole: the UNet, its processors and inputs.
        make_graph: of each kind of run.
    """

    def __init__(self, whole: WholeUNet, make_graph: Callable[[], Graph] = CudaGraph) -> None:
        self.whole = whole
        self.make_graph = make_graph
        # Why a kind of run could not be captured, by its name.
        self.reasons: dict[str, str] = {}
        # How far the maps of a replayed run are from those of an eager one, at most, by name.
        self.differences: dict[str, float] = {}
        self._forwards: dict[str, Callable[..., Any]] = {}
        self._buffers: dict[str, Buffers] = {}

    def prepare(self) -> None:
        """Capture every kind of run, and hold the maps of a replayed run against an eager one."""
        for name in self.whole.runs():
            try:
                self._prepare(name)
            except Exception as error:
                first, *_ = str(error).strip().splitlines() or [""]
                self.reasons[name] = f"not captured: {type(error).__name__}: {first}"

    def runs(self) -> dict[str, Callable[[], object]]:
        """What makes one run of replays, by name, of all that could be captured."""
        return {name: partial(self.run, name) for name in self._forwards}

    def run(self, name: str) -> None:
        """As many replays as a run has calls; no maps are read.

        Raises:
            RuntimeError: not every call was recorded.
        """
        self._run(name, self._forwards[name])

    def _prepare(self, name: str) -> None:
        # In the eager run kernels are chosen, compiled and proved: a capture cannot wait for that.
        eager = self._run(name, self.whole.unet.forward, reads=True)
        graph = self.make_graph()
        captured: list[Any] = []

        def capturing(*args: Any, **kwargs: Any) -> Any:
            forward = type(self.whole.unet).forward
            captured.append(graph.capture(partial(forward, self.whole.unet, *args, **kwargs)))
            return captured[-1]

        def replaying(*args: Any, **kwargs: Any) -> Any:
            # The same input lies where it lay: nothing is to be copied.
            graph.replay()
            return captured[-1]

        self._run(name, capturing, calls=1)
        replayed = self._run(name, replaying, reads=True)
        if eager is not None and replayed is not None:
            self.differences[name] = _largest_difference(eager, replayed)
        self._forwards[name] = replaying

    def _run(
        self, name: str, forward: Callable[..., Any], *, calls: int = 0, reads: bool = False
    ) -> Maps | None:
        """One run with another forward; its maps, where they are read and there are some."""
        whole, calls = self.whole, calls or self.whole.calls
        whole.install(name)
        with torch.no_grad(), _with_forward(whole.unet, forward):
            if name == STOCK:
                for _ in range(calls):
                    whole.unet(**whole.inputs)
                return None
            template, buffers = whole.templates[name], self._buffers.get(name)
            with Recorder(whole.pipe, whole.family, template.options, buffers) as recorder:
                for _ in range(calls):
                    whole.unet(**whole.inputs)
            # An error while recording ends the record and not the call.
            if recorder.failure is not None:
                raise recorder.failure
            if recorder.calls != calls:
                raise RuntimeError(f"{recorder.calls} of {calls} calls were recorded.")
            self._buffers[name] = recorder.buffers
            if not reads:
                return None
            return [
                [(grid.maps, grid.additions) for grid in image.text.grids]
                for image in recorder.read()
            ]


@contextmanager
def _with_forward(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    """The module's hooks stay around it."""
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before


def _largest_difference(eager: Maps, replayed: Maps) -> float:
    """The largest difference of a cell.

    Raises:
        RuntimeError: one was added to more often than the other.
    """
    found = 0.0
    for image, other in zip(eager, replayed, strict=True):
        for (maps, additions), (again, replays) in zip(image, other, strict=True):
            if additions != replays:
                raise RuntimeError(
                    f"Replays have added {replays} times to a grid, eager calls {additions} times."
                )
            found = max(found, float((maps - again).abs().max()))
    return found
