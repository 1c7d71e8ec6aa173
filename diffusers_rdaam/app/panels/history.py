"""The images that a visitor has made and opened, to show one of them again."""

from __future__ import annotations

from typing import Any

import gradio as gr

from diffusers_rdaam.app import form, fragments
from diffusers_rdaam.app.panels.context import PageContext, Updates
from diffusers_rdaam.app.panels.run_status import RunStatus
from diffusers_rdaam.app.panels.shown_image import HistoryImage, ShownImage
from diffusers_rdaam.app.panels.viewer import ViewerPanel
from diffusers_rdaam.app.runs import Run
from diffusers_rdaam.app.session import Entry, Session
from diffusers_rdaam.errors import RDAAMError


class HistoryPanel:
    """The history's pictures.

    Args:
        context: the server behind the page.
        runs: says what could not be shown.
    """

    def __init__(self, context: PageContext, runs: RunStatus) -> None:
        self._context = context
        self._runs = runs
        self.gallery: Any = gr.HTML(
            fragments.history([], None),
            js_on_load=fragments.asset("history.js"),
            elem_id="rdaam-history",
        )

    def bind(self, shown: ShownImage, viewer: ViewerPanel) -> None:
        """Show the image that is chosen here, or whose number an interface sets."""
        self._shown = shown
        self.gallery.choose(self._choose, None, shown.parts, api_name=False)
        viewer.current.input(self.open_entry, viewer.current, shown.parts, api_name="open_entry")

    def show_image(self, image: HistoryImage) -> Updates:
        """The history with the image marked."""
        return {self.gallery: fragments.history(image.session.entries, image.entry.number)}

    async def _choose(self, event: gr.EventData, request: gr.Request) -> Updates:
        return await self.open_entry(event._data.get("number"), request)

    async def open_entry(self, current: Any, request: gr.Request) -> Updates:
        """Show an image of the history."""
        session = self._context.session(request)
        try:
            number = form.image_number(current)
            return await self._shown.show_from_thread(session, number, "An image of the history.")
        except RDAAMError as error:
            return self._runs.show_error(str(error))


def add_generated(session: Session, run: Run, model: str | None) -> Entry:
    """The images of a run into the history; the last one's entry."""
    for made in run.result:
        entry = session.add(
            made.attribution,
            made.image,
            title=made.request.prompt,
            kind="made",
            model=model,
            request=made.request,
            seed=made.seed,
            seconds=made.seconds,
        )
    return entry
