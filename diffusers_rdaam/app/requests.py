"""What the page asks of a model, checked before anything runs, and the runs that answer it."""

from __future__ import annotations

import inspect
import math
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from PIL import Image

from diffusers_rdaam.app.runs import Progress, Run
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.errors import InputError, NoAttributionError
from diffusers_rdaam.geometry.region import RegionLike
from diffusers_rdaam.images.input_images import usual_pixels

if TYPE_CHECKING:
    from diffusers_rdaam.attention.processor import RDAAMProcessor
    from diffusers_rdaam.explain.ablations.ablation import AblationWords
    from diffusers_rdaam.explain.gradients.gradient_words import GradientWords

Task = Literal["text", "image", "inpainting"]
Explanation = Literal["gradient", "ablation"]
MOST_TEXT = 10_000  # characters of a prompt
MOST_IMAGES = 16
MOST_STEPS = 1000
MOST_CONCEPTS = 16
MOST_PIXELS = 2**24
MOST_SIDE = 2**14  # a longer side is a slip of the keyboard, and the run takes hours
SIDE_STEP = 16  # every model takes such sides
MOST_SEED = 2**64 - 1
# Previews of a run: each costs a pass of the decoder.
_PREVIEWS = 8
_DEFAULTED = (
    "num_inference_steps",
    "guidance_scale",
    "true_cfg_scale",
    "negative_prompt",
    "max_sequence_length",
)


@dataclass(frozen=True)
class GenerationRequest:
    """One or more images; None is "the model's own".

    Args:
        prompt, negative_prompt: texts.
        seed: of the first image; each further one has the next.
        steps, guidance: of the denoiser.
        height, width: in pixels.
        images: how many, one after another.
        start: the image to begin from, in RGB.
        mask: the part of ``start`` to make anew, white on black.
        strength: how far from ``start``, over 0 to 1.
        vocabulary: other texts whose maps are recorded as well.
        keep_steps, keep_self_attention, keep_queries: what is recorded in addition to the maps.

    Raises:
        InputError: one of them is wrong.
    """

    prompt: str
    negative_prompt: str = ""
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    height: int | None = None
    width: int | None = None
    images: int = 1
    start: Image.Image | None = field(default=None, repr=False)
    mask: Image.Image | None = field(default=None, repr=False)
    strength: float = 0.6
    vocabulary: tuple[str, ...] = ()
    keep_steps: bool = False
    keep_self_attention: bool = False
    keep_queries: bool = False

    def __post_init__(self) -> None:
        check_text(self.prompt, "The prompt")
        if not self.prompt.strip():
            raise InputError("The prompt is empty. Write what the image should show.")
        check_text(self.negative_prompt, "The negative prompt")
        _check_whole(self.seed, "The seed", 0, MOST_SEED)
        _check_whole(self.images, "The number of images", 1, MOST_IMAGES)
        if self.steps is not None:
            _check_whole(self.steps, "The number of steps", 1, MOST_STEPS)
        _check_sides(self.height, self.width)
        _check_share(self.strength, "The strength")
        if self.guidance is not None and not (
            math.isfinite(self.guidance) and 0.0 <= self.guidance <= 1000.0
        ):
            raise InputError(f"The guidance is a number from 0 to 1000; got {self.guidance}.")
        if self.negative_prompt and self.guidance is not None and self.guidance <= 1.0:
            raise InputError(
                f"A negative prompt has no effect with guidance {self.guidance:g}. Give a guidance "
                "over 1, or leave the negative prompt out."
            )
        if len(self.vocabulary) > MOST_CONCEPTS:
            raise InputError(
                f"{len(self.vocabulary)} concepts were given; at most {MOST_CONCEPTS} are recorded "
                "in a run."
            )
        for text in self.vocabulary:
            check_text(text, "A concept")
        if self.mask is not None and self.start is None:
            raise InputError("A mask was drawn without an image to begin from. Upload one.")
        if self.mask is not None and self.mask.getbbox() is None:
            raise InputError("The mask is empty. Paint the part that is to be made anew.")

    @property
    def task(self) -> Task:
        """What kind of pipeline it needs."""
        if self.start is None:
            return "text"
        return "image" if self.mask is None else "inpainting"

    def processor(self, folder: str | None = None) -> RDAAMProcessor:
        """What is recorded; queries are written into a folder where one is given."""
        # diffusers takes seconds to import, and a server of saved attributions needs none of it.
        from diffusers_rdaam.attention.options import QueryOptions
        from diffusers_rdaam.attention.processor import RDAAMProcessor

        keep = ["steps"] * self.keep_steps + ["queries"] * self.keep_queries
        queries = QueryOptions(location=folder or "cpu") if self.keep_queries else None
        return RDAAMProcessor(
            keep=keep,  # type: ignore[arg-type]  # the names of its axes
            keep_negative=bool(self.negative_prompt),
            self_attention=self.keep_self_attention,
            queries=queries,
        )


