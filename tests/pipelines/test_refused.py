"""Pipelines whose rows are not known are refused by name, whatever they inherit from."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import diffusers
import pytest
from diffusers import (
    StableDiffusionPanoramaPipeline,
    StableDiffusionPipeline,
    StableVideoDiffusionPipeline,
)
from diffusers.pipelines.pag.pag_utils import PAGMixin
from toys import ALL_CASES, CASES, call, parts_of, toy

import diffusers_rdaam
from benchmarks.write_compatibility import DOCS, TABLES, page_of, transformer_table, written
from diffusers_rdaam import RDAAMPipelineMixin, StableDiffusionRDAAMPipeline, record_attention
from diffusers_rdaam.errors import NotRecordedWarning, RecordingError, UnsupportedPipelineError
from diffusers_rdaam.families import family_of
from diffusers_rdaam.families.layouts import LAYOUTS, PIPELINES
from diffusers_rdaam.families.refused import REFUSED as REASONS
from diffusers_rdaam.families.registry import RECORDED, stock_class, unsupported
from diffusers_rdaam.families.rows import rows_of

# Of diffusers 0.42, classes whose call has a prompt.
COUNTED = {"recorded": 177, "refused": 101}
REFUSED = "cannot be recorded: the layout of its denoiser calls is not known, and it is never"


class OwnPAG(PAGMixin, StableDiffusionPipeline):
    """Somebody's own class, with a supported one among its parents."""


class Mine(RDAAMPipelineMixin, OwnPAG):
    pass


def test_a_mixed_class_of_another_layout_names_the_supported_ones():
    pipe = Mine(**parts_of(CASES["StableDiffusion"]))
    for attempt in (
        lambda: pipe("a cat"),
        lambda: pipe.set_attn_processor(None),
        lambda: pipe.attn_processors,
    ):
        with pytest.raises(UnsupportedPipelineError) as error:
            attempt()
        text = str(error.value)
        assert text.startswith(f"Mine {REFUSED} guessed. Supported: Stable Diffusion, FLUX and")
        assert f"{len(RECORDED)} classes of diffusers" in text and len(text) < 400


@pytest.mark.parametrize("name", ["FluxxPipeline", "str", "x" * 10_000])
def test_a_refusal_is_short_and_names_what_is_near(name):
    text = str(unsupported(name))
    assert len(text) < 500 + len(name)
    assert ("Nearest: " in text) == (name == "FluxxPipeline")


@pytest.mark.parametrize(
    ("cls", "wanted"),
    [
        (OwnPAG, f"^OwnPAG {REFUSED}"),
        (
            StableDiffusionPanoramaPipeline,
            "^StableDiffusionPanoramaPipeline cannot be recorded: it denoises overlapping tiles",
        ),
    ],
)
def test_record_attention_refuses_and_leaves_no_trace(cls, wanted):
    pipe = cls(**parts_of(CASES["StableDiffusion"]))
    before = set(pipe.__dict__), dict(pipe.unet.attn_processors)
    with pytest.raises(UnsupportedPipelineError, match=wanted), record_attention(pipe):
        pass
    assert type(pipe) is cls and (set(pipe.__dict__), dict(pipe.unet.attn_processors)) == before


@pytest.mark.parametrize(
    "cls",
    [
        type("NewPipeline", (), {"__module__": "diffusers.pipelines.new"}),
        OwnPAG,
        type("Pipe", (), {}),
    ],
    ids=lambda cls: cls.__name__,
)
def test_other_pipelines(cls):
    with pytest.raises(UnsupportedPipelineError, match=f"^{cls.__name__} {REFUSED}"):
        family_of(cls.__new__(cls))


def test_pipelines_that_are_known_not_to_work_are_refused_with_the_reason():
    assert not REASONS.keys() & LAYOUTS.keys()
    own = type("Own", (StableVideoDiffusionPipeline,), {})
    for cls in (StableVideoDiffusionPipeline, own):
        with pytest.raises(UnsupportedPipelineError) as error:
            family_of(cls.__new__(cls))
        assert str(error.value) == (
            f"{cls.__name__} cannot be recorded: its denoiser attends to no prompt of the user's."
        )
    for name in REASONS:
        stock = type(name, (), {"__module__": "diffusers.pipelines.some"})
        with pytest.raises(UnsupportedPipelineError, match=f"^{name} cannot be recorded: [a-zS]"):
            family_of(stock())


