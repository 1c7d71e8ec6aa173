"""VideoAttribution: the questions that one recorded run answers about one video."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from PIL import Image

from diffusers_rdaam.attribution import display
from diffusers_rdaam.attribution.aggregations.table import AggregationLike, recipe_of
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.choosing import Names, Numbers, Sizes, chosen_numbers
from diffusers_rdaam.attribution.frame_mapping import FrameMapping
from diffusers_rdaam.attribution.prompt import EncoderQuery, Match, Prompt, Word, WordQuery
from diffusers_rdaam.attribution.prompt_html import coloured_prompt
from diffusers_rdaam.attribution.queries import Queries
from diffusers_rdaam.attribution.record import RunInfo
from diffusers_rdaam.attribution.region_words import (
    DEFAULT_RANKING,
    Ranking,
    RegionWords,
    no_word_level,
)
from diffusers_rdaam.attribution.stacked_frames import split_frames
from diffusers_rdaam.attribution.video_heat_map import VideoHeatMap, mean_levels, mean_scores
from diffusers_rdaam.attribution.viewed import facts_of, title_of, viewed_part
from diffusers_rdaam.errors import InputError, RepeatedWordWarning
from diffusers_rdaam.geometry.region import RegionLike, as_region
from diffusers_rdaam.shapes import Size, TokenScores
from diffusers_rdaam.viewer.contents import ViewerContents, ViewerFrame

if TYPE_CHECKING:
    from diffusers_rdaam.notebook.explore import NotebookViewer
    from diffusers_rdaam.notebook.widget import ViewerWidget

# Frames of a notebook's strip.
_SHOWN = 5


@dataclass(frozen=True, eq=False, repr=False)
class VideoAttribution(Sequence[Attribution]):
    """Which words made which regions of the frames of one video.

    ``video[7]`` is the :class:`Attribution` of a frame and ``video[3:9]`` the attribution of
    several frames. ``video.word("cat")`` is a word's map over all frames, and
    ``video.region(box, frame=7)`` the words of a region.

    A denoiser works on fewer frames than the video has. ``video.frame_mapping`` says which latent
    frame each frame was decoded from; frames of one latent frame have the same maps.

    Args:
        parts: the attribution of each latent frame; all of one prompt and one image size.
        frame_mapping: which of them each frame is of.
        images: the frames, where they were decoded; else empty.
        numbers: of the frames in the whole video, where these are some of them; all if not given.
        queries: of all latent frames, one below another, where the run kept them.

    Raises:
        InputError: two of the parts do not belong together.
    """

    parts: tuple[Attribution, ...] = field(repr=False)
    frame_mapping: FrameMapping
    images: tuple[Image.Image, ...] = field(default=(), repr=False)
    numbers: tuple[int, ...] = field(default=(), repr=False)
    queries: Queries | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.numbers:
            object.__setattr__(self, "numbers", tuple(range(len(self.frame_mapping))))
        _check(self)

    @classmethod
    def of_frames(cls, frames: Sequence[Attribution]) -> VideoAttribution:
        """The video of which every frame was recorded, as AnimateDiff's are.

        Args:
            frames: the attribution of each, with its image or without.
        """
        images = tuple(frame.image for frame in frames if frame.image is not None)
        images = images if len(images) == len(frames) else ()
        return cls(tuple(frames), FrameMapping.each(len(frames)), images)

    @classmethod
    def of_stacked(
        cls, stacked: Attribution, mapping: FrameMapping, images: Sequence[Image.Image] = ()
    ) -> VideoAttribution:
        """The video whose latent frames' maps lie one below another, as transformers record them.

        Args:
            stacked: of the size of a frame, without an image.
            mapping: which latent frame each frame is of; the last frame is of the last one.
            images: the frames, where they were decoded.
        """
        parts = split_frames(stacked, max(mapping.latent) + 1)
        return cls(parts, mapping, tuple(images), queries=stacked.queries)

    @property
    def prompt(self) -> Prompt:
        """The prompt and its tokens, of all frames."""
        return self.parts[0].prompt

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of the prompt, in order."""
        return self.prompt.words

    @property
    def run(self) -> RunInfo:
        """Facts about the run, as the first frame has them."""
        return self.parts[self.frame_mapping.latent[0]].run

    @property
    def image_size(self) -> Size:
        """Height and width of a frame in pixels."""
        return self.parts[0].image_size

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of all sites, as diffusers spells them."""
        return self.parts[0].layers

    @property
    def nbytes(self) -> int:
        """Bytes of all maps; those of a latent frame count once."""
        return sum(part.nbytes for part in self.parts)

    @cached_property
    def levels(self) -> TokenScores:
        """The mean of each column's probability over all frames; they sum to 1."""
        return mean_levels(self)

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.frame_mapping)

    @overload
    def __getitem__(self, which: SupportsIndex) -> Attribution: ...
    @overload
    def __getitem__(self, which: slice) -> VideoAttribution: ...
    @overload
    def __getitem__(self, which: str | Word) -> VideoHeatMap: ...
    def __getitem__(self, which: Any) -> Attribution | VideoAttribution | VideoHeatMap:
        """A frame by its number, the video of several, or the heat map of a word or phrase.

        Raises:
            InputError: there is no such frame.
            WordError: the prompt does not have the word.
        """
        if isinstance(which, (str, Word)):
            return self._word(which, None)
        numbers = list(chosen_numbers(which, len(self), "frames"))
        return self.at(numbers) if isinstance(which, slice) else self.frame(numbers[0])

    def __iter__(self) -> Iterator[Attribution]:
        return (self.frame(number) for number in range(len(self)))

    def __contains__(self, query: object) -> bool:
        """Whether the prompt has a word or phrase, or the video a frame's attribution."""
        if isinstance(query, Attribution):
            return any(frame is query for frame in self)
        return query in self.parts[0]

    def frame(self, number: int) -> Attribution:
        """The attribution of a frame, which shares the maps of its latent frame."""
        made = self._made
        if number not in made:
            part = self.parts[self.frame_mapping.latent[number]]
            image = self.images[number] if self.images else part.image
            made[number] = part if image is part.image else part.with_image(image)
        return made[number]

    @cached_property
    def _made(self) -> dict[int, Attribution]:
        """The frames that were asked for, so that a frame is the same object every time."""
        return {}

    def at(self, frames: Sequence[int]) -> VideoAttribution:
        """The attribution of some of the frames."""
        return replace(
            self,
            frame_mapping=self.frame_mapping.take(frames),
            images=tuple(self.images[frame] for frame in frames) if self.images else (),
            numbers=tuple(self.numbers[frame] for frame in frames),
        )

    def word(
        self,
        query: WordQuery,
        *,
        occurrence: int | None = None,
        encoder: EncoderQuery | None = None,
        aggregation: AggregationLike = "mean",
    ) -> VideoHeatMap:
        """The map of a word or phrase over all frames; the arguments are of ``Attribution.word``.

        An aggregation makes the map of each frame by itself.

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
    ) -> VideoHeatMap:
        match = self.prompt.find(query, occurrence=occurrence, encoder=encoder)
        if display.is_sum(self.prompt, match):
            # The caller of word() or of the brackets, both one call above.
            warnings.warn(display.repeat_text(match), RepeatedWordWarning, stacklevel=3)
        recipe = recipe_of(aggregation, {})
        if recipe is not None:
            recipe.check(self.parts[0])
        return VideoHeatMap(self, match, recipe)

    def match(self, match: Match) -> VideoHeatMap:
        """The heat map of what ``video.prompt.find`` found."""
        return VideoHeatMap(self, match)

    def column(self, index: SupportsIndex) -> VideoHeatMap:
        """The heat map of one token column, special tokens included.

        Raises:
            InputError: there is no such column.
        """
        heat = self.parts[0].column(index)
        return self.match(Match(heat.text, heat.spans, heat.columns, heat.encoders))

    def region(
        self,
        region: RegionLike,
        *,
        frame: SupportsIndex | None = None,
        frames: Numbers | None = None,
        ranking: Ranking = DEFAULT_RANKING,
    ) -> RegionWords:
        """The words that made a region of one frame or of several, ranked.

        A word's score is its mean over the region in the chosen frames; its lift is that over its
        mean in the whole of these frames.

        Args:
            region: as in :meth:`Attribution.region`; the same in every frame.
            frame: the number of one frame, from 0; the answer is ``video[frame].region(region)``.
            frames: a slice, or several numbers; all frames if neither is given.
            ranking: ``"lift"`` (default), ``"score"`` or ``"share"``.

        Raises:
            RegionError: ``region`` is not one, is empty, or lies outside the frames.
            InputError: there is no such frame, or both ``frame=`` and ``frames=`` are given.
        """
        if frame is not None and frames is not None:
            raise InputError(
                f"region() was given frame={frame!r} and frames={frames!r}. Give frame= for one "
                "frame, frames= for several, or neither for all of them."
            )
        if frame is not None:
            numbers = list(chosen_numbers(frame, len(self), "frames"))
            if len(numbers) > 1 or isinstance(frame, slice):
                raise InputError(f"frame= is one frame; got {frame!r}. Give frames= for several.")
            return self.frame(numbers[0]).region(region, ranking=ranking)
        chosen = self if frames is None else self.at(chosen_numbers(frames, len(self), "frames"))
        checked = as_region(region, image_size=self.image_size)
        image = chosen.images[len(chosen) // 2] if chosen.images else None
        scores = mean_scores(chosen, checked)
        answer = RegionWords(
            self.prompt,
            scores,
            chosen.levels,
            checked,
            ranking,
            image,
            image_size=self.image_size,
            no_word_level=no_word_level(self.parts[0].run),
        )
        if self.parts[0].negative_attribution is None:
            return answer
        return replace(answer, negative=chosen.negative.region(checked, ranking=ranking))

    @cached_property
    def negative(self) -> VideoAttribution:
        """The attribution of the negative prompt, with words of its own, over the same frames.

        Raises:
            NoAttributionError: the run did not keep it.
        """
        return self._of_parts(lambda part: part.negative)

    def select(
        self,
        *,
        layers: Names | None = None,
        heads: Numbers | None = None,
        resolutions: Sizes | None = None,
        steps: Numbers | None = None,
        stream: str | None = None,
    ) -> VideoAttribution:
        """The attribution of some layers, heads, grids, steps or of one stream of every frame.

        The arguments are those of :meth:`Attribution.select`; grids are those of a frame.
        """
        return self._of_parts(
            lambda part: part.select(
                layers=layers, heads=heads, resolutions=resolutions, steps=steps, stream=stream
            )
        )

    def _of_parts(self, change: Callable[[Attribution], Attribution]) -> VideoAttribution:
        return replace(self, parts=tuple(change(part) for part in self.parts))

    def save(self, path: str | Path, *, kept: bool = True, images: bool = True) -> Path:
        """Write a safetensors file that :meth:`load` reads without any model; returns its path.

        The maps of a latent frame are in it once, and the prompt once. The frames are written as
        they are, uncompressed: ``images=False`` leaves them out.

        Args:
            path: of the file.
            kept: whether to write the maps of single steps, layers and heads, and self-attention.
            images: whether to write the frames.

        Raises:
            InputError: as :meth:`Attribution.save`.
        """
        from diffusers_rdaam.attribution.files.video_file import save_video

        return save_video(self, Path(path), kept=kept, images=images)

    @classmethod
    def load(cls, path: str | Path) -> VideoAttribution:
        """Read a file that :meth:`save` wrote.

        Raises:
            AttributionFileError: it is truncated, corrupted, foreign, or of an unknown version.
        """
        from diffusers_rdaam.attribution.files.video_file import load_video

        content = load_video(Path(path), Attribution)
        return cls(content.parts, content.frame_mapping, content.images, content.numbers)

    def explore(
        self,
        *,
        title: str | None = None,
        kept: bool = True,
        large: bool = False,
        widget: bool | None = None,
    ) -> NotebookViewer | ViewerWidget:
        """The viewer at full size in a notebook's cell; as :meth:`Attribution.explore`."""
        from diffusers_rdaam.notebook.explore import explore

        return explore(self, title=title, kept=kept, large=large, widget=widget)

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
        """One HTML page with a slider for the frames; see :meth:`Attribution.to_html`.

        Frames of one latent frame share its maps. ``image_format="jpeg"`` or ``"webp"`` makes pages
        of many frames smaller.

        Raises:
            InputError: as :meth:`Attribution.to_html`.
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
        """What of the video :meth:`to_html` writes, as plain data that is read later."""
        used = sorted(set(self.frame_mapping.latent))
        places = {latent: place for place, latent in enumerate(used)}
        images = self.images or (None,) * len(self)
        frames = tuple(
            ViewerFrame(image, places[latent], f"{number + 1}")
            for image, latent, number in zip(
                images, self.frame_mapping.latent, self.numbers, strict=True
            )
        )
        parts = tuple(viewed_part(self.parts[latent], kept=kept) for latent in used)
        title = title_of(self.prompt)
        return ViewerContents(title, self.image_size, frames, parts, facts_of(self.run))

    def _repr_html_(self) -> str:
        from diffusers_rdaam.notebook.frame import last_line

        return last_line(self, self.still_html())

    def still_html(self) -> str:
        """Some of the frames, and the prompt with its words coloured by their level in all."""
        from diffusers_rdaam.drawing.html import ground_scale, picture
        from diffusers_rdaam.drawing.timeline import film_strip

        levels = self.levels.tolist()
        values = {word: sum(levels[i] for i in word.columns) for word in self.words}
        highest = max([*values.values(), 1e-12])
        spans = [
            (
                word.encoder or 1,
                word.start,
                word.end,
                value / highest,
                f"mean probability {value:.4f}",
            )
            for word, value in values.items()
        ]
        shown = f"<p>{escape(repr(self))}</p>"
        if self.images:
            places = sorted({i * (len(self) - 1) // (_SHOWN - 1) for i in range(_SHOWN)})
            small = [self.images[place].convert("RGB") for place in places]
            for one in small:
                one.thumbnail((display.STRIP_SIDE, display.STRIP_SIDE))
            labels = [f"frame {self.numbers[place] + 1}" for place in places]
            strip = film_strip(small, labels)
            shown = picture(strip, repr(self), limit=max(strip.size))
        legend = ground_scale(0.0, highest, "mean attention probability") if spans else ""
        return f"<div>{shown}{coloured_prompt(self.prompt, spans)}{legend}</div>"

    def __repr__(self) -> str:
        height, width = self.image_size
        grids = ", ".join(f"{grid.size[1]}x{grid.size[0]}" for grid in self.parts[0].grids)
        return (
            f"VideoAttribution({self.prompt.shortened}, {len(self.words)} words, {len(self)} "
            f"frames of {width}x{height} from {self.frame_mapping.latent_frames} latent frames, "
            f"grids {grids}, {self.nbytes / 1e6:.2f} MB)"
        )


def _check(video: VideoAttribution) -> None:
    """Compare the latent frames with each other, with the mapping and with the images.

    Raises:
        InputError: two of them do not belong together.
    """
    parts, frames = video.parts, len(video.frame_mapping)
    last = max(video.frame_mapping.latent)
    if len(parts) <= last:
        raise InputError(
            f"The frames are mapped to latent frames 0 to {last}, and {len(parts)} are there."
        )
    for part in parts:
        if part.image_size != parts[0].image_size:
            raise InputError(
                f"The frames of a video have one size; got {parts[0].image_size} and "
                f"{part.image_size} (height, width)."
            )
        if part.prompt is not parts[0].prompt and part.prompt != parts[0].prompt:
            raise InputError("The frames of a video have one prompt; these have several.")
    if video.images and len(video.images) != frames:
        raise InputError(f"There are {len(video.images)} images for {frames} frames.")
    if len(video.numbers) != frames:
        raise InputError(f"There are {len(video.numbers)} numbers for {frames} frames.")
