"""Which columns of a text embedding a tokenizer's tokens may be: one window, several, or parts.

Several layouts can have the same number of columns. They are listed in the order of preference;
where the embedding is at hand, the one whose encoding agrees with it is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from diffusers_rdaam.attribution.prompt import Prompt, Token, TokenKind
from diffusers_rdaam.errors import InputError

# What follows a text that is shorter than its window: the end token and then padding; the end token
# again and again; or padding, and the end token last.
Filling = Literal["padding", "end", "end last"]
_PROBE = "a"


@dataclass(frozen=True)
class Piece:
    """A token that has no column yet."""

    id: int
    text: str
    kind: TokenKind
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True)
class TokenizedText:
    """A text's tokens, and what its tokenizer puts around them.

    Args:
        text: that the spans of the pieces point into.
        start, body, end: the special tokens before, the text's tokens, the special tokens after.
        padding: what fills a window.
        length: columns of a window of the text encoder.
        left_padding, left_truncation: whether the tokenizer pads or cuts on the left.
    """

    text: str
    start: tuple[Piece, ...]
    body: tuple[Piece, ...]
    end: tuple[Piece, ...]
    padding: Piece
    length: int
    left_padding: bool = False
    left_truncation: bool = False

    @property
    def specials(self) -> int:
        return len(self.start) + len(self.end)

    @property
    def count(self) -> int:
        return self.specials + len(self.body)


@dataclass(frozen=True)
class Layout:
    """One reading of the columns of an embedding.

    Args:
        name: what it is called where two tokenizers' layouts are put together.
        prompt: the tokens as columns.
        windows: the tokens that the text encoder is given at a time.
        kept: the columns of those, one window after the other, that the embedding has; all if None.
    """

    name: str
    prompt: Prompt
    windows: tuple[tuple[Piece, ...], ...]
    kept: tuple[int, ...] | None = None


def tokenized(tokenizer: Any, text: str) -> TokenizedText:
    """A text's tokens, its special ones by the tokenizer's own mask.

    Raises:
        InputError: the tokenizer gives no character offsets, or no length.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"{type(tokenizer).__name__} gives no character offsets, so words cannot be found. "
            "Load the pipeline's tokenizer with transformers 5 or as its Fast class."
        )
    longest = tokenizer.model_max_length
    if not isinstance(longest, int | float) or longest <= 0:
        raise InputError(
            f"{type(tokenizer).__name__} has {longest!r} as model_max_length, where the number of "
            "tokens that its text encoder takes at a time is wanted, such as 77 of CLIP. Set it "
            "before the run."
        )
    pieces, special = _pieces(tokenizer, text)
    if all(special):
        # Which are before a text and which after it shows only with one.
        _, probed = _pieces(tokenizer, _PROBE)
        first = last = next((i for i, mask in enumerate(probed) if not mask), len(probed))
    else:
        first = special.index(0)
        last = len(special) - special[::-1].index(0)
    name, index = tokenizer.pad_token, tokenizer.pad_token_id
    if name is None:
        name, index = tokenizer.eos_token or "", tokenizer.eos_token_id or 0
    return TokenizedText(
        text,
        tuple(replace(piece, kind="start") for piece in pieces[:first]),
        tuple(pieces[first:last]),
        tuple(pieces[last:]),
        Piece(index, name, "padding"),
        tokenizer.model_max_length,
        left_padding=tokenizer.padding_side == "left",
        left_truncation=tokenizer.truncation_side == "left",
    )


def _pieces(tokenizer: Any, text: str) -> tuple[list[Piece], list[int]]:
    encoded = tokenizer(
        text, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False
    )
    special = list(encoded.special_tokens_mask)
    names = tokenizer.convert_ids_to_tokens(encoded.input_ids)
    pieces = [
        Piece(index, name, "end") if mask else Piece(index, _clean(name), "text", start, end)
        for index, name, (start, end), mask in zip(
            encoded.input_ids, names, encoded.offset_mapping, special, strict=True
        )
    ]
    return pieces, special


