"""``make release`` dates and versions the files, or writes nothing."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from release import prepare as preparation
from release.prepare import (
    ADDRESS_FILES,
    CHANGELOG,
    CITATION,
    PLACEHOLDER,
    VERSION_FILE,
    ReleaseError,
    address_of,
    main,
    prepare,
)

ROOT = Path(__file__).parents[2]
FILES = (*ADDRESS_FILES, CHANGELOG, VERSION_FILE)
ADDRESS = "https://host.example/group/diffusers_rdaam"
OLD = "# Changelog\n\n## 0.2.0 (unreleased)\n\n### New\n\n## 0.1.0 (2026-01-31)\n"


@pytest.fixture
def root(tmp_path):
    """The files of this repository, before a first release."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    current = address_of((ROOT / "pyproject.toml").read_text("utf-8"))
    for name in ADDRESS_FILES:
        path = tmp_path / name
        path.write_text(path.read_text("utf-8").replace(current, PLACEHOLDER), "utf-8")
    (tmp_path / CHANGELOG).write_text("# Changelog\n\n## 0.1.0 (unreleased)\n\n### New\n", "utf-8")
    return tmp_path


def texts(root: Path) -> dict[str, str]:
    return {name: (root / name).read_text("utf-8") for name in FILES}


def test_a_first_release(root):
    changed = prepare(root, "0.1.0", "2026-11-30", f"{ADDRESS}/")
    assert {CHANGELOG, CITATION, *ADDRESS_FILES} <= {*changed} <= {*FILES}
    after = texts(root)
    assert after[CHANGELOG].splitlines()[2] == "## 0.1.0 (2026-11-30)"
    assert "version: 0.1.0\ndate-released: 2026-11-30\n" in after[CITATION]
    assert '\n__version__ = "0.1.0"\n' in after[VERSION_FILE]
    for name in ADDRESS_FILES:
        assert ADDRESS in after[name] and PLACEHOLDER not in after[name]


def test_a_later_release_keeps_the_address_and_has_one_day(root):
    prepare(root, "0.1.0", "2026-11-30", ADDRESS)
    (root / CHANGELOG).write_text(OLD, "utf-8")
    prepare(root, "0.2.0", "2027-01-01")
    after = texts(root)
    assert after[CHANGELOG] == OLD.replace("unreleased", "2027-01-01")
    assert address_of(after["pyproject.toml"]) == ADDRESS
    assert re.findall("date-released: .*", after[CITATION]) == ["date-released: 2027-01-01"]
    assert re.findall("^version: .*", after[CITATION], re.M) == ["version: 0.2.0"]
    assert '__version__ = "0.2.0"' in after[VERSION_FILE]


@pytest.mark.parametrize(
    ("version", "day", "repository", "message"),
    [
        ("", "2026-11-30", ADDRESS, "'' is not a version"),
        ("v0.1.0", "2026-11-30", ADDRESS, "'v0.1.0' is not a version. Give one such as 0.1.0"),
        ("0.1", "2026-11-30", ADDRESS, "'0.1' is not a version"),
        ("0.1.0", "30.11.2026", ADDRESS, "'30.11.2026' is not a day. Give it as 2026-01-31"),
        ("0.1.0", "2026-02-30", ADDRESS, "'2026-02-30' is not a day"),
        ("0.1.0", "2026-11-30", "", f"the project's address is still {PLACEHOLDER}. Give it"),
        ("0.1.0", "2026-11-30", PLACEHOLDER, "the project's address is still"),
        ("0.1.0", "2026-11-30", "host/project", "'host/project' is not an address"),
        ("0.1.0", "2026-11-30", "http://host.example/a/b", "is not an address such as https://"),
        ("0.1.0", "2026-11-30", "https://host.example", "is not an address such as https://"),
        (
            "0.2.0",
            "2026-11-30",
            ADDRESS,
            "the newest section of CHANGELOG.md is '0.1.0 unreleased'",
        ),
    ],
)
def test_what_is_wrong_writes_nothing(root, version, day, repository, message):
    before = texts(root)
    with pytest.raises(ReleaseError, match=re.escape(message)):
        prepare(root, version, day, repository)
    assert texts(root) == before


@pytest.mark.parametrize(
    ("changelog", "message"),
    [
        ("# Changelog\n", "is 'nothing'"),
        ("## 0.1.0 (2026-01-31)\n", "is '0.1.0 2026-01-31'"),
        ("## 0.1.0 (unreleased)\n\n## 0.1.0 (2026-01-31)\n", "0.1.0 was released before"),
    ],
)
def test_a_changelog_that_is_not_ready(root, changelog, message):
    (root / CHANGELOG).write_text(changelog, "utf-8")
    before = texts(root)
    with pytest.raises(ReleaseError, match=re.escape(message)):
        prepare(root, "0.1.0", "2026-11-30", ADDRESS)
    assert texts(root) == before


def test_a_file_without_its_line_writes_nothing(root):
    path = root / CITATION
    path.write_text(re.sub("^version: .*\n", "", path.read_text("utf-8"), flags=re.M), "utf-8")
    before = texts(root)
    with pytest.raises(ReleaseError, match=r"CITATION.cff has 0 lines of the form"):
        prepare(root, "0.1.0", "2026-11-30", ADDRESS)
    assert texts(root) == before


def test_the_command(root, monkeypatch, capsys):
    monkeypatch.setattr(preparation, "ROOT", root)
    assert main(["0.1.0"]) == 2
    assert "Error: the project's address is still" in capsys.readouterr().err
    assert main(["0.1.0", "--repository", ADDRESS]) == 0
    printed = capsys.readouterr().out
    assert "CHANGELOG.md" in printed and "git tag v0.1.0" in printed
