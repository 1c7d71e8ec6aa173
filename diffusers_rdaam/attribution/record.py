"""Record: what one run recorded of one image, checked; its maps at pixels and over regions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import torch
from PIL import Image

from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.kept_maps import GridKey, KeptMaps, grid_key
from diffusers_rdaam.attribution.left_out import Absence
from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.attribution.queries import Queries
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.attribution.text_vocabulary import Vocabulary
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.float32_products import multiply
from diffusers_rdaam.geometry.exact import in_full_precision
from diffusers_rdaam.geometry.grid import enlarge
from diffusers_rdaam.geometry.region import Box, Mask, Region
from diffusers_rdaam.shapes import Column, Size, TokenScores

if TYPE_CHECKING:
    from typing_extensions import Self

RunInfo = dict[str, str | int | float | bool | None]


@dataclass(frozen=True, eq=False)
class Record:
    """What one run recorded of one image: the data below :class:`Attribution`.

    The base quantity is ``P[k, y, x]``: the softmaxed attention probability of column ``k`` at a
    pixel, mean over heads, sites and denoiser calls, enlarged bicubically from each site's grid.
    Over all columns it sums to 1 at every pixel. It is never held at the image's size: a word's map
    enlarges one grid map, and a region's scores come from the enlargement's adjoint.

    The records within a record (of the negative prompt, of other texts, of steps with another
    prompt) are of the same class as the record itself.

    Args:
        prompt: the prompt and its tokens, one per column.
        grids: the maps, one entry per grid size.
        image_size: height and width of the image in pixels.
        image: the image itself, where it was decoded.
        run: facts about the run: model, scheduler, steps, guidance scale, denoiser calls.
        kept: the maps of single steps, layers or heads, where the run kept them.
        negative_attribution: of the negative prompt and its words, where the run kept it.
        mask: what was painted anew, where the run was given a mask; of the image's size.
        queries: from which a pipeline makes the attribution of any text, where the run kept them.
        vocabulary: of other texts that the run was given, each with its words.
        switched: of the steps with another prompt, where one was put in during the run and steps
            were kept; ``steps`` has them all.
        self_grids: the image's attention to itself, where the run kept it; a selection has it as a
            whole.
        left_out: why a part is not here that a run can keep, by ``"steps"``, ``"layers"``,
            ``"heads"``, ``"squares"``, ``"queries"`` or ``"self_attention"``; a part that is
            not here and not named was not kept. Not in files.

    Raises:
        InputError: two of the parts do not belong together.
    """

    prompt: Prompt
    grids: tuple[Grid, ...] = field(repr=False)
    image_size: tuple[int, int]
    image: Image.Image | None = field(default=None, repr=False)
    run: RunInfo = field(default_factory=dict)
    kept: KeptMaps | None = field(default=None, repr=False)
    negative_attribution: Self | None = field(default=None, repr=False)
    mask: Mask | None = field(default=None, repr=False)
    queries: Queries | None = field(default=None, repr=False)
    vocabulary: Mapping[str, Self] = field(default_factory=dict, repr=False)
    self_grids: tuple[SelfGrid, ...] = field(default=(), repr=False)
    switched: tuple[Self, ...] = field(default=(), repr=False)
    left_out: Mapping[str, Absence] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        _check(self)
        object.__setattr__(self, "vocabulary", Vocabulary(self.vocabulary))

    @property
    def nbytes(self) -> int:
        """Bytes of all maps: the grids, single steps, layers and heads, self-attention, and those
        of the negative prompt and the vocabulary. Queries have ``nbytes`` themselves.
        """
        others = (
            self.kept,
            self.negative_attribution,
            *self.vocabulary.values(),
            *self.switched,
        )
        parts = (*self.grids, *self.self_grids, *others)
        return sum(part.nbytes for part in parts if part is not None)

    def pixels(self, columns: Sequence[int], *, size: Size | None = None) -> Column:
        """The sum of some columns' probabilities at every pixel, ``(height, width)`` float32.

        Args:
            columns: their numbers.
            size: height and width of the result; the image's if not given.
        """
        height, width = self.image_size if size is None else size
        values = torch.zeros(height, width, dtype=torch.float32, device="cpu")
        for grid, share in zip(self.grids, self.grid_shares, strict=True):
            values += enlarge(grid.maps[list(columns)].sum(dim=0) * share, height, width)
        return values

    @in_full_precision
    def scores(self, region: Region) -> TokenScores:
        """The area-weighted mean of each column's probability over a region; they sum to 1.

        Raises:
            RegionError: the region lies outside the image.
        """
        weights = region.grid_weights(self.image_size, [grid.size for grid in self.grids])
        scores = torch.zeros(len(self.prompt.tokens), dtype=torch.float32, device="cpu")
        for grid, share, cells in zip(self.grids, self.grid_shares, weights, strict=True):
            scores += share * multiply(grid.maps.flatten(1), cells.flatten())
        return scores

    @cached_property
    def levels(self) -> TokenScores:
        """The mean of each column's probability over the whole image; they sum to 1."""
        height, width = self.image_size
        return self.scores(Box(0, 0, width, height))

    @cached_property
    def refined_records(self) -> dict[str, Record]:
        """The refined records that words were read from, by method, kept for the next word."""
        return {}

    @cached_property
    def grid_shares(self) -> list[float]:
        """Each grid's share: its number of (site, call) pairs times its weight, over the sum."""
        weights = [grid.weight * grid.additions for grid in self.grids]
        return [weight / sum(weights) for weight in weights]


