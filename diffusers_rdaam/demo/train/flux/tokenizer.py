"""The T5 tokenizer of the embedded FLUX: a unigram vocabulary of the world's words, by hand.

``triangle`` and ``magenta`` are two pieces each, as in the CLIP tokenizer, so that merging pieces
into words is exercised. Other text falls back to single characters.
"""

from __future__ import annotations

import string

from transformers import T5TokenizerFast

from diffusers_rdaam.demo.train.tokenizer import SPLIT_WORDS, WORDS

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
# SentencePiece writes the space before a word as this character.
SPACE = "▁"
# Log-probabilities; a whole word beats its pieces, and pieces beat single characters.
WORD_SCORE, PIECE_SCORE, CHARACTER_SCORE = -2.0, -3.0, -10.0


def build_vocabulary() -> list[tuple[str, float]]:
    """Pieces and their log-probabilities, in the order of their ids."""
    pieces = [(special, 0.0) for special in (PAD, END, UNKNOWN)]
    pieces += [(SPACE + word, WORD_SCORE) for word in WORDS if word.isalpha() and len(word) > 1]
    for first, second in SPLIT_WORDS:
        pieces += [(SPACE + first, PIECE_SCORE), (second, PIECE_SCORE)]
    pieces.append((SPACE + "a", WORD_SCORE))
    characters = [SPACE, *string.ascii_letters, *string.digits, *",.!?-'"]
    return pieces + [(character, CHARACTER_SCORE) for character in characters]


def build_t5_tokenizer() -> T5TokenizerFast:
    """The tokenizer; it ends a text with ``</s>`` and has no start token, as T5's."""
    return T5TokenizerFast(
        vocab=build_vocabulary(),
        extra_ids=0,
        eos_token=END,
        pad_token=PAD,
        unk_token=UNKNOWN,
        model_max_length=512,
    )
