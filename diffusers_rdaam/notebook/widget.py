"""ViewerWidget: the viewer as a widget of anywidget, whose selections come back to Python."""

from __future__ import annotations

from typing import Any, NamedTuple, SupportsIndex

import anywidget
import traitlets

from diffusers_rdaam.errors import InputError, RegionError, WordError
from diffusers_rdaam.geometry.region import Box, Mask, Polygon, as_region
from diffusers_rdaam.notebook.frame import asset


class SelectedWord(NamedTuple):
    """A word of the selected region, as the viewer's table has it.

    Attributes:
        word: its text.
        lift: its score in the region over that in the whole image.
        score: its mean attention probability in the region.
    """

    word: str
    lift: float
    score: float


class ViewerWidget(anywidget.AnyWidget):
    """The viewer of one attribution or of several, and what is selected in it.

    Each of these can be observed, ``viewer.observe(function, "box")``; box, polygon, word and index
    can be set, and the viewer then shows it.

    Attributes:
        box: the selected box ``(left, top, right, bottom)`` in pixels of the image, or None.
        polygon: the points of the selected polygon, or None.
        mask: what was painted, as COCO's run lengths, or None.
        words: the words of the selected region, best first; empty where none is selected.
        word: the text of the word that is shown, or None.
        index: which of several attributions was selected in last.
    """

    _esm = f"const follow = {asset('frame.js').strip()};\n{asset('widget.js')}"
    _page = traitlets.Unicode().tag(sync=True)
    _title = traitlets.Unicode().tag(sync=True)
    _state = traitlets.Dict().tag(sync=True)
    box = traitlets.Any(None, allow_none=True)
    polygon = traitlets.Any(None, allow_none=True)
    mask = traitlets.Any(None, allow_none=True, read_only=True)
    words = traitlets.Any((), read_only=True)
    word = traitlets.Any(None, allow_none=True)
    index = traitlets.Any(0)

    def __init__(self, attributions: tuple[Any, ...], page: str, still: str, title: str) -> None:
        self._attributions = attributions
        self._still = still
        # The word that the page has said, its number in its text, and the number of the text.
        self._said: str | None = None
        self._number: int | None = None
        self._record = 0
        super().__init__(_page=page, _title=title)
        self._shown = self._selected()

    @property
    def attribution(self) -> Any:
        """The attribution that was selected in last; the first at first."""
        return self._attributions[self.index]

    @property
    def region(self) -> Any:
        """What is selected, as ``attribution.region()`` takes it; None where nothing is."""
        return next(
            (form for form in (self.box, self.polygon, self.mask) if form is not None), None
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        # For where there are no widgets: a site that shows notebooks, a mail.
        return {**bundle[0], "text/html": self._still}, bundle[1]

    def __repr__(self) -> str:
        return f"ViewerWidget({self._title!r}, {len(self._page) / 1e6:.2f} MB, {self.region})"

    # ---- what Python sets

    @traitlets.validate("box")
    def _check_box(self, proposal: Any) -> tuple[float, ...] | None:
        if proposal.value is None:
            return None
        box = self._region(proposal.value)
        if not isinstance(box, Box):
            raise RegionError(
                f"viewer.box takes a box (left, top, right, bottom); got a "
                f"{type(box).__name__.lower()}. Set viewer.polygon to a list of (x, y) points."
            )
        return box.as_tuple()

    @traitlets.validate("polygon")
    def _check_polygon(self, proposal: Any) -> tuple[tuple[float, ...], ...] | None:
        if proposal.value is None:
            return None
        polygon = self._region(proposal.value)
        if not isinstance(polygon, Polygon):
            raise RegionError(
                f"viewer.polygon takes a list of (x, y) points; got a "
                f"{type(polygon).__name__.lower()}. Set viewer.box to (left, top, right, bottom)."
            )
        return tuple((float(x), float(y)) for x, y in polygon.points)

    @traitlets.validate("word")
    def _check_word(self, proposal: Any) -> str | None:
        # The page says a phrase or a word of another text, which the prompt need not have.
        if proposal.value is None or proposal.value == self._said:
            return proposal.value
        word = self._word(proposal.value)
        self._number, self._record = word.index, 0
        return word.text

    @traitlets.validate("index")
    def _check_index(self, proposal: Any) -> int:
        count = len(self._attributions)
        if isinstance(proposal.value, int) and 0 <= proposal.value < count:
            return int(proposal.value)
        raise InputError(
            f"viewer.index is the number of an attribution, from 0 to {count - 1}; got "
            f"{proposal.value!r}."
        )

    def _region(self, value: Any) -> Box | Polygon | Mask:
        """The region that a value is, of which a part lies inside the image."""
        size = self.attribution.image_size
        region = as_region(value, image_size=size)
        region.coverage(size)
        return region

    def _word(self, query: Any) -> Any:
        """The word of the prompt that a text, index or span is; the first of several."""
        prompt = self.attribution.prompt
        match = prompt.find(query)
        if isinstance(query, SupportsIndex):
            return prompt.words[query]
        found = [word for word in prompt.words if (word.start, word.end) == match.spans[0]]
        if not found:
            raise WordError(
                f"viewer.word takes one word of the prompt; {match.text!r} is not one. Words: "
                f"{', '.join(word.text for word in prompt.words)}."
            )
        return found[0]

    @traitlets.observe("box", "polygon", "word", "index")
    def _show(self, change: Any) -> None:
        """Show in the page what Python has set; a box replaces a polygon, and the other way."""
        if self._selected() == self._shown:
            return
        others: dict[str, None] = {}
        if change.name == "index":
            others = {"box": None, "polygon": None, "word": None}
        elif change.name != "word" and change.new is not None:
            others = {"polygon" if change.name == "box" else "box": None}
        self._shown = {**self._selected(), **others}
        with self.hold_trait_notifications():
            for name in others:
                setattr(self, name, None)
            if change.name != "word":
                self.set_trait("mask", None)
                self.set_trait("words", self._words_of_region())
        self._state = {"by": "kernel", **self._shown}

    def _selected(self) -> dict[str, Any]:
        """What is selected, in the form that the page takes."""
        word = None if self.word is None else self._number
        record = 0 if self.word is None else self._record
        found = {"attribution": self.index, "box": self.box, "polygon": self.polygon}
        return {**found, "word": word, "record": record}

    def _words_of_region(self) -> tuple[SelectedWord, ...]:
        if self.region is None:
            return ()
        answer = self.attribution.region(self.region)
        return tuple(SelectedWord(word.text, word.lift, word.score) for word in answer)

    # ---- what the page says

    @traitlets.observe("_state")
    def _take(self, change: Any) -> None:
        state = change.new
        if state.get("by") == "kernel":
            return
        box, polygon = _as_tuple(state.get("box")), _as_tuple(state.get("polygon"))
        mask = state.get("mask")
        region = next((form for form in (box, polygon, mask) if form is not None), None)
        # The page answers what Python has set, whose words are there already.
        known = region is not None and region == self.region
        self._said = state.get("text")
        self._number, self._record = state.get("word"), state.get("record") or 0
        index = state.get("attribution") or 0
        self._shown = {"attribution": index, "box": box, "polygon": polygon}
        self._shown |= {"word": self._number, "record": self._record}
        with self.hold_trait_notifications():
            self.index, self.box, self.polygon, self.word = index, box, polygon, self._said
            self.set_trait("mask", mask)
            if not known:
                words = state.get("words") if region is not None else None
                self.set_trait("words", tuple(SelectedWord(*word) for word in words or ()))


def _as_tuple(value: Any) -> Any:
    """Lists of lists as tuples of tuples."""
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value
