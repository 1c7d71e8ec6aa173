"""rdaam's ``compare_daam``: its map of a word and DAAM's, of one run, next to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image

from diffusers_rdaam.compat.daam.tracing import trace
from diffusers_rdaam.compat.rdaam.runs import (
    DEFAULT_SEED,
    DEFAULT_STEPS,
    DEFAULT_TAU,
    run_forward_daam,
)
from diffusers_rdaam.drawing.figure import new_figure
from diffusers_rdaam.errors import WordError
from diffusers_rdaam.files.writing import replacing
from diffusers_rdaam.shapes import Column


@dataclass(frozen=True, eq=False)
class DAAMComparison:
    """Two maps of a word of one prompt and seed.

    Args:
        image, heat_map: of rdaam's ``run_forward_daam``; the map is of the image's size.
        library_image, library_heat_map: of DAAM's trace; the map is of its grid.
        mse: between the two maps at the image's size, as they are: DAAM's is a sum over the steps
            and rdaam's a mean, so that it says little. rdaam's script has it so.
        scaled_mse: between the two maps, each stretched to 0 to 1.
        word: that they are of.
    """

    image: Image.Image
    heat_map: Column = field(repr=False)
    library_image: Image.Image
    library_heat_map: Column = field(repr=False)
    mse: float
    scaled_mse: float
    word: str

    def plot(self) -> Any:
        """The five panels of rdaam's figure (needs the extra ``plot``)."""
        library = _resized(self.library_heat_map, self.heat_map)
        figure = new_figure(figsize=(20, 5))
        panels = figure.subplots(1, 5)
        shown = (
            ("Manual Image", self.image, None),
            ("Manual Heatmap", self.heat_map.numpy(), "jet"),
            ("Library Heatmap", self.library_heat_map.numpy(), "jet"),
            ("Library Image", self.library_image, None),
            (f"Diff (MSE: {self.mse:.4f})", (library - self.heat_map).numpy(), "bwr"),
        )
        for axes, (title, picture, cmap) in zip(panels, shown, strict=True):
            axes.imshow(picture, cmap=cmap)
            axes.set_title(title, parse_math=False)
            axes.axis("off")
        return figure

    def save(self, path: str | Path = "daam_comparison_result.png") -> Path:
        """Write the figure; returns its path.

        Raises:
            InputError: the file cannot be written.
            PlotExtraError: matplotlib is not installed.
        """
        target = Path(path)
        with replacing(target, "figure") as file:
            self.plot().savefig(file, format="png")
        return target


def compare_daam(
    pipe: Any,
    prompt: str,
    word: str,
    seed: int = DEFAULT_SEED,
    steps: int = DEFAULT_STEPS,
    tau: float = DEFAULT_TAU,
) -> DAAMComparison:
    """Generate twice from one seed, by rdaam's calls and by DAAM's, and compare the maps.

    Args:
        pipe: a loaded pipeline.
        prompt, seed, steps: of both runs.
        word: a word or phrase of the prompt.
        tau: of rdaam's mask.

    Raises:
        WordError: the prompt does not have the word.
    """
    image, heat_map, _ = run_forward_daam(pipe, prompt, word, seed=seed, steps=steps, tau=tau)
    if image is None or heat_map is None:
        raise WordError(f"{word!r} is not a word of the prompt {prompt!r}, or was cut off.")
    generator = torch.Generator(pipe.device).manual_seed(seed)
    with trace(pipe) as tracer:
        library_image = pipe(prompt, generator=generator, num_inference_steps=steps).images[0]
    found = tracer.compute_global_heat_map().compute_word_heat_map(word).value.float().cpu()
    library = _resized(found, heat_map)
    return DAAMComparison(
        image,
        heat_map,
        library_image,
        found,
        float(((library - heat_map) ** 2).mean()),
        float(((_stretched(library) - _stretched(heat_map)) ** 2).mean()),
        word,
    )


def _resized(values: Column, other: Column) -> Column:
    """A map at the size of another; bicubic, as rdaam's script does it."""
    size = (other.shape[0], other.shape[1])
    return F.interpolate(values[None, None].float(), size=size, mode="bicubic")[0, 0]


def _stretched(values: Column) -> Column:
    return (values - values.min()) / (values.max() - values.min()).clamp(min=1e-12)
