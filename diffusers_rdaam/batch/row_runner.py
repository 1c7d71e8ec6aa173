"""RowRunner: a pipeline that makes the record of one row after the other."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.prompt import Match
from diffusers_rdaam.batch.model import is_embedded, load_pipeline
from diffusers_rdaam.batch.prompt_row import PromptRow
from diffusers_rdaam.batch.settings import BatchSettings
from diffusers_rdaam.checkpoints.failures import explained
from diffusers_rdaam.errors import BatchError, InputError, RDAAMError, RDAAMWarning, RegionError
from diffusers_rdaam.files.pictures import read_picture
from diffusers_rdaam.geometry.region import Box
from diffusers_rdaam.images.input_images import as_rgb
from diffusers_rdaam.pipelines.call_options import call_options

Record = dict[str, Any]
_LONGEST_ERROR = 2_000


class RowRunner:
    """Makes the records of rows.

    Args:
        settings: of the batch.
        retries: how often a row runs again after an exception that is not about its fields.
        pipe: the pipeline; loaded if not given.
        base: the folder that the paths of images are relative to.
    """

    def __init__(
        self, settings: BatchSettings, *, retries: int, base: Path, pipe: Any = None
    ) -> None:
        self.settings = settings
        self.retries = retries
        self.base = base
        self.pipe = load_pipeline(settings) if pipe is None else pipe

    def run(self, row: PromptRow) -> Record:
        """The record of a row, by the names of the output's columns; an error is a part of it.

        Raises:
            BatchError: the device has failed, and with it every row after this one.
        """
        record: Record = {
            "index": row.index,
            "id": row.id,
            "prompt": row.prompt,
            "negative_prompt": row.negative_prompt,
            "seed": row.seed,
            "warnings": [],
        }
        if row.problem is not None:
            return record | _error(InputError(row.problem))
        for attempt in range(self.retries + 1):
            answer: Record = {}
            try:
                with _warnings_of_row() as texts:
                    self._fill(answer, row)
                return record | answer | {"warnings": list(texts)}
            except RDAAMError as error:
                # Of what the row asks for: it would be the same the next time.
                return record | answer | _error(error) | {"warnings": list(texts)}
            except Exception as error:
                self._recover(error)
                if attempt == self.retries:
                    said = _error(explained(self.pipe, error))
                    return record | answer | said | {"warnings": list(texts)}
        raise AssertionError("a loop of at least one attempt returns")

    def _fill(self, record: Record, row: PromptRow) -> None:
        """Put what the row asks for into its record, as far as it comes."""
        if row.image is not None or row.pixels is not None:
            attribution, boxes = self._attribute(row)
            record |= _picture_fields(attribution.image)
        else:
            output = self._generate(row)
            record |= _picture_fields(output.images[0])
            attribution, boxes = output.attribution, [Box(*edges) for edges in row.boxes]
        # The image has a column of its own, a tenth of the size of its pixels here.
        record["attribution"] = replace(attribution, image=None).to_bytes()
        record["facts"] = json.dumps(attribution.run, sort_keys=True)
        record["words"], record["masks"] = _words(attribution, row.words)
        record["boxes"] = [_words_of(attribution, box) for box in boxes]

    def _generate(self, row: PromptRow) -> Any:
        settings = self.settings
        height, width = row.size or settings.size or (None, None)
        given = {
            "num_inference_steps": settings.steps,
            "guidance_scale": settings.guidance_scale,
            "height": height,
            "width": width,
            "negative_prompt": row.negative_prompt,
        }
        options = call_options(self.pipe, given, is_embedded=is_embedded(settings.model))
        return self.pipe(row.prompt, generator=_generator(row), **options)

    def _attribute(self, row: PromptRow) -> tuple[Attribution, list[Box]]:
        """The attribution of an image that exists, and the boxes in pixels of what it holds."""
        picture = self._picture(row)
        boxes = [Box(*edges).inside((picture.height, picture.width)) for edges in row.boxes]
        attribution = self.pipe.attribute_image(
            picture,
            row.prompt,
            size=row.size or self.settings.size,
            generator=_generator(row),
            **self.settings.image_options,
        )
        height, width = attribution.image_size
        down, across = height / picture.height, width / picture.width
        scaled = [
            Box(box.left * across, box.top * down, box.right * across, box.bottom * down)
            for box in boxes
        ]
        return attribution, scaled

    def _picture(self, row: PromptRow) -> Image.Image:
        if row.pixels is None:
            assert row.image is not None
            return as_rgb(read_picture(self.base / row.image, formats=None))
        try:
            with Image.open(io.BytesIO(row.pixels)) as image:
                return as_rgb(image)
        except InputError:
            raise
        # A decoder raises what it likes.
        except Exception as error:
            raise InputError(f"The image of this row cannot be read: {error}.") from error

    def _recover(self, error: Exception) -> None:
        """Make room for another attempt.

        Raises:
            BatchError: no attempt can succeed any more.
        """
        if "CUDA error" in str(error) and not isinstance(error, torch.OutOfMemoryError):
            # The process has lost its device for good; another one has not.
            raise BatchError(
                f"The device of a worker failed: {str(error).splitlines()[0][:300]}. What was "
                "written is whole; run the same command with --resume (resume=True)."
            ) from error
        if self.settings.device.startswith("cuda"):
            torch.cuda.empty_cache()


def crashed_record(row: PromptRow, times: int) -> Record:
    """The record of a row that has ended its process several times."""
    error = BatchError(
        f"The process ended {times} times while it ran this row, without an exception. Out of "
        "memory is the most frequent reason."
    )
    return {
        "index": row.index,
        "id": row.id,
        "prompt": row.prompt,
        "negative_prompt": row.negative_prompt,
        "seed": row.seed,
        "warnings": [],
    } | _error(error)


def _generator(row: PromptRow) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(row.seed)


@contextmanager
def _warnings_of_row() -> Iterator[list[str]]:
    """The texts of the package's warnings, each once, once the block has ended."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield texts
        finally:
            found = (str(one.message) for one in caught if issubclass(one.category, RDAAMWarning))
            texts += dict.fromkeys(found)


