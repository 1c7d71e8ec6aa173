"""What keeping costs: reported before the first step, allocated so, refused over the budget."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0

from diffusers_rdaam import (
    RDAAMProcessor,
    RecordingOptions,
    StableDiffusionRDAAMPipeline,
    record_attention,
)
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.kernels import fused, portable
from diffusers_rdaam.recording.buffers.accumulator import AccumulatorShape
from diffusers_rdaam.recording.memory.budget import check_budget, memory_cost, memory_cost_text

TINY = Path(__file__).parents[1] / "data" / "tiny_sd"
SIZE = {"height": 64, "width": 96}
# Cells of a column: one head mean a grid; and by the 10 sites of the grids.
CELLS = 96 + 24 + 6 + 2


@pytest.fixture
def pipe() -> Any:
    return StableDiffusionRDAAMPipeline.from_pretrained(TINY, safety_checker=None)


def run(pipe: Any, steps: int = 2, **kwargs: Any) -> Any:
    generator = torch.Generator().manual_seed(7)
    return pipe("a red cat", num_inference_steps=steps, generator=generator, **SIZE, **kwargs)


def allocated(pipe: Any) -> int:
    """Bytes of the planes that exist."""
    accumulators = [a for f in pipe._rdaam_buffers.text.values() for a in f.accumulators]
    planes = [p for a in accumulators for p in (*a._high.values(), *a._low.values())]
    assert len({plane.data_ptr() for plane in planes}) == len(planes)
    counts = sum(a.counts.nbytes for a in accumulators)
    assert sum(f.nbytes for f in pipe._rdaam_buffers.text.values()) == counts + sum(
        plane.nbytes for plane in planes
    )
    return sum(plane.nbytes for plane in planes)


@pytest.mark.pairs
@pytest.mark.parametrize("keep", [(), "steps", "layers", "heads", ("heads", "layers", "steps")])
@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("precision", ["fp16-pair", "fp16"])
def test_what_is_told_is_what_is_allocated(pipe, keep, negative, precision):
    template = RDAAMProcessor(keep=keep, keep_negative=negative, precision=precision)
    pipe.set_attn_processor(template)
    pipe.set_progress_bar_config(disable=True)
    reported = pipe.recording_bytes(**SIZE, steps=2, images=2)
    run(pipe, num_images_per_prompt=2)
    assert allocated(pipe) == reported
    cells = CELLS if isinstance(keep, str) or not keep else None
    if cells and keep not in ("layers", "heads"):
        factor = (2 if negative else 1) * (2 if keep == "steps" else 1)
        assert reported == 2 * 77 * cells * (4 if precision == "fp16-pair" else 2) * factor


def test_a_pipeline_that_is_switched_off_costs_nothing(pipe):
    pipe.set_attn_processor(AttnProcessor2_0())
    assert pipe.recording_bytes(**SIZE, steps=2) == 0


def test_the_price_is_told_on_a_line_of_its_own_before_the_first_step(pipe, capsys):
    pipe.set_attn_processor(RDAAMProcessor(keep="steps", keep_negative=True))
    text = "Keeping 158 kB (1 image, 2 steps, 2 prompts, 77 columns, 4 bytes a cell)."
    reported: list[str] = []
    handle = pipe.unet.register_forward_pre_hook(
        lambda *_: reported.append(capsys.readouterr().err)
    )
    run(pipe)
    handle.remove()
    # Our hook comes after that one, so it is seen before the second call.
    assert text not in reported[0] and text in re.split(r"[\r\n]", reported[1])
    assert text not in capsys.readouterr().err


def test_it_is_not_told_where_the_bar_is_off_or_nothing_is_kept(pipe, capsys):
    pipe.set_progress_bar_config(disable=True)
    pipe.set_attn_processor(RDAAMProcessor(keep="steps"))
    run(pipe)
    assert capsys.readouterr().err == ""
    pipe.set_progress_bar_config()
    pipe.set_attn_processor(RDAAMProcessor())
    run(pipe)
    assert "Keeping" not in capsys.readouterr().err


def test_an_open_number_of_steps_is_priced_by_the_step(pipe, capsys):
    with record_attention(pipe.unet, RDAAMProcessor(keep="steps"), rows="conditional") as recording:
        text = torch.randn(1, 77, 32)
        for time in (9, 5, 1):
            pipe.unet(torch.randn(1, 4, 8, 12), time, text)
    wanted = "Keeping 39.4 kB for each step (1 image, 77 columns, 4 bytes a cell).\n"
    assert capsys.readouterr().err == wanted
    assert recording.attribution.steps.timesteps == (9.0, 5.0, 1.0)


def test_over_the_budget_no_step_is_spent_and_the_text_has_the_cure(pipe, capsys):
    pipe.set_progress_bar_config(disable=True)
    template = RDAAMProcessor(keep=("steps", "heads"), keep_negative=True, budget=300_000)
    pipe.set_attn_processor(template)
    calls: list[int] = []
    handle = pipe.unet.register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(InputError) as error:
        run(pipe, num_images_per_prompt=2)
    assert not calls
    wanted = pipe.recording_bytes(**SIZE, steps=2, images=2)
    assert str(error.value) == (
        "Keeping 631 kB (2 images, 2 steps, 2 heads, 2 prompts, 77 columns, 4 bytes a cell) is "
        "over the budget of 300 kB. It would be 315 kB without keep='steps', 315 kB without "
        "keep='heads', 315 kB without keep_negative, 315 kB with precision='fp16', 315 kB for one "
        "image at a time. Leave something out, or allow it with "
        f"RDAAMProcessor(budget={wanted}, …)."
    )
    pipe.set_attn_processor(RDAAMProcessor.with_options(replace(template.options, budget=wanted)))
    assert run(pipe, num_images_per_prompt=2).attributions and len(calls) == 2
    handle.remove()
    pipe.set_attn_processor(
        RDAAMProcessor.with_options(replace(template.options, budget=wanted - 1))
    )
    with pytest.raises(InputError, match="is over the budget"):
        run(pipe, num_images_per_prompt=2)


def test_the_budget_is_for_what_is_kept_apart(pipe):
    pipe.set_progress_bar_config(disable=True)
    pipe.set_attn_processor(RDAAMProcessor(budget=1))
    assert run(pipe).attribution.words


SHAPE = AccumulatorShape(
    images=1,
    tokens=77,
    grids=(("a", (64, 64)), ("b", (32, 32))),
    pair=True,
    device=torch.device("cpu"),
)


def shape(**changes: Any) -> AccumulatorShape:
    return replace(SHAPE, **changes)


def test_the_price_by_hand():
    assert memory_cost(RecordingOptions(), SHAPE, 1) == 77 * 5120 * 4
    both = RecordingOptions(keep=AXES, keep_negative=True)
    per_head = shape(heads=(8, 10), layers=True)
    assert memory_cost(both, per_head, 50) == 77 * (4096 * 8 + 1024 * 10) * 4 * 50 * 2
    assert memory_cost_text(both, per_head, 50) == (
        "Keeping 1.32 GB (1 image, 50 steps, 2 layers, 8 to 10 heads, 2 prompts, 77 columns, "
        "4 bytes a cell)."
    )
    with pytest.raises(InputError, match=r"the budget of 537 MB\. It would be 26\.5 MB without"):
        check_budget(both, per_head, 50)


AXES = ("steps", "layers", "heads")


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (1, "20.5 kB"),
        (48, "983 kB"),
        (49, "1 MB"),
        (48_828, "1 GB"),
        (48_800, "999 MB"),
        (50_000_000, "1.02 TB"),
    ],
)
def test_sizes_are_written_with_three_digits(tokens, text):
    assert memory_cost_text(RecordingOptions(), shape(tokens=tokens), 1).startswith(
        f"Keeping {text} ("
    )


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("keep", ["step", None, 3, ["steps", "tokens"], True])
def test_unknown_axes(keep):
    name = keep[1] if isinstance(keep, list) else keep
    with pytest.raises(InputError) as error:
        RDAAMProcessor(keep=keep)
    assert str(error.value) == (
        f"{name!r} cannot be kept separately. Give some of 'steps', 'layers', 'heads', 'squares', "
        "'queries'."
    )


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("budget", [0, -1, 1e9, "1 GB", None, True])
def test_what_is_no_budget(budget):
    with pytest.raises(InputError) as error:
        RDAAMProcessor(budget=budget)
    assert str(error.value) == f"budget= is a whole number of bytes, over 0; got {budget!r}."


def test_axes_are_taken_in_any_order_and_once():
    for keep in (["heads", "steps", "heads"], {"steps", "heads"}, iter(("steps", "heads"))):
        assert RDAAMProcessor(keep=keep).options.keep == ("steps", "heads")
    assert RDAAMProcessor(keep="layers").options.keep == ("layers",)
    assert "keep=('layers',)" in repr(RDAAMProcessor(keep="layers"))


def test_what_trying_kernels_takes_is_told_before(pipe, capsys, monkeypatch):
    pytest.importorskip("triton", reason="Triton is not installed")
    pipe.set_attn_processor(RDAAMProcessor(keep="layers"))
    without = pipe.recording_bytes(**SIZE, steps=2)
    pipe.set_attn_processor(RDAAMProcessor(keep="layers", backend="maps_only"))
    assert pipe.recording_bytes(**SIZE, steps=2) == without + 8 * 2**20
    # Triton's interpreter would take ten seconds.
    monkeypatch.setattr(fused, "accumulate", portable.accumulate)
    run(pipe)
    reported = "To check the kernels, the first call takes up to 8.39 MB more."
    assert reported in capsys.readouterr().err
