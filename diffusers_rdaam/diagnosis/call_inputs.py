"""CallInputs: what a pipeline's call needs besides its prompt, built where the user gives none.

The signature of the call names its inputs. Most have the default None whether they are needed or
not, so that the first run decides: without an input that it needs it ends before its first step.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from PIL import Image

from diffusers_rdaam.diagnosis.drawn_inputs import as_tensor, mask, moved, picture
from diffusers_rdaam.errors import InputError
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
_KNOWN = (*VISUAL, *_OTHERS)
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


class CallInputs:
    """The arguments of a call, with the inputs that it lacks.

    Args:
        pipe: the pipeline.
        family: its family.
        prompt: what it generates.
        steps: of a run.
        call: the arguments that the user gives. Where the call takes no ``height`` and ``width``
            its image is as large as its picture is, and these are the sides of that.

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
        """The calls to try: with what has no default, with all inputs, and with a negative text.

        Raises:
            InputError: an argument without a default is not known here.
        """
        needed = [name for name in self._not_given() if _is_required(self.taken[name])]
        every = [name for name in self._not_given() if not self._is_alternative(name)]
        calls = [self._call(needed)]
        yield calls[0]
        if every != needed:
            calls.append(self._call(every))
            yield calls[1]
        if "negative_prompt" in self.taken and "negative_prompt" not in self.given:
            # Some encode it whether there is one or not.
            yield from (call | {"negative_prompt": ""} for call in calls)

    def described(self, call: Mapping[str, Any]) -> str:
        """The arguments of a call that were built here, in words."""
        built = [name for name in call if name not in (*self.given, *self.steps)]
        return ", ".join(f"{name} ({_described(call[name])})" for name in built)

    def left_out(self, call: Mapping[str, Any]) -> str:
        """The pictures and videos that the call takes as well, in words."""
        names = [name for name in VISUAL if name in self.taken and name not in call]
        return ", ".join(names)

    def files(self, files: Mapping[str, Image.Image]) -> dict[str, Any]:
        """The arguments that the user's pictures are for.

        Args:
            files: by option, in RGB.

        Raises:
            InputError: the call has no input for one of them.
        """
        arguments = {}
        for option, file in files.items():
            name = next((one for one in OPTIONS[option] if one in self.taken), None)
            if name is None:
                takes = inputs_of(self.taken) or "It takes no picture"
                raise InputError(
                    f"{type(self.pipe).__name__} has no input for {option}. {takes}. "
                    f"Leave {option} out."
                )
            if option == "--mask":
                file = file.convert("L")
                if "image_latents" in self.taken:
                    file = file.resize(self._mask_size({})[::-1])
            arguments[name] = self._as_argument(name, file)
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
        if name in (*MASKS, *MASK_VIDEOS):
            return self._as_argument(name, mask(self._mask_size(call)))
        drawn = picture(self._size(call))
        if name in VISUAL:
            return self._as_argument(name, drawn)
        if name == "image_latents":
            return self._inverted(drawn)
        modes = [0] * self._networks()
        others = {
            "source_prompt": "a picture",
            "control_mode": modes if len(modes) > 1 else 0,
            "gligen_phrases": [self.prompt],
            "gligen_boxes": [_BOX],
            "gligen_images": [drawn],
        }
        return others[name]

    def _as_argument(self, name: str, one: Image.Image) -> Any:
        """A picture in the form that an argument has: as a video, or one for each network."""
        is_video = name in (*VIDEOS, *MASK_VIDEOS)
        # The mask of a video is one.
        if is_video or (name == "mask" and "image" not in self.taken):
            frames = [moved(one, index) for index in range(self._frames(name))]
            tensors = (torch.Tensor, torch.FloatTensor)
            return as_tensor(frames) if self.taken[name].annotation in tensors else frames
        if name != ("control_image" if "control_image" in self.taken else "image"):
            return one
        adapter: Any = getattr(getattr(self.pipe, "adapter", None), "config", {})
        if adapter.get("in_channels") == 1:
            one = one.convert("L")
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
        indices = self._value("controlnet_frame_indices")
        if name == "conditioning_frames" and indices is not None:
            return len(indices)
        count = self._value("num_frames")
        if isinstance(count, int):
            return count
        # A longer video is made in several parts, each by a run of its own.
        most = self._value("segment_frame_length")
        return min(_FRAMES, most) if isinstance(most, int) else _FRAMES

    def _value(self, name: str) -> Any:
        """What the call has for an argument; None where it takes none of this name."""
        default = self.taken[name].default if name in self.taken else None
        return self.given.get(name, default)

    def _size(self, call: Mapping[str, Any]) -> tuple[int, int]:
        """Height and width of a picture: those of the call, of a given picture, or the usual."""
        sizes = [_size_of(call[name]) for name in VISUAL if name in call]
        if "image_latents" in self.taken:
            # The mask is as large as these.
            sizes = []
        usual = next((size for size in sizes if size is not None), None) or self._usual_size()
        sides = [self._sides.get(side, call.get(side)) for side in _SIDES]
        height, width = (given or own for given, own in zip(sides, usual, strict=True))
        return height, width

    def _mask_size(self, call: Mapping[str, Any]) -> tuple[int, int]:
        """Height and width of a mask: the picture's, or those of latents that are given with it."""
        size = self._size(call)
        if "image_latents" not in self.taken:
            return size
        height, width = self.family.grid_of_image(self.pipe, size)
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

    def _inverted(self, one: Image.Image) -> Any:
        """The latents of a picture by the pipeline's own inversion."""
        if not hasattr(self.pipe, "invert"):
            raise InputError(
                f"{type(self.pipe).__name__} takes image_latents=, and has no invert() that makes "
                "them. Give them: examine(pipe, image_latents=…)."
            )
        generator = torch.Generator("cpu").manual_seed(0)
        strengths = {"inpaint_strength": self.given.get("inpaint_strength", 1.0)}
        call = {**dict(self.steps), **strengths, "generator": generator}
        return self.pipe.invert(prompt=self.prompt, image=one, **call).latents


