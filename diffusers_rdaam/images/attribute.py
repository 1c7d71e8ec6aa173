"""The attribution of an image that exists: noised, or inverted and replayed, and recorded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from diffusers_rdaam.argument_checks import check_choice, check_count, real_number
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.errors import InputError, ReconstructionWarning, UnsupportedPipelineError
from diffusers_rdaam.families import family_of, pixels_per_latent
from diffusers_rdaam.images.call_arguments import call_arguments, check_call
from diffusers_rdaam.images.driven_scheduler import Drive, driven
from diffusers_rdaam.images.input_images import as_pixels, as_rgb, resized
from diffusers_rdaam.images.latent_layouts import check_attributed, encode
from diffusers_rdaam.images.noise_levels import NoiseLevels, levels_of
from diffusers_rdaam.images.solvers import SOLVERS, Solver, listed
from diffusers_rdaam.recording.announce import warn

Method = Literal["forward", "invert"]
# About t = 100, 200 and 300 of Stable Diffusion.
NOISE = (0.26, 0.37, 0.46)
# Relative error of the latents from which on lost objects were seen.
MOST_ERROR = 0.25
_MOST_PSNR = 100.0
# Runs a pipeline, recorded, and returns one attribution an image.
Record = Callable[[Any, dict[str, Any]], Sequence[Attribution]]
# Runs it without recording, and returns what it returns.
Run = Callable[[Any, dict[str, Any]], Any]


@dataclass(frozen=True)
class ImageRequest:
    """What is asked of images; checked on construction.

    Args:
        method: ``"forward"`` or ``"invert"``.
        noise: levels of the flow scale, each over 0 and under 1.
        draws: of noise at each level; 0 for the clean latents, under the level's timestep.
        steps: of the inversion, and of the replay.
        solver: of both.
        until: the level to which the image is inverted, over 0 and under 1.
        size: height and width.
        generator: of the noise: one, which gives every image the same noise, or one for each.
        pipeline_image: for the call's own ``image=``.
        call: further arguments of the pipeline's call.

    Raises:
        InputError: one of them is wrong.
    """

    method: Method = "forward"
    noise: Any = NOISE
    draws: int = 2
    steps: int = 20
    solver: Solver = "fireflow"
    until: float = 0.7
    size: Any = None
    generator: Any = None
    pipeline_image: Any = None
    call: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice(self.method, Method, "a method")
        check_choice(self.solver, Solver, "a solver")
        # As Python's numbers, whatever they came as: they become facts of the run, written as JSON.
        object.__setattr__(self, "draws", check_count(self.draws, "draws=", least=0))
        object.__setattr__(self, "steps", check_count(self.steps, "steps="))
        object.__setattr__(self, "until", _level(self.until, "until="))
        listed_noise = self.noise if isinstance(self.noise, (list, tuple)) else [self.noise]
        if not listed_noise:
            raise InputError("noise= is empty. Give at least one level, such as noise=0.37.")
        levels = tuple(_level(one, "A level of noise=") for one in listed_noise)
        object.__setattr__(self, "noise", levels)


def _level(value: Any, name: str) -> float:
    number = real_number(value)
    if number is None or not 0.0 < number < 1.0:
        raise InputError(
            f"{name} is a share of noise over 0 and under 1, on the scale of flow matching; got "
            f"{value!r}. Timestep 200 of Stable Diffusion is 0.37."
        )
    return number


@dataclass(frozen=True)
class Images:
    """The images of a request, ready to be noised.

    Args:
        pictures: in the size that the pipeline takes.
        sizes: width and height of each as it was given.
        latents: as the pipeline's loop has them, float32 on its device.
        prompt: one text, or one an image; None where the call has embeddings.
    """

    pictures: list[Image.Image]
    sizes: list[tuple[int, int]]
    latents: Tensor
    prompt: str | list[str] | None


class ImageRun:
    """One request to one pipeline, which stays as it is.

    Args:
        pipe: the pipeline.
        request: what is asked.
        record: runs a pipeline recorded.
        plain: runs it unrecorded.
    """

    def __init__(self, pipe: Any, request: ImageRequest, *, record: Record, plain: Run) -> None:
        self.name = check_attributed(pipe)
        check_call(pipe, request.call)
        self.pipe, self.request = pipe, request
        self._record, self._plain = record, plain
        self.levels: NoiseLevels = levels_of(pipe.scheduler)

    def attribute(self, image: Any, prompt: Any) -> Attribution | list[Attribution]:
        """The attribution of an image; of a list of images, a list."""
        several = isinstance(image, (list, tuple))
        images = self._prepared(list(image) if several else [image], prompt)
        if self.request.method == "forward":
            attributions, facts = self._forward(images)
        else:
            attributions, facts = self._inverted(images)
        found = [
            self._completed(attribution, images, index, facts[index])
            for index, attribution in enumerate(attributions)
        ]
        return found if several else found[0]

    def _prepared(self, images: list[Any], prompt: Any) -> Images:
        if not images:
            raise InputError("There is no image: the list is empty.")
        texts = _texts(prompt, len(images), self.request.call)
        given = [as_rgb(image) for image in images]
        pictures = resized(self.pipe, given, self.request.size)
        latents = encode(self.pipe, as_pixels(pictures))
        return Images(pictures, [one.size for one in given], latents, texts)

    def _forward(self, images: Images) -> tuple[Sequence[Attribution], list[dict[str, Any]]]:
        """One call at each level and draw of noise; what the model answers is not used."""
        request = self.request
        levels = [self.levels.nearest(level) for level in request.noise]
        draws = max(request.draws, 1)
        calls = [level for level in levels for _ in range(draws)]
        if request.draws:
            noises, seeds = _noises(images.latents, len(calls), request.generator)
            latents = [
                (1.0 - level) * images.latents + level * noise
                for level, noise in zip(calls, noises, strict=True)
            ]
            scales = None
        else:
            latents, scales = [images.latents] * len(calls), [1.0] * len(calls)
            seeds = [None] * len(images.pictures)
        drive = Drive(listed(latents, calls), self.levels, scales=scales)
        attributions = self._recorded(images, drive)
        facts = {
            "noise_levels": _numbers(levels),
            "timesteps": _numbers(self.levels.timestep(level) for level in levels),
            "draws": request.draws,
        }
        return attributions, [facts | {"seed": seed} for seed in seeds]

    def _inverted(self, images: Images) -> tuple[Sequence[Attribution], list[dict[str, Any]]]:
        """To noise and back, recorded on the way back; how well the image comes back is said."""
        request = self.request
        knots = [request.until * step / request.steps for step in range(request.steps + 1)]
        out, back = SOLVERS[request.solver]
        # The loop is handed the image's own latents at its end, so that what it decodes is what
        # the autoencoder makes of the image.
        outward = Drive(out(images.latents, knots), self.levels, handed_back=images.latents)
        clone = self._clone(outward, images.pictures[0].size)
        plain = self._plain(clone, self._arguments(images, outward, output_type="pt"))
        self._check_end(outward)
        assert outward.end is not None
        homeward = Drive(back(outward.end, knots[::-1]), self.levels)
        attributions = self._recorded(images, homeward, output_type="pt")
        assert homeward.end is not None
        errors = _relative_errors(homeward.end, images.latents)
        decoded = _pixels(plain)
        facts = [
            {
                "solver": request.solver,
                "until": request.until,
                "inversion_steps": request.steps,
                "inversion_calls": len(outward.points),
                "latent_error": errors[index],
                "reconstruction_psnr": _psnr(attribution.image, decoded, index),
                "seed": None,
            }
            for index, attribution in enumerate(attributions)
        ]
        _report_errors(facts)
        return attributions, facts

    def _recorded(
        self, images: Images, drive: Drive, *, output_type: str = "latent"
    ) -> Sequence[Attribution]:
        arguments = self._arguments(images, drive, output_type=output_type)
        attributions = self._record(self._clone(drive, images.pictures[0].size), arguments)
        self._check_end(drive)
        return attributions

    def _clone(self, drive: Drive, size: tuple[int, int]) -> Any:
        """The pipeline with the driven scheduler, and with the trajectory's latents in its loop.

        Args:
            drive: the trajectory.
            size: width and height of the images.
        """
        clone = object.__new__(type(self.pipe))
        left_out = ("_rdaam_session", "_rdaam_buffers", "_rdaam_runs")
        parts = {name: part for name, part in vars(self.pipe).items() if name not in left_out}
        # Past __setattr__, which would write the configuration that the clone shares.
        clone.__dict__.update(
            parts,
            scheduler=driven(self.pipe.scheduler, drive),
            safety_checker=None,
            watermark=None,
        )
        if self.name.startswith("HiDream"):
            # It scales every size to this number of pixels: that of the image, and a little over
            # it, since sides are rounded down.
            width, height = size
            pixels = 1.000001 * math.sqrt(height * width)
            clone.__dict__["default_sample_size"] = pixels / pixels_per_latent(self.pipe)
        if hasattr(type(self.pipe), "prepare_latents"):
            clone.__dict__["prepare_latents"] = _Prepared(clone, drive)
        return clone

    def _arguments(self, images: Images, drive: Drive, *, output_type: str) -> dict[str, Any]:
        request = self.request
        arguments = call_arguments(
            self.pipe,
            self.name,
            images.pictures,
            calls=len(drive.points),
            given=request.call,
            pipeline_image=request.pipeline_image,
        )
        if images.prompt is not None:
            arguments["prompt"] = images.prompt
        if not hasattr(type(self.pipe), "prepare_latents"):
            denoiser: Any = family_of(self.pipe).denoiser(self.pipe)
            like = torch.empty(0, dtype=denoiser.dtype, device=self.pipe._execution_device)
            arguments["latents"] = drive.first(like)
        # The pipeline draws noise of its own, which nothing uses: not from the global generator.
        generator = torch.Generator("cpu").manual_seed(0)
        return arguments | {"output_type": output_type, "generator": generator}

    def _check_end(self, drive: Drive) -> None:
        if drive.end is None:
            raise InputError(
                f"The pipeline's loop made {drive.calls} of {len(drive.points)} calls: something "
                "stopped it. Leave callbacks that interrupt it out."
            )

    def _completed(
        self, attribution: Attribution, images: Images, index: int, facts: dict[str, Any]
    ) -> Attribution:
        width, height = images.sizes[index]
        run = attribution.run | {
            "image_is_given": True,
            "method": self.request.method,
            "given_width": width,
            "given_height": height,
            **facts,
        }
        run.pop("strength", None)
        mask = attribution.mask if "mask_image" in self.request.call else None
        return replace(attribution, run=run, image=images.pictures[index], mask=mask)


class _Prepared:
    """``prepare_latents`` of a pipeline, with the trajectory's latents in place of its own.

    Everything else that it returns stays: positions, masks, the latents of references.
    """

    def __init__(self, clone: Any, drive: Drive) -> None:
        self._clone, self._drive = clone, drive

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = type(self._clone).prepare_latents(self._clone, *args, **kwargs)
        stock = result[0] if isinstance(result, tuple) else result
        latents = self._drive.first(stock)
        if latents.shape != stock.shape:
            raise UnsupportedPipelineError(
                f"The latents of the image are {tuple(latents.shape)}, and the loop of "
                f"{type(self._clone).__name__} has {tuple(stock.shape)}: the pipeline changes the "
                "size that it is given. Give size=(height, width) as it makes images."
            )
        return (latents, *result[1:]) if isinstance(result, tuple) else latents


def _texts(prompt: Any, images: int, call: Mapping[str, Any]) -> str | list[str] | None:
    """The prompt of the call: one text, or one an image.

    Raises:
        InputError: it is missing, or there are several for one image.
    """
    if prompt is None:
        if any(name.startswith("prompt_embeds") for name in call):
            return None
        raise InputError(
            "prompt= is missing: the words of a text that describes the image are what is looked "
            "for in it."
        )
    if isinstance(prompt, str):
        return prompt if images == 1 else [prompt] * images
    if not isinstance(prompt, (list, tuple)) or not all(isinstance(one, str) for one in prompt):
        raise InputError(
            f"prompt= is a text, or a list of one for each image; got {prompt!r:.100}."
        )
    if len(prompt) != images:
        raise InputError(
            f"{len(prompt)} prompts were given for {images} images; give one for each."
        )
    return list(prompt)


def _noises(latents: Tensor, calls: int, generator: Any) -> tuple[list[Tensor], list[int | None]]:
    """The noise of each call, and the seed of each image.

    Args:
        latents: ``(images, …)``.
        calls: how many noises.
        generator: one for all images, whose noise is then the same; a list of one for each; or
            None for seed 0.
    """
    count, shape = len(latents), (calls, *latents.shape[1:])
    if generator is None:
        generator = torch.Generator("cpu").manual_seed(0)
    generators = list(generator) if isinstance(generator, (list, tuple)) else [generator]
    if not all(isinstance(one, torch.Generator) for one in generators):
        raise InputError(
            f"generator= is a torch.Generator, or a list of one for each image; got "
            f"{generator!r:.100}. Give torch.Generator().manual_seed(0)."
        )
    if len(generators) not in (1, count):
        raise InputError(
            f"{len(generators)} generators were given for {count} images; give one, or one for "
            "each image."
        )
    drawn = [
        torch.randn(shape, generator=one, device=one.device, dtype=torch.float32)
        for one in generators
    ]
    if len(drawn) < count:
        drawn *= count
        generators *= count
    stacked = torch.stack([one.to(latents) for one in drawn], dim=1)
    return list(stacked), [one.initial_seed() for one in generators]


def _relative_errors(found: Tensor, wanted: Tensor) -> list[float]:
    """Of each image: the length of the latents' difference over that of the latents."""
    difference = (found - wanted).flatten(1).norm(dim=1)
    return (difference / wanted.flatten(1).norm(dim=1).clamp(min=1e-12)).tolist()


