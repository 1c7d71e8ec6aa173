"""Recorder: one armed run, from the first denoiser call to the maps."""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakSet

import torch
from torch import nn

from diffusers_rdaam.attribution.attribution import Grid
from diffusers_rdaam.errors import AlreadyRecordingError, NoAttributionError, RDAAMError
from diffusers_rdaam.kernels.dispatch import choose
from diffusers_rdaam.recording.accumulator import (
    AccumulatorShape,
    HeatMapAccumulator,
    check_single_plane,
)
from diffusers_rdaam.recording.families import DenoiserCall, Family
from diffusers_rdaam.recording.processor import RDAAMProcessor, Target
from diffusers_rdaam.recording.sites import Site, replaced

_armed: WeakSet[nn.Module] = WeakSet()
_armed_lock = threading.Lock()


class Recorder:
    """Arms the processors of a denoiser, follows its calls, and reads the maps.

    ``with recorder: …`` records; on leaving, also by an exception, the processors are unbound from
    the buffers and the hook is gone. One run at a time may record a denoiser.

    Args:
        pipe: whose properties tell the layout of a call; read at every call.
        family: of the pipeline.
        template: the options; its children must be installed.
        accumulator: buffers of an earlier run, used again where the shape is the same.
    """

    def __init__(
        self,
        pipe: Any,
        family: Family,
        template: RDAAMProcessor,
        accumulator: HeatMapAccumulator | None = None,
    ) -> None:
        self.pipe = pipe
        self.family = family
        self.template = template
        self.accumulator = accumulator
        self.denoiser = family.denoiser(pipe)
        self.sites: tuple[Site, ...] = family.sites(self.denoiser)
        self.calls = 0
        self.latent_size: tuple[int, int] | None = None
        self.failure: Exception | None = None
        self._targets: dict[str, Target] = {}
        self._bound: set[RDAAMProcessor] = set()
        self._handle: Any = None

    def __enter__(self) -> Recorder:
        with _armed_lock:
            if self.denoiser in _armed:
                raise AlreadyRecordingError(
                    f"This {type(self.denoiser).__name__} is being recorded already, by another "
                    "call, pipeline or thread that shares it. Wait for that run to end, or give "
                    "each thread a pipeline with a denoiser of its own."
                )
            _armed.add(self.denoiser)
        self._handle = self.denoiser.register_forward_pre_hook(self._before_call, with_kwargs=True)
        return self

    def __exit__(self, *exception: object) -> None:
        self._disarm()
        self._handle.remove()
        with _armed_lock:
            _armed.discard(self.denoiser)

    @torch.compiler.disable
    def _before_call(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if self.failure is not None:
            return
        try:
            call = self.family.read_call(self.pipe, args, kwargs)
            if call is None:
                self._disarm()
            elif self.calls == 0:
                self._begin(call)
            else:
                self._continue(call)
        except RDAAMError as error:
            if self.calls == 0:
                raise
            # Steps have been spent: the image is worth more than its attribution.
            self.failure = error
            self._disarm()
        else:
            self.calls += call is not None

    def _begin(self, call: DenoiserCall) -> None:
        grids = tuple((site.name, self.family.grid(site, call.latent_size)) for site in self.sites)
        shape = AccumulatorShape(
            images=call.stop - call.start,
            tokens=call.tokens,
            grids=grids,
            pair=self.template.storage == "fp16-pair",
            device=call.device,
        )
        check_single_plane(shape, _expected_calls(self.pipe))
        if self.accumulator is None or self.accumulator.shape != shape:
            self.accumulator = HeatMapAccumulator(shape)
        else:
            self.accumulator.zero_()
        self.latent_size = call.latent_size
        accumulate = choose(self.template.backend, device=call.device).accumulate
        for site in self.sites:
            high, low = self.accumulator.planes(site.name)
            count = self.accumulator.count(site.name)
            self._targets[site.name] = Target(high, low, count, call.start, call.stop, accumulate)
        self._arm()

    def _continue(self, call: DenoiserCall) -> None:
        assert self.accumulator is not None
        shape = self.accumulator.shape
        images = call.stop - call.start
        came = (images, call.tokens, call.latent_size)
        wanted = (shape.images, shape.tokens, self.latent_size)
        if came != wanted:
            raise NoAttributionError(
                "The denoiser's input changed during the run: (images, tokens, latent size) were "
                f"{wanted} at the first call and {came} at call {self.calls}."
            )
        for target in self._targets.values():
            target.start, target.stop = call.start, call.stop
        self._arm()

    def _arm(self) -> None:
        for site in self.sites:
            if isinstance(site.processor, RDAAMProcessor):
                site.processor.target = self._targets[site.name]
                self._bound.add(site.processor)

    def _disarm(self) -> None:
        # Not by way of the sites: a callback may have taken a processor away, to put it back later.
        while self._bound:
            self._bound.pop().target = None

    def read(self) -> list[tuple[Grid, ...]]:
        """The grids of each image.

        Raises:
            NoAttributionError: the run did not call the denoiser or changed its input; a site lost
                its processor during the run, or recorded nothing.
        """
        if self.failure is not None:
            raise NoAttributionError(str(self.failure)) from self.failure
        if self.accumulator is None or self.calls == 0:
            raise NoAttributionError("The run did not call the denoiser, so nothing was recorded.")
        lost = replaced(self.sites)
        if lost:
            raise NoAttributionError(
                f"{len(lost)} of {len(self.sites)} attention modules lost their RDAAMProcessor "
                f"during the run: the first, {lost[0].name}, has a "
                f"{type(lost[0].processor).__name__} now. Its maps are not those of the whole run."
            )
        grids = self.accumulator.read()
        silent = [site for site, count in self.accumulator.site_counts().items() if count == 0]
        if silent:
            raise NoAttributionError(
                f"{len(silent)} of {len(self.sites)} attention modules recorded nothing in "
                f"{self.calls} denoiser calls (the first is {silent[0]}). Was a processor replaced "
                "during the run?"
            )
        return grids


def _expected_calls(pipe: Any) -> int:
    """How often the denoiser will be called, as far as it is known before the run."""
    steps = getattr(pipe, "_num_timesteps", None)
    if steps is None:
        # Not every pipeline counts its steps; its scheduler has them all.
        steps = len(getattr(getattr(pipe, "scheduler", None), "timesteps", ()))
    return max(int(steps), 1)
