"""The package's page on an index: the README with absolute links, and where the project lives.

hatchling runs this file when it builds (``tool.hatch.metadata.hooks.custom`` in pyproject.toml), so
that it imports nothing of this repository. An index shows the README from another place than the
repository does: there, a relative link leads nowhere, and a relative picture is a broken one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

# Blocks and spans of code keep what looks like a link.
_CODE = re.compile(r"(^(?P<fence>```+|~~~+).*?^(?P=fence)\s*?$|`+[^`\n]+`+)", re.M | re.S)
# [text](target "title"), ![text](target) and the outer one of a picture that is a link.
_INLINE = re.compile(r"(?P<before>\]\()(?P<target>[^()\s]+)(?P<after>(?:\s+\"[^\"]*\")?\))")
_DEFINED = re.compile(r"(?P<before>^\[[^\]]+\]:\s+)(?P<target>\S+)(?P<after>)", re.M)
_ATTRIBUTE = re.compile(r"(?P<before>\b(?:src|href|srcset)=\")(?P<target>[^\"]+)(?P<after>\")")
_LINKS = (_INLINE, _DEFINED, _ATTRIBUTE)
_PICTURE = re.compile(r"\.(?:png|jpe?g|gif|svg|webp)$", re.I)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//|#", re.I)


class CustomMetadataHook(MetadataHookInterface):
    """Fill in the readme and the URLs; hatchling finds the class by its base."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set what pyproject.toml names as dynamic."""
        repository, version = self.config["repository"], metadata["version"]
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute_links(text, repository, f"v{version}"),
        }
        metadata["urls"] = urls(repository)


def urls(repository: str) -> dict[str, str]:
    """The project's addresses by the labels that an index shows."""
    return {
        "Repository": repository,
        "Documentation": f"{repository}/tree/main/docs",
        "Changelog": f"{repository}/blob/main/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }


def absolute_links(markdown: str, repository: str, tag: str) -> str:
    """The text with every relative link and picture made absolute.

    Args:
        markdown: the README.
        repository: the address of the repository.
        tag: of the release; links lead to the files as they were then.
    """
    parts = _CODE.split(markdown)
    # Between the matches: each match brings itself and its fence.
    plain, code = parts[::3], parts[1::3]
    turned = [_turned(part, repository, tag) for part in plain]
    return "".join(text + kept for text, kept in zip(turned, [*code, ""], strict=True))


def _turned(text: str, repository: str, tag: str) -> str:
    def replace(found: re.Match[str]) -> str:
        target = found["target"]
        if _ELSEWHERE.match(target):
            return found[0]
        path = target.removeprefix("./")
        kind = "raw" if _PICTURE.search(path.partition("#")[0]) else "blob"
        return f"{found['before']}{repository}/{kind}/{tag}/{path}{found['after']}"

    for pattern in _LINKS:
        text = pattern.sub(replace, text)
    return text


def relative_links(markdown: str) -> list[str]:
    """The targets in a text that lead nowhere outside the repository."""
    plain = "".join(_CODE.split(markdown)[::3])
    return [
        found["target"]
        for pattern in _LINKS
        for found in pattern.finditer(plain)
        if not _ELSEWHERE.match(found["target"])
    ]
