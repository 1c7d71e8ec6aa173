"""explain_ablation: what becomes of a region when the model does not see a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, get_args, overload

from PIL import Image
from torch import Tensor

from diffusers_rdaam.attribution.prompt import Match, Prompt, WordQuery
from diffusers_rdaam.attribution.ranked_words import grouped, name_of_region
from diffusers_rdaam.errors import InputError, WordError
from diffusers_rdaam.explain.ablations.regeneration import AblationRegeneration, Mode
from diffusers_rdaam.explain.explained import check_pipeline
from diffusers_rdaam.explain.prompt_columns import prompt_of_columns
from diffusers_rdaam.explain.regeneration import (
    ReplayedNoise,
    as_regions,
    check_arguments,
)
from diffusers_rdaam.explain.words import RankedWords
from diffusers_rdaam.families.call_keywords import check_call_keywords
from diffusers_rdaam.geometry.region import Region, RegionLike


@dataclass(frozen=True)
class AblatedWord:
    """What changes without one word.

    Args:
        text: the word or phrase.
        score: mean absolute change of red, green and blue (0 to 1) over the region.
        share: ``score`` over the sum of all words' scores.
        lift: ``score`` over the change of the whole image; 1 is "as everywhere".
        outside: the same mean over the rest of the image; None where there is no rest.
        spans: where it stands in the prompt, as character spans.
        image: without it.
    """

    text: str
    score: float
    share: float
    lift: float
    outside: float | None
    spans: tuple[tuple[int, int], ...] = field(repr=False)
    image: Image.Image = field(repr=False)


@dataclass(frozen=True, eq=False, repr=False)
class AblationWords(RankedWords):
    """The words of a region, by how much it changes when the model does not see them.

    Args:
        matches: the words and phrases that were taken away, one after another.
        changes: ``(matches, 3)``: the mean change in the region, in the whole image, and outside.
        images: without each of them.
        mode: how.
    """

    COLUMNS: ClassVar[dict[str, str]] = {"score": ".4f", "share": ".1%", "lift": ".2f"}

    matches: tuple[Match, ...]
    changes: tuple[tuple[float, float, float | None], ...] = field(repr=False)
    images: tuple[Image.Image, ...] = field(repr=False)
    mode: Mode = "mask"

    @property
    def title(self) -> str:
        """What the numbers are, in a line."""
        name = name_of_region(self.region)
        return f"{name}: words ranked by the change without each (mode {self.mode})"

    @cached_property
    def words(self) -> tuple[AblatedWord, ...]:
        """Every word that was taken away, the largest change first; ties in the order asked."""
        total = sum(inside for inside, _, _ in self.changes)
        found = [
            AblatedWord(
                match.text,
                inside,
                inside / total if total > 0 else 0.0,
                inside / whole if whole > 0 else 0.0,
                outside,
                match.spans,
                image,
            )
            for match, (inside, whole, outside), image in zip(
                self.matches, self.changes, self.images, strict=True
            )
        ]
        return tuple(sorted(found, key=lambda word: -word.score))

    def word(self, text: str) -> AblatedWord:
        """The change without the word of that text.

        Raises:
            WordError: it was not taken away.
        """
        for word in self.words:
            if word.text.casefold() == text.casefold():
                return word
        names = ", ".join(match.text for match in self.matches)
        raise WordError(f"{text!r} was not taken away. What was: {names}. Ask with words=[…].")

    def score_of(self, query: WordQuery) -> float:
        """The score of a word or phrase.

        Raises:
            WordError: it was not taken away.
        """
        if not isinstance(query, str):
            raise WordError(
                f"{query!r} is not a text. Ask for a word or phrase that was taken away."
            )
        return self.word(query).score

    def film_strip(self, *, columns: int | None = None) -> Image.Image:
        """The image and those without each word, best first, with the change in the region."""
        from diffusers_rdaam.drawing.overlay import outline
        from diffusers_rdaam.drawing.timeline import film_strip

        images = [self.image, *(word.image for word in self.words)]
        if self.region is not None:
            images = [outline(image, self.region.edges()) for image in images]
        labels = ["the image"]
        labels += [f"without {word.text}: {word.score:.3f}" for word in self.words]
        return film_strip(images, labels, columns=columns, title=self.prompt.text or "")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and texts, for JSON."""
        found = super().to_dict()
        outside = {word.text: word.outside for word in self.words}
        return {"mode": self.mode, **found, "outside": outside}


