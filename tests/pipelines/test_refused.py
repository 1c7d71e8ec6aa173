"""Pipelines whose rows are not known are refused by name, whatever they inherit from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from diffusers import (
    AnimateDiffPipeline,
    FluxPipeline,
    StableDiffusionPAGPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetUnionPipeline,
    StableDiffusionXLPAGPipeline,
)
from diffusers.pipelines.pag.pag_utils import PAGMixin
from toys import CASES, call, parts_of, toy

from diffusers_rdaam import RDAAMPipelineMixin, StableDiffusionRDAAMPipeline, record_attention
from diffusers_rdaam.errors import NotRecordedWarning, RecordingError, UnsupportedPipelineError
from diffusers_rdaam.recording.families import family_of
from diffusers_rdaam.recording.families.base import stock_class
from diffusers_rdaam.recording.families.layouts import LAYOUTS, PIPELINES

REFUSED = "cannot be recorded: the layout of its denoiser calls is not known, and it is never"


class PAG(RDAAMPipelineMixin, StableDiffusionPAGPipeline):
    pass


class OwnPAG(PAGMixin, StableDiffusionPipeline):
    """Somebody's own class, with a supported one among its parents."""


def pag_parts(name: str) -> dict[str, Any]:
    return parts_of(CASES[name]) | {"pag_applied_layers": "mid"}


def test_a_mixed_class_of_another_layout_names_the_supported_ones():
    pipe = PAG(**pag_parts("StableDiffusion"))
    for attempt in (
        lambda: pipe("a cat"),
        lambda: pipe.set_attn_processor(None),
        lambda: pipe.attn_processors,
    ):
        with pytest.raises(UnsupportedPipelineError) as error:
            attempt()
        assert str(error.value) == (
            f"PAG {REFUSED} guessed. Supported: {', '.join(PIPELINES)} and classes derived from "
            "them."
        )


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (StableDiffusionPAGPipeline, "StableDiffusion"),
        (StableDiffusionXLPAGPipeline, "StableDiffusionXL"),
    ],
)
def test_record_attention_refuses_and_leaves_no_trace(cls, name):
    pipe = cls(**pag_parts(name))
    before = set(pipe.__dict__), dict(pipe.unet.attn_processors)
    wanted = f"^{cls.__name__} {REFUSED}"
    with pytest.raises(UnsupportedPipelineError, match=wanted), record_attention(pipe):
        pass
    assert type(pipe) is cls and (set(pipe.__dict__), dict(pipe.unet.attn_processors)) == before


@pytest.mark.parametrize(
    "cls",
    [
        AnimateDiffPipeline,
        FluxPipeline,
        StableDiffusionXLControlNetUnionPipeline,
        OwnPAG,
        type("Pipe", (), {}),
    ],
    ids=lambda cls: cls.__name__,
)
def test_other_pipelines(cls):
    with pytest.raises(UnsupportedPipelineError, match=f"^{cls.__name__} {REFUSED}"):
        family_of(cls.__new__(cls))


def test_a_class_of_diffusers_between_is_the_one_that_decides():
    """A class of diffusers may inherit from a supported one and call its denoiser otherwise."""
    body = {"__module__": "diffusers.pipelines.some.pipeline_some"}
    between = type("SomePipeline", (StableDiffusionPipeline,), body)
    mine = type("Mine", (RDAAMPipelineMixin, between), {})
    assert stock_class(mine) is between
    for cls in (between, mine):
        with pytest.raises(UnsupportedPipelineError, match=f"^{cls.__name__} {REFUSED}"):
            family_of(cls.__new__(cls))
    assert stock_class(StableDiffusionRDAAMPipeline) is StableDiffusionPipeline
    assert stock_class(int) is None


@pytest.mark.parametrize("name", PIPELINES)
def test_classes_derived_from_supported_ones(name):
    case = CASES[name.removesuffix("Pipeline")]
    derived = type("Mine", (case.stock,), {})
    for cls in (case.stock, case.ours, derived, type("Both", (RDAAMPipelineMixin, derived), {})):
        assert stock_class(cls) is case.stock
        assert family_of(cls.__new__(cls)).layout is LAYOUTS[name]


@pytest.mark.parametrize(
    ("name", "rows", "parts"),
    [
        ("StableDiffusionXL", 3, "unconditional, conditional"),
        ("StableDiffusionInstructPix2Pix", 4, "conditional, image only, unconditional"),
    ],
)
def test_rows_that_the_layout_does_not_divide(name, rows, parts):
    class Guided:
        do_classifier_free_guidance = True

    with pytest.raises(RecordingError) as error:
        LAYOUTS[f"{name}Pipeline"].conditional(Guided(), rows)
    assert str(error.value) == (
        f"The denoiser was called with {rows} rows under classifier-free guidance, where "
        f"[{parts}] were expected. This layout is not known."
    )


def test_guidance_that_was_not_told():
    """Stable Diffusion XL's InstructPix2Pix has no property that says whether it is guided."""
    case = CASES["StableDiffusionXLInstructPix2Pix"]
    stock, ours = toy(case)
    assert not hasattr(stock, "do_classifier_free_guidance")
    layout = LAYOUTS["StableDiffusionXLInstructPix2PixPipeline"]
    for pipe in (stock, ours):
        with pytest.raises(RecordingError) as error:
            layout.conditional(pipe, 3)
        assert str(error.value) == (
            f"{type(pipe).__name__} did not tell encode_prompt whether it uses guidance "
            "(do_classifier_free_guidance=…), so its conditional rows are not known."
        )


@pytest.mark.parametrize("name", [name for name in CASES if name.endswith("Inpaint")])
def test_a_crop_that_is_pasted_back_has_no_attribution(name):
    case = CASES[name]
    stock, ours = toy(case)
    with pytest.warns(NotRecordedWarning, match="With padding_mask_crop the denoiser works on an"):
        output = call(case, ours, padding_mask_crop=8)
    assert output.attributions is None
    wanted = call(case, stock, padding_mask_crop=8).images[0]
    assert output.images[0].tobytes() == wanted.tobytes()


def test_the_table_of_the_documentation_is_the_table_of_the_code():
    text = (Path(__file__).parents[2] / "docs" / "compatibility.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in text.splitlines() if "RDAAMPipeline` |" in line]
    documented = {}
    for stock, ours, parts in rows:
        name = stock.split("`")[1]
        assert ours.strip(" `") == f"{name.removesuffix('Pipeline')}RDAAMPipeline"
        documented[name] = tuple(part.strip(" *") for part in parts.split(":")[-1].split(","))
    assert documented == {name: layout.parts for name, layout in LAYOUTS.items()}
