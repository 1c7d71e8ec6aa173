"""What is in a wheel and in a source distribution, and what must not be."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Collection, Iterator, Mapping
from email import message_from_string
from pathlib import Path, PurePosixPath

from release.index_page import relative_links

PACKAGE = "diffusers_rdaam"
# The goal, in bytes.
LARGEST_WHEEL = 16_000_000
WEIGHTS = (
    f"{PACKAGE}/demo/weights/",
    f"{PACKAGE}/demo/weights_flux/",
    f"{PACKAGE}/segmentation/demo_tokens/",
)
# Of the package: code, types, the viewer's page and the other assets, and the model card.
SUFFIXES = (".py", ".pyi", ".typed", ".js", ".css", ".html", ".md")
WEIGHT_SUFFIXES = (".safetensors", ".json", ".txt")
# Names of folders and files that no distribution has.
_STRAY = ("__pycache__", ".ipynb_checkpoints", ".venv", "out", "dist", "build", ".git")
_STRAY_SUFFIXES = (".pyc", ".pyo", ".orig", ".rej", ".swp", ".log", "~")


def contents(archive: Path) -> dict[str, bytes]:
    """The files of a wheel or a source distribution by name, without the folder around them."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            return {name: opened.read(name) for name in opened.namelist() if name[-1] != "/"}
    with tarfile.open(archive) as opened_tar:
        members = {one.name.partition("/")[2]: one for one in opened_tar if one.isfile()}
        return {name: opened_tar.extractfile(one).read() for name, one in members.items()}  # type: ignore[union-attr]


def wheel_faults(
    wheel: Path, *, tracked: Collection[str] | None = None, traces: Collection[str] = ()
) -> list[str]:
    """What is wrong with a wheel.

    Args:
        wheel: the file.
        tracked: the files of the package that git knows; a wheel has these and no others. None
            where there is no repository.
        traces: paths of the building machine, which no file may name.
    """
    files = contents(wheel)
    size = wheel.stat().st_size
    faults = []
    if size > LARGEST_WHEEL:
        faults.append(f"{size / 1e6:.1f} MB; at most {LARGEST_WHEEL / 1e6:.0f} MB are wanted")
    inside = {name for name in files if name.startswith(f"{PACKAGE}/")}
    facts = {name for name in files if name.partition("/")[0].endswith(".dist-info")}
    faults += [
        f"{name} is not part of the package" for name in sorted(files.keys() - inside - facts)
    ]
    faults += [
        f"{name} is of a kind that the package has not" for name in sorted(inside) if _is_odd(name)
    ]
    faults += [f"there is nothing of {weights}" for weights in WEIGHTS if not _has(inside, weights)]
    if not any(PurePosixPath(name).name == "LICENSE" for name in facts):
        faults.append("there is no LICENSE")
    if tracked is not None:
        faults += [f"{name} is not in git" for name in sorted(inside - set(tracked))]
        faults += [f"{name} is missing" for name in sorted(set(tracked) - inside)]
    return [*faults, *_stray(files), *_metadata_faults(files), *trace_faults(files, traces)]


def sdist_faults(
    sdist: Path, *, tracked: Collection[str] | None = None, traces: Collection[str] = ()
) -> list[str]:
    """What is wrong with a source distribution; arguments as of :func:`wheel_faults`."""
    files = contents(sdist)
    wanted = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "PKG-INFO")
    faults = [f"there is no {name}" for name in wanted if name not in files]
    if tracked is not None:
        extra = files.keys() - set(tracked) - {"PKG-INFO"}
        faults += [f"{name} is not in git" for name in sorted(extra)]
    return [*faults, *_stray(files), *trace_faults(files, traces)]


def difference(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> list[str]:
    """In which files two archives differ."""
    names = sorted(one.keys() | other.keys())
    return [f"{name} differs" for name in names if one.get(name) != other.get(name)]


def trace_faults(files: Mapping[str, bytes], traces: Collection[str]) -> list[str]:
    """Which files name a path of the building machine."""
    return [
        f"{name} names {trace}, a path of this machine"
        for name, content in sorted(files.items())
        for trace in traces
        if trace.encode() in content
    ]


def _has(names: Collection[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def _is_odd(name: str) -> bool:
    path = PurePosixPath(name)
    if {"tests", "test"} & set(path.parts) or path.name.startswith(("test_", ".")):
        return True
    kinds = WEIGHT_SUFFIXES if name.startswith(WEIGHTS) else SUFFIXES
    return path.suffix not in kinds and path.name != "py.typed"


def _stray(files: Collection[str]) -> Iterator[str]:
    for name in sorted(files):
        path = PurePosixPath(name)
        if set(_STRAY) & set(path.parts[:-1]) or path.name.endswith(_STRAY_SUFFIXES):
            yield f"{name} was left there by a tool"


def _metadata_faults(files: Mapping[str, bytes]) -> list[str]:
    name = next((one for one in files if one.endswith(".dist-info/METADATA")), None)
    if name is None:
        return ["there is no METADATA"]
    facts = message_from_string(files[name].decode("utf-8"))
    page = facts.get_payload()
    faults = [f"its page links to {link}" for link in relative_links(str(page))]
    faults += [
        f"METADATA has no {key}" for key in ("Project-URL", "License-File") if key not in facts
    ]
    return faults
