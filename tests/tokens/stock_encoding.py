"""What the real encode_prompt of each pipeline class makes of a text, readable column by column.

In the place of each text encoder is one that writes every input id into the states it returns. What
the pipeline then cuts, drops, pads and puts together says which id each column is of.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import diffusers
import small_tokenizers as small
import torch
from diffusers.models.transformers.transformer_ideogram4 import LLM_TOKEN_INDICATOR
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from diffusers.pipelines.hunyuan_video import (
    pipeline_hunyuan_video_image2video as hunyuan_video_of_picture,
)
from diffusers.pipelines.omnigen import pipeline_omnigen, processor_omnigen
from diffusers.pipelines.prx import pipeline_prx, pipeline_prx_pixel
from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import (
    CONDITION_IMAGE_SIZE,
    calculate_dimensions,
)
from PIL import Image
from torch import nn
from transformers import Qwen2VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.processing_utils import ProcessorMixin
from transformers.utils import ModelOutput

WIDTH = 8
LAYERS = 40
# A column that no token has made.
NOTHING = 0


@dataclass
class States(ModelOutput):
    projected: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    pooler_output: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None


class IdEncoder(nn.Module):
    """A text encoder whose states are the input ids, plus one, in every channel."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace(
            hidden_size=WIDTH,
            d_model=WIDTH,
            eos_token_id=1,
            block_out_channels=[1] * 4,
            shift_factor=0.0,
        )

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def forward(self, input_ids: torch.Tensor, *_: Any, **__: Any) -> States:
        states = (input_ids.float() + 1)[..., None].expand(-1, -1, WIDTH).clone()
        return States(None, states, (states,) * LAYERS, states[:, :1].sum(1), states[:, :1].sum(1))


class PictureProcessor(Qwen2VLProcessor):
    """Qwen's processor without the one for videos, which needs torchvision."""

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        if argument_name == "video_processor":
            return None
        return super().check_argument_for_proper_class(argument_name, argument)


def picture_processor() -> PictureProcessor:
    pictures = Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=56 * 112)
    return PictureProcessor(image_processor=pictures, tokenizer=small.qwen(), video_processor=None)


class TextProcessor(ProcessorMixin):
    """As PixtralProcessor is without pictures, for which that class needs torchvision."""

    def __init__(self, tokenizer: Any, chat_template: str | None = None) -> None:
        super().__init__(tokenizer, chat_template=chat_template)

    def __call__(self, text: Any = None, **options: Any) -> Any:
        options = {name: value for name, value in options.items() if value is not None}
        return self.tokenizer(text, **{**options.pop("text_kwargs", {}), **options})


@dataclass(frozen=True)
class Stock:
    """A pipeline class of diffusers and how its text embedding is read.

    Args:
        name: of the class.
        parts: components; the others are None.
        ids: of the pipeline and arguments: the id of each column plus one, NOTHING where none is.
        arguments: of the call, for the source and for ``ids``.
        has_negative: whether the class takes a negative prompt.
    """

    name: str
    parts: Callable[[], dict[str, Any]]
    ids: Callable[[Any, dict[str, Any]], list[int]]
    arguments: dict[str, Any] = field(default_factory=dict)
    has_negative: bool = True

    def build(self) -> Any:
        cls = getattr(diffusers, self.name)
        needed = inspect.signature(cls.__init__).parameters
        parts = {
            name: None
            for name, one in needed.items()
            if name != "self" and one.default is inspect.Parameter.empty
        }
        return cls(**{**parts, **self.parts()})


def column_ids(states: torch.Tensor) -> list[int]:
    """Of one row's states ``(columns, …)``: in each column the id plus one."""
    flat = states.flatten(1)
    assert bool((flat == flat[:, :1]).all())
    return [round(value) for value in flat[:, 0].tolist()]


def one_encoder(tokenizer: Callable[[], Any]) -> Callable[[], dict[str, Any]]:
    return lambda: {"tokenizer": tokenizer(), "text_encoder": IdEncoder()}


