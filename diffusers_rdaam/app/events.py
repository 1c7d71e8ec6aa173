"""What the page's events do, as functions of an attribution: plain data out, no gradio."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.comparison import compare
from diffusers_rdaam.attribution.heat_map import HeatMap
from diffusers_rdaam.attribution.prompt import Prompt, Word
from diffusers_rdaam.attribution.ranked_words import RankedSequence, grouped
from diffusers_rdaam.drawing.overlay import colourise
from diffusers_rdaam.errors import AttributionFileError, InputError, RegionError, WordError
from diffusers_rdaam.files.opening import inner_path, opened
from diffusers_rdaam.files.pictures import read_picture
from diffusers_rdaam.geometry.region import Box, Mask, Polygon, Region

# What a browser may send of a region.
MOST_STROKES = 500
MOST_POINTS = 20_000
_MOST_SELECTION = 2_000_000  # characters
# A picture of a visitor.
MOST_UPLOAD = 64 * 2**20  # bytes
MOST_UPLOAD_PIXELS = 2**24
PICTURES = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
# Files of a folder that are listed.
MOST_LISTED = 1000
MOST_MAPS = 40


@dataclass(frozen=True)
class Bar:
    """One word of a bar chart.

    Args:
        word: its text.
        length: of the bar, 0 to 1.
        numbers: its numbers by name, ready to be shown.
    """

    word: str
    length: float
    numbers: dict[str, str]


@dataclass(frozen=True)
class Chart:
    """The words of a region, best first.

    Args:
        title: what the numbers are.
        bars: one for each word.
        remarks: to read before the bars.
        notes: to read after them.
    """

    title: str
    bars: tuple[Bar, ...]
    remarks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_selection(text: Any) -> Mapping[str, Any]:
    """What a browser says of a region, or nothing.

    Raises:
        RegionError: it is not JSON, or too much of it.
    """
    if not text:
        return {}
    if not isinstance(text, str) or len(text) > _MOST_SELECTION:
        raise RegionError("What came from the page is not a region. Draw it again.")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RegionError("What came from the page is not JSON. Draw it again.") from error
    return found if isinstance(found, dict) else {}


def selected_region(selection: Mapping[str, Any], size: tuple[int, int]) -> Region | None:
    """The region of a selection: a box, a polygon or painted strokes; None where there is none.

    Args:
        selection: ``{"box": [l, t, r, b]}``, ``{"polygon": [[x, y], …]}`` or ``{"strokes":
            [{"radius": r, "points": [[x, y], …]}, …]}`` in pixels of the image.
        size: height and width of the image.

    Raises:
        RegionError: it is not a region of the image.
    """
    if (box := selection.get("box")) is not None:
        edges = _numbers(box, "box")
        if len(edges) != 4:
            raise RegionError(f"A box has four edges; got {len(edges)}. Draw it again.")
        return Box(*edges)
    if (polygon := selection.get("polygon")) is not None:
        return Polygon(tuple(_points(polygon)))
    if strokes := selection.get("strokes"):
        return Mask(torch.from_numpy(_array(painted(strokes, size))).float())
    return None


def painted(strokes: Any, size: tuple[int, int]) -> Image.Image:
    """The mask that a brush has painted, white on black.

    Args:
        strokes: each with a ``radius`` and its ``points``, in pixels; a stroke with ``erase`` takes
            away.
        size: height and width.

    Raises:
        RegionError: they are not strokes, or too many.
    """
    if not isinstance(strokes, list) or len(strokes) > MOST_STROKES:
        raise RegionError(f"A painted region has up to {MOST_STROKES} strokes. Paint it again.")
    height, width = size
    mask = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(mask)
    left = MOST_POINTS
    for stroke in strokes:
        if not isinstance(stroke, Mapping):
            raise RegionError("What came from the page is not a stroke. Paint it again.")
        (radius,) = _numbers([stroke.get("radius")], "radius of a stroke")
        if not 0.0 < radius <= max(size):
            raise RegionError(
                f"A brush of radius {radius:g} does not fit the image. Take a smaller one."
            )
        points = _points(stroke.get("points"), left)
        left -= len(points)
        fill = 0 if stroke.get("erase") else 255
        if len(points) > 1:
            draw.line(points, fill=fill, width=max(round(2 * radius), 1), joint="curve")
        for x, y in points:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    return mask


def region_name(region: Region | None) -> str:
    """A region in a few words."""
    if region is None:
        return "the whole image"
    if isinstance(region, Box):
        return "box " + ", ".join(f"{edge:.0f}" for edge in region.as_tuple())
    return "polygon" if isinstance(region, Polygon) else "painted region"


def region_chart(attribution: Attribution, region: Region, ranking: str = "lift") -> Chart:
    """The words of a region as bars.

    Raises:
        RegionError: the region is not one of the image.
        InputError: the ranking is none of lift, score and share.
    """
    return chart(attribution.region(region, ranking=ranking))  # type: ignore[arg-type]  # checked there


def chart(words: RankedSequence[Any]) -> Chart:
    """Ranked words as bars: those of a region, of gradients or of ablations."""
    bars = tuple(
        Bar(
            word.text,
            strength,
            {name: format(getattr(word, name), how) for name, how in words.COLUMNS.items()},
        )
        for word, strength in zip(words.words, words._strengths(), strict=True)
    )
    return Chart(words.title, bars, tuple(words.remarks()), tuple(words.notes()))


def comparison_chart(
    first: Attribution, second: Attribution, region: Region | None = None
) -> tuple[list[str], list[list[str]], str]:
    """Header, rows and title of a comparison, word by word.

    Raises:
        RegionError: the region is not one of both images.
    """
    found = compare(first, second, region=region)
    rows = []
    for word in found:
        numbers = [*word.means, word.difference]
        rows.append([word.text, *("-" if one is None else f"{one:.4g}" for one in numbers)])
    return ["word", "A", "B", "B - A"], rows, found.title


@dataclass(frozen=True)
class ReplacedWord:
    """A prompt with another word in the place of one.

    Args:
        word: that was there.
        text: that is there now.
        prompt: with it.
    """

    word: Word
    text: str
    prompt: str

    @property
    def title(self) -> str:
        """What was done."""
        return f"{self.text!r} in place of {self.word.text!r}"


def word_labels(prompt: Prompt) -> dict[str, Word]:
    """The words of a prompt by what they are called in a list; repeated ones have a number."""
    words = prompt.texts[0].words
    counts = Counter(word.text for word in words)
    seen: Counter[str] = Counter()
    found = {}
    for word in words:
        seen[word.text] += 1
        total = counts[word.text]
        label = word.text if total == 1 else f"{word.text} ({seen[word.text]} of {total})"
        found[label] = word
    return found


def replaced_word(prompt: Prompt, label: Any, text: Any) -> ReplacedWord:
    """The prompt with a text in the place of one of its words.

    Args:
        prompt: of the image.
        label: of the word, as :func:`word_labels` has it.
        text: to put there; a word or several.

    Raises:
        InputError: there is no such word, or the text is empty or is the word itself.
    """
    labels = word_labels(prompt)
    if not labels or prompt.text is None:
        raise InputError(
            "The prompt of this image has no word that could be replaced. Choose another image."
        )
    shown = ", ".join(list(labels)[:MOST_MAPS])
    if not label:
        raise InputError(f"No word was chosen. Choose one of: {shown}.")
    if not isinstance(label, str) or label not in labels:
        raise InputError(f"{label!r:.60} is not a word of the prompt. Words: {shown}.")
    word = labels[label]
    new = text.strip() if isinstance(text, str) else ""
    if not new:
        raise InputError(f"The new word is empty. Write one to put in the place of {word.text!r}.")
    if new == word.text:
        raise InputError(f"{new!r} is the word that is there already. Write another.")
    return ReplacedWord(word, new, prompt.text[: word.start] + new + prompt.text[word.end :])


def replaced_maps(
    before: Attribution, after: Attribution, changed: ReplacedWord
) -> list[tuple[str, Image.Image, float]]:
    """The map of the replaced word over its image, and that of the new text over the other.

    What a long prompt has lost with its end has none.
    """
    found = []
    for name, attribution, text in (("A", before, changed.word.text), ("B", after, changed.text)):
        start = changed.word.start
        try:
            heat_map = attribution.match(attribution.prompt.find((start, start + len(text))))
        except WordError:
            continue
        found.append((f"{name}: {text}", _picture(heat_map), float(heat_map.peak)))
    return found


def heat_maps(attribution: Attribution) -> list[tuple[str, Image.Image, float]]:
    """Each word's map over the image, if there is one, with its peak; repeated words once."""
    found = []
    for text in list(grouped(attribution.prompt))[:MOST_MAPS]:
        heat_map = attribution.match(attribution.prompt.find(text))
        found.append((text, _picture(heat_map), float(heat_map.peak)))
    return found


