"""The rows of DAAM's maps that belong to a word."""

from __future__ import annotations

from typing import Any

from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.errors import InputError, WordError
from diffusers_rdaam.tokens.alignment import align


def compute_token_merge_indices(
    tokenizer: Any, prompt: str, word: str, word_idx: int | None = None, offset_idx: int = 0
) -> tuple[list[int], int | None]:
    """The columns of a word, the start token counted, and ``word_idx`` as it was given.

    Args:
        tokenizer: of the pipeline.
        prompt: the text that was generated from.
        word: a word or phrase; all its occurrences count. Letter case does not matter.
        word_idx: the number of a token, from 0, in place of a search.
        offset_idx: is added to every column of a search.

    Raises:
        WordError: the prompt does not have the word, or the text encoder did not see it.
    """
    known = align(tokenizer, prompt, tokenizer.model_max_length)
    return columns_of(known, word, word_idx, offset_idx), word_idx


def columns_of(prompt: Prompt, word: str, word_idx: int | None, offset_idx: int) -> list[int]:
    """:func:`compute_token_merge_indices` where the tokens are known."""
    if word_idx is not None:
        return [word_idx + 1]
    return [column + offset_idx for column in prompt.find(word).columns]


def rows_of(prompt: Prompt) -> int:
    """The number of rows that DAAM keeps: the start token, the prompt's, and the one after."""
    texts = [token.column for token in prompt.tokens if token.kind == "text"]
    return min(max(texts, default=0) + 2, len(prompt.tokens))


def check_columns(columns: list[int], rows: int, word: str) -> None:
    """Refuse columns that are not rows of a map.

    Raises:
        WordError: one is not, because of ``word_idx`` or ``offset_idx``.
    """
    wrong = [column for column in columns if not 0 <= column < rows]
    if wrong:
        raise WordError(
            f"{word!r} with these word_idx and offset_idx is column {wrong[0]}, and the map has "
            f"columns 0 to {rows - 1} (start, the prompt's tokens, end)."
        )


def need_text(prompt: Prompt) -> str:
    """The prompt's text.

    Raises:
        InputError: the image was made from embeddings and the text is not known.
    """
    if prompt.text is None:
        raise InputError(
            "This image was made from prompt_embeds, so its prompt is not known. Give "
            "compute_global_heat_map(prompt='…')."
        )
    return prompt.text
