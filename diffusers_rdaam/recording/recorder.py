"""Recorder: one armed run, from the first denoiser call to the maps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import torch
from torch import nn

from diffusers_rdaam.errors import AlreadyRecordingError, NoAttributionError, RDAAMError
from diffusers_rdaam.kernels.dispatch import choose
from diffusers_rdaam.recording.accumulator import AccumulatorShape, check_single_plane
from diffusers_rdaam.recording.budget import check_budget, price_text
from diffusers_rdaam.recording.expected import expected_calls, shape_for
from diffusers_rdaam.recording.families import DenoiserCall, Family
from diffusers_rdaam.recording.frames import Frames, ImageMaps
from diffusers_rdaam.recording.processor import RDAAMProcessor
from diffusers_rdaam.recording.sites import Site, replaced
from diffusers_rdaam.recording.target import Bound, Branch, Target

_armed: WeakSet[nn.Module] = WeakSet()
_armed_lock = threading.Lock()


class Recorder:
    """Arms the processors of a denoiser, follows its calls, and reads the maps.

    ``with recorder: …`` records; on leaving, also by an exception, the processors are unbound from
    the buffers and the hooks are gone. One run at a time may record a denoiser.

    Args:
        pipe: whose properties tell the layout of a call; read at every call.
        family: of the pipeline.
        template: the options; its children must be installed.
        buffers: of an earlier run, by branch; used again where they have the same shape.
        announce: is told the price of what is kept apart, before the first step.
    """

    def __init__(
        self,
        pipe: Any,
        family: Family,
        template: RDAAMProcessor,
        buffers: dict[str, Frames] | None = None,
        announce: Callable[[str], None] | None = None,
    ) -> None:
        self.pipe = pipe
        self.family = family
        self.template = template
        self.buffers = dict(buffers or {})
        self.announce = announce
        self.denoiser = family.denoiser(pipe)
        self.sites: tuple[Site, ...] = family.sites(self.denoiser)
        self.calls = 0
        self.latent_size: tuple[int, int] | None = None
        self.shape: AccumulatorShape | None = None
        self.failure: Exception | None = None
        self._negative_calls = 0
        # Whether a step's negative rows have a call of their own, before that of the prompt.
        self._negative_first: bool | None = None
        self._timesteps: list[torch.Tensor | float | None] = []
        self._targets: dict[object, dict[str, Target]] = {}
        self._bound: set[Bound] = set()
        self._handles: list[Any] = []
        self._settled = False
        self._lost: str | None = None
        self._paused = False
        self._thread: int | None = None

    def __enter__(self) -> Recorder:
        self._thread = threading.get_ident()
        with _armed_lock:
            if self.denoiser in _armed:
                raise AlreadyRecordingError(
                    f"This {type(self.denoiser).__name__} is being recorded already, by another "
                    "call, pipeline or thread that shares it. Wait for that run to end, or give "
                    "each thread a pipeline with a denoiser of its own."
                )
            _armed.add(self.denoiser)
        # Disarmed between calls: gradient checkpointing calls the sites again on the way back.
        self._handles = [
            self.denoiser.register_forward_pre_hook(self._before_call, with_kwargs=True),
            self.denoiser.register_forward_hook(self._after_call, always_call=True),
        ]
        return self

    def __exit__(self, *exception: object) -> None:
        self._disarm()
        for handle in self._handles:
            handle.remove()
        with _armed_lock:
            _armed.discard(self.denoiser)

    @torch.compiler.disable
    def _before_call(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if self.failure is not None:
            return
        if threading.get_ident() != self._thread:
            self._meet_a_stranger()
            return
        if self._paused:
            return
        try:
            call = self.family.read_call(self.pipe, args, kwargs)
            if call is not None:
                self._record(call)
        except RDAAMError as error:
            if self.calls == 0:
                raise
            # Steps have been spent: the image is worth more than its attribution.
            self.failure = error

    @torch.compiler.disable
    def _after_call(self, *unused: object) -> None:
        if threading.get_ident() == self._thread:
            self._disarm()

    def _meet_a_stranger(self) -> None:
        """Another thread calls the denoiser, too. Targets tell threads apart, unless compiled."""
        compiled = getattr(self.denoiser, "_compiled_call_impl", None) is not None
        if compiled or getattr(self.pipe, "unet", self.denoiser) is not self.denoiser:
            self.failure = NoAttributionError(
                f"Another thread has called the compiled {type(self.denoiser).__name__} during "
                "the run, which it shares. Give each thread a pipeline with a denoiser of its own."
            )

    def __getstate__(self) -> dict[str, Any]:
        # A denoiser that is copied in the middle of a run has hooks; the copy's do nothing.
        over = NoAttributionError("This is a copy, made during a run.")
        return {"failure": over, "_bound": set(), "_thread": None, "_paused": True}

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Record nothing in the block, such as what a callback asks of the denoiser."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def _record(self, call: DenoiserCall) -> None:
        """Point every site to the buffers of this call."""
        rows = {"conditional": (call.start, call.stop)}
        if self.template.keep_negative:
            rows["negative"] = call.negative or (0, 0)
        rows = {branch: part for branch, part in rows.items() if part[1] > part[0]}
        if not rows:
            return
        images = {stop - start for start, stop in rows.values()}
        if self.shape is None:
            self._begin(call, max(images))
        assert self.shape is not None
        came = (*sorted(images), call.tokens, call.latent_size)
        wanted = (self.shape.images, self.shape.tokens, self.latent_size)
        if came != wanted:
            raise NoAttributionError(
                "The denoiser's input changed during the run: (images, tokens, latent size) were "
                f"{wanted} at the first call and {came} at call {self.calls + 1}."
            )
        if "steps" not in self.template.keep:
            # An own loop does not tell its steps before.
            check_single_plane(self.shape, self.calls + 1)
        self._arm(rows)
        if "negative" in rows:
            self._negative_calls += 1
        if "conditional" in rows:
            self.calls += 1
            self._timesteps.append(call.timestep)

    def _begin(self, call: DenoiserCall, images: int) -> None:
        keep = self.template.keep
        size, tokens = call.latent_size, call.tokens
        shape = shape_for(
            self.template, self.family, self.pipe, size, images, tokens, device=call.device
        )
        calls = expected_calls(self.pipe)
        count = (calls or 1) if "steps" in keep else 1
        check_single_plane(shape, -(-(calls or 1) // count))
        branches = ["conditional", *(["negative"] if self.template.keep_negative else [])]
        if keep or self.template.keep_negative:
            check_budget(self.template, shape, count)
            if self.announce is not None:
                open_ended = "steps" in keep and calls is None
                self.announce(price_text(self.template, shape, count, open_ended=open_ended))
        # What does not fit goes first: old and new buffers together would be over the price.
        self.buffers = {
            branch: frames
            for branch, frames in self.buffers.items()
            if branch in branches and frames.shape == shape and len(frames.accumulators) == count
        }
        for branch in branches:
            if branch in self.buffers:
                self.buffers[branch].zero_()
            else:
                self.buffers[branch] = Frames(shape, count)
        self.shape, self.latent_size = shape, call.latent_size

    def _arm(self, rows: dict[str, tuple[int, int]]) -> None:
        steps = "steps" in self.template.keep
        places = tuple(
            (branch, self._step(branch, rows) if steps else 0, part)
            for branch, part in rows.items()
        )
        if places not in self._targets:
            self._targets[places] = self._make_targets(places)
        targets = self._targets[places]
        for site in self.sites:
            if isinstance(site.processor, Bound):
                site.processor.target = targets[site.name]
                targets[site.name].strict = self.calls == 0
                self._bound.add(site.processor)

    def _step(self, branch: str, rows: dict[str, tuple[int, int]]) -> int:
        """Which step this call belongs to. The negative prompt's are those of the prompt."""
        if branch == "conditional" or "conditional" in rows:
            return self.calls
        if self._negative_first is None:
            self._negative_first = self.calls == 0
        return self.calls if self._negative_first else self.calls - 1

    def _make_targets(self, places: tuple[Any, ...]) -> dict[str, Target]:
        assert self.shape is not None
        self._grow(1 + max(index for _, index, _ in places))
        accumulators = [
            (self.buffers[branch].accumulators[index], start, stop)
            for branch, index, (start, stop) in places
        ]
        accumulate = choose(self.template.backend, device=self.shape.device).accumulate
        targets = {}
        for site in self.sites:
            branches = tuple(
                Branch(high, low, buffer.count(site.name), start, stop)
                for buffer, start, stop in accumulators
                for high, low in [buffer.planes(site.name)]
            )
            targets[site.name] = Target(site.name, branches, accumulate)
        return targets

    def _grow(self, count: int) -> None:
        """See that there are as many steps, also where the scheduler has told fewer."""
        assert self.shape is not None
        for frames in self.buffers.values():
            while len(frames.accumulators) < count:
                check_budget(self.template, self.shape, count)
                frames.grow()

    def _disarm(self) -> None:
        # Not by way of the sites: a callback may have taken a processor away, to put it back later.
        while self._bound:
            self._bound.pop().target = None

    def read(self) -> list[ImageMaps]:
        """What was recorded of each image, also in the middle of a run.

        Raises:
            NoAttributionError: the run did not call the denoiser or changed its input; a site lost
                its processor during the run, or recorded nothing.
        """
        self._check()
        return self._read("conditional")

    def read_negative(self) -> list[ImageMaps] | None:
        """The same of the negative prompt; None where it is not kept or was not there.

        Its steps are those of the prompt; at those without guidance it has no additions.
        """
        return None if self._negative_calls == 0 else self._read("negative")

    def _read(self, branch: str) -> list[ImageMaps]:
        axes = self.template.keep
        timesteps = [_number(timestep) for timestep in self._timesteps] if "steps" in axes else []
        return self.buffers[branch].read(axes, timesteps, self.calls)

    def settle(self) -> None:
        """Look for lost processors now; what is installed later does not matter any more."""
        self._lost = self._lost_text()
        self._settled = True

    def _lost_text(self) -> str | None:
        lost = replaced(self.sites)
        if not lost:
            return None
        return (
            f"{len(lost)} of {len(self.sites)} attention modules lost their RDAAMProcessor "
            f"during the run: the first, {lost[0].name}, has a "
            f"{type(lost[0].processor).__name__} now. Its maps are not those of the whole run."
        )

    def _check(self) -> None:
        if self.failure is not None:
            raise NoAttributionError(str(self.failure)) from self.failure
        if self.calls == 0 and self._negative_calls:
            raise NoAttributionError(
                f"None of the {self._negative_calls} recorded calls of the denoiser had rows of "
                "the prompt, only of the negative prompt. Is the layout of its rows right?"
            )
        if self.calls == 0:
            raise NoAttributionError("The run did not call the denoiser, so nothing was recorded.")
        for targets in self._targets.values():
            for target in targets.values():
                if target.misfit is not None:
                    raise NoAttributionError(target.misfit)
        lost = self._lost if self._settled else self._lost_text()
        if lost is not None:
            raise NoAttributionError(lost)
        counts = self.buffers["conditional"].site_counts()
        silent = [site for site, count in counts.items() if count == 0]
        if silent:
            raise NoAttributionError(
                f"{len(silent)} of {len(self.sites)} attention modules recorded nothing in "
                f"{self.calls} denoiser calls (the first is {silent[0]}). Was a processor replaced "
                "during the run?"
            )


def _number(timestep: torch.Tensor | float | int | None) -> float:
    if isinstance(timestep, torch.Tensor):
        return float(timestep.flatten()[0])
    return float("nan") if timestep is None else float(timestep)
