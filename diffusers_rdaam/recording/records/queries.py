"""QueriesRecord: the queries of a run, from which maps of other texts are computed after it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusers_rdaam.attention.attention_call import AttentionCall, image_queries
from diffusers_rdaam.attention.options import QueryOptions, RecordingOptions
from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.attribution.queries import Queries
from diffusers_rdaam.attribution.site_queries import SiteQueries, StoredTensor
from diffusers_rdaam.errors import InputError, NoAttributionError, RecordingFailedWarning
from diffusers_rdaam.families import Branch, DenoiserCall, Family, RowsOfBranches
from diffusers_rdaam.files.tensor_file import write_tensors
from diffusers_rdaam.recording.buffers.counters import SiteCounters
from diffusers_rdaam.recording.buffers.host_copy import HostCopy, host_buffers
from diffusers_rdaam.recording.memory.query_cost import (
    check_query_budget,
    chosen_sizes,
    head_width,
    query_bytes,
    query_cost_text,
)
from diffusers_rdaam.recording.progress import Progress
from diffusers_rdaam.recording.records.run_record import RunRecord
from diffusers_rdaam.recording.site_devices import devices_of
from diffusers_rdaam.shapes import Size

Stored = Tensor | StoredTensor


@dataclass
class QueryTarget:
    """The observer that copies the recorded rows of a site's queries.

    Args:
        parts: for each branch its buffer ``(images, heads, positions, dim)``, the number of calls
            as one element, and the rows.
        failure: an exception of the copy. A call that does not match the buffers is noted by the
            target of the text.
    """

    parts: tuple[tuple[Tensor, Tensor, int, int], ...]
    failure: Exception | None = None

    @torch.no_grad()
    def see(self, call: AttentionCall) -> None:
        """Copy the image's queries, scaled so that logits are products over the root of the width.

        Queries with another scale would need it stored as well.
        """
        query, scale = image_queries(call), call.scale
        for buffer, count, start, stop in self.parts:
            rows = query[start:stop]
            if rows.shape != buffer.shape:
                return
            usual = query.shape[-1] ** -0.5
            buffer.copy_(rows if scale == usual else rows * (scale / usual))
            count.add_(1)


@dataclass
class JointQueryTarget(QueryTarget):
    """The observer of a transformer's site, whose image is a part of its positions.

    Args:
        firsts: for each branch the first position of each image.
    """

    firsts: tuple[tuple[int, ...], ...] = ()

    @torch.no_grad()
    def see(self, call: AttentionCall) -> None:
        """Copy the image's queries, scaled as :meth:`QueryTarget.see` does."""
        usual = call.query.shape[-1] ** -0.5
        for (buffer, count, start, stop), firsts in zip(self.parts, self.firsts, strict=True):
            positions = buffer.shape[2]
            if call.query.shape[0] < stop or call.query.shape[1] != buffer.shape[1]:
                return
            for image, first in enumerate(firsts):
                rows = call.query[start + image, :, first : first + positions]
                factor = call.scale / usual
                buffer[image].copy_(rows if factor == 1.0 else rows * factor)
            count.add_(1)


