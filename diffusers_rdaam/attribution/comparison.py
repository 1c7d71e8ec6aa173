"""compare: the words of two prompts, or of the runs of two sets of seeds, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from diffusers_rdaam.argument_checks import check_choice
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.confidence import Interval, difference_interval, mean_interval
from diffusers_rdaam.attribution.frame_mapping import is_video
from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.attribution.ranked_words import grouped, name_of_region
from diffusers_rdaam.attribution.region_words import DEFAULT_RANKING, Ranking
from diffusers_rdaam.errors import InputError, PandasExtraError, WordError
from diffusers_rdaam.geometry.region import Box, Region, RegionLike, as_region
from diffusers_rdaam.shapes import Column

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

# Words of a figure unless some are named: those that differ most.
_DRAWN = 5
_SHOWN = 4


@dataclass(frozen=True)
class ComparedWord:
    """One word of each side, with its numbers; None where a side has no such word.

    Args:
        first, second: the words, as their prompts write them.
        values: of each run, the word's number: the first side's runs, then the second's.
        paired: whether run i of one side belongs to run i of the other, as with equal seeds.
    """

    first: str | None
    second: str | None
    values: tuple[tuple[float, ...], tuple[float, ...]] = field(repr=False)
    paired: bool = field(default=False, repr=False)

    @property
    def text(self) -> str:
        """The word; ``"cat / dog"`` where the sides have different words in its place."""
        names = [name for name in (self.first, self.second) if name is not None]
        if len(names) == 2 and names[0].casefold() == names[1].casefold():
            return names[0]
        return " / ".join("-" if name is None else name for name in (self.first, self.second))

    @property
    def means(self) -> tuple[float | None, float | None]:
        """The mean over each side's runs."""
        first, second = (sum(side) / len(side) if side else None for side in self.values)
        return first, second

    @property
    def intervals(self) -> tuple[Interval | None, Interval | None]:
        """The 95 % interval of each mean over the runs; None for a single run."""
        first, second = map(mean_interval, self.values)
        return first, second

    @property
    def difference(self) -> float | None:
        """The second side's mean minus the first's; None where a side has no such word."""
        first, second = self.means
        return None if first is None or second is None else second - first

    @property
    def difference_interval(self) -> Interval | None:
        """The 95 % interval of :attr:`difference`; None where a side has one run, or no such word.

        Over the differences of the pairs where runs are paired, else by Welch's formula.
        """
        first, second = self.values
        if not first or not second:
            return None
        if self.paired:
            return mean_interval([b - a for a, b in zip(first, second, strict=True)])
        return difference_interval(first, second)

    @property
    def differs(self) -> bool | None:
        """Whether the interval of the difference leaves 0 out; None where there is no interval."""
        interval = self.difference_interval
        return None if interval is None else not interval[0] <= 0.0 <= interval[1]


