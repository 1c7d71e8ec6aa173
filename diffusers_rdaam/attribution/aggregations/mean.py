"""The mean over sites, heads and calls, which is the base quantity, and two recipes on it alone."""

from __future__ import annotations

import torch

from diffusers_rdaam.attribution.aggregations.aggregation import Aggregation
from diffusers_rdaam.attribution.prompt import Match
from diffusers_rdaam.attribution.record import Record
from diffusers_rdaam.attribution.self_attention.refinement import maps_on
from diffusers_rdaam.attribution.thresholds import RAW
from diffusers_rdaam.shapes import Column, Size


def word_mean(record: Record, match: Match, size: Size) -> Column:
    """The word's base quantity; filtered where it is asked for on a smaller grid."""
    if any(grid.size[0] > size[0] or grid.size[1] > size[1] for grid in record.grids):
        return maps_on(record, match.columns, size).sum(dim=0)
    return record.pixels(match.columns, size=size)


def over_maximum(record: Record, match: Match, size: Size) -> Column:
    """The mean over its maximum."""
    values = word_mean(record, match, size)
    return values / values.max().clamp(min=1e-30)


def information(record: Record, match: Match, size: Size) -> Column:
    """The word's part of the divergence of a position's distribution from the whole image's."""
    values = word_mean(record, match, size).clamp(min=0.0)
    level = values.mean()
    ratio = torch.where(values > level, values / level.clamp(min=1e-30), 1.0)
    return values * ratio.log()


MEAN = Aggregation(
    name="mean",
    formula="m = sum over the word's tokens of mean P over sites, heads and calls",
    maps=word_mean,
    reference="the base quantity of this package; Tang et al., What the DAAM (2023), without cuts",
    measured=(
        "phrase / colour / shape IoU at a threshold chosen on other scenes: .682 / .720 / .606 "
        "on the embedded Stable Diffusion (160 scenes), .726 / .716 / .559 on the embedded FLUX "
        "(158 scenes)"
    ),
    sums_to="1 over all columns, at every pixel",
    quantity="attention probability",
)

RDAAM = Aggregation(
    name="rdaam",
    formula="m over its maximum in the image, m being the mean",
    maps=over_maximum,
    reference="rdaam, the predecessor of this package",
    measured=(
        "as the mean but for the default threshold, because the map is not stretched: at any "
        "threshold of its own the same masks"
    ),
    sums_to="nothing: every word's maximum is 1",
    quantity="share of the word's maximum",
    threshold=RAW["cross"],
    joint_threshold=RAW["joint"],
)

INFORMATION = Aggregation(
    name="information",
    formula="max(0, m log(m / mean of m over the image)), m being the mean",
    maps=information,
    reference=(
        "the word's term of the Kullback-Leibler divergence of a position's words from the image's"
    ),
    measured=(
        "phrase / colour / shape IoU at a threshold chosen on other scenes. Embedded Stable "
        "Diffusion (160 scenes): .682 / .731 / .610, the mean .682 / .720 / .606. Embedded FLUX "
        "(158 scenes): .725 / .716 / .570, the mean .726 / .716 / .559. No gain"
    ),
    sums_to="over all columns at most the divergence, in nats, plus what the cut at 0 adds",
    quantity="information, nats",
    threshold=0.32,
    joint_threshold=0.30,
)
