"""Queries: the attention queries of the image at each site and call, for use after the run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from diffusers_rdaam.attribution.choosing import (
    Names,
    Numbers,
    Sizes,
    chosen_grids,
    chosen_numbers,
    chosen_sites,
)
from diffusers_rdaam.attribution.files.query_file import load_sites, save_sites
from diffusers_rdaam.attribution.site_queries import SiteQueries
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.shapes import Size


@dataclass(frozen=True, eq=False, repr=False)
class Queries:
    """One image's queries, from which a pipeline makes the attribution of any text.

    Args:
        sites: those that were kept, in the order of the denoiser's modules.
    """

    sites: tuple[SiteQueries, ...]

    def __post_init__(self) -> None:
        if not self.sites:
            raise InputError("Queries need at least one site.")
        names = [site.site for site in self.sites]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"Queries have each site once; {twice[:200]!r} occurs twice.")

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the sites."""
        return tuple(site.site for site in self.sites)

    @property
    def calls(self) -> tuple[int, ...]:
        """Numbers, from 0, of the denoiser calls of which any site was kept."""
        return tuple(sorted({call for site in self.sites for call in site.calls}))

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The grids, largest first."""
        return tuple(
            sorted({site.size for site in self.sites}, key=lambda size: -size[0] * size[1])
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all queries, in memory or in files."""
        return sum(site.nbytes for site in self.sites)

    def select(
        self,
        *,
        layers: Names | None = None,
        resolutions: Sizes | None = None,
        steps: Numbers | None = None,
    ) -> Queries:
        """The queries of a part: no copy.

        Args:
            layers, resolutions: as in :meth:`Attribution.select`.
            steps: places in ``calls``: numbers, several, or a slice.

        Raises:
            InputError: there is no such layer, grid or step, or not together.
        """
        sites: Iterable[SiteQueries] = self.sites
        if layers is not None:
            names = chosen_sites(layers, self.layers)
            sites = [site for site in sites if site.site in names]
        if resolutions is not None:
            sizes = chosen_grids(resolutions, dict.fromkeys(self.sizes, 1.0))
            sites = [site for site in sites if site.size in sizes]
        if steps is not None:
            calls = self.calls
            wanted = {calls[number] for number in chosen_numbers(steps, len(calls), "steps")}
            sites = [site.of_calls(wanted) for site in sites if wanted & set(site.calls)]
        if not (chosen := tuple(sites)):
            raise InputError(
                "No queries are left: none of the chosen layers is on the chosen grids at the "
                "chosen steps. Choose fewer of these at once."
            )
        return Queries(chosen)

    def __repr__(self) -> str:
        grids = ", ".join(f"{height}x{width}" for height, width in self.sizes)
        return (
            f"Queries({len(self.sites)} sites, grids {grids} (height x width), "
            f"{len(self.calls)} calls, {self.nbytes / 1e6:.2f} MB)"
        )

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file that :meth:`load` reads; returns its path.

        Raises:
            InputError: the folder does not exist or may not be written.
        """
        return save_sites(self.sites, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Queries:
        """The queries that :meth:`save` wrote; each part is read from the file when it is needed.

        Raises:
            AttributionFileError: it is truncated, foreign, or not whole.
        """
        return cls(load_sites(Path(path)))
