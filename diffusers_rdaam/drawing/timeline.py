"""Pictures of several steps: a film strip, and an animation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from diffusers_rdaam.argument_checks import check_count
from diffusers_rdaam.drawing.overlay import colour_table, colourise, overlay
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.files.writing import replacing
from diffusers_rdaam.shapes import Column

MARGIN = 6
LINE = 18
FONT_SIZE = 12
MOST_COLUMNS = 5
_INK, _PAPER = (30, 30, 30), (255, 255, 255)


def coloured_frames(
    maps: Sequence[Column], image: Image.Image | Sequence[Image.Image] | None
) -> tuple[list[Image.Image], tuple[float, float]]:
    """Maps of one size in colours, over the image where there is one, and their common scale.

    Args:
        maps: at least one.
        image: that all of them lie over; or one for each.
    """
    low = min(float(values.min()) for values in maps)
    high = max(float(values.max()) for values in maps)
    height, width = maps[0].shape
    if image is None or isinstance(image, Image.Image):
        base = None if image is None else image.convert("RGB").resize((width, height))
        bases = [base] * len(maps)
    else:
        bases = [one.convert("RGB").resize((width, height)) for one in image]
    frames = []
    for values, base in zip(maps, bases, strict=True):
        stretched = (values - low) / max(high - low, 1e-12)
        frames.append(colourise(stretched) if base is None else overlay(base, stretched))
    return frames, (low, high)


def film_strip(
    images: Sequence[Image.Image],
    labels: Sequence[str],
    *,
    columns: int | None = None,
    title: str = "",
    scale: tuple[float, float] | None = None,
    colours: np.ndarray | None = None,
) -> Image.Image:
    """Images side by side, each with its label below; a title above, a colour scale at the end.

    Args:
        images: of one size.
        labels: one an image; what is too wide is cut.
        columns: images in a row; at most 5 unless given.
        title: any text.
        scale: the probabilities that the first and the last colour stand for.
        colours: of the scale, ``(256, 3)``; the package's if not given.

    Raises:
        InputError: there are no images, another number of labels, or no columns.
    """
    _check(images, labels)
    if columns is not None:
        columns = check_count(columns, "columns=")
    across = min(columns or MOST_COLUMNS, len(images))
    down = -(-len(images) // across)
    cell = (max(image.width for image in images), max(image.height for image in images))
    step = (cell[0] + MARGIN, cell[1] + LINE + MARGIN)
    top = LINE + MARGIN if title else MARGIN
    bottom = LINE + MARGIN if scale else 0
    strip = Image.new("RGB", (across * step[0] + MARGIN, top + down * step[1] + bottom), _PAPER)
    if title:
        write(strip, title, (MARGIN, MARGIN // 2), strip.width - 2 * MARGIN)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        left, upper = MARGIN + i % across * step[0], top + i // across * step[1]
        strip.paste(image.convert("RGB"), (left, upper))
        write(strip, label, (left, upper + cell[1]), cell[0])
    if scale:
        table = colour_table() if colours is None else colours
        _draw_scale(strip, scale, top + down * step[1], table)
    return strip


def save_gif(
    images: Sequence[Image.Image], labels: Sequence[str], path: Path, *, duration: float
) -> Path:
    """Write an animation that repeats for ever, whole or not at all; each frame with its label.

    Args:
        images: of one size.
        labels: one an image.
        path: of the file.
        duration: seconds that a frame is shown; a GIF counts hundredths.

    Raises:
        InputError: as :func:`film_strip`; the duration is out of range; the file cannot be written.
    """
    _check(images, labels)
    if not 0.02 <= duration <= 600.0:
        raise InputError(
            f"duration= is the seconds of a frame, 0.02 to 600; got {duration}. Viewers show "
            "shorter ones more slowly."
        )
    frames = _one_palette(
        [film_strip([image], [label]) for image, label in zip(images, labels, strict=True)]
    )
    milliseconds = round(duration * 100) * 10
    with replacing(path, "animation") as file:
        frames[0].save(
            file,
            format="GIF",
            save_all=True,
            append_images=frames[1:],
            duration=milliseconds,
            loop=0,
        )
    return path


def _one_palette(frames: list[Image.Image]) -> list[Image.Image]:
    """The frames in the same 256 colours, so that a colour means the same in all of them."""
    chosen = frames[:: -(-len(frames) // 16)]
    width, height = min(frames[0].width, 256), min(frames[0].height, 256)
    samples = Image.new("RGB", (width, height * len(chosen)))
    for i, frame in enumerate(chosen):
        samples.paste(frame.resize((width, height), Image.Resampling.NEAREST), (0, i * height))
    palette = samples.quantize(256)
    return [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]


def write(picture: Image.Image, text: str, place: tuple[int, int], width: int) -> None:
    """Write one line, cut with an ellipsis where it is wider than ``width``.

    The text may be anybody's: characters that cannot be printed become spaces.
    """
    font = _font()
    # No picture is wide enough for more, and measuring takes time by the length.
    line = "".join(c if c.isprintable() else " " for c in text[:1000])
    if isinstance(font, ImageFont.ImageFont):
        # Pillow without FreeType: its own small font has Latin letters only.
        line = line.encode("latin-1", "replace").decode("latin-1")
    shown = line
    while line and font.getlength(shown) > width:
        line = line[:-1]
        shown = line + "..."
    ImageDraw.Draw(picture).text(place, shown, fill=_INK, font=font)


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    try:
        return ImageFont.load_default(FONT_SIZE)
    except ImportError:
        return ImageFont.load_default()


def _check(images: Sequence[Image.Image], labels: Sequence[str]) -> None:
    if not images or len(images) != len(labels):
        raise InputError(
            f"Every image has a label, and there is at least one; got {len(images)} images and "
            f"{len(labels)} labels."
        )


def _draw_scale(
    strip: Image.Image, scale: tuple[float, float], top: int, colours: np.ndarray
) -> None:
    low, high = scale
    bar = Image.fromarray(np.ascontiguousarray(colours)[None]).resize((96, 8))
    strip.paste(bar, (MARGIN, top + 4))
    # The colours of an overlay begin with white, as the paper.
    frame = (MARGIN - 1, top + 3, MARGIN + 96, top + 12)
    ImageDraw.Draw(strip).rectangle(frame, outline=(150, 150, 150))
    text = f"{low:.3g} to {high:.3g}, one scale for all"
    write(strip, text, (2 * MARGIN + 96, top), strip.width - 3 * MARGIN - 96)
