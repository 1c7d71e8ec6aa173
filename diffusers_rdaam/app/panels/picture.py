"""The attribution of a picture that a visitor has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from diffusers_rdaam.app import events, form
from diffusers_rdaam.app.panels.context import PageContext, Updates
from diffusers_rdaam.app.panels.generation import GenerationPanel
from diffusers_rdaam.app.panels.run_status import RunStatus, Task
from diffusers_rdaam.app.panels.shown_image import ShownImage
from diffusers_rdaam.app.requests import PictureRequest
from diffusers_rdaam.app.runs import Run
from diffusers_rdaam.errors import InputError


class PicturePanel:
    """The form of a picture: the file, what it shows, and the method.

    Args:
        context: the server behind the page, with its models.
    """

    def __init__(self, context: PageContext) -> None:
        self._context = context
        self.picture = gr.File(label="Picture", file_types=["image"], type="filepath", height=120)
        self.prompt = gr.Textbox(label="What it shows", lines=2)
        self.method = gr.Radio(
            ["forward", "invert"], value="forward", label="Method: noise it, or invert it"
        )
        with gr.Row():
            self.attribute_button = gr.Button("Attribute", variant="primary")
            self.cancel_button = gr.Button("Cancel", variant="stop")

    def bind(self, shown: ShownImage, runs: RunStatus, generation: GenerationPanel) -> Any:
        """Attribute the picture with the model and seed of a generation; the event."""
        self._shown, self._runs = shown, runs
        return self.attribute_button.click(
            self.attribute_picture,
            [generation.model, self.picture, self.prompt, self.method, generation.seed],
            shown.parts,
            api_name="attribute_image",
            show_progress="hidden",
        )

    async def attribute_picture(
        self,
        model: str,
        picture: str | None,
        prompt: str,
        method: str,
        seed: Any,
        request: gr.Request,
    ) -> AsyncIterator[Updates]:
        """The attribution of a picture that a visitor has uploaded."""
        session = self._context.session(request)

        def work() -> Task:
            if picture is None:
                raise InputError("There is no picture. Upload one.")
            asked = PictureRequest(
                events.read_upload(picture), prompt, method, form.whole(seed, "The seed") or 0
            )
            denoiser = self._context.denoiser(model)
            return denoiser, lambda pipes, run: pipes.attribute_picture(asked, run)

        def finish(run: Run) -> Updates:
            found = run.result
            entry = session.add(found, found.image, title=prompt, kind="picture", model=model)
            done = f"Done in {run.seconds:.1f} s."
            return self._shown.show(session, entry.number, done, run.warnings)

        async for update in self._runs.follow(session, work, finish):
            yield update
