"""A viewer's page as a string or a file; its size is said before a large one is made."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from pathlib import Path

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.files.writing import write_text
from diffusers_rdaam.viewer.contents import Viewable
from diffusers_rdaam.viewer.page import check_size, contents_of, document, largest_size

_logger = logging.getLogger(__name__)
_ENDINGS = (".html", ".htm")


def page_of(
    attributions: Viewable | Iterable[Viewable],
    path: str | Path | None,
    *,
    title: str | None,
    embedded: bool,
    kept: bool,
    large: bool,
    image_format: str,
) -> str | Path:
    """The page, or the path that it was written to, whole or not at all.

    Where finer records are in it, a line on standard error says how large it becomes, before any
    map is read.

    Raises:
        InputError: as :func:`viewer_page`; or the path does not end in ``.html``, or cannot be
            written.
    """
    target = None if path is None else Path(path)
    if target is not None:
        check_page_path(target)
    contents = contents_of(attributions, kept=kept)
    check_size(contents, large=large)
    if any(one.has_finer_records for one in contents):
        text = (
            f"viewer: up to {largest_size(contents) / 1e6:.1f} MB of maps with single steps, "
            "layers, refined maps or self-attention; kept=False leaves these out"
        )
        _logger.info(text)
        print(text, file=sys.stderr)
    page = document(contents, title=title, embedded=embedded, image_format=image_format)
    if target is None:
        return page
    write_text(target, page, "page")
    return target


def check_page_path(path: Path) -> None:
    """Refuse a name that does not end as pages do.

    Raises:
        InputError: it ends otherwise, or there is no name.
    """
    if not path.name:
        raise InputError(f"The viewer's page needs the name of a file; got {str(path)!r}.")
    if path.suffix.lower() not in _ENDINGS:
        raise InputError(
            f"The viewer's page is HTML, and {path.name[-80:]!r} does not end in .html. Name it "
            f"{path.with_suffix('.html').name[-80:]!r}."
        )
