"""Attribution: everything that one recorded run tells about one image."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image

from diffusers_rdaam.attribution.choices import Names, Numbers, Sizes
from diffusers_rdaam.attribution.consistency import check_attribution
from diffusers_rdaam.attribution.detail import Kept
from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.heat_map import HeatMap
from diffusers_rdaam.attribution.prompt import Match, Prompt, Word, WordQuery
from diffusers_rdaam.attribution.region_words import DEFAULT_RANKING, Ranking, RegionWords
from diffusers_rdaam.attribution.selection import kept_by, select, site_names
from diffusers_rdaam.attribution.steps import Steps
from diffusers_rdaam.errors import InputError, RepeatedWordWarning
from diffusers_rdaam.geometry.grid import enlarge
from diffusers_rdaam.geometry.region import Box, Mask, RegionLike, as_region
from diffusers_rdaam.shapes import CellWeights, TokenScores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RunInfo = dict[str, str | int | float | bool | None]


@dataclass(frozen=True, eq=False)
class Attribution:
    """Which words made which regions of one image.

    The base quantity is ``P[k, y, x]``: the softmaxed attention probability of column ``k`` at a
    pixel, mean over heads, sites and denoiser calls, enlarged bicubically from each site's grid.
    Over all columns it sums to 1 at every pixel. It is never held at the image's size: a word's map
    enlarges one grid map, and a region's scores come from the enlargement's adjoint.

    Args:
        prompt: the prompt and its tokens, one per column.
        grids: the maps, one entry per grid size.
        image_size: height and width of the image in pixels.
        image: the image itself, where it was decoded.
        run: facts about the run: model, scheduler, steps, guidance scale, denoiser calls.
        kept: the maps apart by step, layer or head, where the run kept them so.
        negative_attribution: of the negative prompt, where the run kept it; its words are its own.
        mask: what was painted anew, where the run was given a mask; of the image's size.
    """

    prompt: Prompt
    grids: tuple[Grid, ...] = field(repr=False)
    image_size: tuple[int, int]
    image: Image.Image | None = field(default=None, repr=False)
    run: RunInfo = field(default_factory=dict)
    kept: Kept | None = field(default=None, repr=False)
    negative_attribution: Attribution | None = field(default=None, repr=False)
    mask: Mask | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_attribution(self)

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of the prompt, in order."""
        return self.prompt.words

    @property
    def nbytes(self) -> int:
        """Bytes of all maps: the grids, what was kept apart, and the negative prompt's."""
        grids = sum(grid.maps.numel() * grid.maps.element_size() for grid in self.grids)
        kept = 0 if self.kept is None else self.kept.nbytes
        negative = self.negative_attribution
        return grids + kept + (0 if negative is None else negative.nbytes)

    @property
    def steps(self) -> Steps:
        """The denoiser's calls one by one: ``steps[3]``, ``steps[10:20]``, ``steps.timesteps``.

        Raises:
            NoAttributionError: the run did not keep them apart.
        """
        return Steps(self)

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of all sites, as diffusers spells them."""
        return site_names(self)

    @property
    def heads(self) -> dict[str, int]:
        """How many heads each site has.

        Raises:
            NoAttributionError: the run did not keep them apart.
        """
        kept = kept_by(self, "heads")
        details = () if kept is None else kept.details
        return {site: detail.maps.shape[1] for detail in details for site in detail.sites}

    def select(
        self,
        *,
        layers: Names | None = None,
        heads: Numbers | None = None,
        resolutions: Sizes | None = None,
        steps: Numbers | None = None,
    ) -> Attribution:
        """The attribution of a part: of some layers, heads, grids and steps.

        ``attribution.select(layers="up_blocks", resolutions={16: 1.0, 64: 0.2})``. All columns
        still sum to 1 at every pixel; numbers then count what was selected, as in a list.

        Args:
            layers: names, dotted prefixes (``"mid_block"``), patterns (``"up_blocks.*.attn2"``).
            heads: a number from 0, several, or a slice.
            resolutions: ``(height, width)`` of a grid or ``n`` for a square one; several in a list;
                or a mapping of them to weights: a grid then counts weight times additions.
            steps: as heads.

        Raises:
            InputError: there is no such layer, head, grid or step.
            NoAttributionError: the run did not keep apart what was asked for.
        """
        return select(self, layers=layers, heads=heads, resolutions=resolutions, steps=steps)

    def word(self, query: WordQuery, *, occurrence: int | None = None) -> HeatMap:
        """Where a word or phrase is: its heat map at the image's size.

        Args:
            query: a word (``"cat"``), a phrase (``"blue eyes"``), the index of a word, or a
                ``(start, end)`` character span of the prompt.
            occurrence: which one (from 0) where it stands more than once; all added if not given,
                with a warning that says which.

        Raises:
            WordError: the prompt does not have it.
        """
        return self._word(query, occurrence)

    def _word(self, query: WordQuery, occurrence: int | None) -> HeatMap:
        match = self.prompt.find(query, occurrence=occurrence)
        if len(match.spans) > 1:
            # The caller of word() or of the brackets, both one call above.
            warnings.warn(_repeat_text(match), RepeatedWordWarning, stacklevel=3)
        return self.match(match)

    def match(self, match: Match) -> HeatMap:
        """The heat map of what ``attribution.prompt.find`` found."""
        return self._heat_map(match.columns, match.text, match.spans)

    def column(self, index: int) -> HeatMap:
        """The heat map of one token column, special tokens included.

        Raises:
            InputError: there is no such column.
        """
        count = len(self.prompt.tokens)
        if not -count <= index < count:
            raise InputError(f"There are {count} columns; {index} is not the index of one.")
        token = self.prompt.tokens[index]
        span = () if token.start is None or token.end is None else ((token.start, token.end),)
        return self._heat_map((token.column,), token.text, span)

    def __getitem__(self, query: WordQuery) -> HeatMap:
        """``attribution["cat"]`` is ``attribution.word("cat")``."""
        return self._word(query, None)

    def region(self, region: RegionLike, *, ranking: Ranking = DEFAULT_RANKING) -> RegionWords:
        """Which words made a region.

        Args:
            region: a box ``(left, top, right, bottom)`` in pixels, half-open; a polygon as a list
                of ``(x, y)`` points; or a mask of the image's size. What reaches beyond the image
                is cut off.
            ranking: ``"lift"`` (default), ``"score"`` or ``"share"``.

        Raises:
            RegionError: ``region`` is none of these, is empty, or lies outside the image.
        """
        checked = as_region(region)
        weights = checked.grid_weights(self.image_size, [grid.size for grid in self.grids])
        scores = self._weighted(weights)
        return RegionWords(self.prompt, scores, self._levels, checked, ranking, self.image)

    def regions(
        self, regions: Iterable[RegionLike], *, ranking: Ranking = DEFAULT_RANKING
    ) -> list[RegionWords]:
        """:meth:`region` of each."""
        return [self.region(region, ranking=ranking) for region in regions]

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file that :meth:`load` reads without any model; returns its path."""
        from diffusers_rdaam.attribution.files import save_attribution

        return save_attribution(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Attribution:
        """Read a file that :meth:`save` wrote.

        Raises:
            AttributionFileError: it is truncated, corrupted, foreign, or of an unknown version.
        """
        from diffusers_rdaam.attribution.files import load_attribution

        return load_attribution(Path(path))

    def plot(self) -> Figure:
        """A matplotlib figure: the image and every word's heat map (needs the extra ``plot``)."""
        from diffusers_rdaam.drawing.figure import heat_maps_figure

        words = {word.text.casefold(): word for word in self.words if word.columns}
        maps = [
            (word.text, self._heat_map(columns, word.text, ()).values)
            for key, word in words.items()
            for columns in [self._columns_of_text(key)]
        ]
        return heat_maps_figure(maps, self.image, self.prompt.text or "")

    def _heat_map(
        self, columns: tuple[int, ...], text: str, spans: tuple[tuple[int, int], ...]
    ) -> HeatMap:
        height, width = self.image_size
        values = torch.zeros(height, width)
        for grid, part in zip(self.grids, self._parts, strict=True):
            values += enlarge(grid.maps[list(columns)].sum(dim=0) * part, height, width)
        return HeatMap(values, text, spans, columns, self.image, self)

    def _columns_of_text(self, key: str) -> tuple[int, ...]:
        same = (word.columns for word in self.words if word.text.casefold() == key)
        return tuple(sorted({column for columns in same for column in columns}))

    @cached_property
    def _parts(self) -> list[float]:
        """Each grid's share: its number of (site, call) pairs times its weight, over the sum."""
        weights = [grid.weight * grid.additions for grid in self.grids]
        return [weight / sum(weights) for weight in weights]

    @cached_property
    def _levels(self) -> TokenScores:
        height, width = self.image_size
        sizes = [grid.size for grid in self.grids]
        return self._weighted(Box(0, 0, width, height).grid_weights(self.image_size, sizes))

    def _weighted(self, weights: list[CellWeights]) -> TokenScores:
        scores = torch.zeros(len(self.prompt.tokens))
        for grid, part, cells in zip(self.grids, self._parts, weights, strict=True):
            scores += part * (grid.maps.flatten(1) @ cells.flatten())
        return scores

    def __repr__(self) -> str:
        height, width = self.image_size
        grids = ", ".join(f"{grid.size[1]}x{grid.size[0]}" for grid in self.grids)
        prompt = self.prompt.text
        text = "no text" if prompt is None else repr(textwrap.shorten(prompt, 80, placeholder="…"))
        return (
            f"Attribution({text}, {len(self.words)} words, image {width}x{height}, grids {grids}, "
            f"{self.nbytes / 1e6:.2f} MB)"
        )

    def _repr_html_(self) -> str:
        from diffusers_rdaam.drawing.html import coloured_text, picture

        levels = self._levels.tolist()
        values = {word: sum(levels[i] for i in word.columns) for word in self.words}
        highest = max([*values.values(), 1e-12])
        spans = [
            (word.start, word.end, value / highest, f"mean probability {value:.4f}")
            for word, value in values.items()
        ]
        shown = "" if self.image is None else picture(self.image, repr(self))
        text = coloured_text(self.prompt.text or "", spans)
        return f"<div>{shown}{text}</div>"


def _repeat_text(match: Match) -> str:
    places = " and ".join(f"{start}-{end}" for start, end in match.spans)
    return (
        f"{match.text!r} stands {len(match.spans)} times in the prompt (characters {places}); "
        "their maps were added. Pass occurrence=0 for the first alone."
    )