def _pixels(output: Any) -> Tensor:
    """The images of a pipeline's output as ``(images, 3, height, width)`` from 0 to 1."""
    images = output[0] if isinstance(output, tuple) else next(iter(output.values()))
    if isinstance(images, Tensor):
        return images.detach().float().cpu()
    if isinstance(images, list):
        return (as_pixels(images) + 1.0) / 2.0
    # Latent diffusion's first pipeline has arrays alone.
    return torch.from_numpy(images).movedim(-1, 1).float()


def _psnr(picture: Image.Image | None, decoded: Tensor, index: int) -> float | None:
    """Of the replayed image against the autoencoder's own; at most 100 dB."""
    if picture is None:
        return None
    replayed = (as_pixels([picture])[0] + 1.0) / 2.0
    wanted = (decoded[index].clamp(0.0, 1.0) * 255.0).round() / 255.0
    error = float((replayed - wanted).square().mean())
    return _MOST_PSNR if error == 0.0 else min(_MOST_PSNR, -10.0 * math.log10(error))


def _report_errors(facts: Sequence[Mapping[str, Any]]) -> None:
    """Warn of images that do not come back."""
    for index, fact in enumerate(facts):
        error = fact["latent_error"]
        if not error <= MOST_ERROR:
            psnr = fact["reconstruction_psnr"]
            which = f"Image {index}" if len(facts) > 1 else "The image"
            shown = "" if psnr is None else f", {psnr:.1f} dB"
            warn(
                f"{which} does not come back from its inversion: its latents have a relative error "
                f"of {error:.2f} (up to {MOST_ERROR:g} is taken as good{shown}), so words may be "
                "shown where the replayed image has them. Give more steps=, a lower until=, "
                "solver='fixed_point', or method='forward'.",
                ReconstructionWarning,
            )


def _numbers(values: Any) -> str:
    """Numbers as the text of a fact."""
    return ", ".join(f"{value:.4g}" for value in values)
