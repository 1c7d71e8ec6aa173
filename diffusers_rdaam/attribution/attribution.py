"""Attribution: the questions that one recorded run answers about one image."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from PIL import Image

from diffusers_rdaam.argument_checks import real_number
from diffusers_rdaam.attribution import display
from diffusers_rdaam.attribution.aggregated import AggregatedAttribution
from diffusers_rdaam.attribution.aggregations.table import AggregationLike, recipe_of
from diffusers_rdaam.attribution.choosing import Names, Numbers, Sizes, chosen_column
from diffusers_rdaam.attribution.completion import with_image, with_queries
from diffusers_rdaam.attribution.heat_map import HeatMap
from diffusers_rdaam.attribution.left_out import SELF_ATTENTION
from diffusers_rdaam.attribution.mean import mean_record
from diffusers_rdaam.attribution.prompt import EncoderQuery, Match, Word, WordQuery
from diffusers_rdaam.attribution.queries import Queries
from diffusers_rdaam.attribution.record import Record
from diffusers_rdaam.attribution.region_words import (
    DEFAULT_RANKING,
    Ranking,
    RegionWords,
    WordsInside,
    no_word_level,
    sum_columns,
)
from diffusers_rdaam.attribution.select import kept_by, select, site_names
from diffusers_rdaam.attribution.self_attention.refinement import (
    DEFAULT_REFINEMENT,
    Refinement,
    refine_record,
)
from diffusers_rdaam.attribution.self_attention.self_attention import SelfAttention
from diffusers_rdaam.attribution.self_grid import kept_self_grids
from diffusers_rdaam.attribution.steps import Steps
from diffusers_rdaam.drawing.overlay import OPACITY, check_opacity
from diffusers_rdaam.drawing.pictures import ImageLike, as_picture, base_image
from diffusers_rdaam.errors import (
    InputError,
    NoAttributionError,
    RegionError,
    RepeatedWordWarning,
    WordError,
)
from diffusers_rdaam.geometry.region import Box, Mask, Polygon, RegionLike, as_region

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from diffusers_rdaam.notebook.explore import NotebookViewer
    from diffusers_rdaam.notebook.widget import ViewerWidget
    from diffusers_rdaam.viewer.contents import ViewerContents


@dataclass(frozen=True, eq=False, repr=False)
class Attribution(Record):
    """Which words made which regions of one image.

    ``attribution.word("cat")`` is the heat map of a word, ``attribution.region(box)`` the words of
    a region. Its fields, and the numbers that all answers are made of, are those of
    :class:`Record`.
    """

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of the prompt, in order.

        Where ``prompt_2`` is another text the words of both, the first's first; ``word.encoder``
        says whose a word is. A model with several text encoders reads the same word with each:
        ``word.columns`` are those of all of them.
        """
        return self.prompt.words

    @property
    def steps(self) -> Steps[Attribution]:
        """The denoiser's calls one by one: ``steps[3]``, ``steps[10:20]``, ``steps.timesteps``.

        Raises:
            NoAttributionError: the run did not keep them separately.
        """
        return Steps(self)

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of all sites, as diffusers spells them."""
        return site_names(self)

    @property
    def heads(self) -> dict[str, int]:
        """The number of heads of each site, by its name.

        Raises:
            NoAttributionError: the run did not keep them separately.
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
        stream: str | None = None,
    ) -> Attribution:
        """The attribution of a part: of some layers, heads, grids, steps, or of one stream.

        ``attribution.select(layers="up_blocks", resolutions={16: 1.0, 64: 0.2})``. All columns
        still sum to 1 at every pixel; numbers then count what was selected, as in a list.

        Args:
            layers: names, dotted prefixes (``"mid_block"``), patterns (``"up_blocks.*.attn2"``).
            heads: a number from 0, several, or a slice.
            resolutions: ``(height, width)`` of a grid or ``n`` for a square one; several in a list;
                or a mapping of them to weights: a grid then counts weight times additions.
            steps: as heads.
            stream: ``"double"`` or ``"single"``: a transformer's blocks in which text and image
                have weights of their own, or those in which they share them.

        Raises:
            InputError: there is no such layer, head, grid, step or stream.
            NoAttributionError: the run did not keep these separately.
        """
        return select(
            self, layers=layers, heads=heads, resolutions=resolutions, steps=steps, stream=stream
        )

    def aggregated(
        self, aggregation: AggregationLike = "mean", **options: Any
    ) -> AggregatedAttribution:
        """The words with their maps by a named aggregation: ``aggregated("rms").word("cat")``.

        :func:`aggregations` lists all of them. Regions are asked of the attribution itself, whose
        base quantity stays the mean.

        Args:
            aggregation: its name, or an :class:`Aggregation`.
            options: of the aggregation, such as ``layer=`` of ``"expert_layer"``.

        Raises:
            InputError: there is no such aggregation, or it does not have one of the options.
            NoAttributionError: the run did not keep what it needs; with how to keep it.
        """
        recipe = recipe_of(aggregation, options)
        if recipe is not None:
            recipe.check(self)
        return AggregatedAttribution(self, recipe)

    def word(
        self,
        query: WordQuery,
        *,
        occurrence: int | None = None,
        encoder: EncoderQuery | None = None,
        aggregation: AggregationLike = "mean",
    ) -> HeatMap:
        """The heat map of a word or phrase, at the image's size.

        Args:
            query: a word (``"cat"``), a phrase (``"blue eyes"``), the index of a word, or a
                ``(start, end)`` character span of the prompt.
            occurrence: which one (from 0) where it stands more than once; all added if not given,
                with a warning that says which.
            encoder: the name of a text encoder (``"t5"``), for its columns alone where a model has
                several. Where ``prompt_2`` is another text, also 1 for a word of ``prompt``, 2 for
                one of ``prompt_2``. Without it a word or phrase has the columns of all of them, and
                a span is one of ``prompt``.
            aggregation: how sites, heads and calls become one map: one of :func:`aggregations`,
                with its defaults; :meth:`aggregated` takes options.

        Raises:
            WordError: the prompt does not have it.
            InputError: there is no such aggregation.
            NoAttributionError: the run did not keep what the aggregation needs.
        """
        return self._word(query, occurrence, encoder, aggregation)

    def _word(
        self,
        query: WordQuery,
        occurrence: int | None,
        encoder: EncoderQuery | None = None,
        aggregation: AggregationLike = "mean",
    ) -> HeatMap:
        match = self.prompt.find(query, occurrence=occurrence, encoder=encoder)
        if display.is_sum(self.prompt, match):
            # The caller of word() or of the brackets, both one call above.
            warnings.warn(display.repeat_text(match), RepeatedWordWarning, stacklevel=3)
        if aggregation == "mean":
            return self.match(match)
        return self.aggregated(aggregation).match(match)

    def match(self, match: Match) -> HeatMap:
        """The heat map of what ``attribution.prompt.find`` found."""
        return HeatMap.read_from(self, match)

    def column(self, index: SupportsIndex) -> HeatMap:
        """The heat map of one token column, special tokens included.

        Where ``prompt_2`` is another text, it is called by the tokens of both.

        Raises:
            InputError: there is no such column.
        """
        column = chosen_column(index, len(self.prompt.tokens), self.prompt.has_rest)
        tokens = self.prompt.tokens_at(column)
        spans = {
            number: (token.start, token.end)
            for number, token in enumerate((text.tokens[column] for text in self.prompt.texts), 1)
            if token.start is not None and token.end is not None
        }
        return self.match(
            Match(
                " and ".join(token.text for token in tokens),
                tuple(spans.values()),
                (tokens[0].column,),
                tuple(spans) if self.prompt.further else (),
            )
        )

    def __getitem__(self, query: WordQuery) -> HeatMap:
        """``attribution["cat"]`` is ``attribution.word("cat")``."""
        return self._word(query, None)

    def __iter__(self) -> Iterator[HeatMap]:
        """The heat map of each word, in the order of the prompt; one at a time, as they are large.

        Words that the text encoder did not see have none.
        """
        return (self[word.index] for word in self.words if word.columns)

    def __len__(self) -> int:
        """The number of words that have a heat map."""
        return sum(bool(word.columns) for word in self.words)

    def __bool__(self) -> bool:
        # An attribution without words has columns.
        return True

    def __contains__(self, query: object) -> bool:
        """Whether the prompt has a word, phrase or span that has a heat map."""
        if not isinstance(query, (str, tuple, Word)):
            return False
        try:
            self.prompt.find(query)
        except WordError:
            return False
        return True

    def region(self, region: RegionLike, *, ranking: Ranking = DEFAULT_RANKING) -> RegionWords:
        """The words that made a region, ranked.

        Args:
            region: a box ``(left, top, right, bottom)`` in pixels, half-open; a polygon as a list
                of ``(x, y)`` points; or a mask of the image's size: an array, tensor or image. What
                reaches beyond the image is cut off, and a pixel that is inside in part counts by
                its share.
            ranking: ``"lift"`` (default), ``"score"`` or ``"share"``.

        Raises:
            RegionError: ``region`` is none of these, is empty, or lies outside the image.
        """
        checked = as_region(region, image_size=self.image_size)
        scores = self.scores(checked)
        answer = RegionWords(
            self.prompt,
            scores,
            self.levels,
            checked,
            ranking,
            self.image,
            image_size=self.image_size,
            no_word_level=no_word_level(self.run),
        )
        if self.negative_attribution is None:
            return answer
        return replace(answer, negative=self.negative.region(checked, ranking=ranking))

    def regions(
        self, regions: Iterable[RegionLike], *, ranking: Ranking = DEFAULT_RANKING
    ) -> list[RegionWords]:
        """The answer of :meth:`region` to each of several regions.

        Raises:
            RegionError: one of them is not a region, or there is only one.
        """
        if isinstance(regions, (Box, Polygon, Mask, Image.Image, str)) or not isinstance(
            regions, Iterable
        ):
            raise RegionError(
                f"regions() takes several regions; this is one {type(regions).__name__}. Give a "
                "list of regions, or ask region()."
            )
        regions = list(regions)
        if len(regions) == 4 and all(real_number(edge) is not None for edge in regions):
            raise RegionError(
                "regions() takes several regions; four numbers are one box. Give a list of boxes, "
                "or ask region()."
            )
        return [self.region(region, ranking=ranking) for region in regions]

    def inside(self, region: RegionLike) -> WordsInside:
        """The share of each word that lies in a region, ``word(w).inside(region)``, highest first.

        Raises:
            RegionError: as :meth:`region`.
        """
        checked = as_region(region, image_size=self.image_size)
        area = float(checked.coverage(self.image_size).double().mean())
        return WordsInside(self.region(checked), area)

    @cached_property
    def self_attention(self) -> SelfAttention:
        """The image's attention to itself: ``self_attention.box(…)``, ``.diffused()``.

        Raises:
            NoAttributionError: the run did not keep it.
        """
        return SelfAttention(
            kept_self_grids(self.self_grids, self.left_out.get(SELF_ATTENTION)),
            self.image_size,
            self.image,
        )

    def refined(self, method: Refinement = DEFAULT_REFINEMENT) -> Attribution:
        """The same attribution with the maps of all columns corrected by self-attention.

        On one grid, that of the self-attention; columns still sum to 1. The negative prompt stays.

        Args:
            method: as in :meth:`HeatMap.refined`, whose map is that of the word here.

        Raises:
            NoAttributionError: the run did not keep its self-attention.
            InputError: there is no such method.
        """
        return refine_record(self, method)

    @cached_property
    def negative(self) -> Attribution:
        """The attribution of the negative prompt, with words of its own, over the same image.

        Raises:
            NoAttributionError: the run did not keep it.
        """
        if self.negative_attribution is None:
            if self.run.get("keep_negative"):
                raise NoAttributionError(
                    "The run was asked to keep the negative prompt, but its denoiser never read "
                    "it: without guidance there are no such rows. Generate with guidance_scale "
                    "over 1."
                )
            raise NoAttributionError(
                "There is no attribution of a negative prompt. Record with "
                "RDAAMProcessor(keep_negative=True), under guidance; a selection by layer, head or "
                "step has it where those were kept of it too."
            )
        return replace(self.negative_attribution, image=self.image)

    @property
    def inpaint_mask(self) -> Mask:
        """The part that inpainting made anew, as a region; ``~inpaint_mask`` is the rest.

        Raises:
            RegionError: the run had no mask.
        """
        if self.mask is None:
            raise RegionError(
                "This run had no mask, or one without white; only inpainting has one."
            )
        return self.mask

    def with_image(self, image: ImageLike) -> Attribution:
        """The same attribution over an image, for a run that was recorded without its pipeline.

        The image is a PIL image, an array ``(height, width, 3)``, or the path of a file.
        The image may be of another size with the same ratio of width to height, unless there is a
        mask; regions are then in pixels of that image.

        Raises:
            InputError: ``image`` is not an image, its sides are in another ratio, or there is a
                mask of another size.
        """
        return with_image(self, as_picture(image))

    def with_queries(self, queries: Queries) -> Attribution:
        """The same attribution with the run's queries, which its files do not hold.

        Raises:
            InputError: they are of other sites or grids, so not of this run.
        """
        return with_queries(self, queries)

    @classmethod
    def mean(
        cls, attributions: Iterable[Attribution], *, weights: Iterable[int | float] | None = None
    ) -> Attribution:
        """The mean of several runs, of other seeds for example: ``P = sum_i w_i P_i``, exactly.

        Where all runs kept the same steps, layers, heads or self-attention, so does the mean; what
        not all of them have in the same form is left out, and so are their queries. Its image is
        theirs where it is the same one. ``run["runs"]`` is their number.

        Args:
            attributions: at least one, of the same prompt, image size and grids.
            weights: a number from 0 for each; each counts the same if not given.

        Raises:
            InputError: they do not belong together, or the weights are not such numbers.
        """
        return mean_record(cls, attributions, weights)

    def save(self, path: str | Path, *, kept: bool = True) -> Path:
        """Write a safetensors file that :meth:`load` reads without any model; returns its path.

        Maps of single steps, layers and heads make files large; ``kept=False`` leaves them out.
        Queries have a file of their own: ``attribution.queries.save(path)``. The image is written
        in RGB. A link at ``path`` is replaced and not followed.

        Raises:
            InputError: the file cannot be written, its name ends as files of another format do, or
                :meth:`load` would refuse it: values that are not finite, maps that are not float32,
                more than a file may hold.
        """
        from diffusers_rdaam.attribution.files.attribution_file import save_record

        return save_record(self, Path(path), kept=kept)

    @classmethod
    def load(cls, path: str | Path) -> Attribution:
        """Read a file that :meth:`save` wrote.

        Raises:
            AttributionFileError: it is truncated, corrupted, foreign, or of an unknown version.
        """
        from diffusers_rdaam.attribution.files.attribution_file import load_record

        return load_record(Path(path), cls)

    @overload
    def to_html(
        self,
        path: None = None,
        *,
        title: str | None = ...,
        embedded: bool = ...,
        kept: bool = ...,
        large: bool = ...,
        image_format: str = ...,
    ) -> str: ...

    @overload
    def to_html(
        self,
        path: str | Path,
        *,
        title: str | None = ...,
        embedded: bool = ...,
        kept: bool = ...,
        large: bool = ...,
        image_format: str = ...,
    ) -> Path: ...

    def to_html(
        self,
        path: str | Path | None = None,
        *,
        title: str | None = None,
        embedded: bool = False,
        kept: bool = True,
        large: bool = False,
        image_format: str = "png",
    ) -> str | Path:
        """One HTML page that answers by itself: no server, no model, no network.

        Image, maps and words are in it; point at a word and see where it is, draw a region and see
        its words. Several attributions in one page: ``viewer_page([one, another])``.

        Args:
            path: ends in ``.html``; the page is written there, whole or not at all, and the path
                returned. Without it the page itself is.
            title: of the document; the prompt if not given.
            embedded: for a frame in another page, without a margin of its own.
            kept: whether single steps and layers, refined maps and self-attention are in it, where
                the run kept them. How large the page becomes is then said on standard error.
            large: whether the page may have over 50 MB.
            image_format: ``"png"``, ``"jpeg"`` or ``"webp"``.

        Raises:
            InputError: the page would be over 50 MB, the ending is another one, the file cannot be
                written, or there is no such format.
        """
        from diffusers_rdaam.viewer.saving import page_of

        return page_of(
            self,
            path,
            title=title,
            embedded=embedded,
            kept=kept,
            large=large,
            image_format=image_format,
        )

    def viewer_contents(self, *, kept: bool = True) -> ViewerContents:
        """What of the attribution :meth:`to_html` writes, as plain data that is read later."""
        from diffusers_rdaam.attribution.viewed import viewed

        return viewed(self, kept=kept)

    def to_bytes(self, *, kept: bool = True) -> bytes:
        """The bytes of the file that :meth:`save` writes, for a column of a table or a message.

        Raises:
            InputError: as :meth:`save`.
        """
        from diffusers_rdaam.attribution.files.attribution_file import record_bytes

        return record_bytes(self, kept=kept)

    @classmethod
    def from_bytes(cls, content: bytes) -> Attribution:
        """Read the bytes of :meth:`to_bytes`, or those of a file that :meth:`save` wrote.

        Raises:
            AttributionFileError: as :meth:`load`.
        """
        from diffusers_rdaam.attribution.files.attribution_file import load_record

        if not isinstance(content, (bytes, bytearray, memoryview)):
            raise InputError(
                f"from_bytes takes the bytes of an attribution; got a {type(content).__name__}. "
                "Attribution.load takes a path."
            )
        return load_record(Path("bytes"), cls, bytes(content))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and texts, for JSON: the prompt, its words, and what was recorded.

        ``"score"`` is the mean probability of a word, or of special tokens, over the whole image.
        ``"encoder"`` is there only where the prompt has several texts.
        """
        words = [
            {
                "word": word.text,
                "span": [word.start, word.end],
                "score": sum_columns(self.levels, word.columns),
            }
            | ({} if word.encoder is None else {"encoder": word.encoder})
            for word in self.words
            if word.columns
        ]
        special = {
            kind: sum_columns(self.levels, columns)
            for kind, columns in self.prompt.columns_of_kind().items()
        }
        return {
            "prompt": self.prompt.text,
            "image_size": list(self.image_size),
            "grids": [list(grid.size) for grid in self.grids],
            "kept": [] if self.kept is None else list(self.kept.axes),
            "run": dict(self.run),
            "words": words,
            "special": special,
        }

    def overlay(
        self,
        words: Iterable[WordQuery] | None = None,
        *,
        image: ImageLike = None,
        opacity: float = OPACITY,
        alpha: float | None = None,
        cmap: str | None = None,
        vmin: float | None = None,
        vmax: float | None = None,
        columns: int | None = None,
    ) -> Image.Image:
        """Several words' heat maps over the image, side by side, with one scale for all of them.

        Args:
            words: words, phrases, indices or spans; all words of the prompt if not given.
            image, opacity, alpha, cmap: as in :meth:`HeatMap.overlay`.
            vmin, vmax: the probabilities of the first and the last colour; the lowest and the
                highest of all these maps if not given.
            columns: pictures in a row, at most 5 unless given.

        Raises:
            InputError: there is no image or no word, the opacity is not in [0, 1], vmin is not
                below vmax, or there is no such colour map.
            WordError: the prompt does not have one of the words.
        """
        return display.overlay_strip(
            self,
            words,
            image=base_image(image, self.image, "heat maps"),
            opacity=check_opacity(opacity if alpha is None else alpha),
            cmap=cmap,
            limits=(vmin, vmax),
            columns=columns,
        )

    def plot(
        self, words: Iterable[WordQuery] | None = None, *, shared_scale: bool = False
    ) -> Figure:
        """A matplotlib figure: the image and the words' heat maps (needs the extra ``plot``).

        Args:
            words: as in :meth:`overlay`.
            shared_scale: one scale for all maps; each has its own scale if not.
        """
        return display.attribution_figure(self, words, shared_scale=shared_scale)

    def __repr__(self) -> str:
        return display.attribution_text(self)

    def explore(
        self,
        *,
        title: str | None = None,
        kept: bool = True,
        large: bool = False,
        widget: bool | None = None,
    ) -> NotebookViewer | ViewerWidget:
        """The viewer at full size in a notebook's cell; see :func:`explore` for the arguments.

        Where ``anywidget`` is installed (the extra ``notebook``) what is selected comes back, as
        ``viewer.box`` and ``viewer.words``.

        Raises:
            InputError: the viewer's page would be over 50 MB.
            NotebookExtraError: a widget was asked for, and ``anywidget`` is not installed.
        """
        from diffusers_rdaam.notebook.explore import explore

        return explore(self, title=title, kept=kept, large=large, widget=widget)

    def still_html(self) -> str:
        """HTML without scripts: the image, and the prompt coloured by the words' levels."""
        return display.attribution_html(self)

    def _repr_html_(self) -> str:
        from diffusers_rdaam.notebook.frame import last_line

        return last_line(self, self.still_html())
