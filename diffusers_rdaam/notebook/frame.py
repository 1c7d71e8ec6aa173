"""A viewer's page in a frame of a cell, with a still picture where no script runs."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from html import escape
from importlib.resources import files

from diffusers_rdaam.viewer.page import Viewable, contents_of, document, largest_size

# Bytes that one cell adds to a notebook's file by showing an attribution as its last line.
LARGEST_CELL = 2_500_000
# Pixels of the screen, before the page has said how high it is; and at most, as a last line.
HEIGHT, MOST_HEIGHT = 640, 800


def asset(name: str) -> str:
    """The text of one file of ``assets/``."""
    return (files("diffusers_rdaam.notebook") / "assets" / name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _handler() -> str:
    lines = (line.strip() for line in asset("frame.js").splitlines())
    script = "\n".join(line for line in lines if line and not line.startswith("//"))
    return escape(f"({script})(this)")


def framed(page: str, still: str, *, title: str, most_height: int | None = None) -> str:
    """HTML for a cell: the still picture, which a script replaces with the page in a frame.

    A notebook that is not trusted, or is shown by a site that runs no scripts, has the picture. The
    frame is sandboxed: nothing in it reaches the notebook around, except by messages.

    Args:
        page: a whole document, embedded.
        still: HTML without scripts.
        title: of the frame, for screen readers.
        most_height: pixels; over it the page scrolls in its frame; no limit if not given.
    """
    bound = "" if most_height is None else f";max-height:{most_height}px"
    cell = (
        f'<div><div>{still}</div><iframe title="{escape(title)}" '
        'sandbox="allow-scripts allow-downloads" allow="clipboard-write" '
        f'style="display:none;width:100%;height:{HEIGHT}px;border:0{bound}" '
        f'onload="{_handler()}" srcdoc="{escape(page)}"></iframe></div>'
    )
    # Half of a surrogate pair, which no notebook's file can hold, becomes a mark.
    return cell.encode("utf-8", "replace").decode("utf-8")


def last_line(attributions: Viewable | Iterable[Viewable], still: str) -> str:
    """What attributions show as the last line of a cell, in at most ``LARGEST_CELL`` bytes.

    The viewer; without the maps of single steps and layers, and with a JPEG of the image, where it
    would be larger; the still picture and a hint where even that is.
    """
    for kept in (True, False):
        contents = contents_of(attributions, kept=kept)
        # Known before the maps are read, and at most so much smaller by compression.
        if largest_size(contents) > 4 * LARGEST_CELL:
            continue
        for image_format in ("png", "jpeg"):
            page = document(contents, embedded=True, image_format=image_format)
            title = frame_title(contents[0].title, len(contents))
            cell = framed(page, still, title=title, most_height=MOST_HEIGHT)
            if len(cell) <= LARGEST_CELL:
                return cell
    return (
        f"<div>{still}<p>The viewer of this attribution has more than {LARGEST_CELL / 1e6:.1f} MB, "
        "which a notebook would keep: <code>explore()</code> shows it all the same, "
        '<code>to_html("page.html")</code> writes it to a file.</p></div>'
    )


def frame_title(title: str, count: int = 1) -> str:
    """The name of a frame, from the title of the first that it shows and the number of all."""
    more = "" if count == 1 else f" and {count - 1} more"
    return f"Viewer: {' '.join(title.split())[:120]}{more}"
