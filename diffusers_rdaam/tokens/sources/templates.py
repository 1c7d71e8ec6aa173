"""Sources of texts within a template of the pipeline: a system prompt, an instruction, a suffix."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from PIL.Image import Image

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.tokens.column_layouts import Piece
from diffusers_rdaam.tokens.encoded_text import encoded, padding_of
from diffusers_rdaam.tokens.encoder_columns import IS_NEGATIVE, EncoderColumns
from diffusers_rdaam.tokens.given_text import GivenText
from diffusers_rdaam.tokens.sources.call_arguments import argument, argument_text
from diffusers_rdaam.tokens.sources.columns import Reader, fitted, padded, valid
from diffusers_rdaam.tokens.sources.plain import preprocessed, prompt_cleaned

Columns = tuple[EncoderColumns, ...]

QWEN = Reader("qwen")
_PICTURE = "<|image_pad|>"
# What stands in quotes, in the order in which HunyuanImage looks for it.
_QUOTES = (r"'(.*?)'", r'"(.*?)"', r"‘(.*?)’", r"“(.*?)”")


def qwen_image(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """Qwen-Image: the template's beginning is dropped, its end stays."""
    name, written = argument_text(arguments)
    text = GivenText.of(written).formatted(pipe.prompt_template_encode)
    drop = pipe.prompt_template_encode_start_idx
    limit = argument(pipe, arguments, "max_sequence_length")
    # The tokenizer cuts, and what comes out is cut again.
    length = min(pipe.tokenizer_max_length, limit) + drop
    pieces = encoded(QWEN.tokenizer_of(pipe), text, truncation=True, max_length=length)
    return (_dropped(pipe, text, name, pieces, columns),)


