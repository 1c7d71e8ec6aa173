"""CallInputs: what a pipeline's call needs besides its prompt, built where the user gives none.

The signature of the call names its inputs. Most have the default None whether they are needed or
not, so that the first run decides: without an input that it needs it ends before its first step.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam.errors import InputError, RDAAMError
from diffusers_rdaam.families import Family, pixels_per_latent

# The arguments that some pipeline cannot do without, by what they hold.
PICTURES = ("image", "control_image", "original_image")
MASKS = ("mask_image", "control_mask")
VIDEOS = ("video", "control_video", "conditioning_frames", "pose_video", "face_video")
MASK_VIDEOS = ("mask_video",)
VISUAL = (*PICTURES, *MASKS, *VIDEOS, *MASK_VIDEOS)
_OTHERS = (
    "image_latents",
    "source_prompt",
    "control_mode",
    "gligen_phrases",
    "gligen_boxes",
    "gligen_images",
)
_KNOWN = ("image_latents", *VISUAL, *_OTHERS[1:])
# How much of the steps is made of a picture; at 1 all of them are, as without one.
_STRENGTHS = ("strength", "inpaint_strength")
# The arguments that a user's own file is for, by option: the first that the call takes.
OPTIONS = {
    "--image": ("image", "video"),
    "--control-image": ("control_image", "control_video", "conditioning_frames", "pose_video"),
    "--mask": ("mask_image", "mask", "control_mask", "mask_video"),
}
_SIDES = ("height", "width")
# Of a video whose length is its input's: autoencoders take one frame and multiples of 4 or 8.
_FRAMES = 9
# A picture whose size is that of the image is no larger, whatever the model's own size is.
_LARGEST = 512
_BOX = [0.25, 0.25, 0.75, 0.75]
_STEPS = "num_inference_steps"
Result = TypeVar("Result")


class CallInputs:
    """The arguments of a call, with the inputs that it lacks.

    Args:
        pipe: the pipeline.
        family: its family.
        prompt: what it generates.
        steps: of a run.
        call: the arguments that the user gives. Of a call whose image has the size of a picture,
            ``height`` and ``width`` are those of the picture.

    Raises:
        InputError: an argument is not one of the call's.
    """

    def __init__(
        self, pipe: Any, family: Family, *, prompt: str, steps: int, call: Mapping[str, Any]
    ) -> None:
        self.pipe, self.family, self.prompt = pipe, family, prompt
        self.taken = inspect.signature(type(pipe).__call__).parameters
        self.given, self._sides = _without_sides(self.taken, call)
        self.steps = _steps_of(self.taken, steps)
        names = ("prompt", "generator", "output_type", *(self.steps or (_STEPS,)), *self.given)
        if lacking := [name for name in names if name not in self.taken]:
            raise InputError(
                f"{type(pipe).__name__} takes no {lacking[0]}=, so it cannot be examined with it. "
                "Leave it out if it was given; else record the pipeline with "
                "record_attention(pipe)."
            )

    def candidates(self) -> Iterator[dict[str, Any]]:
        """The calls to try, first the one with no input but those that have no default.

        Raises:
            InputError: an argument without a default is not known here.
        """
        needed = [name for name in self._not_given() if _is_required(self.taken[name])]
        yield self._call(needed)
        every = [name for name in self._not_given() if not self._is_alternative(name)]
        if every != needed:
            yield self._call(every)

    def described(self, call: Mapping[str, Any]) -> str:
        """The arguments of a call that were built here, in words."""
        built = [name for name in call if name not in (*self.given, *self.steps)]
        return ", ".join(f"{name} ({_described(call[name])})" for name in built)

    def left_out(self, call: Mapping[str, Any]) -> str:
        """The pictures and videos that the call takes as well, in words."""
        names = [name for name in VISUAL if name in self.taken and name not in call]
        return ", ".join(names)

    def files(self, files: Mapping[str, Image.Image | None]) -> dict[str, Any]:
        """The arguments that the user's pictures are for.

        Args:
            files: by option, in RGB.

        Raises:
            InputError: the call has no input for one of them.
        """
        arguments = {}
        for option, picture in files.items():
            if picture is None:
                continue
            name = next((one for one in OPTIONS[option] if one in self.taken), None)
            if name is None:
                raise InputError(
                    f"{type(self.pipe).__name__} has no input for {option}. "
                    f"{options_of(self.taken) or 'It takes no picture'}. Leave {option} out."
                )
            if len(self._sides) == 2:
                picture = picture.resize((self._sides["width"], self._sides["height"]))
            is_mask = option == "--mask"
            arguments[name] = self._as_argument(name, picture.convert("L") if is_mask else picture)
        return arguments

    def _not_given(self) -> list[str]:
        required = [
            name
            for name, one in self.taken.items()
            if _is_required(one) and name not in (*_KNOWN, *self.given, "self", "prompt")
        ]
        if required:
            raise InputError(
                f"{type(self.pipe).__name__} takes {required[0]}=, which is not built here. Give "
                f"it: examine(pipe, {required[0]}=…)."
            )
        return [name for name in _KNOWN if name in self.taken and name not in self.given]

    def _is_alternative(self, name: str) -> bool:
        """Whether the call takes this or another one: a first picture, or a first video."""
        others = {"video": "image", "image": "video"}
        other = others.get(name)
        return other in self.taken and (name == "video" or other in self.given)

    def _call(self, names: list[str]) -> dict[str, Any]:
        """The user's arguments and those of some names, built."""
        call = dict(self.given)
        for name in names:
            call[name] = self._built(name, call)
        for name in _STRENGTHS:
            if name in self.taken and any(one in call for one in VISUAL):
                call.setdefault(name, 1.0)
        return {**dict(self.steps), **call}

    def _built(self, name: str, call: Mapping[str, Any]) -> Any:
        size = self._size(call)
        if name in (*MASKS, *MASK_VIDEOS):
            latents = call.get("image_latents")
            return self._as_argument(
                name, mask(latents.shape[-2:] if latents is not None else size)
            )
        if name in VISUAL:
            return self._as_argument(name, picture(size))
        if name == "image_latents":
            return self._inverted(size)
        return {
            "source_prompt": "a picture",
            "control_mode": [0] * self._networks() if self._networks() > 1 else 0,
            "gligen_phrases": [self.prompt],
            "gligen_boxes": [_BOX],
            "gligen_images": [picture(size)],
        }[name]

    def _as_argument(self, name: str, one: Image.Image) -> Any:
        """A picture in the form that an argument has: as a video, or one for each network."""
        is_video = name in (*VIDEOS, *MASK_VIDEOS)
        # The mask of a video is one.
        if is_video or (name == "mask" and "image" not in self.taken):
            frames = [_moved(one, index) for index in range(self._frames(name))]
            tensors = (torch.Tensor, torch.FloatTensor)
            return _as_tensor(frames) if self.taken[name].annotation in tensors else frames
        control = "control_image" if "control_image" in self.taken else "image"
        if name != control:
            return one
        channels = getattr(
            getattr(getattr(self.pipe, "adapter", None), "config", None), "in_channels", 3
        )
        one = one.convert("L") if channels == 1 else one
        return [one] * self._networks() if self._networks() > 1 else one

    def _networks(self) -> int:
        """How many ControlNets or adapters there are, each with a picture of its own."""
        for name in ("controlnet", "adapter"):
            part = getattr(self.pipe, name, None)
            for several in ("nets", "adapters"):
                if hasattr(part, several):
                    return len(getattr(part, several))
        return 1

    def _frames(self, name: str) -> int:
        indices = self.taken.get("controlnet_frame_indices")
        if name == "conditioning_frames" and indices is not None:
            return len(self.given.get(indices.name, indices.default))
        count = self.given.get("num_frames")
        if count is None and "num_frames" in self.taken:
            count = self.taken["num_frames"].default
        return count if isinstance(count, int) else _FRAMES

    def _size(self, call: Mapping[str, Any]) -> tuple[int, int]:
        """Height and width of a picture: those of the call, of a given picture, or the usual."""
        pictures = [
            one for one in call.values() if isinstance(one, Image.Image) and one.mode != "L"
        ]
        usual = pictures[0].size[::-1] if pictures else self._usual_size()
        sides = [self._sides.get(side, call.get(side)) for side in _SIDES]
        height, width = (given or own for given, own in zip(sides, usual, strict=True))
        return height, width

    def _usual_size(self) -> tuple[int, int]:
        defaults = [self.taken[side].default for side in _SIDES if side in self.taken]
        if len(defaults) == 2 and all(isinstance(one, int) for one in defaults):
            return defaults[0], defaults[1]
        config: Any = getattr(self.family.denoiser(self.pipe), "config", {})
        sample = config.get("sample_size")
        sample = getattr(self.pipe, "default_sample_size", sample)
        sides = list(sample) if isinstance(sample, (tuple, list)) else [sample, sample]
        if not all(isinstance(one, int) for one in sides[:2]):
            return _LARGEST, _LARGEST
        scale = 1 if self._reads_pixels(config) else pixels_per_latent(self.pipe)
        most = math.inf if "height" in self.taken else _LARGEST
        height, width = (int(min(one * scale, most)) for one in sides[-2:])
        return height, width

    def _reads_pixels(self, config: Any) -> bool:
        """Whether the picture's own pixels lie at the latents', as of an upscaler."""
        vae: Any = getattr(getattr(self.pipe, "vae", None), "config", {})
        latents = vae.get("latent_channels")
        return latents is not None and config.get("in_channels") == latents + 3

    def _inverted(self, size: tuple[int, int]) -> Any:
        """The latents of a picture by the pipeline's own inversion."""
        if not hasattr(self.pipe, "invert"):
            raise InputError(
                f"{type(self.pipe).__name__} takes image_latents=, and has no invert() that makes "
                "them. Give them: examine(pipe, image_latents=…)."
            )
        generator = torch.Generator("cpu").manual_seed(0)
        strengths = {"inpaint_strength": self.given.get("inpaint_strength", 1.0)}
        call = {**dict(self.steps), **strengths, "generator": generator}
        return self.pipe.invert(prompt=self.prompt, image=picture(size), **call).latents


