"""Callbacks for ``callback_on_step_end``: watch the maps grow, keep the images on the way.

Both go together with a callback of your own, by ``then=`` or in diffusers'
``MultiPipelineCallbacks``, and leave the image as it is.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffusers.callbacks import PipelineCallback
from PIL import Image

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.errors import InputError, NotRecordedWarning, RDAAMError
from diffusers_rdaam.families.call_keywords import known_keywords
from diffusers_rdaam.files.writing import write_text
from diffusers_rdaam.pipelines.decode import decode_latents
from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin
from diffusers_rdaam.pipelines.paused_callbacks import begin_run

Show = Callable[[list[Attribution], int], object]
_Then = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]


class _AtSteps(PipelineCallback):
    """Does something after some steps, then calls another callback."""

    def __init__(
        self,
        every: int,
        steps: Iterable[int] | None,
        then: _Then | None,
        tensor_inputs: Sequence[str],
    ) -> None:
        super().__init__()
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise InputError(f"every= is a number of steps of at least 1; got {every!r}.")
        self._every = every
        self._steps = None if steps is None else frozenset(steps)
        self._then = then
        wanted = [*tensor_inputs, *getattr(then, "tensor_inputs", ())]
        self._failed = False
        # The run that goes on: its pipeline, which a callback does not keep, and its last step.
        self._pipeline: weakref.ref[Any] | None = None
        self._last_step = -1
        self._inputs = list(dict.fromkeys(["latents", *wanted]))

    @property
    def tensor_inputs(self) -> list[str]:
        """What diffusers hands to this callback and the one after it."""
        return self._inputs

    def callback_fn(
        self, pipeline: Any, step_index: int, timesteps: Any, callback_kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """Called by the pipeline at the end of each step."""
        other = self._pipeline is None or self._pipeline() is not pipeline
        if other or step_index <= self._last_step:
            self.begin_run(pipeline)
        self._last_step = step_index
        last = step_index == getattr(pipeline, "num_timesteps", 0) - 1
        chosen = step_index % self._every == 0 or last
        if step_index in self._steps if self._steps is not None else chosen:
            try:
                self._look(pipeline, step_index, timesteps, callback_kwargs["latents"])
            except RDAAMError as error:
                if not self._failed:
                    warnings.warn(
                        f"{type(self).__name__} has nothing of step {step_index}: {error}",
                        NotRecordedWarning,
                        stacklevel=2,
                    )
                self._failed = True
        if self._then is None:
            return callback_kwargs
        return self._then(pipeline, step_index, timesteps, callback_kwargs)

    def begin_run(self, pipeline: Any) -> None:
        """Forget the run before, also one that was interrupted.

        A run that is recorded calls this before its first step; others are noticed at a step that
        is not after the last one, or is another pipeline's.
        """
        self._failed = False
        self._pipeline, self._last_step = weakref.ref(pipeline), -1
        begin_run(self._then, pipeline)

    def _look(self, pipe: Any, step: int, timestep: Any, latents: Any) -> None:
        raise NotImplementedError


class LivePreview(_AtSteps):
    """Shows the attribution of a run while it goes on.

    ``pipe(prompt, callback_on_step_end=LivePreview(show, every=5))`` calls ``show(attributions,
    step)`` with one attribution an image, each of all denoiser calls so far.

    Args:
        show: a function of yours; what it returns is not used.
        every: number of steps from one to the next; the first and the last are always shown.
        steps: the steps to show instead, counted from 0.
        images: whether to decode the latents, so that the attributions have images; that takes a
            pass of the decoder each time.
        then: another callback, called after it at every step, with the same arguments.
        tensor_inputs: names that ``then`` needs, where it does not name them itself.

    Raises:
        InputError: ``every`` is not a whole number of steps from 1.
    """

    @known_keywords
    def __init__(
        self,
        show: Show,
        *,
        every: int = 5,
        steps: Iterable[int] | None = None,
        images: bool = False,
        then: _Then | None = None,
        tensor_inputs: Sequence[str] = (),
    ) -> None:
        super().__init__(every, steps, then, tensor_inputs)
        self._show = show
        self._images = images

    def _look(self, pipe: Any, step: int, timestep: Any, latents: Any) -> None:
        if not isinstance(pipe, RDAAMPipelineMixin):
            raise InputError(
                f"this {type(pipe).__name__} does not record. Call it within "
                "record_attention(pipe), or use the class of this package."
            )
        attributions = pipe.attributions_so_far
        if self._images:
            pictures = decode_latents(pipe, latents)
            attributions = [
                attribution.with_image(picture)
                for attribution, picture in zip(attributions, pictures, strict=True)
            ]
        self._show(attributions, step)


@dataclass(frozen=True)
class StepImages:
    """The images after one step.

    Args:
        step: from 0.
        timestep: of the scheduler.
        images: one for each image of the call.
    """

    step: int
    timestep: float
    images: tuple[Image.Image, ...] = field(repr=False)


class IntermediateImages(_AtSteps):
    """Keeps what the images look like on the way: the latents, decoded after chosen steps.

    ``keep = IntermediateImages(every=5)``, ``pipe(prompt, callback_on_step_end=keep)``, then
    ``keep[0].images``, ``keep.html("steps.html")``, ``keep.gif("steps.gif")``. Each chosen step
    costs a pass of the decoder and keeps ``3 * height * width`` bytes an image. A new call starts
    afresh.

    Args:
        every: number of steps from one to the next; the first and the last are always kept.
        steps: the steps to keep instead, counted from 0.
        then: another callback, called after it at every step, with the same arguments.
        tensor_inputs: names that ``then`` needs, where it does not name them itself.

    Raises:
        InputError: ``every`` is not a whole number of steps from 1.
    """

    @known_keywords
    def __init__(
        self,
        *,
        every: int = 5,
        steps: Iterable[int] | None = None,
        then: _Then | None = None,
        tensor_inputs: Sequence[str] = (),
    ) -> None:
        super().__init__(every, steps, then, tensor_inputs)
        self._kept: list[StepImages] = []
        self._total = 0

    def _look(self, pipe: Any, step: int, timestep: Any, latents: Any) -> None:
        self._total = int(getattr(pipe, "num_timesteps", step + 1))
        self._kept.append(StepImages(step, float(timestep), tuple(decode_latents(pipe, latents))))

    def begin_run(self, pipeline: Any) -> None:
        """Forget the images of the run before."""
        super().begin_run(pipeline)
        self._kept, self._total = [], 0

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> StepImages:
        return self._kept[index]

    def __iter__(self) -> Iterator[StepImages]:
        return iter(self._kept)

    def html(self, path: str | Path, *, image: int = 0, title: str = "Steps") -> Path:
        """Write a page with a slider over the steps; it needs no network. Returns its path.

        Args:
            path: of the file.
            image: which image of the call, from 0.
            title: of the page.

        Raises:
            InputError: nothing was kept, there is no such image, or the file cannot be written.
        """
        from diffusers_rdaam.drawing.slider import slider_html

        page = slider_html(*self._of(image), title)
        write_text(Path(path), page, "page")
        return Path(path)

    def gif(self, path: str | Path, *, image: int = 0, duration: float = 0.4) -> Path:
        """Write an animation over the steps; returns its path.

        Args:
            path: of the file.
            image: which image of the call, from 0.
            duration: seconds a step.

        Raises:
            InputError: nothing was kept, there is no such image, the duration is out of range, or
                the file cannot be written.
        """
        from diffusers_rdaam.drawing.timeline import save_gif

        images, labels = self._of(image)
        return save_gif(images, labels, Path(path), duration=duration)

    def _repr_html_(self) -> str:
        from diffusers_rdaam.drawing.slider import slider_frame

        if not self._kept:
            return "<p>No steps were kept yet.</p>"
        return slider_frame(*self._of(0), "Steps")

    def _of(self, image: int) -> tuple[list[Image.Image], list[str]]:
        if not self._kept:
            raise InputError(
                "No steps were kept yet. Call the pipeline with callback_on_step_end= this object."
            )
        count = len(self._kept[0].images)
        if not -count <= image < count:
            raise InputError(f"The call made {count} images; {image} is not the index of one.")
        labels = [
            f"step {kept.step + 1} of {self._total}, timestep {kept.timestep:g}"
            for kept in self._kept
        ]
        return [kept.images[image] for kept in self._kept], labels
