"""RankedWords: the words of a region by an explanation that generates the image again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.attribution.ranked_words import RankedSequence
from diffusers_rdaam.geometry.region import Region


@dataclass(frozen=True, eq=False, repr=False)
class RankedWords(RankedSequence[Any]):
    """Words of a region, best first; subclasses say by what.

    One sequence, see :class:`RankedSequence` for its keys.

    Args:
        prompt: whose words they are.
        region: what was asked; None for the whole image.
        image: that was explained.
    """

    prompt: Prompt = field(repr=False)
    region: Region | None
    image: Image.Image = field(repr=False)
