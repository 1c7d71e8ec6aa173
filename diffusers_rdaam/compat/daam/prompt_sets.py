"""DAAM's sets of prompts: COCO's captions, captions with swapped words, templates, two nouns."""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffusers_rdaam.compat.daam.labels import build_word_list_coco80
from diffusers_rdaam.errors import AttributionFileError, InputError
from diffusers_rdaam.files.json_text import parse_json
from diffusers_rdaam.files.opening import read_text

CAPTIONS = "captions_val2014.json"
# COCO's captions of 2014 have 26 MB.
_LONGEST = 512_000_000
PLURAL = frozenset(
    [*"023456789", "zero", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
)
Prompts = list[tuple[str, str]]


def coco_prompts(folder: str | Path, *, limit: int = 1000, seed: int = 0) -> Prompts:
    """``(id, caption)`` of COCO's captions, shuffled.

    Args:
        folder: has ``captions_val2014.json``; or the path of a file of captions itself.
        limit: how many.
        seed: of the order.

    Raises:
        InputError: there is no such file, or it has no captions.
    """
    captions = _captions(Path(folder))
    random.Random(seed).shuffle(captions)
    return captions[:limit]


def unreal_prompts(folder: str | Path, nlp: Any, *, limit: int = 1000, seed: int = 0) -> Prompts:
    """COCO's captions with every noun and adjective replaced by a random one of the same kind.

    DAAM's own script keeps the replaced words alone, and then uses none of its captions; here the
    sentence stays.

    Args:
        folder, limit, seed: as in :func:`coco_prompts`.
        nlp: a spaCy pipeline that tags parts of speech, such as ``spacy.load("en_core_web_sm")``.

    Raises:
        InputError: as :func:`coco_prompts`; or the pipeline tags nothing.
    """
    draw = random.Random(seed)
    captions = _captions(Path(folder))
    draw.shuffle(captions)
    documents = [(id, nlp(text)) for id, text in captions[:limit]]
    words: dict[str, list[str]] = defaultdict(list)
    for _, document in documents:
        for token in document:
            if token.pos_ in ("ADJ", "NOUN"):
                words[token.pos_].append(token.text)
    if not words:
        raise InputError(
            "The spaCy pipeline found no noun or adjective. Give one that tags parts of speech: "
            'spacy.load("en_core_web_sm").'
        )
    return [
        (
            id,
            "".join(
                (draw.choice(words[token.pos_]) if token.pos_ in words else token.text)
                + token.whitespace_
                for token in document
            ).strip(),
        )
        for id, document in documents
    ]


def template_prompts(
    data_file: str | Path,
    template: str = "{numeral} {noun}",
    *,
    limit: int = 1000,
    seed: int = 0,
) -> Prompts:
    """A template filled with random words; a noun after a numeral over one is in the plural.

    Args:
        data_file: tab-separated, with the columns ``pos`` and ``word``; ``{pos}`` is a place.
        template: words and places with spaces between them.
        limit: how many.
        seed: of the words.

    Raises:
        InputError: there is no such file, or it has no words for a place.
    """
    draw, words = random.Random(seed), _words(Path(data_file))
    places = [part[1:-1] for part in template.split() if part.startswith("{")]
    unknown = [place for place in places if place not in words]
    if unknown or not places:
        raise InputError(
            f"The template {template!r} has no place, or one that {data_file} has no words for: "
            f"{', '.join(unknown) or 'none'}. Places: {', '.join(f'{{{one}}}' for one in words)}."
        )
    prompts = []
    for number in range(limit):
        filled: list[str] = []
        for part in template.split():
            word = part
            if part.startswith("{"):
                word = draw.choice(words[part[1:-1]])
                if part == "{noun}" and filled and filled[-1] in PLURAL:
                    word = plural(word)
            filled.append(word)
        prompts.append((str(number), " ".join(filled)))
    return prompts


def cconj_prompts(*, limit: int = 1000, seed: int = 0) -> Prompts:
    """ "a cat and a dog": two words of one group of COCO's objects, or of two, half of each.

    The ids are ``cohypo-0`` and ``diff-1``, as DAAM's.

    Args:
        limit: how many.
        seed: of the words.
    """
    draw, groups = random.Random(seed), build_word_list_coco80()
    prompts = []
    for number in range(limit):
        related = draw.random() < 0.5
        if related:
            first, second = draw.sample(groups[draw.choice(list(groups))], 2)
        else:
            first, second = (draw.choice(groups[group]) for group in draw.sample(list(groups), 2))
        id = f"{'cohypo' if related else 'diff'}-{number}"
        prompts.append((id, f"{_article(first)} {first} and {_article(second)} {second}"))
    return prompts


def plural(noun: str) -> str:
    """The plural of an English noun, by the rules and the exceptions among COCO's words."""
    known = {"person": "people", "mouse": "mice", "knife": "knives", "sheep": "sheep",
             "child": "children", "man": "men", "woman": "women", "foot": "feet",
             "tooth": "teeth", "goose": "geese", "leaf": "leaves", "wolf": "wolves",
             "shelf": "shelves", "scissors": "scissors", "skis": "skis", "fish": "fish",
             "deer": "deer", "broccoli": "broccoli"}  # fmt: skip
    head, _, last = noun.rpartition(" ")
    before = f"{head} " if head else ""
    for ending, whole in known.items():
        if last == ending or (last.endswith(ending) and ending in ("man", "child", "tooth")):
            return f"{before}{last[: len(last) - len(ending)]}{whole}"
    if last.endswith(("s", "x", "z", "ch", "sh")):
        return f"{noun}es"
    if last.endswith("y") and last[-2:-1] not in tuple("aeiou"):
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def seed_of(id: str, offset: int = 0) -> int:
    """The seed of a template's or of two nouns' image: its number, and an offset.

    Raises:
        InputError: the id has no number.
    """
    number = id.rpartition("-")[2]
    if not (number.isascii() and number.isdigit()):
        raise InputError(f"{id!r} has no number to make a seed of; such as 'diff-12'.")
    return int(number) + offset


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _captions(path: Path) -> Prompts:
    file = path / CAPTIONS if path.is_dir() else path
    try:
        content = parse_json(read_text(file, "file of captions", limit=_LONGEST), limit=_LONGEST)
        found = [(str(one["id"]), str(one["caption"]).strip()) for one in content["annotations"]]
    except AttributionFileError as error:
        raise InputError(f"{error} Give the folder with {CAPTIONS}, or its path.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file} does not hold captions as COCO has them ({error!r}): an object with "
            '"annotations", each with "id" and "caption".'
        ) from error
    if not found:
        raise InputError(f"{file} has no caption.")
    return found


def _words(path: Path) -> dict[str, list[str]]:
    try:
        text = read_text(path, "file of words")
    except AttributionFileError as error:
        raise InputError(
            f"{error} Give a tab-separated file with the columns pos and word."
        ) from error
    rows: Sequence[dict[str, Any]] = list(
        csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    )
    words: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.get("pos") and row.get("word"):
            words[row["pos"]].append(row["word"])
    if not words:
        raise InputError(
            f"{path} has no words: it is tab-separated, with the columns pos and word."
        )
    return dict(words)
