"""GoCA's recipe: layers weighed by how far their self-attention agrees with a dense feature."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusers_rdaam.attribution.aggregations.aggregation import (
    SELF_ATTENTION,
    Aggregation,
    kept_maps,
)
from diffusers_rdaam.attribution.choosing import chosen_sites
from diffusers_rdaam.attribution.prompt import Match
from diffusers_rdaam.attribution.record import Record
from diffusers_rdaam.attribution.self_grid import SelfGrid, finest
from diffusers_rdaam.attribution.site_queries import SiteQueries
from diffusers_rdaam.errors import InputError, NoAttributionError
from diffusers_rdaam.float32_products import multiply
from diffusers_rdaam.geometry.grid import enlarge, resampled
from diffusers_rdaam.shapes import Column, Size

# Of Stable Diffusion 1.5, in the recipe's published settings.
REFERENCE = "up_blocks.2.attentions.1.transformer_blocks.0.attn2"
BLUR, SIGMA = 5, 1.1


def goca(record: Record, match: Match, size: Size, *, reference: str = REFERENCE) -> Column:
    """The word's share of the content tokens, by weighed layers, blurred and spread twice.

    The heads have equal weights, as in its settings for FLUX: its weights of heads need the
    attention's output. Layers without self-attention of their own in the record are left out.

    Args:
        record, match, size: see :class:`Aggregation`.
        reference: the layer whose queries are the dense feature; the default is of Stable
            Diffusion 1.5.

    Raises:
        NoAttributionError: no layer has self-attention that was kept separately.
        InputError: the reference is not one layer with queries.
    """
    weights = layer_weights(record, reference)
    grid = finest(record.self_grids)
    tokens = len(record.prompt.tokens)
    total = torch.zeros(tokens, *grid.size, dtype=torch.float32, device="cpu")
    for detail in kept_maps(record).details:
        weight = weights.get(detail.sites[0], 0.0)
        if weight:
            total += weight * resampled(detail.mean(), grid.size)
    total.clamp_(min=0.0)
    total /= total.sum(dim=0).clamp(min=1e-30)
    content = sorted({column for word in record.prompt.words for column in word.columns})
    score = total[list(match.columns)].mean(dim=0) / total[content].sum(dim=0).clamp(min=1e-30)
    cells = _stretched(blurred(score)).flatten()[None]
    spread = grid.attention_to(grid.attention_to(cells))
    return enlarge(_stretched(spread).view(grid.size), *size)


def layer_weights(record: Record, reference: str) -> dict[str, float]:
    """The weight of each layer with self-attention of its own: they sum to 1.

    ``w_l = max(0, sum over i, j of R[i, j] S_l[i, j])`` with ``R = softmax(f f.T / sqrt(dim))`` of
    the reference's queries ``f``, all heads in one vector, and ``S_l`` the self-attention.

    Raises:
        NoAttributionError: there is no such layer.
        InputError: the reference is not one layer with queries.
    """
    itself = {grid.sites[0]: grid for grid in record.self_grids if len(grid.sites) == 1}
    likeness, size = _likeness(record, reference)
    weights = {}
    for detail in kept_maps(record).details:
        (site,) = detail.sites
        # A UNet's self-attention is the module before that of the text; a joint one is the same.
        found = itself.get(site) or itself.get(site.removesuffix("attn2") + "attn1")
        if found is not None:
            weights[site] = max(0.0, float((likeness * _sized(found, size)).sum()))
    total = sum(weights.values())
    if not total:
        raise NoAttributionError(
            "The aggregation 'goca' weighs layers by their self-attention, and no layer has its "
            'self-attention separately. Record with RDAAMProcessor(keep=("layers", "queries"), '
            'self_attention="each").'
        )
    return {site: weight / total for site, weight in weights.items()}


def _likeness(record: Record, reference: str) -> tuple[Tensor, Size]:
    """``R`` ``(positions, positions)``, the mean over the calls whose queries were kept."""
    site = _reference(record, reference)
    positions = site.size[0] * site.size[1]
    total = torch.zeros(positions, positions, dtype=torch.float32, device="cpu")
    for index in range(len(site.calls)):
        feature = site.read(index).float().cpu().transpose(0, 1).flatten(1)
        logits = multiply(feature, feature.T.contiguous()) / feature.shape[1] ** 0.5
        total += logits.softmax(dim=1) / len(site.calls)
    return total, site.size


def _reference(record: Record, reference: str) -> SiteQueries:
    assert record.queries is not None
    sites = {site.site: site for site in record.queries.sites}
    if reference == REFERENCE and reference not in sites:
        raise InputError(
            f"GoCA's reference layer {REFERENCE!r} is one of Stable Diffusion 1.5, and this "
            "denoiser does not have it. Give a layer as reference=…; it was chosen for each "
            "checkpoint."
        )
    names = chosen_sites(reference, sites)
    if len(names) != 1:
        raise InputError(
            f"reference= is one layer; {reference!r} is {len(names)}: {', '.join(sorted(names))}."
        )
    return sites[next(iter(names))]


def _sized(grid: SelfGrid, size: Size) -> Tensor:
    """``S`` with rows that sum to 1 on another grid: queries by the nearest, keys bilinear."""
    attention = grid.sums.float().T / grid.additions
    if grid.size == size:
        return attention
    rows = attention.T.unflatten(1, grid.size)
    rows = F.interpolate(rows[None], size, mode="nearest")[0].flatten(1).T
    keys = F.interpolate(rows.unflatten(1, grid.size)[None], size, mode="bilinear")[0].flatten(1)
    return keys / keys.sum(dim=1, keepdim=True).clamp(min=1e-30)


def blurred(score: Column) -> Column:
    """A Gaussian blur of 5x5 cells, the border reflected where the grid is large enough."""
    offsets = torch.arange(BLUR, dtype=torch.float32, device="cpu") - BLUR // 2
    line = torch.exp(-0.5 * (offsets / SIGMA) ** 2)
    kernel = torch.outer(line, line)[None, None] / float(line.sum()) ** 2
    mode = "reflect" if min(score.shape) > BLUR // 2 else "replicate"
    padded = F.pad(score[None, None], [BLUR // 2] * 4, mode=mode)
    return F.conv2d(padded, kernel)[0, 0]


def _stretched(values: Tensor) -> Tensor:
    low, high = values.min(), values.max()
    return (values - low) / (high - low).clamp(min=1e-30)


GOCA = Aggregation(
    name="goca",
    formula=(
        "A A blur(share of the word's tokens among content tokens), of the layers' maps weighed by "
        "w_l = max(0, sum R S_l)"
    ),
    maps=goca,
    needs=("layers", "queries", SELF_ATTENTION),
    memory="the layers' maps, the queries and each layer's self-attention: hundreds of MB",
    reference=(
        "Making Training-Free Diffusion Segmentors Scale (2026), with equal weights of heads; its "
        "reference layer belongs to one checkpoint, the default to Stable Diffusion 1.5"
    ),
    measured=(
        "phrase / colour / shape IoU at a threshold chosen on other scenes. Embedded Stable "
        "Diffusion (20 scenes): .474 / .389 / .523, the mean .682 / .720 / .606. Embedded FLUX "
        "(20 scenes): .528 / .625 / .152, the mean .726 / .716 / .559. It harms: the division "
        "by the content tokens and A A spread small maps"
    ),
    sums_to="nothing: every word's maximum is 1",
    quantity="GoCA's score, stretched from 0 to 1",
)
