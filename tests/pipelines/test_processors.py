"""``pipe.set_attn_processor`` and what happens when others replace our processors."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import (
    AttnProcessor,
    AttnProcessor2_0,
    FusedAttnProcessor2_0,
    IPAdapterAttnProcessor2_0,
    SlicedAttnProcessor,
)

from diffusers_rdaam import RDAAMProcessor
from diffusers_rdaam.errors import (
    InputError,
    NoAttributionError,
    NotRecordedWarning,
    ProcessorError,
)

FIRST = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"


def pixels(output: Any) -> np.ndarray:
    return np.asarray(output.images[0])


def same_maps(one: Any, other: Any) -> bool:
    return all(torch.equal(a.maps, b.maps) for a, b in zip(one.grids, other.grids, strict=True))


def close_maps(one: Any, other: Any) -> None:
    """Nearly equal: another kernel rounds the image's way to the queries otherwise."""
    for a, b in zip(one.grids, other.grids, strict=True):
        assert a.additions == b.additions
        torch.testing.assert_close(a.maps, b.maps, rtol=0, atol=1e-4)


def test_a_new_pipeline_records(ours, generate, all_ours):
    before = ours.attn_processors
    assert len(before) == 20
    assert generate(ours).attribution.words
    after = ours.attn_processors
    assert all(after[name] is before[name] for name in before), "on the denoiser for a call only"
    ours.unet.set_default_attn_processor()


def test_what_is_put_on_for_a_call_is_the_same_each_time(ours, generate, sites_of):
    """Other objects would make a compiled denoiser compile again."""
    seen: list[list[Any]] = []

    def look(pipe: Any, step: int, timestep: Any, tensors: Any) -> Any:
        seen.append([site.processor for site in sites_of(pipe)])
        return tensors

    for _ in range(2):
        generate(ours, callback_on_step_end=look)
    first, *others = seen
    assert all(isinstance(processor, RDAAMProcessor) for processor in first)
    assert all(a is b for other in others for a, b in zip(first, other, strict=True))


def test_what_a_user_has_set_stays(ours, generate, all_ours):
    ours.set_attn_processor(RDAAMProcessor())
    assert all_ours(ours)
    before = ours.attn_processors
    generate(ours)
    after = ours.attn_processors
    assert all_ours(ours) and all(after[name] is before[name] for name in before)


def test_the_class_in_place_of_an_object_is_refused(ours, generate):
    with pytest.raises(InputError, match=r"Give an object of it: pipe\.set_attn_processor\(RDAAMP"):
        ours.set_attn_processor(RDAAMProcessor)
    assert generate(ours).attribution.words


def test_options_that_were_set_on_the_denoiser_are_taken(ours, generate):
    ours.unet.set_attn_processor(RDAAMProcessor(keep="steps"))
    assert len(generate(ours).attribution.steps) == 2
    processors = {name: RDAAMProcessor() for name in ours.unet.attn_processors}
    processors[f"{FIRST}.processor"] = RDAAMProcessor(keep_negative=True)
    ours.unet.set_attn_processor(processors)
    with pytest.raises(InputError, match="RDAAMProcessors with different options"):
        generate(ours)


def test_the_template_reaches_every_site_and_nothing_else(ours, generate, sites_of, all_ours):
    before = dict(ours.unet.attn_processors)
    ours.set_attn_processor(RDAAMProcessor(precision="fp16", backend="reference"))
    assert all_ours(ours)
    for site in sites_of(ours):
        assert (site.processor.options.precision, site.processor.options.backend) == (
            "fp16",
            "reference",
        )
    after = ours.attn_processors
    assert all(after[name] is before[name] for name in after if "attn1" in name)
    pair = 2 * 77 * (96 + 24 + 6 + 2) * 2
    generate(ours)
    assert ours._rdaam_buffers.text["conditional"].nbytes == pair // 2 + 10 * 4
    ours.set_attn_processor(RDAAMProcessor())
    generate(ours)
    assert ours._rdaam_buffers.text["conditional"].nbytes == pair + 10 * 4


