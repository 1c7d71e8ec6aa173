"""Prompts of which parts are drawn as pictures that the text encoder reads, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers_rdaam.tokens.sources.call_arguments import argument


def bria_fibo2_drawn_texts(pipe: Any, arguments: Mapping[str, Any]) -> str:
    """Bria Fibo 2 draws what a caption wants written, and leaves it out of the first steps."""
    drawn = argument(pipe, arguments, "text_images")
    if drawn is None and argument(pipe, arguments, "render_text_images"):
        prompt = arguments.get("prompt")
        prompts = [prompt] if isinstance(prompt, str) else prompt or ()
        captions = [pipe._parse_prompt(one)[0] for one in prompts]
        drawn = [one["text_render"] for one in captions if _is_drawn(one)]
    if not drawn:
        return ""
    return (
        "The text_render of the prompt is drawn as pictures among the tokens of the prompt, which "
        "the first steps do not have, so a column stands for one token in some steps and for "
        "another in others. Set render_text_images=False and leave text_images out."
    )


def _is_drawn(caption: Any) -> bool:
    return isinstance(caption, dict) and bool(caption.get("text_render"))
