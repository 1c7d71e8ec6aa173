"""TextRecord: a run's attention to the prompt, and to the negative prompt where that is kept."""

from __future__ import annotations

from typing import Any

from diffusers_rdaam.attention.map_target import BranchTarget, Target
from diffusers_rdaam.attention.options import RecordingOptions
from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.errors import (
    LayoutUnknownWarning,
    NoAttributionError,
    SiteMisfitWarning,
)
from diffusers_rdaam.families import Branch, DenoiserCall, Family, RowsOfBranches
from diffusers_rdaam.kernels.dispatch import choose, proof_bytes, warn_of_another
from diffusers_rdaam.recording.buffers.accumulator import (
    AccumulatorShape,
    HeatMapAccumulator,
    check_single_plane,
)
from diffusers_rdaam.recording.buffers.step_accumulators import ImageMaps, StepAccumulators
from diffusers_rdaam.recording.memory.budget import check_budget, megabytes, memory_cost_text
from diffusers_rdaam.recording.memory.shape import shape_for
from diffusers_rdaam.recording.progress import Progress


class TextRecord:
    """Buffers for the softmaxed attention to the text, and the targets that point to them.

    Args:
        pipe, family, options: as in :class:`Recorder`.
        buffers: of an earlier run, by branch; used again where they have the same shape.
    """

    def __init__(
        self,
        pipe: Any,
        family: Family,
        options: RecordingOptions,
        buffers: dict[Branch, StepAccumulators],
    ) -> None:
        self.pipe = pipe
        self.family = family
        self.options = options
        self.buffers = buffers
        self.sites: tuple[Site, ...] = family.sites(family.denoiser(pipe))
        self.shape: AccumulatorShape | None = None
        self.grid: tuple[int, ...] | None = None
        self._targets: dict[object, dict[str, Target]] = {}
        # Of calls of which it is not known yet whether they count: by number, then by branch.
        self._scratch: dict[int, dict[Branch, HeatMapAccumulator]] = {}

    def begin(self, call: DenoiserCall, images: int, calls: int | None) -> str | None:
        """Allocate, or forget what an earlier run left; the price, where there is one to tell.

        Args:
            call: the first one.
            images: rows of a branch.
            calls: how many there will be, as far as that is known.

        Raises:
            InputError: over the budget, or a single plane would stagnate.
        """
        options = self.options
        choice = choose(options.backend, device=call.device)
        warn_of_another(options.backend, choice)
        shape = shape_for(
            options,
            self.family,
            self.pipe,
            call.grid,
            images,
            call.columns,
            device=call.device,
        )
        count = (calls or 1) if "steps" in options.keep else 1
        check_single_plane(shape, -(-(calls or 1) // count))
        check_budget(options, shape, count)
        branches = [Branch.CONDITIONAL]
        if options.keep_negative:
            branches.append(Branch.UNCONDITIONAL)
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
                self.buffers[branch] = StepAccumulators(shape, count)
        self.shape, self.grid = shape, call.grid
        if not (options.axes or options.keep_negative):
            return None
        open_ended = "steps" in options.keep and calls is None
        told = memory_cost_text(options, shape, count, open_ended=open_ended)
        if proof := proof_bytes(choice):
            told += f" To try the kernels, the first call takes up to {megabytes(proof)} more."
        return told

    def check(self, call: DenoiserCall, images: set[int], progress: Progress) -> None:
        """See that a call is like the first one.

        Raises:
            NoAttributionError: it is not.
            InputError: a single plane would stagnate.
        """
        assert self.shape is not None
        came = (*sorted(images), call.columns, call.grid)
        wanted = (self.shape.images, self.shape.tokens, self.grid)
        if came != wanted:
            raise NoAttributionError(
                "The denoiser's input changed during the run: (images, columns, latent grid) were "
                f"{wanted} at the first call and {came} at call {progress.calls + 1}.",
                warning=LayoutUnknownWarning,
            )
        if "steps" not in self.options.keep:
            # An own loop does not tell its steps before.
            check_single_plane(self.shape, progress.calls + 1)

    def targets(
        self,
        rows: RowsOfBranches,
        progress: Progress,
        *,
        of_call: int | None,
        scratch: int | None = None,
    ) -> dict[str, Target]:
        """Where each site adds its maps during this call.

        Args:
            rows: of each branch that is recorded.
            progress: of the run.
            of_call: how many rows the call has in all.
            scratch: the number of a call that is not confirmed yet; see :meth:`confirm`.
        """
        steps = "steps" in self.options.keep
        places = tuple(
            (branch, progress.step(branch, rows) if steps and scratch is None else 0, part)
            for branch, part in rows.items()
        )
        if scratch is None:
            self._grow(1 + max(index for _, index, _ in places))
            for branch, index, _ in places:
                self.buffers[branch].accumulators[index].make_room()
        else:
            self._scratch.setdefault(scratch, self._make_scratch())
        key = (places, of_call, scratch)
        if key not in self._targets:
            self._targets[key] = self._make_targets(places, of_call, scratch)
        return self._targets[key]

    def _make_scratch(self) -> dict[Branch, HeatMapAccumulator]:
        assert self.shape is not None
        return {branch: HeatMapAccumulator(self.shape) for branch in self.buffers}

    def _make_targets(
        self, places: tuple[Any, ...], of_call: int | None, scratch: int | None
    ) -> dict[str, Target]:
        assert self.shape is not None
        accumulators = [
            (
                self.buffers[branch].accumulators[index]
                if scratch is None
                else self._scratch[scratch][branch],
                start,
                stop,
            )
            for branch, index, (start, stop) in places
        ]
        targets = {}
        devices = self.shape.places()
        for site in self.sites:
            branches = tuple(
                BranchTarget(high, low, buffer.count(site.name), start, stop)
                for buffer, start, stop in accumulators
                for high, low in [buffer.planes(site.name)]
            )
            choice = choose(self.options.backend, device=devices[site.name])
            targets[site.name] = Target.of(site.name, branches, choice, rows=of_call)
        return targets

    def confirm(self, scratch: int, rows: RowsOfBranches, progress: Progress) -> None:
        """Count a call that was recorded into scratch buffers."""
        steps = "steps" in self.options.keep
        for branch in rows:
            index = progress.step(branch, rows) if steps else 0
            self._grow(1 + index)
            self.buffers[branch].accumulators[index].absorb(self._scratch[scratch][branch])

    def forget(self, scratch: int) -> None:
        """Leave a call out that was recorded into scratch buffers."""
        for buffer in self._scratch.get(scratch, {}).values():
            buffer.zero_()

    def _grow(self, count: int) -> None:
        """See that there are as many steps, also where the scheduler has told fewer."""
        assert self.shape is not None
        for frames in self.buffers.values():
            while len(frames.accumulators) < count:
                check_budget(self.options, self.shape, count)
                frames.grow()

    def misfit(self) -> NoAttributionError | None:
        """Why maps of a call did not fit, where they did not."""
        found = (
            NoAttributionError(target.misfit, warning=SiteMisfitWarning)
            for targets in self._targets.values()
            for target in targets.values()
            if target.misfit is not None
        )
        return next(found, None)

    def silent(self) -> list[str]:
        """Sites that recorded nothing for the prompt."""
        counts = self.buffers[Branch.CONDITIONAL].site_counts()
        return [site for site, count in counts.items() if count == 0]

    def read(self, branch: Branch, progress: Progress) -> list[ImageMaps]:
        """What was recorded of each image."""
        axes = self.options.axes
        timesteps = progress.timestep_numbers() if "steps" in axes else []
        return self.buffers[branch].read(axes, timesteps, progress.calls)