@overload
def explain_ablation(
    pipe: Any, prompt: str, *, region: RegionLike | None = ..., regions: None = ..., **options: Any
) -> AblationWords: ...
@overload
def explain_ablation(
    pipe: Any, prompt: str, *, regions: Sequence[RegionLike], **options: Any
) -> list[AblationWords]: ...
def explain_ablation(
    pipe: Any,
    prompt: str,
    *,
    region: RegionLike | None = None,
    regions: Sequence[RegionLike] | None = None,
    words: Sequence[WordQuery] | None = None,
    mode: Mode = "mask",
    **arguments: Any,
) -> Any:
    """Generate without one word after another, from the same noise, and measure what changes.

    It costs a generation a word, and one for the image; any number of regions is measured on them.
    The pipeline, its generator and the random state are left as they were.

    Args:
        pipe: as for :func:`explain_gradient`.
        prompt: one text; with ``prompt_embeds=`` the text that these were made from.
        region: as for ``attribution.region``; the whole image if not given.
        regions: several.
        words: words, phrases, indices or spans; every word of the prompt if not given, all its
            occurrences together.
        mode: ``"mask"`` hides the word's columns from the text attention of the conditional rows,
            so that the others share what it had; in a transformer from the image's positions, while
            the text's go on seeing them. ``"padding"`` puts the embedding of an empty prompt in
            their place. What the text encoder let later columns know of the word, or a pooled
            embedding, stays in both.
        arguments: of the pipeline's own call.

    Returns:
        The words of the region; a list of them with ``regions=``.

    Raises:
        InputError: an argument is wrong.
        RegionError: a region is none of the image's.
        WordError: the prompt does not have a word.
        UnsupportedPipelineError: another pipeline.
    """
    if mode not in get_args(Mode):
        choices = ", ".join(repr(name) for name in get_args(Mode))
        raise InputError(f"{mode!r} is not a mode. Choices: {choices}.")
    check_pipeline(pipe)
    asked = as_regions(region, regions)
    given, arguments = arguments, check_arguments(pipe, prompt, arguments)
    check_call_keywords(pipe, given, explain_ablation)
    noise = ReplayedNoise(pipe, arguments)
    plain = AblationRegeneration(pipe, regions=asked)
    before = plain.run(noise.again(arguments))
    text = prompt_of_columns(pipe, prompt, plain.tokens, arguments)
    matches = find_words(text, words)
    images, changes = [], []
    for match in matches:
        regeneration = plain.without(match.columns, mode)
        after = regeneration.run(noise.again(arguments))
        images.append(regeneration.picture(after))
        change = (after - before).abs().mean(dim=0).cpu().double()
        changes.append([measure(change, one) for one in asked])
    image = plain.picture(before)
    found = [
        AblationWords(
            text,
            one,
            image,
            matches,
            tuple(change[index] for change in changes),
            tuple(images),
            mode,
        )
        for index, one in enumerate(asked)
    ]
    return found if regions is not None else found[0]


def find_words(prompt: Prompt, words: Sequence[WordQuery] | None) -> tuple[Match, ...]:
    """What to take away: each word of the prompt with all its occurrences, or what is asked.

    Raises:
        InputError: there is nothing.
        WordError: the prompt does not have it.
    """
    if isinstance(words, str):
        raise InputError(f"words= is a list, such as words=[{words!r}].")
    queries = list(grouped(prompt)) if words is None else list(words)
    if not queries:
        raise InputError(
            f"There is no word to take away from the prompt {prompt.text!r}. Give a prompt with "
            "words, and words= with some of them."
        )
    return tuple(prompt.find(query) for query in queries)


def measure(change: Tensor, region: Region | None) -> tuple[float, float, float | None]:
    """The mean of a change ``(height, width)`` in a region, in the whole image, and outside."""
    whole = float(change.mean())
    if region is None:
        return whole, whole, None
    inside = region.coverage((change.shape[0], change.shape[1])).to(change)
    rest = 1.0 - inside
    outside = float((change * rest).sum() / rest.sum()) if bool(rest.any()) else None
    return float((change * inside).sum() / inside.sum()), whole, outside
