"""segment: the label map of an attribution's classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch

from diffusers_rdaam.argument_checks import check_choice
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.heat_map import HeatMap
from diffusers_rdaam.errors import WordError
from diffusers_rdaam.geometry.dense_crf import DenseCRF
from diffusers_rdaam.segmentation.classes import ClassesLike, ObjectClass, object_classes
from diffusers_rdaam.segmentation.label_map import Segmentation, label_map

Refine = Literal["none", "guided", "self", "self+guided"]


def segment(
    attribution: Attribution,
    classes: ClassesLike,
    *,
    refine: Refine = "none",
    background: float | None = None,
    crf: DenseCRF | None = None,
    tokens: Mapping[str, HeatMap] | None = None,
    aggregation: Any = "mean",
) -> Segmentation:
    """A class for each pixel of an image, from the words of its prompt.

    Args:
        attribution: of the image.
        classes: as in :func:`object_classes`: those that the prompt names are looked for.
        refine: what is done to each class's map first: ``"self"`` corrects it by self-attention,
            where the run kept it; ``"guided"`` takes the image's edges by a guided filter;
            ``"self+guided"`` does both.
        background, crf: as in :func:`label_map`.
        tokens: heat maps of optimised tokens, by class, in place of those of words.
        aggregation: of the words' maps, as in ``attribution.word``.

    Raises:
        InputError: an argument is wrong.
        WordError: the prompt names none of the classes.
        NoAttributionError: ``refine`` or the aggregation needs what the run did not keep.
        CRFExtraError: a CRF was given, and pydensecrf is not installed.
    """
    known = object_classes(classes)
    check_choice(refine, Refine, "a refinement")
    given = dict(tokens or {})
    maps = {}
    for one in known:
        spans = one.spans(attribution.prompt.text or "")
        found = [given[one.name]] if one.name in given else []
        found = found or [attribution.word(span, aggregation=aggregation) for span in spans]
        if found:
            maps[one.name] = _together([_refined(heat_map, refine) for heat_map in found], one)
    if not maps:
        raise WordError(_nothing(attribution, known))
    names = [one.name for one in known]
    return label_map(maps, names=names, background=background, crf=crf, image=attribution.image)


def _nothing(attribution: Attribution, known: tuple[ObjectClass, ...]) -> str:
    text = attribution.prompt.text
    if text is None:
        return (
            "This image was made from prompt_embeds, so its words are not known. Pass "
            "attribution_prompt='…' to the pipeline."
        )
    names = ", ".join(one.name for one in known[:20]) + (", …" if len(known) > 20 else "")
    return (
        f"The prompt {text[:200]!r} names none of the classes: {names}. Give a class with the "
        "words that the prompt has for it: {'motorbike': ['motorcycle']}."
    )


def _together(maps: list[HeatMap], one: ObjectClass) -> HeatMap:
    """The map of a class: at each pixel the highest of its phrases, each stretched to 0 to 1."""
    if len(maps) == 1:
        return maps[0]
    highest = torch.stack([heat_map.normalized for heat_map in maps]).max(dim=0).values
    spans = tuple(span for heat_map in maps for span in heat_map.spans)
    # No attribution: the values are not those of its columns.
    return replace(
        maps[0], values=highest, text=one.name, spans=spans, columns=(), attribution=None
    )


def _refined(heat_map: HeatMap, refine: Refine) -> HeatMap:
    if "self" in refine.split("+"):
        heat_map = heat_map.refined()
    return heat_map.sharpened() if "guided" in refine.split("+") else heat_map