def qwen_image_edit(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """Qwen-Image Edit: the tokens of the picture stand before the prompt."""
    name, written = argument_text(arguments)
    text = GivenText.of(written).formatted(pipe.prompt_template_encode)
    return (_with_pictures(pipe, text, name, columns, None),)


def qwen_image_edit_plus(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """Qwen-Image Edit Plus: several pictures, each announced by its number."""
    name, written = argument_text(arguments)
    given = arguments.get("image")
    pictures = given if isinstance(given, list) else [given] * (given is not None)
    before = "".join(
        f"Picture {number}: <|vision_start|>{_PICTURE}<|vision_end|>"
        for number in range(1, len(pictures) + 1)
    )
    text = GivenText.of(written).framed(before).formatted(pipe.prompt_template_encode)
    counts = _picture_counts(pipe, pictures)
    return (_with_pictures(pipe, text, name, columns, counts),)


def _picture_counts(pipe: Any, pictures: Sequence[Any]) -> list[int] | None:
    """The tokens of each picture, which depend on its shape; None if that is not known."""
    from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import (
        CONDITION_IMAGE_SIZE,
        calculate_dimensions,
    )

    processor = pipe.processor.image_processor
    counts = []
    for picture in pictures:
        if not isinstance(picture, Image):
            return None
        ratio = picture.width / picture.height
        width, height = calculate_dimensions(CONDITION_IMAGE_SIZE, ratio)[:2]
        patches = processor.get_number_of_image_patches(height, width)
        counts.append(patches // processor.merge_size**2)
    return counts


def _with_pictures(
    pipe: Any,
    text: GivenText,
    name: str,
    columns: int,
    counts: list[int] | None,
) -> EncoderColumns:
    """Without the tokens before the prompt; those of the picture are."""
    drop = pipe.prompt_template_encode_start_idx
    pieces = with_pictures(QWEN.tokenizer_of(pipe), text, drop + columns, counts)
    return _dropped(pipe, text, name, pieces, columns)


def with_pictures(
    tokenizer: Any, text: GivenText, length: int, counts: list[int] | None = None
) -> tuple[Piece, ...]:
    """As a processor writes it: one token of a picture becomes as many as the picture has.

    How many there are in all is seen from the length of all tokens. They stand before the prompt,
    so that its columns do not depend on which picture has how many.
    """
    pieces = tuple(encoded(tokenizer, text))
    index = tokenizer.convert_tokens_to_ids(_PICTURE)
    places = [at for at, p in enumerate(pieces) if p.id == index and p.kind == "template"]
    more = length - len(pieces)
    if counts is None or len(counts) != len(places) or sum(counts) > more + len(places):
        counts = [1] * len(places)
        if places and more > 0:
            counts[-1] += more
    for at, count in reversed(list(zip(places, counts, strict=True))):
        pieces = (*pieces[:at], *[pieces[at]] * count, *pieces[at + 1 :])
    return pieces


def _dropped(
    pipe: Any, text: GivenText, name: str, pieces: Sequence[Piece], columns: int
) -> EncoderColumns:
    """Without the tokens before the prompt, padded to the columns."""
    tokenizer = QWEN.tokenizer_of(pipe)
    kept = pieces[pipe.prompt_template_encode_start_idx :]
    filled = fitted(kept, columns, padding_of(tokenizer), left=False)
    return QWEN.columns(text, name, filled, whole=encoded(tokenizer, text))


def hunyuan_image(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """ByT5 of what stands in quotes, and Qwen, in the order of the denoiser's attention.

    The transformer puts the valid columns of both before the invalid ones: ByT5, Qwen, the padding
    of ByT5, the padding of Qwen.
    """
    name, written = argument_text(arguments)
    # A transformer without a place for ByT5 is given its columns but leaves them out.
    is_read = getattr(pipe.transformer, "context_embedder_2", True) is not None
    length = pipe.tokenizer_2_max_length if is_read else 0
    drop = pipe.prompt_template_encode_start_idx
    text = GivenText.of(written).formatted(pipe.prompt_template_encode)
    qwen = padded(pipe, QWEN, text, name, columns - length, drop=drop)
    byt5 = Reader("byt5", "text_encoder_2", "tokenizer_2")
    glyphs = _glyph_text(written)
    if glyphs is None or not is_read:
        empty = [Piece(0, "<pad>", "padding")] * length
        of_glyphs = byt5.columns(GivenText.of(written), name, empty, whole=())
    else:
        of_glyphs = padded(pipe, byt5, glyphs, name, length)
    found, start = [], 0
    for is_padding in (False, True):
        for one in (of_glyphs, qwen):
            part = tuple(p for p in one.pieces if (p.kind == "padding") == is_padding)
            if part:
                found.append(replace(one, pieces=part, start=start))
                start += len(part)
    return tuple(found)


def _glyph_text(written: str) -> GivenText | None:
    """What the prompt says in quotes, as HunyuanImage asks ByT5 for it."""
    return glyph_text(
        written, [match.span(1) for quotes in _QUOTES for match in re.finditer(quotes, written)]
    )


def glyph_text(written: str, spans: Sequence[tuple[int, int]]) -> GivenText | None:
    """Parts of a prompt as ByT5 is asked for them; None where there is none."""
    if not spans:
        return None
    text = GivenText.of(written)
    parts = [text[slice(*span)].framed('Text "', '". ') for span in spans]
    given = "".join(part.given for part in parts)
    return GivenText(written, given, tuple(place for part in parts for place in part.places))


def hunyuan_video(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """Llama within the template of the call, whose beginning is cropped."""
    name, written = argument_text(arguments)
    template = argument(pipe, arguments, "prompt_template")
    reader = Reader("llama")
    drop = template.get("crop_start")
    if drop is None:
        tokenizer = reader.tokenizer_of(pipe)
        ids = tokenizer(template["template"], padding="max_length").input_ids
        # Without the end of the turn and the place of the prompt, as the pipeline counts.
        drop = len(ids) - 2
    text = GivenText.of(written).formatted(template["template"])
    return (padded(pipe, reader, text, name, columns, drop=drop),)


def hunyuan_video_of_picture(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """The picture's columns, and Llama within the template of the call without its beginning.

    The four tokens that announce the answer are left out, where the template's end was not cut.
    """
    name, written = argument_text(arguments)
    template = argument(pipe, arguments, "prompt_template")
    reader = Reader("llama")
    tokenizer = reader.tokenizer_of(pipe)
    drop = template.get("crop_start")
    if drop is None:
        ids = tokenizer(template["template"], padding="max_length").input_ids
        # Without what announces the answer and the place of the prompt, as the pipeline counts.
        drop = len(ids) - 5
    text = GivenText.of(written).formatted(template["template"])
    length = argument(pipe, arguments, "max_sequence_length") + drop
    given = padded(pipe, reader, text, name, length).pieces
    index = tokenizer.convert_tokens_to_ids("<|end_header_id|>")
    ends = [at for at, piece in enumerate(given) if piece.id == index]
    # Where the prompt is too long there is no announcement, and the last tokens go in its place.
    start = (ends[2] if len(ends) > 2 else length - 1) + 1
    kept = (*given[drop : start - 4], *given[start:])
    pictures = columns - len(kept)
    if pictures < 0:
        raise InputError(
            f"The text has {len(kept)} columns and its text embedding {columns}, which are not its "
            "and a picture's. Give the prompt that the embedding was made from."
        )
    config = getattr(pipe.text_encoder, "config", None)
    picture = Piece(getattr(config, "image_token_index", 0), "<image>", "template")
    pieces = (*(picture,) * pictures, *kept)
    return (reader.columns(text, name, pieces, whole=encoded(tokenizer, text)),)


def kandinsky5(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """Qwen within a template; of a prompt that is too long the end goes with the template's."""
    name, written = argument_text(arguments)
    cleaned = GivenText.of(written).cleaned(prompt_cleaned(pipe, written, arguments))
    text = cleaned.formatted(pipe.prompt_template)
    drop = pipe.prompt_template_encode_start_idx
    length = argument(pipe, arguments, "max_sequence_length")
    tokenizer = QWEN.tokenizer_of(pipe)
    whole = encoded(tokenizer, text)
    if len(whole) > drop + length:
        ids = [piece.id for piece in whole][drop:-2]
        removed = len(tokenizer.decode(ids[length - 2 :]))
        text = text[: len(text.given) - removed] if removed else text
    pieces = encoded(tokenizer, text, truncation=True, max_length=drop + length)[drop:]
    kept = fitted(pieces, columns, padding_of(tokenizer), left=False)
    return (QWEN.columns(text, name, kept, whole=whole),)


def kandinsky5_edit(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """As :func:`kandinsky5`, with the tokens of a picture behind the prompt.

    The pipeline drops a fixed number of tokens; where its template has fewer, the first ones of the
    prompt go as well.

    Raises:
        InputError: the prompt is cut, or padding comes first.
    """
    name, written = argument_text(arguments)
    cleaned = GivenText.of(written).cleaned(prompt_cleaned(pipe, written, arguments))
    text = cleaned.formatted(pipe.prompt_template)
    drop = pipe.prompt_template_encode_start_idx
    tokenizer = QWEN.tokenizer_of(pipe)
    whole = encoded(tokenizer, text)
    index = tokenizer.convert_tokens_to_ids(_PICTURE)
    [place] = [at for at, p in enumerate(whole) if p.id == index and p.kind == "template"]
    length = argument(pipe, arguments, "max_sequence_length")
    if len(whole) > drop + length or getattr(tokenizer, "padding_side", "right") == "left":
        raise InputError(
            f"The prompt has {len(whole) - drop} tokens with its picture's mark, of which "
            f"{length} are kept, or its padding comes first: the words behind a cut cannot be "
            "found. Shorten the prompt, or set max_sequence_length, and pad on the right."
        )
    # A batch is padded to its longest text, and the padding counts as the picture's.
    more = drop + columns - len(whole)
    pieces = (*whole[:place], *[whole[place]] * (1 + max(more, 0)), *whole[place + 1 :])[drop:]
    kept = fitted(pieces, columns, padding_of(tokenizer), left=False)
    return (QWEN.columns(text, name, kept, whole=whole, left_cut=True),)


def krea2(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """Qwen between a prefix, which is dropped, and a suffix behind the padding."""
    name, written = argument_text(arguments)
    tokenizer = QWEN.tokenizer_of(pipe)
    text = GivenText.of(written).framed(pipe.prompt_template_encode_prefix)
    drop = pipe.prompt_template_encode_start_idx
    suffix = encoded(tokenizer, GivenText.of("").framed(pipe.prompt_template_encode_suffix))
    found = padded(pipe, QWEN, text, name, columns - len(suffix), drop=drop)
    pieces = fitted((*found.pieces, *suffix), columns, padding_of(tokenizer), left=False)
    return (replace(found, pieces=tuple(pieces)),)


def lumina2(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """Gemma behind a system prompt, which a negative prompt does not have."""
    name, written = argument_text(arguments)
    text = GivenText.of(written)
    if not arguments.get(IS_NEGATIVE):
        system = argument(pipe, arguments, "system_prompt")
        system = pipe.system_prompt if system is None else system
        text = text.framed(f"{system} <Prompt Start> ")
    length = argument(pipe, arguments, "max_sequence_length")
    return (valid(pipe, Reader("gemma"), text, name, columns, length=length, left=False),)


def sana(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """Gemma behind an instruction: of all tokens the first and the last ones are kept.

    A negative prompt has no instruction.
    """
    name, written = argument_text(arguments)
    reader = Reader("gemma")
    text = GivenText.of(written).cleaned(preprocessed(pipe, written, arguments))
    instruction = argument(pipe, arguments, "complex_human_instruction")
    if arguments.get(IS_NEGATIVE) or not instruction:
        return (padded(pipe, reader, text, name, columns),)
    tokenizer = reader.tokenizer_of(pipe)
    before = "\n".join(instruction)
    length = len(tokenizer.encode(before)) + columns - 2
    text = text.framed(before)
    pieces = encoded(tokenizer, text, truncation=True, max_length=length)
    filled = fitted(pieces, length, padding_of(tokenizer), left=False)
    if columns < 2 or len(filled) < columns:
        raise InputError(f"Sana's text embedding has {columns} columns, fewer than its tokens.")
    kept = [filled[0], *filled[1 - columns :]]
    return (reader.columns(text, name, kept, whole=encoded(tokenizer, text)),)
