"""AttendsToItself: what an attribution can do where its run kept the image's self-attention."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from PIL import Image

from diffusers_rdaam.attribution.self_attention.refinement import (
    DEFAULT_REFINEMENT,
    Refinement,
    refine_attribution,
)
from diffusers_rdaam.attribution.self_attention.self_attention import SelfAttention
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.errors import NoAttributionError

if TYPE_CHECKING:
    from diffusers_rdaam.attribution.attribution import Attribution


class AttendsToItself:
    """Mixed into :class:`Attribution`, whose fields these are."""

    self_grids: tuple[SelfGrid, ...]
    image_size: tuple[int, int]
    image: Image.Image | None

    @cached_property
    def self_attention(self) -> SelfAttention:
        """Which regions attend to which: ``self_attention.box(…)``, ``.diffused()``.

        Raises:
            NoAttributionError: the run did not keep it.
        """
        if not self.self_grids:
            raise NoAttributionError(
                "This run did not keep its self-attention. Record with "
                "RDAAMProcessor(self_attention=True)."
            )
        return SelfAttention(self.self_grids, self.image_size, self.image)

    def refined(self, method: Refinement = DEFAULT_REFINEMENT) -> Attribution:
        """The same attribution with the maps of all columns corrected by self-attention.

        On one grid, that of the self-attention; columns still sum to 1. The negative prompt stays.

        Args:
            method: as in :meth:`HeatMap.refined`.

        Raises:
            NoAttributionError: the run did not keep its self-attention.
            InputError: there is no such method.
        """
        return refine_attribution(self, method)  # type: ignore[arg-type]  # it is one
