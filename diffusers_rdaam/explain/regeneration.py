"""Regeneration: one generation by a pipeline's own loop, with parts of it watched or changed.

The stock ``__call__`` is wrapped in ``torch.no_grad``; the function beneath is called instead, on a
shallow copy of the pipeline whose parts are replaced by proxies. So no loop is written twice, every
argument of the pipeline counts, and the pipeline itself is left as it is.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.explain.explained import EncodedPrompt, check_pipeline
from diffusers_rdaam.families import Branch, DenoiserCall
from diffusers_rdaam.families.registry import family_of
from diffusers_rdaam.geometry.region import Region, RegionLike, as_region


class ModuleProxy:
    """A module or processor with some attributes replaced; all others are the original's.

    Args:
        original: the object that the proxy takes the place of.
        replaced: functions and values by name; ``__call__`` may be one.
    """

    def __init__(self, original: Any, **replaced: Any) -> None:
        self.__dict__.update(_original=original, _replaced=replaced)

    @property  # type: ignore[misc]  # pipelines ask what kind of module they have
    def __class__(self) -> type:
        return type(self._original)

    def __getattr__(self, name: str) -> Any:
        replaced = self.__dict__["_replaced"]
        return replaced[name] if name in replaced else getattr(self.__dict__["_original"], name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__dict__["_replaced"]["__call__"](*args, **kwargs)


class Regeneration:
    """One generation; subclasses watch or change what they study.

    Args:
        pipe: a pipeline of a class in ``EXPLAINED``; it is left as it is.

    Attributes:
        places: where the prompt's embeddings are among what ``encode_prompt`` returns.
        encodings: how often it was called; FLUX encodes a negative prompt in a second call.
        calls, steps: how many calls of the denoiser have begun, and how many steps of the loop,
            in which FLUX with true guidance calls it twice.
        call: what the present call's arguments say; None for a call with layers left out.

    Raises:
        UnsupportedPipelineError: another class.
    """

    def __init__(self, pipe: Any) -> None:
        self.places: EncodedPrompt = check_pipeline(pipe)
        self.pipe = pipe
        self.clone: Any = None
        self.family = family_of(pipe)
        self.denoiser: nn.Module = self.family.denoiser(pipe)
        self.encodings = self.calls = self.steps = 0
        self.call: DenoiserCall | None = None

    def encode(self, stock: Any, *args: Any, **kwargs: Any) -> Any:
        """The pipeline's ``encode_prompt`` of the prompt."""
        return stock(*args, **kwargs)

    def denoise(self, *args: Any, **kwargs: Any) -> Any:
        """The pipeline's call of its denoiser."""
        return self.denoiser(*args, **kwargs)

    def image_size(self) -> tuple[int, int]:
        """Height and width of the image in pixels, from the present call."""
        assert self.call is not None
        return self.family.image_size(self.pipe, self.call.grid)

    def _encode_prompt(self, stock: Any, *args: Any, **kwargs: Any) -> Any:
        self.encodings += 1
        if self.encodings == 1:
            return self.encode(stock, *args, **kwargs)
        with torch.no_grad():
            return stock(*args, **kwargs)

    def _call_denoiser(self, *args: Any, **kwargs: Any) -> Any:
        self.call = self.family.read_call(self.clone, args, kwargs)
        self.calls += 1
        if self.call is not None and Branch.CONDITIONAL in self.call.branches:
            self.steps += 1
        return self.denoise(*args, **kwargs)

    def autoencoder(self) -> Any:
        """The autoencoder, or a proxy in its place."""
        return self.pipe.vae

    def read_image(self, stock: Any, *args: Any, **kwargs: Any) -> Any:
        """The image processor's ``preprocess`` of an input image."""
        return stock(*args, **kwargs)

    def run(self, arguments: dict[str, Any]) -> Tensor:
        """Generate.

        Returns:
            The image as ``(3, height, width)``, values from 0 to 1, in the grad mode of the caller.
        """
        pipe = self.pipe
        clone = self.clone = copy.copy(pipe)
        # Past __setattr__, which would write the configuration that the copy shares.
        parts: dict[str, Any] = {
            "scheduler": copy.deepcopy(pipe.scheduler),
            self.family.denoiser_name: ModuleProxy(self.denoiser, __call__=self._call_denoiser),
            "vae": self.autoencoder(),
            "image_processor": ModuleProxy(
                pipe.image_processor,
                preprocess=partial(self.read_image, pipe.image_processor.preprocess),
            ),
            "encode_prompt": partial(self._encode_prompt, pipe.encode_prompt),
            # Both turn images into arrays, which ends every gradient.
            "safety_checker": None,
            "watermark": None,
        }
        clone.__dict__.update(parts)
        stock_call = inspect.unwrap(type(pipe).__call__)
        return stock_call(clone, **arguments, output_type="pt", return_dict=False)[0][0]

    def picture(self, image: Tensor) -> Image.Image:
        """What the stock pipeline shows: black where its safety checker says so."""
        pixels = image.detach()[None]
        checker = getattr(self.pipe, "safety_checker", None)
        if checker is not None:
            _, flagged = self.pipe.run_safety_checker(
                2.0 * pixels - 1.0, pixels.device, self.denoiser.dtype
            )
            if flagged[0]:
                pixels = torch.zeros_like(pixels)
        return to_picture(self.pipe, pixels)