def encoders(**tokenizers: Callable[[], Any]) -> Callable[[], dict[str, Any]]:
    """Tokenizers by the suffix of their attribute."""

    def parts() -> dict[str, Any]:
        found: dict[str, Any] = {}
        for suffix, tokenizer in tokenizers.items():
            found[f"tokenizer{suffix.removesuffix('_1')}"] = tokenizer()
            found[f"text_encoder{suffix.removesuffix('_1')}"] = IdEncoder()
        return found

    return parts


CPU = torch.device("cpu")


def first(**fixed: Any) -> Callable[[Any, dict[str, Any]], list[int]]:
    """The first of what encode_prompt returns; of a negative prompt the first of its own."""
    at = fixed.pop("negative_at", 2)

    def ids(pipe: Any, arguments: dict[str, Any]) -> list[int]:
        given = dict(arguments)
        options = {**fixed}
        if given.pop("is_negative", False):
            options |= {"prompt": "a", "negative_prompt": given.pop("prompt")}
            options |= {"do_classifier_free_guidance": True, **given}
            return column_ids(pipe.encode_prompt(**options)[at][0])
        return column_ids(pipe.encode_prompt(**options, **given)[0][0])

    return ids


def alone(pipe: Any, arguments: dict[str, Any]) -> list[int]:
    """Of classes that encode a negative prompt by another call of encode_prompt."""
    given = {name: value for name, value in arguments.items() if name != "is_negative"}
    name = "max_sequence_length"
    if name in inspect.signature(pipe.__call__).parameters:
        given = {name: inspect.signature(pipe.__call__).parameters[name].default, **given}
    return column_ids(pipe.encode_prompt(**given, device=CPU)[0][0])


def valid(mask_at: int) -> Callable[[Any, dict[str, Any]], list[int]]:
    """As ``alone``, where padding is masked and no column; the mask's place in what is returned."""

    def ids(pipe: Any, arguments: dict[str, Any]) -> list[int]:
        given = {name: value for name, value in arguments.items() if name != "is_negative"}
        found = pipe.encode_prompt(**given, device=CPU)
        states, mask = found[0][0], found[mask_at]
        return column_ids(states if mask is None else states[mask[0].bool()])

    return ids


def ideogram4_ids(pipe: Any, arguments: dict[str, Any]) -> list[int]:
    # Of a text encoder's layers, which the class calls one by one, all have the ids.
    pipe._get_text_encoder_hidden_states = lambda encoder, ids, mask, places: [
        encoder(ids).last_hidden_state
    ]
    states, _, _, roles = pipe.encode_prompt(arguments["prompt"], 2, 2, 4096, CPU)
    return column_ids(states[0][roles[0] == LLM_TOKEN_INDICATOR])


def hunyuan_video15_ids(picture_first: bool) -> Callable[[Any, dict[str, Any]], list[int]]:
    def ids(pipe: Any, arguments: dict[str, Any]) -> list[int]:
        qwen, mask, byt5, mask_2 = pipe.encode_prompt(arguments["prompt"], device=CPU)
        # The place of a picture has tokens of number 0.
        picture = [1] * 5
        parts = picture if picture_first else []
        for keeps in (True, False):
            for states, valid in ((byt5, mask_2), (qwen, mask)):
                parts = parts + column_ids(states[0][valid[0].bool() == keeps])
            if keeps and not picture_first:
                parts = parts + picture
        return parts

    return ids


def hunyuan_video15_parts() -> dict[str, Any]:
    coder = IdEncoder()
    coder.temporal_compression_ratio, coder.spatial_compression_ratio = 4, 16
    coder.config.latent_channels = 32
    return encoders(_1=small.qwen, _2=small.byt5)() | {"vae": coder}


