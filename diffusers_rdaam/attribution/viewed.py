"""What of an attribution the viewer's page holds, as plain data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath, PureWindowsPath
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from diffusers_rdaam.attribution.kept_maps import by_grid
from diffusers_rdaam.attribution.prompt import Prompt, encoders_of, labelled
from diffusers_rdaam.attribution.ranked_words import grouped
from diffusers_rdaam.attribution.record import AnyRecord, Record, RunInfo
from diffusers_rdaam.attribution.region_words import no_word_level
from diffusers_rdaam.attribution.select import select
from diffusers_rdaam.attribution.self_attention.refinement import (
    DEFAULT_REFINEMENT,
    refine_record,
    refining_grid,
)
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.attribution.thresholds import threshold_of, threshold_of_refined
from diffusers_rdaam.viewer.contents import (
    MapsKind,
    ViewerContents,
    ViewerFrame,
    ViewerGrid,
    ViewerGroup,
    ViewerMaps,
    ViewerPart,
    ViewerRecord,
    ViewerSelfGrid,
    ViewerWord,
)

Fact = str | int | float | bool | None
# Positions of a grid of self-attention along each side; finer ones are averaged down, as their
# number of values is the fourth power of the side.
SIDE = 32
# Values of self-attention that are float32 at a time: 16 MiB.
AT_A_TIME = 2**22


def viewed(attribution: Record, *, kept: bool) -> ViewerContents:
    """The contents of the panel of one image."""
    return ViewerContents(
        title_of(attribution.prompt),
        attribution.image_size,
        (ViewerFrame(attribution.image),),
        (viewed_part(attribution, kept=kept),),
        facts_of(attribution.run),
    )


def title_of(prompt: Prompt) -> str:
    """The text of the prompt, or the texts."""
    return " / ".join(text.text or "" for text in prompt.texts) or "an image without a prompt"


def facts_of(run: RunInfo) -> RunInfo:
    """The facts of a run; of a folder of this computer the name alone, as pages are passed on."""
    return {name: _without_folders(value) for name, value in run.items()}


def _without_folders(value: Fact) -> Fact:
    if not isinstance(value, str):
        return value
    for path in (PurePosixPath(value), PureWindowsPath(value)):
        if path.is_absolute() and path.name:
            return f"…/{path.name}"
    return value


def viewed_part(attribution: Record, *, kept: bool) -> ViewerPart:
    """All texts of a record with their maps, and its self-attention."""
    records = [_record(attribution, "prompt", "Prompt", kept)]
    for number, other in enumerate(attribution.switched, 2):
        records.append(_record(other, "switched", f"Prompt {number}", kept))
    if attribution.negative_attribution is not None:
        negative = attribution.negative_attribution
        records.append(_record(negative, "negative", "Negative prompt", False))
    for text, other in attribution.vocabulary.items():
        records.append(_record(other, "vocabulary", text, False))
    grids = attribution.self_grids if kept else ()
    return ViewerPart(tuple(records), tuple(_self_grids(grids)))


def _record(
    record: AnyRecord,
    role: Literal["prompt", "negative", "vocabulary", "switched"],
    name: str,
    kept: bool,
) -> ViewerRecord:
    prompt = record.prompt
    maps = [_maps(record, "all", "the whole run")]
    if kept:
        maps += _kept_maps(record)
    return ViewerRecord(
        role,
        name,
        tuple(_pieces(prompt)),
        tuple(ViewerWord(word.text, word.columns) for word in prompt.words),
        tuple(_groups(prompt)),
        prompt.columns_of_kind(),
        None if role == "vocabulary" else no_word_level(record.run),
        tuple(maps),
    )


def _pieces(prompt: Prompt) -> Iterable[tuple[str | int, ...]]:
    """Each text in pieces: strings between the words, and the words' numbers."""
    for number, text in enumerate(prompt.texts, 1):
        characters = text.text or ""
        pieces: list[str | int] = []
        position = 0
        for word in prompt.words:
            if word.encoder in (None, number):
                if word.start > position:
                    pieces.append(characters[position : word.start])
                pieces.append(word.index)
                position = word.end
        if position < len(characters):
            pieces.append(characters[position:])
        yield tuple(pieces)