AnyRecord = TypeVar("AnyRecord", bound=Record)


def _check(record: Record) -> None:
    """Compare the sizes of maps, image, mask and negative prompt.

    Raises:
        InputError: two of them do not belong together.
    """
    if not record.grids:
        raise InputError("An attribution needs the maps of at least one grid.")
    image, size = record.image, record.image_size
    if image is not None and image.size[::-1] != size:
        raise InputError(
            f"The image is {image.width} pixels wide and {image.height} high, but "
            f"image_size (height, width) is {size}."
        )
    for name, value in record.run.items():
        if value is not None and not isinstance(value, (str, int, float, bool)):
            raise InputError(
                f"Facts about a run are texts and numbers; {name!r} is a {type(value).__name__}."
            )
    _check_columns([grid.maps.shape[0] for grid in record.grids], record)
    if record.kept is not None:
        _check_kept(record.kept, record)
    if record.mask is not None:
        record.mask.coverage(size)
    _check_self_grids(record.self_grids)
    _check_records_within(record)


def _check_self_grids(grids: tuple[SelfGrid, ...]) -> None:
    """Several entries of one grid size are of sites that were kept separately."""
    sites = [(grid.size, site) for grid in grids for site in grid.sites or ("",)]
    if len(set(sites)) != len(sites):
        sizes = [grid.size for grid in grids]
        raise InputError(
            "Self-attention has each grid once, or each site of a grid once; got the grids "
            f"{sizes} (height, width) with a site that repeats."
        )


def _check_records_within(record: Record) -> None:
    size = record.image_size
    for text, other in record.vocabulary.items():
        if other.image_size != size:
            raise InputError(
                f"The vocabulary's {text!r} is of an image of {other.image_size} (height, width), "
                f"this attribution of {size}."
            )
    for other in record.switched:
        if other.image_size != size or other.switched or other.kept is None:
            raise InputError(
                "The steps with another prompt are an attribution of the same image size that "
                "kept its steps, and has no steps of further prompts."
            )
    negative = record.negative_attribution
    if negative is not None:
        if negative.negative_attribution is not None:
            raise InputError("A negative prompt's attribution has no negative prompt of its own.")
        if negative.image_size != size:
            raise InputError(
                f"The negative prompt's attribution is of an image of {negative.image_size} "
                f"(height, width), this one of {size}."
            )


def _check_columns(columns: list[int], record: Record) -> None:
    tokens = len(record.prompt.tokens)
    for count in columns:
        if count != tokens:
            raise InputError(
                f"The maps have {count} columns, the prompt {tokens} tokens; they must be the same."
            )


def _check_kept(kept: KeptMaps, record: Record) -> None:
    _check_columns([detail.maps.shape[2] for detail in kept.details], record)
    additions: Counter[GridKey] = Counter()
    for detail in kept.details:
        additions[grid_key(detail)] += sum(detail.additions)
    wanted = {grid_key(grid): grid.additions for grid in record.grids}
    if len(wanted) != len(record.grids):
        raise InputError(
            "Where maps were kept separately there is one grid of each size and stream."
        )
    for key in wanted | additions:
        if wanted.get(key, 0) != additions[key]:
            raise InputError(
                "What was kept separately must be what the grids are the mean of. The grid "
                f"{key[0]} (height, width) has {wanted.get(key, 0)} additions, what was kept "
                f"separately {additions[key]}."
            )
