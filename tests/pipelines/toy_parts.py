"""The parts that only some of the toy pipelines have, and the UNets that they ask for."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetUnionModel,
    ControlNetXSAdapter,
    DDIMInverseScheduler,
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    MotionAdapter,
    PriorTransformer,
    SparseControlNetModel,
    T2IAdapter,
    UnCLIPScheduler,
    UNet3DConditionModel,
    UNetMotionModel,
)
from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel
from diffusers.pipelines.stable_diffusion.clip_image_project_model import CLIPImageProjection
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import (
    StableUnCLIPImageNormalizer,
)
from standin_sentencepiece import chatglm_tokenizer
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    DPTConfig,
    DPTForDepthEstimation,
    DPTImageProcessor,
)

# Text at the upper level, where a T2I-Adapter adds its residuals.
UPPER = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
# As in the upscaler: the first attention of its blocks reads the text as well.
UPSCALER = {"in_channels": 7, "only_cross_attention": (False, True), "num_class_embeds": 1000}
LATENT_UPSCALER = {
    "act_fn": "gelu",
    "norm_num_groups": None,
    "block_out_channels": (32, 64, 64),
    "attention_head_dim": 8,
    "time_cond_proj_dim": 160,
    "conv_in_kernel": 1,
    "conv_out_kernel": 1,
    "down_block_types": ("KDownBlock2D", "KCrossAttnDownBlock2D", "KCrossAttnDownBlock2D"),
    "in_channels": 8,
    "mid_block_type": None,
    "only_cross_attention": False,
    "out_channels": 5,
    "resnet_time_scale_shift": "scale_shift",
    "time_embedding_type": "fourier",
    "timestep_post_act": "gelu",
    "up_block_types": ("KCrossAttnUpBlock2D", "KCrossAttnUpBlock2D", "KUpBlock2D"),
}
KOLORS = {"encoder_hid_dim": 32, "encoder_hid_dim_type": "text_proj"}
EMBEDDING = (4, 8, 8, 16)


def wake(module: Any) -> Any:
    """Fill the layers that training starts at zero."""
    with torch.no_grad():
        for weight in module.parameters():
            if not weight.any():
                weight.normal_(std=0.3)
    return module.eval()


def sharpen(unet: Any) -> Any:
    """Scale up what the text attention compares, so that maps differ from row to row."""
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if name.endswith(("attn2.to_q.weight", "attn2.to_k.weight")):
                weight.mul_(4)
    return unet.eval()


def adapter(unet: Any) -> dict[str, Any]:
    torch.manual_seed(3)
    return {"adapter": wake(T2IAdapter(in_channels=3, channels=[8, 16], num_res_blocks=1))}


def union(unet: Any) -> dict[str, Any]:
    torch.manual_seed(4)
    shared = (
        "block_out_channels layers_per_block norm_num_groups down_block_types attention_head_dim "
        "cross_attention_dim addition_embed_type addition_time_embed_dim "
        "projection_class_embeddings_input_dim"
    )
    net = ControlNetUnionModel(
        **{name: unet.config[name] for name in shared.split()},
        conditioning_embedding_out_channels=EMBEDDING,
        num_trans_channel=8,
        num_trans_head=2,
        num_proj_channel=8,
    )
    return {"controlnet": wake(net)}


def xs(unet: Any) -> dict[str, Any]:
    torch.manual_seed(5)
    net = ControlNetXSAdapter.from_unet(
        unet, size_ratio=0.5, conditioning_embedding_out_channels=EMBEDDING
    )
    return {"controlnet": wake(net)}


def upscale(unet: Any) -> dict[str, Any]:
    return {"low_res_scheduler": DDPMScheduler(), "vae": tiny_vae(3, 3, scaling_factor=0.08333)}


def latent_upscale(unet: Any) -> dict[str, Any]:
    return {"scheduler": EulerDiscreteScheduler()}


def depth(unet: Any) -> dict[str, Any]:
    """An estimator of eight patches a side, for pictures of any size."""
    torch.manual_seed(11)
    config = DPTConfig(
        hidden_size=8,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=4,
        is_hybrid=False,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[4, 4, 8, 8],
        fusion_hidden_size=8,
    )
    processor = DPTImageProcessor(size={"height": 32, "width": 32})
    return {
        "depth_estimator": DPTForDepthEstimation(config).eval(),
        "feature_extractor": processor,
    }


def tiny_vae(channels: int, levels: int, **config: Any) -> AutoencoderKL:
    torch.manual_seed(6)
    return AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(4,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        norm_num_groups=2,
        **config,
    ).eval()


def six_channels(unet: Any) -> dict[str, Any]:
    return {"vae": tiny_vae(6, 4), "image_encoder": None}


def diffedit(unet: Any) -> dict[str, Any]:
    return {"inverse_scheduler": DDIMInverseScheduler()}


def cycle(unet: Any) -> dict[str, Any]:
    return {"scheduler": DDIMScheduler(set_alpha_to_one=False)}


def motion(unet: Any) -> dict[str, Any]:
    torch.manual_seed(7)
    module = MotionAdapter(
        block_out_channels=(8, 16),
        motion_layers_per_block=1,
        motion_mid_block_layers_per_block=1,
        motion_norm_num_groups=4,
        motion_num_attention_heads=2,
    )
    # Made here: every pipeline would draw weights of its own for what it cannot copy.
    video = UNetMotionModel.from_unet2d(unet, wake(module))
    return {"motion_adapter": module, "unet": wake(video)}


def sparse(unet: Any) -> dict[str, Any]:
    torch.manual_seed(8)
    net = SparseControlNetModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlockMotion", "CrossAttnDownBlockMotion"),
        conditioning_channels=3,
        norm_num_groups=4,
        cross_attention_dim=32,
        attention_head_dim=2,
        motion_num_attention_heads=2,
        use_simplified_condition_embedding=False,
        conditioning_embedding_out_channels=EMBEDDING,
    )
    return motion(unet) | {"controlnet": wake(net)}


def video_unet(unet: Any) -> dict[str, Any]:
    torch.manual_seed(9)
    video = UNet3DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=16,
        norm_num_groups=4,
        down_block_types=("DownBlock3D", "CrossAttnDownBlock3D"),
        up_block_types=("CrossAttnUpBlock3D", "UpBlock3D"),
        cross_attention_dim=32,
        attention_head_dim=2,
    )
    return {"unet": sharpen(wake(video))}


def vision() -> CLIPVisionModelWithProjection:
    torch.manual_seed(10)
    config = CLIPVisionConfig(
        hidden_size=32,
        projection_dim=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    return CLIPVisionModelWithProjection(config).eval()


def unclip_image(unet: Any) -> dict[str, Any]:
    torch.manual_seed(11)
    return {
        "image_encoder": vision(),
        "feature_extractor": CLIPImageProcessor(crop_size=32, size=32),
        "image_normalizer": StableUnCLIPImageNormalizer(embedding_dim=32),
        "image_noising_scheduler": DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
    }


def unclip(unet: Any) -> dict[str, Any]:
    torch.manual_seed(12)
    prior = PriorTransformer(
        num_attention_heads=2, attention_head_dim=4, embedding_dim=32, num_layers=1
    )
    noising = unclip_image(unet)
    return {
        "prior": prior.eval(),
        "prior_scheduler": UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", num_train_timesteps=1000
        ),
        **{name: noising[name] for name in ("image_normalizer", "image_noising_scheduler")},
    }


def grounding(unet: Any) -> dict[str, Any]:
    torch.manual_seed(13)
    image_processor = CLIPImageProcessor(crop_size=32, size=32)
    return {
        "image_encoder": vision(),
        "image_project": CLIPImageProjection(hidden_size=32).eval(),
        "processor": image_processor,
    }


@cache
def chatglm() -> Any:
    torch.manual_seed(14)
    config = ChatGLMConfig(
        num_layers=2,
        padded_vocab_size=400,
        hidden_size=32,
        ffn_hidden_size=16,
        kv_channels=16,
        num_attention_heads=2,
        seq_length=64,
        original_rope=True,
    )
    model = ChatGLMModel(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.2)
    return model


def kolors(unet: Any) -> dict[str, Any]:
    return {"text_encoder": chatglm(), "tokenizer": chatglm_tokenizer()}
