"""Files of queries: safetensors with a checked header. A file from a stranger is bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from diffusers_rdaam.attribution.queries import TYPES, Queries, SiteQueries, StoredTensor
from diffusers_rdaam.errors import AttributionFileError, InputError

FORMAT = "diffusers_rdaam.queries"
VERSION = 1
MAX_HEADER = 16_000_000
MAX_SIDE = 2048
MAX_CELLS = 2**31  # of one call of one site


def save_queries(queries: Queries, path: Path) -> Path:
    """See :meth:`Queries.save`."""
    header = [
        [site.site, list(site.size), site.heads, site.dim, list(site.calls), TYPES[site.dtype]]
        for site in queries.sites
    ]
    tensors = {
        f"{i}.{j}": site.read(j).to("cpu", site.dtype).contiguous()
        for i, site in enumerate(queries.sites)
        for j in range(len(site.parts))
    }
    metadata = {"format": FORMAT, "version": str(VERSION), "sites": json.dumps(header)}
    try:
        save_file(tensors, path, metadata)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"The queries could not be written to {path}: {error}. Give a path in a folder "
            "that exists and may be written."
        ) from error
    return path


def load_queries(path: Path) -> Queries:
    """See :meth:`Queries.load`."""
    try:
        with safe_open(path, framework="pt") as file:
            sites = _sites(file.metadata() or {}, path)
            present = set(file.keys())
            for site in sites:
                for part in site.parts:
                    assert isinstance(part, StoredTensor)
                    _check_part(file, part, present)
    except (SafetensorError, OSError) as error:
        raise AttributionFileError(
            f"{path} is not a whole safetensors file ({error}). Were the queries moved?"
        ) from error
    return Queries(sites)


def _sites(metadata: dict[str, str], path: Path) -> tuple[SiteQueries, ...]:
    if metadata.get("format") != FORMAT:
        raise AttributionFileError(
            f"{path} is a safetensors file, but not queries of diffusers_rdaam."
        )
    if metadata.get("version") != str(VERSION):
        raise AttributionFileError(
            f"{path} has format version {metadata.get('version', '')[:20]!r}; this release reads "
            f"version {VERSION}."
        )
    text = metadata.get("sites", "")
    try:
        header = json.loads(text) if len(text) <= MAX_HEADER else None
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, list) or not header or not all(map(_is_site, header)):
        raise AttributionFileError(f"{path} has no valid list of the sites of its queries.")
    sites = []
    types = {name: dtype for dtype, name in TYPES.items()}
    for i, (name, (height, width), heads, dim, calls, kind) in enumerate(header):
        shape = (heads, height * width, dim)
        parts = tuple(StoredTensor(path, f"{i}.{j}", shape, types[kind]) for j in range(len(calls)))
        sites.append(SiteQueries(name, (height, width), heads, dim, tuple(calls), parts))
    return tuple(sites)


def _is_site(entry: Any) -> bool:
    if not (isinstance(entry, list) and len(entry) == 6 and isinstance(entry[0], str)):
        return False
    _, size, heads, dim, calls, kind = entry
    right = kind in ("F16", "F32")
    right = (
        right
        and isinstance(size, list)
        and len(size) == 2
        and isinstance(calls, list)
        and bool(calls)
    )
    right = right and all(type(n) is int and 1 <= n <= MAX_SIDE for n in (*size, heads, dim))
    right = right and all(type(call) is int and 0 <= call <= 2**31 for call in calls)
    return right and size[0] * size[1] * heads * dim <= MAX_CELLS


def _check_part(file: Any, part: StoredTensor, present: set[str]) -> None:
    found = file.get_slice(part.name) if part.name in present else None
    kind = TYPES[part.dtype]
    if found is None or tuple(found.get_shape()) != part.shape or found.get_dtype() != kind:
        raise AttributionFileError(
            f"{part.path} is not a valid file of queries: the tensor {part.name!r} is missing or "
            f"not of shape {part.shape} and type {kind}."
        )
