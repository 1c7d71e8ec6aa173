"""ConceptRule: how concepts take the place of the prompt in a call of a transformer.

The transformer's own code is run with them: its embeddings, modulations and rotary positions. All
that is said here is which arguments its call has for text, and how a call for one position of the
image is made of one for all of it. Every concept is at the first position of the text: FLUX.1 and
Stable Diffusion 3 give all text one position, FLUX.2 and Qwen-Image count its tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Values = Mapping[str, Any]


def _as_they_are(values: dict[str, Any], tokens: int) -> dict[str, Any]:
    return values


@dataclass(frozen=True)
class ConceptRule:
    """The arguments of a transformer's call, and of its blocks, for concepts.

    Args:
        arguments: from the transformer, the arguments of a call of it by name, the rows of the
            prompt and the concepts' embedding ``(rows, tokens, width)`` to the arguments of a call
            with the concepts as its text and one position of the image.
        of_block: what is changed of the arguments that the transformer then gives to a block; from
            these and the number of the concepts' tokens.
    """

    arguments: Callable[[Any, Values, slice, Tensor], dict[str, Any]]
    of_block: Callable[[dict[str, Any], int], dict[str, Any]] = _as_they_are


def _flux(denoiser: Any, call: Values, rows: slice, concepts: Tensor) -> dict[str, Any]:
    """FLUX.1; the pooled embedding is zero, as in the code of ConceptAttention's authors."""
    more: dict[str, Any] = {}
    if "ip_adapter_image_embeds" in (call.get("joint_attention_kwargs") or {}):
        # The processors of an image prompt want its pictures: none here.
        more["joint_attention_kwargs"] = {"ip_hidden_states": []}
    return {
        **_sequence(call, rows, concepts),
        **_position_ids(call, concepts),
        "pooled_projections": torch.zeros_like(_of_rows(call, "pooled_projections", rows)),
        **more,
    }


def _flux2(denoiser: Any, call: Values, rows: slice, concepts: Tensor) -> dict[str, Any]:
    return {**_sequence(call, rows, concepts), **_position_ids(call, concepts)}


def _sd3(denoiser: Any, call: Values, rows: slice, concepts: Tensor) -> dict[str, Any]:
    patch = denoiser.config.patch_size
    return {
        "hidden_states": call["hidden_states"][rows, :, :patch, :patch],
        "encoder_hidden_states": concepts,
        "timestep": _of_rows(call, "timestep", rows),
        "pooled_projections": torch.zeros_like(_of_rows(call, "pooled_projections", rows)),
    }


def _qwen_image(denoiser: Any, call: Values, rows: slice, concepts: Tensor) -> dict[str, Any]:
    """Qwen-Image; its text begins where the image's positions end, so these are all named."""
    return {
        **_sequence(call, rows, concepts),
        "img_shapes": call["img_shapes"][rows],
        "additional_t_cond": _of_rows(call, "additional_t_cond", rows),
    }


def _qwen_image_block(values: dict[str, Any], tokens: int) -> dict[str, Any]:
    """One position of the image, and the text's first position for all tokens."""
    of_image, of_text = values["image_rotary_emb"]
    changed = {"image_rotary_emb": (of_image[:1], of_text[:1].expand(tokens, *of_text.shape[1:]))}
    if values.get("modulate_index") is not None:
        changed["modulate_index"] = values["modulate_index"][:, :1]
    return values | changed


FLUX = ConceptRule(_flux)
FLUX2 = ConceptRule(_flux2)
SD3 = ConceptRule(_sd3)
QWEN_IMAGE = ConceptRule(_qwen_image, _qwen_image_block)


def _sequence(call: Values, rows: slice, concepts: Tensor) -> dict[str, Any]:
    """The arguments of a transformer whose latents are a sequence of positions."""
    return {
        "hidden_states": call["hidden_states"][rows, :1],
        "encoder_hidden_states": concepts,
        "timestep": _of_rows(call, "timestep", rows),
        "guidance": _of_rows(call, "guidance", rows),
    }


def _position_ids(call: Values, concepts: Tensor) -> dict[str, Tensor]:
    """Position 0 for every token of the concepts, and the image's first position."""
    text, image = call["txt_ids"], call["img_ids"]
    image = image[0] if image.ndim == 3 else image
    return {
        "txt_ids": text.new_zeros(concepts.shape[1], text.shape[-1]),
        "img_ids": image[:1],
    }


def _of_rows(call: Values, name: str, rows: slice) -> Any:
    """Some rows of an argument that has one number, or vector, for each row of the call."""
    value = call.get(name)
    if isinstance(value, Tensor) and value.ndim and len(value) == len(call["hidden_states"]):
        return value[rows]
    return value
