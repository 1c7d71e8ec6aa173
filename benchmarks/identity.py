"""The image of a recorded run against the stock pipeline's: equal in every bit."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import diffusers
import torch
import transformers
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor

from benchmarks.report import Row, judged
from benchmarks.sizes import TINY_PIPELINE
from diffusers_rdaam import StableDiffusionRDAAMPipeline

STEPS = 4
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Prompts and images per prompt.
BATCHES = {"1 image": (1, 1), "2 prompts x 2 images": (2, 2)}
GUIDANCE = {"guided": 7.5, "not guided": 1.0}
# Height and width in pixels; the second has a latent of 9 x 13, odd in both directions.
SIZES = {"64x96": (64, 96), "odd latent 72x104": (72, 104)}


def run(*, full: bool = False) -> list[Row]:
    """All combinations of type, batch, guidance and size."""
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()
    rows = []
    explicit = cases = 0
    for type_name, dtype in TYPES.items():
        stock = _load(StableDiffusionPipeline, dtype)
        recorded = _load(StableDiffusionRDAAMPipeline, dtype)
        materialised = _load(StableDiffusionPipeline, dtype)
        _materialise_text_attention(materialised.unet)
        equal, unequal = 0, []
        for batch, guidance, size in itertools.product(BATCHES, GUIDANCE, SIZES):
            wanted = _call(stock, batch, guidance, size).images
            output = _call(recorded, batch, guidance, size)
            same = torch.equal(output.images, wanted)
            if same and len(output.attributions) == wanted.shape[0]:
                equal += 1
            else:
                unequal.append(f"{batch}, {guidance}, {size}")
            explicit += torch.equal(_call(materialised, batch, guidance, size).images, wanted)
            cases += 1
        total = equal + len(unequal)
        measured = f"{equal} of {total} equal" + (f"; not: {unequal}" if unequal else "")
        what = f"latents after {STEPS} steps, {type_name}: batches, guidance, sizes"
        goal = f"{total} of {total}"
        rows.append(judged("identity", what, measured, goal, not unequal, deterministic=True))
    # Were the comparison blind, a formula that rounds otherwise would pass it too.
    rows.append(
        judged(
            "identity",
            "the same comparison with AttnProcessor, which forms probabilities, on text attention",
            f"{explicit} of {cases} equal",
            f"under {cases}",
            explicit < cases,
            deterministic=True,
        )
    )
    return rows


def _materialise_text_attention(unet: Any) -> None:
    processors = unet.attn_processors
    explicit = {name: AttnProcessor() for name in processors if ".attn2." in name}
    unet.set_attn_processor(processors | explicit)


def _load(cls: Any, dtype: torch.dtype) -> Any:
    pipe = cls.from_pretrained(TINY_PIPELINE, dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _call(pipe: Any, batch: str, guidance: str, size: str) -> Any:
    prompts, images = BATCHES[batch]
    height, width = SIZES[size]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pipe(
            ["a cat in a red hat", "two dogs"][:prompts],
            num_images_per_prompt=images,
            guidance_scale=GUIDANCE[guidance],
            height=height,
            width=width,
            num_inference_steps=STEPS,
            generator=torch.Generator().manual_seed(11),
            output_type="latent",
        )
