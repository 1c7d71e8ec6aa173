"""One layer's maps, as Seg4Diff takes those of the layer that binds words to places."""

from __future__ import annotations

from diffusers_rdaam.attribution.aggregations.aggregation import Aggregation
from diffusers_rdaam.attribution.aggregations.mean import word_mean
from diffusers_rdaam.attribution.choosing import Names, Numbers
from diffusers_rdaam.attribution.prompt import Match
from diffusers_rdaam.attribution.record import Record
from diffusers_rdaam.attribution.select import select, site_names
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.shapes import Column, Size

# The tenth joint block, whose index is 9: of Stable Diffusion 3 medium, and of no other checkpoint.
SD3_LAYER = "transformer_blocks.9"


def expert_layer(
    record: Record,
    match: Match,
    size: Size,
    *,
    layer: Names = SD3_LAYER,
    steps: Numbers | None = None,
) -> Column:
    """The mean over the word's tokens and the heads of one layer's maps.

    Args:
        record, match, size: see :class:`Aggregation`.
        layer: its name, or several; the default is of Stable Diffusion 3 medium.
        steps: the denoiser calls, where steps were kept; the paper takes one of an early step.

    Raises:
        InputError: there is no such layer.
    """
    names = site_names(record)
    if layer == SD3_LAYER and not any(name.startswith(f"{SD3_LAYER}.") for name in names):
        raise InputError(
            f"The expert layer {SD3_LAYER!r} is one of Stable Diffusion 3 medium, and this "
            "denoiser does not have it. Which layer binds words to places was measured for one "
            "checkpoint at a time: give it as layer=…."
        )
    part = select(record, layers=layer, steps=steps)
    return word_mean(part, match, size) / len(match.columns)


EXPERT_LAYER = Aggregation(
    name="expert_layer",
    formula="mean over the word's tokens and the heads of P of one layer",
    maps=expert_layer,
    needs=("layers",),
    memory="as many maps as layers: 8.3 MB for Stable Diffusion 1.5 at 512x512",
    reference=(
        "Kim et al., Seg4Diff (2025); its layer numbers each belong to one checkpoint, and the "
        "default to Stable Diffusion 3 medium"
    ),
    measured=(
        "phrase / colour / shape IoU at a threshold chosen on other scenes. Embedded Stable "
        "Diffusion (80 scenes): .754 / .812 / .194, the mean .682 / .720 / .606. Embedded FLUX "
        "(78 scenes): .717 / .718 / .251, the mean .726 / .716 / .559. One layer each, the last "
        "and a single-stream block: no layer shows every kind of word"
    ),
    sums_to="nothing: a word of several tokens has their mean",
)
