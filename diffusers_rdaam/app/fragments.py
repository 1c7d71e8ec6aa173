"""Pieces of the page as HTML. Every text is escaped: a prompt may come from anybody."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from PIL import Image

from diffusers_rdaam.app.events import Chart
from diffusers_rdaam.app.runs import Progress
from diffusers_rdaam.app.session import Entry
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.drawing.html import data_uri, table
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.viewer import viewer_page

_LIVE_WORDS = 6
_LIVE_SIDE = 128
_SHOWN_SIDE = 512
_LONGEST = 80


def asset(name: str) -> str:
    """The text of a file of the page."""
    return (files(__package__) / "assets" / name).read_text(encoding="utf-8")


def document(attributions: Sequence[Attribution], title: str) -> str:
    """The viewer's page as one JSON text, which the frame's script reads.

    As JSON and without ``<``, so that nothing between here and the frame takes it for markup.
    """
    try:
        page = viewer_page(list(attributions), title=title, embedded=True)
    except InputError:
        # The finer records make it too large; the maps are what is shown in any case.
        page = viewer_page(list(attributions), title=title, embedded=True, kept=False, large=True)
    return json.dumps(page).replace("<", "\\u003c")


def status(text: str, *, kind: str = "info", remarks: Iterable[str] = ()) -> str:
    """A line that says what goes on, and warnings below it.

    Args:
        text: of the line.
        kind: ``"info"``, ``"busy"`` or ``"error"``.
        remarks: warnings.
    """
    role = "alert" if kind == "error" else "status"
    more = "".join(f'<p class="rdaam-remark">{escape(remark)}</p>' for remark in remarks)
    return f'<div class="rdaam-status rdaam-{kind}" role="{role}"><p>{escape(text)}</p>{more}</div>'


def live(progress: Progress) -> str:
    """The image so far, and where its words are so far."""
    done = 100 * progress.step / max(progress.steps, 1)
    several = f"Image {progress.image} of {progress.images}, " if progress.images > 1 else ""
    label = f"{several}step {progress.step} of {progress.steps or '?'}"
    parts = [
        f'<div class="rdaam-bar" role="progressbar" aria-label="{escape(label)}" '
        f'aria-valuenow="{done:.0f}" aria-valuemin="0" aria-valuemax="100">'
        f'<span style="width:{done:.0f}%"></span></div><p>{escape(label)}</p>'
    ]
    attribution = progress.attribution
    if attribution is not None and attribution.image is not None:
        pictures = [("so far", attribution.image)]
        for heat_map in attribution:
            if len(pictures) > _LIVE_WORDS:
                break
            pictures.append((heat_map.text, heat_map.overlay()))
        parts.append(gallery(pictures, side=_LIVE_SIDE))
    return f'<div class="rdaam-live">{"".join(parts)}</div>'


def gallery(pictures: Iterable[tuple[str, Image.Image]], *, side: int = 256) -> str:
    """Pictures in rows, each with its name below it."""
    shown = "".join(
        f'<figure><img alt="{escape(name)}" src="{data_uri(image, limit=side)}">'
        f"<figcaption>{escape(_cut(name))}</figcaption></figure>"
        for name, image in pictures
    )
    return f'<div class="rdaam-gallery">{shown}</div>'


def maps(found: Sequence[tuple[str, Image.Image, float]], empty: str) -> str:
    """Words with their maps and highest values."""
    if not found:
        return note(empty)
    return gallery((f"{word} (peak {peak:.3g})", image) for word, image, peak in found)


def replacement(
    images: Sequence[tuple[str, Image.Image | None]],
    found: Sequence[tuple[str, Image.Image, float]],
) -> str:
    """Two images in a row, and below them the maps of a replaced word and of the other."""
    rows = gallery((name, image) for name, image in images if image is not None)
    return f'<div class="rdaam-pair">{rows}{maps(found, "")}</div>'


def chart(found: Chart) -> str:
    """A bar for each word, best first, with its numbers."""
    names = list(found.bars[0].numbers) if found.bars else []
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("word", *names, ""))
    rows = "".join(
        f'<tr><th scope="row">{escape(_cut(bar.word))}</th>'
        + "".join(f"<td>{escape(number)}</td>" for number in bar.numbers.values())
        + f'<td class="rdaam-length"><span style="width:{100 * bar.length:.1f}%"></span></td></tr>'
        for bar in found.bars
    )
    remarks = "".join(f'<p class="rdaam-remark">{escape(line)}</p>' for line in found.remarks)
    notes = "".join(f'<p class="rdaam-note">{escape(line)}</p>' for line in found.notes)
    return (
        f'<div class="rdaam-chart">{remarks}<p>{escape(found.title)}</p><table><thead><tr>{head}'
        f"</tr></thead><tbody>{rows}</tbody></table>{notes}</div>"
    )


def comparison(header: list[str], rows: list[list[str]], title: str) -> str:
    """A table of two attributions, word by word."""
    return f'<div class="rdaam-chart"><p>{escape(title)}</p>{table(header, rows)}</div>'


def note(text: str) -> str:
    """A quiet line."""
    return f'<p class="rdaam-note">{escape(text)}</p>'


def history(entries: Sequence[Entry], current: int | None) -> str:
    """The session's images as buttons, the newest first."""
    if not entries:
        return note("Images of this session appear here.")
    parts = []
    for entry in entries:
        image = "" if entry.thumbnail is None else f'<img alt="" src="{data_uri(entry.thumbnail)}">'
        pressed = "true" if entry.number == current else "false"
        seed = "" if entry.seed is None else f", seed {entry.seed}"
        parts.append(
            f'<button type="button" data-number="{entry.number}" aria-pressed="{pressed}" '
            f'title="{escape(entry.title)}">{image}<span>{entry.number}: '
            f"{escape(_cut(entry.title))}{seed}</span></button>"
        )
    return f'<div class="rdaam-history">{"".join(parts)}</div>'


def canvas(image: Image.Image | None) -> dict[str, Any]:
    """The properties of a painter for an image: the picture, its sides, and nothing painted.

    The picture stands in the label, which is not shown. Of properties of our own gradio empties all
    in each part that an event leaves as it is, and a canvas that is opened later has no picture.
    """
    shown = {"picture": "", "width": 0, "height": 0}
    if image is not None:
        picture = data_uri(image, limit=_SHOWN_SIDE)
        shown = {"picture": picture, "width": image.width, "height": image.height}
    return {"label": json.dumps(shown), "value": ""}


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
