"""Kandinsky 5: cross-attention over Qwen2.5-VL behind a template, in an image or a video."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from dense_oracle import Case, Encoder
from diffusers import (
    Kandinsky5I2IPipeline,
    Kandinsky5I2VPipeline,
    Kandinsky5T2IPipeline,
    Kandinsky5T2VPipeline,
    Kandinsky5Transformer3DModel,
)
from diffusers.pipelines.kandinsky5 import (
    pipeline_kandinsky,
    pipeline_kandinsky_i2i,
    pipeline_kandinsky_i2v,
    pipeline_kandinsky_t2i,
)
from single_parts import (
    COLUMNS,
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    ToyCase,
    alternate_calls,
    clean_without_ftfy,
    flow_scheduler,
    hunyuan_vae,
    image_vae,
    picture,
    qwen_vl_encoder,
    wake,
    without,
)
from toy_models import clip_encoder
from toy_qwen import qwen_encoder, qwen_processor
from toy_tokenizers import clip_tokenizer, qwen2_tokenizer

# What is asked for is replaced by the nearest of the pipeline's sizes: 48 x 80 pixels.
GRID = (3, 5)
# Of a video: 16 x 16 pixels and 4 frames are one token; the first frame is one of its own.
VIDEO_GRID = (2, 2, 3)
TEMPLATE = (
    "<|im_start|>system\nYou are a prompt engineer. Describe the image by detailing the color, "
    "shape, size, texture, quantity, text, spatial relationships of the objects and "
    "background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>"
)
DROPPED = 40
VIDEO_TEMPLATE = """\
<|im_start|>system
You are a prompt engineer. Describe the video in detail.
Describe how the camera moves or shakes, describe the zoom and view angle, whether it follows the \
objects.
Describe the location of the video, main characters or objects and their action.
Describe the dynamism of the video and presented actions.
Name the visual style of the video: whether it is a professional footage, user generated content, \
some kind of animation, video game or scren content.
Describe the visual effects, postprocessing and transitions if they are presented in the video.
Pay attention to the order of key actions shown in the scene.<|im_end|>
<|im_start|>user
{}<|im_end|>"""
VIDEO_DROPPED = 128
# "zoom" is four tokens, so that the beginning has as many as the pipeline drops.
VIDEO_WORDS = VIDEO_TEMPLATE.replace(" zoom", "")


EDIT_TEMPLATE = (
    "<|im_start|>system\nYou are a prompt engineer. Based on the provided source image (first "
    "image) and target image (second image), create an interesting text prompt that can be used "
    "together with the source image to create the target image:<|im_end|><|im_start|>user{}"
    "<|vision_start|><|image_pad|><|vision_end|><|im_end|>"
)
EDIT_DROPPED = 54
# "interesting" is seven tokens, so that all that the pipeline drops is of the template.
EDIT_WORDS = EDIT_TEMPLATE.replace("interesting", "")


class _Processor:
    """A processor of text and pictures that is given text only."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, *, text: Any, images: None, videos: None, **options: Any) -> Any:
        return self.tokenizer(text, **options)

    def decode(self, ids: Any) -> str:
        return self.tokenizer.decode(ids)


def _transformer(**config: Any) -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "in_visual_dim": 16,
        "in_text_dim": 32,
        "in_text_dim2": 32,
        "time_dim": 16,
        "out_visual_dim": 16,
        "patch_size": (1, 2, 2),
        "model_dim": 32,
        "ff_dim": 32,
        "num_text_blocks": 1,
        "num_visual_blocks": 2,
        "axes_dims": (4, 4, 8),
        "visual_cond": False,
        "attention_type": "regular",
    }
    transformer = Kandinsky5Transformer3DModel(**(sizes | config))
    return wake(transformer, sharp=("query_norm.weight", "key_norm.weight"))


def _parts(template: str) -> dict[str, Any]:
    tokenizer = qwen2_tokenizer(template)
    return {
        "text_encoder": qwen_vl_encoder(tokenizer),
        "tokenizer": _Processor(tokenizer),
        "text_encoder_2": clip_encoder(projected=False),
        "tokenizer_2": clip_tokenizer(),
        "scheduler": flow_scheduler(shift=7.0),
    }


def _pipeline() -> Any:
    clean_without_ftfy(pipeline_kandinsky_t2i)
    pipe = Kandinsky5T2IPipeline(
        **_parts(TEMPLATE), transformer=_transformer(), vae=image_vae(16, 4, shift_factor=0.1)
    )
    assert pipe.prompt_template == TEMPLATE
    assert pipe.prompt_template_encode_start_idx == DROPPED
    # Width and height; the pipeline's sizes are too large here.
    pipe.resolutions = [(48, 48), (80, 48), (48, 80)]
    return pipe


