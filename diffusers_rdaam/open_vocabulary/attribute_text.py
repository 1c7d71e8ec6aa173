"""Maps of any text over an image that was made from another, from the run's queries.

The keys of the new text are projected and meet the stored queries: no step is denoised again. The
softmax is over the text's own tokens (its start and end among them), as in OVAM (Marcos-Manchon et
al., 2024, *Open-Vocabulary Attention Maps with Token Optimization*).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.attention.unet_projection import split
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.left_out import (
    EVERY_PART,
    NOT_KEPT,
    OF_THE_PROMPT_ONLY,
    QUERIES,
    QUERIES_OF_A_FRAME,
)
from diffusers_rdaam.attribution.queries import Queries
from diffusers_rdaam.attribution.site_queries import SiteQueries
from diffusers_rdaam.attribution.video import VideoAttribution
from diffusers_rdaam.errors import InputError, NoAttributionError, UnsupportedPipelineError
from diffusers_rdaam.families import family_of, family_of_module
from diffusers_rdaam.families.call_keywords import known_keywords
from diffusers_rdaam.float32_products import multiply
from diffusers_rdaam.open_vocabulary.concepts import has_concepts
from diffusers_rdaam.open_vocabulary.encode import TextLike, encoded, encoded_as_constant
from diffusers_rdaam.open_vocabulary.recipe import (
    Activation,
    Aggregation,
    MapRecipe,
    activate,
    aggregate,
    resized,
)
from diffusers_rdaam.recording.records.vocabulary import (
    EncodedText,
    check_width,
    key_of,
    text_projection,
)
from diffusers_rdaam.shapes import Size

# Where other texts have another remedy than aggregations, or none is named.
_REMEDIES = {
    NOT_KEPT: 'Record with pipe.set_attn_processor(RDAAMProcessor(keep="queries")) and generate '
    "again, or name the texts before the run with pipe(…, attribution_vocabulary=[…]).",
    OF_THE_PROMPT_ONLY: "Ask the attribution of the prompt.",
    QUERIES_OF_A_FRAME: "Take a word of the prompt, or generate again with the text in the prompt.",
}


@known_keywords
@torch.no_grad()
def attribute_text(
    pipe: Any,
    attribution: Attribution,
    text: TextLike,
    *,
    context: str | None = None,
    padding: bool = False,
    activation: Activation = "softmax",
    aggregation: Aggregation = "mean",
) -> Attribution:
    """The attribution of any text over an image whose run kept its queries.

    ``attribute_text(pipe, output.attribution, "a monkey with a hat")["monkey"].overlay()``, or
    ``pipe.query(…)``. The columns are the text's tokens, start and end included, and at every pixel
    they sum to 1.

    Args:
        pipe: the pipeline of the run, with the same weights; or its UNet, for embeddings.
        attribution: of the image; ``attribution.negative`` for the queries of its unconditional
            rows.
        text: a text, an embedding ``(tokens, width)`` of the denoiser, or an optimised token.
        context: a sentence with the text in it, as which its tokens are encoded.
        padding: whether padding competes too, as in a prompt's own attribution.
        activation: of the logits, see :class:`MapRecipe`; with another than ``"softmax"`` columns
            do not sum to 1.
        aggregation: over calls, then over heads.

    Raises:
        NoAttributionError: the run did not keep its queries.
        InputError: the text or embedding does not fit, or the pipeline is another one.
    """
    recipe = MapRecipe(activation=activation, over_calls=aggregation, over_heads=aggregation)
    check_other_texts(pipe)
    queries = queries_of(attribution)
    asked = encoded(
        pipe, text, context=context, padding=padding, clip_skip=clip_skip_of(attribution)
    )
    sums: dict[Size, Tensor] = {}
    for stored, maps in _site_maps(pipe, queries, asked.embedding, recipe):
        part = maps * len(stored.calls)
        sums[stored.size] = sums[stored.size] + part if stored.size in sums else part
    grids = []
    for size in queries.sizes:
        sites = [stored for stored in queries.sites if stored.size == size]
        additions = sum(len(stored.calls) for stored in sites)
        maps = (sums[size] / additions).cpu()
        _check_finite(maps)
        grids.append(Grid(maps, additions, tuple(stored.site for stored in sites)))
    return Attribution(
        asked.prompt,
        tuple(grids),
        attribution.image_size,
        attribution.image,
        attribution.run | {"query": asked.prompt.text},
        left_out=dict.fromkeys(EVERY_PART, OF_THE_PROMPT_ONLY),
    )


@known_keywords
def text_maps(
    pipe: Any,
    attribution: Attribution,
    text: TextLike,
    *,
    context: str | None = None,
    padding: bool = False,
    recipe: MapRecipe | None = None,
    size: Size | None = None,
) -> Tensor:
    """Each token's map as a tensor, with every stage of one's choice.

    Differentiable in an embedding that requires a gradient, and in nothing else.

    Args:
        pipe, attribution, text, context, padding: as of :func:`attribute_text`.
        recipe: the stages; the defaults are those of :func:`attribute_text`.
        size: height and width; the largest grid's if not given.

    Returns:
        ``(tokens, height, width)`` float32 on the denoiser's device.

    Raises:
        NoAttributionError, InputError: as :func:`attribute_text`.
    """
    check_other_texts(pipe)
    recipe = recipe or MapRecipe()
    queries = queries_of(attribution)
    asked = encoded_as_constant(
        pipe, text, context=context, padding=padding, clip_skip=clip_skip_of(attribution)
    )
    return maps_of(pipe, queries, asked, recipe, size)


def maps_of(
    pipe: Any, queries: Queries, text: EncodedText, recipe: MapRecipe, size: Size | None = None
) -> Tensor:
    """Each token's map of an encoded text, as :func:`text_maps`."""
    make = _maps_of if text.embedding.requires_grad else torch.no_grad()(_maps_of)
    return make(pipe, queries, text.embedding, recipe, size)


