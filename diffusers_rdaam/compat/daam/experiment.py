"""GenerationExperiment: a generation, its maps and masks in a folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.compat.daam import masks
from diffusers_rdaam.compat.daam.experiment_file import NAME, is_seed, read_maps, write_maps
from diffusers_rdaam.compat.daam.heatmap import GlobalHeatMap
from diffusers_rdaam.compat.daam.labels import COCO80_TO_27
from diffusers_rdaam.compat.daam.plotting import write_overlay
from diffusers_rdaam.errors import AttributionFileError, InputError, WordError
from diffusers_rdaam.files.opening import inner_path
from diffusers_rdaam.files.pictures import write_png
from diffusers_rdaam.files.writing import write_text

_ID, _SUBTYPE = "An experiment's id", "An experiment's subtype"


@dataclass(eq=False)
class GenerationExperiment:
    """A generation with its maps, as DAAM keeps it in ``<path>/<id>/<subtype>``.

    Args:
        image: what was generated.
        global_heat_map: ``(rows, height, width)``: start token, the prompt's tokens, end token.
        prompt, seed: of the generation.
        id, path: the folder is ``path / id``.
        truth_masks, prediction_masks: ``(height, width)`` of 0 and 1, by lower-case word.
        annotations: anything that JSON can hold.
        subtype: a folder within, for several generations with the same truth.
        tokenizer: of the pipeline; not needed where ``tokens`` are known.
        tokens: the prompt with its tokens.
    """

    image: Image.Image
    global_heat_map: torch.Tensor = field(repr=False)
    prompt: str
    seed: int | None = None
    id: str = "."
    path: Path | None = None
    truth_masks: dict[str, torch.Tensor] | None = field(default=None, repr=False)
    prediction_masks: dict[str, torch.Tensor] | None = field(default=None, repr=False)
    annotations: dict[str, Any] | None = None
    subtype: str = "."
    tokenizer: Any = field(default=None, repr=False)
    tokens: Prompt | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.path is not None:
            self.path = inner_path(Path(self.path), self.id, _ID)

    def nsfw(self) -> bool:
        """Whether the image is all black, as a safety checker leaves it."""
        return not np.asarray(self.image).any()

    def heat_map(self, tokenizer: Any = None) -> GlobalHeatMap:
        """The maps, from which those of words are made.

        Raises:
            InputError: neither a tokenizer nor the tokens are known.
        """
        known = self.tokenizer if tokenizer is None else tokenizer
        tokens = self.tokens if tokenizer is None else None
        return GlobalHeatMap(known, self.prompt, self.global_heat_map, tokens)

    def save(
        self, path: str | Path | None = None, heat_maps: bool = True, tokenizer: Any = None
    ) -> None:
        """Write the folder: maps, image, prompt, seed, masks, annotations, a picture a word.

        Args:
            path: in whose place the experiment's own is written to; the folder is ``path / id``.
            heat_maps: whether to draw the words (with matplotlib).
            tokenizer: in place of the experiment's.

        Raises:
            InputError: there is no path, or it may not be written.
        """
        folder = self._folder() if path is None else inner_path(Path(path), self.id, _ID)
        inner = self._inner(folder)
        maps, seed = self.global_heat_map, self.seed
        # First, for it is what checks the prompt, seed and id.
        write_maps(inner / NAME, maps, self.prompt, seed, self.id, self.tokens)
        write_png(inner / "output.png", self.image)
        write_text(folder / "prompt.txt", self.prompt)
        if self.seed is not None:
            write_text(folder / "seed.txt", str(self.seed))
        truth = self.truth_masks or {}
        for word, mask in truth.items():
            masks.write_mask(folder / masks.file_word(word, truth, suffix=".gt.png"), mask)
        self.save_annotations(folder)
        if heat_maps and (tokenizer or self.tokenizer or self.tokens) is not None:
            self._draw_words(inner, tokenizer)

    def save_annotations(self, path: str | Path | None = None) -> None:
        """Write ``annotations.json`` to the folder, if there are any."""
        if self.annotations is not None:
            folder = self._folder() if path is None else Path(path)
            masks.write_annotations(folder, self.annotations)

    def save_heat_map(
        self,
        word: str,
        tokenizer: Any = None,
        crop: int | None = None,
        output_prefix: str = "",
        absolute: bool = False,
    ) -> Path:
        """Draw a word's map over the image to ``<prefix><word>.heat_map.png``; returns its path.

        Args:
            word: of the prompt.
            tokenizer: in place of the experiment's.
            crop: pixels to leave out at every side.
            output_prefix: of the file's name.
            absolute: the values as they are, with colours from 0 to 1, in place of stretched ones.

        Raises:
            WordError: the prompt does not have the word.
        """
        inner = self._inner(self._folder())
        return self._draw(inner, word, tokenizer, output_prefix, absolute=absolute, crop=crop)

    def save_all_heat_maps(self, tokenizer: Any = None, crop: int | None = None) -> dict[str, Path]:
        """:meth:`save_heat_map` of every word that has a map; their paths by word."""
        inner = self._inner(self._folder())
        return self._draw_words(inner, tokenizer, crop)

    def _draw_words(self, folder: Path, tokenizer: Any, crop: int | None = None) -> dict[str, Path]:
        paths = {}
        for word in dict.fromkeys(self.prompt.split()):
            try:
                paths[word] = self._draw(folder, word, tokenizer, "", absolute=False, crop=crop)
            except WordError:
                # Behind the text encoder's last position.
                continue
        return paths

    def _draw(
        self,
        folder: Path,
        word: str,
        tokenizer: Any,
        prefix: str,
        *,
        absolute: bool,
        crop: int | None,
    ) -> Path:
        words = self.prompt.split()
        prefix = masks.file_part(prefix)
        path = folder / masks.file_word(word, words, prefix=prefix, suffix=".heat_map.png")
        heat_map = self.heat_map(tokenizer).compute_word_heat_map(word)
        write_overlay(
            self.image,
            heat_map.expand_as(self.image, absolute=absolute),
            word,
            path,
            color_normalize=not absolute,
            crop=crop,
        )
        return path

    def save_prediction_mask(self, mask: torch.Tensor, word: str, name: str) -> None:
        """Write a predicted mask ``(height, width)`` to ``<word>.<name>.pred.png``."""
        inner = self._inner(self._folder())
        words = self.prompt.split()
        suffix = f".{masks.file_part(name)}.pred.png"
        masks.write_mask(inner / masks.file_word(word, words, suffix=suffix), mask)

    def clear_prediction_masks(self, name: str) -> None:
        """Remove the predicted masks of that name."""
        for path in (self._folder() / self.subtype).glob(f"*.{masks.file_part(name)}.pred.png"):
            path.unlink()

    def clear_checkpoint(self) -> None:
        """Remove the maps' file, which is the largest."""
        (self._folder() / self.subtype / NAME).unlink(missing_ok=True)

    def annotate(self, key: str, value: Any) -> GenerationExperiment:
        """Add an annotation; returns the experiment itself."""
        self.annotations = {**(self.annotations or {}), key: value}
        return self

    def _inner(self, folder: Path) -> Path:
        """The folder of the subtype, made where it is not there.

        Raises:
            InputError: it cannot be made, or would be outside.
        """
        inner = inner_path(folder, self.subtype, _SUBTYPE)
        try:
            inner.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"The experiment cannot be written to {folder}: {error}.") from error
        return inner

    def _folder(self) -> Path:
        if self.path is None:
            raise InputError("This experiment has no path. Give one: save('a folder').")
        return self.path

    @staticmethod
    def contains_truth_mask(path: str | Path, prompt_id: str | None = None) -> bool:
        """Whether the folder has a truth mask."""
        return any(_of_id(path, prompt_id).glob("*.gt.png"))

    @staticmethod
    def has_annotations(path: str | Path) -> bool:
        """Whether the folder has annotations."""
        return (Path(path) / masks.ANNOTATIONS).exists()

    @staticmethod
    def has_experiment(path: str | Path, prompt_id: str) -> bool:
        """Whether the folder has the maps of an experiment."""
        return (_of_id(path, prompt_id) / NAME).exists()

    @staticmethod
    def read_prompt(path: str | Path, prompt_id: str | None = None) -> str:
        """The prompt in a folder."""
        return masks.read_line(_of_id(path, prompt_id) / "prompt.txt")

    @staticmethod
    def read_seed(path: str | Path, prompt_id: str | None = None) -> int:
        """The seed in a folder.

        Raises:
            AttributionFileError: there is none, or it is not a number.
        """
        file = _of_id(path, prompt_id) / "seed.txt"
        text = masks.read_line(file)
        if not re.fullmatch("-?[0-9]{1,20}", text) or not is_seed(int(text)):
            raise AttributionFileError(f"{file} holds no seed but {text[:80]!r}.")
        return int(text)

    @classmethod
    def load(
        cls,
        path: str | Path,
        pred_prefix: str = "daam",
        composite: bool = False,
        simplify80: bool = False,
        vocab: Sequence[str] | None = None,
        subtype: str = ".",
        all_subtypes: bool = False,
    ) -> Any:
        """Read what :meth:`save` wrote; a list with ``all_subtypes``.

        Args:
            path: the folder with ``prompt.txt``.
            pred_prefix: the name of the predicted masks to read.
            composite: read them from ``composite.<name>.pred.png``, an image of numbers.
            simplify80: the masks of COCO's 80 labels by its 27 groups; masks of one are added.
            vocab: the words of those numbers.
            subtype: the folder within.
            all_subtypes: every folder within that has an experiment, in order of their names.

        Raises:
            AttributionFileError: there is no whole, valid experiment.
            InputError: a composite mask has a number without a word in ``vocab``.
        """
        folder = Path(path)
        options: dict[str, Any] = {
            "composite": composite,
            "simplify80": simplify80,
            "vocab": vocab,
        }
        if all_subtypes:
            names = sorted(file.parent.name for file in folder.glob(f"*/{NAME}"))
            return [cls.load(folder, pred_prefix, subtype=name, **options) for name in names]
        inner = inner_path(folder, subtype, _SUBTYPE)
        for file in (inner / NAME, inner / "output.png"):
            masks.check_inside(folder, file)
        maps, header = read_maps(inner / NAME)
        truth = masks.read_masks(folder, ".gt.png")
        predicted = masks.read_predictions(inner, pred_prefix, composite=composite, vocab=vocab)
        if simplify80:
            truth, predicted = (masks.renamed(found, COCO80_TO_27) for found in (truth, predicted))
        experiment = cls(
            masks.read_image(inner / "output.png"),
            maps,
            header["prompt"],
            seed=header["seed"],
            id=header["id"],
            truth_masks=truth,
            prediction_masks=predicted,
            annotations=masks.read_annotations(folder),
            subtype=subtype,
            tokens=header["tokens"],
        )
        experiment.path = folder
        return experiment


def _of_id(path: str | Path, prompt_id: str | None) -> Path:
    """The folder of an experiment within the one of all.

    Raises:
        InputError: the id leads out of it.
    """
    return Path(path) if prompt_id is None else inner_path(Path(path), prompt_id, _ID)
