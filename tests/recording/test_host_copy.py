"""Queries that leave a device while it computes, with streams that run as late as they may."""

from __future__ import annotations

import math
from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from diffusers_rdaam import QueryOptions, RDAAMProcessor
from diffusers_rdaam.recording.buffers import host_copy
from diffusers_rdaam.recording.buffers.host_copy import HostCopy
from diffusers_rdaam.recording.memory.budget import megabytes
from diffusers_rdaam.recording.records.queries import QueriesRecord
from tests.recording.test_queries import SIZE, keeping, parts, pipe, run  # noqa: F401  # a fixture


class LateStreams:
    """In the place of ``torch.cuda``: what is queued on a side stream runs when it is waited for.

    Work on the main stream runs at once, as on the CPU. ``log`` has what was asked for.
    """

    def __init__(self):
        self.log = []
        self.queue = []
        self.main = _Stream(self, "main")

    def Stream(self, device):
        return _Stream(self, "side")

    def Event(self):
        return _Event(self)

    def current_stream(self, device):
        return self.main

    @contextmanager
    def stream(self, stream):
        with _Late(self):
            yield

    def run(self):
        for destination, source in self.queue:
            self.log.append("copy")
            destination.copy_(source)
        self.queue.clear()


class _Stream:
    def __init__(self, streams, name):
        self.streams, self.name = streams, name

    def wait_stream(self, other):
        self.streams.log.append(f"{self.name} waits for {other.name}")

    def wait_event(self, event):
        self.streams.log.append(f"{self.name} waits for the event")
        assert event.recorded
        self.streams.run()


class _Event:
    def __init__(self, streams):
        self.streams, self.recorded = streams, False

    def record(self, stream):
        self.streams.log.append(f"{stream.name} records")
        self.recorded = True

    def synchronize(self):
        self.streams.log.append("synchronize")
        assert self.recorded
        self.streams.run()


class _Late(TorchDispatchMode):
    def __init__(self, streams):
        super().__init__()
        self.streams = streams

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function is torch.ops.aten.copy_.default and args[2] is True, function
        self.streams.log.append("queue")
        self.streams.queue.append(args[:2])
        return args[0]


@pytest.fixture
def streams(monkeypatch):
    made = LateStreams()
    monkeypatch.setattr(host_copy, "streams_of", lambda device: made)
    return made


def test_a_copy_waits_for_the_device_and_the_device_for_it(streams):
    buffers = {"a": torch.ones(3), "b": torch.zeros(2)}
    copy = HostCopy(buffers)
    copy.start(["a"])
    assert streams.log == ["side waits for main", "queue", "side records"] and copy.is_pending
    copy.hold_back()
    assert streams.log[3:] == ["main waits for the event", "copy"]
    buffers["a"].fill_(2.0)
    assert torch.equal(copy.finish()["a"], torch.ones(3)) and not copy.is_pending
    copy.finish()
    copy.hold_back()
    assert streams.log[5:] == ["synchronize"]


def test_memory_of_the_host_is_used_again_and_counted(streams):
    copy = HostCopy({"a": torch.ones(3)})
    copy.start(["a"])
    first = copy.finish()["a"]
    copy.start(["a"])
    assert copy.finish()["a"] is first and copy.nbytes == 12


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_without_page_locked_memory_nothing_is_lost(streams, monkeypatch, error):
    empty = torch.empty

    def refuse(*args, pin_memory=False, **options):
        if pin_memory:
            raise error("out of memory")
        return empty(*args, **options)

    monkeypatch.setattr(torch, "empty", refuse)
    copy = HostCopy({"a": torch.ones(3)})
    copy.start(["a"])
    assert torch.equal(copy.finish()["a"], torch.ones(3))


def test_on_the_cpu_there_is_neither_a_copy_nor_a_stream():
    buffers = {"a": torch.ones(3)}
    copy = HostCopy(buffers)
    copy.start(["a"])
    copy.hold_back()
    assert not copy.is_pending and copy.finish() is buffers and copy.nbytes == 0


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("negative", [False, True])
def test_one_wait_a_call_and_the_same_queries(
    pipe,  # noqa: F811
    streams,
    tmp_path,
    folder,
    negative,
    monkeypatch,
):
    place = {"queries": QueryOptions(location=tmp_path)} if folder else {}
    options = {"keep_negative": negative, **place}
    found = run(keeping(pipe, **options), steps=4, num_images_per_prompt=2).attributions
    branches = 1 + negative
    copies = ["side waits for main", *["queue"] * branches, "side records"]
    waits = ["main waits for the event", *["copy"] * branches, "synchronize"]
    last = ["synchronize", *["copy"] * branches]
    assert streams.log == (copies + waits) * 3 + copies + last
    monkeypatch.setattr(host_copy, "streams_of", lambda device: None)
    plain = run(keeping(pipe, **options), steps=4, num_images_per_prompt=2)
    for ours, theirs in zip(found, plain.attributions, strict=True):
        assert ours.queries.calls == theirs.queries.calls == (0, 1, 2, 3)
        for one, other in zip(parts(ours.queries), parts(theirs.queries), strict=True):
            assert torch.equal(one, other)
            assert folder or one.untyped_storage().nbytes() == one.nbytes
        if negative:
            pairs = zip(parts(ours.negative.queries), parts(theirs.negative.queries), strict=True)
            assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("negative", [False, True])
def test_what_is_told_is_what_is_held(pipe, streams, negative, monkeypatch):  # noqa: F811
    reported, held = [], []
    monkeypatch.setattr(
        "diffusers_rdaam.pipelines.mixin.print_line", lambda text, pipe: reported.append(text)
    )
    begin = QueriesRecord.begin

    def begun(self, *args):
        text = begin(self, *args)
        whole = [buffer for branch in self._buffers.values() for buffer in branch.values()]
        storages = {buffer.untyped_storage().data_ptr(): buffer for buffer in whole}
        held.append(sum(one.untyped_storage().nbytes() for one in storages.values()))
        held.append(self.nbytes)
        return text

    monkeypatch.setattr(QueriesRecord, "begin", begun)
    attribution = run(keeping(pipe, keep_negative=negative)).attribution
    step = held[0]
    assert held == [step, 2 * step] and step == (1 + negative) * attribution.queries.nbytes // 3
    assert reported[-1] == (
        f"Keeping {megabytes(3 * step)} of queries in memory (3 steps of {megabytes(step)}), and a "
        f"buffer of {megabytes(step)} on the denoiser's device and one in memory while it runs."
    )
    pipe.set_attn_processor(RDAAMProcessor(keep_negative=negative))
    spent = pipe.recording_bytes(**SIZE, steps=3)
    run(keeping(pipe, keep_negative=negative, budget=spent + 5 * step))
    with pytest.raises(ValueError, match=r"of 3 steps and the two buffers of one take .* 2 steps"):
        run(keeping(pipe, keep_negative=negative, budget=spent + 5 * step - 1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_cuda_device_copies_without_a_wait():
    buffers = {"a": torch.zeros(2**24, dtype=torch.float16, device="cuda")}
    copy = HostCopy(buffers)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for value in range(1, 4):
            copy.hold_back()
            buffers["a"].fill_(value)
            copy.start(["a"])
            copy.hold_back()
            buffers["a"].fill_(math.nan)
            assert copy.finish()["a"].is_pinned()
            assert bool((copy.finish()["a"] == value).all())
    finally:
        torch.cuda.set_sync_debug_mode("default")
