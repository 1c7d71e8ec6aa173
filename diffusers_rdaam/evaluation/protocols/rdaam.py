"""rdaam's alignment of words and boxes: is a box's own word the one that its region answers?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from diffusers_rdaam.evaluation.protocols.protocol import (
    Answers,
    Protocol,
    Question,
    Skipped,
    article,
    asked_targets,
)
from diffusers_rdaam.evaluation.protocols.scores import empty_scores
from diffusers_rdaam.evaluation.sample import DataSet, Sample, Target

Tokens = Sequence[tuple[str, tuple[int, int] | None, float, float]]


@dataclass(frozen=True)
class Rdaam(Protocol):
    """The score of a box's word over the highest score there; its rank by lift in the honest form.

    Boxes are those of the data set, or around the masks.
    """

    name: ClassVar[str] = "rdaam"
    summary: ClassVar[str] = "region to word: a box's own word against all words of the prompt"
    reference: ClassVar[str] = "Muhammad-Ahmad-Waseem/rdaam, scripts/quantitative_analysis.py"
    flaws: ClassVar[tuple[str, ...]] = (
        "scores are raw: words that are high everywhere win over the box's own",
        "a part of a token counts as the word",
        "images are generated anew, so that boxes of another build of torch are wrong",
    )
    metrics: ClassVar[tuple[str, ...]] = ("hit_at_1", "rank", "box_lift", "box_score", "coverage")
    published_metrics: ClassVar[tuple[str, ...]] = ("box_score", "coverage")
    tunable: ClassVar[bool] = False

    def question(self, sample: Sample, data: DataSet) -> Question | Skipped:
        """The sample's own prompt, or one that names its words."""
        asked = asked_targets(sample)
        if not any(one.edges for one in sample.targets):
            return Skipped("no target has a box")
        texts = list(dict.fromkeys(one.text for one in asked))
        return Question(sample.prompt or article(texts), asked)

    def score(
        self, question: Question, answers: Answers, sample: Sample, data: DataSet
    ) -> dict[str, Any]:
        """One entry for each box."""
        size = (sample.scored.shape[0], sample.scored.shape[1])
        found = empty_scores()
        for one in sample.targets:
            if one.edges is None:
                found["empty"] += 1
                continue
            tokens = answers.box_scores(one.edges, size)
            entry = {"text": one.text, "class": one.class_name or one.text}
            numbers = self._honest(one, tokens) if self.strict else published(one.text, tokens)
            if numbers is None:
                found["missing"] += 1
                found["missing_counted"] += 1
                # As published a word that is not there has 0.
                numbers = {"box_score": 0.0}
                if self.strict:
                    numbers |= {"box_lift": 0.0, "hit_at_1": 0.0, "rank": float(len(tokens))}
            found["words"].append(entry | numbers)
        return found

    def _honest(self, target: Target, tokens: Tokens) -> dict[str, float] | None:
        matching = [i for i, one in enumerate(tokens) if _is_of(target, one[0], one[1])]
        if not matching:
            return None
        scores, lifts = [one[2] for one in tokens], [one[3] for one in tokens]
        best = max(lifts[i] for i in matching)
        rank = 1 + sum(lift > best for lift in lifts)
        return {
            "box_score": _ratio(max(scores[i] for i in matching), max(scores)),
            "box_lift": _ratio(best, max(lifts)),
            "hit_at_1": float(rank == 1),
            "rank": float(rank),
        }


def published(text: str, tokens: Tokens) -> dict[str, float] | None:
    """The highest score of a token that is the key, or of one that has a part of it; over all."""
    key = text.casefold().strip()
    matching = [one for one in tokens if one[0].casefold().strip() == key]
    for word in key.split():
        if matching:
            break
        matching = [one for one in tokens if word in one[0].casefold()]
    if not matching:
        return None
    return {"box_score": _ratio(max(one[2] for one in matching), max(one[2] for one in tokens))}


def _is_of(target: Target, token: str, span: tuple[int, int] | None) -> bool:
    """Whether a token is one of the target's: by its place in the prompt, or its text."""
    if target.span is not None and span is not None:
        return span[0] < target.span[1] and target.span[0] < span[1]
    words = target.text.casefold().split()
    flat = token.casefold().strip()
    # The text of a concept is all of the target's.
    return flat in (*words, " ".join(words)) or any(
        word.startswith(flat) and len(flat) > 2 for word in words
    )


def _ratio(one: float, other: float) -> float:
    return one / other if other > 0.0 else 0.0
