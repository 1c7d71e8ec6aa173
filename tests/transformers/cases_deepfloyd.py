"""DeepFloyd IF: a UNet whose attention has keys [text, image]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from dense_oracle import Case, Encoder
from diffusers import (
    DDPMScheduler,
    IFImg2ImgPipeline,
    IFImg2ImgSuperResolutionPipeline,
    IFInpaintingPipeline,
    IFInpaintingSuperResolutionPipeline,
    IFPipeline,
    IFSuperResolutionPipeline,
    UNet2DConditionModel,
)
from single_parts import (
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    ToyCase,
    columns_from,
    picture,
    rows_after,
    rows_before,
    t5_encoder,
    wake,
)
from tokenizers_single import t5_tokenizer

# Of the level below the pixels, 16 x 24.
GRID = (8, 12)
COLUMNS = 77


def _unet(*, upscales: bool) -> Any:
    torch.manual_seed(0)
    more: dict[str, Any] = {"class_embed_type": "timestep"} if upscales else {}
    return UNet2DConditionModel(
        sample_size=16,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        in_channels=6 if upscales else 3,
        out_channels=6,
        cross_attention_dim=32,
        encoder_hid_dim=32,
        attention_head_dim=8,
        norm_num_groups=4,
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm",
        resnet_time_scale_shift="scale_shift",
        act_fn="gelu",
        **more,
    )


def _pipeline(cls: type) -> Callable[[], Any]:
    def make() -> Any:
        tokenizer = t5_tokenizer(COLUMNS)
        upscales = "SuperResolution" in cls.__name__
        scheduler = DDPMScheduler(
            beta_schedule="squaredcos_cap_v2",
            variance_type="learned_range",
            thresholding=True,
        )
        noising = {"image_noising_scheduler": DDPMScheduler()} if upscales else {}
        sharp = ("to_q.weight", "add_k_proj.weight")
        return cls(
            tokenizer=tokenizer,
            text_encoder=t5_encoder(tokenizer),
            unet=wake(_unet(upscales=upscales), sharp=sharp),
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            watermarker=None,
            requires_safety_checker=False,
            **noising,
        )

    return make


class _Nothing(torch.nn.Module):
    """In the place of the pooled text, which is added to the time."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return states.new_zeros(len(states), 32)


def _unmixed(unet: Any) -> None:
    """Without the norm over all columns of the text together, and without the pooled text."""
    unet.add_embedding = _Nothing()
    for module in unet.modules():
        if getattr(module, "norm_cross", None) is not None:
            module.norm_cross = None


def _case(cls: type, call: dict[str, Any], name: str = "", **fields: Any) -> Case:
    blocks = r"(down_blocks\.\d+|mid_block|up_blocks\.\d+)"
    return ToyCase(
        f"{cls.__name__}{name}",
        _pipeline(cls),
        {
            "prompt": PROMPTS,
            "num_inference_steps": 2,
            "output_type": "np",
            "clean_caption": False,
        }
        | call,
        GRID,
        {"single": rf"{blocks}\.attentions\.\d+"},
        text_keys=columns_from(0, COLUMNS),
        denoisers=("unet",),
        encoders=(Encoder("t5", "text_encoder", "tokenizer", lambda place: place),),
        unmix=_unmixed,
        **fields,
    )


SIZE = {"height": 16, "width": 24}


def _guided(cls: type, prompts: int, call: dict[str, Any]) -> Case:
    """Rows are [uncond, cond]."""
    return _case(
        cls,
        {
            "prompt": PROMPTS[:prompts],
            "negative_prompt": NEGATIVES[:prompts],
            "guidance_scale": 4.0,
        }
        | call,
        rows=rows_after(prompts),
        negative={"negative_prompt": OTHER_NEGATIVES[:prompts]},
    )


def deepfloyd() -> Case:
    return _guided(IFPipeline, 2, SIZE)


def deepfloyd_without_guidance() -> Case:
    call = {"guidance_scale": 1.0} | SIZE
    return _case(IFPipeline, call, " without guidance", rows=rows_before(2))


def deepfloyd_img2img() -> Case:
    call = {"image": picture(24, 16), "num_inference_steps": 4, "strength": 0.5}
    return _guided(IFImg2ImgPipeline, 1, call)


def deepfloyd_inpainting() -> Case:
    call = {"image": picture(24, 16), "mask_image": picture(24, 16).convert("L")}
    return _guided(IFInpaintingPipeline, 1, call | {"num_inference_steps": 4, "strength": 0.5})


def deepfloyd_super() -> Case:
    return _guided(IFSuperResolutionPipeline, 1, {"image": picture(12, 8)} | SIZE)


def deepfloyd_img2img_super() -> Case:
    call = {"image": picture(12, 8), "original_image": picture(24, 16)}
    return _guided(
        IFImg2ImgSuperResolutionPipeline, 1, call | {"num_inference_steps": 4, "strength": 0.5}
    )


def deepfloyd_inpainting_super() -> Case:
    call = {
        "image": picture(12, 8),
        "original_image": picture(24, 16),
        "mask_image": picture(24, 16).convert("L"),
    }
    return _guided(
        IFInpaintingSuperResolutionPipeline, 1, call | {"num_inference_steps": 4, "strength": 0.5}
    )


CASES: dict[str, Callable[[], Case]] = {
    "IFPipeline": deepfloyd,
    "IFPipeline without guidance": deepfloyd_without_guidance,
    "IFImg2ImgPipeline": deepfloyd_img2img,
    "IFInpaintingPipeline": deepfloyd_inpainting,
    "IFSuperResolutionPipeline": deepfloyd_super,
    "IFImg2ImgSuperResolutionPipeline": deepfloyd_img2img_super,
    "IFInpaintingSuperResolutionPipeline": deepfloyd_inpainting_super,
}
