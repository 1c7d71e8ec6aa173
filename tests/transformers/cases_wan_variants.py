"""Pipelines with Wan's blocks: LucyEdit, ChronoEdit, Wan Animate, and SkyReels 2 with pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from cases_wan import (
    SIZES,
    image_encoder_parts,
    wan_case,
    wan_parts,
    wan_transformer,
)
from dense_oracle import Case
from diffusers import (
    ChronoEditPipeline,
    ChronoEditTransformer3DModel,
    LucyEditPipeline,
    SkyReelsV2DiffusionForcingImageToVideoPipeline,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2ImageToVideoPipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
    WanAnimatePipeline,
    WanAnimateTransformer3DModel,
)
from diffusers.pipelines.chronoedit import pipeline_chronoedit
from diffusers.pipelines.lucy import pipeline_lucy_edit
from diffusers.pipelines.skyreels_v2 import (
    pipeline_skyreels_v2_diffusion_forcing,
    pipeline_skyreels_v2_diffusion_forcing_i2v,
    pipeline_skyreels_v2_i2v,
)
from diffusers.pipelines.wan import pipeline_wan_animate
from single_parts import (
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    alternate_calls,
    clean_without_ftfy,
    picture,
    wake,
    without_self_attention,
)

SHARP = ("attn2.norm_q.weight", "attn2.norm_k.weight")
# Of the two attention calls of a layer the second has the text, whose 512 columns are the last.
WITH_PICTURE: dict[str, Any] = {
    "columns": 512,
    "kernel_row": lambda call, row: row if call.number == 1 else None,
}
GUIDED_BY_ONE: dict[str, Any] = {
    "rows": alternate_calls(1),
    "negative": {"negative_prompt": OTHER_NEGATIVES[0]},
}
ONE_NEGATIVE: dict[str, Any] = {"negative_prompt": NEGATIVES[0], "guidance_scale": 4.0}


def _unipc() -> Any:
    return UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0
    )


def _lucy() -> Any:
    clean_without_ftfy(pipeline_lucy_edit)
    return LucyEditPipeline(**wan_parts(), transformer=wan_transformer(0, in_channels=32))


def lucy() -> Case:
    """The video that is edited is given as more channels of the latents."""
    case = wan_case(
        "LucyEditPipeline",
        _lucy,
        ONE_NEGATIVE | {"video": [picture(48, 32)] * 5},
        **GUIDED_BY_ONE,
    )
    # The video has them.
    del case.call["num_frames"]
    return case


def _chrono_edit() -> Any:
    clean_without_ftfy(pipeline_chronoedit)
    torch.manual_seed(0)
    sizes = SIZES | {"in_channels": 36, "image_dim": 8, "added_kv_proj_dim": 24}
    parts = wan_parts() | {"scheduler": _unipc()}
    return ChronoEditPipeline(
        **parts,
        **image_encoder_parts(),
        transformer=wake(ChronoEditTransformer3DModel(**sizes), sharp=SHARP),
    )


def chrono_edit() -> Case:
    """Two latent frames, the last of which is the edited picture."""
    return wan_case(
        "ChronoEditPipeline",
        _chrono_edit,
        ONE_NEGATIVE | {"image": picture(48, 32)},
        **GUIDED_BY_ONE,
        **WITH_PICTURE,
    )


def _animate() -> Any:
    clean_without_ftfy(pipeline_wan_animate)
    torch.manual_seed(0)
    sizes = SIZES | {
        "in_channels": 36,
        "latent_channels": 16,
        "image_dim": 8,
        "added_kv_proj_dim": 24,
        "motion_encoder_channel_sizes": {"4": 4, "8": 4, "16": 4},
        "motion_encoder_size": 16,
        "motion_style_dim": 4,
        "motion_dim": 2,
        "motion_encoder_dim": 4,
        "face_encoder_hidden_dim": 4,
        "face_encoder_num_heads": 2,
        "inject_face_latents_blocks": 2,
    }
    transformer = WanAnimateTransformer3DModel(**sizes)
    parts = wan_parts() | {"scheduler": _unipc()}
    return WanAnimatePipeline(
        **parts, **image_encoder_parts(), transformer=wake(transformer, sharp=SHARP)
    )


def animate(**call: Any) -> Case:
    """Before the video's latent frames there is one of the character's picture."""
    case = wan_case(
        "WanAnimatePipeline",
        _animate,
        ONE_NEGATIVE
        | {
            "image": picture(48, 32),
            "pose_video": [picture(48, 32)] * 5,
            "face_video": [picture(16, 16)] * 5,
            "segment_frame_length": 5,
        }
        | call,
        image_queries=lambda call, row: 2 * 3,
        unmix=without_self_attention("blocks"),
        of_image=lambda latents: (torch.arange(latents.shape[2]) > 0)[:, None, None],
        **GUIDED_BY_ONE,
        **WITH_PICTURE,
    )
    # The video of poses has them.
    del case.call["num_frames"]
    return case


def _skyreels(cls: type, module: Any, **config: Any) -> Callable[[], Any]:
    def make() -> Any:
        clean_without_ftfy(module)
        torch.manual_seed(0)
        model = wake(SkyReelsV2Transformer3DModel(**(SIZES | config)), sharp=SHARP)
        parts = wan_parts() | {"scheduler": _unipc()}
        with_picture = image_encoder_parts() if "image_dim" in config else {}
        return cls(**parts, **with_picture, transformer=model)

    return make


def skyreels_i2v() -> Case:
    make = _skyreels(
        SkyReelsV2ImageToVideoPipeline,
        pipeline_skyreels_v2_i2v,
        in_channels=36,
        image_dim=8,
        added_kv_proj_dim=24,
    )
    return wan_case(
        "SkyReelsV2ImageToVideoPipeline",
        make,
        ONE_NEGATIVE | {"image": picture(48, 32)},
        **GUIDED_BY_ONE,
        **WITH_PICTURE,
    )


def skyreels_forcing(**call: Any) -> Case:
    """Each latent frame has a timestep of its own."""
    make = _skyreels(SkyReelsV2DiffusionForcingPipeline, pipeline_skyreels_v2_diffusion_forcing)
    return wan_case(
        "SkyReelsV2DiffusionForcingPipeline",
        make,
        {"prompt": PROMPTS, "negative_prompt": NEGATIVES, "guidance_scale": 4.0, "ar_step": 1}
        | call,
        rows=alternate_calls(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def skyreels_forcing_i2v(**call: Any) -> Case:
    """The first latent frame is the picture's from the beginning."""
    make = _skyreels(
        SkyReelsV2DiffusionForcingImageToVideoPipeline, pipeline_skyreels_v2_diffusion_forcing_i2v
    )
    return wan_case(
        "SkyReelsV2DiffusionForcingImageToVideoPipeline",
        make,
        ONE_NEGATIVE | {"image": picture(48, 32)} | call,
        **GUIDED_BY_ONE,
    )


CASES: dict[str, Callable[[], Case]] = {
    "LucyEditPipeline": lucy,
    "ChronoEditPipeline": chrono_edit,
    "WanAnimatePipeline": animate,
    "SkyReelsV2ImageToVideoPipeline": skyreels_i2v,
    "SkyReelsV2DiffusionForcingPipeline": skyreels_forcing,
    "SkyReelsV2DiffusionForcingImageToVideoPipeline": skyreels_forcing_i2v,
}