def test_the_template_may_be_set_before_the_first_run(ours, generate):
    ours.set_attn_processor(RDAAMProcessor(backend="reference"))
    generate(ours)
    assert {p.options.backend for n, p in ours.attn_processors.items() if "attn2" in n} == {
        "reference"
    }


def test_off_and_on_again(ours, generate, stock):
    first = generate(ours)
    ours.set_attn_processor(AttnProcessor2_0())
    off = generate(ours)
    assert np.array_equal(pixels(off), pixels(generate(stock)))
    assert off.attributions is None
    wanted = (
        "Recording is switched off: set_attn_processor was given a stock processor. Call "
        "pipe.set_attn_processor(RDAAMProcessor()) and generate again."
    )
    for attempt in (
        lambda: off.attribution,
        lambda: ours.attribution,
        lambda: ours.attributions,
    ):
        with pytest.raises(NoAttributionError) as error:
            attempt()
        assert str(error.value) == wanted
    assert not any(isinstance(p, RDAAMProcessor) for p in ours.attn_processors.values())
    ours.set_attn_processor(RDAAMProcessor())
    assert same_maps(generate(ours).attribution, first.attribution)
    assert first.attribution.words, "an earlier output keeps its attribution"


def test_processors_as_a_dictionary(ours, generate, all_ours):
    ours.set_attn_processor(RDAAMProcessor())
    first = generate(ours)
    processors = ours.attn_processors
    kept = dict(processors)
    ours.set_attn_processor(AttnProcessor2_0())
    ours.set_attn_processor(processors)
    assert processors == kept, "the dictionary is still the caller's"
    assert all_ours(ours)
    assert same_maps(generate(ours).attribution, first.attribution)


def test_a_dictionary_of_stock_processors_switches_off(ours, generate):
    ours.set_attn_processor({name: AttnProcessor2_0() for name in ours.attn_processors})
    with pytest.raises(NoAttributionError, match=r"^Recording is switched off"):
        _ = generate(ours).attribution


def test_a_dictionary_of_unbound_processors_is_bound(ours, generate, all_ours, stock):
    own = {name: RDAAMProcessor(precision="fp16") for name in ours.attn_processors}
    ours.set_attn_processor(own)
    output = generate(ours)
    assert output.attribution.words
    assert ours._rdaam_buffers.text["conditional"].shape.pair is False
    assert np.array_equal(pixels(output), pixels(generate(stock)))


def test_a_dictionary_of_another_pipeline_is_not_shared(make, generate, sites_of):
    one, other = make(), make()
    one.set_attn_processor(RDAAMProcessor())
    other.set_attn_processor(one.attn_processors)
    for a, b in zip(sites_of(one), sites_of(other), strict=True):
        assert a.processor is not b.processor and a.processor.site == b.processor.site
    assert same_maps(generate(one).attribution, generate(other).attribution)


def test_a_dictionary_of_the_wrong_length_is_refused_by_diffusers(ours, generate):
    with pytest.raises(ValueError, match="does not match the number of attention layers"):
        ours.set_attn_processor({FIRST: RDAAMProcessor()})
    assert generate(ours).attribution.words


def put_back(count: int) -> str:
    return (
        f"{count} attention modules (the first is {FIRST}) had lost their RDAAMProcessor to a "
        "stock one since it was set; it was put back. To switch recording off, use "
        "pipe.set_attn_processor(AttnProcessor2_0())."
    )


def test_stock_processors_set_behind_our_back_are_replaced_with_a_warning(ours, generate, all_ours):
    ours.set_attn_processor(RDAAMProcessor())
    first = generate(ours)
    ours.unet.set_attn_processor(AttnProcessor2_0())
    with pytest.warns(NotRecordedWarning) as caught:
        again = ours("a red cat near a house", 64, 96, 2, generator=torch.manual_seed(7))
    assert [str(w.message) for w in caught] == [put_back(10)]
    assert caught[0].filename == __file__, "the warning points at the caller"
    assert np.array_equal(pixels(again), pixels(first))
    assert same_maps(again.attribution, first.attribution)
    assert all_ours(ours)
    generate(ours)


