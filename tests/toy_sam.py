"""A SAM that is small enough to be made in a test."""

from __future__ import annotations

from typing import Any


def toy_sam() -> tuple[Any, Any]:
    """A SAM of some hundred random weights, and its processor."""
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
        global_attn_indexes=[0],
        window_size=4,
        mlp_dim=16,
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
    processor = SamProcessor(
        SamImageProcessor(
            size={"longest_edge": 64},
            pad_size={"height": 64, "width": 64},
            mask_size={"longest_edge": 16},
            mask_pad_size={"height": 16, "width": 16},
        )
    )
    return SamModel(config).eval(), processor


def toy_sam2() -> Any:
    """A SAM 2 of random weights, for images of 64x64 pixels."""
    from transformers import (
        Sam2Config,
        Sam2HieraDetConfig,
        Sam2MaskDecoderConfig,
        Sam2Model,
        Sam2PromptEncoderConfig,
        Sam2VisionConfig,
    )

    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[64, 64],
        window_positional_embedding_background_size=[2, 2],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[8, 4, 14, 7],
        global_attention_blocks=[3],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone.to_dict(),
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=32,
    )
    prompts = Sam2PromptEncoderConfig(
        hidden_size=32, image_size=64, patch_size=16, mask_input_channels=4
    )
    decoder = Sam2MaskDecoderConfig(
        hidden_size=32,
        mlp_dim=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        iou_head_hidden_dim=8,
        iou_head_depth=2,
    )
    config = Sam2Config(
        vision_config=vision.to_dict(),
        prompt_encoder_config=prompts.to_dict(),
        mask_decoder_config=decoder.to_dict(),
    )
    return Sam2Model(config).eval()


class PlainSam2Processor:
    """What transformers' processor of SAM 2 does, which needs torchvision, without rounding."""

    def __call__(self, *, images: Any, return_tensors: str, **prompts: Any) -> Any:
        import numpy as np
        import torch
        from transformers import BatchFeature

        width, height = images.size
        pixels = np.asarray(images.resize((64, 64)), dtype=np.float32) / 255.0
        pixels = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        scale = torch.tensor([64 / width, 64 / height])
        given = {
            "pixel_values": torch.from_numpy(pixels).float().permute(2, 0, 1)[None],
            "original_sizes": torch.tensor([[height, width]]),
        }
        if "input_boxes" in prompts:
            given["input_boxes"] = torch.tensor(prompts["input_boxes"]) * scale.repeat(2)
        if "input_points" in prompts:
            given["input_points"] = torch.tensor(prompts["input_points"]) * scale
            given["input_labels"] = torch.tensor(prompts["input_labels"])
        return BatchFeature(given)

    def post_process_masks(self, masks: Any, original_sizes: Any) -> list[Any]:
        """The masks of each image at its size."""
        import torch.nn.functional as F

        return [
            F.interpolate(one, size=tuple(size.tolist()), mode="bilinear") > 0.0
            for one, size in zip(masks, original_sizes, strict=True)
        ]
