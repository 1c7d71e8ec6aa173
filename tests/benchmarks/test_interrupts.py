"""The command that interrupts at every line: that it finds what is left, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import interrupts
from benchmarks.host_state import differences, state_of
from benchmarks.scenarios import OURS, SCENARIOS, Scenario
from benchmarks.toy_host import new_host, stock_image


@pytest.fixture(scope="module")
def wanted() -> torch.Tensor:
    return stock_image(new_host())


def _run_of(change: Callable[[Any], object]) -> Scenario:
    """A run of the package after which, as in a careless implementation, something is changed."""

    def run(pipe: Any, _: Any) -> None:
        change(pipe)
        SCENARIOS["query"].run(pipe, _)

    return Scenario(run, OURS, prepare=SCENARIOS["query"].prepare)


_kept: list[Any] = []


def _change_everything(pipe: Any) -> None:
    pipe.unet.register_forward_hook(print)
    pipe.vae.requires_grad_(False)
    pipe.unet.forward = print
    pipe.scheduler.step = print
    pipe.text_encoder.train()
    torch.rand(())
    nn.Module.left = 1
    pipe.left = 1


def test_what_is_left_is_found(wanted: torch.Tensor) -> None:
    line = min(interrupts.lines_of(SCENARIOS["query"]))
    try:
        found = interrupts.interrupt(_run_of(_change_everything), line, wanted)
    finally:
        if hasattr(nn.Module, "left"):
            del nn.Module.left
    (left,) = found.left.values()
    for name in (
        "vae.decoder.conv_in.weight requires_grad (changed)",
        "unet.forward (new)",
        "scheduler.step (new)",
        "text_encoder.training (changed)",
        "global random state (changed)",
        "class Module.left (new)",
        "pipe.left (new)",
    ):
        assert name in left
    assert any(name.startswith("unet._forward_hooks[") for name in left)
    assert found.image and not found.healed


def test_a_denoiser_that_is_held_is_found(wanted: torch.Tensor) -> None:
    scenario = _run_of(lambda pipe: _kept.append(pipe.unet))
    line = min(interrupts.lines_of(SCENARIOS["query"]))
    try:
        assert interrupts.interrupt(scenario, line, wanted).held
    finally:
        _kept.clear()


def test_a_host_that_was_left_alone_has_no_differences() -> None:
    pipe = new_host()
    before = state_of(pipe)
    stock_image(pipe)
    assert differences(before, state_of(pipe)) == []


def test_the_command_prints_each_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    interrupts.main(["--scenario", "query", "--limit", "3"])
    printed = capsys.readouterr().out
    assert "| query | 3 | 0 | 0 | 0 | 0 | 0 |" in printed
    assert "0 of 3 lines left something" in printed


# Where a host is changed, and where that is undone.
NEAR = (
    "compat/session.py",
    "editing/editing.py",
    "open_vocabulary/encode_ids.py",
    "explain/gradients/requirements.py",
    "explain/gradients/gradient.py",
    "explain/gradients/memory.py",
    "open_vocabulary/input_vectors.py",
    "pipelines/record_denoiser.py",
    "pipelines/record_attention.py",
    "pipelines/session.py",
    "recording/armed.py",
    "recording/recorder.py",
    "recording/sites.py",
    "recording/watched_scheduler.py",
)


# Of one pipeline class, of its own loop, of an explanation and of an edit: every time.
SHORT = ("plain", "own_loop", "gradient", "inject_attention")
SAMPLE = [
    pytest.param(number, name, id=name, marks=[pytest.mark.slow] * (name not in SHORT))
    for number, name in enumerate(SCENARIOS)
]


@pytest.mark.every(4)
@pytest.mark.parametrize(("number", "name"), SAMPLE)
def test_a_line_of_the_scenario_leaves_nothing(number: int, name: str) -> None:
    lines = interrupts.lines_of(SCENARIOS[name], again=False)
    near = sorted(line for line in lines if line[0].endswith(NEAR)) or sorted(lines)
    # Another place of each, at its first execution or its last.
    line = near[number * len(near) // len(SCENARIOS)]
    found = interrupts.measure(name, {line: lines[line] if number % 2 else 1})
    assert found.lines == 1
    assert (found.left, found.image, found.held) == ({}, [], [])