@dataclass(frozen=True, eq=False, repr=False)
class AttributionComparison:
    """Two sides, word by word in the order of the prompts: one sequence of :class:`ComparedWord`.

    ``comparison["cat"]`` is the entry of a word of either side, ``comparison[0]`` that of the first
    word. ``difference_map("cat")`` is the signed difference of the two maps.

    Args:
        names: what the sides are called.
        sides: the attributions of each.
        words: the aligned words.
        quantity: what is compared, ``"lift"`` for example.
        region: where it is compared; None for the whole image.
    """

    names: tuple[str, str]
    sides: tuple[tuple[Attribution, ...], tuple[Attribution, ...]] = field(repr=False)
    words: tuple[ComparedWord, ...] = field(repr=False)
    quantity: str = "score"
    region: Region | None = None

    def __iter__(self) -> Iterator[ComparedWord]:
        return iter(self.words)

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, key: int | str) -> ComparedWord:
        """The entry at a position in the prompts, or of a word of either side.

        Raises:
            InputError: there are fewer words.
            WordError: neither side has the word.
        """
        if not isinstance(key, str):
            if isinstance(key, bool) or not hasattr(key, "__index__"):
                raise InputError(
                    f"{key!r} is neither the position of a word, from 0, nor a word's text."
                )
            place = index(key)
            if not -len(self) <= place < len(self):
                raise InputError(f"There are {len(self)} words; {place} is not one's position.")
            return self.words[place]
        for word in self.words:
            if key.casefold() in {text.casefold() for text in (word.first, word.second) if text}:
                return word
        known = ", ".join(word.text for word in self.words)
        raise WordError(f"{key!r} is not a word of either prompt. Words: {known}.")

    @property
    def title(self) -> str:
        """One line that names the sides, the number and the region."""
        what = "mean attention probability" if self.region is None else self.quantity
        runs = ", ".join(
            f"{name} ({len(side)} run{'s' if len(side) > 1 else ''})"
            for name, side in zip(self.names, self.sides, strict=True)
        )
        return f"{name_of_region(self.region)}: {what} of {runs}"

    def maps(self, word: str | int) -> tuple[Column | None, Column | None]:
        """The word's map of each side, mean over its runs: ``(height, width)`` probabilities.

        Raises:
            WordError: neither side has the word.
        """
        entry = self[word]
        first, second = (
            None if text is None else _mean_map(side, text)
            for text, side in zip((entry.first, entry.second), self.sides, strict=True)
        )
        return first, second

    def difference_map(self, word: str | int) -> Column:
        """The second side's map minus the first's, ``(height, width)``: a difference of
        probabilities, with a sign.

        Raises:
            WordError: one side has no such word.
        """
        entry, (first, second) = self[word], self.maps(word)
        if first is None or second is None:
            missing = self.names[0] if first is None else self.names[1]
            raise WordError(f"{entry.text!r} has no counterpart in the prompt of {missing}.")
        return second - first

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and texts, for JSON."""
        return {
            "names": list(self.names),
            "runs": [len(side) for side in self.sides],
            "quantity": self.quantity,
            "words": [
                {
                    "first": word.first,
                    "second": word.second,
                    "means": list(word.means),
                    "intervals": [one and list(one) for one in word.intervals],
                    "difference": word.difference,
                    "difference_interval": word.difference_interval
                    and list(word.difference_interval),
                }
                for word in self.words
            ],
        }

    def to_pandas(self) -> DataFrame:
        """A table of pandas: a row for each word.

        Raises:
            PandasExtraError: pandas is not installed.
        """
        try:
            from pandas import DataFrame
        except ImportError:
            raise PandasExtraError(
                'Tables need pandas. Install it with: pip install "diffusers_rdaam[pandas]"'
            ) from None
        header, *rows = self._cells()
        return DataFrame(rows, columns=header)

    def plot(self, words: Iterable[str | int] | None = None) -> Figure:
        """A matplotlib figure: each word's map of both sides and their difference (extra ``plot``).

        Args:
            words: which; the five that differ most if not given.

        Raises:
            InputError: the words are one text, or there are none to draw.
            WordError: neither side has one of them.
        """
        from diffusers_rdaam.drawing.comparison import comparison_figure

        if isinstance(words, str):
            raise InputError(f"words= takes several words; give a list: [{words!r}].")
        chosen = self._most_different() if words is None else [self[word] for word in words]
        if not chosen:
            raise InputError("There are no words to draw. Give words= of the prompts.")
        columns = []
        for entry in chosen:
            first, second = self.maps(entry.first or entry.second or "")
            columns.append((entry.text, first, second))
        images = [side[0].image if len(side) == 1 else None for side in self.sides]
        return comparison_figure(columns, self.names, images)

    def _most_different(self) -> list[ComparedWord]:
        """The five words with the largest relative difference; then those of one side."""

        def size(word: ComparedWord) -> float:
            first, second = word.means
            if first is None or second is None:
                return -1.0
            return abs(second - first) / max(abs(first) + abs(second), 1e-30)

        largest = sorted(self.words, key=lambda word: -size(word))[:_DRAWN]
        return [word for word in self.words if word in largest]

    def _cells(self) -> list[list[str]]:
        """The header and a row for each word."""
        first, second = self.names
        header = ["word", first, second, "difference"]
        intervals = any(word.difference_interval for word in self.words)
        rows = []
        for word in self.words:
            row = [word.text, *(_number(mean) for mean in word.means), _signed(word.difference)]
            if intervals:
                found = word.difference_interval
                row.append("" if found is None else f"{found[0]:+.3g} to {found[1]:+.3g}")
            rows.append(row)
        return [[*header, "95 %"] if intervals else header, *rows]

    def __str__(self) -> str:
        """A table in the order of the prompts, with intervals where there are several runs."""
        cells = self._cells()
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join([f"{row[0]:<{widths[0]}}", *map(str.rjust, row[1:], widths[1:])])
            for row in cells
        ]
        return "\n".join([self.title, *lines])

    def _repr_html_(self) -> str:
        from html import escape

        from diffusers_rdaam.drawing.html import picture, table

        pictures = "".join(
            picture(image, name)
            for name, side in zip(self.names, self.sides, strict=True)
            if (image := _shown_image(side)) is not None
        )
        header, *rows = self._cells()
        return f"<div>{pictures}<p>{escape(self.title)}</p>{table(header, rows)}</div>"

    def __repr__(self) -> str:
        known = [word for word in self.words if word.difference is not None][:_SHOWN]
        listed = ", ".join(f"{word.text} {word.difference:+.3g}" for word in known)
        more = ", …" if len(self) > len(known) else ""
        return f"AttributionComparison({self.title}: {listed}{more})"


def compare(
    first: Attribution | Sequence[Attribution],
    second: Attribution | Sequence[Attribution],
    *,
    region: RegionLike | None = None,
    ranking: Ranking = DEFAULT_RANKING,
    names: tuple[str, str] = ("first", "second"),
) -> AttributionComparison:
    """Put two attributions, or two lists of them, side by side, word by word.

    Words that both prompts have are compared with each other, and so are words that stand in each
    other's place ("a *cat* in a hat", "a *dog* in a hat"). Lists are runs of one prompt with
    several seeds: numbers are means over them, with 95 % intervals by Student's t. Two lists of
    equal seeds in the same order are compared pair by pair.

    Args:
        first, second: an attribution, or several of one prompt each.
        region: compares the words of a region; of the whole image if not given.
        ranking: the number of a region's words, as in :meth:`Attribution.region`. In the whole
            image it is the mean attention probability, as every lift is 1 there.
        names: what the two sides are called.

    Raises:
        InputError: one is not an attribution, a list is empty or has several prompts, or the images
            are of different sizes.
        RegionError: as :meth:`Attribution.region`.
    """
    check_choice(ranking, Ranking, "a ranking")
    if not isinstance(names, (tuple, list)) or list(map(type, names)) != [str, str]:
        raise InputError(f"names= has a name for each of the two sides; got {names!r}.")
    sides = _side(first, names[0]), _side(second, names[1])
    size = sides[0][0].image_size
    other = next((run for side in sides for run in side if run.image_size != size), None)
    if other is not None:
        raise InputError(
            f"These are attributions of images of {size} and {other.image_size} (height, width), "
            "which have no pixels in common. Generate them at one size, or give both images of one "
            "size: attribution.with_image(image)."
        )
    checked = None if region is None else as_region(region, image_size=size)
    quantity: Ranking = "score" if checked is None else ranking
    where = Box(0, 0, size[1], size[0]) if checked is None else checked
    numbers = tuple([_numbers(run, where, quantity) for run in side] for side in sides)
    paired = _paired(*sides)
    words = tuple(
        ComparedWord(
            one,
            two,
            (
                () if one is None else tuple(run[one.casefold()] for run in numbers[0]),
                () if two is None else tuple(run[two.casefold()] for run in numbers[1]),
            ),
            paired,
        )
        for one, two in aligned(sides[0][0].prompt, sides[1][0].prompt)
    )
    return AttributionComparison((names[0], names[1]), sides, words, quantity, checked)


def aligned(first: Prompt, second: Prompt) -> list[tuple[str | None, str | None]]:
    """The words of two prompts in pairs, in order; a word that repeats is there once.

    The longest common runs of words are paired, and as many words of one as of the other between
    them; where the numbers differ the words there have no counterpart.
    """
    one, two = list(grouped(first)), list(grouped(second))
    matcher = SequenceMatcher(
        None, [word.casefold() for word in one], [word.casefold() for word in two], autojunk=False
    )
    pairs: list[tuple[str | None, str | None]] = []
    for _, start, stop, begin, end in matcher.get_opcodes():
        here, there = one[start:stop], two[begin:end]
        if len(here) == len(there):
            pairs += zip(here, there, strict=True)
        else:
            pairs += [(word, None) for word in here]
            pairs += [(None, word) for word in there]
    return _with_moved_words(pairs)


def _with_moved_words(
    pairs: list[tuple[str | None, str | None]],
) -> list[tuple[str | None, str | None]]:
    """The same pairs, where a word that both prompts have is compared with itself.

    A word that has moved has two entries of its own, or stands in the place of another word.
    """
    one = {first.casefold(): first for first, _ in pairs if first is not None}
    two = {second.casefold(): second for _, second in pairs if second is not None}
    found: list[tuple[str | None, str | None]] = []
    for first, second in pairs:
        if first is not None and first.casefold() in two:
            found.append((first, two[first.casefold()]))
        elif first is not None and (second is None or second.casefold() in one):
            found.append((first, None))
        elif first is not None:
            found.append((first, second))
            continue
        if second is not None and second.casefold() not in one:
            found.append((None, second))
    return found


def _side(given: Any, name: str) -> tuple[Attribution, ...]:
    runs = [given] if isinstance(given, Attribution) else given
    if is_video(given) or (isinstance(given, (list, tuple)) and any(map(is_video, given))):
        raise InputError(
            f"{name} is of a video: its frames are not runs with several seeds, and have no "
            "interval. Compare frames with each other: compare(video[7], other[7])."
        )
    if isinstance(runs, (str, Path)) or not isinstance(runs, Iterable):
        cure = "The attribution of a pipeline's output is output.attribution."
        if isinstance(runs, (str, Path)):
            cure = "Attribution.load(path) reads a file."
        raise InputError(
            f"compare() takes attributions or lists of them; {name} is a {type(given).__name__}. "
            f"{cure}"
        )
    runs = tuple(runs)
    wrong = next((run for run in runs if not isinstance(run, Attribution)), None)
    if not runs or wrong is not None:
        what = "an empty list" if not runs else f"a list with a {type(wrong).__name__}"
        cure = " Attribution.load(path) reads a file." if isinstance(wrong, (str, Path)) else ""
        raise InputError(f"compare() takes attributions or lists of them; {name} is {what}.{cure}")
    other = next((run for run in runs if run.prompt != runs[0].prompt), None)
    if other is not None:
        raise InputError(
            f"The list {name} has runs of the prompts {runs[0].prompt.shortened} and "
            f"{other.prompt.shortened}; a list is several seeds of one prompt. Give the runs of "
            "the other prompt as the second list."
        )
    return runs


def _numbers(run: Attribution, where: Region, quantity: Ranking) -> dict[str, float]:
    answer = run.region(where, ranking=quantity)
    return {word.text.casefold(): getattr(word, quantity) for word in answer.words}


def _paired(first: Sequence[Attribution], second: Sequence[Attribution]) -> bool:
    """Whether both sides have the same seeds in the same order, none of them unknown."""
    one, two = ([run.run.get("seed") for run in side] for side in (first, second))
    return None not in one and one == two and len(set(one)) == len(one)


def _mean_map(side: Sequence[Attribution], text: str) -> Column:
    """The mean over the runs of the map of all occurrences of a word."""
    occurrences = next(
        words
        for name, words in grouped(side[0].prompt).items()
        if name.casefold() == text.casefold()
    )
    columns = tuple(sorted({column for word in occurrences for column in word.columns}))
    total = side[0].pixels(columns)
    for run in side[1:]:
        total = total + run.pixels(columns)
    return total / len(side)


def _shown_image(side: Sequence[Attribution]) -> Image.Image | None:
    return side[0].image


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.4g}"
