"""A part of an attribution: some layers, heads, grids or steps, as an attribution of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import is_
from typing import Any, TypeVar, cast

from diffusers_rdaam.attribution.choosing import (
    Names,
    Numbers,
    Sizes,
    chosen_grids,
    chosen_numbers,
    chosen_sites,
    listed,
)
from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.kept_maps import (
    Axis,
    KeptMaps,
    MapStack,
    by_grid,
    grid_key,
    merge_one_grid,
)
from diffusers_rdaam.attribution.left_out import QUERIES, QUERIES_OF_A_SELECTION, and_left_out
from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.attribution.queries import Queries
from diffusers_rdaam.attribution.record import AnyRecord, Record
from diffusers_rdaam.errors import InputError, NoAttributionError

_Group = TypeVar("_Group", Grid, MapStack)


def select(
    attribution: AnyRecord,
    *,
    layers: Names | None = None,
    heads: Numbers | None = None,
    resolutions: Sizes | None = None,
    steps: Numbers | None = None,
    stream: str | None = None,
) -> AnyRecord:
    """The part of a record that :meth:`Attribution.select` returns."""
    layers, heads, resolutions, steps = map(listed, (layers, heads, resolutions, steps))
    if stream is not None:
        attribution = _of_stream(attribution, stream)
    if attribution.switched and steps is not None:
        attribution, steps = _with_steps(attribution, steps)
    # Names are looked up in the whole, so that an error is about what exists, not what is left.
    sites = None if layers is None else chosen_sites(layers, site_names(attribution))
    selected = attribution if resolutions is None else _with_grids(attribution, resolutions)
    wanted: list[tuple[Axis, Numbers | None]] = [("steps", steps), ("heads", heads)]
    kept_by(selected, *(axis for axis, numbers in wanted if numbers is not None))
    if selected.kept is not None:
        selected = _with_kept(selected, _cut(selected.kept, sites, steps, heads))
    elif sites is not None:
        grids = _of_sites(selected.grids, sites)
        selected = replace(selected, grids=grids, negative_attribution=None)
    choices: dict[str, Any] = {
        "layers": layers,
        "heads": heads,
        "resolutions": resolutions,
        "steps": steps,
    }
    negative = attribution.negative_attribution
    queries = _queries(attribution.queries, choices)
    return replace(
        selected,
        negative_attribution=None if negative is None else _part(negative, choices),
        switched=tuple(
            part for other in attribution.switched if (part := _part(other, choices)) is not None
        ),
        queries=queries,
        left_out=and_left_out(
            attribution.left_out,
            QUERIES_OF_A_SELECTION,
            [QUERIES] if attribution.queries is not None and queries is None else [],
        ),
        # Its maps were kept as means over everything but the grids.
        vocabulary={
            text: part
            for text, other in attribution.vocabulary.items()
            if (part := _part(other, choices)) is not None
        },
    )


def _of_stream(attribution: AnyRecord, stream: str) -> AnyRecord:
    """The part of an attribution of one stream of a transformer, also of the negative prompt.

    Raises:
        InputError: the denoiser has no such stream.
    """
    streams = dict.fromkeys(grid.stream for grid in attribution.grids if grid.stream)
    if stream not in streams:
        known = ", ".join(map(repr, streams))
        raise InputError(
            f"stream={stream!r} is not among this attribution's streams: {known}."
            if streams
            else f"stream={stream!r} was asked for, and this denoiser has one kind of block: only "
            "transformers with double-stream and single-stream blocks have streams. Leave it out."
        )
    kept, negative = attribution.kept, attribution.negative_attribution
    if kept is not None:
        details = tuple(detail for detail in kept.details if detail.stream == stream)
        kept = replace(kept, details=details)
    return replace(
        attribution,
        grids=tuple(grid for grid in attribution.grids if grid.stream == stream),
        kept=kept,
        negative_attribution=None if negative is None else _of_stream(negative, stream),
        switched=tuple(_of_stream(other, stream) for other in attribution.switched),
    )


def split_by_prompt(
    attribution: AnyRecord, texts: Sequence[int], prompts: Mapping[int, Prompt]
) -> AnyRecord:
    """The attribution of the steps with the first prompt, and in ``switched`` of the others.

    Args:
        attribution: of a run that kept its steps.
        texts: for each step, the number of its prompt.
        prompts: of each number.
    """
    parts = []
    for text in dict.fromkeys(texts):
        numbers = [step for step, of_step in enumerate(texts) if of_step == text]
        part = select(attribution, steps=numbers)
        assert part.kept is not None
        kept = replace(part.kept, numbers=tuple(numbers))
        parts.append(replace(part, prompt=prompts[text], kept=kept))
    first, *others = parts
    # What is not of the prompt is of the whole run.
    return replace(
        first,
        switched=tuple(others),
        queries=attribution.queries,
        vocabulary=attribution.vocabulary,
    )


def _with_steps(attribution: AnyRecord, steps: Numbers) -> tuple[AnyRecord, list[int]]:
    """The part of a run with several prompts that has the steps, and their numbers in it.

    Raises:
        InputError: they are steps of several prompts.
    """
    # mypy does not bind Self within a tuple to the type variable.
    others = cast("tuple[AnyRecord, ...]", attribution.switched)
    parts = (replace(attribution, switched=()), *others)
    owners = {
        number: (part, place)
        for part in parts
        for place, number in enumerate(part.kept.numbers if part.kept else ())
    }
    numbers = list(chosen_numbers(steps, len(owners), "steps"))
    chosen = [owners[number] for number in numbers]
    owner = chosen[0][0]
    other = next((i for i, (part, _) in enumerate(chosen) if part is not owner), None)
    if other is not None:
        raise InputError(
            f"Step {numbers[0]} was made with the prompt {owner.prompt.text!r}, step "
            f"{numbers[other]} with {chosen[other][0].prompt.text!r}: a column stands for other "
            "words there, so they have no mean. Choose steps of one prompt."
        )
    assert owner.kept is not None
    return replace(owner, kept=replace(owner.kept, numbers=())), [place for _, place in chosen]


def site_names(attribution: Record) -> tuple[str, ...]:
    """All sites, in the order of the maps that were kept separately, or of the grids."""
    kept = attribution.kept
    groups = attribution.grids if kept is None else kept.details
    return tuple(site for group in groups for site in group.sites)


def kept_by(attribution: Record, *axes: Axis) -> KeptMaps | None:
    """The maps that the run kept; not None where axes are named.

    Raises:
        NoAttributionError: it did not; with what to record with.
    """
    kept = attribution.kept
    for axis in axes:
        if kept is None or axis not in kept.axes:
            # What it did keep is named too: who follows the advice wants to lose none of it.
            names = [f'"{name}"' for name in (*(kept.axes if kept else ()), axis)]
            keep = names[0] if len(names) == 1 else f"({', '.join(names)})"
            record_it = f"Record with RDAAMProcessor(keep={keep}) to ask for them."
            absence = attribution.left_out.get(axis)
            if absence is None:
                raise NoAttributionError(
                    f"This run did not keep its {axis} separately. {record_it}"
                )
            raise NoAttributionError(
                f"This needs single {axis}, which {absence.why}. {absence.remedy or record_it}"
            )
    return kept


def _queries(queries: Queries | None, choices: dict[str, Any]) -> Queries | None:
    """The queries of the same layers and grids; None for a part of the steps or heads."""
    if queries is None or choices["steps"] is not None or choices["heads"] is not None:
        return None
    sizes = choices["resolutions"]
    if isinstance(sizes, Mapping):
        sizes = [size for size, weight in sizes.items() if weight]
    try:
        return queries.select(layers=choices["layers"], resolutions=sizes)
    except InputError:
        return None


def _part(other: AnyRecord, choices: dict[str, Any]) -> AnyRecord | None:
    """The same part of the negative prompt's or a vocabulary's; none where that was not kept,
    or the steps were without guidance. That what was chosen exists is known from the prompt's.
    """
    try:
        return select(other, **choices)
    except (InputError, NoAttributionError):
        return None


def _with_grids(attribution: AnyRecord, resolutions: Sizes) -> AnyRecord:
    weights = chosen_grids(resolutions, {grid.size: grid.weight for grid in attribution.grids})
    grids = tuple(
        replace(grid, weight=weights[grid.size])
        for grid in attribution.grids
        if grid.size in weights
    )
    kept = attribution.kept
    if kept is not None:
        details = tuple(detail for detail in kept.details if detail.size in weights)
        kept = replace(kept, details=details)
    return replace(attribution, grids=grids, kept=kept, negative_attribution=None)


def _of_sites(groups: tuple[_Group, ...], sites: set[str]) -> tuple[_Group, ...]:
    found = tuple(group for group in groups if _is_chosen(group, sites))
    if not found:
        raise InputError(
            "None of the chosen layers is on the chosen grids. Choose layers or resolutions alone."
        )
    return found


def _is_chosen(group: Grid | MapStack, sites: set[str]) -> bool:
    """Whether a group of sites is wholly chosen, or wholly not.

    Raises:
        NoAttributionError: neither.
    """
    chosen = [site for site in group.sites if site in sites]
    if 0 < len(chosen) < len(group.sites):
        other = next(site for site in group.sites if site not in sites)
        height, width = group.size
        raise NoAttributionError(
            f"{chosen[0]} was recorded together with {other} (grid {height}x{width}), so it cannot "
            'be selected alone. Record with RDAAMProcessor(keep="layers") to keep them separately, '
            "or choose both."
        )
    return bool(chosen)


def _cut(
    kept: KeptMaps, sites: set[str] | None, steps: Numbers | None, heads: Numbers | None
) -> KeptMaps:
    details = kept.details if sites is None else _of_sites(kept.details, sites)
    timesteps, places = kept.timesteps, kept.numbers
    if steps is not None:
        places = ()
        numbers = chosen_numbers(steps, kept.steps, "steps")
        cut = [_cut_steps(detail, numbers) for detail in details]
        details = tuple(detail for detail in cut if detail is not None)
        timesteps = tuple(timesteps[step] for step in numbers) if timesteps else ()
        if not details:
            raise InputError(
                f"Nothing was recorded at {_shown(numbers)}: the chosen attention modules were "
                "skipped there, by a cache for example. Choose other steps."
            )
    if heads is not None:
        details = tuple(_cut_heads(detail, heads, details) for detail in details)
    return KeptMaps(kept.axes, details, timesteps, places)


def _shown(steps: range | list[int]) -> str:
    return f"step {steps[0]}" if len(steps) == 1 else f"any of the {len(steps)} steps"


def _cut_steps(detail: MapStack, steps: range | list[int]) -> MapStack | None:
    """The detail at some steps; None where its sites were skipped at all of them."""
    additions = tuple(detail.additions[step] for step in steps)
    if len(steps) == len(detail.additions):
        return detail
    if not any(additions):
        return None
    return replace(detail, maps=detail.maps[_places(steps)], additions=additions)


def _cut_heads(detail: MapStack, heads: Numbers, details: tuple[MapStack, ...]) -> MapStack:
    count = detail.maps.shape[1]
    try:
        chosen = chosen_numbers(heads, count, "heads")
    except InputError as error:
        counts = {other.maps.shape[1] for other in details}
        if len(counts) == 1:
            raise
        raise InputError(
            f"{detail.sites[0]}: {error} Heads of each grid: {_head_counts(details)}. Choose "
            "layers= or resolutions= whose sites all have those heads."
        ) from None
    if len(chosen) == count:
        return detail
    return replace(detail, maps=detail.maps[:, _places(chosen)])


def _head_counts(details: tuple[MapStack, ...]) -> str:
    parts = []
    for ((height, width), _), same in by_grid(details).items():
        counts = sorted({detail.maps.shape[1] for detail in same})
        parts.append(f"{height}x{width} has {' and '.join(map(str, counts))}")
    return ", ".join(parts)


def _places(numbers: range | list[int]) -> slice | list[int]:
    """A slice where there is one: that is a view of the maps and no copy."""
    if isinstance(numbers, range):
        return slice(numbers.start, numbers.stop, numbers.step)
    return numbers


def _with_kept(attribution: AnyRecord, kept: KeptMaps) -> AnyRecord:
    """The attribution of less; a grid of which nothing was left out is not merged anew."""
    assert attribution.kept is not None
    before, after = by_grid(attribution.kept.details), by_grid(kept.details)
    grids = []
    for grid in attribution.grids:
        details, whole = after.get(grid_key(grid), []), before[grid_key(grid)]
        if len(details) == len(whole) and all(map(is_, details, whole)):
            grids.append(grid)
        elif details:
            grids.append(replace(merge_one_grid(details), weight=grid.weight))
    return replace(attribution, grids=tuple(grids), kept=kept, negative_attribution=None)
