"""From what was recorded to attributions: the maps of each image, its words, itself."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.prompt import Prompt, Word, encoders_of, labelled
from diffusers_rdaam.attribution.queries import Queries
from diffusers_rdaam.attribution.record import RunInfo
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.errors import PromptTruncatedWarning
from diffusers_rdaam.geometry.region import Mask
from diffusers_rdaam.recording.announce import warn
from diffusers_rdaam.recording.buffers.step_accumulators import ImageMaps
from diffusers_rdaam.recording.records.vocabulary import VocabularyEntry


def assemble(
    maps: Sequence[ImageMaps],
    prompts: Sequence[Prompt],
    size: tuple[int, int],
    *,
    runs: Sequence[RunInfo],
    pictures: Sequence[Image.Image] | None = None,
    negative: Sequence[ImageMaps] | None = None,
    negative_prompts: Sequence[Prompt] = (),
    masks: Sequence[Mask | None] | None = None,
    queries: Sequence[Queries] | None = None,
    negative_queries: Sequence[Queries] | None = None,
    vocabulary: Sequence[Sequence[VocabularyEntry]] | None = None,
    own: Sequence[tuple[SelfGrid, ...]] | None = None,
) -> list[Attribution]:
    """One attribution an image.

    Args:
        maps, prompts, runs, pictures, masks: of each image.
        size: height and width of the images in pixels.
        negative, negative_prompts: of the negative prompt, where it was kept.
        queries, negative_queries: of each image, where they were kept.
        vocabulary: of each image, what was recorded of every text of it.
        own: each image's self-attention, where it was kept.
    """
    for prompt in dict.fromkeys(prompts):
        _warn_of_lost_words(prompt)
    against: list[Attribution | None] = [None] * len(maps)
    if negative is not None:
        against = [
            Attribution(
                prompt=negative_prompts[index],
                grids=part.grids,
                image_size=size,
                run=runs[index],
                kept=part.kept,
                queries=None if negative_queries is None else negative_queries[index],
            )
            for index, part in enumerate(negative)
        ]
    return [
        Attribution(
            prompt=prompts[index],
            grids=part.grids,
            image_size=size,
            image=None if pictures is None else pictures[index],
            run=runs[index],
            kept=part.kept,
            negative_attribution=against[index],
            mask=None if masks is None else masks[index],
            queries=None if queries is None else queries[index],
            vocabulary={
                entry.prompt.text or "": Attribution(
                    prompt=entry.prompt,
                    grids=entry.grids,
                    image_size=size,
                    image=None if pictures is None else pictures[index],
                    run=runs[index],
                )
                for entry in (() if vocabulary is None else vocabulary[index])
            },
            self_grids=() if own is None else own[index],
        )
        for index, part in enumerate(maps)
    ]


def _warn_of_lost_words(prompt: Prompt) -> None:
    lost, partly = prompt.lost_words, prompt.partly_seen_words
    if not lost and not partly:
        return
    parts = [f"The prompt is longer than the text encoder's {len(prompt.tokens)} tokens;"]
    if lost:
        names = ", ".join(map(_named, lost[:20])) + (", …" if len(lost) > 20 else "")
        parts.append(f"these words were not seen and have no heat map: {names}.")
    if partly:
        names = ", ".join(labelled(repr(word.text), encoders_of([word])) for word in partly)
        parts.append(
            f"{'O' if lost else 'o'}f {names} only a part was seen, and the heat map is that "
            "part's. Shorten the prompt or move the word forward."
        )
    warn(" ".join(parts), PromptTruncatedWarning)


def _named(word: Word) -> str:
    return labelled(word.text, encoders_of([word]))
