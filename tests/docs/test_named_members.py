"""What the prose of pages calls on an answer is there; examples run, and show it by themselves."""

from __future__ import annotations

import dataclasses
import re

import pytest
from page_blocks import pages

import diffusers_rdaam
from diffusers_rdaam.compat.daam import GlobalHeatMap

PAGES = pages()
# The classes of what a page calls by this name.
CLASSES: dict[str, tuple[type, ...]] = {
    "attribution": (diffusers_rdaam.Attribution,),
    "self_attention": (diffusers_rdaam.SelfAttention,),
    "heat_map": (diffusers_rdaam.HeatMap, GlobalHeatMap),
    "timeline": (diffusers_rdaam.Timeline,),
    "video": (diffusers_rdaam.VideoAttribution,),
}
_FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
_MEMBER = re.compile(rf"(?<![\w.])(?:\w+\.)?({'|'.join(CLASSES)})\.([a-z]\w*)")


def unknown_members(text: str) -> list[str]:
    """What the inline code of a page names that its class does not have.

    The first cell of a table's row is skipped: it may be another package's, or an earlier name.
    """
    prose = re.sub(r"^\| [^|]*\|", "|", _FENCE.sub("", text), flags=re.M)
    code = re.findall(r"`([^`\n]+)`", prose)
    found = [match.groups() for part in code for match in _MEMBER.finditer(part)]
    return [f"{name}.{member}" for name, member in found if not has(name, member)]


def has(name: str, member: str) -> bool:
    """Whether what is called so has a member, fields included."""
    fields = {
        field.name
        for cls in CLASSES[name]
        for field in (dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ())
    }
    return member in fields or any(hasattr(cls, member) for cls in CLASSES[name])


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_calls_is_there(name: str) -> None:
    assert not unknown_members(PAGES[name].read_text(encoding="utf-8"))


def test_what_is_not_there_is_seen() -> None:
    row = "| `attribution.old(…)` | `attribution.word(…)`, `self_attention.gone((x, y))` |\n"
    assert unknown_members(row) == ["self_attention.gone"]
