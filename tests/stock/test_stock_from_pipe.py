"""``from_pipe`` between our classes and the stock ones, both ways and across tasks."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from alike import alike, failure, same
from diffusers import (
    AutoPipelineForImage2Image,
    AutoPipelineForText2Image,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from toys import ALL_CASES, CASES, Case, build, call, parts_of

ALL = [pytest.param(case, id=name) for name, case in CASES.items()]


CONVERTED = "that should be kept in float32"


def first_of(case: Case) -> Case:
    """Text to image on the same modules, the configuration of its UNet included."""
    name = "StableDiffusionXL" if case.xl else "StableDiffusion"
    return Case(name, CASES[name].call, case.unet)


def bases(case: Case) -> tuple[Any, Any, dict[str, Any]]:
    """A stock text-to-image pipeline, ours on the same modules, and what the case needs beside."""
    parts = parts_of(case)
    beside = {name: parts.pop(name) for name in ("controlnet",) if name in parts}
    first = first_of(case)
    stock = first.stock(**parts)
    ours = first.ours(**parts)
    for pipe in (stock, ours):
        pipe.register_to_config(_name_or_path="somewhere/else")
        pipe.set_progress_bar_config(disable=True)
    return stock, ours, beside


def facts(pipe: Any) -> Any:
    """Of a pipeline: its configuration, which objects are its parts, and their types."""
    modules = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    dtypes = [[tensor.dtype for tensor in module.state_dict().values()] for module in modules]
    return dict(pipe.config), {name: id(it) for name, it in pipe.components.items()}, dtypes


@pytest.mark.parametrize("case", ALL)
def test_from_text_to_image(case):
    stock, ours, beside = bases(case)
    wanted = facts(case.stock.from_pipe(stock, **beside))
    for base in (stock, ours):
        for cls in (case.stock, case.ours):
            classes = case.stock, cls
            # Ours converts nothing, so it has nothing to say of that.
            but = CONVERTED if cls is case.ours else None
            pipe = alike(classes, lambda it, base=base: _facts(it, base, beside), but=but).result
            assert pipe == wanted
    pipe = case.ours.from_pipe(ours, **beside)
    pipe.set_progress_bar_config(disable=True)
    assert type(pipe) is case.ours and pipe.unet is stock.unet
    assert pipe.name_or_path == "somewhere/else"
    assert len(call(case, pipe).attributions) == 1


def _facts(cls: Any, base: Any, beside: dict[str, Any]) -> Any:
    return facts(cls.from_pipe(base, **beside))


@pytest.mark.parametrize("case", ALL[::2])
def test_there_and_back(case):
    """What the next class does not know of its configuration is kept for the one after."""
    stock, _, beside = bases(case)
    first = first_of(case)
    before = facts(stock)
    for there, back in (
        (case.ours, first.ours),
        (case.ours, first.stock),
        (case.stock, first.ours),
    ):
        returned = back.from_pipe(there.from_pipe(stock, **beside))
        wanted = first.stock.from_pipe(case.stock.from_pipe(stock, **beside))
        assert type(returned) is back
        assert facts(returned) == facts(wanted)
        assert facts(returned)[1:] == before[1:]
    assert facts(stock) == before


@pytest.mark.parametrize("case", [it for it in ALL if "XL" not in it.id])
def test_the_configuration_goes_along(case):
    parts = parts_of(case) | {"requires_safety_checker": True}
    beside = {name: parts.pop(name) for name in ("controlnet",) if name in parts}
    stock, ours = (cls(**parts) for cls in (first_of(case).stock, first_of(case).ours))

    def treat(pipe: Any) -> Any:
        cls = case.ours if pipe is ours else case.stock
        kept = cls.from_pipe(pipe, **beside)
        told = cls.from_pipe(pipe, **beside, requires_safety_checker=False)
        return [dict(it.config) for it in (kept, told)]

    kept, told = alike((stock, ours), treat, but=CONVERTED).result
    # One stock class takes it without keeping it.
    name = "requires_safety_checker"
    assert case.name == "LatentConsistencyModelImg2Img" or (kept[name], told[name]) == (True, False)


HALF = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("case", ALL[::3])
def test_a_type_asked_for(case, dtype):
    def treat(cls: Any, name: str) -> Any:
        stock, _, beside = bases(case)
        pipe = cls.from_pipe(stock, **beside, **{name: dtype})
        return pipe.dtype, [part.dtype for part in facts_modules(pipe)]

    for name in ("dtype", "torch_dtype"):
        found = alike((case.stock, case.ours), lambda cls, name=name: treat(cls, name)).result
        assert found[0] == dtype


def facts_modules(pipe: Any) -> list[Any]:
    return [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]


@pytest.mark.parametrize("case", ALL[::4])
def test_types_within_a_module_are_untouched(case):
    """As an upcast of a part of the VAE leaves them; the stock class would make all float32."""
    parts = parts_of(case)
    beside = {name: parts.pop(name) for name in ("controlnet",) if name in parts}
    stock = build(first_of(case).stock, parts)
    stock.unet.to(torch.float16).conv_in.to(torch.float64)
    before = [
        (name, tensor.dtype, tensor.data_ptr(), tensor.clone())
        for name, tensor in stock.unet.state_dict().items()
    ]
    pipe = case.ours.from_pipe(stock, **beside)
    for name, dtype, address, tensor in before:
        now = pipe.unet.state_dict()[name]
        assert (now.dtype, now.data_ptr()) == (dtype, address)
        assert torch.equal(now, tensor)


@pytest.mark.parametrize("given", [{}, {"unet": None}, {"controlnet": None}], ids=str)
def test_parts_that_are_missing(given):
    case = CASES["StableDiffusionControlNet"]
    stock, _, _ = bases(case)
    error = failure(lambda: case.stock.from_pipe(stock, **given))
    assert (error is None) == ("controlnet" in given)

    def treat(cls: Any) -> Any:
        return facts(cls.from_pipe(stock, **given))

    alike((case.stock, case.ours), treat, error=error, but=CONVERTED)


def test_the_auto_classes_of_diffusers():
    """They know classes by name: ours they take as a class to choose, not as one to come from."""
    for case in (CASES["StableDiffusion"], CASES["StableDiffusionXL"]):
        stock, ours, _ = bases(case)
        again = AutoPipelineForImage2Image.from_pipe(case.stock.from_pipe(ours))
        assert type(again) is CASES[f"{case.name}Img2Img"].stock and again.unet is stock.unet
        with pytest.raises(ValueError, match=f"can't find a pipeline linked to {case.name}RDAAM"):
            AutoPipelineForText2Image.from_pipe(ours)


@pytest.mark.parametrize("cls", [StableDiffusionPipeline, StableDiffusionXLPipeline])
def test_images_of_pipelines_that_share_modules(cls):
    case = next(case for case in CASES.values() if case.stock is cls)
    stock, ours, _ = bases(case)
    one = call(case, stock)
    other = case.stock.from_pipe(ours)
    other.set_progress_bar_config(disable=True)
    same(call(case, ours), one)
    same(call(case, other), one)
    same(call(case, stock), one)


def own(part: Any) -> Any:
    """A copy that no other test converts."""
    return copy.deepcopy(part).float() if isinstance(part, torch.nn.Module) else part


def defaults(pipe: Any) -> None:
    """What diffusers does to every part before it compares, and between two runs."""
    for part in pipe.components.values():
        if hasattr(part, "set_default_attn_processor"):
            part.set_default_attn_processor()


# What a class takes that its text-to-image class does not.
BESIDE = ("adapter", "pag_applied_layers")
CONSISTENT = ["StableDiffusion", "StableDiffusionXL", "StableDiffusionPAG", "StableDiffusionXLPAG"]
CONSISTENT += ["StableDiffusionAdapter", "StableDiffusionXLAdapter"]


@pytest.mark.parametrize("name", CONSISTENT)
def test_consistent_forward_pass(name):
    """diffusers' own test of ``from_pipe``: there and back, with default processors each time."""
    case = ALL_CASES[name]
    first = first_of(case)
    stock = first.stock(**{name: own(part) for name, part in parts_of(first).items()})
    stock.set_progress_bar_config(disable=True)
    beside = {name: own(part) for name, part in parts_of(case).items() if name in BESIDE}
    parts = (
        parts_of(case)
        | beside
        | {name: part for name, part in stock.components.items() if name in parts_of(case)}
    )
    defaults(stock)
    plain = call(first, stock, output_type="latent").images
    ours = case.ours.from_pipe(stock, **beside)
    ours.set_progress_bar_config(disable=True)
    defaults(ours)
    wanted = call(case, case.stock(**parts), output_type="latent").images
    if "adapter" in beside:
        assert ours.adapter is beside["adapter"]
    assert (call(case, ours, output_type="latent").images == wanted).all()
    assert len(ours.attributions) == 1
    defaults(ours)
    assert (call(case, ours, output_type="latent").images == wanted).all()
    defaults(stock)
    assert (call(first, stock, output_type="latent").images == plain).all()
    back = first.ours.from_pipe(ours)
    back.set_progress_bar_config(disable=True)
    assert (call(first, back, output_type="latent").images == plain).all()
