"""Sources of texts within the chat template of their tokenizer, or tokenized in parts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import accumulate
from typing import Any

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.tokens.column_layouts import Piece
from diffusers_rdaam.tokens.encoded_text import encoded, padding_of
from diffusers_rdaam.tokens.encoder_columns import IS_NEGATIVE, EncoderColumns
from diffusers_rdaam.tokens.given_text import GivenText
from diffusers_rdaam.tokens.sources.call_arguments import argument, argument_text
from diffusers_rdaam.tokens.sources.columns import Reader, fitted, padded, valid
from diffusers_rdaam.tokens.sources.templates import QWEN, glyph_text, with_pictures

Columns = tuple[EncoderColumns, ...]
# Of the private-use area, so that it is in no template.
_MARK = "\ue000"
_PICTURE_TAG = re.compile(r"<\|image_(\d+)\|>")


def _user_turn(tokenizer: Any, before: str = "", **options: Any) -> Callable[[str], str]:
    """The chat template's text of one turn of the user."""

    def render(prompt: str) -> str:
        messages = [{"role": "user", "content": before + prompt}]
        return tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **options
        )

    return render


def z_image(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """Qwen's tokens of the user's turn, without padding."""
    name, written = argument_text(arguments)
    render = _user_turn(QWEN.tokenizer_of(pipe), enable_thinking=True)
    text = GivenText.of(written).rendered(render)
    length = argument(pipe, arguments, "max_sequence_length")
    return (valid(pipe, QWEN, text, name, columns, length=length, left=False),)


def flux2_klein(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """Qwen's tokens of the user's turn; nothing is dropped."""
    name, written = argument_text(arguments)
    render = _user_turn(QWEN.tokenizer_of(pipe), enable_thinking=False)
    text = GivenText.of(written).rendered(render)
    return (padded(pipe, QWEN, text, name, columns),)


def easyanimate(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """Qwen's tokens of the user's turn, which has parts of which the prompt is the one."""
    name, written = argument_text(arguments)
    tokenizer = QWEN.tokenizer_of(pipe)

    def render(prompt: str) -> str:
        content = [{"type": "text", "text": prompt}]
        return tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )

    text = GivenText.of(written).rendered(render)
    return (valid(pipe, QWEN, text, name, columns, length=columns, left=False),)


def nucleus(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """Qwen's tokens of a system message and the user's turn; padding is not among the columns."""
    name, written = argument_text(arguments)
    reader = Reader("qwen", tokenizer="processor")
    text = GivenText.of(written).rendered(pipe._format_prompt)
    length = argument(pipe, arguments, "max_sequence_length") or pipe.default_max_sequence_length
    return (valid(pipe, reader, text, name, columns, length=length, left=False),)


def bria_fibo2(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """Qwen's tokens of the user's turn; a caption in JSON is written anew, pictures come first."""
    name, written = argument_text(arguments)
    images = arguments.get("image")
    pictures = len(images) if isinstance(images, list) else int(images is not None)
    text = GivenText.of(written)
    caption, instruction = pipe._parse_prompt(written)
    if arguments.get(IS_NEGATIVE):
        # It is given as it was written.
        pictures = 0
    elif pictures and instruction is None:
        before, _, after = pipe._get_edit_prompt(_MARK, pictures).partition(_MARK)
        text = _escaped(written).framed(before, after)
    elif pictures:
        text = text.cleaned(pipe._get_edit_prompt(written, pictures))
    elif not isinstance(caption, str):
        text = text.cleaned(json.dumps(caption or {}, separators=(",", ":"), ensure_ascii=False))
    text = text.formatted(pipe.prompt_template_encode)
    reader = Reader("qwen", tokenizer="processor")
    if not pictures:
        length = pipe.tokenizer_max_length
        return (valid(pipe, reader, text, name, columns, length=length, left=False),)
    tokenizer = reader.tokenizer_of(pipe)
    pieces = with_pictures(tokenizer, text, columns)
    kept = fitted(pieces, columns, padding_of(tokenizer), left=False)
    return (reader.columns(text, name, kept, whole=pieces),)


def _escaped(written: str) -> GivenText:
    """A text within a string of JSON, where a quotation mark is two characters."""
    parts = [json.dumps(letter, ensure_ascii=False)[1:-1] for letter in written]
    places = [(i, i + 1) for i, part in enumerate(parts) for _ in part]
    return GivenText(written, "".join(parts), tuple(places))


def ideogram4(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """Qwen's tokens of the user's turn; padding is not among the columns."""
    name, written = argument_text(arguments)

    def render(prompt: str) -> str:
        messages = [{"role": "user", "content": [{"type": "text", "text": prompt}]}]
        return pipe.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False
        )

    text = GivenText.of(written).rendered(render)
    options = {"add_special_tokens": False}
    return (valid(pipe, QWEN, text, name, columns, length=None, left=False, **options),)


def hunyuan_video15(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """ByT5 of what stands in quotes, and Qwen; behind the valid ones the places of a picture."""
    return _hunyuan_video15(pipe, arguments, columns, has_picture=False)


def hunyuan_video15_of_picture(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """The columns of the picture, ByT5 of what stands in quotes, and Qwen."""
    return _hunyuan_video15(pipe, arguments, columns, has_picture=True)


def _hunyuan_video15(
    pipe: Any, arguments: Mapping[str, Any], columns: int, *, has_picture: bool
) -> Columns:
    name, written = argument_text(arguments)
    length, glyph_length = pipe.tokenizer_max_length, pipe.tokenizer_2_max_length

    def render(prompt: str) -> str:
        system = {"role": "system", "content": pipe.system_message}
        messages = [system, {"role": "user", "content": prompt}]
        return QWEN.tokenizer_of(pipe).apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )

    # In the place of an empty prompt there is a space.
    text = GivenText.of(written) if written else GivenText.of("").framed(" ")
    drop = pipe.prompt_template_encode_start_idx
    qwen = padded(
        pipe, QWEN, text.rendered(render), name, length, drop=drop, add_special_tokens=False
    )
    byt5 = Reader("byt5", "text_encoder_2", "tokenizer_2")
    matches = re.finditer(r"\"(.*?)\"|“(.*?)”", written)
    # The same text in quotes again is not repeated.
    quoted: dict[str, tuple[int, int]] = {}
    for match in matches:
        quoted.setdefault(match[1] or match[2] or "", match.span(1 if match[1] else 2))
    glyphs = glyph_text(written, [(max(0, a), max(0, b)) for a, b in quoted.values()])
    if glyphs is None:
        empty = [Piece(0, "<pad>", "padding")] * glyph_length
        of_glyphs = byt5.columns(GivenText.of(written), name, empty, whole=())
    else:
        of_glyphs = padded(pipe, byt5, glyphs, name, glyph_length)
    picture = replace(
        qwen,
        pieces=(Piece(0, "<picture>", "template"),) * (columns - length - glyph_length),
        cut=(),
    )
    found = [picture] if has_picture else []
    for is_padding in (False, True):
        for one in (of_glyphs, qwen):
            part = tuple(p for p in one.pieces if (p.kind == "padding") == is_padding)
            found.append(replace(one, pieces=part))
        if not (is_padding or has_picture):
            found.append(picture)
    starts = accumulate((len(one.pieces) for one in found), initial=0)
    pairs = zip(found, starts, strict=False)
    return tuple(replace(one, start=start) for one, start in pairs if one.pieces)


def ovis(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """Qwen's tokens of the user's turn, which begins with a system prompt that is dropped."""
    name, written = argument_text(arguments)
    tokenizer = QWEN.tokenizer_of(pipe)
    render = _user_turn(tokenizer, pipe.system_prompt, enable_thinking=False)
    text = GivenText.of(written).rendered(render)
    drop = pipe.user_prompt_begin_id
    return (padded(pipe, QWEN, text, name, columns, drop=drop, add_special_tokens=False),)


def flux2(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """Mistral's tokens of a system message and the user's turn; nothing is dropped."""
    from diffusers.pipelines.flux2.pipeline_flux2 import format_input

    name, written = argument_text(arguments)

    def render(prompt: str) -> str:
        [messages] = format_input([prompt], system_message=pipe.system_message)
        return pipe.tokenizer.apply_chat_template(
            messages, add_generation_prompt=False, tokenize=False
        )

    reader = Reader("mistral")
    # The pipeline leaves out what would be a picture.
    text = GivenText.of(written).without("[IMG]").rendered(render)
    start = reader.tokenizer_of(pipe).bos_token
    # A processor adds special tokens unless the template begins with one; a tokenizer never does.
    adds = hasattr(pipe.tokenizer, "tokenizer") and not (start and text.given.startswith(start))
    return (padded(pipe, reader, text, name, columns, add_special_tokens=adds),)


def longcat(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """Qwen's tokens; what stands in quotes is tokenized letter by letter."""
    from diffusers.pipelines.longcat_image.pipeline_longcat_image import split_quotation

    name, written = argument_text(arguments)
    tokenizer = QWEN.tokenizer_of(pipe)
    parts = split_quotation(written)
    text = GivenText.of(written).cleaned("".join(part for part, _ in parts))
    pieces: list[Piece] = []
    place = 0
    for part, is_quoted in parts:
        step = 1 if is_quoted else len(part)
        for start in range(place, place + len(part), step):
            pieces += encoded(tokenizer, text[start : start + step], add_special_tokens=False)
        place += len(part)
    left = tokenizer.padding_side == "left"
    kept = fitted(pieces[:columns], columns, padding_of(tokenizer), left=left)
    return (QWEN.columns(text, name, kept, whole=pieces),)


def longcat_edit(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """As for an image of the text alone, behind the tokens of the picture."""
    argument_text(arguments)  # refused before anything is counted
    tokenizer = QWEN.tokenizer_of(pipe)
    length = pipe.tokenizer_max_length
    pictures = columns - length - 2
    if pictures < 1:
        raise InputError(
            f"LongCat-Image Edit's text embedding has {length} columns of the text and some of a "
            f"picture; {columns} are not that."
        )
    (found,) = longcat(pipe, arguments, length)
    names = ("<|vision_start|>", *[pipe.image_token] * pictures, "<|vision_end|>")
    before = [Piece(tokenizer.convert_tokens_to_ids(name), name, "template") for name in names]
    return (replace(found, pieces=(*before, *found.pieces)),)


def omnigen(pipe: Any, arguments: Mapping[str, Any], columns: int) -> Columns:
    """The transformer's tokens, padded in front; a picture has one for each of its patches."""
    name, written = argument_text(arguments)
    processor = pipe.multimodal_processor
    before, mark, after = processor.add_prefix_instruction("\ue000").partition("\ue000")
    assert mark
    text = GivenText.of(written).framed(before, after)
    reader = Reader("llama", "transformer")
    pictures = () if arguments.get(IS_NEGATIVE) else arguments.get("input_images") or ()
    pieces: list[Piece] = []
    place = 0
    tags = list(_PICTURE_TAG.finditer(text.given)) if pictures else []
    for tag in tags:
        pieces += _chunk(processor, text[place : tag.start()], is_first=place == 0)
        pixels = processor.process_image(pictures[int(tag[1]) - 1])
        count = pixels.size(-2) * pixels.size(-1) // 16 // 16
        pieces += [Piece(0, tag[0], "template")] * count
        place = tag.end()
    pieces += _chunk(processor, text[place:], is_first=place == 0)
    padding = Piece(processor.collator.pad_token_id, "<pad>", "padding")
    kept = fitted(pieces, columns, padding, left=True)
    return (reader.columns(text, name, kept, whole=pieces),)


def _chunk(processor: Any, text: GivenText, *, is_first: bool) -> list[Piece]:
    pieces = list(encoded(processor.text_tokenizer, text))
    # Each part but the first loses its start token.
    return pieces[1:] if not is_first and pieces and pieces[0].id == 1 else pieces