class QueriesRecord(RunRecord):
    """Keeps the queries of the chosen grids and denoiser calls, by default in half precision.

    The queries of one call are copied on the denoiser's device into buffers that are always the
    same, so that a compiled denoiser stays one graph. After the call they are stored; from a device
    they go in one copy while it computes the next call, and are stored when that call ends.

    Args:
        pipe, family, options: see :class:`Recorder`.
    """

    def __init__(self, pipe: Any, family: Family, options: RecordingOptions) -> None:
        assert options.queries is not None
        self.family = family
        self.options = options
        self.query_options: QueryOptions = options.queries
        self.denoiser = family.denoiser(pipe)
        self.sites: tuple[Site, ...] = family.sites(self.denoiser)
        self._denoisers = tuple(family.denoisers(pipe))
        self._sizes: dict[str, Size] = {}
        # The sites' buffers by branch, each a part of one buffer.
        self._buffers: dict[Branch, dict[str, Tensor]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._copy: HostCopy | None = None
        # The number of buffers of a call, with those on the host that it is copied to.
        self._places = 1
        # The steps whose queries are being copied to the host, by branch.
        self._leaving: dict[Branch, int] = {}
        self._counts: dict[Branch, SiteCounters] = {}
        self._steps: range | list[int] = range(0)
        self._pending: dict[Branch, int] = {}
        # By branch and kept step: each site's tensors, one for each image; and the counts.
        self._kept: dict[Branch, dict[int, dict[str, list[Stored]]]] = {}
        self._seen: dict[Branch, dict[int, Tensor]] = {}
        self._folder: Path | None = None
        self._spent = 0

    def begin(self, call: DenoiserCall, images: int, calls: int | None, spent: int = 0) -> str:
        """Choose the sites, and allocate the buffers of one call; see :class:`RunRecord`.

        Raises:
            InputError: the memory cost is over the budget; or a grid, step or folder does not
                exist; or several denoisers each make a part of the steps.
        """
        if len(self._denoisers) > 1:
            raise InputError(
                "keep='queries' keeps those of one denoiser, and this pipeline has "
                f"{len(self._denoisers)}, of which each makes a part of the steps. Leave 'queries' "
                "out of keep=."
            )
        sizes = {site.name: self.family.grid(site, call.grid) for site in self.sites}
        self._sizes = chosen_sizes(sizes, self.query_options.sizes)
        count = None if calls is None else len(self.query_options.numbers(calls))
        self._steps = self.query_options.numbers_beyond(calls)
        branches = [Branch.CONDITIONAL]
        if self.options.keep_negative:
            branches.append(Branch.UNCONDITIONAL)
        step = images * len(branches) * query_bytes(self.options, self.sites, self._sizes)
        self._spent = spent
        device = self._device(call.device)
        self._places = 1 if self.query_options.location == "device" else 1 + host_buffers(device)
        self._check(step, count or 1)
        self._make_folder()
        self._allocate(branches, images, device)
        where = self._folder or self.query_options.location
        return query_cost_text(step, count, str(where), self._places)

    def _device(self, sample: torch.device) -> torch.device:
        """The device of all sites.

        Raises:
            NoAttributionError: the sites are on several devices.
        """
        places = devices_of(self.denoiser, self.sites, sample)
        devices = list(dict.fromkeys(places[name] for name in self._sizes))
        if len(devices) > 1:
            names = ", ".join(str(device) for device in devices)
            raise NoAttributionError(
                f"keep='queries' needs a denoiser on one device, and this "
                f"{type(self.denoiser).__name__} is spread over {names}. Put it on one device, or "
                "choose grids whose sites are on one with QueryOptions(grids=…); maps are recorded "
                "on several.",
                warning=RecordingFailedWarning,
            )
        return devices[0]

    def _allocate(self, branches: list[Branch], images: int, device: torch.device) -> None:
        """Allocate one buffer for each branch, and cut it into the sites' parts."""
        sites = {site.name: site for site in self.sites}
        shapes: dict[str, tuple[int, ...]] = {
            name: (images, sites[name].heads, math.prod(size), head_width(sites[name]))
            for name, size in self._sizes.items()
        }
        whole = {
            branch: torch.zeros(
                sum(math.prod(shape) for shape in shapes.values()),
                dtype=self.query_options.dtype,
                device=device,
            )
            for branch in branches
        }
        self._shapes = shapes
        for branch in branches:
            self._buffers[branch] = self._parts(whole[branch])
            self._counts[branch] = SiteCounters(len(shapes), device)
        if self.query_options.location != "device":
            self._copy = HostCopy({branch.value: buffer for branch, buffer in whole.items()})

    def _parts(self, whole: Tensor) -> dict[str, Tensor]:
        """Each site's part ``(images, heads, positions, dim)`` of a branch's buffer."""
        cells = [math.prod(shape) for shape in self._shapes.values()]
        parts = zip(self._shapes.items(), whole.split(cells), strict=True)
        return {name: part.view(shape) for (name, shape), part in parts}

    @property
    def nbytes(self) -> int:
        """Bytes that are held now: the buffers of a call, and the queries stored in memory."""
        stored = (
            part.nbytes
            for steps in self._kept.values()
            for sites in steps.values()
            for parts in sites.values()
            for part in parts
            if isinstance(part, Tensor)
        )
        buffers = (buffer.nbytes for branch in self._buffers.values() for buffer in branch.values())
        return sum(stored) + sum(buffers) + (0 if self._copy is None else self._copy.nbytes)

    def _check(self, step: int, count: int) -> None:
        """Raises InputError where ``count`` steps of ``step`` bytes are over the budget."""
        check_query_budget(
            self.options, self.sites, self._sizes, step, count, self._spent, self._places
        )

    def _make_folder(self) -> None:
        folder = self.query_options.folder
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            number = 1
            while True:
                # A new folder for each run: an earlier run's attributions still read from theirs.
                self._folder = folder / f"run-{number:04}"
                try:
                    self._folder.mkdir()
                    return
                except FileExistsError:
                    number += 1
        except OSError as error:
            raise InputError(
                f"No queries can be written to location={str(folder)!r}: {error}. Give a folder "
                "that may be written, or 'cpu'."
            ) from error

    def targets(
        self,
        rows: RowsOfBranches,
        progress: Progress,
        *,
        call: DenoiserCall | None = None,
        scratch: int | None = None,
    ) -> dict[str, QueryTarget]:
        """Where each chosen site copies its queries during one denoiser call."""
        if self._copy is not None:
            self._copy.hold_back()
        self._pending = {branch: progress.step(branch, rows) for branch in rows}
        for branch in rows:
            self._counts[branch].zero_()
        joint = None if call is None else call.joint
        targets = {}
        for index, name in enumerate(self._sizes):
            parts = tuple(
                (self._buffers[branch][name], self._counts[branch][index], *places)
                for branch, places in rows.items()
            )
            if joint is None:
                targets[name] = QueryTarget(parts)
            else:
                firsts = tuple(joint.queries[start:stop] for start, stop in rows.values())
                targets[name] = JointQueryTarget(parts, firsts=firsts)
        return targets

    def after_call(self) -> None:
        """Store what the previous call has copied, and start the copy of the one that just ended.

        Raises:
            InputError: the run is longer than was known, and over the budget; or the disk is full.
        """
        self._finish()
        pending, self._pending = self._pending, {}
        kept = {branch: step for branch, step in pending.items() if step in self._steps}
        for branch, step in kept.items():
            there = self._kept.setdefault(branch, {})
            if step not in there:
                one = sum(buffer.nbytes for buffer in self._buffers[branch].values())
                self._check(one * len(self._buffers), len(there) + 1)
            self._seen.setdefault(branch, {})[step] = self._counts[branch].all()
        if self._copy is None:
            for branch, step in kept.items():
                self._kept[branch][step] = self._put(branch, step, self._buffers[branch])
        elif kept:
            self._copy.start(kept)
            self._leaving = kept
            if not self._copy.is_pending:
                self._finish()

    def _finish(self) -> None:
        """Wait for the started copy, whose call the device has finished by now, and store it."""
        leaving, self._leaving = self._leaving, {}
        if not leaving or self._copy is None:
            return
        arrived = self._copy.finish()
        for branch, step in leaving.items():
            self._kept[branch][step] = self._put(branch, step, self._parts(arrived[branch]))

    def _put(
        self, branch: Branch, step: int, buffers: dict[str, Tensor]
    ) -> dict[str, list[Stored]]:
        """Store one step's queries of a branch from buffers that the next calls overwrite.

        Returns:
            Each site's tensors, one for each image.
        """
        if self._folder is None:
            # A copy for each image: a view would make one attribution hold the whole batch.
            return {name: [part.clone() for part in buffer] for name, buffer in buffers.items()}
        path = self._folder / f"{branch}-{step:05}.safetensors"
        tensors = {
            f"{name}/{image}": part
            for name, buffer in buffers.items()
            for image, part in enumerate(buffer)
        }
        write_tensors(path, tensors, noun="queries")
        return {
            name: [
                StoredTensor(path, f"{name}/{image}", tuple(buffer.shape[1:]), buffer.dtype)
                for image in range(buffer.shape[0])
            ]
            for name, buffer in buffers.items()
        }

    def confirm(self, scratch: int, rows: RowsOfBranches, progress: Progress) -> None:
        """Do nothing: queries are refused where it is not known which calls make the image."""

    def forget(self, scratch: int) -> None:
        """Do nothing: see :meth:`confirm`."""

    def zero_(self) -> None:
        """Do nothing: see :meth:`confirm`."""

    def release(self) -> None:
        """Give the memory of the stored queries back after a failure."""
        self._kept, self._leaving = {}, {}

    def read(self, branch: Branch) -> list[Queries] | None:
        """The queries of each image; None where none of the branch were kept.

        Waits for the device.
        """
        self._finish()
        kept = self._kept.get(branch)
        if not kept:
            return None
        steps = sorted(kept)
        seen = torch.stack([self._seen[branch][step] for step in steps]).tolist()
        buffers = self._buffers[branch]
        images = next(iter(buffers.values())).shape[0]
        by_image: list[list[SiteQueries]] = [[] for _ in range(images)]
        for index, (name, size) in enumerate(self._sizes.items()):
            # In the other steps a cache has skipped the site.
            calls = tuple(
                step for step, counts in zip(steps, seen, strict=True) if counts[index] > 0
            )
            _, heads, _, dim = buffers[name].shape
            for image, sites in enumerate(by_image if calls else ()):
                parts = tuple(kept[step][name][image] for step in calls)
                sites.append(SiteQueries(name, size, heads, dim, calls, parts))
        return [Queries(tuple(sites)) for sites in by_image] if by_image[0] else None