def concept_maps(attribution: Attribution) -> list[tuple[str, Image.Image, float]]:
    """The map of each concept that the run was given over the image, with its highest value."""
    found = []
    for text, other in attribution.vocabulary.items():
        heat_map = other.match(other.prompt.find((0, len(other.prompt.text or ""))))
        found.append((text, _picture(heat_map), float(heat_map.peak)))
    return found


def _picture(heat_map: HeatMap) -> Image.Image:
    """The map over its image, or alone where a file has none."""
    if heat_map.image is None:
        return colourise(heat_map.normalized)
    return heat_map.overlay()


def costs(words: int, seconds: float | None) -> str:
    """What gradients and an ablation of an image will take, before they are begun.

    Args:
        words: of the prompt, each once.
        seconds: that the image took; None where it was not made here.
    """
    if seconds is None:
        return "Gradients and changes without each word are of images that were made here."
    runs = words + 1
    return (
        f"Gradients take one generation and its way back, about {_time(4 * seconds)}; the change "
        f"without each word takes {runs} generations, about {_time(runs * seconds)}."
    )


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def read_upload(path: str | Path) -> Image.Image:
    """A visitor's picture in RGB, by the package's one reader of pictures.

    Raises:
        AttributionFileError: it is not a picture, too large in bytes or pixels, or broken.
    """
    from diffusers_rdaam.images.input_images import as_rgb

    file = Path(path)
    check_bytes(file, "picture")
    return as_rgb(read_picture(file, formats=PICTURES, limit=MOST_UPLOAD_PIXELS))


