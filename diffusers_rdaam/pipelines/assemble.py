"""From what was recorded to attributions: the maps of each image, its words, itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.left_out import EVERY_PART, OF_THE_PROMPT_ONLY, SELF_ATTENTION
from diffusers_rdaam.attribution.prompt import Prompt, Word, encoders_of, labelled
from diffusers_rdaam.attribution.record import RunInfo
from diffusers_rdaam.errors import PromptTruncatedWarning
from diffusers_rdaam.geometry.region import Mask
from diffusers_rdaam.recording.announce import warn
from diffusers_rdaam.recording.image_record import ImageRecord


@dataclass(frozen=True, eq=False)
class ImageContext:
    """What the maps of an image do not say about it.

    Args:
        prompt: whose columns the maps have.
        size: height and width of the image in pixels.
        run: the facts of the run that the attribution carries.
        negative_prompt: whose columns the negative maps have; needed where these were recorded.
        picture: the image, where it was decoded.
        mask: the region that was painted anew, where there was one.
    """

    prompt: Prompt
    size: tuple[int, int]
    run: RunInfo
    negative_prompt: Prompt | None = None
    picture: Image.Image | None = None
    mask: Mask | None = None


def assemble(records: Sequence[ImageRecord], contexts: Sequence[ImageContext]) -> list[Attribution]:
    """One attribution an image, from what was recorded of it and what else is known of it."""
    for prompt in dict.fromkeys(context.prompt for context in contexts):
        _warn_of_lost_words(prompt)
    return [
        _attribution(record, context) for record, context in zip(records, contexts, strict=True)
    ]


def _attribution(record: ImageRecord, context: ImageContext) -> Attribution:
    return Attribution(
        prompt=context.prompt,
        grids=record.text.grids,
        image_size=context.size,
        image=context.picture,
        run=context.run,
        kept=record.text.kept,
        negative_attribution=_negative(record, context),
        mask=context.mask,
        queries=record.queries,
        vocabulary={
            entry.prompt.text or "": Attribution(
                prompt=entry.prompt,
                grids=entry.grids,
                image_size=context.size,
                image=context.picture,
                run=context.run | (entry.facts or {}),
                kept=entry.kept,
                left_out=dict.fromkeys(EVERY_PART, OF_THE_PROMPT_ONLY),
            )
            for entry in record.vocabulary
        },
        self_grids=record.self_grids,
    )


def _negative(record: ImageRecord, context: ImageContext) -> Attribution | None:
    """The attribution of the negative prompt; None where its maps were not recorded."""
    if record.negative is None:
        return None
    assert context.negative_prompt is not None
    return Attribution(
        prompt=context.negative_prompt,
        grids=record.negative.grids,
        image_size=context.size,
        run=context.run,
        kept=record.negative.kept,
        queries=record.negative_queries,
        left_out={SELF_ATTENTION: OF_THE_PROMPT_ONLY},
    )


def _warn_of_lost_words(prompt: Prompt) -> None:
    lost, partly = prompt.lost_words, prompt.partly_seen_words
    if not lost and not partly:
        return
    # A pipeline cuts its template off by a number of tokens, which may be one too many.
    first = min((word.start for word in prompt.words if word.columns), default=0)
    is_cut_in_front = bool(lost) and all(word.start < first for word in lost)
    parts = [f"The prompt is longer than the text encoder's {len(prompt.tokens)} tokens;"]
    if is_cut_in_front:
        parts = ["No token of the prompt's beginning was kept;"]
    if lost:
        names = ", ".join(map(_named, lost[:20])) + (", …" if len(lost) > 20 else "")
        seen = "have no heat map" if is_cut_in_front else "were not seen and have no heat map"
        parts.append(f"these words {seen}: {names}.")
    if is_cut_in_front:
        parts.append("Begin the prompt with other words.")
    if partly:
        names = ", ".join(labelled(repr(word.text), encoders_of([word])) for word in partly)
        parts.append(
            f"{'O' if lost else 'o'}f {names} only a part was seen, and the heat map is that "
            "part's. Shorten the prompt or move the word forward."
        )
    warn(" ".join(parts), PromptTruncatedWarning)


def _named(word: Word) -> str:
    return labelled(word.text, encoders_of([word]))
