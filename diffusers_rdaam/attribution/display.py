"""An attribution as a line of text, as HTML and as a figure; what its warnings say."""

from __future__ import annotations

import textwrap
from itertools import islice
from typing import TYPE_CHECKING

from diffusers_rdaam.attribution.prompt import Match, Prompt, Word, encoders_of, labelled
from diffusers_rdaam.attribution.prompt_html import coloured_prompt
from diffusers_rdaam.attribution.record import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Words of a repr, and characters of each.
_SHOWN, _LONGEST = 4, 20


def attribution_text(attribution: Record) -> str:
    """One line: the prompt, the sizes, what was kept."""
    height, width = attribution.image_size
    grids = ", ".join(f"{grid.size[1]}x{grid.size[0]}" for grid in attribution.grids)
    prompts = [one.text for one in attribution.prompt.texts]
    text = " and ".join(
        "no text" if prompt is None else repr(textwrap.shorten(prompt, 80, placeholder="…"))
        for prompt in prompts
    )
    kept = "" if attribution.kept is None else f"kept {' and '.join(attribution.kept.axes)}, "
    negative = "" if attribution.negative_attribution is None else "negative prompt too, "
    own = ", ".join(f"{grid.size[1]}x{grid.size[0]}" for grid in attribution.self_grids)
    own = f"self-attention {own}, " if own else ""
    return (
        f"Attribution({text}, {_words_text(attribution)}, image {width}x{height}, "
        f"grids {grids}, {kept}{negative}{own}{attribution.nbytes / 1e6:.2f} MB)"
    )


def _words_text(attribution: Record) -> str:
    """How many words there are, and the mean probability of the first of them."""
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
    from diffusers_rdaam.drawing.html import picture

    levels = attribution.levels.tolist()
    values = {word: sum(levels[i] for i in word.columns) for word in attribution.prompt.words}
    highest = max([*values.values(), 1e-12])
    spans = [
        (word.encoder or 1, word.start, word.end, value / highest, f"mean probability {value:.4f}")
        for word, value in values.items()
    ]
    image = attribution.image
    shown = "" if image is None else picture(image, repr(attribution))
    return f"<div>{shown}{coloured_prompt(attribution.prompt, spans)}</div>"


def attribution_figure(attribution: Record) -> Figure:
    """The image and every word's heat map, all occurrences of a word together."""
    from diffusers_rdaam.drawing.figure import heat_maps_figure

    groups: dict[str, list[Word]] = {}
    for word in attribution.prompt.words:
        if word.columns:
            groups.setdefault(word.text.casefold(), []).append(word)
    maps = []
    for words in groups.values():
        columns = tuple(sorted({column for word in words for column in word.columns}))
        text = labelled(words[-1].text, encoders_of(words))
        maps.append((text, attribution.pixels(columns)))
    title = "\n".join(text.text or "" for text in attribution.prompt.texts)
    return heat_maps_figure(maps, attribution.image, title)


def is_sum(prompt: Prompt, match: Match) -> bool:
    """Whether a match's map is the sum of several maps, which are of one occurrence each.

    A word that both texts have at the same columns has one map.
    """
    if len(match.spans) < 2 or len(match.encoders) != 2 or len(set(match.encoders)) == 1:
        return len(match.spans) > 1
    one, other = (
        prompt.texts[encoder - 1].columns_of([span])
        for encoder, span in zip(match.encoders, match.spans, strict=True)
    )
    return one != other


def repeat_text(match: Match) -> str:
    """What to say where a word stands more than once."""
    places = " and ".join(f"{start}-{end}" for start, end in match.spans)
    if len(set(match.encoders)) > 1:
        places = " and ".join(
            f"encoder {encoder}: characters {start}-{end}"
            for encoder, (start, end) in zip(match.encoders, match.spans, strict=True)
        )
        return (
            f"{match.text!r} stands in the texts of both text encoders ({places}); their maps were "
            "added. Pass encoder=1 for that of prompt alone, encoder=2 for that of prompt_2."
        )
    return (
        f"{match.text!r} stands {len(match.spans)} times in the prompt (characters {places}); "
        "their maps were added. Pass occurrence=0 for the first alone."
    )
