"""Bytes that are kept, and the most that are there at once, on allocations that are known."""

from __future__ import annotations

import torch
from cost_standins import KEPT, Keeper, tiny_stage
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.systems.memory_use import live_bytes, older_objects_left_out, peak_bytes
from benchmarks.systems.restoring import recorded_by

CPU = torch.device("cpu")
MEGABYTE = 2**20


def _bytes(number: int) -> torch.Tensor:
    return torch.empty(number * MEGABYTE, dtype=torch.uint8)


def test_the_peak_is_the_most_at_once_not_the_sum() -> None:
    def call() -> None:
        first = _bytes(3)
        second = _bytes(4)
        del first
        third = _bytes(2)
        del second, third
        _bytes(5)

    assert peak_bytes(call, CPU) == 7 * MEGABYTE


def test_the_peak_includes_what_an_operation_allocates_inside() -> None:
    values = torch.ones(MEGABYTE)

    def call() -> None:
        # A copy in double for the sum that is gone when the sum is there.
        values.double().sum()

    assert 8 * MEGABYTE <= peak_bytes(call, CPU) < 8 * MEGABYTE + 1000


def test_what_was_there_before_does_not_count() -> None:
    before = _bytes(6)
    holder = [before]
    del before

    def call() -> None:
        holder.clear()
        _bytes(1)

    assert peak_bytes(call, CPU) == MEGABYTE


def test_nothing_allocated_is_no_peak() -> None:
    assert peak_bytes(lambda: None, CPU) == 0


def test_a_view_keeps_all_of_its_storage_and_counts_once() -> None:
    before = live_bytes()
    views = [part for whole in [_bytes(2)] for part in (whole[:10], whole[10:20])]
    assert live_bytes() - before == 2 * MEGABYTE
    del views
    assert live_bytes() == before


def test_a_new_view_of_older_memory_adds_nothing() -> None:
    text = _bytes(2)
    with older_objects_left_out() as older:
        before = live_bytes(older)
        view = text[:10]
        assert live_bytes(older) == before
        copy = text[:10].clone()
        assert live_bytes(older) - before == 10
    del view, copy


def test_tensors_without_memory_do_not_count() -> None:
    before = live_bytes()
    meta = torch.empty(MEGABYTE, device="meta")
    # As torch.compile leaves them, plain ones and parameters, which warn of their address.
    mode = FakeTensorMode()
    fake = mode.from_tensor(torch.ones(3))
    weight = torch.nn.Parameter(mode.from_tensor(torch.ones(4)))
    with older_objects_left_out():
        assert live_bytes() == 0
    assert live_bytes() == before
    del meta, fake, weight


def test_a_system_that_keeps_tensors_keeps_their_bytes() -> None:
    stage = tiny_stage()
    keeper = Keeper()
    stage.call()
    before = live_bytes()
    with recorded_by(keeper, stage):
        for step in range(3):
            stage.call(step)
        assert live_bytes() - before == 3 * 2 * KEPT
    assert live_bytes() == before


def test_states_that_a_hook_keeps_are_new_at_every_call() -> None:
    stage = tiny_stage()
    kept: list[torch.Tensor] = []
    handle = stage.sites[0].register_forward_pre_hook(lambda module, args: kept.append(args[0][0]))
    before = live_bytes()
    stage.call()
    stage.call()
    handle.remove()
    # A view of one row keeps both.
    assert live_bytes() - before == 2 * 2 * kept[0].nbytes
