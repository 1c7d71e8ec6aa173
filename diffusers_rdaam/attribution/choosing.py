"""A user's choice within a record: step and head numbers, layer names, grids and weights."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from operator import index
from typing import Any, SupportsIndex, TypeAlias

from diffusers_rdaam.attribution.grid import is_weight
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.shapes import Size

Numbers: TypeAlias = SupportsIndex | slice | Iterable[SupportsIndex]
Names: TypeAlias = str | Iterable[str]
Sizes: TypeAlias = SupportsIndex | Iterable[SupportsIndex | Size] | Mapping[Any, float]


def listed(value: Any) -> Any:
    """The same choice; an iterator becomes a list, so that it can be read repeatedly."""
    return list(value) if isinstance(value, Iterator) else value


def chosen_numbers(value: Numbers, count: int, what: str) -> range | list[int]:
    """The numbers that are meant, in ascending order, each once; a range where they are regular.

    Args:
        value: a number from 0 (negative: from the end), several of them, or a slice.
        count: how many there are.
        what: their name in errors, such as ``"steps"``.

    Raises:
        InputError: there is no such number, or none was chosen.
    """
    if isinstance(value, slice):
        found = sorted(_slice_numbers(value, count, what))
    else:
        given = value if isinstance(value, Iterable) and not isinstance(value, str) else [value]
        found = sorted({_number(number, count, what) for number in given})
    if not found:
        raise InputError(f"{value!r} chooses none of the {count} {what}.")
    step = found[1] - found[0] if len(found) > 1 else 1
    regular = range(found[0], found[-1] + 1, step)
    return regular if found == list(regular) else found


def _slice_numbers(value: slice, count: int, what: str) -> range:
    try:
        return range(*value.indices(count))
    except (TypeError, ValueError) as error:
        raise InputError(f"{value!r} is not a slice of the {count} {what}: {error}.") from None


def _number(value: Any, count: int, what: str) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        number = index(value)
    except TypeError:
        raise InputError(
            f"{value!r} is not the number of one of the {what}. Give a whole number from 0, "
            "several, a range or a slice."
        ) from None
    if not -count <= number < count:
        raise InputError(f"There are {count} {what}, numbered from 0; there is no {number}.")
    return number % count


def chosen_column(value: Any, count: int, has_rest: bool = False) -> int:
    """The index of a column.

    Args:
        value: the index.
        count: how many there are.
        has_rest: whether the last one is all that were not kept.

    Raises:
        InputError: there is no such column.
    """
    if not _is_whole(value):
        hint = f" Heat maps of words: attribution[{value!r}]." if isinstance(value, str) else ""
        raise InputError(f"{value!r} is not the index of a column, a whole number from 0.{hint}")
    number = index(value)
    if not -count <= number < count:
        hint = ""
        if has_rest:
            hint = (
                " Of the embedding's columns the run kept those of the prompt alone, the last is "
                'for all the rest; record with RDAAMProcessor(columns="all") for each.'
            )
        raise InputError(f"There are {count} columns; {number} is not the index of one.{hint}")
    return number


def chosen_sites(layers: Names, sites: Collection[str]) -> set[str]:
    """The sites that names, dotted prefixes or patterns mean.

    Raises:
        InputError: a name means none of them, with those that are nearest.
    """
    single = isinstance(layers, str) or not isinstance(layers, Iterable)
    names: list[Any] = [layers] if single else list(layers)
    found: set[str] = set()
    for name in names:
        if not isinstance(name, str):
            raise InputError(
                f"{name!r} is not a layer. Give the name of one, a prefix or a pattern."
            )
        same = {site for site in sites if _means(name, site)}
        if not same:
            raise InputError(_no_layer(name, sites))
        found |= same
    if not found:
        raise InputError("No layers were chosen. Give names, prefixes or patterns of layers.")
    return found


def _means(name: str, site: str) -> bool:
    return site == name or site.startswith(name + ".") or fnmatchcase(site, name)


def _no_layer(name: str, sites: Collection[str]) -> str:
    if not sites:
        return f"The names of the layers are not known, so {name!r} cannot be chosen."
    parts = [site.split(".") for site in sites]
    prefixes = {".".join(part[:end]): None for part in parts for end in range(1, len(part) + 1)}
    close = difflib.get_close_matches(name, list(prefixes), n=3, cutoff=0.6)
    if close:
        return f"{name!r} is not one of the {len(sites)} layers. Near it: {', '.join(close)}."
    # "up_blocks.1", but "mid_block" alone: a number says which of several blocks.
    blocks = {
        ".".join(part[: 2 if len(part) > 1 and part[1].isdigit() else 1]): None for part in parts
    }
    begin = ", ".join(blocks)
    return f"{name!r} is not one of the {len(sites)} layers. They begin with: {begin}."


def chosen_grids(value: Sizes, grids: Mapping[Size, float]) -> dict[Size, float]:
    """The grid sizes that are meant and their weights, in the order of ``grids``.

    Args:
        value: ``(height, width)``, ``n`` for a square grid, several of them in a list, or a mapping
            of them to weights.
        grids: sizes and their weights as they are; kept where no mapping is given.

    Raises:
        InputError: there is no such grid, a weight is not a number from 0, or all weights are 0.
    """
    weights = dict(value) if isinstance(value, Mapping) else None
    given = weights if weights is not None else _several(value)
    found: dict[Size, float] = {}
    for one in given:
        size = _size(one, value, grids)
        if size in found:
            raise InputError(f"The grid {size} (height, width) is given twice.")
        found[size] = grids[size] if weights is None else _weight(weights[one], size)
    if not any(found.values()):
        raise InputError(f"No grid was chosen, or all weights are 0. {_grids_text(grids)}")
    return {size: found[size] for size in grids if found.get(size, 0.0) > 0.0}


def _several(value: Any) -> list[Any]:
    pair = isinstance(value, tuple) and len(value) == 2 and all(map(_is_whole, value))
    return [value] if pair or not isinstance(value, Iterable) else list(value)


def _is_whole(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _size(one: Any, value: Any, grids: Mapping[Size, float]) -> Size:
    if _is_whole(one):
        size = (index(one), index(one))
    elif isinstance(one, (tuple, list)) and len(one) == 2 and all(map(_is_whole, one)):
        size = (index(one[0]), index(one[1]))
    else:
        raise InputError(
            f"{one!r} is not a grid. Give (height, width), or n for a square one. "
            f"{_grids_text(grids)}"
        )
    if size not in grids:
        pair = isinstance(value, tuple) and size == value
        hint = f" Two grids are a list: {list(size)}." if pair else ""
        raise InputError(f"There is no grid {size} (height, width). {_grids_text(grids)}{hint}")
    return size


def _weight(value: Any, size: Size) -> float:
    try:
        number = math.nan if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if number != 0.0 and not is_weight(number):
        raise InputError(
            f"The weight of the grid {size} is 0 or lies between 1e-9 and 1e9; got {value!r}."
        )
    return number


def _grids_text(grids: Mapping[Size, float]) -> str:
    return f"Grids: {', '.join(map(str, grids))}."
