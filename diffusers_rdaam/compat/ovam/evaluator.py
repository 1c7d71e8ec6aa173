"""OVAM's callable: maps of any text or embedding over images whose queries were kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from diffusers_rdaam.attribution.queries import Queries
from diffusers_rdaam.compat.ovam.utils import expand_as
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.open_vocabulary.attribute_text import maps_of
from diffusers_rdaam.open_vocabulary.encode import encoded, encoded_as_constant
from diffusers_rdaam.open_vocabulary.recipe import (
    Activation,
    Aggregation,
    MapRecipe,
    activate,
    aggregate,
)

# Theirs by the names of a recipe.
_NAMES = {"token_softmax": "softmax", None: "linear"}


class StableDiffusionDAAM(nn.Module):
    """Maps of a text, or of an embedding, over the images of a run.

    Made by ``hooker.get_ovam_callable()``. It has no parameters: the model's weights get no
    gradients, an embedding that requires one does.

    Args:
        pipeline: of the run.
        queries: of each image.
        recipe: how logits become maps.
        expand_size: height and width of the maps; the largest grid's if None.
        clip_skip: with which the run has encoded its prompt.
    """

    def __init__(
        self,
        pipeline: Any,
        queries: Sequence[Queries],
        recipe: MapRecipe,
        expand_size: tuple[int, int] | None = None,
        clip_skip: int | None = None,
    ) -> None:
        super().__init__()
        self.expand_size = None if expand_size is None else (expand_size[0], expand_size[1])
        self.recipe = recipe
        self._pipe = pipeline
        self._queries = tuple(queries)
        self._clip_skip = clip_skip

    def forward(self, x: str | Tensor, remove_special_tokens: bool = False) -> Tensor:
        """The maps, ``(images, tokens, height, width)``.

        Args:
            x: a text, whose start and end tokens are the first and the last; or an embedding
                ``(tokens, width)``.
            remove_special_tokens: leave start and end out of a text: they do not compete then.

        Raises:
            InputError: the text or embedding does not fit the model.
        """
        if isinstance(x, str):
            x = self.encode_text(x, remove_special_tokens=remove_special_tokens)
        embedding = x[0] if x.ndim == 3 and x.shape[0] == 1 else x
        text = encoded(self._pipe, embedding)
        maps = [
            maps_of(self._pipe, queries, text, self.recipe, self.expand_size)
            for queries in self._queries
        ]
        return torch.stack(maps)

    def encode_text(
        self,
        text: str,
        context_sentence: str | None = None,
        remove_special_tokens: bool = True,
        padding: bool = False,
    ) -> Tensor:
        """The embedding of a text, ``(tokens, width)``.

        Args:
            text: a word, phrase or sentence.
            context_sentence: a sentence with the text in it, as whose part it is encoded.
            remove_special_tokens: leave start and end out.
            padding: have the padding, too; not with ``context_sentence``.

        Raises:
            InputError: the text is empty or too long, or both options were given.
            WordError: the sentence does not have the text.
        """
        if padding and (context_sentence is not None or remove_special_tokens):
            raise InputError(
                "padding=True goes with remove_special_tokens=False and no context_sentence=: "
                "padding is end tokens."
            )
        found = encoded_as_constant(
            self._pipe,
            text,
            context=context_sentence,
            padding=padding,
            clip_skip=self._clip_skip,
        )
        return found.embedding[1:-1] if remove_special_tokens else found.embedding

    def expand_as(
        self,
        image: Image.Image | np.ndarray,
        heatmap: Tensor,
        absolute: bool = False,
        threshold: float | None = None,
        interpolation_mode: str = "bilinear",
    ) -> Tensor:
        """:func:`diffusers_rdaam.compat.ovam.expand_as`."""
        return expand_as(image, heatmap, absolute, threshold, interpolation_mode)


def recipe_of(stages: dict[str, Any]) -> MapRecipe:
    """The recipe of ``get_ovam_callable``'s arguments.

    Raises:
        InputError: one is unknown.
    """
    names = {
        "heads_epochs_activation": "activation",
        "heads_epochs_aggregation": "over_calls",
        "heads_activation": "head_activation",
        "heads_aggregation": "over_heads",
        "block_interpolation_mode": "interpolation",
        "blocks_activation": None,
        "heatmaps_aggregation": "over_sites",
        "heatmaps_activation": "map_activation",
        "expand_interpolation_mode": "enlargement",
    }
    unknown = sorted(set(stages) - set(names))
    if unknown:
        raise InputError(
            f"{', '.join(unknown)} is not a stage of these maps. There are {', '.join(names)}."
        )
    given = {ours: _named(stages[theirs]) for theirs, ours in names.items() if ours is not None}
    blocks = _named(stages["blocks_activation"])
    # Its name is checked where the others are.
    recipe = MapRecipe(**(given | {"map_activation": blocks}))
    if blocks != "linear":
        given["over_heads"] = _then(recipe.over_heads, blocks)
    return MapRecipe(**given)


def _named(stage: Any) -> Any:
    return _NAMES.get(stage, stage) if stage is None or isinstance(stage, str) else stage


def _then(aggregation: Aggregation, activation: Activation) -> Any:
    """A site's map after its heads are one."""
    return lambda values: activate(activation, aggregate(aggregation, values))
