"""Encode concepts for a transformer: each text alone, and the rows of its own tokens."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from diffusers_rdaam.errors import InputError, UnsupportedPipelineError
from diffusers_rdaam.families import family_of
from diffusers_rdaam.open_vocabulary.encode import embeddings_of
from diffusers_rdaam.recording.records.concepts import Concept
from diffusers_rdaam.tokens.prompt_of_columns import prompt_columns
from diffusers_rdaam.tokens.sources import SOURCES

# Arguments of a pipeline's call that its encode_prompt takes too.
_OF_ENCODING = ("max_sequence_length", "text_encoder_out_layers", "clip_skip")


def has_concepts(pipe: Any) -> bool:
    """Whether the texts of a vocabulary are concepts, which compete in one softmax."""
    try:
        family = family_of(pipe)
    except UnsupportedPipelineError:
        # A denoiser, which encodes no text.
        return False
    concepts = getattr(family, "concepts", None)
    return concepts is not None and concepts(pipe) is not None


@torch.no_grad()
def encoded_concepts(
    pipe: Any, given: Any, arguments: Mapping[str, Any], *, softmax: bool
) -> tuple[Concept, ...]:
    """What ``attribution_vocabulary=`` of a transformer's call means, each text once.

    Args:
        pipe: whose ``encode_prompt`` makes the embeddings.
        given: a list of texts, or one.
        arguments: of the pipeline's call, by name.
        softmax: whether the maps are a softmax, for which there must be two concepts.

    Raises:
        InputError: it is not a list of texts, or has one text for a softmax; or a text is empty or
            too long.
        UnsupportedPipelineError: the pipeline encodes no text without a picture.
    """
    texts = list(dict.fromkeys(_texts(given)))
    if not texts or (softmax and len(texts) == 1):
        raise InputError(
            "attribution_vocabulary= of a transformer is a list of at least two texts, which "
            f"compete at every pixel; got {texts!r:.100}. Add what else is to be seen, such as "
            "'background', or record scores without a softmax with "
            "RDAAMProcessor(concepts='scores')."
        )
    _check_encoding(pipe)
    return tuple(_encoded(pipe, text, arguments) for text in texts)


def _texts(given: Any) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, Iterable) or isinstance(texts, Tensor):
        raise InputError(
            f"attribution_vocabulary= is a list of texts; got a {type(given).__name__}."
        )
    texts = list(texts)
    for text in texts:
        if not isinstance(text, str):
            raise InputError(
                "attribution_vocabulary= of a transformer is a list of texts; got a "
                f"{type(text).__name__} in it."
            )
        if not text.strip():
            raise InputError("A text of the vocabulary is empty. Give a word or a few.")
    return texts


def _check_encoding(pipe: Any) -> None:
    encode = getattr(pipe, "encode_prompt", None)
    names = () if encode is None else inspect.signature(encode).parameters
    if encode is None or "image" in names:
        why = "encodes no text" if encode is None else "encodes texts together with a picture"
        raise UnsupportedPipelineError(
            f"{type(pipe).__name__} {why}, so a concept cannot be encoded alone. Leave out "
            "attribution_vocabulary=."
        )


def _encoded(pipe: Any, text: str, arguments: Mapping[str, Any]) -> Concept:
    """The rows of the text's own tokens, of all encoders; none of a template, end or padding."""
    given = {name: arguments[name] for name in _OF_ENCODING if name in arguments}
    others = {"prompt_2": None, "prompt_3": None}
    embedding = embeddings_of(pipe, [text], **others, **given)[0]
    columns = SOURCES[family_of(pipe).tokens](
        pipe, {**arguments, **others, "prompt": text}, len(embedding)
    )
    if all(one.cut for one in columns) or not prompt_columns(columns):
        raise InputError(
            f"{text[:100]!r} does not fit into the {len(embedding)} tokens of the text encoder. "
            "Shorten it."
        )
    return Concept(text, embedding[list(prompt_columns(columns))])
