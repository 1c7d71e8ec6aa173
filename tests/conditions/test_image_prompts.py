"""IP-Adapters with an image encoder, two at once, masked, and rescaled between runs."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from adapters import FEATURES, ip_adapter, picture_features
from cell import arrays, fresh, same_maps
from oracle import check, watched
from toys import CASES, SITES, call, picture
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from diffusers_rdaam import RDAAMProcessor
from diffusers_rdaam.errors import NotRecordedWarning

CASE = CASES["StableDiffusion"]


def run(pipe: Any, **settings: Any) -> Any:
    return call(CASE, pipe, output_type="np", **settings)


def load(pipe: Any, count: int = 1) -> None:
    pipe.load_ip_adapter(
        [ip_adapter(pipe.unet, seed) for seed in range(count)],
        subfolder=[""] * count,
        weight_name=[""] * count,
        image_encoder_folder=None,
        low_cpu_mem_usage=False,
    )


def image_encoder() -> dict[str, Any]:
    torch.manual_seed(4)
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=FEATURES,
    )
    encoder = CLIPVisionModelWithProjection(config).eval()
    size = {"height": 32, "width": 32}
    return {
        "image_encoder": encoder,
        "feature_extractor": CLIPImageProcessorPil(size=size, crop_size=size),
    }


def compare(stock: Any, ours: Any, **settings: Any) -> Any:
    """The image of the stock pipeline; with it, true maps of the text, not of the picture."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotRecordedWarning)
        output = run(ours, **settings)
    # Of the stock pipeline: equal images have equal queries and keys.
    with watched(stock) as seen:
        wanted = run(stock, **settings)
    assert np.array_equal(arrays(output), arrays(wanted))
    check(output.attributions, seen, SITES)
    return output


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_picture_through_an_encoder(order: str):
    stock, ours = fresh(CASE, CASE.stock), fresh(CASE, CASE.ours)
    plain = run(ours)
    for pipe in (stock, ours):
        pipe.register_modules(**image_encoder())
        load(pipe)
    if order == "before":
        ours.set_attn_processor(RDAAMProcessor())
    output = compare(stock, ours, ip_adapter_image=picture(3))
    assert not np.array_equal(arrays(output), arrays(plain))
    # Without its part the picture changes nothing.
    for pipe in (stock, ours):
        pipe.set_ip_adapter_scale(0.0)
    again = compare(stock, ours, ip_adapter_image=picture(3))
    assert np.array_equal(arrays(again), arrays(plain))
    assert same_maps(again.attributions, plain.attributions)


def test_two_adapters_with_masks_and_scales():
    stock, ours = fresh(CASE, CASE.stock), fresh(CASE, CASE.ours)
    left = torch.zeros(1, 1, 64, 96)
    left[..., :48] = 1.0
    for pipe in (stock, ours):
        load(pipe, 2)
        pipe.set_ip_adapter_scale([0.3, 0.9])
    settings: dict[str, Any] = {
        "ip_adapter_image_embeds": [picture_features(1), picture_features(2)],
        "cross_attention_kwargs": {"ip_adapter_masks": [left, 1.0 - left]},
    }
    masked = compare(stock, ours, **settings)
    settings.pop("cross_attention_kwargs")
    assert not np.array_equal(arrays(compare(stock, ours, **settings)), arrays(masked))


def test_unloaded():
    ours = fresh(CASE, CASE.ours)
    first = run(ours)
    load(ours)
    ours.unload_ip_adapter()
    ours.set_attn_processor(RDAAMProcessor())
    again = run(ours)
    assert np.array_equal(arrays(again), arrays(first))
    assert same_maps(again.attributions, first.attributions)
