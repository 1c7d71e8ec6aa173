"""A system is found by name or in the user's folder, with stand-ins for what it does not need."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.systems.finding import ENVIRONMENT, find
from benchmarks.systems.system import UnavailableError

PACKAGE = "rdaam_test_system"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The user's, empty; modules that a test imports are forgotten after it."""
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(PACKAGE):
            del sys.modules[name]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_package_inside_of_a_checkout(folder: Path) -> None:
    _write(folder / PACKAGE / PACKAGE / "__init__.py", "from .inner import VALUE\n")
    _write(folder / PACKAGE / PACKAGE / "inner.py", "VALUE = 3\n")
    path = list(sys.path)
    assert find(PACKAGE).VALUE == 3
    assert sys.path == path


def test_the_checkout_that_is_the_package(folder: Path) -> None:
    _write(folder / PACKAGE / "__init__.py", "VALUE = 4\n")
    assert find(PACKAGE).VALUE == 4


def test_an_installed_package_needs_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    assert find("diffusers").__name__ == "diffusers"


def test_stand_ins_are_there_during_the_import_alone(folder: Path) -> None:
    code = "import absent_one.part\nclass Map:\n    token: absent_one.part.Token\n"
    _write(folder / PACKAGE / "__init__.py", code)
    module = find(PACKAGE, ("absent_one.part",))
    assert module.Map.__annotations__["token"].__name__ == "Token"
    assert not any(name.startswith("absent_one") for name in sys.modules)


def test_what_is_installed_is_not_stood_in_for(folder: Path) -> None:
    _write(folder / PACKAGE / "__init__.py", "import xml.dom as dom\n")
    import xml.dom

    assert find(PACKAGE, ("xml.dom",)).dom is xml.dom and sys.modules["xml.dom"] is xml.dom


def test_a_missing_one_says_where_it_was_looked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        UnavailableError, match=f"not installed, and {ENVIRONMENT} has no {PACKAGE}"
    ):
        find(PACKAGE)
    monkeypatch.delenv(ENVIRONMENT)
    with pytest.raises(UnavailableError, match=f"{ENVIRONMENT} names no folder"):
        find(PACKAGE)


def test_a_broken_one_says_what_its_import_raised_and_is_forgotten(folder: Path) -> None:
    _write(folder / PACKAGE / "__init__.py", "from . import inner\nimport absent_two\n")
    _write(folder / PACKAGE / "inner.py", "")
    with pytest.raises(UnavailableError, match=r"its import fails: .*No module named 'absent_two'"):
        find(PACKAGE)
    assert not any(name.startswith(PACKAGE) for name in sys.modules)
