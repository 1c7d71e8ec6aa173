"""The tests that guard times: each file runs once, and whatever is not green is red."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.guards import Guards

GREEN = """
import pathlib, pytest
def test_one(): pathlib.Path("runs").open("a").write("x")
def test_two(): pass
@pytest.mark.skip(reason="not here")
def test_three(): pass
"""
RED = """
import pytest
@pytest.fixture
def broken(): raise ValueError("broken")
def test_right(): pass
def test_wrong(): assert 1 == 2
@pytest.mark.parametrize("n", range(6))
def test_set_up(broken, n): pass
"""


@pytest.fixture
def guards(tmp_path: Path) -> Guards:
    """Of a repository with a green file, a red one, and some that cannot tell."""
    files = {
        "green.py": GREEN,
        "red.py": RED,
        "skipped.py": "import pytest\npytest.skip('nothing here', allow_module_level=True)\n",
        "syntax.py": "def test_one(:\n",
        "crash.py": "import os\ndef test_one(): os._exit(3)\n",
        "empty.py": "",
        "exit.py": "import pytest\ndef test_one(): pytest.exit('enough')\n",
    }
    for name, text in files.items():
        (tmp_path / f"test_{name}").write_text(text)
    return Guards(tmp_path)


def test_green_tests_permit_times_and_run_once(guards: Guards, tmp_path: Path) -> None:
    for _ in range(2):
        verdict = guards.verdict(["test_green.py"])
        assert verdict.red == ()
        assert verdict.text == "2 tests passed, 1 skipped in 1 files"
    assert (tmp_path / "runs").read_text() == "x"


def test_red_tests_are_named_and_taint_only_who_names_them(guards: Guards) -> None:
    guards.run(["test_green.py", "test_red.py"])
    assert guards.verdict(["test_green.py"]).red == ()
    verdict = guards.verdict(["test_green.py", "test_red.py"])
    assert verdict.red[0] == "test_red.py::test_wrong"
    assert len(verdict.red) == 7
    assert verdict.text.startswith("RED: test_red.py::test_wrong, test_red.py::test_set_up[0]")
    assert verdict.text.endswith(" and 2 more")


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("test_missing.py", "RED: test_missing.py (no such file)"),
        ("test_syntax.py", "RED: test_syntax.py (cannot be collected)"),
        ("test_crash.py", "RED: test_crash.py (pytest ended with status 3 and no report)"),
        ("test_exit.py", "RED: test_exit.py (pytest ended with status 2)"),
        ("test_skipped.py", "RED: no test ran in test_skipped.py"),
        ("test_empty.py", "RED: no test ran in test_empty.py"),
        ("test_nowhere*.py", "RED: no test ran in test_nowhere*.py"),
    ],
)
def test_what_is_not_checked_is_red(guards: Guards, name: str, text: str) -> None:
    assert guards.verdict([name]).text == text


def test_a_pattern_names_all_that_match_and_may_name_none(guards: Guards) -> None:
    patterns = ["test_gr*.py", "test_nowhere*.py", "test_green.py"]
    assert guards.files(patterns) == ("test_green.py",)
    assert guards.verdict(patterns).red == ()


def test_a_file_that_cannot_be_collected_leaves_the_others_their_outcome(guards: Guards) -> None:
    guards.run(["test_green.py", "test_syntax.py"])
    assert guards.outcomes["test_green.py"].red == []
    assert guards.outcomes["test_green.py"].passed == 2