def test_asking_for_the_processors_changes_nothing(ours, generate):
    ours.set_attn_processor(RDAAMProcessor())
    generate(ours)
    ours.unet.set_attn_processor(AttnProcessor2_0())
    assert not any(isinstance(p, RDAAMProcessor) for p in ours.attn_processors.values())
    with pytest.warns(NotRecordedWarning, match="it was put back"):
        generate(ours)


def test_before_the_first_run_stock_processors_are_no_loss(ours, generate):
    ours.unet.set_attn_processor(AttnProcessor2_0())
    assert generate(ours).attribution.words


def not_recorded(processor: str) -> str:
    return (
        f"A processor was replaced: 10 attention modules (the first is {FIRST}) have the processor "
        f"{processor}, and it is not known with which queries and keys it attends. To record, set "
        "stock processors (AttnProcessor2_0), then pipe.set_attn_processor(RDAAMProcessor())."
    )


def check_not_recorded(ours: Any, generate: Any, why: str, **kwargs: Any) -> Any:
    with pytest.warns(NotRecordedWarning) as caught:
        output = ours("a red cat near a house", 64, 96, 2, generator=torch.manual_seed(7), **kwargs)
    ours_only = [w for w in caught if issubclass(w.category, NotRecordedWarning)]
    assert [str(w.message) for w in ours_only] == [f"This run is not recorded. {why}"]
    assert ours_only[0].filename == __file__
    assert output.attributions is None
    for attempt in (lambda: output.attribution, lambda: ours.attribution):
        with pytest.raises(NoAttributionError) as error:
            attempt()
        assert str(error.value) == why
    return output


def test_attention_slicing_and_back(ours, stock, generate, all_ours):
    ours.set_attn_processor(RDAAMProcessor())
    first = generate(ours)
    for pipe in (ours, stock):
        pipe.enable_attention_slicing(1)
    assert all(isinstance(p, SlicedAttnProcessor) for p in ours.attn_processors.values())
    sliced = generate(ours)
    assert np.array_equal(pixels(sliced), pixels(generate(stock)))
    close_maps(sliced.attribution, first.attribution)
    ours.disable_attention_slicing()
    assert all_ours(ours)
    assert same_maps(generate(ours).attribution, first.attribution)


def test_fused_projections_and_back(ours, stock, generate, all_ours):
    ours.set_attn_processor(RDAAMProcessor())
    first = generate(ours)
    for pipe in (ours, stock):
        pipe.fuse_qkv_projections(vae=False)
    assert isinstance(ours.attn_processors[f"{FIRST}.processor"], FusedAttnProcessor2_0)
    fused = generate(ours)
    assert np.array_equal(pixels(fused), pixels(generate(stock)))
    close_maps(fused.attribution, first.attribution)
    ours.unfuse_qkv_projections(vae=False)
    assert all_ours(ours), "diffusers gave ours back"
    assert same_maps(generate(ours).attribution, first.attribution)


def test_the_other_stock_processor_keeps_its_image_and_is_recorded(ours, stock, generate):
    first = generate(ours)
    for pipe in (ours, stock):
        pipe.unet.set_attn_processor(AttnProcessor())
    other = generate(ours)
    assert np.array_equal(pixels(other), pixels(generate(stock)))
    close_maps(other.attribution, first.attribution)


class Better(AttnProcessor2_0):
    """Somebody's own: what it attends with is not known."""


def test_an_unknown_processor_is_left_alone(ours, stock, generate):
    ours.set_attn_processor(RDAAMProcessor())
    generate(ours)
    for pipe in (ours, stock):
        pipe.unet.set_attn_processor(Better())
    why = not_recorded("Better")
    other = check_not_recorded(ours, generate, why)
    assert np.array_equal(pixels(other), pixels(generate(stock)))
    assert {type(p) for p in ours.unet.attn_processors.values()} == {Better}
    with pytest.raises(ProcessorError):
        ours.set_attn_processor(RDAAMProcessor())
    # The cure, as the text has it.
    ours.unet.set_attn_processor(AttnProcessor2_0())
    ours.set_attn_processor(RDAAMProcessor())
    assert generate(ours).attribution.words