def _clean(name: str) -> str:
    return name.removesuffix("</w>").replace("\N{LOWER ONE EIGHTH BLOCK}", "")


def layouts_of(text: TokenizedText, columns: int) -> list[Layout]:
    """The layouts that a text may have in so many columns, the likeliest first.

    One window, padded or cut to the columns; windows with special tokens each, as long-prompt tools
    make, of which the last may be shorter or the special tokens within left out; or the special
    tokens once, and all cut in windows, which is first where the text has just so many tokens.

    Raises:
        InputError: there is none.
    """
    return [layout for filling in _fillings(text) for layout in _layouts(text, columns, filling)]


def _fillings(*texts: TokenizedText) -> list[Filling]:
    """All of them only where they differ: CLIP's padding is its end token, but not always."""
    end = texts[0].end[-1:]
    if not end or end[0].id == texts[0].padding.id:
        return ["padding"]
    return ["padding", "end", "end last"]


def _layouts(text: TokenizedText, columns: int, filling: Filling) -> list[Layout]:
    length, special = text.length, text.specials
    whole = _window(text, text.body, columns, filling) if columns >= max(special, 1) else None
    if columns <= length:
        found = [] if whole is None else [_layout(text, "one window", [whole])]
    else:
        found = list(_in_windows(text, columns, filling))
        if text.count <= columns:
            assert whole is not None
            cut = [whole[first : first + length] for first in range(0, columns, length)]
            at = 0 if text.count == columns else len(found)
            found.insert(at, _layout(text, "cut in windows", cut))
            # Of an encoder that takes more than it was trained for.
            found.append(_layout(text, "one long window", [whole]))
    if not found:
        raise InputError(
            f"The text has {text.count} tokens, {special} of them special, and the embedding "
            f"{columns} columns, which it does not fit into. Give the text that the embedding was "
            "made from."
        )
    return [replace(layout, name=f"{layout.name}, {filling}") for layout in found]


def _in_windows(text: TokenizedText, columns: int, filling: Filling) -> Iterator[Layout]:
    """The text in windows with special tokens each."""
    length, special = text.length, text.specials
    whole, rest = divmod(columns, length)
    sizes = [length] * whole + [rest] * bool(rest)
    if sizes[-1] >= max(special, 1):
        yield _layout(text, "windows", _filled(text, sizes, filling))
    inner, rest = divmod(columns - special, length - special) if special else (0, 1)
    if inner > 1 and not rest:
        windows = _filled(text, [length] * inner, filling)
        first, last = len(text.start), length - len(text.end)
        kept = [
            index * length + place
            for index in range(inner)
            for place in range(0 if not index else first, length if index == inner - 1 else last)
        ]
        yield _layout(text, "special tokens at the ends", windows, kept)


def _filled(text: TokenizedText, sizes: Sequence[int], filling: Filling) -> list[tuple[Piece, ...]]:
    windows, place = [], 0
    for size in sizes:
        room = size - text.specials
        windows.append(_window(text, text.body[place : place + room], size, filling))
        place += room
    return windows


def _window(
    text: TokenizedText, body: Sequence[Piece], size: int, filling: Filling
) -> tuple[Piece, ...]:
    room = size - text.specials
    if len(body) > room:
        body = body[len(body) - room :] if text.left_truncation else body[:room]
    padding = (text.padding,) * (room - len(body))
    if filling == "end":
        padding = (replace(text.end[-1], kind="padding"),) * len(padding)
    if text.left_padding:
        return (*padding, *text.start, *body, *text.end)
    if filling == "end last":
        return (*text.start, *body, *padding, *text.end)
    return (*text.start, *body, *text.end, *padding)


