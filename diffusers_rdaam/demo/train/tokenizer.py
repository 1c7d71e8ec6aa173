"""A CLIP byte-pair tokenizer of the embedded model's few words.

Most words are one token; ``triangle`` and ``magenta`` are two on purpose, so that everything that
merges tokens into words is exercised by the model that everybody has. Any other text falls back to
bytes.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from transformers import CLIPTokenizer

CONTEXT_LENGTH = 77
START, END = "<|startoftext|>", "<|endoftext|>"

WORDS = (
    *("a", "an", "and", "the", "of", "picture", "drawing", "photo", "red", "green", "blue"),
    *("yellow", "black", "circle", "square", "heart", "cross", "with", "on", "in", "two", "one"),
    *("shape", ",", ".", "!", "?"),
)
SPLIT_WORDS = (("tri", "angle"), ("mag", "enta"))


def byte_symbols() -> list[str]:
    """The 256 printable characters that byte-level BPE writes bytes as (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [byte for byte in range(256) if byte not in printable]
    table = {byte: chr(byte) for byte in printable}
    table |= {byte: chr(256 + index) for index, byte in enumerate(other)}
    return [table[byte] for byte in [*printable, *other]]


def _encode(pieces: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    while True:
        pairs = list(itertools.pairwise(pieces))
        known = [pair for pair in pairs if pair in ranks]
        if not known:
            return pieces
        best = min(known, key=ranks.__getitem__)
        at = pairs.index(best)
        pieces = [*pieces[:at], best[0] + best[1], *pieces[at + 2 :]]


def build_merges() -> list[tuple[str, str]]:
    """Merges that make each word one token, and each split word its two pieces."""
    pieces = [[*word[:-1], word[-1] + "</w>"] for word in WORDS]
    for first, second in SPLIT_WORDS:
        pieces += [[*first], [*second[:-1], second[-1] + "</w>"]]
    ranks: dict[tuple[str, str], int] = {}
    for symbols in pieces:
        left, *rest = _encode(symbols, ranks)
        for right in rest:
            ranks.setdefault((left, right), len(ranks))
            left += right
    return list(ranks)


def build_tokenizer() -> CLIPTokenizer:
    """The tokenizer, 77 positions, padded with its end token as Stable Diffusion 1 is."""
    symbols = byte_symbols()
    merges = build_merges()
    entries = [*symbols, *(symbol + "</w>" for symbol in symbols)]
    entries += ["".join(pair) for pair in merges]
    vocabulary = {entry: index for index, entry in enumerate([*entries, START, END])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT_LENGTH)


def write_legacy_files(folder: Path) -> None:
    """Add ``vocab.json`` and ``merges.txt`` next to ``tokenizer.json``, for transformers 4."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    vocabulary = json.dumps(tokenizer["vocab"], ensure_ascii=False)
    (folder / "vocab.json").write_text(vocabulary, encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in tokenizer["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
