"""``rdaam view``: saved attributions as one HTML page."""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass
from pathlib import Path

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.video import VideoAttribution
from diffusers_rdaam.cli.options import check_texts
from diffusers_rdaam.cli.report import Report
from diffusers_rdaam.errors import AttributionFileError, InputError
from diffusers_rdaam.viewer.saving import check_page_path, page_of

# Pages of more are slow to look at, and to make.
MOST_FILES = 100


@dataclass(frozen=True)
class ViewRequest:
    """The options of ``rdaam view``."""

    files: list[Path]
    out: Path | None
    opens: bool
    title: str | None
    kept: bool
    large: bool


def write_view(request: ViewRequest, report: Report) -> None:
    """Read all files, then write the page.

    Raises:
        AttributionFileError: one of the files is not a saved attribution.
        InputError: the page cannot be written, or would be too large.
    """
    if request.title is not None:
        check_texts([("--title", request.title)])
    if len(request.files) > MOST_FILES:
        raise InputError(
            f"A page shows at most {MOST_FILES} attributions; got {len(request.files)} files."
        )
    first = request.files[0]
    # A file without a name is refused when it is read.
    default = first.with_suffix(".html") if first.name else Path("attribution.html")
    out = default if request.out is None else request.out
    check_page_path(out)
    attributions = [_load(file) for file in request.files]
    page = page_of(
        attributions,
        out,
        title=request.title,
        embedded=False,
        kept=request.kept,
        large=request.large,
        image_format="png",
    )
    size = Path(page).stat().st_size
    report.say(f"{page}: {size / 1e6:.2f} MB, opens in any browser")
    report.add(page=str(page), bytes=size, attributions=[str(file) for file in request.files])
    if request.opens and not webbrowser.open(Path(page).resolve().as_uri()):
        report.warn("There is no browser that could be opened.", UserWarning)


def _load(file: Path) -> Attribution | VideoAttribution:
    """An image's attribution or a video's.

    Raises:
        AttributionFileError: it is neither.
    """
    try:
        return Attribution.load(file)
    except AttributionFileError as error:
        try:
            return VideoAttribution.load(file)
        except AttributionFileError:
            raise error from None