def first_run(
    inputs: CallInputs, run: Callable[[dict[str, Any]], Result]
) -> tuple[Result, dict[str, Any]]:
    """The result of the first call that does not fail, and its arguments.

    Args:
        inputs: those of the pipeline.
        run: makes a call with arguments; what it raises is taken for a lack of inputs as long as
            there are any to build.

    Raises:
        FailedRun: none of the calls was possible.
    """
    calls = inputs.candidates()
    call = next(calls)
    while True:
        try:
            return _run_in_tiles(inputs.pipe, run, call), call
        except (RDAAMError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            following = next(calls, None)
            if following is None:
                raise FailedRun(inputs, call, error) from error
            call = following


class FailedRun(Exception):
    """A run of the stock pipeline that ended with an exception of a library.

    Args:
        inputs: of the pipeline.
        call: the arguments of the run.
        error: what was raised.
    """

    def __init__(self, inputs: CallInputs, call: Mapping[str, Any], error: Exception) -> None:
        super().__init__(str(error))
        self.built, self.error = inputs.described(call), error
        self.options = options_of(inputs.taken)


def _run_in_tiles(pipe: Any, run: Callable[[dict[str, Any]], Result], call: dict[str, Any]) -> Any:
    """The result of a run, with tiles where the autoencoder has no other way."""
    vae = getattr(pipe, "vae", None)
    try:
        return run(call)
    except NotImplementedError as error:
        if "tiling" not in str(error) or not hasattr(vae, "enable_tiling"):
            raise
    vae.enable_tiling()
    return run(call)


@contextmanager
def tiling_as_it_was(pipe: Any) -> Iterator[None]:
    """Within the block the autoencoder may begin to work in tiles; then it is as it was."""
    vae = getattr(pipe, "vae", None)
    before = getattr(vae, "use_tiling", None)
    try:
        yield
    finally:
        if before is False:
            vae.use_tiling = before


def options_of(taken: Mapping[str, Any]) -> str:
    """The inputs that a call takes and the options that give them, in a sentence; or empty."""
    named = [
        f"{name}= ({option})"
        for option, names in OPTIONS.items()
        for name in names
        if name in taken
    ]
    return f"Its inputs besides the prompt are {', '.join(named)}" if named else ""


def picture(size: tuple[int, int]) -> Image.Image:
    """A picture in colours, the same each time, with edges and smooth parts."""
    height, width = size
    down, across = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    disc = np.hypot(down - 0.5, across - 0.4) < 0.25
    levels = np.stack([across, down, 0.5 + 0.5 * np.sin(9 * (down + 2 * across))], axis=-1)
    levels[disc] = (0.9, 0.2, 0.1)
    return Image.fromarray((levels * 255).round().astype(np.uint8))


def mask(size: tuple[int, int]) -> Image.Image:
    """A mask whose right half is white."""
    height, width = size
    levels = np.zeros((height, width), dtype=np.uint8)
    levels[:, width // 2 :] = 255
    return Image.fromarray(levels)


def _moved(one: Image.Image, index: int) -> Image.Image:
    """A frame of a video: the picture, rolled to the right."""
    levels = np.asarray(one)
    return one if one.mode == "L" else Image.fromarray(np.roll(levels, 2 * index, axis=1))


def _as_tensor(frames: list[Image.Image]) -> torch.Tensor:
    """``(1, channels, frames, height, width)`` from 0 to 1."""
    levels = np.stack([np.atleast_3d(np.asarray(one, dtype=np.float32)) for one in frames])
    return torch.from_numpy(levels / 255.0).permute(3, 0, 1, 2)[None]


def _without_sides(
    taken: Mapping[str, Any], call: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of a call, and the sides of its pictures where the call takes no sides."""
    sides = {}
    if any(name in taken for name in VISUAL):
        sides = {name: call[name] for name in _SIDES if name in call and name not in taken}
    return {name: value for name, value in call.items() if name not in sides}, sides


def _steps_of(taken: Mapping[str, Any], steps: int) -> dict[str, int]:
    """The number of steps by its name, or names where a call has several denoisers."""
    names = [_STEPS] if _STEPS in taken else [name for name in taken if name.endswith(_STEPS)]
    return dict.fromkeys(names, steps)


def _is_required(parameter: inspect.Parameter) -> bool:
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return parameter.default is inspect.Parameter.empty and parameter.kind not in kinds


def _described(value: Any) -> str:
    if isinstance(value, Image.Image):
        return f"{value.height}x{value.width}"
    if isinstance(value, list) and value and isinstance(value[0], Image.Image):
        return f"{len(value)} of {_described(value[0])}"
    if isinstance(value, torch.Tensor):
        return "x".join(map(str, value.shape))
    return str(value)