@dataclass(frozen=True)
class PictureRequest:
    """The attribution of a picture that exists.

    Args:
        picture: in RGB.
        prompt: a text that describes it.
        method: ``"forward"`` or ``"invert"``.
        seed: of the noise.

    Raises:
        InputError: one of them is wrong.
    """

    picture: Image.Image = field(repr=False)
    prompt: str
    method: str = "forward"
    seed: int = 0

    def __post_init__(self) -> None:
        check_text(self.prompt, "The text")
        if not self.prompt.strip():
            raise InputError("The text is empty. Write what the picture shows.")
        _check_whole(self.seed, "The seed", 0, MOST_SEED)
        if self.method not in ("forward", "invert"):
            raise InputError(f"{self.method!r} is not a method. Methods: forward, invert.")


@dataclass(frozen=True)
class ModelDefaults:
    """What a model does where nothing is asked for; None is what only its call knows.

    Args:
        steps, guidance: of the denoiser.
        height, width: in pixels.
    """

    steps: int | None = None
    guidance: float | None = None
    height: int | None = None
    width: int | None = None


@dataclass(frozen=True)
class Generated:
    """One image of a request.

    Args:
        image: the image.
        attribution: of it; None where there is none, and then ``why`` says why.
        request: that asked for it.
        seed: of this image.
        seconds: that it took.
        why: there is no attribution.
    """

    image: Image.Image
    attribution: Attribution | None
    request: GenerationRequest
    seed: int
    seconds: float
    why: str | None = None


