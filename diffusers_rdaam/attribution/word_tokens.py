"""Words where tokens decide: placeholders of several words, and scripts without spaces.

All of it is linear in the text and the tokens, but for sorting: prompts of files from strangers
come here.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from diffusers_rdaam.attribution.word_spans import is_border, script_runs

Span = tuple[int, int]


def token_spans(text: str, spans: Iterable[tuple[int | None, int | None]]) -> list[Span]:
    """The different spans of tokens that stand for characters, in order and without white space."""
    found = set()
    for start, end in set(spans):
        if start is not None and end is not None:
            piece = text[start:end]
            begin = start + len(piece) - len(piece.lstrip())
            stop = begin + len(piece.strip())
            if begin < stop:
                found.add((begin, stop))
    return sorted(found)


def placeholders(words: list[Span], tokens: list[Span]) -> list[Span]:
    """Spans that a tokenizer knows as one token though they are more than one word.

    Those are tokens that stand for several words (``cat-toy``), or for a word and the punctuation
    around it (``<cat>``): names that textual inversion or somebody else has added.

    Args:
        words: of :func:`~diffusers_rdaam.attribution.word_spans.word_spans`.
        tokens: of :func:`token_spans`.
    """
    starts, ends = [start for start, _ in words], [end for _, end in words]
    found: list[Span] = []
    for start, end in tokens:
        first, last = bisect_right(ends, start), bisect_left(starts, end)
        # Punctuation on both sides: on one side it may be an ordinary token, such as "d'".
        enclosed = last - first == 1 and start < starts[first] and ends[first] < end
        if last - first > 1 or enclosed:
            if found and start < found[-1][1]:
                found[-1] = (found[-1][0], max(end, found[-1][1]))
            else:
                found.append((start, end))
    return found


def joined_spans(text: str, words: list[Span], tokens: list[Span], whole: list[Span]) -> list[Span]:
    """Spans of the words, in order, where tokens decide what the characters leave open.

    Args:
        text: the prompt.
        words: of :func:`~diffusers_rdaam.attribution.word_spans.word_spans`.
        tokens: of :func:`token_spans`.
        whole: placeholders, each of which is one word.
    """
    left = _without(words, whole) if whole else words
    if text.isascii():
        return sorted([*left, *whole])
    spans: list[Span] = []
    index = 0
    for start, end in left:
        first = index
        while index < len(tokens) and tokens[index][0] < end:
            index += 1
        spans += _divided(text, (start, end), tokens[first:index])
    return sorted([*spans, *whole])


def _without(spans: list[Span], whole: list[Span]) -> list[Span]:
    """The parts of the spans that lie outside of the placeholders."""
    left: list[Span] = []
    place = 0
    for start, end in spans:
        while place < len(whole) and whole[place][1] <= start:
            place += 1
        index = place
        while index < len(whole) and whole[index][0] < end:
            if start < whole[index][0]:
                left.append((start, whole[index][0]))
            start = max(start, whole[index][1])
            index += 1
        if start < end:
            left.append((start, end))
    return left


def _divided(text: str, word: Span, tokens: list[Span]) -> list[Span]:
    """A run of letters, divided where its script is one without spaces.

    There a word ends where a token ends or begins, and where another script does; not within a
    token, nor before a mark. What has no token, as after the last position that the text encoder
    saw, stays one word.
    """
    runs = script_runs(text, word)
    if not any(unspaced for _, _, unspaced in runs):
        return [word]
    starts = [start for start, _, _ in runs]
    places = set(starts)
    for place in {place for token in tokens for place in token}:
        if word[0] < place < word[1]:
            run = bisect_right(starts, place) - 1
            # Where a script begins there is a border already.
            if runs[run][2]:
                places.add(place)
    borders = [word[0]]
    reach, index = word[0], 0
    for place in sorted(places - {word[0]}):
        while index < len(tokens) and tokens[index][0] < place:
            reach = max(reach, tokens[index][1])
            index += 1
        if reach <= place and is_border(text, place):
            borders.append(place)
    return list(zip(borders, [*borders[1:], word[1]], strict=True))
