"""The package itself: its names, its laziness, and that its texts agree with its code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import diffusers_rdaam

TESTS = Path(__file__).parent


def test_all_names_are_there_and_sorted() -> None:
    assert diffusers_rdaam.__all__ == sorted(diffusers_rdaam.__all__)
    for name in diffusers_rdaam.__all__:
        assert getattr(diffusers_rdaam, name) is not None
    assert set(diffusers_rdaam.__all__) <= set(dir(diffusers_rdaam))
    assert "__all__" not in vars(diffusers_rdaam), "it is read from the stub"


def test_a_star_import_brings_every_name() -> None:
    names: dict[str, object] = {}
    exec("from diffusers_rdaam import *", names)
    assert set(diffusers_rdaam.__all__) == names.keys() - {"__builtins__"}


def test_every_error_and_warning_is_public() -> None:
    from diffusers_rdaam import errors

    classes = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert classes <= set(diffusers_rdaam.__all__)


def test_the_stub_of_the_pipeline_classes_is_that_of_the_table() -> None:
    from benchmarks import write_stub

    assert write_stub.STUB.read_text(encoding="utf-8") == write_stub.text(), (
        "run python -m benchmarks.write_stub"
    )


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'diffusers_rdaam' has no attribute 'cats'"):
        _ = diffusers_rdaam.cats


@pytest.mark.parametrize(("old", "new"), [("query", "attribute_text"), ("query_maps", "text_maps")])
def test_an_earlier_name_says_the_new_one(old: str, new: str) -> None:
    with pytest.raises(AttributeError, match=rf"^diffusers_rdaam\.{old} is called {new} now; "):
        getattr(diffusers_rdaam, old)
    assert old not in diffusers_rdaam.__all__ and new in diffusers_rdaam.__all__


def test_import_is_lazy() -> None:
    code = (
        "import sys, diffusers_rdaam; diffusers_rdaam.__all__; dir(diffusers_rdaam); "
        "assert not {'torch', 'diffusers', 'transformers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_errors_draw_their_own_tree() -> None:
    from diffusers_rdaam import errors

    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert errors.__doc__ is not None
    assert all(name in errors.__doc__ for name in classes)


def test_browser_tests_are_where_they_are_looked_for() -> None:
    """`make test-browser` collects these folders alone."""
    marked = {
        path.relative_to(TESTS).parts[0]
        for path in TESTS.rglob("test_*.py")
        if "mark.browser" in path.read_text(encoding="utf-8") and path != Path(__file__)
    }
    recipe = (TESTS.parent / "Makefile").read_text(encoding="utf-8")
    assert {f"tests/{folder}" for folder in marked} == set(
        re.findall(r"^IN_BROWSER := .* loadfile (.*)", recipe, re.M)[0].split()
    )
