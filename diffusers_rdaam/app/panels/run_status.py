"""The line that says what goes on, the image while it grows, and how a run is followed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from diffusers_rdaam.app import form, fragments
from diffusers_rdaam.app.panels.context import NO_MODEL, PageContext, Updates
from diffusers_rdaam.app.requests import Pipelines
from diffusers_rdaam.app.runs import CancelledRun, Denoiser, Progress, Run
from diffusers_rdaam.app.session import Session

# Seconds between two looks at a run.
_PATIENCE = 0.15

# What a run's model is to do, and the model. Made from the form, before the run is queued.
Task = tuple[Denoiser, Callable[[Pipelines, Run], Any]]


class RunStatus:
    """The status line, and below it what a run has made so far.

    Args:
        context: the server behind the page.
    """

    def __init__(self, context: PageContext) -> None:
        self._context = context
        first = "Ready." if context.denoisers else NO_MODEL
        self.status = gr.HTML(fragments.status(first), elem_id="rdaam-status")
        self.live = gr.HTML("", elem_id="rdaam-live")

    def bind_cancel(self, buttons: Iterable[gr.Button]) -> None:
        """Make every one of the buttons end the visitor's run."""
        for button in buttons:
            button.click(self.cancel, None, self.status, api_name="cancel", show_progress="hidden")

    def show_image(self, alone: Path | None, text: str, remarks: Sequence[str] = ()) -> Updates:
        """The line of an image that is now shown.

        Args:
            alone: the folder of an image that came without an attribution; the viewer cannot show
                it, so it stands here.
            text: of the line.
            remarks: warnings of its run.
        """
        return {
            self.status: fragments.status(text, remarks=remarks),
            self.live: "" if alone is None else _image_alone(alone),
        }

    def show_error(self, text: str) -> Updates:
        """The line of an event that could not do what was asked."""
        return {self.status: fragments.status(text, kind="error")}

    def show_answer(self, text: str, remarks: Sequence[str], answer: Updates) -> Updates:
        """The line of a run that is done and has answered a question about the shown image."""
        return {self.status: fragments.status(text, remarks=remarks), self.live: "", **answer}

    async def follow(
        self, session: Session, work: Callable[[], Task], finish: Callable[[Run], Updates]
    ) -> AsyncIterator[Updates]:
        """Queue a run and follow it to its end.

        Args:
            session: whose run it is.
            work: reads the form; the denoiser, and what it is to do.
            finish: what the page shows of a run that is done.
        """
        run: Run | None = None
        try:
            with session.preparing() as take:
                denoiser, task = await asyncio.to_thread(work)
                run = denoiser.submit(task)
                take(run)
            seen: Any = None
            while not run.has_ended:
                now = (run.state, run.progress, denoiser.place(run))
                if now != seen:
                    seen = now
                    yield await self._going_on(run, denoiser)
                await asyncio.sleep(_PATIENCE)
            run.outcome()
            yield await asyncio.to_thread(finish, run)
        except CancelledRun:
            text = "Cancelled. The model is free; what you typed is as it was."
            yield {self.status: fragments.status(text), self.live: ""}
        except Exception as error:
            remarks = [] if run is None else run.warnings
            shown = fragments.status(form.error_text(error), kind="error", remarks=remarks)
            yield {self.status: shown, self.live: ""}
        finally:
            # Also where the visitor has gone: nobody waits for it any more.
            if run is not None:
                run.cancel()
                # A session holds no images of a run that has ended.
                run.result, run.progress = None, Progress()
        # The end of an event repeats its last update, and would wipe off what the visitor has drawn
        # in the meantime. It repeats this one.
        yield {self.status: gr.skip()}

    async def _going_on(self, run: Run, denoiser: Denoiser) -> Updates:
        before = denoiser.place(run)
        if run.state == "waiting":
            text = f"Waiting: {before} run{'s' * (before != 1)} before this one."
            return {self.status: fragments.status(text, kind="busy")}
        text = "Running." if run.progress != Progress() else f"Starting {denoiser.name}."
        live = await asyncio.to_thread(fragments.live, run.progress)
        return {self.status: fragments.status(text, kind="busy"), self.live: live}

    def cancel(self, request: gr.Request) -> str:
        """End this session's run before its next step."""
        session = self._context.session(request)
        if not session.cancel():
            return fragments.status("No run of yours is waiting or running.")
        return fragments.status("Cancelling before the next step.", kind="busy")


def _image_alone(folder: Path) -> str:
    with Image.open(folder / "image.png") as image:
        return fragments.gallery([("the image, without an attribution", image)], side=512)
