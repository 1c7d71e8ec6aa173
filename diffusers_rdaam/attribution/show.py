"""An attribution as a line of text, as HTML and as a figure; what its warnings say."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from diffusers_rdaam.attribution.attribution import Attribution
    from diffusers_rdaam.attribution.prompt import Match


def attribution_text(attribution: Attribution) -> str:
    """One line: the prompt, the sizes, what was kept."""
    height, width = attribution.image_size
    grids = ", ".join(f"{grid.size[1]}x{grid.size[0]}" for grid in attribution.grids)
    prompt = attribution.prompt.text
    text = "no text" if prompt is None else repr(textwrap.shorten(prompt, 80, placeholder="…"))
    kept = "" if attribution.kept is None else f"kept {' and '.join(attribution.kept.axes)}, "
    negative = "" if attribution.negative_attribution is None else "negative prompt too, "
    own = ", ".join(f"{grid.size[1]}x{grid.size[0]}" for grid in attribution.self_grids)
    own = f"self-attention {own}, " if own else ""
    return (
        f"Attribution({text}, {len(attribution.words)} words, image {width}x{height}, "
        f"grids {grids}, {kept}{negative}{own}{attribution.nbytes / 1e6:.2f} MB)"
    )


def attribution_html(attribution: Attribution) -> str:
    """The image, and the prompt with its words coloured by their level in the whole image."""
    from diffusers_rdaam.drawing.html import coloured_text, picture

    levels = attribution._levels.tolist()
    values = {word: sum(levels[i] for i in word.columns) for word in attribution.words}
    highest = max([*values.values(), 1e-12])
    spans = [
        (word.start, word.end, value / highest, f"mean probability {value:.4f}")
        for word, value in values.items()
    ]
    image = attribution.image
    shown = "" if image is None else picture(image, repr(attribution))
    text = coloured_text(attribution.prompt.text or "", spans)
    return f"<div>{shown}{text}</div>"


def attribution_figure(attribution: Attribution) -> Figure:
    """The image and every word's heat map, all occurrences of a word together."""
    from diffusers_rdaam.drawing.figure import heat_maps_figure

    columns: dict[str, set[int]] = {}
    texts: dict[str, str] = {}
    for word in attribution.words:
        if word.columns:
            key = word.text.casefold()
            columns.setdefault(key, set()).update(word.columns)
            texts[key] = word.text
    maps = [
        (texts[key], attribution._heat_map(tuple(sorted(same)), texts[key], ()).values)
        for key, same in columns.items()
    ]
    return heat_maps_figure(maps, attribution.image, attribution.prompt.text or "")


def repeat_text(match: Match) -> str:
    """What to say where a word stands more than once."""
    places = " and ".join(f"{start}-{end}" for start, end in match.spans)
    return (
        f"{match.text!r} stands {len(match.spans)} times in the prompt (characters {places}); "
        "their maps were added. Pass occurrence=0 for the first alone."
    )
