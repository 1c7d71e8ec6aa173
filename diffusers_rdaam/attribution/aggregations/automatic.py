"""Layers chosen for each word without labels, by how much their late maps say of the word."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from diffusers_rdaam.argument_checks import check_choice
from diffusers_rdaam.attribution.aggregations.aggregation import (
    SELF_ATTENTION,
    Aggregation,
    kept_maps,
    kept_of,
)
from diffusers_rdaam.attribution.kept_maps import MapStack
from diffusers_rdaam.attribution.prompt import Match
from diffusers_rdaam.attribution.record import Record
from diffusers_rdaam.attribution.self_attention.refinement import agreement, refining_grid
from diffusers_rdaam.errors import NoAttributionError
from diffusers_rdaam.geometry.grid import resampled
from diffusers_rdaam.shapes import Column, Size, SizedMaps

Criterion = Literal["information", "agreement"]


def automatic(
    record: Record, match: Match, size: Size, *, criterion: Criterion = "information"
) -> Column:
    """The mean over the layers of the word's late maps, each layer by its score for the word.

    Where steps were kept, only the last half of the denoiser calls is read.

    Args:
        record, match, size: see :class:`Aggregation`.
        criterion: ``"information"``: the mean over the positions of ``m log(m / mean of m)``, what
            a position's distribution over the words says that the whole image's does not, in nats.
            ``"agreement"``: that, times the correlation of ``S m`` with ``m`` where it is over 0;
            needs the self-attention.

    Raises:
        InputError: there is no such criterion.
        NoAttributionError: the run did not keep its self-attention, and the criterion reads it.
    """
    check_choice(criterion, Criterion, "a criterion", plural="Criteria")
    details = kept_maps(record).details
    largest = max((one.size for one in details), key=lambda grid: grid[0] * grid[1])
    late = [_late(detail, match) for detail in details]
    maps = torch.cat([resampled(one[None], largest) for one in late if one is not None])
    scores = information(maps)
    if criterion == "agreement":
        scores = scores * _agreement(record, maps)
    # All layers alike where none says anything.
    shares = scores / scores.sum() if bool(scores.sum() > 0.0) else scores + 1.0 / len(scores)
    return resampled((maps * shares[:, None, None]).sum(dim=0)[None], size)[0]


def information(maps: SizedMaps) -> Tensor:
    """``mean over the positions of m log(m / mean of m)`` of each map: 0 where it is flat."""
    values = maps.flatten(1).clamp(min=1e-12)
    return (values * (values / values.mean(dim=1, keepdim=True)).log()).mean(dim=1).clamp(min=0.0)


def _late(detail: MapStack, match: Match) -> Tensor | None:
    """A layer's map of a word over the last half of the steps; None where it was skipped there."""
    start = len(detail.additions) // 2
    counts = torch.tensor(detail.additions[start:], dtype=torch.float32, device="cpu")
    if not bool(counts.sum() > 0):
        return None
    maps = detail.maps[start:, :, list(match.columns)].float().mean(dim=1).sum(dim=1)
    return (maps * (counts / counts.sum())[:, None, None]).sum(dim=0)


def _agreement(record: Record, maps: SizedMaps) -> Tensor:
    """The correlation of ``S m`` with each map ``m``; 0 where it is negative."""
    if SELF_ATTENTION not in kept_of(record):
        raise NoAttributionError(
            "The criterion 'agreement' reads the self-attention, which this run did not keep. "
            "Record with RDAAMProcessor(self_attention=True), or take criterion='information'."
        )
    grid = refining_grid(record)
    return agreement(grid, resampled(maps, grid.size).flatten(1)).clamp(min=0.0)


AUTO = Aggregation(
    name="auto",
    formula="mean of the layers' late maps m_l, each weighed by mean of m_l log(m_l / mean of m_l)",
    maps=automatic,
    needs=("layers",),
    memory="as many maps as layers, and times steps with keep=('layers', 'steps')",
    reference="this package; weights for each word, without labels",
    sums_to="nothing: every word has weights of its own",
    quantity="attention probability, layers weighed",
)