def hidream_ids(pipe: Any, arguments: dict[str, Any]) -> list[int]:
    given = dict(arguments)
    negative = given.pop("is_negative", False)
    if negative:
        given = {f"negative_{name}": value for name, value in given.items()} | {"prompt": "a"}
    found = pipe.encode_prompt(**given, dtype=torch.float32, do_classifier_free_guidance=negative)
    t5, llama = (found[1], found[3]) if negative else (found[0], found[2])
    # As the transformer puts them: T5, the last states of Llama, those of the block.
    return [id for part in (t5[0], llama[-1, 0], llama[0, 0]) for id in column_ids(part)]


def hunyuan_dit_ids(pipe: Any, arguments: dict[str, Any]) -> list[int]:
    found: list[int] = []
    for index, length in enumerate((77, 256)):
        ids = first(negative_at=1, max_sequence_length=length, text_encoder_index=index)
        found += ids(pipe, arguments)
    return found


def hunyuan_image_ids(pipe: Any, arguments: dict[str, Any]) -> list[int]:
    qwen, mask, byt5, mask_2 = pipe.encode_prompt(arguments["prompt"], device=CPU)
    parts = []
    for keeps in (True, False):
        for states, valid in ((byt5, mask_2), (qwen, mask)):
            parts += column_ids(states[0][valid[0].bool() == keeps])
    return parts


def kandinsky_parts() -> dict[str, Any]:
    return {
        "tokenizer": picture_processor(), "text_encoder": IdEncoder(),
        "tokenizer_2": small.clip(), "text_encoder_2": IdEncoder(),
        "transformer": None, "vae": None, "scheduler": None,
    }  # fmt: skip


def kandinsky_edit_ids(pipe: Any, arguments: dict[str, Any]) -> list[int]:
    found = pipe.encode_prompt(arguments["prompt"], image=arguments["image"], device=CPU)
    return column_ids(found[0][0])


def bria_fibo2_ids(pipe: Any, arguments: dict[str, Any]) -> list[int]:
    """The ids that its encoder is given, whose states are normalized afterwards."""
    prompt, images = arguments["prompt"], arguments.get("image")
    if arguments.get("is_negative"):
        images = None
    elif images is None:
        caption, _ = pipe._parse_prompt(prompt)
        if not isinstance(caption, str):
            prompt = json.dumps(caption or {}, separators=(",", ":"), ensure_ascii=False)
    given = []

    def note(module: Any, args: Any, inputs: dict[str, Any]) -> None:
        given.extend(inputs["input_ids"][0][inputs["attention_mask"][0].bool()].tolist())

    handle = pipe.text_encoder.register_forward_pre_hook(note, with_kwargs=True)
    pipe.encode_prompt(prompt, images, device=CPU)
    handle.remove()
    return [index + 1 for index in given]


def bria_fibo2_parts() -> dict[str, Any]:
    return {"processor": picture_processor(), "text_encoder": IdEncoder()}


def hunyuan_picture_ids(pipe: Any, arguments: dict[str, Any]) -> list[int]:
    names = ("prompt", "prompt_template", "max_sequence_length")
    given = {name: arguments[name] for name in names if name in arguments}
    return column_ids(pipe.encode_prompt(image=PICTURE, **given, device=CPU)[0][0])


class _NoPixels:
    """A processor of pictures, which the encoder of ids does not look at."""

    def __call__(self, picture: Any, **_: Any) -> Any:
        return SimpleNamespace(pixel_values=torch.zeros(1, 3, 4, 4))


_HUNYUAN_PICTURE = hunyuan_video_of_picture.DEFAULT_PROMPT_TEMPLATE


def _llava() -> Any:
    tokenizer = hunyuan_llama()
    marks = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<image>"]
    tokenizer.add_tokens(marks, special_tokens=True)
    return tokenizer


def hunyuan_picture_parts() -> dict[str, Any]:
    parts = encoders(_1=_llava, _2=small.clip)() | {"image_processor": _NoPixels()}
    tokenizer, config = parts["tokenizer"], parts["text_encoder"].config
    config.image_token_index = tokenizer.convert_tokens_to_ids("<image>")
    config.pad_token_id = tokenizer.pad_token_id
    return parts


