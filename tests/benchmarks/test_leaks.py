"""Mixed runs, some of them broken off, leave nothing; and a leak would be seen."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from benchmarks import leaks
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.toy_host import new_host

NAMES = ("plain", "options", "vocabulary", "query", "record_attention", "own_loop")
NAMES += ("gradient", "ablation", "save_attention", "inject_into_ours")


@pytest.mark.slow
def test_twenty_mixed_runs_leave_nothing() -> None:
    found = leaks.measure(20, NAMES)
    assert [alive.runs for alive in found] == [0, 5, 10, 15, 20]
    assert leaks.constant(found) == []
    assert found[0].tensors > 500 and found[0].hooks == 0


_kept: list[Any] = []


def test_a_leak_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def leak(pipe: Any, _: Any) -> None:
        _kept.append(torch.zeros(1000))
        _kept.append(pipe.unet.register_forward_hook(lambda *given: None))

    monkeypatch.setitem(SCENARIOS, "leak", Scenario(leak))
    try:
        assert leaks.constant(leaks.measure(4, ("leak",))) == ["tensors", "megabytes", "hooks"]
    finally:
        _kept.clear()


def test_what_grows_is_named() -> None:
    one = leaks.count([new_host()], 0)
    assert leaks.constant([one, dataclasses.replace(one, runs=9, resident=1e9)]) == []
    assert leaks.constant([one, dataclasses.replace(one, files=one.files + 1)]) == ["files"]
