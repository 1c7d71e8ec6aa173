"""Tiny tokenizers of the classes that transformers has, from vocabularies that are built here.

Every vocabulary has the words of ``WORDS`` whole, some in two pieces, and falls back to single
characters or bytes, so that other text (instructions, templates) is tokenized as well. Nothing is
trained: the trainer of BPE breaks ties at random.
"""

from __future__ import annotations

import string
from functools import cache
from typing import Any

from transformers import (
    BertTokenizerFast,
    GemmaTokenizerFast,
    LlamaTokenizerFast,
    Qwen2TokenizerFast,
    T5TokenizerFast,
)

SPACE = "▁"
# What byte-level BPE writes for a space and for a line break.
BYTE_SPACE, BYTE_BREAK = "Ġ", "Ċ"
WORDS = (
    *("a", "red", "cat", "sleeps", "on", "the", "mat", "two", "dogs", "blue", "bad", "picture"),
    *("user", "assistant", "system", "prompt", "image", "generate", "describe", "You", "are"),
)
# Words in two pieces: "jumping" is "jump" and "ing".
PIECES = ("jump", "ing")
CHARACTERS = string.ascii_letters + string.digits + string.punctuation
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))

# The branches of Qwen3's template that messages of a system and a user take.
QWEN3_TEMPLATE = """\
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""


def t5_tokenizer(length: int = 512) -> Any:
    """T5's and UMT5's: unigram, ``</s>`` at the end, no start token."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(SPACE + word, -2.0) for word in WORDS]
    pieces += [(SPACE + PIECES[0], -3.0), (PIECES[1], -3.0)]
    whole = {piece for piece, _ in pieces}
    characters = [SPACE, *CHARACTERS]
    pieces += [(letter, -10.0) for letter in characters if letter not in whole]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=length)


def gemma_tokenizer(length: int = 8192, side: str = "right") -> Any:
    """Gemma's: BPE with ``<bos>`` and bytes for what has no piece."""
    special = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
    vocabulary, merges = _pair_encoding(special, SPACE, BYTES)
    return GemmaTokenizerFast(
        vocab=vocabulary,
        merges=merges,
        add_bos_token=True,
        model_max_length=length,
        padding_side=side,
    )


def llama_tokenizer(length: int = 512, side: str = "right") -> Any:
    """Llama's: BPE with ``<s>`` and bytes for what has no piece."""
    vocabulary, merges = _pair_encoding(("<unk>", "<s>", "</s>", "<pad>"), SPACE, BYTES)
    return LlamaTokenizerFast(
        vocab=vocabulary,
        merges=merges,
        pad_token="<pad>",
        add_bos_token=True,
        model_max_length=length,
        padding_side=side,
    )


def qwen_tokenizer(length: int = 1024, side: str = "right") -> Any:
    """Qwen2's and Qwen3's: BPE of bytes, the template's marks are tokens, no start token."""
    special = ("<|endoftext|>",)
    vocabulary, merges = _pair_encoding(special, BYTE_SPACE, _byte_letters())
    tokenizer = Qwen2TokenizerFast(
        vocab=vocabulary, merges=merges, model_max_length=length, padding_side=side
    )
    marks = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
    tokenizer.add_tokens(list(marks), special_tokens=True)
    tokenizer.chat_template = QWEN3_TEMPLATE
    return tokenizer


def bert_tokenizer(length: int = 77) -> Any:
    """BERT's: word pieces in lower case between ``[CLS]`` and ``[SEP]``."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [word.lower() for word in WORDS]
    letters = [letter for letter in CHARACTERS if letter == letter.lower()]
    pieces = [*special, *words, PIECES[0], f"##{PIECES[1]}", *letters]
    pieces += [f"##{letter}" for letter in letters]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    return BertTokenizerFast(vocab=vocabulary, model_max_length=length)


def vocabulary_size(tokenizer: Any) -> int:
    """Rows that an embedding needs for every id."""
    return max(tokenizer.get_vocab().values()) + 1


@cache
def _byte_letters() -> tuple[str, ...]:
    """The letters of byte-level BPE, one for each byte."""
    from tokenizers import pre_tokenizers

    return tuple(sorted(pre_tokenizers.ByteLevel.alphabet()))


def _pair_encoding(
    special: tuple[str, ...], space: str, base: tuple[str, ...]
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A vocabulary and merges that build each word from the left, with a space in front or not."""
    merges: dict[tuple[str, str], None] = {}
    for word in (*(space + word for word in (*WORDS, PIECES[0])), *WORDS, PIECES[1]):
        for end in range(2, len(word) + 1):
            merges[word[: end - 1], word[end - 1 : end]] = None
    pieces = [*special, *base, space, *CHARACTERS, *("".join(pair) for pair in merges)]
    return {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}, list(merges)
