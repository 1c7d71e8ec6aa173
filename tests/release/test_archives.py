"""What may be in a wheel and a source distribution, on archives made by hand."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from release import archives
from release.archives import contents, difference, sdist_faults, wheel_faults

FACTS = "diffusers_rdaam-0.1.0.dist-info"
METADATA = (
    "Metadata-Version: 2.4\nName: diffusers_rdaam\nVersion: 0.1.0\n"
    "Project-URL: Repository, https://host.example/p\nLicense-File: LICENSE\n\n"
    "A page with [a link](https://host.example/a.md).\n"
)
GOOD = {
    "diffusers_rdaam/__init__.py": b"",
    "diffusers_rdaam/py.typed": b"",
    "diffusers_rdaam/viewer/assets/viewer.js": b"",
    "diffusers_rdaam/demo/README.md": b"",
    "diffusers_rdaam/demo/weights/unet/model.safetensors": b"",
    "diffusers_rdaam/demo/weights/tokenizer/merges.txt": b"",
    "diffusers_rdaam/demo/weights_flux/model_index.json": b"",
    "diffusers_rdaam/segmentation/demo_tokens/tokens.json": b"",
    f"{FACTS}/METADATA": METADATA.encode(),
    f"{FACTS}/licenses/LICENSE": b"",
    f"{FACTS}/RECORD": b"",
}
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "PKG-INFO")


def wheel_of(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / "diffusers_rdaam-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def sdist_of(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / "diffusers_rdaam-0.1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"diffusers_rdaam-0.1.0/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def package(files: dict[str, bytes]) -> set[str]:
    return {name for name in files if not name.startswith(FACTS)}


def test_a_wheel_that_is_right(tmp_path):
    wheel = wheel_of(tmp_path, GOOD)
    assert wheel_faults(wheel, tracked=package(GOOD), traces=["/build/here/"]) == []
    assert contents(wheel) == GOOD


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tests/test_a.py", "tests/test_a.py is not part of the package"),
        ("diffusers_rdaam.pth", "is not part of the package"),
        ("diffusers_rdaam/tests/a.py", "is of a kind that the package has not"),
        ("diffusers_rdaam/test_a.py", "is of a kind that the package has not"),
        ("diffusers_rdaam/data.npz", "is of a kind that the package has not"),
        ("diffusers_rdaam/model.safetensors", "is of a kind that the package has not"),
        ("diffusers_rdaam/.hidden.py", "is of a kind that the package has not"),
        ("diffusers_rdaam/demo/weights/unet/model.bin", "is of a kind that the package has not"),
        ("diffusers_rdaam/__pycache__/a.py", "was left there by a tool"),
        ("diffusers_rdaam/a.pyc", "was left there by a tool"),
    ],
)
def test_a_file_that_does_not_belong(tmp_path, name, message):
    faults = wheel_faults(wheel_of(tmp_path, GOOD | {name: b""}))
    assert any(name in one and message in one for one in faults), faults


def test_files_and_git_are_compared(tmp_path):
    tracked = package(GOOD) - {"diffusers_rdaam/py.typed"} | {"diffusers_rdaam/errors.py"}
    assert wheel_faults(wheel_of(tmp_path, GOOD), tracked=tracked) == [
        "diffusers_rdaam/py.typed is not in git",
        "diffusers_rdaam/errors.py is missing",
    ]


def test_a_path_of_the_machine_is_found(tmp_path):
    files = GOOD | {"diffusers_rdaam/__init__.py": b"# written in /build/here/out"}
    assert wheel_faults(wheel_of(tmp_path, files), traces=["/build/here/"]) == [
        "diffusers_rdaam/__init__.py names /build/here/, a path of this machine"
    ]


def test_a_wheel_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LARGEST_WHEEL", 100)
    (fault,) = wheel_faults(wheel_of(tmp_path, GOOD))
    assert "at most 0 MB are wanted" in fault


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("demo/weights_flux/", "there is nothing of diffusers_rdaam/demo/weights_flux/"),
        ("demo/weights/", "there is nothing of diffusers_rdaam/demo/weights/"),
        ("demo_tokens/", "there is nothing of diffusers_rdaam/segmentation/demo_tokens/"),
        ("LICENSE", "there is no LICENSE"),
        ("METADATA", "there is no METADATA"),
    ],
)
def test_a_part_that_is_not_there(tmp_path, part, message):
    files = {name: content for name, content in GOOD.items() if part not in name}
    assert wheel_faults(wheel_of(tmp_path, files)) == [message]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("https://host.example/a.md", "docs/a.md", "its page links to docs/a.md"),
        ("Project-URL: Repository", "X-Other: Repository", "METADATA has no Project-URL"),
        ("License-File", "X-File", "METADATA has no License-File"),
    ],
)
def test_metadata_that_is_not_right(tmp_path, old, new, message):
    files = GOOD | {f"{FACTS}/METADATA": METADATA.replace(old, new).encode()}
    assert wheel_faults(wheel_of(tmp_path, files)) == [message]


def test_a_source_distribution(tmp_path):
    files = dict.fromkeys(SOURCES, b"") | {"tests/test_a.py": b"import diffusers_rdaam"}
    tracked = {*files} - {"PKG-INFO"}
    sdist = sdist_of(tmp_path, files)
    assert sdist_faults(sdist, tracked=tracked, traces=["/build/here/"]) == []
    assert contents(sdist) == files
    bad = files | {"out/table.md": b"", "notes.md": b"see /build/here/x"}
    del bad["LICENSE"]
    assert sdist_faults(sdist_of(tmp_path, bad), tracked=tracked, traces=["/build/here/"]) == [
        "there is no LICENSE",
        "notes.md is not in git",
        "out/table.md is not in git",
        "out/table.md was left there by a tool",
        "notes.md names /build/here/, a path of this machine",
    ]


def test_archives_are_compared_file_by_file():
    assert difference({"a": b"1", "b": b"2"}, {"a": b"1", "b": b"2"}) == []
    assert difference({"a": b"1", "b": b"2"}, {"a": b"3", "c": b"2"}) == [
        "a differs",
        "b differs",
        "c differs",
    ]
