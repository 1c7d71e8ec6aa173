"""Files of queries: safetensors with a checked header. A file from a stranger is bad input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from diffusers_rdaam.attribution.site_queries import MAX_CALL, TYPES, SiteQueries, StoredTensor
from diffusers_rdaam.errors import AttributionFileError, RDAAMError
from diffusers_rdaam.files.fields import Check, is_count, is_size, is_text
from diffusers_rdaam.files.tensor_file import (
    FileKind,
    TensorSpec,
    check_finite,
    open_tensors,
    write_tensors,
)
from diffusers_rdaam.files.writing import check_suffix

FORMAT = "diffusers_rdaam.queries"
VERSION = 1
NOUN = "queries"
KIND = FileKind(FORMAT, str(VERSION), "sites", "file of queries", "not queries of diffusers_rdaam.")
MAX_SIDE = 2048
MAX_CELLS = 2**31  # of one call of one site
MAX_SITES = 4096
_NO_LIST = "it has no valid list of the sites of its queries"


def save_sites(queries: Sequence[SiteQueries], path: Path) -> Path:
    """Write the queries of sites, for :meth:`Queries.save`."""
    check_suffix(path, NOUN)
    check = Check(path, NOUN, writing=True)
    text, found = check.dumped(
        [
            [site.site, list(site.size), site.heads, site.dim, list(site.calls), TYPES[site.dtype]]
            for site in queries
        ]
    )
    _check_sites(found, check)
    tensors = {
        f"{i}.{j}": site.read(j).to("cpu", site.dtype)
        for i, site in enumerate(queries)
        for j in range(len(site.parts))
    }
    for name, part in tensors.items():
        check_finite(name, part, check)
    return write_tensors(path, tensors, KIND.metadata(text), noun=NOUN)


def load_sites(path: Path) -> tuple[SiteQueries, ...]:
    """Read the queries of sites, for :meth:`Queries.load`."""
    check = Check(path, KIND.noun)
    with open_tensors(path, KIND.noun) as file:
        header = KIND.header(file)
        _check_sites(header, check)
        try:
            sites = _sites(header, path)
            for site in sites:
                for part in site.parts:
                    assert isinstance(part, StoredTensor)
                    _check_part(file.specs, part)
            return sites
        except AttributionFileError:
            raise
        except RDAAMError as error:
            check.fail(str(error).removesuffix("."))


def _check_sites(header: Any, check: Check) -> None:
    right = isinstance(header, list) and 1 <= len(header) <= MAX_SITES
    check(right and all(map(_is_site, header)), _NO_LIST)
    names = {entry[0] for entry in header}
    check(len(names) == len(header), f"{_NO_LIST}: a site is in it twice")


def _sites(header: list[Any], path: Path) -> tuple[SiteQueries, ...]:
    sites = []
    types = {name: dtype for dtype, name in TYPES.items()}
    for i, (name, (height, width), heads, dim, calls, kind) in enumerate(header):
        shape = (heads, height * width, dim)
        parts = tuple(StoredTensor(path, f"{i}.{j}", shape, types[kind]) for j in range(len(calls)))
        sites.append(SiteQueries(name, (height, width), heads, dim, tuple(calls), parts))
    return tuple(sites)


def _is_site(entry: Any) -> bool:
    if not (isinstance(entry, list) and len(entry) == 6 and is_text(entry[0])):
        return False
    _, size, heads, dim, calls, kind = entry
    right = kind in ("F16", "F32") and is_size(size, MAX_SIDE)
    right = right and isinstance(calls, list) and bool(calls)
    right = right and all(type(n) is int and 1 <= n <= MAX_SIDE for n in (heads, dim))
    right = right and all(is_count(call, MAX_CALL) for call in calls)
    # Ascending, so that none is counted twice.
    right = right and all(one < other for one, other in pairwise(calls))
    return right and math.prod((*size, heads, dim)) <= MAX_CELLS


def _check_part(specs: dict[str, TensorSpec], part: StoredTensor) -> None:
    found = specs.get(part.name)
    kind = TYPES[part.dtype]
    if found is None or tuple(found.shape) != part.shape or found.dtype != kind:
        raise AttributionFileError(
            f"{part.path} is not a valid file of queries: the tensor {part.name!r} is missing or "
            f"not of shape {part.shape} and type {kind}."
        )