def _maps_of(
    pipe: Any, queries: Queries, embedding: Tensor, recipe: MapRecipe, size: Size | None
) -> Tensor:
    largest = queries.sizes[0]
    sites = [
        resized(maps, largest, recipe.interpolation)
        for _, maps in _site_maps(pipe, queries, embedding, recipe)
    ]
    maps = activate(recipe.map_activation, aggregate(recipe.over_sites, torch.stack(sites)))
    return maps if size is None else resized(maps, size, recipe.enlargement)


def check_other_texts(pipe: Any) -> None:
    """Refuse a pipeline whose keys of another text cannot be projected.

    Raises:
        UnsupportedPipelineError: its family has none; the text has the reason.
    """
    try:
        why = family_of(pipe).no_other_texts
    except UnsupportedPipelineError:
        why = family_of_module(pipe).no_other_texts
    if why:
        cure = (
            "Name the texts before the run, with pipe(…, attribution_vocabulary=[…])."
            if has_concepts(pipe)
            else "The prompt's own words have maps; put the word into the prompt and generate "
            "again. FLUX.1, FLUX.2, Stable Diffusion 3 and Qwen-Image take other texts before the "
            "run, with attribution_vocabulary=[…]."
        )
        raise UnsupportedPipelineError(
            f"Maps of another text cannot be computed for {type(pipe).__name__}: {why}. {cure}"
        )


def queries_of(attribution: Attribution) -> Queries:
    """The queries that the run kept.

    Raises:
        NoAttributionError: there are none; the text says why, and how to come by them.
        InputError: it is not the attribution of an image.
    """
    if not isinstance(attribution, Attribution):
        frame = (
            " Ask about one frame: video[7]." if isinstance(attribution, VideoAttribution) else ""
        )
        raise InputError(
            "Other texts are asked about the Attribution of one image, such as output.attribution; "
            f"got {type(attribution).__name__}.{frame}"
        )
    if attribution.queries is None:
        absence = attribution.left_out.get(QUERIES, NOT_KEPT)
        raise NoAttributionError(
            f"Asking about another text needs the image's queries, which {absence.why}. "
            f"{_REMEDIES.get(absence) or absence.remedy}"
        )
    return attribution.queries


def clip_skip_of(attribution: Attribution) -> int | None:
    """The ``clip_skip`` with which the run has encoded its prompt."""
    value = attribution.run.get("clip_skip")
    return value if isinstance(value, int) else None


