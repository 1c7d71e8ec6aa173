"""A pipeline is as before after a system, whatever the system leaves behind."""

from __future__ import annotations

import pytest
import torch
from cost_standins import Keeper, tiny_stage
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

from benchmarks.systems.restoring import recorded_by, same_bits
from benchmarks.systems.stage import Stage
from benchmarks.systems.system import Answers


class Careless(Keeper):
    """Changes a class for the whole process, and a processor."""

    def recording(self, stage: Stage):
        stage.sites[1].processor = AttnProcessor()
        AttnProcessor2_0.__call__ = lambda self, attn, hidden_states, *args, **kwargs: hidden_states
        return super().recording(stage)


def test_left_over_patches_attributes_and_hooks_are_put_back_and_named() -> None:
    stage = tiny_stage()
    before = stage.outputs()
    left: list[str] = []
    with recorded_by(Keeper(spoils=True), stage, left):
        assert not same_bits(before, stage.outputs())
    assert same_bits(before, stage.outputs())
    assert "pipeline.stray" in left and not hasattr(stage.pipe, "stray")
    assert any(name.endswith("attn2.forward") for name in left)
    assert "._forward_pre_hooks" in left


def test_a_class_that_was_changed_is_put_back() -> None:
    stage = tiny_stage()
    before, call = stage.outputs(), AttnProcessor2_0.__call__
    left: list[str] = []
    with recorded_by(Careless(), stage, left):
        pass
    assert AttnProcessor2_0.__call__ is call and "AttnProcessor2_0.__call__" in left
    assert same_bits(before, stage.outputs())


def test_put_back_after_an_exception_too() -> None:
    stage = tiny_stage()
    before = stage.outputs()
    with pytest.raises(RuntimeError, match="cannot record"):  # noqa: SIM117
        with recorded_by(Keeper(fails=True, spoils=True), stage):
            stage.call()
    assert same_bits(before, stage.outputs())


def test_a_system_that_tidies_up_leaves_nothing() -> None:
    left: list[str] = []
    with recorded_by(Keeper(), tiny_stage(), left) as answers:
        assert isinstance(answers, Answers)
    assert left == []


def test_same_bits_is_of_bits() -> None:
    zero, negative = torch.zeros(2), -torch.zeros(2)
    nothing = torch.full((2,), torch.nan)
    assert torch.equal(zero, negative) and not same_bits([zero], [negative])
    assert same_bits([nothing], [nothing.clone()])
    assert not same_bits([zero], [zero, zero]) and not same_bits([zero], [zero.double()])
