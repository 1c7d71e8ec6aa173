"""Sources of texts that are tokenized as they are, or cleaned first: CLIP, T5, BERT, Gemma."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.tokens.column_layouts import Piece
from diffusers_rdaam.tokens.encoded_text import padding_of
from diffusers_rdaam.tokens.encoder_columns import IS_NEGATIVE, EncoderColumns, Source
from diffusers_rdaam.tokens.given_text import GivenText
from diffusers_rdaam.tokens.sources.call_arguments import argument, argument_text
from diffusers_rdaam.tokens.sources.columns import Reader, fitted, padded, valid

Columns = tuple[EncoderColumns, ...]
Clean = Callable[[Any, str, Mapping[str, Any]], str]

T5 = Reader("t5")
_BERT_COLUMNS = 77  # that HunyuanDiT's call asks for


def plain(reader: Reader, *, field: str = "prompt", clean: Clean | None = None) -> Source:
    """A source of one encoder whose text is cut to the embedding's columns and padded to them.

    Args:
        reader: the encoder.
        field: the argument that it reads.
        clean: what the pipeline does to the text first.
    """

    def source(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
        name, written = argument_text(arguments, field)
        text = GivenText.of(written)
        if clean is not None:
            text = text.cleaned(clean(pipe, written, arguments))
        text = text.converted(pipe, reader.tokenizer_of(pipe))
        return (padded(pipe, reader, text, name, columns),)

    return source


def preprocessed(pipe: Any, text: str, arguments: Mapping[str, Any]) -> str:
    """The text as PixArt and those after it clean it: lower case, or more with clean_caption."""
    clean = bool(argument(pipe, arguments, "clean_caption"))
    [found] = pipe._text_preprocessing(text, clean_caption=clean)
    return found


def prompt_cleaned(pipe: Any, text: str, arguments: Mapping[str, Any]) -> str:
    """The text as Wan and Kandinsky 5 clean it: mended characters, single spaces."""
    from diffusers.pipelines.kandinsky5.pipeline_kandinsky_t2i import prompt_clean as kandinsky
    from diffusers.pipelines.wan.pipeline_wan import prompt_clean as wan

    return (kandinsky if "Kandinsky" in type(pipe).__name__ else wan)(text)


def prx_cleaned(pipe: Any, text: str, arguments: Mapping[str, Any]) -> str:
    """The text as PRX cleans it."""
    skips = bool(argument(pipe, arguments, "skip_text_cleaning"))
    preprocessor = pipe.text_preprocessor
    return preprocessor.basic_clean(text) if skips else preprocessor.clean_text(text)


def prx_pixel_cleaned(pipe: Any, text: str, arguments: Mapping[str, Any]) -> str:
    """The text as PRX Pixel cleans it: mended characters, no spaces around it."""
    from diffusers.pipelines.prx.pipeline_prx_pixel import _basic_clean

    return _basic_clean(text)


def ltx2(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """Gemma with its padding in front, or with learned registers behind in place of it."""
    name, written = argument_text(arguments)
    text = GivenText.of(written).cleaned(written.strip())
    found = padded(pipe, Reader("gemma"), text, name, columns)
    tokens = [piece for piece in found.pieces if piece.kind != "padding"]
    padding = [piece for piece in found.pieces if piece.kind == "padding"]
    registers = pipe.connectors.video_connector.learnable_registers
    pieces = [*padding, *tokens] if registers is None else [*tokens, *padding]
    return (replace(found, pieces=tuple(pieces)),)


def sd3(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """Two CLIP encoders side by side, and T5 behind them; zeros in its columns if not loaded."""
    length = pipe.tokenizer_max_length
    found = []
    for suffix in ("", "_2"):
        reader = Reader("clip", f"text_encoder{suffix}", f"tokenizer{suffix}")
        name, written = argument_text(arguments, f"prompt{suffix}")
        text = GivenText.of(written).converted(pipe, reader.tokenizer_of(pipe))
        found.append(padded(pipe, reader, text, name, length))
    reader = Reader("t5", "text_encoder_3", "tokenizer_3")
    name, written = argument_text(arguments, "prompt_3")
    text = GivenText.of(written)
    if pipe.text_encoder_3 is None:
        zeros = [Piece(0, "", "padding")] * (columns - length)
        found.append(reader.columns(text, name, zeros, whole=(), start=length))
    else:
        text = text.converted(pipe, reader.tokenizer_of(pipe))
        found.append(padded(pipe, reader, text, name, columns - length, start=length))
    return tuple(found)


def hidream(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """T5, then Llama's columns twice: its last states, and those that go with each block."""
    t5 = Reader("t5", "text_encoder_3", "tokenizer_3")
    llama = Reader("llama", "text_encoder_4", "tokenizer_4")
    limit = argument(pipe, arguments, "max_sequence_length")
    length = min(limit, t5.tokenizer_of(pipe).model_max_length)
    each, odd = divmod(columns - length, 2)
    if odd or each < 1:
        raise InputError(
            f"HiDream's text embedding has {length} columns of T5 and twice those of Llama; "
            f"{columns} are not that."
        )
    name, written = argument_text(arguments, "prompt_3")
    found = [padded(pipe, t5, GivenText.of(written), name, length)]
    name, written = argument_text(arguments, "prompt_4")
    for start in (length, length + each):
        found.append(padded(pipe, llama, GivenText.of(written), name, each, start=start))
    return tuple(found)