def _case(name: str, call: dict[str, Any], **fields: Any) -> Case:
    return ToyCase(
        name,
        _pipeline,
        {
            "prompt": PROMPTS,
            "num_inference_steps": 2,
            "height": 48,
            "width": 96,
            "output_type": "np",
            "max_sequence_length": COLUMNS,
        }
        | call,
        GRID,
        {"cross": r"visual_transformer_blocks\.\d+\.cross_attention"},
        text_keys=lambda call, row: list(range(call.key.shape[2])),
        unmix=without("text_transformer_blocks"),
        encoders=(Encoder("qwen", "text_encoder", "tokenizer", lambda place: place - DROPPED),),
        **fields,
    )


def kandinsky5() -> Case:
    """Calls of their own, conditional first, each as long as its longest text."""
    return _case(
        "Kandinsky5T2IPipeline",
        {"negative_prompt": NEGATIVES, "guidance_scale": 4.0},
        rows=alternate_calls(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def kandinsky5_without_guidance() -> Case:
    return _case("Kandinsky5T2IPipeline without guidance", {"guidance_scale": 1.0})


def _edit_pipeline(words: str = EDIT_WORDS) -> Any:
    clean_without_ftfy(pipeline_kandinsky_i2i)
    tokenizer = qwen2_tokenizer(words)
    parts = _parts(TEMPLATE) | {
        "text_encoder": wake(qwen_encoder(tokenizer, width=32)),
        "tokenizer": qwen_processor(tokenizer),
    }
    transformer = _transformer(visual_cond=True)
    pipe = Kandinsky5I2IPipeline(
        **parts, transformer=transformer, vae=image_vae(16, 4, shift_factor=0.1)
    )
    assert pipe.prompt_template == EDIT_TEMPLATE
    assert pipe.prompt_template_encode_start_idx == EDIT_DROPPED
    pipe.resolutions = [(48, 48), (80, 48), (48, 80)]
    return pipe


def kandinsky5_edit() -> Case:
    """A picture for each prompt, whose tokens are behind the prompt's."""
    case = _case(
        "Kandinsky5I2IPipeline",
        {
            "negative_prompt": NEGATIVES,
            "guidance_scale": 4.0,
            "image": [picture(96, 48), picture(80, 56)],
            # A prompt that is cut loses the mark of its picture, and the stock call ends.
            "max_sequence_length": 2 * COLUMNS,
        },
        rows=alternate_calls(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )
    encoder = Encoder(
        "qwen", "text_encoder", "tokenizer", lambda place: place - EDIT_DROPPED, before="user"
    )
    return replace(case, make=_edit_pipeline, encoders=(encoder,))


def _video(cls: type, module: Any, **config: Any) -> Callable[[], Any]:
    def make() -> Any:
        clean_without_ftfy(module)
        pipe = cls(**_parts(VIDEO_WORDS), transformer=_transformer(**config), vae=hunyuan_vae(16))
        assert pipe.prompt_template == VIDEO_TEMPLATE
        assert pipe.prompt_template_encode_start_idx == VIDEO_DROPPED
        return pipe

    return make


def _video_case(name: str, make: Callable[[], Any], call: dict[str, Any], **fields: Any) -> Case:
    case = _case(name, {"height": 32, "num_frames": 5, "width": 48} | call, **fields)
    encoder = Encoder("qwen", "text_encoder", "tokenizer", lambda place: place - VIDEO_DROPPED)
    return replace(case, make=make, grid=VIDEO_GRID, encoders=(encoder,))


def kandinsky5_video() -> Case:
    return _video_case(
        "Kandinsky5T2VPipeline",
        _video(Kandinsky5T2VPipeline, pipeline_kandinsky),
        {"negative_prompt": NEGATIVES, "guidance_scale": 4.0},
        rows=alternate_calls(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def kandinsky5_video_of_picture() -> Case:
    """The first latent frame is that of the picture."""
    case = _video_case(
        "Kandinsky5I2VPipeline",
        _video(Kandinsky5I2VPipeline, pipeline_kandinsky_i2v, visual_cond=True),
        {
            "prompt": PROMPTS[0],
            "negative_prompt": NEGATIVES[0],
            "guidance_scale": 4.0,
            "image": picture(48, 32),
            # The first four latent frames are normalized by those that come later.
            "num_frames": 17,
        },
        rows=alternate_calls(1),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )
    return replace(case, grid=(5, 2, 3))


CASES: dict[str, Callable[[], Case]] = {
    "Kandinsky5I2IPipeline": kandinsky5_edit,
    "Kandinsky5T2VPipeline": kandinsky5_video,
    "Kandinsky5I2VPipeline": kandinsky5_video_of_picture,
    "Kandinsky5T2IPipeline": kandinsky5,
    "Kandinsky5T2IPipeline without guidance": kandinsky5_without_guidance,
}
