"""Attribution: everything that one recorded run tells about one image."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, SupportsIndex

from PIL import Image

from diffusers_rdaam.attribution import display as show
from diffusers_rdaam.attribution.choosing import Names, Numbers, Sizes, chosen_column
from diffusers_rdaam.attribution.consistency import check_attribution, with_image, with_queries
from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.heat_map import HeatMap
from diffusers_rdaam.attribution.kept_maps import KeptMaps
from diffusers_rdaam.attribution.prompt import Match, Prompt, Word, WordQuery
from diffusers_rdaam.attribution.queries import Queries
from diffusers_rdaam.attribution.reading import ReadsMaps
from diffusers_rdaam.attribution.region_words import DEFAULT_RANKING, Ranking, RegionWords
from diffusers_rdaam.attribution.select import kept_by, select, site_names
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.attribution.steps import Steps
from diffusers_rdaam.attribution.text_vocabulary import Vocabulary
from diffusers_rdaam.attribution.to_itself import AttendsToItself
from diffusers_rdaam.attribution.words_inside import WordsInside
from diffusers_rdaam.drawing.pictures import ImageLike, as_picture
from diffusers_rdaam.errors import NoAttributionError, RegionError, RepeatedWordWarning, WordError
from diffusers_rdaam.geometry.checks import real_number
from diffusers_rdaam.geometry.region import Box, Mask, Polygon, RegionLike, as_region

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RunInfo = dict[str, str | int | float | bool | None]


@dataclass(frozen=True, eq=False)
class Attribution(AttendsToItself, ReadsMaps):
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
        queries: from which a pipeline makes the attribution of any text, where the run kept them.
        vocabulary: of other texts that the run was given, each with words of its own.
        switched: of the steps with another prompt, where one was put in during the run and steps
            were kept; ``steps`` has them all.
        self_grids: the image's attention to itself, where the run kept it; a selection has it as a
            whole.
    """

    prompt: Prompt
    grids: tuple[Grid, ...] = field(repr=False)
    image_size: tuple[int, int]
    image: Image.Image | None = field(default=None, repr=False)
    run: RunInfo = field(default_factory=dict)
    kept: KeptMaps | None = field(default=None, repr=False)
    negative_attribution: Attribution | None = field(default=None, repr=False)
    mask: Mask | None = field(default=None, repr=False)
    queries: Queries | None = field(default=None, repr=False)
    vocabulary: Mapping[str, Attribution] = field(default_factory=dict, repr=False)
    self_grids: tuple[SelfGrid, ...] = field(default=(), repr=False)
    switched: tuple[Attribution, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        check_attribution(self)
        object.__setattr__(self, "vocabulary", Vocabulary(self.vocabulary))

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of the prompt, in order.

        Where ``prompt_2`` is another text the words of both, the first's first; ``word.encoder``
        says whose a word is.
        """
        return self.prompt.words

    @property
    def nbytes(self) -> int:
        """Bytes of all maps: the grids, what was kept apart, self-attention, and those of the
        negative prompt and the vocabulary. Queries have ``nbytes`` of their own.
        """
        others = (
            self.kept,
            self.negative_attribution,
            *self.vocabulary.values(),
            *self.switched,
        )
        parts = (*self.grids, *self.self_grids, *others)
        return sum(part.nbytes for part in parts if part is not None)

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

    def word(
        self, query: WordQuery, *, occurrence: int | None = None, encoder: int | None = None
    ) -> HeatMap:
        """Where a word or phrase is: its heat map at the image's size.

        Args:
            query: a word (``"cat"``), a phrase (``"blue eyes"``), the index of a word, or a
                ``(start, end)`` character span of the prompt.
            occurrence: which one (from 0) where it stands more than once; all added if not given,
                with a warning that says which.
            encoder: where ``prompt_2`` is another text, 1 for a word of ``prompt``, 2 for one of
                ``prompt_2``. Without it a word or phrase of both has the columns of both, and a
                span is one of ``prompt``.

        Raises:
            WordError: the prompt does not have it.
        """
        return self._word(query, occurrence, encoder)

    def _word(
        self, query: WordQuery, occurrence: int | None, encoder: int | None = None
    ) -> HeatMap:
        match = self.prompt.find(query, occurrence=occurrence, encoder=encoder)
        if show.is_sum(self.prompt, match):
            # The caller of word() or of the brackets, both one call above.
            warnings.warn(show.repeat_text(match), RepeatedWordWarning, stacklevel=3)
        return self.match(match)

    def match(self, match: Match) -> HeatMap:
        """The heat map of what ``attribution.prompt.find`` found."""
        return self._heat_map(match.columns, match.text, match.spans, match.encoders)

    def column(self, index: SupportsIndex) -> HeatMap:
        """The heat map of one token column, special tokens included.

        Where ``prompt_2`` is another text, it is called by the tokens of both.

        Raises:
            InputError: there is no such column.
        """
        column = chosen_column(index, len(self.prompt.tokens))
        tokens = [text.tokens[column] for text in self.prompt.texts]
        spans = {
            number: (token.start, token.end)
            for number, token in enumerate(tokens, 1)
            if token.start is not None and token.end is not None
        }
        return self._heat_map(
            (tokens[0].column,),
            " and ".join(token.text for token in tokens),
            tuple(spans.values()),
            () if self.prompt.second is None else tuple(spans),
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
        """How many words have a heat map."""
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
        """Which words made a region.

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
        scores = self._over(checked)
        answer = RegionWords(self.prompt, scores, self._levels, checked, ranking, self.image)
        if self.negative_attribution is None:
            return answer
        return replace(answer, negative=self.negative.region(checked, ranking=ranking))

    def regions(
        self, regions: Iterable[RegionLike], *, ranking: Ranking = DEFAULT_RANKING
    ) -> list[RegionWords]:
        """:meth:`region` of each.

        Raises:
            RegionError: one of them is no region, or they are not several.
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
        """How much of each word lies in a region: ``word(w).inside(region)``, highest first.

        Raises:
            RegionError: as :meth:`region`.
        """
        checked = as_region(region, image_size=self.image_size)
        area = float(checked.coverage(self.image_size).double().mean())
        return WordsInside(self.region(checked), area)

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
        """What was painted anew, as a region; ``~attribution.inpaint_mask`` is what was not.

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
            InputError: it is no image, its sides are in another ratio, or there is a mask of
                another size.
        """
        return with_image(self, as_picture(image))

    def with_queries(self, queries: Queries) -> Attribution:
        """The same with the run's queries, which files of attributions do not hold.

        Raises:
            InputError: they are of other sites or grids, so not of this run.
        """
        return with_queries(self, queries)

    def save(self, path: str | Path, *, kept: bool = True) -> Path:
        """Write a safetensors file that :meth:`load` reads without any model; returns its path.

        What was kept apart makes files large; ``kept=False`` leaves it out. Queries have a file of
        their own: ``attribution.queries.save(path)``. The image is written in RGB. A link at
        ``path`` is replaced and not followed.

        Raises:
            InputError: the file cannot be written, its name ends as files of another format do, or
                :meth:`load` would refuse it: values that are not finite, maps that are not float32,
                more than a file may hold.
        """
        from diffusers_rdaam.attribution.files.attribution_file import save_attribution

        return save_attribution(self, Path(path), kept=kept)

    @classmethod
    def load(cls, path: str | Path) -> Attribution:
        """Read a file that :meth:`save` wrote.

        Raises:
            AttributionFileError: it is truncated, corrupted, foreign, or of an unknown version.
        """
        from diffusers_rdaam.attribution.files.attribution_file import load_attribution

        return load_attribution(Path(path))

    def plot(self) -> Figure:
        """A matplotlib figure: the image and every word's heat map (needs the extra ``plot``)."""
        return show.attribution_figure(self)

    def __repr__(self) -> str:
        return show.attribution_text(self)

    def _repr_html_(self) -> str:
        return show.attribution_html(self)