def hunyuan_picture_template() -> dict[str, Any]:
    """The pipeline's, with the numbers of tokens that the small tokenizer has of it."""
    tokenizer, template = _llava(), _HUNYUAN_PICTURE["template"]
    index = tokenizer.convert_tokens_to_ids("<image>")
    start = tokenizer(template).input_ids.index(index)
    return {
        "template": template,
        "crop_start": len(tokenizer(template.partition("{}")[0]).input_ids),
        "image_emb_start": start,
        "image_emb_end": start + 6,
        "image_emb_len": 6,
    }


def unclip_ids(pipe: Any, arguments: dict[str, Any]) -> list[int]:
    """The columns of the image embedding, which text_proj puts before those of the text."""
    negative = arguments.get("is_negative", False)
    _, states, _ = pipe._encode_prompt(arguments["prompt"], CPU, 1, negative)
    projected = pipe.text_proj(
        image_embeddings=torch.zeros(1, WIDTH),
        prompt_embeds=torch.zeros(1, WIDTH),
        text_encoder_hidden_states=states[:1],
        do_classifier_free_guidance=False,
    )[0]
    return [NOTHING] * (projected.shape[1] - states.shape[1]) + column_ids(states[0])


class Given(Exception):
    """What a denoiser was given."""


class Denoiser(IdEncoder):
    """Raises with what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(in_channels=4, sample_size=8)

    def forward(self, *_: Any, encoder_hidden_states: torch.Tensor, **__: Any) -> None:
        raise Given(encoder_hidden_states)


def ldm_ids(pipe: Any, arguments: dict[str, Any]) -> list[int]:
    try:
        pipe(arguments["prompt"], height=64, width=64, num_inference_steps=1)
    except Given as found:
        return column_ids(found.args[0][0])
    raise AssertionError("the denoiser was not called")


def ldm_parts() -> dict[str, Any]:
    return {
        "bert": IdEncoder(), "tokenizer": small.bert(), "unet": Denoiser(),
        "scheduler": diffusers.DDIMScheduler(),
        "vqvae": IdEncoder(),
    }  # fmt: skip


def omnigen_ids(pipe: Any, arguments: dict[str, Any]) -> list[int]:
    pictures = arguments.get("input_images")
    negative = arguments.get("is_negative", False)
    found = pipe.multimodal_processor(
        ["a " * 9 if negative else arguments["prompt"]],
        None if pictures is None else [pictures],
        height=64,
        width=64,
        negative_prompt=arguments["prompt"] if negative else "a",
    )
    return [id + 1 for id in found["input_ids"][int(negative)].tolist()]


def picture_ids(pipe: Any, arguments: dict[str, Any]) -> list[int]:
    pictures = arguments["image"]
    if "Plus" in type(pipe).__name__:
        # As the call makes them small, whatever their size.
        several = pictures if isinstance(pictures, list) else [pictures]
        pictures = [
            one.resize(calculate_dimensions(CONDITION_IMAGE_SIZE, one.width / one.height)[:2])
            for one in several
        ]
    return alone(pipe, {**arguments, "image": pictures})


def longcat_ids(pipe: Any, arguments: dict[str, Any]) -> list[int]:
    return column_ids(pipe.encode_prompt(arguments["prompt"])[0][0])


def longcat_edit_ids(pipe: Any, arguments: dict[str, Any]) -> list[int]:
    # A prompt that is too long makes this class fail: it asks for the length of a length.
    pipe.tokenizer_max_length = 4096
    return column_ids(pipe.encode_prompt(arguments["prompt"], image=arguments["image"])[0][0])


def ernie_ids(pipe: Any, arguments: dict[str, Any]) -> list[int]:
    return column_ids(pipe.encode_prompt(arguments["prompt"], CPU)[0])


def sd3_ids(pipe: Any, arguments: dict[str, Any]) -> list[int]:
    given = {"prompt_2": None, "prompt_3": None, **arguments}
    negative = given.pop("is_negative", False)
    if negative:
        texts = ("prompt", "prompt_2", "prompt_3")
        given |= {f"negative_{name}": given[name] for name in texts}
        given |= {"prompt": "a", "prompt_2": None, "prompt_3": None}
    found = pipe.encode_prompt(**given, do_classifier_free_guidance=negative)[int(negative)][0]
    # The two CLIP encoders' channels are side by side and do not fill the width of T5's.
    return column_ids(found[:, :WIDTH])


class ClipEncoder(IdEncoder):
    """CLIP with a projection, whose output begins with the projected pooled state."""

    def forward(self, input_ids: torch.Tensor, *_: Any, **__: Any) -> States:
        found = super().forward(input_ids)
        return States(hidden_states=found.hidden_states, projected=found.pooler_output)


class Doubled(IdEncoder):
    """T5 of Stable Diffusion 3, as wide as both CLIP encoders together and more."""

    def forward(self, input_ids: torch.Tensor, *_: Any, **__: Any) -> States:
        states = super().forward(input_ids).last_hidden_state
        assert states is not None
        return States(last_hidden_state=states.repeat(1, 1, 3))


def sd3_parts() -> dict[str, Any]:
    parts = encoders(_1=small.clip, _2=small.clip, _3=small.t5)()
    clips = {"text_encoder": ClipEncoder(), "text_encoder_2": ClipEncoder()}
    return {**parts, **clips, "text_encoder_3": Doubled()}


def sd3_without_t5() -> dict[str, Any]:
    transformer = IdEncoder()
    transformer.config.joint_attention_dim = 3 * WIDTH
    transformer.config.sample_size, transformer.config.patch_size = 8, 2
    return {**sd3_parts(), "text_encoder_3": None, "tokenizer_3": None, "transformer": transformer}


def hidream_parts(t5_length: int = 512) -> dict[str, Any]:
    t5, llama = small.t5(t5_length), small.llama
    parts = encoders(_1=small.clip, _2=small.clip, _3=lambda: t5, _4=llama)()
    return parts | {"text_encoder": ClipEncoder(), "text_encoder_2": ClipEncoder()}


PICTURE = Image.new("RGB", (60, 100), "red")


def text_proj() -> Any:
    return UnCLIPTextProjModel(
        clip_embeddings_dim=WIDTH, time_embed_dim=4, cross_attention_dim=WIDTH
    )


def flux2_parts() -> dict[str, Any]:
    processor = TextProcessor(small.mistral(), chat_template=small.MISTRAL)
    return {"tokenizer": processor, "text_encoder": IdEncoder()}


def picture_parts() -> dict[str, Any]:
    processor = picture_processor()
    return {
        "processor": processor, "tokenizer": processor.tokenizer, "text_encoder": IdEncoder(),
    }  # fmt: skip


def longcat_edit_parts() -> dict[str, Any]:
    parts = picture_parts()
    return {"text_processor": parts.pop("processor"), **parts}


def hunyuan_llama() -> Any:
    tokenizer = small.llama()
    tokenizer.padding_side = "right"
    return tokenizer


def qwen_of_parts() -> Any:
    return small.qwen(small.CHATML_OF_PARTS)


def nucleus_parts() -> dict[str, Any]:
    processor = picture_processor()
    processor.chat_template = small.CHATML_OF_PARTS
    return {"processor": processor, "text_encoder": IdEncoder()}


def bria_fibo_parts() -> dict[str, Any]:
    return one_encoder(small.qwen)() | {"transformer": IdEncoder()}


def ltx2_parts() -> dict[str, Any]:
    connectors = IdEncoder()
    connectors.video_connector = SimpleNamespace(learnable_registers=None)
    transformer = IdEncoder()
    transformer.config.patch_size = transformer.config.patch_size_t = 1
    parts = one_encoder(small.gemma)()
    return parts | {"connectors": connectors, "transformer": transformer}


def krea2_parts() -> dict[str, Any]:
    return one_encoder(small.qwen)() | {"text_encoder_select_layers": (1, 2, 3)}


def prx_parts() -> dict[str, Any]:
    if not hasattr(pipeline_prx, "ftfy"):
        # The class uses it without asking whether it is installed.
        pipeline_prx.ftfy = SimpleNamespace(fix_text=lambda text: text)
    tokenizer = small.gemma()
    tokenizer.model_max_length = 60
    return {"tokenizer": tokenizer, "text_encoder": IdEncoder()}


def prx_pixel_parts() -> dict[str, Any]:
    if not hasattr(pipeline_prx_pixel, "ftfy"):
        # As above.
        pipeline_prx_pixel.ftfy = SimpleNamespace(fix_text=lambda text: text)
    return one_encoder(small.qwen)()


def omnigen_parts() -> dict[str, Any]:
    if not hasattr(processor_omnigen, "transforms"):
        # Without torchvision the class is not made; of a picture only its size counts here.
        processor_omnigen.transforms = SimpleNamespace(
            Compose=lambda steps: lambda picture: torch.zeros(3, picture.height, picture.width),
            Lambda=lambda _: None, ToTensor=lambda: None, Normalize=lambda **_: None,
        )  # fmt: skip
        pipeline_omnigen.OmniGenMultiModalProcessor = processor_omnigen.OmniGenMultiModalProcessor
    return {"tokenizer": small.llama(), "transformer": None}


def sprint_ids(pipe: Any, arguments: dict[str, Any]) -> list[int]:
    given = {name: value for name, value in arguments.items() if name != "is_negative"}
    return column_ids(pipe.encode_prompt(**given)[0][0])


# The toys' vocabularies have a token for each letter of the system prompts.
LONG = {"max_sequence_length": 1200}
STOCK: dict[str, list[Stock]] = {
    "allegro": [Stock("AllegroPipeline", one_encoder(small.t5), first(max_sequence_length=64))],
    "auraflow": [Stock("AuraFlowPipeline", one_encoder(small.t5), first(max_sequence_length=48))],
    "bria": [
        Stock(
            "BriaPipeline",
            lambda: one_encoder(small.t5)() | {"transformer": IdEncoder(), "vae": IdEncoder()},
            first(negative_at=1, max_sequence_length=40),
        )
    ],
    "bria_fibo": [
        Stock("BriaFiboPipeline", bria_fibo_parts, valid(3)),
        Stock("BriaFiboPipeline", bria_fibo_parts, valid(3), {"max_sequence_length": 20}),
    ],
    "bria_fibo2": [
        Stock("BriaFibo2Pipeline", bria_fibo2_parts, bria_fibo2_ids),
        Stock("BriaFibo2Pipeline", bria_fibo2_parts, bria_fibo2_ids, {"image": [PICTURE]}),
    ],
    "chroma": [
        Stock("ChromaPipeline", one_encoder(small.t5), first(negative_at=3, max_sequence_length=50))
    ],
    "cogvideox": [
        Stock("CogVideoXPipeline", one_encoder(small.t5), first(negative_at=1, device=CPU))
    ],
    "cogview3": [
        Stock("CogView3PlusPipeline", one_encoder(small.t5), first(negative_at=1, device=CPU))
    ],
    "cogview4": [
        Stock("CogView4Pipeline", one_encoder(small.glm), first(negative_at=1, device=CPU))
    ],
    "cosmos2": [
        Stock(
            "Cosmos2TextToImagePipeline",
            lambda: one_encoder(small.t5)() | {"safety_checker": IdEncoder()},
            first(negative_at=1),
        )
    ],
    "deepfloyd": [Stock("IFPipeline", one_encoder(small.t5), first(negative_at=1))],
    "easyanimate": [
        Stock(
            "EasyAnimatePipeline",
            one_encoder(qwen_of_parts),
            first(negative_at=1, do_classifier_free_guidance=False),
        )
    ],
    "ernie": [Stock("ErnieImagePipeline", one_encoder(small.mistral), ernie_ids)],
    "flux": [
        Stock("FluxPipeline", encoders(_1=small.clip, _2=small.t5), alone),
        Stock(
            "FluxPipeline",
            encoders(_1=small.clip, _2=small.t5),
            alone,
            {"prompt_2": "the red hat", "max_sequence_length": 20},
        ),
    ],
    "flux2": [
        Stock("Flux2Pipeline", flux2_parts, alone, {"max_sequence_length": 1200}, False),
        Stock("Flux2Pipeline", one_encoder(small.mistral), alone, {}, False),
    ],
    "flux2_klein": [Stock("Flux2KleinPipeline", one_encoder(small.qwen), alone)],
    "hidream": [
        Stock(
            "HiDreamImagePipeline",
            hidream_parts,
            hidream_ids,
        ),
        Stock(
            "HiDreamImagePipeline",
            lambda: hidream_parts(40),
            hidream_ids,
            {"prompt_3": "a hat", "prompt_4": "blue eyes"},
        ),
    ],
    "hunyuan_dit": [
        Stock("HunyuanDiTPipeline", encoders(_1=small.bert, _2=small.t5), hunyuan_dit_ids)
    ],
    "hunyuan_image": [
        Stock("HunyuanImagePipeline", encoders(_1=small.qwen, _2=small.byt5), hunyuan_image_ids)
    ],
    "hunyuan_video": [
        Stock(
            "HunyuanVideoPipeline",
            encoders(_1=hunyuan_llama, _2=small.clip),
            alone,
            {"prompt_template": {"template": "Say: {}<|eot_id|>", "crop_start": 3}},
        ),
        Stock("HunyuanVideoPipeline", encoders(_1=hunyuan_llama, _2=small.clip), alone),
    ],
    "hunyuan_video15": [
        Stock("HunyuanVideo15Pipeline", hunyuan_video15_parts, hunyuan_video15_ids(False))
    ],
    "hunyuan_video15_picture": [
        Stock(
            "HunyuanVideo15ImageToVideoPipeline", hunyuan_video15_parts, hunyuan_video15_ids(True)
        )
    ],
    "hunyuan_video_picture": [
        Stock(
            "HunyuanVideoImageToVideoPipeline", hunyuan_picture_parts, hunyuan_picture_ids,
            {"prompt_template": hunyuan_picture_template()},
        ),
        Stock(
            "HunyuanVideoImageToVideoPipeline", hunyuan_picture_parts, hunyuan_picture_ids,
            {"prompt_template": hunyuan_picture_template(), "max_sequence_length": 24},
        ),
    ],
    "ideogram4": [Stock("Ideogram4Pipeline", one_encoder(qwen_of_parts), ideogram4_ids)],
    "kandinsky5": [
        Stock("Kandinsky5T2IPipeline", kandinsky_parts, alone),
        Stock("Kandinsky5T2IPipeline", kandinsky_parts, alone, {"max_sequence_length": 30}),
    ],
    "kandinsky5_edit": [
        Stock("Kandinsky5I2IPipeline", kandinsky_parts, kandinsky_edit_ids, {"image": PICTURE}),
    ],
    "krea2": [Stock("Krea2Pipeline", krea2_parts, alone)],
    "ldm": [Stock("LDMTextToImagePipeline", ldm_parts, ldm_ids, has_negative=False)],
    "longcat": [Stock("LongCatImagePipeline", one_encoder(small.qwen), longcat_ids)],
    "longcat_edit": [
        Stock(
            "LongCatImageEditPipeline", longcat_edit_parts, longcat_edit_ids, {"image": PICTURE}
        )
    ],
    "ltx": [Stock("LTXPipeline", one_encoder(small.t5), first())],
    "ltx2": [Stock("LTX2Pipeline", ltx2_parts, first())],
    "lumina": [Stock("LuminaPipeline", one_encoder(small.gemma), first())],
    "lumina2": [
        Stock("Lumina2Pipeline", one_encoder(small.gemma), first(), LONG),
        Stock("Lumina2Pipeline", one_encoder(small.gemma), first(), {"system_prompt": "See:"}),
    ],
    "mochi": [
        Stock("MochiPipeline", one_encoder(small.t5), first()),
        Stock(
            "MochiPipeline",
            lambda: one_encoder(small.t5)() | {"force_zeros_for_empty_prompt": True},
            first(),
        ),
    ],
    "nucleus": [
        Stock("NucleusMoEImagePipeline", nucleus_parts, valid(1), {"max_sequence_length": 1200}),
        Stock("NucleusMoEImagePipeline", nucleus_parts, valid(1), {"max_sequence_length": 400}),
    ],
    "omnigen": [
        Stock("OmniGenPipeline", omnigen_parts, omnigen_ids),
        Stock("OmniGenPipeline", omnigen_parts, omnigen_ids, {"input_images": [PICTURE]}, False),
    ],
    "ovis": [Stock("OvisImagePipeline", one_encoder(small.qwen), first(negative_at=1))],
    "pixart": [
        Stock("PixArtAlphaPipeline", one_encoder(small.t5), first(max_sequence_length=120)),
        Stock("PixArtSigmaPipeline", one_encoder(small.t5), first(max_sequence_length=300)),
    ],
    "prx": [Stock("PRXPipeline", prx_parts, first())],
    "prx_pixel": [Stock("PRXPixelPipeline", prx_pixel_parts, first())],
    "qwen_image": [Stock("QwenImagePipeline", one_encoder(small.qwen), alone)],
    "qwen_image_edit": [
        Stock("QwenImageEditPipeline", picture_parts, picture_ids, {"image": PICTURE})
    ],
    "qwen_image_edit_plus": [
        Stock("QwenImageEditPlusPipeline", picture_parts, picture_ids, {"image": PICTURE}),
        Stock(
            "QwenImageEditPlusPipeline",
            picture_parts,
            picture_ids,
            {"image": [PICTURE, PICTURE.resize((100, 50))]},
        ),
    ],
    "sana": [
        Stock(
            "SanaPipeline", one_encoder(small.gemma), first(),
            {"complex_human_instruction": ["Look:", "- a {thing}", "Prompt: "]},
        ),
        Stock(
            "SanaPipeline", one_encoder(small.gemma), first(), {"complex_human_instruction": None}
        ),
        Stock(
            "SanaSprintPipeline", one_encoder(small.gemma), sprint_ids,
            {"complex_human_instruction": ["Look: "]}, False,
        ),
    ],
    "sd3": [
        Stock("StableDiffusion3Pipeline", sd3_without_t5, sd3_ids),
        Stock("StableDiffusion3Pipeline", sd3_parts, sd3_ids),
        Stock(
            "StableDiffusion3Pipeline", sd3_parts, sd3_ids,
            {"prompt_2": "a cat", "prompt_3": "a red hat", "max_sequence_length": 64},
        ),
    ],
    "unclip": [
        Stock(
            "UnCLIPPipeline",
            lambda: one_encoder(small.clip)() | {"text_proj": text_proj()},
            unclip_ids,
            has_negative=False,
        )
    ],
    "wan": [Stock("WanPipeline", one_encoder(small.t5), first(negative_at=1))],
    "z_image": [
        Stock("ZImagePipeline", one_encoder(small.qwen), alone),
        Stock("ZImagePipeline", one_encoder(small.qwen), alone, {"max_sequence_length": 24}),
    ],
}  # fmt: skip