def _picture_fields(image: Any) -> Record:
    """The size of an image, and it itself as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return {"height": image.height, "width": image.width, "image": buffer.getvalue()}


def _error(error: Exception) -> Record:
    text = str(error).strip() or "no reason is given"
    if not isinstance(error, RDAAMError):
        text = f"{type(error).__name__}: {text.splitlines()[0]}"
    return {"error": text[:_LONGEST_ERROR], "error_class": type(error).__name__}


def _words(attribution: Attribution, asked: tuple[str, ...] | None) -> tuple[list[Any], list[Any]]:
    """Each word with its numbers, and its mask in COCO's run-length form; the same order."""
    words, masks = [], []
    for text, match in _matches(attribution, asked):
        heat_map = attribution.match(match)
        height, width = attribution.image_size
        level = heat_map.mass((0, 0, width, height))
        entry = {
            "text": text,
            "spans": [list(span) for span in match.spans],
            "score": level,
            "peak": heat_map.peak,
            "threshold": heat_map.threshold,
            "box": None,
            "score_in_box": None,
            "lift": None,
        }
        try:
            box = heat_map.box()
        except RegionError:
            # The map is flat, so that the word is nowhere in particular.
            words.append(entry)
        else:
            inside = heat_map.mass(box)
            lift = inside / level if level > 0.0 else 0.0
            edges = list(map(int, box))
            words.append(entry | {"box": edges, "score_in_box": inside, "lift": lift})
        masks.append({"word": text, **heat_map.coco()})
    return words, masks


def _matches(
    attribution: Attribution, asked: tuple[str, ...] | None
) -> Iterator[tuple[str, Match]]:
    """The words that were asked for, or all, several occurrences together."""
    if asked is None:
        names: dict[str, str] = {}
        for word in attribution.words:
            if word.columns:
                names.setdefault(word.text.casefold(), word.text)
        asked = tuple(names.values())
    for text in asked:
        yield text, attribution.prompt.find(text)


def _words_of(attribution: Attribution, box: Box) -> Record:
    """The words of a box, best first by lift."""
    answer = attribution.region(box)
    return {
        "box": [float(edge) for edge in box],
        "no_word": answer.no_word,
        "words": [
            {"text": word.text, "score": word.score, "share": word.share, "lift": word.lift}
            for word in answer
        ],
    }