def _layout(
    text: TokenizedText,
    name: str,
    windows: Sequence[tuple[Piece, ...]],
    kept: Sequence[int] | None = None,
) -> Layout:
    pieces = [piece for window in windows for piece in window]
    if kept is not None:
        pieces = [pieces[place] for place in kept]
    tokens = tuple(
        Token(column, piece.text, piece.kind, piece.start, piece.end)
        for column, piece in enumerate(pieces)
    )
    seen = {id(piece) for piece in pieces}
    cut = tuple(
        (piece.start, piece.end)
        for piece in text.body
        if id(piece) not in seen and piece.start is not None and piece.end is not None
    )
    prompt = Prompt(text.text, tokens, cut)
    return Layout(name, prompt, tuple(windows), None if kept is None else tuple(kept))


def layouts_of_parts(parts: Sequence[TokenizedText], columns: int) -> list[Layout]:
    """The layouts of parts that begin a window each; the prompt is the parts, a line each.

    A window each where that gives the columns, cut where a part is longer; else as many windows as
    each part needs, and empty ones behind; else parts of one shorter length, or without padding.

    Raises:
        InputError: there is none.
    """
    texts = _lines(parts)
    found = []
    for filling in _fillings(*texts):
        for name, windows in _windows_of_parts(texts, columns, filling):
            whole = replace(texts[0], body=tuple(piece for text in texts for piece in text.body))
            found.append(_layout(whole, f"{name}, {filling}", windows))
    if not found:
        counts = ", ".join(str(part.count) for part in parts)
        raise InputError(
            f"The {len(parts)} parts of the text have {counts} tokens and begin a window each, but "
            f"the embedding has {columns} columns. Give the parts that it was made from."
        )
    return found


def _windows_of_parts(
    texts: Sequence[TokenizedText], columns: int, filling: Filling
) -> Iterator[tuple[str, list[tuple[Piece, ...]]]]:
    length, special = texts[0].length, texts[0].specials
    size, rest = divmod(columns, len(texts))
    if not rest and special < size <= length:
        yield "parts", [_window(text, text.body, size, filling) for text in texts]
    windows, spare = divmod(columns, length)
    if not spare and len(texts) < windows:
        found = []
        for text in texts:
            needed = max(1, -(-len(text.body) // (length - special)))
            found += _filled(text, [length] * needed, filling)
        found += [_window(texts[0], (), length, filling)] * (windows - len(found))
        if len(found) == windows:
            yield "parts in windows", found
    if sum(text.count for text in texts) == columns:
        yield "parts without padding", [(*t.start, *t.body, *t.end) for t in texts]


def _lines(parts: Sequence[TokenizedText]) -> list[TokenizedText]:
    """The parts as one text of a line each, which every span points into."""
    whole = "\n".join(part.text for part in parts)
    lines, offset = [], 0
    for part in parts:
        body = tuple(
            replace(piece, start=piece.start + offset, end=piece.end + offset)
            if piece.start is not None and piece.end is not None
            else piece
            for piece in part.body
        )
        lines.append(replace(part, text=whole, body=body))
        offset += len(part.text) + 1
    return lines


def empty_layout(empty: TokenizedText, like: Layout) -> Layout:
    """The windows of another layout without a text: only what the tokenizer puts around one."""
    windows = []
    for window in like.windows:
        padding = (empty.padding,) * max(0, len(window) - empty.specials)
        windows.append((*empty.start, *empty.end, *padding)[: len(window)])
    return _layout(empty, "empty", windows, like.kept)


def layout_of_counts(text: TokenizedText, counts: Sequence[int]) -> Layout:
    """One text in windows that have so many of its tokens each."""
    windows, place = [], 0
    for count in counts:
        windows.append(_window(text, text.body[place : place + count], text.length, "padding"))
        place += count
    return _layout(text, "windows of some tokens", windows)


def is_ambiguous(text: TokenizedText, columns: int) -> bool:
    """True if two layouts that have the whole text give its words different columns."""
    places = {
        tuple((t.column, t.start, t.end) for t in layout.prompt.tokens if t.kind == "text")
        for layout in layouts_of(text, columns)
        if not layout.prompt.cut
    }
    return len(places) > 1
