"""``make release``: date the changelog, and write the version and the project's address.

It writes files and nothing else: what is published, and when, is a person's decision.
"""

from __future__ import annotations

import argparse
import datetime
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from release.environments import ROOT

# Until a release says where the project lives.
PLACEHOLDER = "https://github.com/OWNER/diffusers_rdaam"
VERSION_FILE, CHANGELOG, CITATION = "diffusers_rdaam/__init__.py", "CHANGELOG.md", "CITATION.cff"
# The files that name the address; pyproject.toml is where the others have it from.
ADDRESS_FILES = ("pyproject.toml", CITATION, ".github/ISSUE_TEMPLATE/config.yml")
_VERSION = re.compile(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?")
_HEADING = re.compile(r"^## (\S+) \(([^)]+)\)$", re.M)


class ReleaseError(Exception):
    """Something of a release is wrong; nothing has been written then."""


@dataclass(frozen=True)
class Release:
    """What is released.

    Args:
        version: as ``0.1.0``, or ``0.1.0rc1``.
        day: of the release, ``YYYY-MM-DD``.
        repository: the address of the project.
    """

    version: str
    day: str
    repository: str


def main(arguments: list[str]) -> int:
    """Exit status: 2 where something that was given is wrong."""
    parser = argparse.ArgumentParser(prog="python -m release prepare", description=__doc__)
    parser.add_argument("version", help="such as 0.1.0")
    parser.add_argument(
        "--repository", default="", help="the project's address, where it is still a placeholder"
    )
    parser.add_argument("--day", default="", help="of the release, YYYY-MM-DD (today)")
    given = parser.parse_args(arguments)
    day = given.day or datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    try:
        changed = prepare(ROOT, given.version, day, given.repository)
    except ReleaseError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    print("Written:", *changed, sep="\n  ")
    print(NEXT.format(version=given.version))
    return 0


NEXT = """
Next, by hand:
  make check test release-check
  git commit --all --message "Release {version}"
  git tag v{version}
  git push --follow-tags
  out/release/tools/bin/twine upload out/release/dist/*"""


def prepare(root: Path, version: str, day: str, repository: str = "") -> list[str]:
    """Write a release's version, day and address into the files that have them.

    Args:
        root: the repository.
        version: of the release.
        day: ``YYYY-MM-DD``.
        repository: the address; may be empty where pyproject.toml already has one.

    Returns:
        The files that have changed.

    Raises:
        ReleaseError: an argument is wrong, the changelog has no section for it, or the address is
            still the placeholder. Nothing has been written then.
    """
    release = _checked(root, version, day, repository)
    texts = {name: (root / name).read_text("utf-8") for name in {*ADDRESS_FILES, VERSION_FILE}}
    texts[CHANGELOG] = _dated((root / CHANGELOG).read_text("utf-8"), release)
    old = address_of(texts["pyproject.toml"])
    for name in ADDRESS_FILES:
        texts[name] = texts[name].replace(old, release.repository)
    texts[VERSION_FILE] = _replaced(
        VERSION_FILE, texts[VERSION_FILE], r'^__version__ = ".*"$', f'__version__ = "{version}"'
    )
    cited = re.sub(r"^date-released:.*\n", "", texts[CITATION], flags=re.M)
    lines = f"version: {version}\ndate-released: {day}"
    texts[CITATION] = _replaced(CITATION, cited, r"^version: .*$", lines)
    changed = sorted(name for name in texts if (root / name).read_text("utf-8") != texts[name])
    for name in changed:
        (root / name).write_text(texts[name], encoding="utf-8")
    return changed


def address_of(pyproject: str) -> str:
    """The project's address, which the text of pyproject.toml has in one place."""
    found = re.search(r'^repository = "([^"]+)"$', pyproject, re.M)
    if found is None:
        raise ReleaseError('pyproject.toml has no line repository = "…".')
    return found[1]


def _checked(root: Path, version: str, day: str, repository: str) -> Release:
    if not _VERSION.fullmatch(version):
        raise ReleaseError(f"{version!r} is not a version. Give one such as 0.1.0 or 0.1.0rc1.")
    try:
        datetime.date.fromisoformat(day)
    except ValueError:
        raise ReleaseError(f"{day!r} is not a day. Give it as 2026-01-31.") from None
    address = repository.rstrip("/") or address_of((root / "pyproject.toml").read_text("utf-8"))
    if address == PLACEHOLDER:
        raise ReleaseError(
            f"the project's address is still {PLACEHOLDER}. Give it: "
            "make release VERSION=… REPOSITORY=https://…"
        )
    if not re.fullmatch(r"https://[\w.-]+(?:/[\w.~-]+)+", address):
        raise ReleaseError(f"{repository!r} is not an address such as https://host/name/project.")
    return Release(version, day, address)


def _dated(changelog: str, release: Release) -> str:
    sections = _HEADING.findall(changelog)
    if not sections or sections[0] != (release.version, "unreleased"):
        first = " ".join(sections[0]) if sections else "nothing"
        raise ReleaseError(
            f"the newest section of {CHANGELOG} is {first!r}. It has to be "
            f"'## {release.version} (unreleased)'."
        )
    earlier = {version for version, _ in sections[1:]}
    if release.version in earlier:
        raise ReleaseError(f"{release.version} was released before, {CHANGELOG} says.")
    old, new = (f"## {release.version} ({when})" for when in ("unreleased", release.day))
    return changelog.replace(old, new, 1)


def _replaced(name: str, text: str, pattern: str, line: str) -> str:
    changed, count = re.subn(pattern, lambda _: line, text, flags=re.M)
    if count != 1:
        raise ReleaseError(f"{name} has {count} lines of the form {pattern}; one is wanted.")
    return changed