def hunyuan_dit(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """BERT, and T5 behind it."""
    name, written = argument_text(arguments)
    text = GivenText.of(written)
    t5 = Reader("t5", "text_encoder_2", "tokenizer_2")
    length = _BERT_COLUMNS
    return (
        padded(pipe, Reader("bert"), text, name, length),
        padded(pipe, t5, text, name, columns - length, start=length),
    )


def bria(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """T5; an empty negative prompt is not encoded, its columns are zeros."""
    (found,) = plain(T5)(pipe, arguments, columns)
    if found.text or not arguments.get(IS_NEGATIVE):
        return (found,)
    return (replace(found, pieces=(padding_of(T5.tokenizer_of(pipe)),) * columns),)


def bria_fibo(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """SmolLM's tokens; those of padding, which are masked, are not among the columns."""
    name, written = argument_text(arguments)
    length = argument(pipe, arguments, "max_sequence_length")
    reader, text = Reader("smollm"), GivenText.of(written)
    if not written:
        # The pipeline gives a start token of its own in the place of an empty prompt.
        start = Piece(128_000, "<|begin_of_text|>", "start")
        kept = fitted([start], columns, padding_of(reader.tokenizer_of(pipe)), left=False)
        return (reader.columns(text, name, kept, whole=()),)
    return (valid(pipe, reader, text, name, columns, length=length, left=False),)


def mochi(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """T5; of an empty prompt no column is attended to where the pipeline is set so."""
    (found,) = plain(T5)(pipe, arguments, columns)
    if found.text or not pipe.config.force_zeros_for_empty_prompt:
        return (found,)
    zero = Piece(0, T5.tokenizer_of(pipe).convert_ids_to_tokens(0), "padding")
    return (replace(found, pieces=(zero,) * columns),)


def unclip(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """CLIP, behind the columns that stand for the image embedding."""
    name, written = argument_text(arguments)
    tokenizer = Reader("clip").tokenizer_of(pipe)
    length = tokenizer.model_max_length
    start = columns - length
    return (padded(pipe, Reader("clip"), GivenText.of(written), name, length, start=start),)


def cogview4(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """GLM; padding to a multiple of 16 comes before the text, whatever the tokenizer does."""
    name, written = argument_text(arguments)
    length = argument(pipe, arguments, "max_sequence_length")
    text = GivenText.of(written)
    found = valid(pipe, Reader("glm"), text, name, columns, length=length, left=True)
    tokenizer = Reader("glm").tokenizer_of(pipe)
    padding = sum(piece.kind == "padding" for piece in found.pieces)
    if tokenizer.padding_side != "left" and padding >= 16:
        # In a batch its padding is on the other side of the text than that of the pipeline.
        raise InputError(
            f"The text has {columns - padding} tokens and its text embedding {columns} columns: "
            "a longer text of the batch has moved them, and the tokenizer pads on the right. Set "
            "pipe.tokenizer.padding_side = 'left', as its model has it, or give one prompt."
        )
    return (found,)


def lumina(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """Gemma, cleaned but for a negative prompt, which is cut to the prompt's columns."""
    name, written = argument_text(arguments)
    text = GivenText.of(written)
    length = pipe.max_sequence_length
    if arguments.get(IS_NEGATIVE):
        length = columns
    else:
        text = text.cleaned(preprocessed(pipe, written, arguments))
    return (valid(pipe, Reader("gemma"), text, name, columns, length=length),)


def ernie(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """Mistral's tokens; of an empty text one start token."""
    name, written = argument_text(arguments)
    reader, text = Reader("mistral"), GivenText.of(written)
    tokenizer = reader.tokenizer_of(pipe)
    if not tokenizer(written, truncation=True).input_ids:
        index = tokenizer.bos_token_id or 0
        start = Piece(index, tokenizer.convert_ids_to_tokens(index), "start")
        rest = Piece(0, "", "padding")
        pieces = [start, *[rest] * (columns - 1)]
        return (reader.columns(text, name, pieces, whole=()),)
    return (valid(pipe, reader, text, name, columns, length=None, left=False),)