class Pipelines:
    """A loaded pipeline, and those for images and masks on the same modules.

    Args:
        pipe: text to image.
    """

    def __init__(self, pipe: Any) -> None:
        pipe.set_progress_bar_config(disable=True)
        self._pipes: dict[Task, Any] = {"text": pipe}
        signature = inspect.signature(type(pipe).__call__).parameters
        # An embedded model has defaults of its own, which its pipelines for images lack.
        self._defaults = {
            name: signature[name].default
            for name in _DEFAULTED
            if name in signature and signature[name].default is not None
        }
        self._guidance = (
            "true_cfg_scale" if "true_cfg_scale" in self._defaults else "guidance_scale"
        )
        side = _default_side(pipe)
        height, width = (
            (signature[name].default if name in signature else None) or side
            for name in ("height", "width")
        )
        self.defaults = ModelDefaults(
            self._defaults.get("num_inference_steps"),
            self._defaults.get(self._guidance),
            height,
            width,
        )

    def pipe(self, task: Task = "text") -> Any:
        """The pipeline for a task.

        Raises:
            UnsupportedPipelineError: the model has none for it.
        """
        if task not in self._pipes:
            from diffusers_rdaam.pipelines.auto import (
                AutoRDAAMPipelineForImage2Image,
                AutoRDAAMPipelineForInpainting,
            )

            kinds: dict[Task, Any] = {
                "image": AutoRDAAMPipelineForImage2Image,
                "inpainting": AutoRDAAMPipelineForInpainting,
            }
            made = kinds[task].from_pipe(self._pipes["text"])
            made.set_progress_bar_config(disable=True)
            self._pipes[task] = made
        return self._pipes[task]

    def _plain_pipe(self, task: Task) -> Any:
        """The pipeline for a task, recording by default options."""
        from diffusers_rdaam.attention.processor import RDAAMProcessor

        pipe = self.pipe(task)
        pipe.set_attn_processor(RDAAMProcessor())
        return pipe

    def size(self, request: GenerationRequest) -> tuple[int | None, int | None]:
        """Height and width of a request's images; None where only the model knows."""
        return request.height or self.defaults.height, request.width or self.defaults.width

    def arguments(self, request: GenerationRequest) -> dict[str, Any]:
        """All arguments of the pipeline's call but its generator, by the names that it has."""
        pipe = self.pipe(request.task)
        names = inspect.signature(type(pipe).__call__).parameters
        found: dict[str, Any] = dict(self._defaults)
        if request.steps is not None:
            found["num_inference_steps"] = request.steps
        if request.guidance is not None:
            found[self._guidance] = request.guidance
        if request.negative_prompt:
            found["negative_prompt"] = request.negative_prompt
        height, width = self.size(request)
        _check_pixels(height, width)
        if request.start is not None:
            start, mask = _fitted(request.start, request.mask, height, width)
            found |= {"image": start, "strength": request.strength}
            height, width = start.height, start.width
            if mask is not None:
                found["mask_image"] = mask
        if height is not None and width is not None:
            found |= {"height": height, "width": width}
        found = {name: value for name, value in found.items() if name in names}
        return {"prompt": request.prompt, **found}

    def generate(
        self,
        request: GenerationRequest,
        run: Run,
        *,
        folder: str | None = None,
    ) -> list[Generated]:
        """The images of a request, one after another: each is what its seed makes alone."""
        pipe = self.pipe(request.task)
        pipe.set_attn_processor(request.processor(folder))
        arguments = self.arguments(request)
        if request.vocabulary:
            arguments["attribution_vocabulary"] = list(request.vocabulary)
        made = []
        for number in range(request.images):
            run.check()
            run.progress = Progress(image=number + 1, images=request.images)
            seed = (request.seed + number) % (MOST_SEED + 1)
            began = time.perf_counter()
            output = pipe(
                **arguments,
                **_callback(pipe, run, _every(arguments)),
                generator=_generator(seed),
            )
            seconds = time.perf_counter() - began
            attributions = output.attributions
            why = None if attributions else getattr(output, "why_no_attribution", None)
            found = attributions[0] if attributions else None
            made.append(Generated(output.images[0], found, request, seed, seconds, why))
        pipe.release_recording()
        return made

    def attribute_picture(self, request: PictureRequest, run: Run) -> Attribution:
        """The attribution of a picture that exists."""
        pipe = self._plain_pipe("text")
        options: dict[str, Any] = {"method": request.method}
        if "max_sequence_length" in self._defaults:
            options["max_sequence_length"] = self._defaults["max_sequence_length"]
        found = pipe.attribute_image(
            request.picture,
            request.prompt,
            generator=_generator(request.seed),
            **options,
            **_callback(pipe, run, 0),
        )
        assert isinstance(found, Attribution)
        return found

    def explain(
        self,
        kind: Explanation,
        generated: GenerationRequest,
        seed: int,
        region: RegionLike | None,
        run: Run,
    ) -> GradientWords | AblationWords:
        """Gradients, or what changes without each word, of a region of an image made before."""
        from diffusers_rdaam.explain.ablations.ablation import explain_ablation
        from diffusers_rdaam.explain.gradients.gradient import explain_gradient

        pipe = self._plain_pipe(generated.task)
        arguments = self.arguments(generated)
        prompt = arguments.pop("prompt")
        explain: Any = explain_gradient if kind == "gradient" else explain_ablation
        return explain(
            pipe,
            prompt,
            region=region,
            generator=_generator(seed),
            **arguments,
            **_callback(pipe, run, 0),
        )

    def ask(self, attribution: Attribution, text: str, run: Run) -> Attribution:
        """The attribution of another text over an image whose queries were kept."""
        run.check()
        check_text(text, "The text")
        if not text.strip():
            raise InputError("The text is empty. Write a word or phrase to look for.")
        return self.pipe().query(attribution, text)