def _site_maps(
    pipe: Any, queries: Queries, embedding: Tensor, recipe: MapRecipe
) -> Iterator[tuple[SiteQueries, Tensor]]:
    """Each site's ``(tokens, height, width)`` float32."""
    family = family_of_module(pipe) if isinstance(pipe, nn.Module) else family_of(pipe)
    denoiser: Any = family.denoiser(pipe)
    device = getattr(pipe, "_execution_device", denoiser.device)
    sites = {site.name: site for site in family.sites(denoiser)}
    embedding = embedding.to(device)
    for stored in queries.sites:
        site = sites.get(stored.site)
        if site is None or site.heads != stored.heads:
            raise InputError(
                f"{type(denoiser).__name__} has no {stored.site} with {stored.heads} heads, of "
                "which the queries are. Ask the pipeline that made the image."
            )
        # A denoiser may be spread over several devices, and the sites' maps come together.
        key = _key(denoiser, site, embedding).to(embedding.device)
        if key.shape[-1] != stored.dim:
            raise InputError(
                f"{stored.site} has keys of width {key.shape[-1]}, the queries are of width "
                f"{stored.dim}. Ask the pipeline that made the image."
            )
        yield stored, site_map(stored, key.float(), recipe)


def _key(denoiser: Any, site: Site, embedding: Tensor) -> Tensor:
    """``(heads, tokens, dim)``."""
    if not torch.is_grad_enabled():
        return key_of(denoiser, site, embedding)[0]
    check_width(denoiser, site, embedding)
    module: Any = site.module
    if module.norm_k is not None or module.norm_cross:
        return key_of(denoiser, site, embedding)[0]
    # Not by way of the modules: keys of a model in half precision have gradients that half cannot
    # hold, and its weights are to get none.
    states = embedding.float()
    for linear in (text_projection(denoiser), module.to_k):
        if linear is not None:
            with torch.no_grad():
                matrix, bias = _matrix(linear, denoiser.dtype, embedding.device)
            states = multiply(states, matrix) + bias
    return split(module, states.unsqueeze(0))[0]


def _matrix(linear: Any, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """What a projection does, adapters included, as a float32 matrix and what it adds."""
    if type(linear) is nn.Linear and linear.weight.device == device and linear.bias is None:
        return linear.weight.detach().float().T, torch.zeros((), dtype=torch.float32, device=device)
    width = linear.in_features
    bias = linear(torch.zeros(1, width, dtype=dtype, device=device)).float()
    rows = linear(torch.eye(width, dtype=dtype, device=device)).float()
    return rows - bias, bias


def site_map(stored: SiteQueries, key: Tensor, recipe: MapRecipe) -> Tensor:
    """One site's ``(tokens, height, width)`` from keys ``(heads, tokens, dim)``."""
    if recipe.streams:
        total: Any = 0
        for index in range(len(stored.calls)):
            total = total + _again(_activated, stored, slice(index, index + 1), key, recipe)[0]
        by_head = total / len(stored.calls) if recipe.over_calls == "mean" else total
    else:
        by_head = aggregate(recipe.over_calls, _again(_activated, stored, slice(None), key, recipe))
    return aggregate(recipe.over_heads, activate(recipe.head_activation, by_head))


def _again(function: Any, *arguments: Any) -> Tensor:
    """Computed again on the way back: the logits of all calls and sites would fill the memory."""
    if torch.is_grad_enabled():
        return checkpoint(function, *arguments, use_reentrant=False)
    return function(*arguments)


def _activated(stored: SiteQueries, calls: slice, key: Tensor, recipe: MapRecipe) -> Tensor:
    """``(calls, heads, tokens, height, width)`` of some calls."""
    parts = [stored.read(index) for index in range(len(stored.calls))[calls]]
    query = torch.stack([part.to(key.device) for part in parts]).float()
    logits = multiply(key, query.transpose(-1, -2)) * stored.dim**-0.5
    return activate(recipe.activation, logits.unflatten(-1, stored.size))


def _check_finite(maps: Tensor) -> None:
    if not bool(torch.isfinite(maps).all()):
        raise NoAttributionError(
            "The maps of this text are not finite: its embedding, or queries beyond half "
            "precision's 65504, are not."
        )
