"""An attribution as a line of text, as HTML and as a figure; what its warnings say."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

from PIL import Image

from diffusers_rdaam.attribution.heat_map import check_limits
from diffusers_rdaam.attribution.prompt import (
    Match,
    Prompt,
    WordQuery,
    encoders_of,
    labelled,
    times,
)
from diffusers_rdaam.attribution.prompt_html import coloured_prompt
from diffusers_rdaam.attribution.ranked_words import grouped
from diffusers_rdaam.attribution.record import Record
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.shapes import Column

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The longer side of one picture among several, in pixels.
STRIP_SIDE = 256
# Words of a repr, and characters of each.
_SHOWN, _LONGEST = 4, 20


def attribution_text(attribution: Record) -> str:
    """One line: the prompt, the sizes, what was kept."""
    height, width = attribution.image_size
    grids = ", ".join(f"{grid.size[1]}x{grid.size[0]}" for grid in attribution.grids)
    kept = "" if attribution.kept is None else f"kept {' and '.join(attribution.kept.axes)}, "
    negative = "" if attribution.negative_attribution is None else "negative prompt too, "
    grids_to_itself = ", ".join(f"{grid.size[1]}x{grid.size[0]}" for grid in attribution.self_grids)
    itself = f"self-attention {grids_to_itself}, " if grids_to_itself else ""
    return (
        f"Attribution({attribution.prompt.shortened}, {_words_text(attribution)}, "
        f"image {width}x{height}, grids {grids}, {kept}{negative}{itself}"
        f"{attribution.nbytes / 1e6:.2f} MB)"
    )


def _words_text(attribution: Record) -> str:
    """The number of words, and the mean probability of the first of them."""
    words = attribution.prompt.words
    levels = attribution.levels
    seen = (word for word in words if word.columns)
    first = [
        f"{word.text[:_LONGEST]} {float(levels[list(word.columns)].sum()):.3g}"
        for word in islice(seen, _SHOWN)
    ]
    if not first:
        return f"{len(words)} words"
    more = ", …" if len(words) > len(first) else ""
    return f"{len(words)} words ({', '.join(first)}{more})"


def attribution_html(attribution: Record) -> str:
    """The image, and the prompt with its words coloured by their level in the whole image."""
    from html import escape

    from diffusers_rdaam.drawing.html import ground_scale, picture

    levels = attribution.levels.tolist()
    values = {word: sum(levels[i] for i in word.columns) for word in attribution.prompt.words}
    highest = max([*values.values(), 1e-12])
    spans = [
        (word.encoder or 1, word.start, word.end, value / highest, f"mean probability {value:.4f}")
        for word, value in values.items()
    ]
    about = attribution_text(attribution)
    image = attribution.image
    shown = f"<p>{escape(about)}</p>" if image is None else picture(image, about)
    coloured = coloured_prompt(attribution.prompt, spans)
    legend = ground_scale(0.0, highest, "mean attention probability") if spans else ""
    return f"<div>{shown}{coloured}{legend}</div>"


def heat_maps(attribution: Record, words: Iterable[WordQuery] | None) -> list[tuple[str, Column]]:
    """Names and heat maps of some words; of all if none are given, each with all its occurrences.

    Raises:
        InputError: the words are one text.
        WordError: the prompt does not have one of them.
    """
    if isinstance(words, str):
        raise InputError(f"words= takes several words; give a list: [{words!r}].")
    if words is not None:
        matches = [attribution.prompt.find(query) for query in words]
        return [(match.text, attribution.pixels(match.columns)) for match in matches]
    maps = []
    for occurrences in grouped(attribution.prompt).values():
        columns = tuple(sorted({column for word in occurrences for column in word.columns}))
        text = labelled(occurrences[0].text, encoders_of(occurrences))
        maps.append((text, attribution.pixels(columns)))
    return maps


def attribution_figure(
    attribution: Record, words: Iterable[WordQuery] | None, *, shared_scale: bool
) -> Figure:
    """The image and the words' heat maps."""
    from diffusers_rdaam.drawing.figure import heat_maps_figure

    maps = heat_maps(attribution, words)
    title = "\n".join(text.text or "" for text in attribution.prompt.texts)
    return heat_maps_figure(maps, attribution.image, title, shared_scale=shared_scale)


def overlay_strip(
    attribution: Record,
    words: Iterable[WordQuery] | None,
    *,
    image: Image.Image,
    opacity: float,
    cmap: str | None,
    limits: tuple[float | None, float | None],
    columns: int | None,
) -> Image.Image:
    """The words' heat maps over an image, side by side, with one scale for all of them."""
    from diffusers_rdaam.drawing.overlay import overlay, scale_colours
    from diffusers_rdaam.drawing.timeline import film_strip

    maps = heat_maps(attribution, words)
    if not maps:
        raise InputError("There are no words to draw. Give words= of the prompt.")
    low, high = check_limits(*limits, [values for _, values in maps])
    base = image.resize(attribution.image_size[::-1])
    pictures = []
    for _, values in maps:
        stretched = ((values - low) / max(high - low, 1e-30)).clamp(0.0, 1.0)
        picture = overlay(base, stretched, opacity=opacity, cmap=cmap)
        picture.thumbnail((STRIP_SIDE, STRIP_SIDE))
        pictures.append(picture)
    return film_strip(
        pictures,
        [name for name, _ in maps],
        columns=columns,
        title=" / ".join(text.text or "" for text in attribution.prompt.texts),
        scale=(low, high),
        colours=scale_colours(cmap, opacity=opacity),
    )


def is_sum(prompt: Prompt, match: Match) -> bool:
    """Whether a match's map is the sum of several maps, which are of one occurrence each.

    A word that several texts have at the same columns has one map.
    """
    if len(match.spans) < 2 or len(set(match.encoders)) < len(match.spans):
        return len(match.spans) > 1
    columns = {
        prompt.texts[encoder - 1].columns_of([span])
        for encoder, span in zip(match.encoders, match.spans, strict=True)
    }
    return len(columns) > 1


def repeat_text(match: Match) -> str:
    """The text of the warning where a word occurs more than once."""
    places = " and ".join(f"{start}-{end}" for start, end in match.spans)
    if len(set(match.encoders)) > 1:
        places = " and ".join(
            f"encoder {encoder}: characters {start}-{end}"
            for encoder, (start, end) in zip(match.encoders, match.spans, strict=True)
        )
        if set(match.encoders) != {1, 2}:
            return (
                f"{match.text!r} occurs in the texts of several text encoders ({places}); their "
                "maps were added. Pass encoder= with one of these numbers for that of one text."
            )
        return (
            f"{match.text!r} occurs in the texts of both text encoders ({places}); their maps were "
            "added. Pass encoder=1 for that of prompt alone, encoder=2 for that of prompt_2."
        )
    return (
        f"{match.text!r} occurs {times(len(match.spans))} in the prompt (characters {places}); "
        "their maps were added. Pass occurrence=0 for the first alone."
    )
