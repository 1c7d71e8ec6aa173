"""The pipeline and the denoiser calls that every system is given, at a released model's size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from diffusers import (
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor, nn
from transformers import CLIPTokenizer

from benchmarks.sizes import PROMPT, SD15, TINY_PIPELINE, Model, fill_with_noise
from diffusers_rdaam.families.unet import UNetFamily

FIRST_WORD = "cat"
# The beginnings of the blocks' names as a call visits them.
WAY = ("dow", "mid", "up_")
WORDS = ("photograph", "blue", "eyes", "dog", "red", "hat", "wooden", "table")


@dataclass(frozen=True)
class Work:
    """What one call of the denoiser computes.

    Args:
        model: whose configuration.
        rows: of the batch; half of them belong to the prompts, one each.
        part: ``"unet"``, or ``"attention"`` for its text cross-attention modules alone, one after
            the other on random states; the rest then has no memory.
        narrow: with a fraction of the channels, and the same blocks, heads and grids.
        visits_self: whether ``"attention"`` has self-attention too.
        device: of the weights and of the inputs.
    """

    model: Model = SD15
    rows: int = 2
    part: Literal["attention", "unet"] = "attention"
    narrow: bool = False
    visits_self: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Half precision on a CUDA device, as such models are run there."""
        return torch.float16 if self.device.type == "cuda" else torch.float32


class AttentionOnlyUNet(UNet2DConditionModel):
    """A UNet whose call is its attention modules, in its order, each on states of its own."""

    visits: tuple[tuple[Any, Tensor, bool], ...] = ()
    collects = False

    def forward(
        self, sample: Tensor, timestep: Any, encoder_hidden_states: Tensor, **unused: Any
    ) -> UNet2DConditionOutput:
        """Outputs of all modules where they are collected; else each is dropped at once."""
        outputs = []
        for module, states, self_attention in self.visits:
            text = None if self_attention else encoder_hidden_states
            # A layer before it makes them in a whole UNet: who keeps them keeps memory.
            states = states.clone()
            output = module(states, encoder_hidden_states=text, attention_mask=None)
            if self.collects:
                outputs.append(output)
        return UNet2DConditionOutput(sample=outputs)


class Stage:
    """A pipeline around the denoiser of some work, its input, and the run's beginning and end.

    Attributes:
        pipe: a stock pipeline without text encoder and VAE.
        unet: its denoiser, random weights.
        sites: the text cross-attention modules.
        prompts: one for each image.
        size: height and width of the image in pixels.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        config = work.model.config | (work.model.narrow if work.narrow else {})
        whole = work.part == "unet"
        with torch.device("meta"):
            self.unet = (UNet2DConditionModel if whole else AttentionOnlyUNet)(**config).eval()
        self.unet.requires_grad_(False)
        self.sites = [site.module for site in UNetFamily().sites(self.unet)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if whole:
                # Not the model's own, which warns of layers that some models keep in fp32.
                nn.Module.to(fill_with_noise(self.unet), work.device, work.dtype)
            else:
                self._fill_attention()
            self._inputs = self._on_device(work.model.inputs(work.rows))
        # As a scheduler has them: each step's is a view of all.
        self._timesteps = torch.arange(981, 0, -10, device=work.device)
        self.prompts = [PROMPT] * (work.rows // 2)
        self.size = work.model.image
        self.pipe = self._pipeline()

    def call(self, step: int = 0) -> Tensor | list[Tensor]:
        """One call of the denoiser, as the pipeline makes it."""
        inputs = self._inputs | {"timestep": self._timesteps[step]}
        with torch.no_grad():
            return self.unet(inputs.pop("sample"), **inputs).sample

    def outputs(self) -> list[Tensor]:
        """Of one call, all of them."""
        self.unet.collects = True
        try:
            outputs = self.call()
        finally:
            self.unet.collects = False
        return outputs if isinstance(outputs, list) else [outputs]

    def begin(self) -> None:
        """What a pipeline's call does first that hooks see: it checks its arguments."""
        height, width = self.size
        prompt = self.prompts[0] if len(self.prompts) == 1 else self.prompts
        given: dict[str, Any] = {"height": height, "width": width, "callback_steps": None}
        if isinstance(self.pipe, StableDiffusionXLPipeline):
            given["prompt_2"] = None
        self.pipe.check_inputs(prompt, **given)

    def announce(self, steps: int) -> None:
        """Set what a pipeline knows of its run before the first of ``steps`` denoiser calls."""
        self.pipe._guidance_scale = 7.5
        self.pipe._num_timesteps = steps

    def end(self) -> None:
        """What a pipeline's call does last that hooks see: it makes images of tensors."""
        self.pipe.image_processor.postprocess(torch.zeros(1, 3, 8, 8), output_type="latent")

    def text(self, tokens: int) -> Tensor:
        """Random states of another text, ``(tokens, channels)``."""
        width = self.work.model.config["cross_attention_dim"]
        return torch.randn(tokens, width, device=self.work.device, dtype=self.work.dtype)

    def _fill_attention(self) -> None:
        family = UNetFamily()
        self_attention = {site.module for site in family.self_attention_sites(self.unet)}
        sites = (*family.sites(self.unet), *family.self_attention_sites(self.unet))
        # Modules are registered down, up, middle.
        places = {name: place for place, name in enumerate(dict(self.unet.named_modules()))}
        visits = []
        for site in sorted(sites, key=lambda site: (WAY.index(site.name[:3]), places[site.name])):
            if site.module in self_attention and not self.work.visits_self:
                continue
            height, width = family.grid(site, self.work.model.latent)
            fill_with_noise(site.module).to(self.work.device, self.work.dtype)
            states = torch.randn(self.work.rows, height * width, site.module.to_q.in_features)
            visits.append((site.module, self._on_device(states), site.module in self_attention))
        self.unet.visits = tuple(visits)

    def _on_device(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._on_device(part) for name, part in value.items()}
        kind = self.work.dtype if value.is_floating_point() else value.dtype
        return value.to(self.work.device, kind)

    def _pipeline(self) -> Any:
        tokenizer = CLIPTokenizer.from_pretrained(TINY_PIPELINE / "tokenizer")
        scheduler = PNDMScheduler.from_pretrained(TINY_PIPELINE / "scheduler")
        # Nothing is encoded to begin with or decoded in the end.
        parts = {"vae": None, "text_encoder": None, "unet": self.unet}
        parts |= {"tokenizer": tokenizer, "scheduler": scheduler}
        if self.work.model.conditions:
            second = {"text_encoder_2": None, "tokenizer_2": tokenizer}
            return StableDiffusionXLPipeline(**parts, **second, add_watermarker=False)
        extra = {"safety_checker": None, "feature_extractor": None}
        return StableDiffusionPipeline(**parts, **extra, requires_safety_checker=False)
