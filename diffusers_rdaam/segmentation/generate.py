"""Prompts become images with masks, one at a time, each written before the next is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from diffusers_rdaam.argument_checks import check_choice, check_count
from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.geometry.dense_crf import DenseCRF
from diffusers_rdaam.open_vocabulary.optimized_token import OptimizedToken
from diffusers_rdaam.segmentation.classes import ObjectClass
from diffusers_rdaam.segmentation.folder import SegmentationFolder, check_id
from diffusers_rdaam.segmentation.label_map import Segmentation, check_background, check_margin
from diffusers_rdaam.segmentation.sample import SampleFacts, is_safe_image
from diffusers_rdaam.segmentation.segment import Refine, segment
from diffusers_rdaam.segmentation.tokens import token_heat_maps

TEMPLATE = "a photo of a {}"


@dataclass(frozen=True)
class PromptRow:
    """An image to make.

    Raises:
        InputError: the id is not a plain name.
    """

    id: str
    prompt: str
    seed: int

    def __post_init__(self) -> None:
        check_id(self.id)


@dataclass(frozen=True)
class MaskOptions:
    """How masks are made of a run; the fields are those of :func:`segment`.

    Args:
        refine, background, crf: as there.
        margin: where the best class is by less the more probable than the next, the mask is 255.
        tokens: optimised tokens, by class, in place of words.
        clip: ranks the image for each class: ``clip(image, name)`` from 0 to 1.

    Raises:
        InputError: there is no such refinement, or a number is out of range.
    """

    refine: Refine = "guided"
    background: float | None = None
    crf: DenseCRF | None = None
    margin: float = 0.0
    tokens: Mapping[str, OptimizedToken] = field(default_factory=dict)
    clip: Callable[[Any, str], float] | None = None

    def __post_init__(self) -> None:
        check_choice(self.refine, Refine, "a refinement")
        # Here, and not with the first mask: an image was made by then, and the folder begun.
        check_margin(self.margin)
        if self.background is not None:
            check_background(self.background)


def class_prompts(
    classes: Sequence[ObjectClass],
    *,
    count: int = 1,
    seed: int = 0,
    template: str = TEMPLATE,
) -> list[PromptRow]:
    """Prompts of a template, ``count`` for each class, with seeds from ``seed`` on.

    The words of a class fill the template by turns. OVAM's template is "A photograph of a {}".

    Raises:
        InputError: the template has not one place ``{}``, or the count is not over 0.
    """
    number = check_count(count, "count=")
    if template.count("{}") != 1:
        raise InputError(f"A template has one place for the class, '{{}}'; got {template[:80]!r}.")
    rows: list[PromptRow] = []
    for turn in range(number):
        for one in classes:
            text = one.words[turn % len(one.words)]
            place = len(rows)
            rows.append(PromptRow(f"{place:06d}", template.replace("{}", text), seed + place))
    return rows


def check_rows(rows: Iterable[PromptRow], classes: Sequence[ObjectClass]) -> list[PromptRow]:
    """The rows, each of which names at least one class.

    Raises:
        InputError: one does not, an id is there twice, or there is no row.
    """
    listed = list(rows)
    ids = [row.id for row in listed]
    if not listed:
        raise InputError("There is no prompt. Give a file with one a line, or a count a class.")
    if len(set(ids)) != len(ids):
        twice = next(id for id in ids if ids.count(id) > 1)
        raise InputError(f"The id {twice!r} occurs twice. Give every image one of its own.")
    without = [row for row in listed if not any(one.spans(row.prompt) for one in classes)]
    if without:
        names = ", ".join(one.name for one in classes[:10]) + (", …" if len(classes) > 10 else "")
        raise InputError(
            f"{len(without)} of {len(listed)} prompts name none of the classes ({names}); the "
            f"first is {without[0].id!r}: {without[0].prompt[:120]!r}. Remove them, or give the "
            "classes the words that the prompts have."
        )
    return listed


def processor_for(options: MaskOptions) -> RDAAMProcessor:
    """The recording that masks of these options need."""
    return RDAAMProcessor(self_attention="self" in options.refine.split("+"))


def generate_samples(
    pipe: Any,
    rows: Iterable[PromptRow],
    classes: Sequence[ObjectClass],
    options: MaskOptions,
    **call: Any,
) -> Iterator[tuple[SampleFacts, Segmentation]]:
    """Each image's facts and label map, in the order of the rows.

    Args:
        pipe: a pipeline of this package; its options are replaced by what the masks need.
        rows: prompts with seeds; an image depends on its row alone.
        classes: of the label maps.
        options: how masks are made.
        call: further arguments of the pipeline's call.

    Raises:
        InputError, NoAttributionError, CRFExtraError: as :func:`segment`.
    """
    pipe.set_attn_processor(processor_for(options))
    for row in rows:
        tokens = {
            one.name: options.tokens[one.name]
            for one in classes
            if one.name in options.tokens and one.spans(row.prompt)
        }
        given = {"attribution_vocabulary": list(tokens.values())} if tokens else {}
        generator = torch.Generator("cpu").manual_seed(row.seed)
        output = pipe(row.prompt, generator=generator, **given, **call)
        yield _sample(row, output, classes, options, tokens)


def _sample(
    row: PromptRow,
    output: Any,
    classes: Sequence[ObjectClass],
    options: MaskOptions,
    tokens: Mapping[str, OptimizedToken],
) -> tuple[SampleFacts, Segmentation]:
    attribution: Attribution = output.attribution
    segmentation = segment(
        attribution,
        classes,
        refine=options.refine,
        background=options.background,
        crf=options.crf,
        tokens=token_heat_maps(attribution, tokens),
    )
    if options.margin:
        segmentation = segmentation.with_ignored(options.margin)
    image = output.images[0]
    flagged = getattr(output, "nsfw_content_detected", None)
    clip = {} if options.clip is None else {n: options.clip(image, n) for n in segmentation.areas}
    facts = SampleFacts(
        row.id,
        row.prompt,
        row.seed,
        segmentation.areas,
        is_safe_image(image, flagged[0] if flagged else None),
        clip,
    )
    return facts, segmentation


def fill(
    folder: SegmentationFolder,
    pipe: Any,
    rows: Iterable[PromptRow],
    options: MaskOptions,
    *,
    progress: Callable[[SampleFacts], Any] | None = None,
    **call: Any,
) -> list[SampleFacts]:
    """Make the images that a folder does not have yet; the facts of all rows, in their order.

    Raises:
        InputError: a row is in the folder with another prompt or seed; as
            :func:`generate_samples`.
    """
    listed = check_rows(rows, folder.classes)
    there = {facts.id: facts for facts in folder.samples()}
    for row in listed:
        before = there.get(row.id)
        if before is not None and (before.prompt, before.seed) != (row.prompt, row.seed):
            raise InputError(
                f"{folder.path} has {row.id!r} already, from {before.prompt[:80]!r} with seed "
                f"{before.seed}, not {row.prompt[:80]!r} with {row.seed}. Give the same prompts to "
                "go on, or another folder."
            )
    missing = [row for row in listed if row.id not in there]
    for facts, segmentation in generate_samples(pipe, missing, folder.classes, options, **call):
        folder.add(facts, segmentation)
        there[facts.id] = facts
        if progress is not None:
            progress(facts)
    return [there[row.id] for row in listed]
