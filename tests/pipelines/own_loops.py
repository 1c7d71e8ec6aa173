"""Classes derived from a stock pipeline that call, or replace, what it calls; and what is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput
from oracle import Seen

SIZE = {"height": 64, "width": 96, "num_inference_steps": 2}
LATENTS = (4, 8, 12)


def rows_of_calls(attributions: Any, seen: Seen, rows: Callable[[int], list[int]]) -> None:
    """Compare every cell with the mean over the calls and rows that make each image.

    Args:
        attributions: of all images.
        seen: the queries and keys of every denoiser call.
        rows: of a call's number, the row of each image; empty where it makes none.
    """
    for image, attribution in enumerate(attributions):
        by_size: dict[int, list[torch.Tensor]] = {}
        for pairs in seen.values():
            for number, (query, key) in enumerate(pairs):
                if chosen := rows(number):
                    q, k = query[chosen[image]], key[chosen[image]]
                    maps = torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, -1).mean(0).mT
                    by_size.setdefault(maps.shape[-1], []).append(maps)
        assert attribution.grids and by_size
        for grid in attribution.grids:
            right = by_size[grid.maps[0].numel()]
            assert grid.additions == len(right)
            error = (grid.maps.flatten(1).double() - torch.stack(right).mean(0)).abs().max()
            assert error <= 1e-4


class Loop(StableDiffusionPipeline):
    """A loop of its own, in which subclasses say how the denoiser is called."""

    guidance = 4.0

    @torch.no_grad()
    def __call__(
        self,
        prompt: Any,
        num_images_per_prompt: int = 1,
        generator: Any = None,
        steps: int = 2,
        negative_prompt: str | None = "a green triangle",
        **kwargs: Any,
    ) -> Any:
        self.positive, self.negative = self.encode_prompt(
            prompt, "cpu", num_images_per_prompt, True, negative_prompt
        )
        count = self.positive.shape[0]
        latents = self.begin(torch.randn(count, *LATENTS, generator=generator))
        self.scheduler.set_timesteps(steps)
        for t in self.scheduler.timesteps:
            latents = self.step(self.predict(latents, t), t, latents)
        return self.give(self.vae.decode(latents / self.vae.config.scaling_factor)[0])

    def begin(self, latents: Any) -> Any:
        return latents

    def predict(self, latents: Any, t: Any) -> Any:
        raise NotImplementedError

    def step(self, prediction: Any, t: Any, latents: Any) -> Any:
        return self.scheduler.step(prediction, t, latents)[0]

    def give(self, decoded: Any) -> Any:
        return StableDiffusionPipelineOutput(self.image_processor.postprocess(decoded), None)

    def denoise(self, latents: Any, t: Any, text: Any) -> Any:
        return self.unet(latents, t, encoder_hidden_states=text)[0]

    def guided(self, latents: Any, t: Any, *, first: bool = False) -> Any:
        texts = (self.positive, self.negative) if first else (self.negative, self.positive)
        pair = self.scheduler.scale_model_input(torch.cat([latents] * 2), t)
        one, two = self.denoise(pair, t, torch.cat(texts)).chunk(2)
        unconditional, conditional = (two, one) if first else (one, two)
        return unconditional + self.guidance * (conditional - unconditional)


class Pairs(Loop):
    """As the stock loop, without its properties."""

    def predict(self, latents: Any, t: Any) -> Any:
        return self.guided(latents, t)


class ConditionalFirst(Loop):
    """The prompt's half comes first."""

    def predict(self, latents: Any, t: Any) -> Any:
        return self.guided(latents, t, first=True)


class Separate(Loop):
    """A call for each prompt."""

    def predict(self, latents: Any, t: Any) -> Any:
        scaled = self.scheduler.scale_model_input(latents, t)
        unconditional = self.denoise(scaled, t, self.negative)
        return unconditional + self.guidance * (
            self.denoise(scaled, t, self.positive) - unconditional
        )


class Reference(Pairs):
    """A call for the latents of a reference image before each of the image's."""

    def begin(self, latents: Any) -> Any:
        self.reference = torch.randn(latents.shape, generator=torch.manual_seed(3))
        return latents

    def predict(self, latents: Any, t: Any) -> Any:
        self.denoise(torch.cat([self.reference] * 2), t, torch.cat([self.negative, self.positive]))
        return super().predict(latents, t)


class Second(Pairs):
    """A second opinion after each of the image's calls, of other latents."""

    def predict(self, latents: Any, t: Any) -> Any:
        result = super().predict(latents, t)
        other = torch.randn(latents.shape, generator=torch.manual_seed(4))
        self.denoise(torch.cat([other] * 2), t, torch.cat([self.negative, self.positive]))
        return result


class Painted(Pairs):
    """The latents are mixed with others between the steps, as where a part is painted anew."""

    def step(self, prediction: Any, t: Any, latents: Any) -> Any:
        noise = torch.randn(latents.shape, generator=torch.manual_seed(5))
        return super().step(prediction, t, latents) * 0.5 + noise


class Inverted(Pairs):
    """An inversion of its own before the loop, with the prompt, which asks no scheduler."""

    def begin(self, latents: Any) -> Any:
        for t in (torch.tensor(1), torch.tensor(501)):
            latents = latents - 0.1 * self.denoise(latents, t, self.positive)
        return latents


class Unscheduled(Pairs):
    """Steps of its own, without the scheduler's."""

    def step(self, prediction: Any, t: Any, latents: Any) -> Any:
        return latents - 0.1 * prediction


class Unclear(Reference):
    """Two calls a step with the prompt, and no step of a scheduler tells which is the image's."""

    def step(self, prediction: Any, t: Any, latents: Any) -> Any:
        return latents - 0.1 * prediction


class OwnText(Pairs):
    """Text that encode_prompt has not made: nothing describes its rows."""

    def begin(self, latents: Any) -> Any:
        self.positive, self.negative = self.positive * 0.5, self.negative * 0.5
        return latents


class OnlyOne(Pairs):
    """Two images are made, one is returned."""

    def give(self, decoded: Any) -> Any:
        return super().give(decoded[:1])
