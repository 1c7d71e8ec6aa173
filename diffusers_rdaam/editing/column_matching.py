"""Which column of one prompt stands for which of another, for editing word by word."""

from __future__ import annotations

from difflib import SequenceMatcher

import torch
from torch import Tensor

from diffusers_rdaam.attribution.prompt import Prompt, Word

# A column that has no counterpart.
NEW = -1


def match_columns(source: Prompt, target: Prompt) -> Tensor:
    """For each column of ``target`` the one of ``source`` that it takes over, or -1.

    Words that stand in both, and words that stand in each other's place, belong together, token by
    token; of two words with different numbers of tokens the last ones repeat. Words that were put
    in have no counterpart. Start, end and padding take over those at the same position.

    Returns:
        ``(columns of target,)`` int64.
    """
    taken = torch.full((len(target.tokens),), NEW, dtype=torch.int64, device="cpu")
    for token in target.tokens:
        same = source.tokens[token.column] if token.column < len(source.tokens) else None
        if token.kind != "text" and same is not None and same.kind == token.kind:
            taken[token.column] = token.column
    ends = {token.kind: token.column for token in reversed(source.tokens) if token.kind != "text"}
    for token in target.tokens:
        # What moved because the prompt became longer or shorter.
        if token.kind in ends and taken[token.column] == NEW:
            taken[token.column] = ends[token.kind]
    for old, new in _pairs(source.words, target.words):
        for place, column in enumerate(new.columns):
            if old.columns:
                taken[column] = old.columns[min(place, len(old.columns) - 1)]
    _punctuation(source, target, taken)
    return taken


def _pairs(source: tuple[Word, ...], target: tuple[Word, ...]) -> list[tuple[Word, Word]]:
    before = [word.text.casefold() for word in source]
    after = [word.text.casefold() for word in target]
    pairs = []
    for kind, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind in ("equal", "replace"):
            pairs += list(zip(source[a:b], target[c:d], strict=False))
    return pairs


def _punctuation(source: Prompt, target: Prompt, taken: Tensor) -> None:
    """Punctuation belongs together in order, where it is the same."""
    kinds = (source.columns_of_kind(), target.columns_of_kind())
    before, after = ([*kind.get("punctuation", ())] for kind in kinds)
    for column in after:
        text = target.tokens[column].text
        same = [old for old in before if source.tokens[old].text == text]
        if same:
            taken[column] = same[0]
            before.remove(same[0])
