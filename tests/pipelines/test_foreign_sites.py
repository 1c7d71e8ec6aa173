"""Foreign processors through pipelines: what comes and goes in a block stays so, warned of once."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import (
    AttnProcessor,
    AttnProcessor2_0,
    IPAdapterAttnProcessor2_0,
    SlicedAttnProcessor,
)
from oracle import check_kept, watched
from test_processors import ip_adapter
from toys import CASES, build, call, parts_of

from diffusers_rdaam import RDAAMProcessor, record_attention
from diffusers_rdaam.attention.foreign import ForeignProcessor
from diffusers_rdaam.errors import NotRecordedWarning

SD = CASES["StableDiffusion"]
PICTURE = {
    "ip_adapter_image_embeds": [
        torch.randn(2, 1, 12, generator=torch.Generator().manual_seed(1)),
    ]
}


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    return parts_of(SD)


@pytest.fixture
def plain(parts) -> Any:
    return build(SD.stock, parts)


@pytest.fixture
def ours(parts) -> Any:
    return build(SD.ours, parts)


def adapt(pipe: Any) -> Any:
    pipe.unet._load_ip_adapter_weights(ip_adapter(pipe.unet), low_cpu_mem_usage=False)
    return pipe


def kinds(pipe: Any) -> set[type]:
    return {type(p) for name, p in pipe.unet.attn_processors.items() if "attn2" in name}


def pixels(output: Any) -> np.ndarray:
    return np.asarray(output.images[0])


def test_an_adapter_that_is_unloaded_in_a_block_stays_unloaded(plain):
    wanted = pixels(call(SD, plain))
    adapt(plain)
    adapters = [p for p in plain.unet.attn_processors.values() if "IP" in type(p).__name__]
    with record_attention(plain) as recording:
        call(SD, plain, **PICTURE)
        assert recording.attribution.words
        plain.unload_ip_adapter()
        call(SD, plain)
        assert recording.attribution.words
    assert len(adapters) == 4 and kinds(plain) == {AttnProcessor2_0}
    assert np.array_equal(pixels(call(SD, plain)), wanted)


def test_an_adapter_that_is_loaded_in_a_block_stays_loaded(plain, parts):
    wanted = pixels(call(SD, adapt(build(SD.stock, parts)), **PICTURE))
    with record_attention(plain) as recording:
        call(SD, plain)
        adapt(plain)
        call(SD, plain, **PICTURE)
        assert all(run[0].words for run in recording.attributions_of_runs)
    assert kinds(plain) == {IPAdapterAttnProcessor2_0}
    assert not any(isinstance(p, ForeignProcessor) for p in plain.unet.attn_processors.values())
    assert np.array_equal(pixels(call(SD, plain, **PICTURE)), wanted)


def test_an_adapter_is_itself_again_after_a_block(plain):
    adapt(plain)
    before, keys = dict(plain.unet.attn_processors), set(plain.unet.state_dict())
    with record_attention(plain) as recording:
        plain.set_ip_adapter_scale(0.3)
        assert set(plain.unet.state_dict()) == keys
        call(SD, plain, **PICTURE)
    assert recording.attribution.words
    after = plain.unet.attn_processors
    assert all(after[name] is processor for name, processor in before.items())
    assert kinds(plain) == {IPAdapterAttnProcessor2_0}
    scales = [p.scale for p in after.values() if isinstance(p, IPAdapterAttnProcessor2_0)]
    assert scales == [[0.3]] * 4


def test_slicing_that_is_switched_off_in_a_block_stays_off(plain):
    plain.enable_attention_slicing(1)
    with record_attention(plain) as recording:
        call(SD, plain)
        plain.disable_attention_slicing()
        call(SD, plain)
        assert all(run[0].words for run in recording.attributions_of_runs)
    assert kinds(plain) == {AttnProcessor2_0}


def test_fused_in_a_block(plain, parts):
    wanted = build(SD.stock, parts)
    wanted.fuse_qkv_projections(vae=False)
    with record_attention(plain) as recording:
        plain.fuse_qkv_projections(vae=False)
        output = call(SD, plain)
        plain.unfuse_qkv_projections(vae=False)
    assert recording.attribution.words and kinds(plain) == {AttnProcessor2_0}
    assert np.array_equal(pixels(output), pixels(call(SD, wanted)))


@pytest.mark.parametrize("kind", [AttnProcessor, lambda: SlicedAttnProcessor(1)])
def test_what_a_tapped_pipeline_keeps_apart(ours, plain, kind):
    for pipe in (ours, plain):
        pipe.unet.set_attn_processor(kind())
    ours.set_attn_processor(RDAAMProcessor(keep=("steps", "layers", "heads"), keep_negative=True))
    with watched(ours) as seen:
        output = call(SD, ours)
    assert np.array_equal(pixels(output), pixels(call(SD, plain)))
    for site in seen:
        # The taps project once more, with the same result.
        for parts in (seen[site], seen.masks[site]):
            parts[:] = parts[::2]
    check_kept(output.attribution.kept, seen, [1, 1])
    check_kept(output.attribution.negative.kept, seen, [0, 0])


def test_a_dictionary_of_tapped_processors_goes_on_recording(ours, parts):
    ours.unet.set_attn_processor(AttnProcessor())
    ours.set_attn_processor(RDAAMProcessor(keep="layers"))
    ours.set_attn_processor(ours.attn_processors)
    assert call(SD, ours).attribution.kept.axes == ("layers",)
    other = build(SD.ours, parts)
    other.set_attn_processor(ours.attn_processors)
    assert call(SD, other).attribution.words
    shared = {id(p) for p in ours.attn_processors.values() if isinstance(p, ForeignProcessor)}
    assert len(shared) == 4 and not shared & {id(p) for p in other.attn_processors.values()}


def test_a_stock_pipeline_beside_ours_leaves_its_taps(ours, parts):
    adapt(ours)
    call(SD, ours, **PICTURE)
    beside = SD.stock(**parts | {"unet": ours.unet})
    beside.set_progress_bar_config(disable=True)
    before = dict(ours.unet.attn_processors)
    with record_attention(beside) as recording:
        call(SD, beside, **PICTURE)
    assert recording.attribution.words
    assert all(ours.unet.attn_processors[name] is p for name, p in before.items())
    assert call(SD, ours, **PICTURE).attribution.words


def test_stock_processors_on_the_denoiser_itself_are_warned_of_once(ours):
    ours.set_attn_processor(RDAAMProcessor())
    ours.unet.set_attn_processor(AttnProcessor2_0())
    with pytest.warns(NotRecordedWarning, match="it was put back") as caught:
        call(SD, ours)
    assert len(caught) == 1
    assert call(SD, ours).attribution.words, "and then no more"


@pytest.mark.parametrize("way", [copy.deepcopy, lambda unet: pickle.loads(pickle.dumps(unet))])
def test_a_copied_denoiser_records_by_itself(ours, parts, way):
    adapt(ours)
    first = call(SD, ours, **PICTURE).attribution
    twin = SD.ours(**parts | {"unet": way(ours.unet)})
    twin.set_progress_bar_config(disable=True)
    second = call(SD, twin, **PICTURE).attribution
    for a, b in zip(first.grids, second.grids, strict=True):
        assert torch.equal(a.maps, b.maps)
    assert all(
        p.target is None for p in ours.attn_processors.values() if isinstance(p, ForeignProcessor)
    )
