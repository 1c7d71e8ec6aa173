"""Encode tokens as the pipeline would encode a text, with all of its text encoders.

Which hidden states a pipeline takes, and how it puts two encoders together, is known to its
``encode_prompt`` alone. A copy of the pipeline runs it, whose tokenizers answer with the tokens
that are to be encoded; the pipeline itself stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BatchEncoding

from diffusers_rdaam.families.registry import stock_class
from diffusers_rdaam.open_vocabulary.encode import embeddings_of
from diffusers_rdaam.tokens.column_layouts import Layout

ENCODERS = ("text_encoder", "text_encoder_2")
TOKENIZERS = ("tokenizer", "tokenizer_2")


class WrittenTokens:
    """A tokenizer's stand-in, which answers any text with the windows of a layout.

    Args:
        tokenizer: whose other attributes it has.
        ids, mask: the tokens of each window, and which of them are not padding.
    """

    def __init__(self, tokenizer: Any, ids: Sequence[Sequence[int]], mask: Any) -> None:
        self._tokenizer = tokenizer
        self._ids, self._mask = ids, mask
        self.model_max_length = len(ids[0])

    def __call__(self, *args: Any, **kwargs: Any) -> BatchEncoding:
        # On the CPU, whatever the default device is: where a tokenizer's tensors are.
        tensors = {
            "input_ids": torch.tensor(self._ids, device="cpu"),
            "attention_mask": torch.tensor(self._mask, device="cpu"),
        }
        return BatchEncoding(tensors)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_tokenizer"], name)


def loaded_encoders(pipe: Any) -> list[nn.Module]:
    """The text encoders of the pipeline; none if a tokenizer of it has none."""
    encoders = [getattr(pipe, name, None) for name in ENCODERS]
    for encoder, name in zip(encoders, TOKENIZERS, strict=True):
        if encoder is None and getattr(pipe, name, None) is not None:
            return []
    return [encoder for encoder in encoders if isinstance(encoder, nn.Module)]


def encode_layout(pipe: Any, layouts: dict[str, Layout], clip_skip: int | None = None) -> Tensor:
    """``(columns, width)`` of a layout, on the CPU in float32.

    Args:
        pipe: whose ``encode_prompt`` makes the embedding.
        layouts: the same layout for each of the pipeline's tokenizers, by the tokenizer's name.
        clip_skip: as the pipeline's argument.
    """
    first = next(iter(layouts.values()))
    rows: list[Tensor] = []
    place = 0
    while place < len(first.windows):
        # Windows of one length at a time: only the last may be shorter.
        size = len(first.windows[place])
        stop = place
        while stop < len(first.windows) and len(first.windows[stop]) == size:
            stop += 1
        rows += _encode_windows(pipe, layouts, place, stop, clip_skip)
        place = stop
    whole = torch.cat(rows)
    return whole if first.kept is None else whole[torch.tensor(first.kept, device="cpu")]


def encode_text(pipe: Any, text: str, columns: int, clip_skip: int | None = None) -> Tensor:
    """``(columns, width)`` of a text by the pipeline's own tokenizer, on the CPU in float32."""
    with _undisturbed(pipe):
        more = {"max_sequence_length": columns, "device": _device(pipe)}
        found = embeddings_of(pipe, [text], clip_skip, encode=_stock_method(pipe, pipe), **more)
    return found[0].to("cpu", torch.float32)


def _encode_windows(
    pipe: Any, layouts: dict[str, Layout], start: int, stop: int, clip_skip: int | None
) -> list[Tensor]:
    twin = copy.copy(pipe)
    for name, layout in layouts.items():
        windows = layout.windows[start:stop]
        ids = [[piece.id for piece in window] for window in windows]
        mask = [[int(piece.kind != "padding") for piece in window] for window in windows]
        # Not by setattr, with which diffusers writes a pipeline's configuration anew.
        twin.__dict__[name] = WrittenTokens(getattr(pipe, name), ids, mask)
    with _undisturbed(pipe):
        texts = [""] * (stop - start)
        encode = _stock_method(pipe, twin)
        found = embeddings_of(twin, texts, clip_skip, encode=encode, device=_device(pipe))
    return list(found.to("cpu", torch.float32))


def _stock_method(pipe: Any, twin: Any) -> Any:
    """The stock class's method, for somebody's own may rewrite the text; None if there is none."""
    stock = stock_class(type(pipe))
    for name in ("encode_prompt", "_encode_prompt"):
        if stock is not None and hasattr(stock, name):
            return getattr(stock, name).__get__(twin)
    return None


def _device(pipe: Any) -> Any:
    """Where the encoders are: somebody may have moved them away from the denoiser."""
    encoder = loaded_encoders(pipe)[0]
    if hasattr(encoder, "_hf_hook"):
        return pipe._execution_device
    return next(encoder.parameters()).device


@contextmanager
def _undisturbed(pipe: Any) -> Iterator[None]:
    """Random numbers as before, no graph, and encoders that were offloaded are so again."""
    encoders = loaded_encoders(pipe)
    places = [next(encoder.parameters()).device for encoder in encoders]
    cuda = sorted({place.index or 0 for place in places if place.type == "cuda"})
    undo = ExitStack()
    # Closed twice: an interrupt on the way out of ``with`` itself would leave the list unused.
    try:
        with undo:
            undo.enter_context(torch.random.fork_rng(devices=cuda))
            undo.enter_context(torch.no_grad())
            for encoder, place in zip(encoders, places, strict=True):
                undo.callback(_offload_again, encoder, place)
            yield
    finally:
        undo.close()


def _offload_again(encoder: nn.Module, place: torch.device) -> None:
    hook: Any = getattr(encoder, "_hf_hook", None)
    if hook is not None and next(encoder.parameters()).device != place:
        hook.init_hook(encoder)
