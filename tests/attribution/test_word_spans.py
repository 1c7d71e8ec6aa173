"""Where words are, in every script; and that only whole words are found."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusers_rdaam.attribution.word_spans import find_phrase, word_spans


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in word_spans(text)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a cat in a hat", ["a", "cat", "in", "a", "hat"]),
        ("  Hello,\tWORLD!\n", ["Hello", "WORLD"]),
        ("(a cat), [dog]: {x}; \"y\" 'z'?", ["a", "cat", "dog", "x", "y", "z"]),
        ("don't the dog's 'quoted' dogs'", ["don't", "the", "dog's", "quoted", "dogs"]),
        ("don’t donʼt rock'n'roll", ["don’t", "donʼt", "rock'n'roll"]),
        ("blue-eyed well—known a/b", ["blue", "eyed", "well", "known", "a", "b"]),
        ("café naïve", ["café", "naïve"]),
        ("cafe\u0301 nai\u0308ve", ["cafe\u0301", "nai\u0308ve"]),
        ("a_cat __x__ 4k 1920x1080 3.5", ["a", "cat", "x", "4k", "1920x1080", "3", "5"]),
        ("$5 + 10% ^ ` ~ | = <", ["5", "10"]),
        ("猫が好き。犬も、", ["猫が好き", "犬も"]),
        ("кошка в шляпе", ["кошка", "в", "шляпе"]),
        ("किताब แมว قطة", ["किताब", "แมว", "قطة"]),
        ("a 🐱 on", ["a", "🐱", "on"]),
        ("cat🐱cat", ["cat", "🐱", "cat"]),
        ("👩‍🚀 👍🏽 ❤️ 🇩🇪 👨‍👩‍👧", ["👩‍🚀", "👍🏽", "❤️", "🇩🇪", "👨‍👩‍👧"]),
        ("1️⃣ ©", ["1️⃣", "©"]),
        ("", []),
        (" \n\t", []),
        ("...!?", []),
        ("'", []),
    ],
)
def test_words(text, wanted):
    assert words(text) == wanted


@given(st.text(max_size=40))
def test_spans_are_ordered_apart_and_without_space(text):
    position = 0
    for start, end in word_spans(text):
        assert position <= start < end <= len(text)
        assert not any(character.isspace() for character in text[start:end])
        position = end


@pytest.mark.parametrize(
    ("text", "phrase", "wanted"),
    [
        ("a scat cat cats concat", "cat", [(7, 10)]),
        ("cat's cat-like (cat) cat.", "cat", [(0, 3), (6, 9), (16, 19), (21, 24)]),
        ("1cat cat2 catfood", "cat", []),
        ("cat_food, blue_eyes", "cat", [(0, 3)]),
        ("blue_eyes, blue eyes", "eyes", [(5, 9), (16, 20)]),
        ("blue_eyes, blue eyes", "blue eyes", [(0, 9), (11, 20)]),
        ("blue_eyes, blue eyes", "Blue_Eyes", [(0, 9), (11, 20)]),
        ("__x__", "__x__", [(0, 5)]),
        ("scat cat cat", "cat cat", [(5, 12)]),
        ("cat cat cat", "cat cat", [(0, 7)]),
        ("A Cat, a CAT", "cat", [(2, 5), (9, 12)]),
        ("a cat", "CAT", [(2, 5)]),
        ("with blue   eyes", "blue eyes", [(5, 16)]),
        ("with blue\neyes", "  blue \t eyes ", [(5, 14)]),
        ("with blueeyes", "blue eyes", []),
        ("dark blue eyes", "blue", [(5, 9)]),
        ("blue-eyed", "blue-eyed", [(0, 9)]),
        ("don't", "don't", [(0, 5)]),
        ("a+b .* c", ".*", [(4, 6)]),
        ("a cat.", "cat.", [(2, 6)]),
        ("猫が好き", "猫", [(0, 1)]),
        ("黒猫が好き", "猫", [(1, 2)]),
        ("각자", "가", []),
        ("สีแดง", "ส", []),
        ("สีแดง", "สี", [(0, 2)]),
        ("\u304b\u3099く", "か", []),
        ("ក្ក", "ក", []),
        ("🐱🐶 🐱", "🐱", [(0, 1), (3, 4)]),
        ("👍🏽", "👍", []),
        ("👍🏽 👍", "👍", [(3, 4)]),
        ("👩‍🚀", "👩", []),
        ("👩‍🚀", "🚀", []),
        ("👩‍🚀 x", "👩‍🚀", [(0, 3)]),
        ("STRASSE Straße", "straße", [(0, 7), (8, 14)]),
        ("ΣΊΣΥΦΟΣ", "σίσυφος", [(0, 7)]),
        ("a cat", "dog", []),
        ("a cat", "", []),
        ("a cat", " \n", []),
        ("", "cat", []),
    ],
)
def test_find_phrase(text, phrase, wanted):
    assert find_phrase(text, phrase) == wanted


def test_a_border_ends_a_word_whatever_is_around():
    assert find_phrase("skscat", "cat") == []
    assert find_phrase("skscat", "cat", {3}) == [(3, 6)]
    assert find_phrase("skscats", "cat", {3}) == []


@pytest.mark.parametrize("text_form", ["NFC", "NFD"])
@pytest.mark.parametrize("phrase_form", ["NFC", "NFD"])
def test_composed_and_decomposed_accents_are_the_same(text_form, phrase_form):
    text = unicodedata.normalize(text_form, "le café d'été à Zürich")
    phrase = unicodedata.normalize(phrase_form, "CAFÉ d'été")
    ((start, end),) = find_phrase(text, phrase)
    assert unicodedata.normalize("NFC", text[start:end]) == "café d'été"


def test_both_forms_in_one_text_are_both_found():
    assert find_phrase("café cafe\u0301", "café") == [(0, 4), (5, 10)]


@pytest.mark.parametrize("text", ["café", "cafe\u0301"])
def test_a_letter_without_its_accent_is_another_letter(text):
    assert find_phrase(text, "cafe") == []


@given(st.lists(st.sampled_from(["cat", "Scat", "CATS", "blue", "été", "猫", "🐱"]), min_size=1))
def test_every_word_is_found_where_it_is(parts):
    text = " ".join(parts)
    for start, end in word_spans(text):
        assert (start, end) in find_phrase(text, text[start:end])
