"""TextRecord: a run's attention to the prompt, and to the negative prompt where that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from diffusers_rdaam.attention.map_target import Target
from diffusers_rdaam.attention.options import RecordingOptions
from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.errors import (
    LayoutUnknownWarning,
    NoAttributionError,
    SiteMisfitWarning,
)
from diffusers_rdaam.families import Branch, DenoiserCall, Family, RowsOfBranches, sites_of
from diffusers_rdaam.kernels.dispatch import choose, proof_bytes, warn_of_another
from diffusers_rdaam.recording.buffers.accumulator import (
    AccumulatorShape,
    HeatMapAccumulator,
    check_single_plane,
)
from diffusers_rdaam.recording.buffers.step_accumulators import (
    ImageMaps,
    StepAccumulators,
    with_squares,
)
from diffusers_rdaam.recording.chosen_columns import (
    ChosenColumns,
    ColumnChooser,
    appended_rest,
    every_column,
)
from diffusers_rdaam.recording.joint_targets import RecordedRows, joint_target
from diffusers_rdaam.recording.memory.budget import (
    check_budget,
    megabytes,
    memory_cost,
    memory_cost_text,
)
from diffusers_rdaam.recording.memory.shape import shape_for
from diffusers_rdaam.recording.progress import Progress
from diffusers_rdaam.recording.records.run_record import RunRecord


class TextRecord(RunRecord):
    """Buffers for the softmaxed attention to the text, and the targets that add to them.

    Args:
        pipe, family, options: see :class:`Recorder`.
        buffers: an earlier run's, by branch; reused where they have the same shape.
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
        self.sites: tuple[Site, ...] = sites_of(family, pipe)
        # What is put before the names of the sites of each denoiser.
        self.prefixes = tuple(family.denoisers(pipe))
        # Which columns of a joint site's text are recorded, and those of each branch's images.
        self.chooser: ColumnChooser = every_column
        self.chosen: dict[Branch, Sequence[ChosenColumns]] = {}
        self._count = 1
        self.shape: AccumulatorShape | None = None
        self.grid: tuple[int, ...] | None = None
        self._targets: dict[object, dict[str, Target]] = {}
        # Sums of squared probabilities, where they are kept.
        self.squares: dict[Branch, HeatMapAccumulator] = {}
        self._scratch_squares: dict[int, dict[Branch, HeatMapAccumulator]] = {}
        # The buffers of calls that may turn out not to make the image, by number and branch.
        self._scratch: dict[int, dict[Branch, HeatMapAccumulator]] = {}

    def begin(
        self, call: DenoiserCall, images: int, calls: int | None, spent: int = 0
    ) -> str | None:
        """Allocate the buffers of a run, or reuse an earlier run's; see :class:`RunRecord`.

        The memory cost of means alone is small, and not reported.

        Raises:
            InputError: the memory cost is over the budget, or a single plane would stagnate.
        """
        options = self.options
        choice = choose(options.backend, device=call.device)
        warn_of_another(options.backend, choice)
        shape = self._shape_for(call, images)
        count = (calls or 1) if "steps" in options.keep else 1
        check_single_plane(shape, -(-(calls or 1) // count))
        check_budget(options, shape, count)
        branches = [Branch.CONDITIONAL, *([Branch.UNCONDITIONAL] if options.keep_negative else [])]
        # Buffers of other shapes are freed first: old and new ones together would take more memory
        # than was reported.
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
        if "squares" in options.keep:
            self.squares = {branch: HeatMapAccumulator(shape.of_squares) for branch in branches}
        self.shape, self.grid, self._count = shape, call.grid, count
        if not (options.axes or options.keep_negative or self.squares):
            return None
        open_ended = "steps" in options.keep and calls is None
        text = memory_cost_text(options, shape, count, open_ended=open_ended)
        if proof := proof_bytes(choice):
            text += f" To check the kernels, the first call takes up to {megabytes(proof)} more."
        return text

    def _shape_for(self, call: DenoiserCall, images: int) -> AccumulatorShape:
        """The shape of the buffers: at joint sites of the columns that are chosen there."""
        self.chosen = {}
        tokens = call.columns
        if call.joint is not None:
            branch = next(iter(call.branches))
            tokens = max(len(one.columns) for one in self._chosen_of(call, branch))
        return shape_for(
            self.options, self.family, self.pipe, call.grid, images, tokens, device=call.device
        )

    def _chosen_of(self, call: DenoiserCall, branch: Branch) -> Sequence[ChosenColumns]:
        """The recorded columns of a branch's images, chosen at its first call."""
        if branch not in self.chosen:
            self.chosen[branch] = self.chooser(call, branch)
        return self.chosen[branch]

    def prompts(self, branch: Branch) -> list[Prompt] | None:
        """The prompt of each image whose columns were chosen; None where they were not."""
        chosen = self.chosen.get(branch)
        if chosen is None or any(one.prompt is None for one in chosen):
            return None
        return [one.prompt for one in chosen if one.prompt is not None]

    def _fit_branch(self, call: DenoiserCall, branch: Branch) -> None:
        """Give a branch whose text has another number of columns buffers of its own shape."""
        assert self.shape is not None
        tokens = max(len(one.columns) for one in self._chosen_of(call, branch))
        steps = self.buffers[branch]
        if tokens != steps.shape.tokens:
            shape = replace(self.shape, tokens=tokens)
            self.buffers[branch] = StepAccumulators(shape, len(steps.accumulators))
            if branch in self.squares:
                self.squares[branch] = HeatMapAccumulator(shape.of_squares)

    @property
    def nbytes(self) -> int:
        """Bytes of the planes."""
        if self.shape is None:
            return 0
        return memory_cost(
            self.options, self.shape, len(self.buffers[Branch.CONDITIONAL].accumulators)
        )

    def check(self, call: DenoiserCall, images: set[int], progress: Progress) -> None:
        """Check that a call has the sizes of the first one.

        Raises:
            NoAttributionError: it has others.
            InputError: a single plane would stagnate.
        """
        assert self.shape is not None
        columns = call.columns if call.joint is None else self.shape.tokens
        came = (*sorted(images), columns, call.grid)
        wanted = (self.shape.images, self.shape.tokens, self.grid)
        if came != wanted:
            raise NoAttributionError(
                "The denoiser's input changed during the run: (images, columns, latent grid) were "
                f"{wanted} at the first call and {came} at call {progress.calls + 1}.",
                warning=LayoutUnknownWarning,
            )
        if "steps" not in self.options.keep:
            # The number of steps of a user's loop is not known before.
            check_single_plane(self.shape, progress.calls + 1)

    def targets(
        self,
        rows: RowsOfBranches,
        progress: Progress,
        *,
        call: DenoiserCall | None = None,
        scratch: int | None = None,
    ) -> dict[str, Target]:
        """Where each site adds its maps during one denoiser call; see :class:`RunRecord`."""
        if call is not None and call.joint is not None:
            for branch in rows:
                self._fit_branch(call, branch)
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
            made = {one: HeatMapAccumulator(sums.shape) for one, sums in self.squares.items()}
            self._scratch_squares.setdefault(scratch, made)
        of_call = None if call is None else (call.rows, call.joint)
        key = (places, of_call, scratch)
        if key not in self._targets:
            self._targets[key] = self._make_targets(places, call, scratch)
        return self._targets[key]

    def _make_scratch(self) -> dict[Branch, HeatMapAccumulator]:
        assert self.shape is not None
        return {branch: HeatMapAccumulator(steps.shape) for branch, steps in self.buffers.items()}

    def _make_targets(
        self, places: tuple[Any, ...], call: DenoiserCall | None, scratch: int | None
    ) -> dict[str, Target]:
        assert self.shape is not None
        targets: dict[str, Target] = {}
        devices = self.shape.places()
        joint = call is not None and call.joint is not None
        for site in self.sites:
            recorded = []
            for branch, index, (start, stop) in places:
                buffer = (
                    self.buffers[branch].accumulators[index]
                    if scratch is None
                    else self._scratch[scratch][branch]
                )
                count = buffer.count(site.name)
                high, low = buffer.planes(site.name)
                squares = self._squares_of(site, branch, scratch)
                recorded.append(RecordedRows(high, low, count, start, stop, squares))
            choice = choose(self.options.backend, device=devices[site.name])
            if call is not None and joint:
                columns = [self.chosen[branch] for branch, _, _ in places]
                targets[site.name] = joint_target(site.name, recorded, choice, call, columns)
            else:
                branches = tuple(rows.as_branch() for rows in recorded)
                rows = None if call is None else call.rows
                targets[site.name] = Target.of(site.name, branches, choice, rows=rows)
        return targets

    def _squares_of(
        self, site: Site, branch: Branch, scratch: int | None
    ) -> tuple[Tensor, Tensor] | None:
        """The plane of a site's squares and its number of additions, where they are kept."""
        sums = self.squares if scratch is None else self._scratch_squares[scratch]
        if branch not in sums:
            return None
        plane, _ = sums[branch].planes(site.name)
        return plane, sums[branch].count(site.name)

    def confirm(self, scratch: int, rows: RowsOfBranches, progress: Progress) -> None:
        """Add a call to the run that was recorded into scratch buffers."""
        steps = "steps" in self.options.keep
        for branch in rows:
            index = progress.step(branch, rows) if steps else 0
            self._grow(1 + index)
            self.buffers[branch].accumulators[index].absorb(self._scratch[scratch][branch])
            if branch in self.squares:
                self.squares[branch].absorb(self._scratch_squares[scratch][branch])

    def forget(self, scratch: int) -> None:
        """Leave a call out that was recorded into scratch buffers."""
        for scratch_of in (self._scratch, self._scratch_squares):
            for buffer in scratch_of.get(scratch, {}).values():
                buffer.zero_()

    def after_call(self) -> None:
        """Do nothing: the sites have added to the buffers."""

    def zero_(self) -> None:
        """Forget everything that was recorded; keep the memory."""
        for steps in self.buffers.values():
            steps.zero_()
        for squares in self.squares.values():
            squares.zero_()

    def release(self) -> None:
        """Give the memory back after a failure."""
        self.buffers, self.squares = {}, {}

    def _grow(self, count: int) -> None:
        """Allocate up to ``count`` steps, which may be more than the scheduler has announced."""
        assert self.shape is not None
        for frames in self.buffers.values():
            while len(frames.accumulators) < count:
                check_budget(self.options, self.shape, count)
                frames.grow()

    def misfit(self) -> NoAttributionError | None:
        """Why a call did not match the buffers; None where all calls did."""
        misfits = (
            NoAttributionError(target.misfit, warning=SiteMisfitWarning)
            for targets in self._targets.values()
            for target in targets.values()
            if target.misfit is not None
        )
        return next(misfits, None)

    def silent(self) -> list[str]:
        """The sites that recorded nothing for the prompt."""
        counts = self.buffers[Branch.CONDITIONAL].site_counts()
        return [site for site, count in counts.items() if count == 0]

    def read(self, branch: Branch, progress: Progress) -> list[ImageMaps]:
        """The maps of each image, in order."""
        axes = self.options.axes
        timesteps = progress.timestep_numbers() if "steps" in axes else []
        maps = self.buffers[branch].read(axes, timesteps, progress.calls)
        if branch in self.squares:
            squares = self.squares[branch].read()
            maps = [with_squares(one, sums) for one, sums in zip(maps, squares, strict=True)]
        chosen = self.chosen.get(branch)
        return maps if chosen is None else appended_rest(maps, chosen)