def classes_with_a_prompt() -> set[str]:
    """Every pipeline class of diffusers whose call has an argument with a prompt."""
    found = set()
    for path in (Path(diffusers.__file__).parent / "pipelines").rglob("pipeline_*.py"):
        if "onnx" in path.name:
            continue
        for one in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(one, ast.ClassDef) and "Pipeline" in one.name:
                calls = [m for m in one.body if getattr(m, "name", "") == "__call__"]
                names = [a.arg for call in calls for a in call.args.args]
                if any("prompt" in name for name in names):
                    found.add(one.name)
    return found


def test_every_pipeline_of_diffusers_with_a_prompt_is_in_a_table():
    """A new one in diffusers has to be looked at, and then supported or refused by name."""
    found = classes_with_a_prompt()
    known = set(RECORDED) | REASONS.keys()
    assert not found - known
    # Both are counted, so that a class does not vanish from the tables unseen.
    counted = {"recorded": len(found & set(RECORDED)), "refused": len(found & REASONS.keys())}
    assert counted == COUNTED
    assert not set(RECORDED) & REASONS.keys()


def test_what_a_reason_recommends_is_recorded():
    for name, reason in REASONS.items():
        named = set(re.findall(r"\b[A-Z]\w+Pipeline\b", reason))
        assert named <= set(RECORDED), name
        # A reader cannot follow advice without a name.
        assert "record th" not in reason, name


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


# Latent diffusion's toy has BERT's tokenizer, and is among the transformers'.
OF_UNETS = [name for name in PIPELINES if name != "LDMTextToImagePipeline"]


@pytest.mark.parametrize("name", OF_UNETS)
def test_classes_derived_from_supported_ones(name):
    case = ALL_CASES[name.removesuffix("Pipeline")]
    derived = type("Mine", (case.stock,), {})
    for cls in (case.stock, case.ours, derived, type("Both", (RDAAMPipelineMixin, derived), {})):
        assert stock_class(cls) is case.stock
        assert family_of(cls.__new__(cls)).layout == LAYOUTS[name]


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
        rows_of(LAYOUTS[f"{name}Pipeline"].now(Guided()), rows)
    assert str(error.value) == (
        f"The denoiser was called with {rows} rows, where [{parts}] were expected with the "
        "guidance of this call. This layout is not known."
    )


def test_guidance_that_was_not_told():
    """Stable Diffusion XL's InstructPix2Pix has no property that says whether it is guided."""
    case = CASES["StableDiffusionXLInstructPix2Pix"]
    stock, ours = toy(case)
    assert not hasattr(stock, "do_classifier_free_guidance")
    layout = LAYOUTS["StableDiffusionXLInstructPix2PixPipeline"]
    for pipe in (stock, ours):
        with pytest.raises(RecordingError) as error:
            layout.now(pipe)
        assert str(error.value) == (
            f"{type(pipe).__name__} did not give encode_prompt the argument "
            "do_classifier_free_guidance=, so its conditional rows are not known. Say which rows "
            "are the prompt's with record_attention(pipe, rows=…, prompt=…)."
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


def test_the_tables_of_the_documentation_are_those_of_the_code():
    for name in TABLES:
        page = page_of(name).read_text(encoding="utf-8")
        assert written(name) == page, "run python -m benchmarks.write_compatibility"
    text = (DOCS / "compatibility.md").read_text(encoding="utf-8")
    documented = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 3 and cells[0].startswith("`"):
            name = cells[0].split("`")[1]
            ours = f"`{name.removesuffix('Pipeline')}RDAAMPipeline`"
            assert cells[1] == (ours if hasattr(diffusers_rdaam, ours.strip("`")) else "")
            assert cells[2].count("**") == 2
            parts = cells[2].split(":")[-1].replace("*", "").split(",")
            documented[name] = tuple(part.strip() for part in parts)
    assert documented == {name: layout.parts for name, layout in LAYOUTS.items()}
    for line in transformer_table().splitlines()[2:]:
        name = line.split("`")[3]
        assert hasattr(diffusers_rdaam, name), name