def to_picture(pipe: Any, pixels: Tensor) -> Image.Image:
    """``(1, 3, height, width)`` from 0 to 1 as a PIL image, rounded as the pipeline does it."""
    processor = pipe.image_processor
    return processor.numpy_to_pil(processor.pt_to_numpy(pixels.detach().clamp(0.0, 1.0)))[0]


def check_arguments(pipe: Any, prompt: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the pipeline's call for one image of one prompt.

    Raises:
        InputError: they ask for something else; the text says what to leave out.
    """
    if not isinstance(prompt, str):
        raise InputError(
            f"One prompt at a time is explained, as a text; got {prompt!r}. Call once for each."
        )
    for name in ("output_type", "return_dict"):
        if name in arguments:
            raise InputError(
                f"{name}= is not an argument here: the result holds the image. Leave it out."
            )
    if arguments.get("num_images_per_prompt") not in (None, 1):
        raise InputError(
            "One image at a time is explained. Leave num_images_per_prompt= out, and call again "
            "with another generator= for another image."
        )
    if arguments.get("padding_mask_crop") is not None:
        raise InputError(
            "With padding_mask_crop the denoiser works on a crop that is pasted into the image "
            "afterwards. Leave it out, or crop the image yourself."
        )
    for name in ("prompt_2", "prompt_3"):
        other = arguments.get(name)
        if other is not None and other != prompt:
            raise InputError(
                f"With {name}={other!r} the text encoders see different texts, and a score would "
                f"belong to words of two of them. Leave {name}= out, so that all text encoders see "
                "the prompt."
            )
    arguments = arguments | {"num_images_per_prompt": 1}
    # With embeddings the text is what they were made from.
    return arguments if "prompt_embeds" in arguments else arguments | {"prompt": prompt}


class ReplayedNoise:
    """The same random numbers for each of several generations.

    The generator that the user gave is copied, never advanced; where none was given it is that
    which the pipeline's next call would draw from.
    """

    def __init__(self, pipe: Any, arguments: dict[str, Any]) -> None:
        given = arguments.get("generator")
        one = given[0] if isinstance(given, (list, tuple)) and given else given
        if one is None:
            one = default_generator(torch.device(pipe._execution_device))
        if not isinstance(one, torch.Generator):
            raise InputError(
                f"generator= is a torch.Generator; got {one!r}. Give "
                "torch.Generator().manual_seed(0)."
            )
        # At once: somebody may draw from it between two generations.
        try:
            self._kept = one.clone_state()
        except (NotImplementedError, RuntimeError) as error:
            raise InputError(
                f"A generator on {one.device} cannot be copied ({error}). Give one on the CPU: "
                "generator=torch.Generator().manual_seed(0)."
            ) from error

    def again(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments with a generator that starts where the first generation's did."""
        return arguments | {"generator": self._kept.clone_state()}


def default_generator(device: torch.device) -> torch.Generator:
    """What a pipeline on this device draws from where it is given no generator.

    Raises:
        InputError: torch does not hand it out.
    """
    if device.type == "cpu":
        return torch.default_generator
    backend: Any = getattr(torch, device.type, None)
    # Of CUDA and XPU; there is none before the device was used, nor of other devices.
    every = getattr(backend, "default_generators", ())
    index = backend.current_device() if device.index is None and every else device.index or 0
    if index >= len(every):
        raise InputError(
            f"The random state of the device {device} cannot be copied, so the noise of several "
            "generations would not be the same. Give generator=torch.Generator().manual_seed(0)."
        )
    return every[index]


def as_regions(
    region: RegionLike | None, regions: Sequence[RegionLike] | None
) -> list[Region | None]:
    """The regions that were asked for, in a list; None is the whole image.

    Raises:
        InputError: both were given, or an empty list.
        RegionError: one of them is not a region.
    """
    if regions is None:
        return [None if region is None else as_region(region)]
    if region is not None:
        raise InputError("Give region= for one region or regions= for several, not both.")
    found: list[Region | None] = [as_region(each) for each in regions]
    if not found:
        raise InputError("regions= is empty. Give at least one, or neither for the whole image.")
    return found
