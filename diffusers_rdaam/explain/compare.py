"""compare_explanations: several explanations of one region, word by word, in one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusers_rdaam.attribution.region_words import RegionWords
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.explain.words import RankedWords

REFERENCE = "ablation"


@dataclass(frozen=True)
class Comparison:
    """The same words by several explanations.

    Args:
        words: that all of them have, in prompt order.
        scores: of each explanation, a number a word, by what it ranks by.
        by: what each explanation ranks by.
        reference: the explanation that the others are compared with.
    """

    words: tuple[str, ...]
    scores: dict[str, tuple[float, ...]]
    by: dict[str, str]
    reference: str

    @property
    def agreement(self) -> dict[str, float]:
        """Spearman's rank correlation of each explanation with the reference, -1 to 1.

        NaN where either ranks all words alike.
        """
        wanted = self.scores[self.reference]
        return {
            name: rank_correlation(scores, wanted)
            for name, scores in self.scores.items()
            if name != self.reference
        }

    def to_dict(self) -> dict[str, object]:
        """Plain numbers and texts, for JSON."""
        return {
            "words": list(self.words),
            "scores": {name: list(scores) for name, scores in self.scores.items()},
            "by": self.by,
            "reference": self.reference,
            "agreement": self.agreement,
        }

    def __str__(self) -> str:
        """A table, the reference's best word first; the agreement below."""
        width = max([len(word) for word in self.words] + [4])
        heads = [f"{name} ({self.by[name]})" for name in self.scores]
        lines = [f"{'word':<{width}}" + "".join(f"  {head}" for head in heads)]
        for index in self._order():
            cells = "".join(
                f"  {scores[index]:>{len(head)}.4g}"
                for scores, head in zip(self.scores.values(), heads, strict=True)
            )
            lines.append(f"{self.words[index]:<{width}}{cells}")
        listed = ", ".join(f"{name} {value:.2f}" for name, value in self.agreement.items())
        return "\n".join([*lines, f"rank correlation with {self.reference}: {listed}"])

    def _repr_html_(self) -> str:
        from html import escape

        from diffusers_rdaam.drawing.html import table

        header = ["word", *(f"{name} ({self.by[name]})" for name in self.scores)]
        rows = [
            [self.words[index], *(f"{scores[index]:.4g}" for scores in self.scores.values())]
            for index in self._order()
        ]
        listed = ", ".join(f"{name} {value:.2f}" for name, value in self.agreement.items())
        note = f"<p>rank correlation with {escape(self.reference)}: {escape(listed)}</p>"
        return f"<div>{table(header, rows)}{note}</div>"

    def _order(self) -> list[int]:
        wanted = self.scores[self.reference]
        return sorted(range(len(self.words)), key=lambda index: -wanted[index])


def compare_explanations(
    *, reference: str | None = None, **explanations: RegionWords | RankedWords
) -> Comparison:
    """Put explanations of one region side by side.

    Args:
        reference: the name of the one that the others are compared with; ``ablation`` if one is
            called so, else the last.
        explanations: by any name: what ``attribution.region``, :func:`explain_gradient` and
            :func:`explain_ablation` return. Each counts by what it ranks by.

    Raises:
        InputError: there are fewer than two, they are of different prompts or regions, or have
            fewer than two words in common.
    """
    names = list(explanations)
    if len(names) < 2:
        raise InputError(f"At least two explanations are compared; got {len(names)}.")
    chosen = reference or (REFERENCE if REFERENCE in explanations else names[-1])
    if chosen not in explanations:
        raise InputError(
            f"reference={chosen!r} is not one of the explanations. Explanations: "
            f"{', '.join(names)}."
        )
    _check_same(explanations)
    by = {name: _ranking(each) for name, each in explanations.items()}
    scores = {
        name: {word.text.casefold(): getattr(word, by[name]) for word in each.words}
        for name, each in explanations.items()
    }
    first = next(iter(explanations.values()))
    ordered = dict.fromkeys(word.text.casefold() for word in first.prompt.words)
    # Phrases stand in no prompt's list of words, and are compared where all have them.
    ordered |= dict.fromkeys(scores[chosen])
    words = [word for word in ordered if all(word in found for found in scores.values())]
    if len(words) < 2:
        raise InputError(f"These explanations have {len(words)} words in common; 2 are needed.")
    return Comparison(
        tuple(words),
        {name: tuple(float(found[word]) for word in words) for name, found in scores.items()},
        by,
        chosen,
    )


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's: the correlation of the ranks, ties at their mean; NaN where one is constant."""
    one, other = _ranks(first), _ranks(second)
    one, other = one - one.mean(), other - other.mean()
    length = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / length if length > 0 else float("nan")


def _ranks(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    _, group, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[group]


def _ranking(explanation: Any) -> str:
    if isinstance(explanation, RegionWords):
        return explanation.ranking
    if isinstance(explanation, RankedWords):
        return next(iter(explanation.COLUMNS))
    raise InputError(
        f"{explanation!r} is not an explanation of a region. Give what attribution.region, "
        "explain_gradient or explain_ablation returned."
    )


def _check_same(explanations: dict[str, Any]) -> None:
    for explanation in explanations.values():
        _ranking(explanation)
    texts = {name: each.prompt.text for name, each in explanations.items()}
    if len(set(texts.values())) > 1:
        listed = "; ".join(f"{name}: {text!r}" for name, text in texts.items())
        raise InputError(f"These are explanations of different prompts ({listed}).")
    places = {name: _place(each) for name, each in explanations.items()}
    if len(set(places.values())) > 1:
        raise InputError(
            f"These are explanations of different regions ({', '.join(places)}). Ask all of them "
            "for the same one."
        )


def _place(explanation: Any) -> bytes:
    """The same bytes for the same region, whatever it was given as."""
    size = explanation.image.size[::-1] if explanation.image is not None else None
    if explanation.region is None:
        return b"" if size is None else np.ones(size, np.float32).tobytes()
    if size is None:
        return repr(explanation.region.edges()).encode()
    return explanation.region.coverage(size).float().numpy().tobytes()
