"""The memory cost of queries: reported before the run, and refused over the budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from diffusers_rdaam.attention.options import RecordingOptions
from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.families import Family
from diffusers_rdaam.recording.memory.budget import megabytes
from diffusers_rdaam.shapes import Size


def query_cost_text(step: int, count: int | None, place: str, buffers: int) -> str:
    """The memory cost in words.

    Args:
        step: bytes of all images' queries of a denoiser call.
        count: how many calls are kept; None where that is not known.
        place: ``"cpu"``, ``"device"``, or a folder.
        buffers: the number of buffers of a call: 1, or 2 where it is copied to the host.
    """
    names = {"cpu": "in memory", "device": "on the denoiser's device"}
    where = names.get(place, f"in {place}")
    if count is None:
        held = "one buffer" if buffers == 1 else "two buffers"
        return f"Keeping {megabytes(step)} of queries for each step {where}, and {held}."
    held = f"a buffer of {megabytes(step)}"
    if buffers > 1:
        held = f"{held} on the denoiser's device and one in memory"
    return (
        f"Keeping {megabytes(step * count)} of queries {where} ({_steps(count)} of "
        f"{megabytes(step)}), and {held} while it runs."
    )


def check_query_budget(
    options: RecordingOptions,
    sites: Sequence[Site],
    sizes: dict[str, Size],
    step: int,
    count: int,
    spent: int,
    buffers: int,
) -> None:
    """Refuse queries whose memory cost is over the budget.

    Args:
        options: the run's.
        sites: the denoiser's sites.
        sizes: the grids of the sites whose queries are kept.
        step: bytes of all images' queries of a denoiser call.
        count: how many calls are kept.
        spent: bytes that other records take.
        buffers: the number of buffers of a call; see :func:`query_cost_text`.

    Raises:
        InputError: it is over the budget; the message has how many steps the budget allows, and the
            cost of each grid.
    """
    wanted = spent + step * (count + buffers)
    if wanted <= options.budget:
        return
    by_size: dict[Size, int] = {}
    for site in sites:
        if site.name in sizes:
            size = sizes[site.name]
            one = query_bytes(options, [site], {site.name: size})
            by_size[size] = by_size.get(size, 0) + one
    whole = sum(by_size.values())
    costs = ", ".join(
        f"{height}x{width} {megabytes(step * part // whole)}"
        for (height, width), part in sorted(by_size.items(), reverse=True)
    )
    fitting = max((options.budget - spent) // step - buffers, 0)
    held = "the buffer" if buffers == 1 else "the two buffers"
    other = f" (and {megabytes(spent)} of other maps)" if spent else ""
    raise InputError(
        f"The queries of {_steps(count)} and {held} of one take "
        f"{megabytes(step * (count + buffers))}{other}, over the budget of "
        f"{megabytes(options.budget)}; {_steps(fitting)} would fit. A step's, by grid of "
        f"height x width: {costs}. Choose with "
        f"queries=QueryOptions(grids=…, steps=…), or allow it with "
        f"RDAAMProcessor(budget={wanted}, …)."
    )


def _steps(count: int) -> str:
    return f"{count} {'step' if count == 1 else 'steps'}"


def query_bytes(options: RecordingOptions, sites: Any, sizes: dict[str, Size]) -> int:
    """Bytes of one image's queries of one denoiser call, of the sites in ``sizes``."""
    assert options.queries is not None
    return sum(
        options.queries.dtype.itemsize * site.heads * head_width(site) * math.prod(sizes[site.name])
        for site in sites
        if site.name in sizes
    )


def device_bytes(
    options: RecordingOptions,
    family: Family,
    denoiser: Any,
    grid: tuple[int, ...],
    images: int,
    calls: int,
) -> int:
    """Bytes on the denoiser's device: the buffer of a call, and the queries that stay there."""
    if options.queries is None:
        return 0
    sites = family.sites(denoiser)
    sizes = {site.name: family.grid(site, grid) for site in sites}
    step = query_bytes(options, sites, chosen_sizes(sizes, options.queries.sizes)) * images
    kept = len(options.queries.numbers(calls)) if options.queries.location == "device" else 0
    return step * (2 if options.keep_negative else 1) * (kept + 1)


def head_width(site: Site) -> int:
    """The number of channels of one head."""
    module: Any = site.module
    width = getattr(module, "inner_dim", None)
    if width is None:
        return int(module.head_dim)
    return int(width) // site.heads


def chosen_sizes(sizes: dict[str, Size], grids: tuple[Size, ...] | None) -> dict[str, Size]:
    """The sites on the chosen grids, with their grids; all sites where ``grids`` is None.

    Raises:
        InputError: no site has a chosen grid.
    """
    if grids is None:
        return sizes
    there = sorted(set(sizes.values()), key=lambda size: -math.prod(size))
    for height, width in grids:
        if (height, width) not in there:
            names = ", ".join(f"{h}x{w}" for h, w in there)
            raise InputError(
                f"This denoiser has no attention to the text on a grid of {height}x{width} (height "
                f"x width) at this image size. Grids for QueryOptions(grids=…): {names}."
            )
    return {name: size for name, size in sizes.items() if size in grids}