def check_text(text: Any, name: str) -> None:
    """Refuse what is not a text, is too long, or cannot be encoded.

    Raises:
        InputError: as it says.
    """
    if not isinstance(text, str):
        raise InputError(f"{name} is a text; got a {type(text).__name__}.")
    if len(text) > MOST_TEXT:
        raise InputError(f"{name} has {len(text)} characters; at most {MOST_TEXT} are read here.")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InputError(f"{name} is not valid Unicode. Type it again.")
    control = next((one for one in text if unicodedata.category(one) == "Cc"), None)
    if control is not None and control not in "\n\r\t":
        raise InputError(f"{name} has the control character {control!r}. Take it out.")


def _check_whole(value: Any, name: str, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(f"{name} is a whole number from {least} to {most}; got {value!r:.60}.")


def _check_share(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 < value <= 1.0:
        raise InputError(f"{name} is a number over 0, up to 1; got {value!r:.60}.")


def _check_sides(height: Any, width: Any) -> None:
    for name, side in (("height", height), ("width", width)):
        if side is not None:
            _check_whole(side, f"The {name}", SIDE_STEP, MOST_SIDE)
            if side % SIDE_STEP:
                lower = side // SIDE_STEP * SIDE_STEP
                raise InputError(
                    f"The {name} is a multiple of {SIDE_STEP} pixels; got {side}. The next ones "
                    f"are {lower} and {lower + SIDE_STEP}."
                )
    _check_pixels(height, width)


def _check_pixels(height: int | None, width: int | None) -> None:
    if height is not None and width is not None and height * width > MOST_PIXELS:
        raise InputError(
            f"An image of {width} by {height} pixels is too large: at most {MOST_PIXELS} pixels "
            "are made here."
        )


def _default_side(pipe: Any) -> int | None:
    """Height and width of the pipeline's usual image, where they are known."""
    pixels = usual_pixels(pipe)
    return None if pixels is None else int(math.sqrt(pixels)) // SIDE_STEP * SIDE_STEP


def _fitted(
    start: Image.Image, mask: Image.Image | None, height: int | None, width: int | None
) -> tuple[Image.Image, Image.Image | None]:
    """Image and mask in the size of the run: the asked one, or their own in whole steps."""
    if height is None or width is None:
        height, width = (
            max(side // SIDE_STEP, 1) * SIDE_STEP for side in (start.height, start.width)
        )
    image = start.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    if mask is None:
        return image, None
    return image, mask.convert("L").resize((width, height), Image.Resampling.NEAREST)


def _generator(seed: int) -> torch.Generator:
    # Of the CPU on every device, as the command line: a seed is the same image everywhere.
    return torch.Generator("cpu").manual_seed(seed)


def _every(arguments: dict[str, Any]) -> int:
    return max(1, int(arguments.get("num_inference_steps", 50)) // _PREVIEWS)


def _callback(pipe: Any, run: Run, every: int) -> dict[str, Callable[..., Any]]:
    """The argument that watches a call, where the pipeline has one; without previews for 0."""
    if "callback_on_step_end" not in inspect.signature(type(pipe).__call__).parameters:
        return {}
    if not every:
        return {"callback_on_step_end": run.at_step}

    from diffusers_rdaam.pipelines.callbacks import LivePreview

    def show(attributions: list[Attribution], step: int) -> None:
        old = run.progress
        run.progress = Progress(step + 1, old.steps, old.image, old.images, attributions[0])

    return {"callback_on_step_end": LivePreview(show, every=every, images=True, then=run.at_step)}


def attribution_of(generated: Generated) -> Attribution:
    """The attribution of an image.

    Raises:
        NoAttributionError: it has none.
    """
    if generated.attribution is None:
        raise NoAttributionError(generated.why or "The image was made, but not its attribution.")
    return generated.attribution
