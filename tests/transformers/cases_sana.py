"""Sana: linear self-attention, cross-attention over Gemma behind an instruction."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from dense_oracle import Case, Encoder
from diffusers import (
    SanaControlNetModel,
    SanaControlNetPipeline,
    SanaImageToVideoPipeline,
    SanaPAGPipeline,
    SanaPipeline,
    SanaSprintImg2ImgPipeline,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SanaVideoPipeline,
    SanaVideoTransformer3DModel,
    SCMScheduler,
)
from single_parts import (
    COLUMNS,
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    ToyCase,
    columns_from,
    dc_vae,
    flow_scheduler,
    gemma2_encoder,
    picture,
    rows_after,
    wake,
    wan_vae,
)
from tokenizers_single import gemma_tokenizer

SANA_GRID = (16, 32)
# Of a video: 16 x 16 pixels and 4 frames are one token; the first frame is one of its own.
VIDEO_GRID = (2, 2, 4)
SIZES: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "num_cross_attention_heads": 2,
    "cross_attention_head_dim": 8,
    "cross_attention_dim": 16,
    "caption_channels": 16,
    "sample_size": 32,
}


def _sana(cls: type, **config: Any) -> Callable[[], Any]:
    def make() -> Any:
        tokenizer = gemma_tokenizer()
        torch.manual_seed(0)
        sizes = SIZES | config
        transformer = SanaTransformer2DModel(**sizes)
        sprint = cls in (SanaSprintPipeline, SanaSprintImg2ImgPipeline)
        more = {}
        if cls is SanaControlNetPipeline:
            torch.manual_seed(1)
            more["controlnet"] = wake(SanaControlNetModel(**{**sizes, "num_layers": 1}))
        return cls(
            tokenizer=tokenizer,
            text_encoder=gemma2_encoder(tokenizer),
            vae=dc_vae(),
            transformer=wake(transformer, sharp=("attn2.to_q.weight", "attn2.to_k.weight")),
            scheduler=SCMScheduler() if sprint else flow_scheduler(shift=7.0),
            **more,
        )

    return make


def _sana_instruction(cls: type) -> str:
    return "\n".join(
        inspect.signature(cls.__call__).parameters["complex_human_instruction"].default
    )


def _sana_case(name: str, cls: type, call: dict[str, Any], config: Any, **fields: Any) -> Case:
    instruction = _sana_instruction(cls)
    length = len(gemma_tokenizer()(instruction).input_ids)
    encoder = Encoder(
        "gemma",
        "text_encoder",
        "tokenizer",
        lambda place: place - length + 2 if place >= length - 1 else -(place > 0),
        " ",
    )
    return ToyCase(
        name,
        _sana(cls, **config),
        {
            "prompt": PROMPTS,
            "num_inference_steps": 2,
            "height": 32,
            "width": 64,
            "output_type": "np",
            "max_sequence_length": COLUMNS,
            "use_resolution_binning": False,
        }
        | call,
        SANA_GRID,
        {"cross": r"transformer_blocks\.\d+\.attn2"},
        text_keys=columns_from(0),
        encoders=(encoder,),
        **fields,
    )


def sana() -> Case:
    """The instruction of the pipeline is in front of the prompt, not of the negative prompt."""
    return _sana_case(
        "SanaPipeline",
        SanaPipeline,
        {"negative_prompt": NEGATIVES, "guidance_scale": 4.0},
        {},
        rows=rows_after(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def sana_sprint() -> Case:
    return _sana_case(
        "SanaSprintPipeline",
        SanaSprintPipeline,
        {"guidance_scale": 4.0},
        {"qk_norm": "rms_norm_across_heads", "guidance_embeds": True},
    )


def sana_sprint_img2img() -> Case:
    return _sana_case(
        "SanaSprintImg2ImgPipeline",
        SanaSprintImg2ImgPipeline,
        {"guidance_scale": 4.0, "prompt": PROMPTS[0], "image": picture(64, 32), "strength": 0.9},
        {"qk_norm": "rms_norm_across_heads", "guidance_embeds": True},
    )


def sana_pag() -> Case:
    """Rows are [uncond, cond, perturbed]."""
    return _sana_case(
        "SanaPAGPipeline",
        SanaPAGPipeline,
        {"negative_prompt": NEGATIVES, "guidance_scale": 4.0, "pag_scale": 2.0},
        {},
        rows=rows_after(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def sana_controlnet() -> Case:
    """The control network has attention of its own, which is not recorded."""
    return _sana_case(
        "SanaControlNetPipeline",
        SanaControlNetPipeline,
        {
            "negative_prompt": NEGATIVES,
            "guidance_scale": 4.0,
            "control_image": picture(64, 32),
        },
        {},
        rows=rows_after(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def _sana_video(cls: type) -> Callable[[], Any]:
    def make() -> Any:
        tokenizer = gemma_tokenizer()
        torch.manual_seed(0)
        transformer = SanaVideoTransformer3DModel(
            in_channels=16,
            out_channels=16,
            num_attention_heads=2,
            attention_head_dim=12,
            num_layers=2,
            num_cross_attention_heads=2,
            cross_attention_head_dim=12,
            cross_attention_dim=24,
            caption_channels=16,
            patch_size=(1, 2, 2),
            rope_max_seq_len=32,
        )
        return cls(
            tokenizer=tokenizer,
            text_encoder=gemma2_encoder(tokenizer),
            vae=wan_vae(),
            transformer=wake(transformer, sharp=("attn2.norm_q.weight", "attn2.norm_k.weight")),
            scheduler=flow_scheduler(shift=7.0),
        )

    return make


def sana_video() -> Case:
    """A video has the instruction of its pipeline."""
    case = _sana_case(
        "SanaVideoPipeline",
        SanaVideoPipeline,
        {"negative_prompt": NEGATIVES, "guidance_scale": 4.0, "frames": 5},
        {},
        rows=rows_after(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )
    return replace(case, make=_sana_video(SanaVideoPipeline), grid=VIDEO_GRID)


def sana_video_of_picture() -> Case:
    """The first latent frame is that of the picture; each has a timestep of its own."""
    case = _sana_case(
        "SanaImageToVideoPipeline",
        SanaImageToVideoPipeline,
        {
            "prompt": PROMPTS[0],
            "negative_prompt": NEGATIVES[0],
            "guidance_scale": 4.0,
            "frames": 5,
            "image": picture(64, 32),
        },
        {},
        rows=rows_after(1),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )
    return replace(case, make=_sana_video(SanaImageToVideoPipeline), grid=VIDEO_GRID)


CASES: dict[str, Callable[[], Case]] = {
    "SanaVideoPipeline": sana_video,
    "SanaImageToVideoPipeline": sana_video_of_picture,
    "SanaPipeline": sana,
    "SanaSprintPipeline": sana_sprint,
    "SanaSprintImg2ImgPipeline": sana_sprint_img2img,
    "SanaPAGPipeline": sana_pag,
    "SanaControlNetPipeline": sana_controlnet,
}
