"""Parts of a batch: a pipeline's, or those that somebody gives for a denoiser of their own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from diffusers_rdaam.errors import InputError, RecordingError
from diffusers_rdaam.families.family import TextColumns
from diffusers_rdaam.families.rows import (
    Branch,
    CountedRowsLayout,
    RowLayout,
    TwoCallLayout,
    as_layout,
    rows_of,
)
from diffusers_rdaam.families.unet import UNetFamily

C, N = Branch.CONDITIONAL, Branch.UNCONDITIONAL
PAIR = ("unconditional", "conditional")


@pytest.mark.parametrize(
    ("parts", "count", "wanted"),
    [
        (("conditional",), 3, {C: (0, 3)}),
        (PAIR, 4, {C: (2, 4), N: (0, 2)}),
        (("conditional", "unconditional"), 4, {C: (0, 2), N: (2, 4)}),
        (("unconditional", "conditional", "perturbed"), 6, {C: (2, 4), N: (0, 2)}),
        (("conditional", "image only", "unconditional"), 3, {C: (0, 1), N: (2, 3)}),
        (
            ("source unconditional", "unconditional", "source", "conditional"),
            4,
            {C: (3, 4), N: (1, 2)},
        ),
        (("unconditional",), 2, {N: (0, 2)}),
        (("perturbed",), 2, None),
        ((), 2, None),
    ],
)
def test_rows_of_parts(parts, count, wanted):
    assert rows_of(parts, count) == wanted


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("perturbed", [True, False])
def test_parts_with_every_guidance_on_and_off(guided, perturbed):
    pipe = SimpleNamespace(do_perturbed_attention_guidance=perturbed)
    layout = RowLayout((*PAIR, "perturbed"), lambda pipe: guided)
    wanted = (*(("unconditional",) if guided else ()), "conditional")
    assert layout.now(pipe) == (*wanted, *(("perturbed",) if perturbed else ()))


def test_guidance_that_stops_is_known_by_the_number_of_rows():
    asked = []

    def guided(pipe, timestep):
        asked.append(timestep)
        return pipe.guides

    both = ("conditional", "unconditional")
    layout = CountedRowsLayout(both, guided)

    def parts_of(layout, rows, guides=True):
        facts = {"states": torch.zeros(rows, 3, 2), "timestep": rows}
        return layout.now(SimpleNamespace(guides=guides), (), facts)

    assert [parts_of(layout, rows) for rows in (4, 4, 2, 2, 4)] == [
        both,
        both,
        both[:1],
        both[:1],
        both,
    ]
    # A pipeline is asked at the first call only, because that may wait for the device.
    assert asked == [4] and not layout.perturbs
    fresh = layout.fresh()
    assert fresh == layout and parts_of(fresh, 2, guides=False) == both[:1]
    assert parts_of(fresh, 2) == both[:1] and asked == [4, 2]


def test_the_second_call_of_a_step_is_known_by_its_timestep():
    layout = TwoCallLayout(RowLayout(PAIR, lambda pipe: True))
    steps = list(torch.tensor([9, 9, 5]))
    told = [layout.now(None, (None, step), {}) for step in steps for _ in range(2)]
    assert told == [PAIR, (), PAIR, (), PAIR, ()]
    assert layout.fresh() is not layout and layout.fresh() == layout
    assert layout.fresh().now(None, (), {"timestep": steps[-1]}) == PAIR


@pytest.mark.parametrize(
    ("layout", "rows"),
    [
        (None, {C: (0, 4)}),
        ("conditional", {C: (0, 4)}),
        (PAIR, {C: (2, 4), N: (0, 2)}),
        (list(PAIR), {C: (2, 4), N: (0, 2)}),
        (lambda args, kwargs: PAIR[:: 1 if args[1] else -1], {C: (2, 4), N: (0, 2)}),
    ],
    ids=["nothing", "name", "tuple", "list", "function"],
)
@pytest.mark.parametrize("names", [True, False])
def test_a_layout_of_ones_own(layout, rows, names):
    sample, text = torch.zeros(4, 4, 8, 12), torch.zeros(4, 77, 32)
    args = (sample, 5) if names else (sample, 5, text)
    kwargs = {"encoder_hidden_states": text} if names else {}
    call = UNetFamily(layout).read_call(None, args, kwargs)
    assert call.branches == rows
    assert call.texts == (TextColumns("text_encoder", 0, 77),)
    assert (call.grid, call.columns, call.timestep, call.frames) == ((8, 12), 77, 5, 1)


def test_frames_join_the_rows():
    given = {"sample": torch.zeros(4, 4, 3, 8, 12), "timestep": 5}
    given["encoder_hidden_states"] = torch.zeros(12, 77, 32)
    call = UNetFamily(PAIR).read_call(None, (), given)
    assert (call.branches, call.frames) == ({C: (6, 12), N: (0, 6)}, 3)
    assert (call.grid, call.images) == ((8, 12), 6)


@pytest.mark.parametrize(
    "layout", [3, ("conditional", 1), ("conditional", "conditional"), lambda args, kwargs: None]
)
def test_what_is_no_layout(layout):
    with pytest.raises(
        InputError, match=r"is not a layout of rows\. Give the names of the equal parts of"
    ):
        as_layout(layout).now(None, (), {})


@pytest.mark.parametrize("missing", ["sample", "timestep", "encoder_hidden_states"])
def test_a_call_without_what_is_recorded(missing):
    given = {"sample": torch.zeros(2, 4, 8, 12), "timestep": 5}
    given["encoder_hidden_states"] = torch.zeros(2, 77, 32)
    del given[missing]
    with pytest.raises(RecordingError, match=f"^The denoiser was called without {missing}, so"):
        UNetFamily().read_call(SimpleNamespace(do_classifier_free_guidance=True), (), given)
