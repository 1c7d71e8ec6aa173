"""HTML for notebooks. Every text is escaped: a prompt may come from anybody."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from diffusers_rdaam.drawing.overlay import OPACITY, scale_colours

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


def scale(low: str, high: str, label: str, colours: Sequence[str]) -> str:
    """A horizontal colour scale with its two ends and what it measures.

    Args:
        low, high: what the first and the last colour stand for.
        label: what the scale measures.
        colours: CSS colours from low to high, at equal distances.
    """
    bar = (
        "display:inline-block;width:120px;height:10px;margin:0 6px;border:1px solid #999;"
        f"background:linear-gradient(to right,{','.join(colours)})"
    )
    return (
        f'<div style="font-size:0.9em;margin:2px 4px">{escape(label)}: {escape(low)}'
        f'<span style="{bar}"></span>{escape(high)}</div>'
    )


def heat_scale(low: float, high: float, label: str, *, image: bool) -> str:
    """The scale of a heat map's colours.

    Args:
        low, high: the values of the first and the last colour.
        label: what the values are.
        image: whether the map lies over an image, which its low colours let through.
    """
    table = scale_colours(opacity=OPACITY if image else None)
    colours = [f"rgb({red},{green},{blue})" for red, green, blue in table[::51].tolist()]
    return scale(f"{low:.3g}", f"{high:.3g}", label, colours)


def ground_scale(low: float, high: float, label: str) -> str:
    """The scale of the grounds of :func:`coloured_text`."""
    return scale(f"{low:.3g}", f"{high:.3g}", label, [_ground(0.0), _ground(1.0)])


def colour_legend(entries: Sequence[tuple[tuple[int, int, int], str]], label: str) -> str:
    """A legend: a square of each colour (red, green, blue) and what the colour stands for."""
    squares = "".join(
        f'<span style="white-space:nowrap;margin-right:10px"><span style="display:inline-block;'
        f"width:10px;height:10px;margin-right:4px;border:1px solid #999;"
        f'background:rgb({red},{green},{blue})"></span>{escape(text)}</span> '
        for (red, green, blue), text in entries
    )
    return f'<div style="font-size:0.9em;margin:2px 4px">{escape(label)}<br>{squares}</div>'


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
        parts.append(
            f'<span style="background:{_ground(strength)};border-radius:3px;padding:0 2px" '
            f'title="{escape(hint)}">{escape(text[start:end])}</span>'
        )
        position = end
    parts.append(escape(text[position:]))
    return f'<p style="font-size:1.1em;line-height:1.8">{"".join(parts)}</p>'


def _ground(strength: float) -> str:
    return f"rgba(234,88,12,{max(0.0, min(strength, 1.0)):.2f})"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A plain table; every cell is escaped."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