def inputs_of(taken: Mapping[str, Any]) -> str:
    """The inputs that a call takes and the options that give them, in a sentence; or empty."""
    options = {name: f" ({option})" for option, names in OPTIONS.items() for name in names}
    named = [f"{name}={options.get(name, '')}" for name in taken if name in (*_KNOWN, *options)]
    return f"Its inputs besides the prompt are {', '.join(named)}" if named else ""


def _without_sides(
    taken: Mapping[str, Any], call: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, int]]:
    """The arguments of a call, and the sides of its pictures where the call takes no sides."""
    sides = {name: call[name] for name in _SIDES if name in call and name not in taken}
    given = {name: value for name, value in call.items() if name not in sides}
    pictures = {name: value for name, value in given.items() if name in VISUAL}
    drawn = any(name in taken for name in (*VISUAL, "image_latents"))
    if not sides or not drawn or None in map(_size_of, pictures.values()):
        return dict(call), {}
    if "image_latents" not in taken:
        given |= {name: _in_size(value, sides) for name, value in pictures.items()}
    return given, sides


def _in_size(value: Any, sides: Mapping[str, int]) -> Any:
    """A picture, or several, with other sides."""
    if isinstance(value, list):
        return [_in_size(one, sides) for one in value]
    return value.resize((sides.get("width", value.width), sides.get("height", value.height)))


def _size_of(value: Any) -> tuple[int, int] | None:
    """Height and width of a picture, or of the first of several; None of anything else."""
    one = value[0] if isinstance(value, list) and value else value
    return (one.height, one.width) if isinstance(one, Image.Image) else None


def _steps_of(taken: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """The number of steps by its name, or names where a call has several denoisers.

    A default with a value for each of the usual steps has one for each of these.
    """
    names = [_STEPS] if _STEPS in taken else [name for name in taken if name.endswith(_STEPS)]
    arguments: dict[str, Any] = dict.fromkeys(names, steps)
    usual = taken[_STEPS].default if _STEPS in taken else None
    for name, parameter in taken.items():
        default = parameter.default
        if isinstance(default, (list, tuple)) and len(default) == usual:
            arguments[name] = [default[step * usual // steps] for step in range(steps)]
    return arguments


def _is_required(parameter: inspect.Parameter) -> bool:
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return parameter.default is inspect.Parameter.empty and parameter.kind not in kinds


def _described(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return "x".join(map(str, value.shape))
    size = _size_of(value)
    if size is None:
        return repr(value)
    text = f"{size[0]}x{size[1]}"
    return f"{len(value)} of {text}" if isinstance(value, list) else text