def read_attribution(path: str | Path) -> Attribution:
    """A visitor's attribution file.

    Raises:
        AttributionFileError: it is not one, or too large.
    """
    file = Path(path)
    check_bytes(file, "attribution file")
    return Attribution.load(file)


def check_bytes(path: Path, noun: str, limit: int = MOST_UPLOAD) -> None:
    """Refuse a file that is not a regular one, or too large.

    Raises:
        AttributionFileError: as it says.
    """
    with opened(path, noun):
        size = path.stat().st_size
    if size > limit:
        raise AttributionFileError(
            f"The {noun} has {size} bytes; at most {limit} are read here. Make it smaller."
        )


def listed_files(folder: Path) -> list[str]:
    """The attribution files below a folder, by their relative names; links are left out."""
    found = []
    for path in sorted(folder.rglob("*.safetensors")):
        if path.is_file() and not path.is_symlink():
            found.append(path.relative_to(folder).as_posix())
        if len(found) >= MOST_LISTED:
            break
    return found


def open_listed(folder: Path, name: Any) -> Attribution:
    """The attribution of a file of the folder.

    Raises:
        InputError: the name leads out of the folder.
        AttributionFileError: it is not an attribution.
    """
    return Attribution.load(inner_path(folder, name, "A file of the list"))


def split_concepts(text: str) -> tuple[str, ...]:
    """The concepts of a text, separated by commas or lines, each once."""
    parts = (part.strip() for line in text.splitlines() for part in line.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def dependency_tree(text: str) -> str:
    """The dependency tree of a text as SVG, by a spaCy model that is installed.

    Raises:
        InputError: spaCy or a model of it is not installed; the text says how to install them.
    """
    try:
        import spacy
        from spacy import displacy
    except ImportError:
        raise InputError(
            'The dependency tree needs spaCy. Install it with: pip install "diffusers_rdaam[nlp]", '
            "and an English model of it with: python -m spacy download en_core_web_sm"
        ) from None
    models = sorted(name for name in spacy.util.get_installed_models() if name.startswith("en_"))
    if not models:
        raise InputError(
            "The dependency tree needs an English model of spaCy. Install one with: python -m "
            "spacy download en_core_web_sm"
        )
    return str(displacy.render(spacy.load(models[0])(text), style="dep", jupyter=False))


def _numbers(values: Any, name: str) -> list[float]:
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise RegionError(f"The {name} that came from the page is not a list. Draw it again.")
    found = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise RegionError(f"The {name} has {value!r:.40} in place of a number. Draw it again.")
        # Compared as it is: JSON has whole numbers that no float holds.
        if not -1e6 <= value <= 1e6:
            raise RegionError(f"The {name} has the number {value!r:.40}. Draw it again.")
        found.append(value)
    return found


def _points(values: Any, most: int = MOST_POINTS) -> list[tuple[float, float]]:
    if not isinstance(values, list) or not 1 <= len(values) <= most:
        raise RegionError(
            f"A drawn line has at least 1 point, and all together have up to {MOST_POINTS}. Draw "
            "it again."
        )
    pairs: Iterable[list[float]] = (_numbers(value, "point") for value in values)
    found = [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]
    if len(found) != len(values):
        raise RegionError("A point has two numbers, x and y. Draw it again.")
    return found


def _array(mask: Image.Image) -> Any:
    import numpy as np

    return np.asarray(mask) / 255
