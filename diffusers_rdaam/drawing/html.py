"""HTML for notebooks. Every text is escaped: a prompt may come from anybody."""

from __future__ import annotations

import base64
import io
from html import escape

from PIL import Image

MAX_SHOWN = 320


def data_uri(image: Image.Image, *, limit: int = MAX_SHOWN) -> str:
    """The image as a ``data:`` URI (PNG), made smaller where a side is over ``limit`` pixels."""
    shown = image.convert("RGB")
    if max(shown.size) > limit:
        shown = shown.copy()
        shown.thumbnail((limit, limit))
    buffer = io.BytesIO()
    shown.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def picture(image: Image.Image, caption: str, *, limit: int = MAX_SHOWN) -> str:
    """An image with a caption below it, made smaller where a side is over ``limit`` pixels."""
    return (
        '<figure style="display:inline-block;margin:4px;text-align:center">'
        f'<img alt="{escape(caption)}" src="{data_uri(image, limit=limit)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def coloured_text(
    text: str, spans: list[tuple[int, int, float, str]], *, empty: str = "(no text)"
) -> str:
    """The prompt with its words on coloured grounds.

    Args:
        text: the whole prompt.
        spans: ``(start, end, strength, hint)`` of each word in order, strength from 0 to 1; the
            hint shows under the pointer.
    """
    if not text:
        return f"<p><em>{escape(empty)}</em></p>"
    parts: list[str] = []
    position = 0
    for start, end, strength, hint in spans:
        parts.append(escape(text[position:start]))
        ground = f"rgba(234,88,12,{max(0.0, min(strength, 1.0)):.2f})"
        parts.append(
            f'<span style="background:{ground};border-radius:3px;padding:0 2px" '
            f'title="{escape(hint)}">{escape(text[start:end])}</span>'
        )
        position = end
    parts.append(escape(text[position:]))
    return f'<p style="font-size:1.1em;line-height:1.8">{"".join(parts)}</p>'


def table(header: list[str], rows: list[list[str]]) -> str:
    """A plain table; every cell is escaped."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
