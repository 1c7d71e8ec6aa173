"""Names of files that are made of words."""

import unicodedata

import pytest

from diffusers_rdaam.file_names import LONGEST, FileNames, readable, safe_name


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("red circle", "red-circle"),
        ("dog's", "dog-s"),
        ("कि", "कि"),
        ("🟥", "🟥"),
        ("../../etc/passwd", "etc-passwd"),
        ("C:\\x", "C-x"),
        ("--help", "help"),
        ("a. ", "a"),
        ("cat\u202egnp.exe", "catgnp-exe"),
        ("a\u200bb\x00c\ud800", "abc"),
        ("\u3164", ""),
        ("...", ""),
        ("E\u0301", "É"),
    ],
)
def test_what_is_left_of_a_text(text, wanted) -> None:
    assert readable(text) == wanted


@pytest.mark.parametrize("word", ["con", "NUL", "ＣＯＮ", "com¹", "LPT9", "aux.heat_map"])
def test_devices_of_windows_are_no_names(word) -> None:
    stem = safe_name(word, suffix=".png").split(".")[0] if "." not in word else safe_name(word)
    assert stem.endswith("_")
    assert safe_name(word, prefix="word-") == f"word-{word}"


@pytest.mark.parametrize("letter", ["红", "a", "é", "e\u0301", "🟥"])
def test_long_names_are_cut_between_characters(letter) -> None:
    name = safe_name(letter * 500, prefix="word-", suffix=".png")
    assert LONGEST - 4 < len(name.encode()) <= LONGEST
    stem = name.removeprefix("word-").removesuffix(".png").rsplit("-", 1)[0]
    assert stem and len(stem) % len(letter) == 0 and set(stem) == set(letter)
    assert name != safe_name(letter * 500 + "b", prefix="word-", suffix=".png")
    # Wherever the cut falls, a mark stays with its letter.
    for prefix in ("w", "wo", "wor"):
        stem = safe_name(letter * 500, prefix=prefix).removeprefix(prefix).rsplit("-", 1)[0]
        assert stem == letter * (len(stem) // len(letter))
    assert len(safe_name(letter * 500, prefix="p" * 119, suffix=".png").encode()) <= 140


def test_no_two_names_differ_by_case_or_form_alone() -> None:
    words = [
        "É", "é", unicodedata.normalize("NFD", "É"), "ſ", "s", "S", "K", "k", "ß", "ss", "SS",
        "ﬁ", "fi", "İ", "i", "ı", "I", "①", "1", "ａ", "a", "s-2", "!", "?", "", "0", "a\u200b",
        "CON", "con", "Σ", "ς", "σ", "µ", "μ", "Å", "Å",
    ]  # fmt: skip
    names = FileNames()
    found = [
        names.name(word, prefix="word-", suffix=".png", number=i) for i, word in enumerate(words)
    ]
    for fold in (str.casefold, str.upper, str.lower):
        for form in ("NFC", "NFD", "NFKC", "NFKD"):
            assert len({fold(unicodedata.normalize(form, name)) for name in found}) == len(words)
    assert found[0] == "word-É.png" and found[1] == "word-é-2.png"
