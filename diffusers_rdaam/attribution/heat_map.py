"""HeatMap: one word or phrase over the image."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from diffusers_rdaam.argument_checks import (
    check_choice,
    check_count,
    check_share,
    check_threshold,
    real_number,
)
from diffusers_rdaam.attribution.aggregations.aggregation import Recipe
from diffusers_rdaam.attribution.left_out import SELF_ATTENTION
from diffusers_rdaam.attribution.prompt import EncoderQuery, Match, WordQuery
from diffusers_rdaam.attribution.record import Record
from diffusers_rdaam.attribution.region_words import sum_columns
from diffusers_rdaam.attribution.self_attention.refinement import (
    DEFAULT_REFINEMENT,
    Refinement,
    check_refinement,
    refined_pixels,
)
from diffusers_rdaam.attribution.self_grid import kept_self_grids
from diffusers_rdaam.attribution.thresholds import (
    DEFAULT_THRESHOLD,
    SHARPENED_MORE,
    Threshold,
    chosen_threshold,
    threshold_of,
    threshold_of_refined,
)
from diffusers_rdaam.attribution.timeline import Timeline, timeline_of
from diffusers_rdaam.drawing.overlay import OPACITY, check_opacity, colourise, overlay
from diffusers_rdaam.drawing.pictures import base_image
from diffusers_rdaam.errors import InputError, RegionError
from diffusers_rdaam.files.pictures import write_png
from diffusers_rdaam.files.writing import replacing
from diffusers_rdaam.geometry.components import Component, components
from diffusers_rdaam.geometry.guided_filter import EPS, guided_filter
from diffusers_rdaam.geometry.region import Box, RegionLike, as_region
from diffusers_rdaam.geometry.run_lengths import RunLengths, run_lengths
from diffusers_rdaam.shapes import BinaryMask, Column

if TYPE_CHECKING:
    from typing import Protocol

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from diffusers_rdaam.attribution.region_words import Ranking, RegionWords
    from diffusers_rdaam.drawing.pictures import ImageLike
    from diffusers_rdaam.geometry.region import Region
    from diffusers_rdaam.shapes import TokenScores

    class AttributionLike(Protocol):
        """What type checkers know of a heat map's attribution, whose class is defined above it."""

        @property
        def levels(self) -> TokenScores: ...
        def scores(self, region: Region) -> TokenScores: ...
        def region(self, region: RegionLike, *, ranking: Ranking = ...) -> RegionWords: ...
        def word(
            self,
            query: WordQuery,
            *,
            occurrence: int | None = ...,
            encoder: EncoderQuery | None = ...,
        ) -> HeatMap: ...
else:
    AttributionLike = Record

# What the values are of a text that was given as a concept, by the fact of its run.
_QUANTITIES = {"softmax": "share among the concepts", "scores": "score of the concept"}
Part = Literal["largest", "all"]
# Of the largest part of a mask; smaller parts are not objects to boxes().
LEAST_PART = 0.1


