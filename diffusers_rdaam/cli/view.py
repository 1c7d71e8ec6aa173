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
    annotate: list[str]


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
    if request.annotate:
        _write_annotation_page(request, report)
        return
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
    _open(Path(page), request, report)


def _write_annotation_page(request: ViewRequest, report: Report) -> None:
    """A page to draw boxes and points in, over the image of the only file.

    Raises:
        InputError: there are several files, the file has no image, or the classes are none.
    """
    from diffusers_rdaam.cli.segment import classes_of
    from diffusers_rdaam.segmentation.annotation_page import annotation_page

    if len(request.files) != 1:
        raise InputError(f"--annotate is of one image; got {len(request.files)} files.")
    file = request.files[0]
    classes = classes_of(request.annotate)
    out = file.with_name(f"{file.stem}-annotate.html") if request.out is None else request.out
    check_page_path(out)
    attribution = _load(file)
    if not isinstance(attribution, Attribution) or attribution.image is None:
        raise InputError(
            f"{file} has no single image to annotate. Give the attribution of an image that was "
            "saved with it."
        )
    annotation_page(attribution.image, classes, out)
    report.say(f"{out}: draw boxes and points, then save annotations.json; it opens in any browser")
    report.add(page=str(out), bytes=out.stat().st_size, attributions=[str(file)])
    _open(out, request, report)


def _open(page: Path, request: ViewRequest, report: Report) -> None:
    if request.opens and not webbrowser.open(page.resolve().as_uri()):
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
