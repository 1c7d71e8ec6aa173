"""Every backend in whole runs: the image, the maps, and what is told of the kernel."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from oracle import check, watched
from torch._dynamo.utils import counters

from diffusers_rdaam import RDAAMProcessor, record_attention
from diffusers_rdaam.errors import BackendWarning
from diffusers_rdaam.families.unet import UNetFamily
from diffusers_rdaam.kernels import fused

# Triton's kernels are interpreted here: small images, where every cell is not compared.
SIZE = {"height": 32, "width": 48, "output_type": "np"}
OPTIONS: dict[str, dict[str, Any]] = {
    "means": {},
    "everything": {
        "keep": ("heads", "layers", "queries"),
        "keep_negative": True,
        "self_attention": True,
    },
}


def used(pipe: Any, kind: str = "attn2") -> set[tuple[str, str]]:
    processors = (p for name, p in pipe.unet.attn_processors.items() if kind in name)
    return {(p.used.name, p.used.reason) for p in processors if getattr(p, "used", None)}


@pytest.mark.values
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("backend", ["auto", "portable", "maps_only", "reference"])
def test_the_image_is_the_stock_one_bit_for_bit(make, stock, generate, backend, options):
    wanted = generate(stock, output_type="np")
    pipe = make()
    pipe.set_attn_processor(RDAAMProcessor(backend=backend, **OPTIONS[options]))
    with watched(pipe) as seen:
        output = generate(pipe, output_type="np")
    assert np.array_equal(output.images, wanted.images)
    check(output.attributions, seen)
    taken = "portable" if backend == "auto" else backend
    assert {name for name, _ in used(pipe)} == {taken}


@pytest.mark.parametrize("options", ["means", pytest.param("everything", marks=pytest.mark.slow)])
def test_the_fused_image_differs_by_rounding(make, stock, generate, options):
    wanted = generate(stock, **SIZE)
    results = []
    for backend in ("fused", "reference"):
        pipe = make()
        pipe.set_attn_processor(RDAAMProcessor(backend=backend, **OPTIONS[options]))
        results.append(generate(pipe, **SIZE))
    assert used(pipe) == {("reference", "asked for: float64, materialised")}
    # As far apart as two kernels of the stock attention are in float32.
    assert np.abs(results[0].images - wanted.images).max() < 1e-4
    for ours, theirs in zip(*(r.attribution.grids for r in results), strict=True):
        assert ours.additions == theirs.additions
        torch.testing.assert_close(ours.maps, theirs.maps, rtol=1e-3, atol=1e-5)
    if options == "everything":
        for ours, theirs in zip(*(r.attribution.self_grids for r in results), strict=True):
            torch.testing.assert_close(ours.sums, theirs.sums, rtol=1e-3, atol=1e-4)


def test_the_fused_run_tells_its_kernels(make, generate):
    pipe = make()
    pipe.set_attn_processor(RDAAMProcessor(backend="fused", self_attention=True))
    assert used(pipe) == set()
    generate(pipe, **SIZE)
    assert used(pipe) == {("fused", "asked for on cpu")}
    reason = "self-attention has more columns than one pass holds"
    assert used(pipe, "attn1") == {("maps_only", reason)}
    assert "used fused: asked for on cpu" in repr(UNetFamily().sites(pipe.unet)[0].processor)


def test_other_processors_record_beside_themselves(make, generate):
    pipe = make()
    pipe.enable_attention_slicing(1)
    pipe.set_attn_processor(RDAAMProcessor(backend="fused"))
    pipe.enable_attention_slicing(1)
    output = generate(pipe, **SIZE)
    assert output.attribution.grids
    assert used(pipe) == {("maps_only", "SlicedAttnProcessor computes its attention itself")}


@pytest.mark.parametrize("backend", ["fused", "maps_only"])
def test_where_it_cannot_run_a_warning_comes_first_and_the_maps_after_it(
    monkeypatch, make, stock, generate, backend
):
    monkeypatch.setattr(fused, "unavailable", lambda device: "Triton is not installed")
    wanted = generate(stock, output_type="np")
    pipe = make()
    pipe.set_attn_processor(RDAAMProcessor(backend=backend))
    steps: list[int] = []
    handle = pipe.unet.register_forward_hook(lambda *given: steps.append(1))
    with warnings.catch_warnings(), pytest.raises(BackendWarning):
        warnings.simplefilter("error")
        generate(pipe, output_type="np")
    assert steps == []
    handle.remove()
    with pytest.warns(BackendWarning) as caught, watched(pipe) as seen:
        output = generate(pipe, output_type="np")
    assert [str(warning.message) for warning in caught] == [
        f"{backend!r} cannot run on cpu: Triton is not installed. The portable kernel records the "
        "same maps in its place. For no warning ask for backend='auto'."
    ]
    assert np.array_equal(output.images, wanted.images)
    check(output.attributions, seen)
    assert used(pipe) == {("portable", f"{backend!r} cannot run on cpu: Triton is not installed")}


@pytest.mark.slow
def test_compiled_in_one_graph_for_all_steps(make, stock, generate):
    """With the fused kernel at the text, and the one beside the attention at self-attention."""
    wanted = generate(stock, **SIZE)
    eager, ours = make(), make()
    for pipe in (eager, ours):
        pipe.set_attn_processor(RDAAMProcessor(backend="fused", self_attention=True))
    kept = generate(eager, **SIZE).attribution
    torch.compiler.reset()
    counters.clear()
    ours.unet.compile(fullgraph=True, backend="aot_eager")
    output = generate(ours, **SIZE)
    with torch.compiler.set_stance("fail_on_recompile"):
        longer = generate(ours, **SIZE, num_inference_steps=3)
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]
    torch.compiler.reset()
    assert not np.array_equal(output.images, wanted.images), "the stock attention was compiled"
    assert np.abs(output.images - wanted.images).max() < 1e-4
    for one, other in zip(output.attribution.grids, kept.grids, strict=True):
        torch.testing.assert_close(one.maps, other.maps, rtol=1e-4, atol=1e-6)
        assert one.additions == other.additions
    sums = (output.attribution.self_grids[0].sums, kept.self_grids[0].sums)
    torch.testing.assert_close(*sums, rtol=1e-3, atol=1e-5)
    assert longer.attribution.grids[0].additions == 1.5 * kept.grids[0].additions


def test_any_pipeline_in_a_block(stock, generate):
    with record_attention(stock, RDAAMProcessor(backend="fused")) as recording:
        generate(stock, **SIZE)
        assert used(stock) == {("fused", "asked for on cpu")}
    assert recording.attribution.grids
