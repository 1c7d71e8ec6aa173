"""ChatGLM's tokenizer without the library sentencepiece: its processor, on the library tokenizers.

diffusers' tokenizer for Kolors needs sentencepiece, which the tests do not install. What it asks of
it is little, and the library tokenizers has the same algorithm.
"""

from __future__ import annotations

import json
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from diffusers.pipelines.kolors import tokenizer as kolors_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

WORDS = ["a", "red", "cat", "near", "house", "two", "blue", "dogs", "on", "the", "mat", "big"]
WORDS += ["of", "and", "in", "painting", "photo"]


class SentencePieceProcessor:
    """What ChatGLMTokenizer calls, over a file that holds a JSON list of pieces and scores."""

    def __init__(self, model_file: str) -> None:
        pieces = [tuple(pair) for pair in json.loads(Path(model_file).read_text(encoding="utf-8"))]
        self._tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
        self._tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        self._tokenizer.decoder = decoders.Metaspace()

    def vocab_size(self) -> int:
        return self._tokenizer.get_vocab_size()

    get_piece_size = vocab_size

    def unk_id(self) -> int:
        return 0

    def bos_id(self) -> int:
        return 1

    def eos_id(self) -> int:
        return 2

    def EncodeAsPieces(self, text: str) -> list[str]:
        return self._tokenizer.encode(text, add_special_tokens=False).tokens

    def PieceToId(self, piece: str) -> int:
        found = self._tokenizer.token_to_id(piece)
        return self.unk_id() if found is None else found

    def IdToPiece(self, index: int) -> str:
        return self._tokenizer.id_to_token(index)


@cache
def chatglm_tokenizer() -> Any:
    """diffusers' own ChatGLMTokenizer, with a vocabulary of words, letters and bytes."""
    space = "\u2581"
    letters = "abcdefghijklmnopqrstuvwxyz.,!'-"
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
    pieces += [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    pieces += [(f"{space}{word}", -2.0) for word in WORDS] + [(space, -6.0)]
    pieces += [(letter, -8.0) for letter in letters]
    module = ModuleType("sentencepiece")
    module.SentencePieceProcessor = SentencePieceProcessor
    before = sys.modules.get("sentencepiece"), kolors_tokenizer.is_sentencepiece_available
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.model"
        path.write_text(json.dumps(pieces), encoding="utf-8")
        sys.modules["sentencepiece"] = module
        kolors_tokenizer.is_sentencepiece_available = lambda: True
        try:
            return kolors_tokenizer.ChatGLMTokenizer(str(path))
        finally:
            kolors_tokenizer.is_sentencepiece_available = before[1]
            del sys.modules["sentencepiece"]
            if before[0] is not None:
                sys.modules["sentencepiece"] = before[0]
