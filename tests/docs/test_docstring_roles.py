"""Docstrings on the site: Sphinx's roles become code."""

from __future__ import annotations

from pathlib import Path

import pytest

griffe = pytest.importorskip("griffe", reason="the extra docs is not installed")

from benchmarks.docstring_roles import DocstringRoles, without_roles  # noqa: E402

TEXT = '''
def mean(values):
    """As :class:`HeatMap`, by :func:`~package.module.mean`; ``plain`` and `code`: stay."""
'''


def test_roles_become_code() -> None:
    text = "See :meth:`Attribution.word`, ``:class:`X``` is how one writes it, and 3:1."
    assert without_roles(text).startswith("See `Attribution.word`, ")
    assert without_roles("a :mod:`package.room`.") == "a `package.room`."
    assert without_roles("left: `right`") == "left: `right`"


def test_docstrings_are_rewritten_as_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "of_roles.py").write_text(TEXT)
    extensions = griffe.load_extensions(DocstringRoles)
    module = griffe.load("of_roles", search_paths=[tmp_path], extensions=extensions)
    text = module["mean"].docstring.value
    assert text == "As `HeatMap`, by `package.module.mean`; ``plain`` and `code`: stay."