@dataclass(frozen=True, eq=False)
class HeatMap:
    """The attention probability of a word at every pixel.

    Args:
        values: ``(height, width)`` float32; probabilities, summed over the word's tokens. All
            columns of an attribution sum to 1 at every pixel.
        text: the word or phrase.
        spans: where it stands in the prompt, as character spans.
        columns: the columns that were summed.
        image: the image, where the attribution has one.
        attribution: that it is of, where it is of one. A pickle or a copy of the heat map leaves
            it out.
        encoders: for each span the number of the text that it is a span of, from 1; empty where
            the prompt has one text.
        quantity: what the values are, for scales.
        recipe: the aggregation that made the map; None for the mean, which is the base quantity.
        threshold: where its mask begins by default, on the map stretched to 0 to 1; each kind of
            map has one of its own.
    """

    values: Column = field(repr=False)
    text: str
    spans: tuple[tuple[int, int], ...] = ()
    columns: tuple[int, ...] = ()
    image: Image.Image | None = field(default=None, repr=False)
    attribution: AttributionLike | None = field(default=None, repr=False)
    encoders: tuple[int, ...] = field(default=(), repr=False)
    quantity: str = field(default="attention probability", repr=False)
    recipe: Recipe | None = field(default=None, repr=False)
    threshold: float = field(default=DEFAULT_THRESHOLD, repr=False)

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.numel() == 0:
            shape = tuple(self.values.shape)
            raise InputError(f"A heat map's values are (height, width), these are {shape}.")
        check_threshold(self.threshold, "the map stretched to 0 to 1")

    @classmethod
    def aggregated(cls, attribution: Record, match: Match, recipe: Recipe) -> HeatMap:
        """The map of some columns of an attribution by a recipe.

        Raises:
            NoAttributionError: the run did not keep what the recipe needs.
            InputError: an option of the recipe has an invalid value.
        """
        return cls(
            recipe.pixels(attribution, match, attribution.image_size),
            match.text,
            match.spans,
            match.columns,
            attribution.image,
            cast("AttributionLike", attribution),
            match.encoders,
            recipe.aggregation.quantity,
            recipe,
            recipe.aggregation.threshold_of(attribution.run),
        )

    @classmethod
    def read_from(cls, attribution: Record, match: Match) -> HeatMap:
        """The map of some columns of an attribution, which its masses are then read from too."""
        values = attribution.pixels(match.columns)
        heat_map = cls(
            values,
            match.text,
            match.spans,
            match.columns,
            attribution.image,
            cast("AttributionLike", attribution),
            match.encoders,
            quantity=_QUANTITIES.get(str(attribution.run.get("concept_maps")), cls.quantity),
            threshold=threshold_of(attribution.run),
        )
        # Not a field: a map that replace() makes of this one has values of its own.
        object.__setattr__(heat_map, "_read", _version(values))
        return heat_map

    def __getstate__(self) -> dict[str, Any]:
        """The contents of a pickle or a copy: values and names, never the whole attribution."""
        state = {**self.__dict__, "attribution": None}
        state.pop("_read", None)
        return state

    @property
    def _is_as_read(self) -> bool:
        """Whether the values are those of the attribution's columns, not changed in place since."""
        return self.__dict__.get("_read") == _version(self.values)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (self.values.shape[0], self.values.shape[1])

    @property
    def normalized(self) -> Column:
        """The values stretched to 0 to 1 (min-max); all 0 where the map is flat."""
        low, high = self.values.min(), self.values.max()
        if not bool(high > low):
            return torch.zeros_like(self.values)
        return (self.values - low) / (high - low)

    @property
    def peak(self) -> float:
        """The highest of the values.

        Every map has a highest place, also that of a word that made nothing: stretched to 0 to 1
        the two look alike. The peak is what differs most.
        """
        return float(self.values.max())

    @property
    def peak_pixel(self) -> tuple[int, int]:
        """The pixel ``(x, y)`` of the highest value; the first by rows where several have it."""
        row, column = divmod(int(self.values.argmax()), self.values.shape[1])
        return column, row

    def mask(self, threshold: Threshold | None = None) -> BinaryMask:
        """Pixels whose normalized value is over the threshold, as booleans ``(height, width)``.

        Args:
            threshold: in [0, 1); or ``"otsu"``, the one that parts the values into the two classes
                that differ most; that of this kind of map, ``heat_map.threshold``, if not given.

        Raises:
            InputError: the threshold is none of these.
        """
        stretched = self.normalized
        chosen = self.threshold if threshold is None else threshold
        return stretched > chosen_threshold(chosen, stretched)

    def box(self, threshold: Threshold | None = None, *, component: Part = "largest") -> Box:
        """The smallest box around the largest part of :meth:`mask`.

        Args:
            threshold: as in :meth:`mask`.
            component: ``"largest"``, the connected part with the most pixels; or ``"all"`` of them.

        Raises:
            InputError: the threshold or the component is not one of these.
            RegionError: the map is flat, so that no pixel is over any threshold.
        """
        check_choice(component, Part, "a component")
        parts = self._parts(threshold)
        if component == "largest":
            return parts[0].box
        left, top, right, bottom = zip(*(part.box for part in parts), strict=True)
        return Box(min(left), min(top), max(right), max(bottom))

    def boxes(
        self, threshold: Threshold | None = None, *, least: float = LEAST_PART
    ) -> tuple[Box, ...]:
        """The box around each connected part of :meth:`mask`, the largest part first.

        For a word of which the image has several. Parts with few pixels are left out.

        Args:
            threshold: as in :meth:`mask`.
            least: how many pixels a part has at least, as a share of those of the largest part.

        Raises:
            InputError: the threshold is not one, or ``least`` does not lie in [0, 1].
            RegionError: the map is flat, so that no pixel is over any threshold.
        """
        share = check_share(least, "least=, a share of the largest part,")
        parts = self._parts(threshold)
        return tuple(part.box for part in parts if part.pixels >= share * parts[0].pixels)

    def _parts(self, threshold: Threshold | None) -> list[Component]:
        parts = components(self.mask(threshold))
        if not parts:
            raise RegionError(f"The heat map of {self.text!r} is flat: it has no region.")
        return parts

    def mass(self, region: RegionLike) -> float:
        """The area-weighted mean of the values over a region: the word's score there.

        Raises:
            RegionError: ``region`` is not a region of this image.
        """
        checked = as_region(region, image_size=self.size)
        if self.attribution is not None and self._is_as_read:
            # The same sums in the same order as in RegionWords, so that both are one number.
            return sum_columns(self.attribution.scores(checked), self.columns)
        coverage = checked.coverage(self.size)
        return float((self.values.double() * coverage).sum() / coverage.double().sum())

    def inside(self, region: RegionLike) -> float:
        """The share of the map that lies in a region: ``sum(m * c) / sum(m)`` over all pixels.

        ``m`` are the values and ``c`` which share of each pixel the region covers. A map that is
        the same everywhere gives the region's share of the area.

        Raises:
            RegionError: ``region`` is not a region of this image.
        """
        checked = as_region(region, image_size=self.size)
        coverage = checked.coverage(self.size)
        if self.attribution is not None and self._is_as_read:
            level = sum_columns(self.attribution.levels, self.columns)
            score = sum_columns(self.attribution.scores(checked), self.columns)
            return float(coverage.double().mean()) * (score / level) if level > 0.0 else 0.0
        whole = float(self.values.double().sum())
        return float((self.values.double() * coverage).sum()) / whole if whole > 0.0 else 0.0

    def resize(self, size: tuple[int, int]) -> HeatMap:
        """The same map at another ``(height, width)``: bicubic, anti-aliased when it shrinks."""
        height, width = _checked_size(size)
        values = F.interpolate(
            self.values[None, None],
            size=(height, width),
            mode="bicubic",
            align_corners=False,
            antialias=True,
        )
        image = None if self.image is None else self.image.resize((width, height))
        return replace(self, values=values[0, 0], image=image)

    def refined(self, method: Refinement = DEFAULT_REFINEMENT) -> HeatMap:
        """The same word, its map corrected by the image's self-attention.

        The map is that of ``attribution.refined(method).word(…)``, in which all columns sum to 1 at
        every pixel. The map of an aggregation is refined as a whole and not divided by others.

        Args:
            method: ``"product"`` (the default; what helps most on the embedded model),
                ``"guided"``, ``"power"``, ``"ovam"`` or ``"none"``: see
                :mod:`diffusers_rdaam.attribution.self_attention.refinement`.

        Raises:
            NoAttributionError: the run did not keep its self-attention.
            InputError: the map was made by hand and is of no attribution; no such method.
        """
        check_refinement(method)
        record = self._record("there is nothing to refine it with", "refined")
        kept_self_grids(record.self_grids, record.left_out.get(SELF_ATTENTION))
        if method == "none":
            return self
        threshold = threshold_of_refined(method, record.run)
        if self.recipe is None:
            values = refined_pixels(record, self.columns, self.size, method)
        else:
            match = Match(self.text, self.spans, self.columns, self.encoders)
            values = self.recipe.refined_pixels(record, match, self.size, method)
            measured = self.recipe.aggregation.refined_threshold
            if measured is not None and method == DEFAULT_REFINEMENT:
                threshold = measured
        return replace(self, values=values, threshold=threshold)

    def sharpened(
        self, image: ImageLike = None, *, radius: int | None = None, eps: float = EPS
    ) -> HeatMap:
        """The same map with the edges of the image, by a guided filter (He, Sun and Tang, 2013).

        Attention is as coarse as its grid. In each window the filtered map is the linear function
        of the image's colours that is nearest to the map, so that it changes where the image does.
        Where objects have the colours of their background there is little to gain.

        Args:
            image: the guide, of any size; the map's image if not given.
            radius: of the windows, in pixels of the map; a sixteenth of its shorter side if not
                given.
            eps: of the colours' variance, from 0 to 1, what counts as flat.

        Raises:
            InputError: there is no image, or ``radius`` or ``eps`` is out of range.
        """
        height, width = self.size
        pixels = max(1, min(height, width) // 16)
        if radius is not None:
            pixels = check_count(radius, "radius=")
        number = real_number(eps)
        if number is None or not number > 0.0:
            raise InputError(f"eps= is over 0, a variance of colours from 0 to 1; got {eps!r}.")
        picture = base_image(image, self.image, "heat map").convert("RGB")
        guide = np.array(picture.resize((width, height)), dtype=np.float32) / 255.0
        channels = torch.from_numpy(guide).permute(2, 0, 1)
        values = guided_filter(self.values, channels, pixels, number).clamp(min=0.0)
        return replace(self, values=values, threshold=min(self.threshold + SHARPENED_MORE, 0.95))

    def over_time(self) -> Timeline[HeatMap]:
        """The same word at each step of the run: a film strip, an animation, scores over steps.

        Raises:
            NoAttributionError: the run did not keep its steps separately.
            InputError: the map was made by hand and is of no attribution.
        """
        record = self._record("it has no steps", "over_time")
        if self.recipe is not None:
            raise InputError(
                f"The heat map of {self.text!r} is an aggregation of the whole run, "
                f"{self.recipe}, and has no steps. Ask attribution.word({self.text!r})"
                ".over_time(), or aggregate a part: attribution.select(steps=…).aggregated(…)."
            )
        match = Match(self.text, self.spans, self.columns, self.encoders)
        return timeline_of(record, match, partial(HeatMap, threshold=self.threshold))

    def _record(self, lack: str, method: str) -> Record:
        if self.attribution is None:
            raise InputError(
                f"The heat map of {self.text!r} has no attribution, so {lack}: made by hand, "
                "copied or unpickled, a heat map is its values alone. Ask "
                f"attribution.word(…).{method}()."
            )
        return cast(Record, self.attribution)

    def numpy(self) -> np.ndarray:
        """A copy of the values: ``(height, width)`` float32, probabilities."""
        return self.values.detach().cpu().float().numpy().copy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """``numpy.asarray(heat_map)`` is :meth:`numpy`, so that numpy's functions take the map.

        Raises:
            ValueError: ``copy=False``; the values are always copied.
        """
        if copy is False:
            raise ValueError("A heat map is copied into an array; pass copy=None or copy=True.")
        return self.numpy() if dtype is None else self.numpy().astype(dtype, copy=False)

    def coco(self, threshold: Threshold | None = None) -> RunLengths:
        """:meth:`mask` in COCO's run-length form: ``{"size": [h, w], "counts": […]}``, for JSON.

        Raises:
            InputError: as :meth:`mask`.
        """
        return run_lengths(self.mask(threshold))

    def save(self, path: str | Path) -> Path:
        """Write the map, by the ending of the name; returns the path.

        ``.npy`` has the values ``(height, width)`` float32; ``.png`` the overlay, or the colours
        alone where there is no image.

        Raises:
            InputError: another ending, or the file cannot be written.
        """
        target = Path(path)
        ending = target.suffix.lower()
        if ending == ".npy":
            with replacing(target, "heat map") as file:
                np.save(file, self.numpy())
        elif ending == ".png":
            write_png(target, self._picture(), "heat map")
        else:
            raise InputError(
                "A heat map is saved as .npy (its values) or .png (a picture); got "
                f"{target.name!r}."
            )
        return target

    def overlay(
        self,
        image: ImageLike = None,
        *,
        opacity: float = OPACITY,
        alpha: float | None = None,
        cmap: str | None = None,
        vmin: float | None = None,
        vmax: float | None = None,
    ) -> Image.Image:
        """The map in colours over the image, which keeps its colours where the map is weak.

        The opacity rises with the value: the lowest leaves the image as it is.
        :meth:`Attribution.overlay` draws several words with one scale.

        Args:
            image: a PIL image, an array, or the path of a file; the attribution's image if not
                given.
            opacity: of the highest value, 0 to 1.
            alpha: matplotlib's name for the opacity.
            cmap: the name of a colour map of matplotlib; the package's if not given.
            vmin, vmax: the probabilities of the first and the last colour; the lowest and the
                highest of this map if not given.

        Raises:
            InputError: there is no image, the opacity is not in [0, 1], vmin is not below vmax, or
                there is no such colour map.
            PlotExtraError: a colour map was named, and matplotlib is not installed.
        """
        number = check_opacity(opacity if alpha is None else alpha)
        base = base_image(image, self.image, "heat map")
        heat = self if base.size == self.size[::-1] else self.resize((base.height, base.width))
        return overlay(base, heat._stretched(vmin, vmax), opacity=number, cmap=cmap)

    def _stretched(self, vmin: float | None, vmax: float | None) -> Column:
        """The values stretched so that ``vmin`` is 0 and ``vmax`` is 1."""
        if vmin is None and vmax is None:
            return self.normalized
        low, high = check_limits(vmin, vmax, [self.values])
        return ((self.values - low) / (high - low)).clamp(0.0, 1.0)

    def plot(self, ax: Axes | None = None) -> Figure:
        """A matplotlib figure: the overlay with the word and a scale (needs the extra ``plot``).

        Args:
            ax: axes to draw in; those of a new figure if not given. Their figure is returned.
        """
        from diffusers_rdaam.drawing.figure import heat_map_figure

        return heat_map_figure(self.values, self.image, self.text, ax, label=self.quantity)

    def _picture(self) -> Image.Image:
        return self.overlay() if self.image is not None else colourise(self.normalized)

    def _repr_html_(self) -> str:
        from diffusers_rdaam.drawing.html import heat_scale, picture

        low, high = float(self.values.min()), float(self.values.max())
        legend = heat_scale(low, high, self.quantity, image=self.image is not None)
        caption = f"{self.text}, peak {self.peak:.3g}"
        return f"<div>{picture(self._picture(), caption)}{legend}</div>"

    def __repr__(self) -> str:
        height, width = self.size
        low = float(self.values.min())
        return f"HeatMap({self.text!r}, {width}x{height} pixels, {low:.3g} to {self.peak:.3g})"


def check_limits(vmin: float | None, vmax: float | None, maps: list[Column]) -> tuple[float, float]:
    """The values of the first and the last colour: those given, else the extremes of the maps.

    Raises:
        InputError: one is not a number, or vmin is not below vmax.
    """
    lowest = min(float(values.min()) for values in maps)
    highest = max(float(values.max()) for values in maps)
    if vmin is None and vmax is None:
        return lowest, highest
    low = lowest if vmin is None else real_number(vmin)
    high = highest if vmax is None else real_number(vmax)
    if low is None or high is None or not low < high:
        what = "the map has" if len(maps) == 1 else "the maps have"
        raise InputError(
            f"vmin= lies below vmax=, both probabilities; got vmin={vmin!r}, vmax={vmax!r}, and "
            f"{what} {lowest:.3g} to {highest:.3g}."
        )
    return low, high


def _version(values: Column) -> int:
    """The number of changes in place of the values; tensors of inference mode do not count."""
    return -1 if values.is_inference() else values._version


def _checked_size(size: Any) -> tuple[int, int]:
    try:
        height, width = (index(side) for side in size)
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        raise InputError(f"A size is (height, width) of at least 1 pixel each; got {size!r}.")
    return height, width
