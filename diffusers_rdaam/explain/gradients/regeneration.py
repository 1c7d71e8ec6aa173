"""GradientRegeneration: a generation whose image can be differentiated."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from diffusers_rdaam.errors import GradientError, InputError
from diffusers_rdaam.explain.explained import Embeddings
from diffusers_rdaam.explain.gradients.backward import Watch, differentiate, is_finite
from diffusers_rdaam.explain.gradients.memory import GradientMemory, saved_bytes, tensor_bytes
from diffusers_rdaam.explain.regeneration import ModuleProxy, Regeneration
from diffusers_rdaam.geometry.region import Region


@dataclass(frozen=True)
class GradientOptions:
    """What of a generation is differentiated, and how.

    Args:
        method: for error texts.
        last_steps: how many steps, from the end; all if None.
        checkpointing: compute each call's activations again on the way back.
        pixels: whether an input image is differentiated too.
        clamp: whether pixels at 0 and 1 have no gradient, as the image that is shown.
        budget: bytes of activations; None for no bound.
        values_only: generate without a graph, for :meth:`GradientRegeneration.value`.
    """

    method: str
    last_steps: int | None
    checkpointing: bool
    pixels: bool
    clamp: bool
    budget: int | None
    values_only: bool = False


@dataclass(frozen=True)
class RegionGradient:
    """The scores of one region by its gradients.

    Args:
        columns: the score of each column.
        image: that was made.
        more: what else :class:`GradientWords` has.
    """

    columns: Tensor
    image: Image.Image
    more: dict[str, Any]


class GradientRegeneration(Regeneration):
    """A generation that keeps a graph from its text embeddings, and input image, to its image.

    Args:
        pipe: the pipeline.
        settings: as above.
        regions: whose gradients will be asked for; None is the whole image.
        embeddings: the text embedding and the pooled one, instead of the prompt's.
        announce: called with the memory cost, as a line of text, before it is spent.
    """

    def __init__(
        self,
        pipe: Any,
        settings: GradientOptions,
        regions: Sequence[Region | None],
        *,
        embeddings: Embeddings | None = None,
        announce: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(pipe)
        self.settings = settings
        self.regions = regions
        self.embeddings = embeddings
        self.announce = announce
        self.leaves: dict[str, Tensor] = {}
        # Of all steps, and of those before the first that is differentiated.
        self.total = self.first = 0
        # The number of denoiser calls before the first that is differentiated.
        self.calls_before = 0
        self.memory: GradientMemory | None = None
        self._weights: list[Tensor] = []
        self._image: Tensor | None = None
        self._outputs: list[Tensor] = []
        self._watch = Watch()
        self._skips_layers = False
        self._vae = _decoder(pipe)

    def encode(self, stock: Any, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            encoded = stock(*args, **kwargs)
        text, pooled = self.embeddings or self.places.embeddings(encoded)
        text = self._leaf("text", text)
        if pooled is not None:
            pooled = self._leaf("pooled", pooled)
        return self.places.with_embeddings(encoded, text, pooled)

    def read_image(self, stock: Any, *args: Any, **kwargs: Any) -> Any:
        image = stock(*args, **kwargs)
        if not self.settings.pixels or image.shape[1] != 3:
            return image
        return self._leaf("pixels", image)

    def denoise(self, *args: Any, **kwargs: Any) -> Any:
        if self.calls == 1:
            self._begin()
        if self.steps <= self.first:
            self.calls_before = self.calls
            with torch.no_grad():
                return self.denoiser(*args, **kwargs)
        # Pipelines change a dictionary between calls, and what is computed again reads it anew.
        kwargs = {
            name: dict(value) if isinstance(value, dict) else value
            for name, value in kwargs.items()
        }
        if self.memory is None and self.announce is not None:
            self._memory_cost(args, kwargs)
        result = self._through(self.denoiser, *args, **kwargs)
        self._outputs.append(result[0].detach())
        if result[0].requires_grad:
            # Of the watch alone: autograd holds its hooks where Python finds no cycle, and this
            # object holds the end of the graph.
            result[0].register_hook(partial(self._watch.see, self.calls - 1))
        return result

    def autoencoder(self) -> Any:
        # Casting it for a moment, as the stock call does, would change what the way back sees.
        return ModuleProxy(
            self._vae,
            dtype=self.pipe.vae.dtype,
            to=lambda *args, **kwargs: None,
            decode=self._decode,
            encode=partial(self._encode, _encoder(self.pipe, self._vae)),
        )

    def _encode(self, vae: Any, image: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self._through(vae.encode, image.to(vae.dtype), *args, **kwargs)

    def _decode(self, *args: Any, **kwargs: Any) -> Any:
        result = self._through(self._vae.decode, *args, **kwargs)
        self._image = result[0][0]
        return result

    def run(self, arguments: dict[str, Any]) -> Tensor:
        """Generate, with a graph.

        Raises:
            RegionError: a region is not valid for this image.
            InputError: the memory cost is over the budget, or ``last_steps`` over the number of
                steps.
            GradientError: no gradient gets to the image, or a call's output is not finite.
        """
        graph = not self.settings.values_only
        self._skips_layers = arguments.get("skip_guidance_layers") is not None
        with torch.set_grad_enabled(graph):
            image = super().run(arguments)
        for index, output in enumerate(self._outputs):
            if not is_finite(output):
                raise GradientError(
                    f"{self.settings.method}: the denoiser's output is not finite in call "
                    f"{self.calls_before + index + 1} of {self.calls}, so there is nothing to "
                    "explain. Try dtype=torch.bfloat16 or float32."
                )
        assert self._image is not None
        # The pipeline's own image is cut at 0 and 1.
        self._image = image if self.settings.clamp else self._image / 2 + 0.5
        if graph and not self._image.requires_grad:
            raise GradientError(
                f"{self.settings.method}: no gradient gets from {type(self.pipe).__name__}'s image "
                "to its prompt; something in its call runs without gradients. If its __call__ is "
                "your own, take torch.no_grad off it."
            )
        return image.detach()

    def value(self, index: int) -> Tensor:
        """The sum of red, green and blue over a region, each from 0 to 1."""
        assert self._image is not None
        image = self._image.float() if self._image.dtype.itemsize < 4 else self._image
        return (image.sum(dim=0) * self._weights[index].to(image)).sum()

    def gradients(self) -> list[dict[str, Tensor]]:
        """The gradients of each region's :meth:`value` by every leaf, in float32 or wider.

        Raises:
            GradientError: they are not finite; the text names the method and the step.
        """
        values = [self.value(index) for index in range(len(self.regions))]
        return differentiate(values, self.leaves, self._watch, self._not_finite)

    def _leaf(self, name: str, value: Tensor) -> Tensor:
        self.leaves[name] = value.detach().clone().requires_grad_(True)
        return self.leaves[name]

    def _begin(self) -> None:
        """What the first call tells: the size of the image, and how many steps there are."""
        height, width = self.image_size()
        self._weights = [
            # A copy: a mask that was made in inference mode could not be saved for the way back.
            torch.ones(height, width, dtype=torch.float32, device="cpu")
            if region is None
            else region.coverage((height, width)).clone()
            for region in self.regions
        ]
        self.total = self.clone._num_timesteps
        steps = self.settings.last_steps
        if steps is not None and steps > self.total:
            raise InputError(
                f"last_steps={steps}, but the run has {self.total} steps. Give at most that, or "
                "leave it out for all of them."
            )
        self.first = 0 if steps is None else self.total - steps

    def _memory_cost(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # Each block of the decoder but the last doubles height and width.
        factor = 2 ** (len(self._vae.config.block_out_channels) - 1)
        height, width = (side // factor for side in self.image_size())
        shape = (1, self._vae.config.latent_channels, height, width)
        kind = {"dtype": self._vae.dtype, "device": self._vae.device}
        latents = torch.zeros(shape, **kind, requires_grad=True)
        # A negative prompt that was encoded separately has calls of its own.
        each = self.encodings + self._skips_layers
        given = tensor_bytes((args, kwargs))
        self.memory = GradientMemory(
            call=saved_bytes(lambda: self.denoiser(*args, **kwargs), self.denoiser.parameters()),
            inputs=given,
            decoder=saved_bytes(lambda: self._vae.decode(latents), self._vae.parameters()),
            calls=(self.total - self.first) * each,
            checkpointing=self.settings.checkpointing,
        )
        self.memory.check(self.settings.budget)
        assert self.announce is not None
        self.announce(str(self.memory))

    def _through(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.settings.checkpointing or self.settings.values_only:
            return function(*args, **kwargs)
        return checkpoint(function, *args, use_reentrant=False, **kwargs)

    def _not_finite(self, smallest: float) -> str:
        bad = self._watch.bad
        if not bad:
            place = f"denoiser call {self.calls_before + 1} of {self.calls}"
        elif max(bad) + 1 == self.calls:
            place = "the decoder"
        else:
            # What came out of this call's successor was finite still.
            place = f"denoiser call {max(bad) + 2} of {self.calls}"
        tried = f", also from a loss scaled down to {smallest:g}" if smallest < 1.0 else ""
        return (
            f"{self.settings.method}: the gradient is not finite on the way back through {place}"
            f"{tried}. Try dtype=torch.bfloat16 or float32, or last_steps= to stop before it."
        )


def entries_last(values: Tensor) -> Tensor:
    """A text embedding ``(1, tokens, channels)`` or image ``(1, 3, height, width)`` with its
    entries last, on the CPU.
    """
    values = values.detach()[0].cpu()
    return rearrange(values, "rgb h w -> h w rgb") if values.ndim == 3 else values


def _decoder(pipe: Any) -> Any:
    """The autoencoder in the type that the stock call decodes in.

    Stable Diffusion XL turns one that must not compute in float16 into float32 and back again.
    What is computed again on the way back would then be float16, so this is a copy.
    """
    return _widened(pipe.vae) if _upcasts(pipe) and pipe.vae.dtype == torch.float16 else pipe.vae


def _encoder(pipe: Any, decoder: Any) -> Any:
    """The same for encoding, which the stock call never does in half precision."""
    if not _upcasts(pipe) or decoder.dtype.itemsize >= 4:
        return decoder
    return _widened(pipe.vae)


def _widened(vae: Any) -> Any:
    return copy.deepcopy(vae).to(dtype=torch.float32)


def _upcasts(pipe: Any) -> bool:
    xl = any("StableDiffusionXL" in base.__name__ for base in type(pipe).__mro__)
    return xl and bool(getattr(pipe.vae.config, "force_upcast", False))
