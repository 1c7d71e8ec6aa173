"""Evaluation: the rows of a run, and the numbers that tables are made of."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.evaluation.measures import (
    MEASURES,
    Scores,
    headline_of_image,
    per_class,
)
from diffusers_rdaam.evaluation.metrics.intervals import (
    RESAMPLES,
    Estimate,
    bootstrap_weights,
    estimate,
    normal_interval,
    paired_difference,
)
from diffusers_rdaam.files.writing import replacing

Row = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a protocol says of one data set: a number with its interval for each kind of maps.

    Args:
        label: of the protocol, with its form: ``"daam (strict)"``.
        strict: which form.
        generated: whether the images were made by a model.
        metrics: that are reported, the headline first.
        maps: names of the rows of the table.
        rows: of the images, errors and skipped ones included, in the order of the data set.
        settings: what the numbers depend on.
        facts: versions, hardware, date.
        flaws: of the published form; empty for the honest one.
        seed: of the resampling.
    """

    label: str
    strict: bool
    generated: bool
    metrics: tuple[str, ...]
    maps: tuple[str, ...]
    rows: tuple[Row, ...] = field(repr=False)
    settings: dict[str, Any] = field(default_factory=dict, repr=False)
    facts: dict[str, str] = field(default_factory=dict, repr=False)
    flaws: tuple[str, ...] = field(default=(), repr=False)
    seed: int = 0

    @property
    def scored(self) -> tuple[Row, ...]:
        """The rows of images that have scores."""
        return tuple(row for row in self.rows if row["status"] == "ok")

    @property
    def errors(self) -> tuple[Row, ...]:
        """The rows of images that could not be read or attributed, with their ``"error"``."""
        return tuple(row for row in self.rows if row["status"] == "error")

    @property
    def skipped(self) -> tuple[Row, ...]:
        """The rows of images that the protocol asks nothing about, with their ``"reason"``."""
        return tuple(row for row in self.rows if row["status"] == "skipped")

    @property
    def images(self) -> int:
        """How many different images were scored."""
        return len({row["cluster"] for row in self.scored})

    @property
    def headline(self) -> str:
        """The measure that the protocol is about."""
        return self.metrics[0]

    @property
    def data(self) -> str:
        """The data set and its split."""
        name, split = self.settings.get("data", "data"), self.settings.get("split", "")
        return f"{name} {split}".strip()

    def scores(self, maps: str) -> list[Scores]:
        """The scores of every image by one kind of maps.

        Raises:
            InputError: there is no such kind.
        """
        if maps not in self.maps:
            raise InputError(f"{maps!r} was not evaluated. Maps: {'; '.join(self.maps)}.")
        return [row["scores"][maps] for row in self.scored]

    @cached_property
    def _weights(self) -> np.ndarray:
        return bootstrap_weights([row["cluster"] for row in self.scored], seed=self.seed)

    @cached_property
    def numbers(self) -> dict[str, dict[str, Estimate]]:
        """Each measure with its 95 % interval over images, by maps and measure."""
        if not self.scored:
            return {maps: {name: Estimate(math.nan) for name in self.metrics} for maps in self.maps}
        return {
            maps: {
                name: estimate(MEASURES[name].of(self.scores(maps)), self._weights, self.images)
                for name in self.metrics
            }
            for maps in self.maps
        }

    def __getitem__(self, name: str) -> Estimate:
        """A measure of the first maps.

        Raises:
            InputError: it is not reported by this protocol.
        """
        return self.number(name)

    def number(self, name: str, maps: str | None = None) -> Estimate:
        """A measure, also one that the protocol's table leaves out.

        Raises:
            InputError: there is no such measure, or no such maps.
        """
        chosen = self.maps[0] if maps is None else maps
        if name in self.metrics and chosen in self.maps:
            return self.numbers[chosen][name]
        if name not in MEASURES:
            raise InputError(f"{name!r} is not a measure. Measures: {', '.join(MEASURES)}.")
        if not self.scored:
            return Estimate(math.nan)
        return estimate(MEASURES[name].of(self.scores(chosen)), self._weights, self.images)

    def difference(self, one: str, other: str, name: str | None = None) -> Estimate:
        """How much better one kind of maps is than another, on the same images.

        Args:
            one, other: maps, by name.
            name: of the measure; the headline if not given.
        """
        measure = MEASURES[name or self.headline].of
        pair = measure(self.scores(one)), measure(self.scores(other))
        return paired_difference(*pair, self._weights, self.images)

    def per_class(self, maps: str | None = None) -> dict[str, tuple[float, int]]:
        """IoU of each class over the data set, and in how many images it truly is."""
        return per_class(self.scores(self.maps[0] if maps is None else maps))

    def normal_interval(self, maps: str | None = None) -> tuple[float, float]:
        """Mean IoU of (image, word) pairs and ``1.96 s / sqrt(n)``: over words as DAAM has it.

        In the honest form over images, each the mean of its words.
        """
        rows = self.scores(self.maps[0] if maps is None else maps)
        images = [[w["iou"] for w in row.get("words", ()) if "iou" in w] for row in rows]
        if self.strict:
            return normal_interval([float(np.mean(one)) for one in images if one])
        return normal_interval([value for one in images for value in one], ddof=0)

    def ranked(self, maps: str | None = None) -> list[tuple[str, float]]:
        """Images by how good they are, the best first."""
        chosen = self.maps[0] if maps is None else maps
        pairs = [(row["id"], headline_of_image(row["scores"][chosen])) for row in self.scored]
        known = [(name, value) for name, value in pairs if value is not None]
        return sorted(known, key=lambda pair: (-pair[1], pair[0]))

    def summary(self) -> str:
        """How many images were scored, skipped and failed, and the first errors."""
        parts = [f"{len(self.scored)} samples of {self.images} images scored"]
        if self.skipped:
            reasons = Counter(str(row["reason"]) for row in self.skipped)
            texts = "; ".join(f"{count} as {reason}" for reason, count in reasons.items())
            parts.append(f"{len(self.skipped)} skipped ({texts})")
        if self.errors:
            first = self.errors[0]
            parts.append(f"{len(self.errors)} failed, the first {first['id']}: {first['error']}")
        return ", ".join(parts)

    def table(self) -> EvaluationTable:
        """A table of this evaluation alone."""
        return EvaluationTable((self,))

    def to_dict(self) -> dict[str, Any]:
        """All numbers, settings and facts, ready for JSON; images are in ``rows``."""
        return {
            "protocol": self.label,
            "strict": self.strict,
            "generated": self.generated,
            "flaws": list(self.flaws),
            "settings": self.settings,
            "facts": self.facts,
            "samples": len(self.scored),
            "images": self.images,
            "skipped": [{"id": row["id"], "reason": row["reason"]} for row in self.skipped],
            "errors": [{"id": row["id"], "error": row["error"]} for row in self.errors],
            "resamples": RESAMPLES,
            "numbers": {
                maps: {name: _as_dict(one) for name, one in row.items()}
                for maps, row in self.numbers.items()
            },
            "differences": self._differences(),
            "per_class": {maps: self.per_class(maps) for maps in self.maps if self.scored},
        }

    def _differences(self) -> dict[str, Any]:
        if not self.scored:
            return {}
        first = self.maps[0]
        return {
            maps: {"than": first, self.headline: _as_dict(self.difference(maps, first))}
            for maps in self.maps[1:]
        }

    def images_csv(self) -> str:
        """One line for each (image, maps, word), with all that was measured of it."""
        keys = sorted(
            {
                key
                for row in self.scored
                for one in row["scores"].values()
                for word in one["words"]
                for key in word
            }
        )
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["id", "status", "maps", *keys, "note"])
        for row in self.rows:
            if row["status"] != "ok":
                note = row.get("error") or row.get("reason")
                writer.writerow(
                    [_cell(row["id"]), row["status"], "", *("" for _ in keys), _cell(note)]
                )
                continue
            for maps, one in row["scores"].items():
                for word in one["words"]:
                    cells = [_cell(word.get(key, "")) for key in keys]
                    writer.writerow([_cell(row["id"]), "ok", maps, *cells, ""])
        return out.getvalue()

    def save(self, folder: str | Path) -> Path:
        """Write ``report.json``, ``table.md``, ``table.csv``, ``images.csv``; returns the folder.

        Raises:
            InputError: the folder cannot be written.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        texts = {
            "report.json": json.dumps(_finite(self.to_dict()), indent=1) + "\n",
            "table.md": self.table().markdown() + "\n",
            "table.csv": self.table().csv(),
            "images.csv": self.images_csv(),
        }
        for name, text in texts.items():
            with replacing(target / name, "report") as file:
                file.write(text.encode())
        return target

    def __repr__(self) -> str:
        return f"Evaluation({self.label!r} on {self.data!r}: {self.summary()})"[:600]

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


@dataclass(frozen=True)
class EvaluationTable:
    """Several evaluations in one table: maps down, measures across.

    Args:
        evaluations: all strict or all as published, all of generated or all of real images.

    Raises:
        InputError: one is strict and another as published, or the images of one are generated and
            those of another real: such numbers are not of one kind.
    """

    evaluations: tuple[Evaluation, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "evaluations", tuple(self.evaluations))
        if not self.evaluations:
            raise InputError("A table is of at least one evaluation.")
        for name, words in (
            ("strict", ("the honest form", "the published form with its flaws")),
            ("generated", ("generated images", "real images")),
        ):
            if len({getattr(one, name) for one in self.evaluations}) > 1:
                raise InputError(
                    f"One table does not mix {words[0]} with {words[1]}: the numbers are not of "
                    "one kind. Make two tables."
                )

    @property
    def title(self) -> str:
        """What kind of numbers these are."""
        first = self.evaluations[0]
        form = "strict" if first.strict else "as published"
        return f"{form}, {'generated' if first.generated else 'real'} images"

    def _sections(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Of each evaluation its caption, titles and lines."""
        return [
            (
                f"{one.label} on {one.data} ({one.summary()})",
                ["maps", *(MEASURES[name].title for name in one.metrics)],
                [[maps, *map(str, row.values())] for maps, row in one.numbers.items()],
            )
            for one in self.evaluations
        ]

    def markdown(self) -> str:
        """Markdown, with the flaws of published forms and the facts under it."""
        parts = [f"Numbers with 95 % intervals over images; {self.title}."]
        for (caption, titles, lines), one in zip(self._sections(), self.evaluations, strict=True):
            rows = [titles, ["---"] * len(titles), *lines]
            table = "\n".join(f"| {' | '.join(_escaped(c) for c in row)} |" for row in rows)
            parts += [f"**{_escaped(caption)}**", table]
            if one.flaws:
                parts.append("As published: " + "; ".join(one.flaws) + ".")
        facts = self.evaluations[0].facts
        if facts:
            parts.append(", ".join(f"{name} {value}" for name, value in facts.items()))
        return "\n\n".join(parts)

    def csv(self) -> str:
        """One line a number: protocol, data, maps, measure, value, low, high, images."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(
            ["protocol", "data", "generated", "maps", "measure", "value", "low", "high", "images"]
        )
        for one in self.evaluations:
            for maps, row in one.numbers.items():
                for name, number in row.items():
                    cells = (number.value, number.low, number.high)
                    values = ["" if math.isnan(cell) else repr(cell) for cell in cells]
                    head = [one.label, _cell(one.data), one.generated, maps, name]
                    writer.writerow([*head, *values, number.images])
        return out.getvalue()

    def text(self) -> str:
        """For a screen."""
        parts = []
        for caption, titles, lines in self._sections():
            widths = [max(map(len, column)) for column in zip(titles, *lines, strict=True)]
            rows = [
                "  ".join(
                    cell.ljust(width) for cell, width in zip(row, widths, strict=True)
                ).rstrip()
                for row in (titles, *lines)
            ]
            parts.append("\n".join([caption, *rows]))
        return "\n\n".join(parts)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        labels = ", ".join(f"{one.label} on {one.data}" for one in self.evaluations)
        return f"EvaluationTable({labels}; {self.title})"[:600]

    def _repr_html_(self) -> str:
        return "".join(
            f"<p>{escape(caption)}</p><table>{''.join(map(_html_row, (titles, *lines)))}</table>"
            for caption, titles, lines in self._sections()
        )


def _html_row(cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _as_dict(one: Estimate) -> dict[str, Any]:
    return {"value": one.value, "low": one.low, "high": one.high, "images": one.images}


def _finite(value: Any) -> Any:
    """The same for JSON, which has no NaN: null in its place."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _escaped(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _cell(value: Any) -> Any:
    """A text of a data set in a table that a spreadsheet may open: never a formula."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value