def ip_adapter(unet: Any, features: int = 12) -> dict[str, Any]:
    """Random weights in the layout of the original adapter, which loads as diffusers loads it."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return 0.2 * torch.randn(shape, generator=generator)

    text = unet.config.cross_attention_dim
    weights, key = {}, 1
    for name in unet.attn_processors:
        if name.endswith("attn2.processor"):
            dim = unet.get_submodule(name.removesuffix(".processor")).inner_dim
            weights |= {
                f"{key}.to_k_ip.weight": random(dim, text),
                f"{key}.to_v_ip.weight": random(dim, text),
            }
            key += 2
    projection = {
        "proj.weight": random(4 * text, features),
        "proj.bias": random(4 * text),
        "norm.weight": 1 + random(text),
        "norm.bias": random(text),
    }
    return {"image_proj": projection, "ip_adapter": weights}


def test_an_image_prompt_adapter_and_back(ours, stock, generate):
    first = generate(ours)
    for pipe in (ours, stock):
        pipe.unet._load_ip_adapter_weights(ip_adapter(pipe.unet), low_cpu_mem_usage=False)
    picture = torch.randn(2, 1, 12, generator=torch.Generator().manual_seed(1))
    adapted = generate(ours, ip_adapter_image_embeds=[picture])
    assert isinstance(ours.attn_processors[f"{FIRST}.processor"], IPAdapterAttnProcessor2_0)
    expected = generate(stock, ip_adapter_image_embeds=[picture])
    assert np.array_equal(pixels(adapted), pixels(expected))
    assert not np.array_equal(pixels(adapted), pixels(first))
    assert adapted.attribution.words
    ours.set_ip_adapter_scale(0.0)
    without = generate(ours, ip_adapter_image_embeds=[picture])
    close_maps(without.attribution, first.attribution)
    ours.unload_ip_adapter()
    again = generate(ours)
    assert np.array_equal(pixels(again), pixels(first))
    assert same_maps(again.attribution, first.attribution)


def test_replaced_during_the_run(ours, generate, left):
    """The half-recorded run is no attribution, and a processor that returns is disarmed."""
    site = ours.unet.get_submodule(FIRST)
    taken = []

    def take(pipe, step, timestep, tensors):
        if step == 0:
            taken.append(site.processor)
            site.set_processor(AttnProcessor2_0())
        return tensors

    text = f"1 of 10 attention modules lost their RDAAMProcessor during the run: the first, {FIRST}"
    with pytest.warns(NotRecordedWarning, match=re.escape(text)):
        output = generate(ours, callback_on_step_end=take)
    assert output.images[0].size == (96, 64)
    with pytest.raises(NoAttributionError, match="has a AttnProcessor2_0 now"):
        _ = output.attribution
    assert isinstance(taken[0], RDAAMProcessor) and taken[0].target is None
    site.set_processor(taken[0])
    assert left(ours) == []


def test_a_module_that_recorded_nothing_is_named(ours, generate):
    site = ours.unet.get_submodule(FIRST)
    ours.set_attn_processor(RDAAMProcessor())
    child = ours.attn_processors[f"{FIRST}.processor"]
    handles = [
        ours.unet.register_forward_pre_hook(lambda *_: site.set_processor(AttnProcessor2_0())),
        ours.unet.register_forward_hook(lambda *_: site.set_processor(child)),
    ]
    with pytest.warns(NotRecordedWarning) as caught:
        output = generate(ours)
    for handle in handles:
        handle.remove()
    assert [str(w.message) for w in caught] == [
        "The image was made, but not its attribution: 1 of 10 attention modules recorded nothing "
        f"in 2 denoiser calls (the first is {FIRST}). Most often a processor was replaced during "
        "the run: set processors before it."
    ]
    assert output.images[0].size == (96, 64)
    with pytest.raises(NoAttributionError, match=r"1 of 10 attention modules recorded nothing"):
        _ = output.attribution


def test_stock_pipeline_with_our_processors_is_stock(make, generate, stock):
    ours = make()
    shared = make(StableDiffusionPipeline, share=ours)
    generate(ours)
    before = [grid.maps.clone() for grid in ours.attribution.grids]
    assert np.array_equal(pixels(generate(shared)), pixels(generate(stock)))
    assert all(torch.equal(a.maps, b) for a, b in zip(ours.attribution.grids, before, strict=True))
