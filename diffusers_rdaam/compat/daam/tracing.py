"""``trace``: DAAM's hook on a pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.compat.daam.experiment import GenerationExperiment
from diffusers_rdaam.compat.daam.heatmap import GlobalHeatMap
from diffusers_rdaam.compat.daam.raw import RawHeatMapCollection, locate
from diffusers_rdaam.compat.daam.words import need_text, rows_of
from diffusers_rdaam.compat.session import Trace
from diffusers_rdaam.errors import InputError, NoAttributionError
from diffusers_rdaam.families import family_of
from diffusers_rdaam.tokens.alignment import align

# All layers and heads of Stable Diffusion XL at 1024 pixels are half of it.
DEFAULT_BUDGET = 2**30


class DiffusionHeatMapHooker(Trace):
    """Record a pipeline's runs: ``with trace(pipe) as tc: pipe(...)``.

    Args:
        pipeline: any pipeline with a UNet that this package records, stock or our own.
        low_memory: count only the first layer of each block.
        load_heads, save_heads, data_dir: not carried over; see the error.
        budget: how many bytes the maps of a run may take on the denoiser's device.

    Raises:
        InputError: ``load_heads`` or ``save_heads``.
        UnsupportedPipelineError: the pipeline cannot be recorded.
    """

    def __init__(
        self,
        pipeline: Any,
        low_memory: bool = False,
        load_heads: bool = False,
        save_heads: bool = False,
        data_dir: str | Path | None = None,
        *,
        budget: int = DEFAULT_BUDGET,
    ) -> None:
        if load_heads or save_heads or data_dir is not None:
            raise InputError(
                "save_heads=, load_heads= and data_dir= are not carried over: attention is not "
                "put back into a run. Leave them out to record it."
            )
        family = family_of(pipeline)
        sites = [site.name for site in family.sites(family.denoiser(pipeline))]
        self._layers = locate(sites, low_memory=low_memory)
        super().__init__(pipeline, RDAAMProcessor(keep=("layers", "heads"), budget=budget))

    @property
    def layer_names(self) -> list[str]:
        """One name a layer, by ``layer_idx``; names repeat from block to block."""
        return [layer.name for layer in self._layers]

    @property
    def last_prompt(self) -> str:
        """The prompt of the last run's first image; empty before a run, or where not known."""
        found = self._found()
        return "" if not found else found[0].prompt.text or ""

    @property
    def last_image(self) -> Image.Image | None:
        """The last run's first image."""
        found = self._found()
        return found[0].image if found else None

    @property
    def all_heat_maps(self) -> RawHeatMapCollection:
        """The sums over the steps of every layer and head of the last run's first image."""
        found = self._found()
        return RawHeatMapCollection(found[0] if found else None, self._layers)

    def compute_global_heat_map(
        self,
        prompt: str | None = None,
        factors: Any = None,
        head_idx: int | None = None,
        layer_idx: int | None = None,
        normalize: bool = False,
        *,
        image_index: int = 0,
    ) -> GlobalHeatMap:
        """The maps of all tokens of the last run.

        Args:
            prompt: another text whose tokens the rows are taken for; the run's own if not given.
            factors: only grids that are so many times smaller than the largest.
            head_idx, layer_idx: only this head, this layer.
            normalize: divide by the sum over the prompt's tokens at every place.
            image_index: which of the run's images.

        Raises:
            NoAttributionError: there was no run, or no such factor, head or layer.
            InputError: there is no such image, or the prompt is not known.
        """
        attribution = self._attribution(image_index)
        # DAAM knows the first text encoder's text only.
        tokens = attribution.prompt.texts[0]
        if prompt is not None:
            tokens = align(self._tokenizer, prompt, len(tokens.tokens))
        text = need_text(tokens)
        raw = RawHeatMapCollection(attribution, self._layers)
        maps = raw.mean(rows_of(tokens), factors=factors, head=head_idx, layer=layer_idx)
        if normalize:
            maps = maps / (maps[_text_columns(tokens)].sum(dim=0, keepdim=True) + 1e-6)
        return GlobalHeatMap(self._tokenizer, text, maps, tokens)

    def to_experiment(
        self,
        path: str | Path,
        seed: int | None = None,
        id: str = ".",
        subtype: str = ".",
        **compute_kwargs: Any,
    ) -> GenerationExperiment:
        """The last run as an experiment that can be saved.

        Args:
            path, seed, id, subtype: of the experiment; the seed is the run's if not given.
            compute_kwargs: of :meth:`compute_global_heat_map`.

        Raises:
            InputError: the run has no image, because it gave out latents.
        """
        index = compute_kwargs.get("image_index", 0)
        attribution = self._attribution(index)
        if attribution.image is None:
            raise InputError("The run gave out no image. Leave output_type='latent' out.")
        heat_map = self.compute_global_heat_map(**compute_kwargs)
        known = attribution.run.get("seed")
        return GenerationExperiment(
            attribution.image,
            heat_map.heat_maps,
            heat_map.prompt,
            seed=known if seed is None and isinstance(known, int) else seed,
            id=id,
            path=Path(path),
            subtype=subtype,
            tokenizer=self._tokenizer,
            tokens=heat_map.tokens,
        )

    @property
    def _tokenizer(self) -> Any:
        tokenizer = getattr(self.pipe, "tokenizer", None)
        return tokenizer if tokenizer is not None else self.pipe.tokenizer_2

    def _found(self) -> list[Attribution]:
        try:
            return [] if self._recording is None else self._recording.attributions
        except NoAttributionError:
            return []

    def _attribution(self, index: int) -> Attribution:
        if self._recording is None:
            raise NoAttributionError(
                "No heat maps found. Call the pipeline within `with trace(pipe) as tc`."
            )
        found = self._recording.attributions
        if not 0 <= index < len(found):
            raise InputError(
                f"The run made {len(found)} images, numbered from 0; there is no {index}."
            )
        return found[index]


def _text_columns(tokens: Prompt) -> torch.Tensor:
    return torch.tensor(
        [token.column for token in tokens.tokens if token.kind == "text"],
        dtype=torch.int64,
        device="cpu",
    )


trace = DiffusionHeatMapHooker
