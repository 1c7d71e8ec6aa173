"""Every public name has a docstring and is on one API page."""

from __future__ import annotations

import pytest

import diffusers_rdaam
from benchmarks import write_api


def test_every_public_name_is_on_one_page_with_a_docstring() -> None:
    write_api.check()
    found = [name for page in write_api.PAGES for name in write_api.names_of(page)]
    assert sorted([*found, "__version__"]) == diffusers_rdaam.__all__


@pytest.mark.parametrize("page", write_api.PAGES)
def test_a_page_has_its_names(page: str) -> None:
    text = write_api.page_text(page)
    names = write_api.names_of(page)
    assert names and text.startswith(f"# {write_api.PAGES[page].title}\n")
    for name in names:
        assert f"::: diffusers_rdaam.{name}\n" in text or f"| `{name}` |" in text


@pytest.mark.parametrize("page", write_api.PAGES)
def test_no_private_base_is_shown(page: str) -> None:
    text = write_api.page_text(page)
    for name in write_api.names_of(page) if "::: " in text else ():
        bases = getattr(getattr(diffusers_rdaam, name), "__bases__", ())
        is_hidden = f"::: diffusers_rdaam.{name}\n    options:\n      show_bases: false\n" in text
        assert is_hidden == any(base.__name__.startswith("_") for base in bases), name


def test_a_name_on_no_page_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(write_api.PAGES, "batch")
    with pytest.raises(ValueError, match="on no API page: name their module in PAGES: BatchRow"):
        write_api.check()


def test_a_method_without_a_docstring_is_an_error() -> None:
    class Silent:
        """A class."""

        __module__ = "diffusers_rdaam.here"

        def asked(self) -> None:
            pass

        @property
        def answer(self) -> int:
            return 1

        def _private(self) -> None:
            pass

    Silent.__module__ = "diffusers_rdaam.here"
    assert write_api.undocumented_members(Silent) == ["asked", "answer"]
