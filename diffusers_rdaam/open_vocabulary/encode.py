"""Encode a text as the pipeline would, and say which row of the embedding is which token."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from diffusers_rdaam.attribution.prompt import Prompt, Token
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.recording.records.vocabulary import EncodedText
from diffusers_rdaam.tokens.alignment import prompt_of

TextLike = str | Tensor | EncodedText


def encoded(
    pipe: Any,
    text: TextLike,
    *,
    context: str | None = None,
    padding: bool = False,
    clip_skip: int | None = None,
) -> EncodedText:
    """A text, an embedding or what is encoded already, as :class:`EncodedText`.

    Args:
        pipe: whose ``encode_prompt`` makes the embedding, with all of its text encoders.
        text: a text, or an embedding ``(tokens, width)``, also with an axis of one before.
        context: a sentence with the text in it: its tokens are encoded there and taken out.
        padding: whether the padding behind the text is among the tokens, as it is of a prompt.
        clip_skip: as the pipeline's argument.

    Raises:
        InputError: the text is empty, too long, not in the context, or no text.
    """
    if isinstance(text, str):
        if context is None:
            return _encode(pipe, text, padding, clip_skip)
        return in_context(_encode(pipe, context, padding, clip_skip), text)
    if context is not None or padding:
        raise InputError("context= and padding= go with a text, not with an embedding.")
    if isinstance(text, EncodedText):
        return text
    if not isinstance(text, Tensor):
        raise InputError(
            f"Give a text or an embedding (tokens, width); got a {type(text).__name__}."
        )
    embedding = text[0] if text.ndim == 3 and text.shape[0] == 1 else text
    if embedding.ndim != 2 or not embedding.is_floating_point() or embedding.shape[0] == 0:
        raise InputError(
            f"An embedding is (tokens, width) of floating point numbers; got {tuple(text.shape)} "
            f"of {text.dtype}."
        )
    return EncodedText(Prompt.without_text(embedding.shape[0]), embedding)


# A function of torch around it, and no ``with`` of ours, out of which an interrupt could fall.
encoded_as_constant = torch.no_grad()(encoded)


def _encode(pipe: Any, text: str, padding: bool, clip_skip: int | None) -> EncodedText:
    if not text.strip():
        raise InputError("The text is empty. Give a word or a sentence to look for.")
    embedding = embeddings_of(pipe, [text], clip_skip)[0]
    prompt = prompt_of(pipe, text, embedding.shape[0])
    lost = [f"all of {word.text}" for word in prompt.partly_seen_words]
    lost += [word.text for word in prompt.lost_words]
    if lost:
        raise InputError(
            f"The text is longer than the text encoder's {len(prompt.tokens)} tokens; it would not "
            f"see {', '.join(lost[:20])}. Shorten it, or ask in parts."
        )
    if padding:
        return EncodedText(prompt, embedding)
    kept = [token for token in prompt.tokens if token.kind != "padding"]
    return EncodedText(_renumbered(text, kept), embedding[[token.column for token in kept]])


def embeddings_of(
    pipe: Any, texts: list[str], clip_skip: int | None = None, *, encode: Any = None, **more: Any
) -> Tensor:
    """``(texts, columns, width)`` from the pipeline's own method, whatever its arguments are.

    Args:
        pipe: that has the method.
        texts: to be encoded.
        clip_skip: as the pipeline's argument.
        encode: the method, if another than the pipeline's ``encode_prompt``.
        more: arguments that are passed on where the method has them.

    Raises:
        InputError: the pipeline encodes no text.
    """
    for name in ("encode_prompt", "_encode_prompt"):
        encode = getattr(pipe, name, None) if encode is None else encode
    if encode is None:
        raise InputError(
            f"{type(pipe).__name__} encodes no text. Give the embedding (tokens, width) in place "
            "of the text."
        )
    wanted = {
        "prompt": texts,
        "device": pipe._execution_device,
        "num_images_per_prompt": 1,
        "do_classifier_free_guidance": False,
        "clip_skip": clip_skip,
    } | more
    names = inspect.signature(encode).parameters
    found = encode(**{name: value for name, value in wanted.items() if name in names})
    return found[0] if isinstance(found, tuple) else found


def in_context(sentence: EncodedText, text: str) -> EncodedText:
    """The tokens of ``text`` as the sentence's, with the start and end tokens of the sentence.

    Where the text stands several times there is a row for each token of each.

    Raises:
        WordError: the sentence does not have it.
    """
    prompt = sentence.prompt
    match = prompt.find(text)
    tokens = []
    for token in prompt.tokens:
        if token.kind in ("start", "end"):
            tokens.append(token)
        elif token.column in match.columns:
            assert token.start is not None and token.end is not None
            begin = next(s for s, e in match.spans if token.overlaps(s, e))
            length = len(match.text)
            start = min(max(token.start - begin, 0), length)
            end = min(max(token.end - begin, start), length)
            tokens.append(replace(token, start=start, end=end))
    columns = [token.column for token in tokens]
    return EncodedText(_renumbered(match.text, tokens), sentence.embedding[columns])


def _renumbered(text: str, tokens: Iterable[Token]) -> Prompt:
    return Prompt(text, tuple(replace(token, column=i) for i, token in enumerate(tokens)))


def encoded_vocabulary(
    pipe: Any, given: Any, *, clip_skip: int | None = None
) -> tuple[EncodedText, ...]:
    """What ``attribution_vocabulary=`` of a pipeline's call means.

    Raises:
        InputError: it is neither a text nor a list of texts, or a text cannot be encoded.
    """
    if given is None:
        return ()
    texts = [given] if isinstance(given, (str, EncodedText)) else given
    if not isinstance(texts, Iterable) or isinstance(texts, Tensor):
        raise InputError(
            f"attribution_vocabulary= is a list of texts; got a {type(given).__name__}."
        )
    found: dict[str, EncodedText] = {}
    for text in texts:
        if not isinstance(text, (str, EncodedText)) or (
            isinstance(text, EncodedText) and text.prompt.text is None
        ):
            raise InputError(
                "attribution_vocabulary= is a list of texts, or of optimised tokens, each with a "
                f"name to find it by; {text!r} has none."
            )
        one = encoded_as_constant(pipe, text, clip_skip=clip_skip)
        found[one.prompt.text or ""] = one
    return tuple(found.values())
