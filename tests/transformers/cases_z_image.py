"""Z-Image: one sequence, [image padded to 32, text padded to 32]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from dense_oracle import Case, Encoder, ObservedCall
from diffusers import (
    ZImageControlNetInpaintPipeline,
    ZImageControlNetModel,
    ZImageControlNetPipeline,
    ZImageImg2ImgPipeline,
    ZImageInpaintPipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from single_parts import (
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    ToyCase,
    flow_scheduler,
    image_vae,
    picture,
    qwen3_encoder,
    rows_before,
    wake,
    without,
)
from tokenizers_single import qwen_tokenizer

Z_GRID = (3, 5)


def _z_image(cls: type, **scheduler: Any) -> Callable[[], Any]:
    def make() -> Any:
        tokenizer = qwen_tokenizer()
        torch.manual_seed(0)
        transformer = ZImageTransformer2DModel(
            in_channels=4,
            dim=32,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=16,
            axes_dims=[8, 4, 4],
            axes_lens=[256, 32, 32],
        )
        return cls(
            **_control(cls),
            scheduler=flow_scheduler(**scheduler),
            vae=image_vae(4, shift_factor=0.1),
            text_encoder=qwen3_encoder(tokenizer),
            tokenizer=tokenizer,
            transformer=wake(transformer, sharp=("norm_q.weight", "norm_k.weight")),
        )

    return make


def _control(cls: type) -> dict[str, Any]:
    """A control network, which attends to the text too but is not recorded."""
    if "ControlNet" not in cls.__name__:
        return {}
    torch.manual_seed(1)
    controlnet = ZImageControlNetModel(
        control_layers_places=[0],
        # Of the inpainting pipeline: the control's latents, the mask, those of the picture.
        control_in_dim=9 if "Inpaint" in cls.__name__ else 4,
        dim=32,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
    )
    return {"controlnet": wake(controlnet)}


def qwen_template(prompt: str) -> str:
    """Z-Image's prompt as its tokenizer is given it."""
    return f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"


def _z_columns(texts: list[str]) -> Callable[[ObservedCall, int], list[int]]:
    tokenizer = qwen_tokenizer()
    counts = [len(tokenizer(qwen_template(text)).input_ids) for text in texts]
    return lambda call, row: list(range(32, 32 + counts[row]))


def _z_disturb(kwargs: dict[str, Any], row: int, column: int) -> dict[str, Any]:
    features = [states.clone() for states in kwargs["cap_feats"]]
    features[row][column] += torch.linspace(-3, 3, features[row].shape[-1])
    return kwargs | {"cap_feats": features}


def _z_case(name: str, cls: type, texts: list[str], call: dict[str, Any], **fields: Any) -> Case:
    encoder = Encoder("qwen", "text_encoder", "tokenizer", lambda place: place)
    return ToyCase(
        name,
        _z_image(cls),
        {
            "prompt": PROMPTS[0],
            "num_inference_steps": 2,
            "height": 12,
            "width": 20,
            "output_type": "np",
            "max_sequence_length": 64,
        }
        | call,
        Z_GRID,
        {"single": r"layers\.\d+\.attention"},
        text_keys=_z_columns(texts),
        disturb=_z_disturb,
        encoders=(encoder,),
        states=lambda kwargs, row: kwargs["cap_feats"][row],
        row_count=lambda kwargs: len(kwargs["cap_feats"]),
        unmix=without("context_refiner", "noise_refiner"),
        **fields,
    )


def z_image() -> Case:
    """Two prompts with guidance: rows are [cond, uncond]."""
    return _z_case(
        "ZImagePipeline",
        ZImagePipeline,
        PROMPTS + NEGATIVES,
        {"prompt": PROMPTS, "negative_prompt": NEGATIVES, "guidance_scale": 4.0},
        rows=rows_before(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def z_image_two_images() -> Case:
    """The images of one prompt are adjacent."""
    texts = [text for text in PROMPTS + NEGATIVES for _ in range(2)]
    return _z_case(
        "ZImagePipeline two images",
        ZImagePipeline,
        texts,
        {
            "prompt": PROMPTS,
            "negative_prompt": NEGATIVES,
            "guidance_scale": 4.0,
            "num_images_per_prompt": 2,
        },
        rows=rows_before(4),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def z_image_turbo() -> Case:
    """Without guidance every row is conditional; the two prompts differ in length."""
    return _z_case(
        "ZImagePipeline turbo",
        ZImagePipeline,
        PROMPTS,
        {"prompt": PROMPTS, "guidance_scale": 0.0},
        rows=rows_before(2),
    )


def z_image_truncated() -> Case:
    """Guidance stops in the middle: later calls have the conditional row only."""
    return _z_case(
        "ZImagePipeline truncated",
        ZImagePipeline,
        [PROMPTS[0], NEGATIVES[0]],
        {"negative_prompt": NEGATIVES[0], "guidance_scale": 4.0, "cfg_truncation": 0.1},
        rows=rows_before(1),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )


def z_image_img2img() -> Case:
    return _z_case(
        "ZImageImg2ImgPipeline",
        ZImageImg2ImgPipeline,
        [PROMPTS[0], NEGATIVES[0]],
        {
            "negative_prompt": NEGATIVES[0],
            "guidance_scale": 4.0,
            "image": picture(20, 12),
            "num_inference_steps": 4,
            "strength": 0.5,
        },
        rows=rows_before(1),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )


def z_image_inpaint() -> Case:
    return _z_case(
        "ZImageInpaintPipeline",
        ZImageInpaintPipeline,
        [PROMPTS[0], NEGATIVES[0]],
        {
            "negative_prompt": NEGATIVES[0],
            "guidance_scale": 4.0,
            "image": picture(20, 12),
            "mask_image": picture(20, 12).convert("L"),
            "num_inference_steps": 4,
            "strength": 0.5,
        },
        rows=rows_before(1),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )


def z_image_control() -> Case:
    return _z_case(
        "ZImageControlNetPipeline",
        ZImageControlNetPipeline,
        PROMPTS + NEGATIVES,
        {
            "prompt": PROMPTS,
            "negative_prompt": NEGATIVES,
            "guidance_scale": 4.0,
            "control_image": picture(20, 12),
        },
        rows=rows_before(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def z_image_control_inpaint() -> Case:
    return _z_case(
        "ZImageControlNetInpaintPipeline",
        ZImageControlNetInpaintPipeline,
        [PROMPTS[0], NEGATIVES[0]],
        {
            "negative_prompt": NEGATIVES[0],
            "guidance_scale": 4.0,
            "image": picture(20, 12),
            "mask_image": picture(20, 12).convert("L"),
            "control_image": picture(20, 12),
        },
        rows=rows_before(1),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )


CASES: dict[str, Callable[[], Case]] = {
    "ZImagePipeline": z_image,
    "ZImagePipeline two images": z_image_two_images,
    "ZImagePipeline turbo": z_image_turbo,
    "ZImagePipeline truncated": z_image_truncated,
    "ZImageImg2ImgPipeline": z_image_img2img,
    "ZImageInpaintPipeline": z_image_inpaint,
    "ZImageControlNetPipeline": z_image_control,
    "ZImageControlNetInpaintPipeline": z_image_control_inpaint,
}
