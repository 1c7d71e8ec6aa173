"""Folders of small models, for the ids that pages name."""

from __future__ import annotations

from pathlib import Path

from diffusers_rdaam import load_demo_pipeline


def embedded_stable_diffusion(folder: Path) -> Path:
    """The embedded Stable Diffusion, as a stock pipeline's folder."""
    from diffusers import StableDiffusionPipeline

    pipe = load_demo_pipeline()
    stock = StableDiffusionPipeline(**pipe.components, requires_safety_checker=False)
    stock.save_pretrained(folder)
    return folder


def embedded_flux(folder: Path) -> Path:
    """The embedded FLUX, with the parts that it shares with the other model."""
    from diffusers import FluxPipeline

    FluxPipeline(**load_demo_pipeline("flux").components).save_pretrained(folder)
    return folder


def toy_wan(folder: Path) -> Path:
    """A toy of Wan 2.1."""
    from cases_wan import wan

    wan().make().save_pretrained(folder)
    return folder


def toy_sam(folder: Path) -> Path:
    """A SAM of one narrow layer."""
    from transformers import (
        SamConfig,
        SamImageProcessor,
        SamMaskDecoderConfig,
        SamModel,
        SamProcessor,
        SamPromptEncoderConfig,
        SamVisionConfig,
    )

    vision = SamVisionConfig(
        hidden_size=16,
        output_channels=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=64,
        patch_size=8,
        mlp_dim=16,
        window_size=4,
        global_attn_indexes=[0],
        num_pos_feats=4,
    )
    prompts = SamPromptEncoderConfig(
        hidden_size=8, image_size=64, patch_size=8, mask_input_channels=4
    )
    decoder = SamMaskDecoderConfig(
        hidden_size=8,
        mlp_dim=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        iou_head_hidden_dim=8,
        iou_head_depth=2,
    )
    config = SamConfig(
        vision_config=vision.to_dict(),
        prompt_encoder_config=prompts.to_dict(),
        mask_decoder_config=decoder.to_dict(),
    )
    SamModel(config).eval().save_pretrained(folder)
    SamProcessor(
        SamImageProcessor(
            size={"longest_edge": 64},
            pad_size={"height": 64, "width": 64},
            mask_size={"longest_edge": 16},
            mask_pad_size={"height": 16, "width": 16},
        )
    ).save_pretrained(folder)
    return folder
