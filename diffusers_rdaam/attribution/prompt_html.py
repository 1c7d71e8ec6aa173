"""The text of a prompt as HTML, its words on coloured grounds."""

from __future__ import annotations

from collections.abc import Iterable

from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.drawing.html import coloured_text


def coloured_prompt(prompt: Prompt, places: Iterable[tuple[int, int, int, float, str]]) -> str:
    """The prompt's text as HTML, or its several texts, some of its words on coloured grounds.

    Args:
        prompt: the prompt.
        places: ``(encoder, start, end, strength, hint)`` in any order: the number of the text from
            1, a character span in it, a strength from 0 to 1, and what shows under the pointer. Of
            overlapping spans, such as phrases, the first is coloured.
    """
    by_text: dict[int, list[tuple[int, int, float, str]]] = {}
    for encoder, start, end, strength, hint in sorted(places):
        spans = by_text.setdefault(encoder, [])
        if not spans or start >= spans[-1][1]:
            spans.append((start, end, strength, hint))
    return "".join(
        coloured_text(text.text or "", by_text.get(number, []))
        for number, text in enumerate(prompt.texts, 1)
    )
