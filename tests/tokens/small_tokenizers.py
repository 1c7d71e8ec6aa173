"""Tokenizers of the real classes with tiny vocabularies, made in code and the same in every run.

Each knows every letter of the Latin script, some words in pieces, and what its models' templates
need as single tokens.
"""

from __future__ import annotations

import string
from functools import cache
from typing import Any

from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertTokenizerFast,
    ByT5Tokenizer,
    CLIPTokenizerFast,
    GemmaTokenizerFast,
    LlamaTokenizerFast,
    Qwen2TokenizerFast,
    T5TokenizerFast,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

WORDS = ("a", "cat", "hat", "blue", "dog", "eyes", "the", "with", "red", "photo")
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
# The same, of messages whose content may be a list of parts.
CHATML_OF_PARTS = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MISTRAL = (
    "{{ '<s>' }}{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ '[SYSTEM_PROMPT]' }}{% elif message['role'] == 'user' %}{{ '[INST]' }}{% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}"
    "{% if message['role'] == 'system' %}{{ '[/SYSTEM_PROMPT]' }}"
    "{% elif message['role'] == 'user' %}{{ '[/INST]' }}{% endif %}{% endfor %}"
)
LETTERS = string.ascii_letters + string.digits + string.punctuation


def _merged(symbols: dict[str, int], words: list[list[str]]) -> list[tuple[str, str]]:
    """Merges that make the words from their parts, left to right; symbols get the results."""
    merges: list[tuple[str, str]] = []
    for parts in words:
        whole = parts[0]
        for part in parts[1:]:
            if (whole, part) not in merges:
                merges.append((whole, part))
            whole += part
            symbols.setdefault(whole, len(symbols))
    return merges


def _numbered(names: Any) -> dict[str, int]:
    return {name: index for index, name in enumerate(dict.fromkeys(names))}


@cache
def _byte_level() -> tuple[dict[str, int], list[tuple[str, str]]]:
    symbols = _numbered(bytes_to_unicode().values())
    words = [[*word] for word in WORDS] + [["Ġ", *word] for word in WORDS]
    # Two words of three bytes each, which one token has together with part of the third.
    cjk = ["".join(bytes_to_unicode()[byte] for byte in letter.encode()) for letter in "猫犬"]
    words += [[*cjk[0]], [*cjk[1][:2]]]
    return symbols, _merged(symbols, words)


def qwen(template: str | None = CHATML) -> Any:
    symbols, merges = _byte_level()
    tokenizer = Qwen2TokenizerFast(vocab=dict(symbols), merges=list(merges))
    names = (
        "<|im_start|> <|im_end|> <|vision_start|> <|vision_end|> <|image_pad|> <|video_pad|> "
        "<think> </think>"
    )
    tokenizer.add_tokens([AddedToken(name, special=True) for name in names.split()])
    tokenizer.chat_template = template
    return tokenizer


def mistral() -> Any:
    symbols, merges = _byte_level()
    tokenizer = Qwen2TokenizerFast(
        vocab=dict(symbols), merges=list(merges), pad_token="<pad>", eos_token="</s>"
    )
    names = "<s> [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [INST] [/INST] [IMG]"
    tokenizer.add_tokens([AddedToken(name, special=True) for name in names.split()])
    tokenizer.chat_template = MISTRAL
    tokenizer.padding_side = "left"
    return tokenizer


def glm() -> Any:
    """As CogView4 has it: two start tokens, and padding on the left."""
    tokenizer = mistral()
    tokenizer.add_tokens([AddedToken(name, special=True) for name in ("[gMASK]", "<sop>")])
    return _with_start(tokenizer, "[gMASK]", "<sop>")


def t5(length: int = 512) -> Any:
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    vocab += [(letter, -6.0) for letter in LETTERS]
    vocab += [("▁" + word, -3.0) for word in WORDS if len(word) > 1] + [("▁a", -2.5), ("at", -4.0)]
    return T5TokenizerFast(vocab=vocab, extra_ids=0, model_max_length=length)


def _sentencepiece(first: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    names = [*first, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "\n", *LETTERS]
    symbols = _numbered(names)
    return symbols, _merged(symbols, [["▁", *word] for word in WORDS] + [["c", "at"], ["a", "t"]])


def gemma() -> Any:
    symbols, merges = _sentencepiece(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"])
    tokenizer = GemmaTokenizerFast(vocab=symbols, merges=merges)
    return _with_start(tokenizer, "<bos>")


def llama(template: str | None = None, **options: Any) -> Any:
    symbols, merges = _sentencepiece(["<unk>", "<s>", "</s>"])
    tokenizer = LlamaTokenizerFast(vocab=symbols, merges=merges, pad_token="</s>", **options)
    names = "<|start_header_id|> <|end_header_id|> <|eot_id|> <img> </img> <|image_1|>"
    tokenizer.add_tokens([AddedToken(name, special=True) for name in names.split()])
    tokenizer.chat_template = template
    return _with_start(tokenizer, "<s>")


def _with_start(tokenizer: Any, *names: str) -> Any:
    """With start tokens before each text, as the published tokenizers' files have them."""
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{' '.join(names)} $A",
        special_tokens=[(name, tokenizer.convert_tokens_to_ids(name)) for name in names],
    )
    return tokenizer


def bert() -> Any:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *LETTERS]
    return BertTokenizerFast(
        vocab=_numbered([*names, *("##" + letter for letter in LETTERS), "##at"])
    )


def clip(length: int = 77) -> Any:
    letters = list(bytes_to_unicode().values())
    symbols = _numbered([*letters, *(letter + "</w>" for letter in letters)])
    merges = _merged(symbols, [[*word[:-1], word[-1] + "</w>"] for word in WORDS])
    for name in ("<|startoftext|>", "<|endoftext|>"):
        symbols.setdefault(name, len(symbols))
    return CLIPTokenizerFast(vocab=symbols, merges=merges, model_max_length=length)


def byt5() -> Any:
    return ByT5Tokenizer()