def _groups(prompt: Prompt) -> Iterable[ViewerGroup]:
    for words in grouped(prompt).values():
        columns = tuple(sorted({column for word in words for column in word.columns}))
        label = labelled(words[0].text, encoders_of(words))
        yield ViewerGroup(label, columns, tuple(word.index for word in words))


def _maps(record: Record, kind: MapsKind, label: str) -> ViewerMaps:
    return ViewerMaps(
        kind,
        label,
        sum(grid.maps.numel() for grid in record.grids),
        partial(_read, record),
        threshold_of(record.run),
    )


def _read(record: Record) -> tuple[list[ViewerGrid], list[float]]:
    grids = [
        ViewerGrid(grid.maps.float().cpu().numpy(), share, grid.stream)
        for grid, share in zip(record.grids, record.grid_shares, strict=True)
    ]
    return grids, record.levels.tolist()


def _kept_maps(record: AnyRecord) -> Iterable[ViewerMaps]:
    """Refined maps, single steps and single layers, where the run kept what they need."""
    columns = len(record.prompt.tokens)
    if record.self_grids:
        height, width = refining_grid(record).size
        yield ViewerMaps(
            "refined",
            f"refined by self-attention ({DEFAULT_REFINEMENT})",
            columns * height * width,
            lambda: _read(refine_record(record, DEFAULT_REFINEMENT)),
            threshold_of_refined(DEFAULT_REFINEMENT),
        )
    kept = record.kept
    if kept is None:
        return
    threshold = threshold_of(record.run)
    if "steps" in kept.axes:
        cells = sum(columns * h * w for (h, w), _ in by_grid(kept.details))
        for step in range(kept.steps):
            if not any(detail.additions[step] for detail in kept.details):
                continue
            number = kept.numbers[step] if kept.numbers else step
            at = f", timestep {kept.timesteps[step]:g}" if kept.timesteps else ""
            yield ViewerMaps(
                "step",
                f"step {number + 1}{at}",
                cells,
                partial(_read_part, record, "steps", step),
                threshold,
            )
    if "layers" in kept.axes:
        for detail in kept.details:
            height, width = detail.size
            yield ViewerMaps(
                "layer",
                detail.sites[0],
                columns * height * width,
                partial(_read_part, record, "layers", detail.sites[0]),
                threshold,
            )


def _read_part(
    record: AnyRecord, axis: str, which: int | str
) -> tuple[list[ViewerGrid], list[float]]:
    # Without what is of the whole run, which would be selected each time.
    alone = replace(record, switched=(), vocabulary={}, negative_attribution=None, queries=None)
    if axis == "steps":
        return _read(select(alone, steps=int(which)))
    return _read(select(alone, layers=[str(which)]))


def _self_grids(grids: tuple[SelfGrid, ...]) -> Iterable[ViewerSelfGrid]:
    total = sum(grid.additions for grid in grids)
    for grid in grids:
        size = (min(grid.size[0], SIDE), min(grid.size[1], SIDE))
        yield ViewerSelfGrid(size, grid.additions / total, partial(_density, grid, size))


def _density(grid: SelfGrid, size: tuple[int, int]) -> np.ndarray:
    """``(keys, height, width)``: how much each position attends to a key, times all positions."""
    height, width = grid.size
    rows = max(1, AT_A_TIME // grid.positions)
    scale = grid.positions / grid.additions
    parts = [
        F.adaptive_avg_pool2d(part.float().view(-1, 1, height, width), size)
        for part in grid.sums.cpu().split(rows)
    ]
    pooled = torch.cat(parts).view(1, height, width, -1).permute(0, 3, 1, 2)
    keys = F.adaptive_avg_pool2d(pooled, size) * scale
    return keys[0].permute(1, 2, 0).reshape(-1, *size).contiguous().numpy()
