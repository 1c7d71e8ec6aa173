"""rdaam's calls: words of a box, regions of a word, many boxes of one run, a painted mask."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.compat.rdaam.maps import extract_bbox_distribution, without_specials
from diffusers_rdaam.compat.session import recorded
from diffusers_rdaam.drawing.figure import new_figure
from diffusers_rdaam.errors import InputError, WordError
from diffusers_rdaam.geometry.region import Mask
from diffusers_rdaam.tokens.alignment import align

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULT_MODEL_ID = "CompVis/stable-diffusion-v1-4"
DEFAULT_SEED = 42
DEFAULT_STEPS = 30
DEFAULT_TAU = 0.5

_logger = logging.getLogger("diffusers_rdaam.compat.rdaam")


def run_reverse_daam(
    prompt: str,
    seed: int,
    steps: int,
    model_id: str | Path,
    bbox: Sequence[int] | None,
    pipe: Any = None,
    return_global_map: bool = False,
) -> tuple[Image.Image, Any, Any]:
    """Generate an image and tell which tokens made a box.

    Args:
        prompt, seed, steps: of the run.
        model_id: a hub id or folder; read only where no ``pipe`` is given.
        bbox: ``(left, top, right, bottom)`` in pixels, half-open.
        pipe: a loaded pipeline, in place of ``model_id``.
        return_global_map: give the map of all tokens in place of the box's scores.

    Returns:
        Image, tokens and scores (a numpy array) without start and end; or image, map
        ``(height, width, tokens)`` and tokens with them.

    Raises:
        RegionError: the box is empty, inverted, or outside the image; before the run where that
            is known.
        InputError: no box was given, and not ``return_global_map`` either.
    """
    if bbox is None and not return_global_map:
        raise InputError("No box was given. Give bbox=[left, top, right, bottom] in pixels.")
    pipe = load(model_id, None) if pipe is None else pipe
    image, attribution = _generate(pipe, prompt, seed, steps)
    tokens = _decoded(pipe, prompt, attribution)
    if return_global_map:
        return image, _global_map(attribution), tokens
    assert bbox is not None
    left, top, right, bottom = bbox
    words = attribution.region((left, top, right, bottom))
    scores, own = without_specials(words.scores, tokens)
    return image, own, scores


def run_forward_daam(
    pipe: Any,
    prompt: str,
    word: str,
    seed: int = DEFAULT_SEED,
    steps: int = DEFAULT_STEPS,
    tau: float = DEFAULT_TAU,
) -> tuple[Image.Image | None, torch.Tensor | None, torch.Tensor | None]:
    """Generate an image and tell where a word is.

    Args:
        pipe: a loaded pipeline.
        prompt, seed, steps: of the run.
        word: a word or phrase of the prompt.
        tau: the mask is what is over ``tau`` times the map's highest value.

    Returns:
        Image, map and mask ``(height, width)``; three times None where the prompt lacks the word,
        and then nothing is generated. The map is the mean over the word's tokens.
    """
    try:
        align(pipe.tokenizer, prompt, pipe.tokenizer.model_max_length).find(word)
    except WordError as error:
        _logger.warning("%s", error)
        return None, None, None
    image, attribution = _generate(pipe, prompt, seed, steps)
    found = attribution.match(attribution.prompt.find(word))
    heat_map = found.values / len(found.columns)
    return image, heat_map, (heat_map > tau * heat_map.max()).float()


class ReverseDAAMBatch:
    """Many boxes of one run.

    Args:
        model_id: a hub id or folder, or a loaded pipeline.
        device: the GPU if there is one, else the CPU, if not given.
    """

    def __init__(
        self, model_id: str | Path | Any = DEFAULT_MODEL_ID, device: str | None = None
    ) -> None:
        self.model_id = model_id
        self.pipe = load(model_id, device)
        self.device = str(self.pipe.device)
        self.pipe.set_progress_bar_config(disable=True)

    def generate_map(
        self, prompt: str, seed: int = DEFAULT_SEED, steps: int = DEFAULT_STEPS
    ) -> tuple[torch.Tensor, list[str], Image.Image]:
        """The map ``(height, width, tokens)``, the tokens with start and end, and the image."""
        image, attribution = _generate(self.pipe, prompt, seed, steps)
        return _global_map(attribution), _decoded(self.pipe, prompt, attribution), image

    def extract_bbox_scores(
        self, global_map: torch.Tensor, decoded_tokens: Sequence[str], bbox: Sequence[int]
    ) -> tuple[np.ndarray, list[str]]:
        """Scores and tokens of a box: :func:`extract_bbox_distribution`."""
        return extract_bbox_distribution(global_map, bbox, decoded_tokens)


class ReverseDAAMAnalyzer:
    """Generate once, then ask for painted regions.

    Args:
        model_id: a hub id or folder, or a loaded pipeline.
        device: the GPU if there is one, else the CPU, if not given.
    """

    def __init__(
        self, model_id: str | Path | Any = DEFAULT_MODEL_ID, device: str | None = None
    ) -> None:
        self.pipe = load(model_id, device)
        self.device = str(self.pipe.device)
        self.attribution: Attribution | None = None
        self.decoded_tokens: list[str] = []
        self.last_image: Image.Image | None = None

    @property
    def global_map(self) -> torch.Tensor | None:
        """``(height, width, tokens)``; made on every reading, as it is never needed for a mask."""
        return None if self.attribution is None else _global_map(self.attribution)

    def generate(
        self, prompt: str, seed: int = DEFAULT_SEED, steps: int = DEFAULT_STEPS
    ) -> Image.Image:
        """The image; :meth:`analyze_mask` then answers about it."""
        self.attribution = None
        image, attribution = _generate(self.pipe, prompt, int(seed), int(steps))
        self.decoded_tokens = _decoded(self.pipe, prompt, attribution)
        self.attribution, self.last_image = attribution, image
        return image

    def analyze_mask(self, mask: np.ndarray) -> Figure | None:
        """A figure with a bar for each token of the prompt: its mean over the mask.

        Args:
            mask: ``(height, width)`` of the image's size, or with channels, of which the first
                counts; what is over 0 is in the region.

        Returns:
            None where there is no image yet, or the mask is empty; a log line says which.

        Raises:
            RegionError: the mask is not of the image's size.
        """
        if self.attribution is None:
            _logger.warning("There is no image yet. Call generate(prompt) first.")
            return None
        painted = np.asarray(mask)
        painted = (painted[..., 0] if painted.ndim == 3 else painted) > 0
        if not painted.any():
            _logger.warning("The mask is empty: nothing in it is over 0.")
            return None
        words = self.attribution.region(Mask(torch.from_numpy(painted).float()))
        scores, tokens = without_specials(words.scores, self.decoded_tokens)
        return _bars(scores, tokens)


def _bars(scores: np.ndarray, tokens: list[str]) -> Figure:
    figure = new_figure(figsize=(10, 5))
    axes = figure.subplots()
    axes.bar(range(len(tokens)), scores, color="skyblue")
    axes.set_xticks(range(len(tokens)), tokens, rotation=90, parse_math=False)
    axes.set_title("Word Distribution in Selected Region")
    axes.set_xlabel("Tokens")
    axes.set_ylabel("Attention Score")
    return figure


def load(model: Any, device: str | None) -> Any:
    """A pipeline by hub id or folder, or the one that was given."""
    if not isinstance(model, (str, Path)):
        return model if device is None else model.to(device)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    # Half precision is for GPUs: on a CPU it is slow, and many of its operations are missing.
    dtype = torch.float16 if device.startswith("cuda") else torch.float32
    return DiffusionPipeline.from_pretrained(str(model), dtype=dtype).to(device)


def _generate(pipe: Any, prompt: str, seed: int, steps: int) -> tuple[Image.Image, Attribution]:
    generator = torch.Generator(pipe.device).manual_seed(seed)
    with recorded(pipe, RDAAMProcessor()) as recording:
        image = pipe(prompt, generator=generator, num_inference_steps=steps).images[0]
    return image, recording.attribution


def _global_map(attribution: Attribution) -> torch.Tensor:
    columns = range(len(attribution.prompt.tokens))
    return torch.stack([attribution.column(column).values for column in columns], dim=-1)


def _decoded(pipe: Any, prompt: str, attribution: Attribution) -> list[str]:
    """Start, the prompt's tokens and end, each decoded alone; no more than there are columns."""
    length = len(attribution.prompt.tokens)
    ids = pipe.tokenizer.encode(prompt, truncation=True, max_length=length)
    return [pipe.tokenizer.decode([number]) for number in ids]
