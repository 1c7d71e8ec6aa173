"""Generate images: the prompt, the numbers, an image to begin from, what else to record."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import gradio as gr

from diffusers_rdaam.app import events, form, fragments
from diffusers_rdaam.app.panels.context import PageContext, Updates
from diffusers_rdaam.app.panels.history import add_generated
from diffusers_rdaam.app.panels.paint import painter
from diffusers_rdaam.app.panels.run_status import RunStatus, Task
from diffusers_rdaam.app.panels.shown_image import ShownImage
from diffusers_rdaam.app.requests import GenerationRequest, ModelDefaults
from diffusers_rdaam.app.runs import Run
from diffusers_rdaam.errors import RDAAMError

_EXAMPLE = "a red circle and a blue square"
# Shown in an empty field.
_OWN = "default"


class GenerationPanel:
    """The form of a generation.

    Args:
        context: the server behind the page, with its models.
    """

    def __init__(self, context: PageContext) -> None:
        self._context = context
        names = list(context.denoisers)
        self.model = gr.Dropdown(names, value=names[0], label="Model", visible=len(names) > 1)
        self.prompt = gr.Textbox(label="Prompt", value=_EXAMPLE, lines=2, elem_id="rdaam-prompt")
        self.negative = gr.Textbox(label="Negative prompt", lines=1)
        with gr.Row():
            self.seed = _number_field("Seed", 3)
            self.images = _number_field("Images", 1)
        with gr.Row():
            self.steps = _optional_field("Steps")
            self.guidance = _optional_field("Guidance")
        with gr.Row():
            self.width = _optional_field("Width")
            self.height = _optional_field("Height")
        with gr.Accordion("Begin from an image", open=False):
            self.start = gr.File(label="Image", file_types=["image"], type="filepath", height=120)
            self.mask = painter("Paint what is to be made anew, or nothing for all of it")
            self.strength = gr.Slider(0.05, 1.0, value=0.6, step=0.05, label="Strength")
        with gr.Accordion("Also record", open=False):
            self.concepts = gr.Textbox(
                label="Concepts: other texts to look for, with commas between them"
            )
            self.keep = gr.CheckboxGroup(
                ["every step", "self-attention", "queries, to ask for other texts later"],
                label="Keep",
                type="index",
            )
        with gr.Row():
            self.generate_button = gr.Button("Generate", variant="primary")
            self.cancel_button = gr.Button("Cancel", variant="stop")

    def bind(self, shown: ShownImage, runs: RunStatus) -> Any:
        """Generate what the form asks for; the event, for what is to happen after it."""
        self._shown, self._runs = shown, runs
        fields = [
            *(self.model, self.prompt, self.negative, self.seed, self.steps, self.guidance),
            *(self.width, self.height, self.images, self.start, self.mask, self.strength),
            *(self.concepts, self.keep),
        ]
        return gr.on(
            [self.generate_button.click, self.prompt.submit],
            self.generate,
            fields,
            shown.parts,
            api_name="generate",
            show_progress="hidden",
        )

    def bind_defaults(self, moments: Iterable[Callable[..., Any]]) -> None:
        """Show the model's own numbers at each of the moments."""
        optional = [self.steps, self.guidance, self.width, self.height]
        for moment in moments:
            moment(self.show_defaults, self.model, optional, api_name=False, show_progress="hidden")

    def bind_start(self) -> None:
        """Show the image to begin from where its mask is painted."""
        changed = [self.mask, self._runs.status]
        self.start.change(self.show_start, self.start, changed, api_name=False)

    async def generate(
        self,
        model: str,
        prompt: str,
        negative: str,
        seed: Any,
        steps: Any,
        guidance: Any,
        width: Any,
        height: Any,
        images: Any,
        start: str | None,
        strokes: str,
        strength: float,
        concepts: str,
        keep: list[int],
        request: gr.Request,
    ) -> AsyncIterator[Updates]:
        """Generate images, show them while they grow, and put them into the history."""
        session = self._context.session(request)

        def work() -> Task:
            picture = None if start is None else events.read_upload(start)
            asked = GenerationRequest(
                prompt=prompt,
                negative_prompt=negative or "",
                seed=form.whole(seed, "The seed") or 0,
                steps=form.typed_whole(steps, "The number of steps"),
                guidance=form.typed_number(guidance, "The guidance"),
                width=form.typed_whole(width, "The width"),
                height=form.typed_whole(height, "The height"),
                images=form.whole(images, "The number of images") or 1,
                start=picture,
                mask=form.painted_mask(strokes, picture),
                strength=strength,
                vocabulary=events.split_concepts(concepts or ""),
                keep_steps=0 in (keep or ()),
                keep_self_attention=1 in (keep or ()),
                keep_queries=2 in (keep or ()),
            )
            denoiser = self._context.denoiser(model)
            return denoiser, lambda pipes, run: pipes.generate(asked, run)

        def finish(run: Run) -> Updates:
            entry = add_generated(session, run, model)
            count = len(run.result)
            done = f"Done: {count} image{'s' * (count > 1)} in {run.seconds:.1f} s."
            return self._shown.show(session, entry.number, done, run.warnings)

        async for update in self._runs.follow(session, work, finish):
            yield update

    def show_defaults(self, model: str) -> list[Any]:
        """The model's own numbers in the empty fields, once the model is loaded."""
        loaded = self._context.denoiser(model).loaded
        own = getattr(loaded, "defaults", ModelDefaults())
        return [
            gr.Textbox(placeholder=_OWN if number is None else f"{number:g} ({_OWN})")
            for number in (own.steps, own.guidance, own.width, own.height)
        ]

    def show_start(self, path: str | None) -> tuple[Any, str]:
        """The uploaded image in the painter of the mask."""
        try:
            image = None if path is None else events.read_upload(path)
        except RDAAMError as error:
            shown = fragments.status(form.error_text(error), kind="error")
            return gr.HTML(**fragments.canvas(None)), shown
        text = "Ready." if image is None else "The image is read. Paint a mask, or generate."
        return gr.HTML(**fragments.canvas(image)), fragments.status(text)


def _number_field(label: str, value: int = 0) -> gr.Number:
    # The browser sends 0 for an empty field. Without a precision, which would round in silence, and
    # without a minimum, whose error would not name the field.
    return gr.Number(label=label, value=value, step=1, min_width=80)


def _optional_field(label: str) -> gr.Textbox:
    # A field for numbers cannot be empty in the browser: it begins with 0.
    return gr.Textbox(label=label, placeholder=_OWN, max_lines=1, min_width=80)
