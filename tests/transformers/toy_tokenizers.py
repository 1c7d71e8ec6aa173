"""The real tokenizer classes with vocabularies of some words, the same each time.

Each word of a template is one token, as in the real vocabularies, so that a template has as many
tokens as the pipelines take it to have. The prompts have words of several tokens. The merges are
not trained: the trainer of ``tokenizers`` breaks ties at random.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import (
    ByT5Tokenizer,
    CLIPTokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    T5TokenizerFast,
)

TINY_SD = Path(__file__).parents[1] / "data" / "tiny_sd"
# "umbrella", "birds" and "wooden" are two tokens or more in every vocabulary.
PROMPTS = ["a cat with an umbrella", "two red birds, on a wooden bench in the rain"]
NEGATIVES = ["blurry photo", "an ugly picture of dark rain"]
_SINGLE = (
    "a an the two red on in of with cat bench rain blurry photo ugly picture dark box star says"
)
_BEGINNINGS = "um bird wood"
WORDS = f"{_SINGLE} {_BEGINNINGS}".split()
PIECES = ("brella", "s", "en", ",", ".", '"', "'")
QWEN_SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QWEN_SPECIALS += [f"<|vision_{one}|>" for one in ("start", "end", "pad")]
QWEN_SPECIALS += ["<|image_pad|>", "<|video_pad|>"]
# What Qwen's own templates write for messages of the roles that pipelines use.
QWEN2_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message.role != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN3_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
MISTRAL3_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'system' %}[SYSTEM_PROMPT]{% else %}[INST]{% endif %}"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% else %}[IMG]{% endif %}{% endfor %}{% endif %}"
    "{% if message.role == 'system' %}[/SYSTEM_PROMPT]{% else %}[/INST]{% endif %}"
    "{% endfor %}"
)


@cache
def clip_tokenizer() -> CLIPTokenizer:
    """The tokenizer of the tiny Stable Diffusion."""
    return CLIPTokenizer.from_pretrained(TINY_SD / "tokenizer")


@cache
def t5_tokenizer(length: int = 512) -> T5TokenizerFast:
    """Pieces of a unigram model: no start token, and "▁" before a word."""
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0)]
    # "bench" has no piece with the space, so that a lone "▁" comes before it.
    vocabulary += [(f"▁{word}", -3.0) for word in WORDS if word != "bench"]
    vocabulary += [(piece, -3.0) for piece in (*PIECES, "bench")]
    known = {piece for piece, _ in vocabulary}
    letters = (chr(code) for code in range(33, 127))
    vocabulary += [(letter, -10.0) for letter in letters if letter not in known]
    return T5TokenizerFast(vocab=vocabulary, extra_ids=0, model_max_length=length)


@cache
def byt5_tokenizer() -> ByT5Tokenizer:
    """One token a byte; this class has no vocabulary to choose."""
    return ByT5Tokenizer(model_max_length=128)


def qwen2_tokenizer(*texts: str, template: str = QWEN2_TEMPLATE) -> Qwen2Tokenizer:
    """A byte-level vocabulary in which each word of the texts is one token.

    Args:
        texts: the templates of a pipeline, so that they have as many tokens as the real ones.
    """
    return _qwen2_tokenizer(texts, template)


@cache
def _qwen2_tokenizer(texts: tuple[str, ...], template: str) -> Qwen2Tokenizer:
    pre = Qwen2Tokenizer().backend_tokenizer.pre_tokenizer
    vocabulary, merges = byte_level_vocabulary(pre, texts)
    for special in (*QWEN_SPECIALS, "<think>", "</think>"):
        vocabulary[special] = len(vocabulary)
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary,
        merges=merges,
        extra_special_tokens=QWEN_SPECIALS[1:],
        eos_token="<|im_end|>",
        model_max_length=4096,
    )
    # As in the real vocabulary: added, but not special.
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = template
    return tokenizer


@cache
def byte_level_tokenizer(
    texts: tuple[str, ...] = (),
    *,
    start: tuple[str, ...] = (),
    specials: tuple[str, ...] = (),
    template: str | None = None,
    **options: Any,
) -> PreTrainedTokenizerFast:
    """The class of tokenizers that have a file and no class of their own: Llama 3, GLM, Tekken.

    Args:
        start: the tokens that are put in front of every text.
    """
    split = Qwen2Tokenizer().backend_tokenizer.pre_tokenizer
    vocabulary, merges = byte_level_vocabulary(split, texts)
    named = [value for key, value in options.items() if key.endswith("_token")]
    every = [*start, *specials, *named]
    for special in dict.fromkeys(every):
        vocabulary.setdefault(special, len(vocabulary))
    backend = Tokenizer(BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = split
    backend.decoder = decoders.ByteLevel()
    if start:
        backend.post_processor = TemplateProcessing(
            single=f"{' '.join(start)} $A", special_tokens=[(one, vocabulary[one]) for one in start]
        )
        options |= {"bos_token": start[0]}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, extra_special_tokens=list(specials), **options
    )
    tokenizer.chat_template = template
    return tokenizer


@cache
def llama_tokenizer(**options: Any) -> LlamaTokenizer:
    """Byte pairs of SentencePiece: a start token, "▁" before a word, bytes for what is unknown."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2}
    for byte in range(256):
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    for code in (*range(33, 127), ord("▁")):
        vocabulary[chr(code)] = len(vocabulary)
    words = [f"▁{word}" for word in WORDS if word != "bench"] + [*PIECES, "bench"]
    merges = _merges(words, vocabulary)
    return LlamaTokenizer(vocab=vocabulary, merges=merges, model_max_length=4096, **options)


def byte_level_vocabulary(
    pre_tokenizer: Any, texts: Iterable[str]
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Bytes, and merges that make one token of each word of some texts and of the prompts."""
    vocabulary = {one: i for i, one in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    words = [f"Ġ{word}" for word in WORDS] + [*WORDS, *PIECES]
    for text in texts:
        plain = re.sub(r"<\|[a-z_]+\|>|\{\}", "\n", text)
        words += [piece for piece, _ in pre_tokenizer.pre_tokenize_str(plain)]
    # Before a prompt, and between a template's lines.
    words += ["Ċ", "ĊĊ", "user", "system", "assistant"]
    return vocabulary, _merges(dict.fromkeys(words), vocabulary)


def _merges(words: Iterable[str], vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Merges, in their order, that make one token of each word; the vocabulary grows with them.

    A later merge never reaches a word before it: that word's merges come first.
    """
    ranks: dict[tuple[str, str], int] = {}
    for word in words:
        pieces = _merged(list(word), ranks)
        while len(pieces) > 1:
            pair = (pieces[0], pieces[1])
            ranks.setdefault(pair, len(ranks))
            vocabulary.setdefault("".join(pair), len(vocabulary))
            pieces = [pieces[0] + pieces[1], *pieces[2:]]
    return list(ranks)


def _merged(pieces: Sequence[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    """The pieces that byte pair encoding makes of a word."""
    pieces = list(pieces)
    while True:
        pairs = [pair for pair in pairwise(pieces) if pair in ranks]
        if not pairs:
            return pieces
        best = min(pairs, key=ranks.__getitem__)
        joined: list[str] = []
        for piece in pieces:
            if joined and (joined[-1], piece) == best:
                joined[-1] += piece
            else:
                joined.append(piece)
        pieces = joined
