"""The mean of several runs' records: of other seeds, or of other noise on one image.

At every pixel ``P = sum_i w_i P_i`` with weights that sum to 1. A record is a sum of grids with
shares, ``P_i = sum_g s_ig E(m_ig)`` (``E`` enlarges and is linear), so the mean has the shares
``s_g = sum_i w_i s_ig`` and the maps ``m_g = sum_i w_i s_ig m_ig / s_g``: no approximation, and the
columns sum to 1 as before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam.argument_checks import real_number
from diffusers_rdaam.attribution.frame_mapping import is_video
from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.kept_maps import KeptMaps
from diffusers_rdaam.attribution.left_out import (
    MAPS,
    NOT_IN_THE_MEAN,
    QUERIES,
    SELF_ATTENTION,
    Absence,
    and_left_out,
)
from diffusers_rdaam.attribution.record import AnyRecord, Record, RunInfo
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.geometry.region import Mask
from diffusers_rdaam.shapes import GridMaps


def mean_record(
    kind: type[AnyRecord], records: Iterable[AnyRecord], weights: Iterable[int | float] | None
) -> AnyRecord:
    """The record that :meth:`Attribution.mean` returns.

    Args:
        kind: the class of the records and of the result.
        records: at least one.
        weights: of each, in any unit; all the same if not given.

    Raises:
        InputError: one of them is not such a record, they do not belong together, or the weights
            are not as many numbers from 0 whose sum is over 0.
    """
    runs = _checked(kind, records)
    shares = _checked_weights(weights, len(runs))
    _check_same(runs)
    return _mean(runs, shares)


def _mean(runs: list[AnyRecord], weights: list[float]) -> AnyRecord:
    first = runs[0]
    # Made anew and not with replace(): a field that nothing here averages is not the first run's.
    return type(first)(
        prompt=first.prompt,
        grids=_grids(runs, weights),
        image_size=first.image_size,
        image=_common_image(runs),
        run=_run_facts(runs),
        kept=_kept(runs, weights),
        negative_attribution=_mean_of_parts([run.negative_attribution for run in runs], weights),
        mask=_common_mask(runs),
        vocabulary={
            text: part
            for text in first.vocabulary
            if (part := _mean_of_parts([run.vocabulary.get(text) for run in runs], weights))
        },
        self_grids=_self_grids(runs, weights),
        left_out=_left_out(runs),
    )


def _left_out(runs: Sequence[Record]) -> dict[str, Absence]:
    """Why the mean lacks what some of the runs have; what none has lacks for their reasons."""
    had: set[str] = set()
    for run in runs:
        had |= set() if run.kept is None else set(run.kept.axes)
        if run.queries is not None:
            had.add(QUERIES)
        if run.self_grids:
            had.add(SELF_ATTENTION)
        if had >= {"steps", "layers", "heads"} or any(g.squares is not None for g in run.grids):
            had.add("squares")
    ordered = [name for name in (*MAPS, QUERIES, SELF_ATTENTION) if name in had]
    return {**runs[0].left_out, **and_left_out({}, NOT_IN_THE_MEAN, ordered)}


def _checked(kind: type[AnyRecord], records: Iterable[Any]) -> list[AnyRecord]:
    if is_video(records) or (isinstance(records, (list, tuple)) and any(map(is_video, records))):
        raise InputError(
            "mean() takes attributions of images; a video has one for each frame. Average a frame "
            "of several videos: Attribution.mean([video[7] for video in videos])."
        )
    if isinstance(records, Record) or not isinstance(records, Iterable):
        raise InputError(
            f"mean() takes several attributions; got one {type(records).__name__}. Give a list."
        )
    runs = list(records)
    if not runs:
        raise InputError("mean() takes at least one attribution; the list is empty.")
    for place, run in enumerate(runs):
        if not isinstance(run, kind):
            cure = "The attribution of a pipeline's output is output.attribution."
            if isinstance(run, (str, Path)):
                cure = "Attribution.load(path) reads a file."
            raise InputError(
                f"mean() takes attributions; number {place} is a {type(run).__name__}. {cure}"
            )
        if run.switched:
            raise InputError(
                f"The prompt of run number {place} was exchanged during the run, so its columns "
                "stand for words of several prompts. Average selections of steps with one prompt: "
                "attribution.select(steps=…)."
            )
    return runs


def _checked_weights(weights: Iterable[int | float] | None, count: int) -> list[float]:
    """The weights over their sum."""
    if weights is None:
        return [1.0 / count] * count
    given = list(weights) if isinstance(weights, Iterable) else [weights]
    numbers = [real_number(weight) for weight in given]
    if len(given) != count or any(number is None or number < 0.0 for number in numbers):
        raise InputError(
            f"weights= has a number from 0 for each of the {count} attributions; got {given!r}."
        )
    total = sum(number for number in numbers if number is not None)
    if not total > 0.0:
        raise InputError(f"weights= has at least one number over 0; got {given!r}.")
    return [number / total for number in numbers if number is not None]


def _check_same(runs: Sequence[Record]) -> None:
    first = runs[0]
    for place, run in enumerate(runs[1:], 1):
        if run.prompt != first.prompt:
            raise InputError(
                f"Run 0 has the prompt {first.prompt.shortened}, run {place} "
                f"{run.prompt.shortened}, or other tokens of it: a column stands for another word "
                "there, so they have no mean. compare(a, b) puts two prompts side by side."
            )
        if run.image_size != first.image_size:
            raise InputError(
                f"Run 0 made an image of {first.image_size} (height, width), run {place} one of "
                f"{run.image_size}; the mean needs one size. Generate both at one size."
            )
        if _layout(run) != _layout(first):
            raise InputError(
                f"Run 0 has maps of {_shown(first)}, run {place} of {_shown(run)}, or of other "
                "attention modules; the mean needs the same. Record all runs alike, with one "
                "model, and average them before they are refined or selected from, or after all "
                "of them are."
            )


def _layout(record: Record) -> list[tuple[Any, ...]]:
    return [(grid.size, grid.stream, grid.sites) for grid in record.grids]


def _shown(record: Record) -> str:
    sizes = ", ".join(f"{grid.size[0]}x{grid.size[1]}" for grid in record.grids)
    return f"the grids {sizes} (height x width)"


def _grids(runs: Sequence[Record], weights: list[float]) -> tuple[Grid, ...]:
    every = sum(grid.additions for run in runs for grid in run.grids)
    means = []
    for place, like in enumerate(runs[0].grids):
        grids = [run.grids[place] for run in runs]
        parts = [weight * run.grid_shares[place] for run, weight in zip(runs, weights, strict=True)]
        share, additions = sum(parts), sum(grid.additions for grid in grids)
        # A grid's share is its weight times its additions over the sum of all.
        weight = share * every / additions
        squares = [grid.squares for grid in grids if grid.squares is not None]
        means.append(
            Grid(
                _weighted([grid.maps for grid in grids], parts),
                additions,
                like.sites,
                1.0 if abs(weight - 1.0) < 1e-12 else weight,
                like.stream,
                _weighted(squares, parts) if len(squares) == len(grids) else None,
            )
        )
    return tuple(means)


def _weighted(maps: Sequence[GridMaps], parts: Sequence[float]) -> GridMaps:
    """The mean of maps that count by some parts of a whole."""
    total = torch.zeros(maps[0].shape, dtype=torch.float64, device="cpu")
    for one, part in zip(maps, parts, strict=True):
        total += one.double() * (part / sum(parts))
    return total.float()


def _kept(runs: Sequence[Record], weights: list[float]) -> KeptMaps | None:
    """Single steps, layers and heads, where all runs kept the same of them; else None.

    The additions of all runs must be the same too: only then are the means over steps and layers
    the mean of the runs' means.
    """
    kept = [run.kept for run in runs if run.kept is not None]
    if len(kept) < len(runs):
        return None
    first = kept[0]
    layouts = [
        (
            *(one.axes, one.timesteps, one.numbers),
            *((part.sites, part.additions, part.maps.shape) for part in one.details),
        )
        for one in kept
    ]
    weightings = [tuple(grid.weight for grid in run.grids) for run in runs]
    if len(set(layouts)) > 1 or len(set(weightings)) > 1:
        return None
    details = []
    for place, like in enumerate(first.details):
        maps = torch.zeros(like.maps.shape, dtype=torch.float32, device="cpu")
        for one, weight in zip(kept, weights, strict=True):
            maps += one.details[place].maps.float() * weight
        additions = tuple(count * len(runs) for count in like.additions)
        details.append(replace(like, maps=maps, additions=additions))
    return replace(first, details=tuple(details))


def _self_grids(runs: Sequence[Record], weights: list[float]) -> tuple[SelfGrid, ...]:
    """The mean of the self-attention of the runs, where all of them kept the same grids."""
    layouts = [tuple((grid.size, grid.sites) for grid in run.self_grids) for run in runs]
    if len(set(layouts)) > 1:
        return ()
    means = []
    for place, like in enumerate(runs[0].self_grids):
        total = sum(run.self_grids[place].additions for run in runs)
        sums = torch.zeros(like.sums.shape, dtype=torch.float32, device="cpu")
        for run, weight in zip(runs, weights, strict=True):
            grid = run.self_grids[place]
            sums += grid.sums.float() * (weight * total / grid.additions)
        means.append(SelfGrid(sums, total, like.size, like.sites))
    return tuple(means)


def _mean_of_parts(parts: Sequence[Any], weights: list[float]) -> Any:
    """The mean of a record within each record; None where not all have it in the same form."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    try:
        _check_same(known)
    except InputError:
        return None
    return _mean(known, weights)


def _common_image(runs: Sequence[Record]) -> Image.Image | None:
    """The image, where all runs have the same one, as attributions of one given image do."""
    first = runs[0].image
    if first is None:
        return None
    pixels = np.asarray(first.convert("RGB"))
    for run in runs[1:]:
        if run.image is None or not np.array_equal(pixels, np.asarray(run.image.convert("RGB"))):
            return None
    return first


def _common_mask(runs: Sequence[Record]) -> Mask | None:
    """What was painted anew, where it was the same part in all runs."""
    first = runs[0].mask
    if first is None:
        return None
    covered = first.coverage(runs[0].image_size)
    for run in runs[1:]:
        if run.mask is None or not torch.equal(covered, run.mask.coverage(run.image_size)):
            return None
    return first


def _run_facts(runs: Sequence[Record]) -> RunInfo:
    """The facts that all runs share, their number, and their seeds where all are known."""
    first = runs[0].run
    common = {
        name: value
        for name, value in first.items()
        if all(name in run.run and run.run[name] == value for run in runs)
    }
    seeds = [run.run.get("seed") for run in runs]
    known = {} if None in seeds else {"seeds": ", ".join(map(str, seeds))}
    return {**common, "runs": len(runs), **known}
