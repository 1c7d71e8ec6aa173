"""Where the words of the shown image are, how they depend on each other, and other texts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import gradio as gr

from diffusers_rdaam.app import events, form, fragments
from diffusers_rdaam.app.panels.context import PageContext, Updates
from diffusers_rdaam.app.panels.run_status import RunStatus, Task
from diffusers_rdaam.app.panels.shown_image import HistoryImage
from diffusers_rdaam.app.panels.viewer import ViewerPanel
from diffusers_rdaam.app.runs import Run
from diffusers_rdaam.errors import InputError, RDAAMError


class WordsPanel:
    """The map of every word, the dependency tree, and a field for another text.

    Args:
        context: the server behind the page.
        runs: the status line.
    """

    def __init__(self, context: PageContext, runs: RunStatus) -> None:
        self._context = context
        self._runs = runs
        with gr.Row():
            self.maps_button = gr.Button("Draw every word's map")
            self.tree_button = gr.Button("Dependency tree")
        self.maps = gr.HTML("")
        self.tree = gr.HTML("")
        with gr.Row(visible=bool(context.denoisers)):
            self.asked = gr.Textbox(label="Another text to look for in the shown image", scale=3)
            self.ask_button = gr.Button("Look", scale=1)
        self.answer = gr.HTML("")

    def bind(self, viewer: ViewerPanel) -> None:
        """Draw the maps and the tree."""
        self.maps_button.click(self.draw_maps, viewer.current, self.maps, api_name="maps")
        self.tree_button.click(self.draw_tree, viewer.current, self.tree, api_name="tree")

    def bind_runs(self, viewer: ViewerPanel) -> None:
        """Look for the other text with the model."""
        self.ask_button.click(
            self.ask,
            [viewer.current, self.asked],
            [self._runs.status, self._runs.live, self.answer],
            api_name="ask",
            show_progress="hidden",
        )

    def show_image(self, image: HistoryImage) -> Updates:
        """Nothing: maps, tree and answer are those of the image before."""
        return {self.maps: "", self.tree: "", self.answer: ""}

    async def draw_maps(self, current: Any, request: gr.Request) -> str:
        """Every word's map, and those of the concepts."""
        session = self._context.session(request)

        def answer() -> str:
            found = session.attribution(form.image_number(current))
            shown = fragments.maps(events.heat_maps(found), "The prompt has no word.")
            if found.vocabulary:
                shown += "<p>Concepts:</p>" + fragments.maps(events.concept_maps(found), "")
            return shown

        return await _answered(answer)

    async def draw_tree(self, current: Any, request: gr.Request) -> str:
        """The dependency tree of the prompt, where spaCy is installed."""
        session = self._context.session(request)

        def answer() -> str:
            return events.dependency_tree(
                session.attribution(form.image_number(current)).prompt.text or ""
            )

        return await _answered(answer)

    async def ask(self, current: Any, text: str, request: gr.Request) -> AsyncIterator[Updates]:
        """Look for another text in an image whose queries were kept."""
        session = self._context.session(request)

        def work() -> Task:
            number = form.image_number(current)
            entry, found = session.entry(number), session.attribution(number)
            if found.queries is None:
                raise InputError(
                    "The queries of this image were not kept. Generate it again, with queries "
                    "under Also record, or name the text there as a concept."
                )
            denoiser = self._context.denoiser(entry.model)
            return denoiser, lambda pipes, run: pipes.ask(found, text, run)

        def finish(run: Run) -> Updates:
            shown = fragments.maps(events.heat_maps(run.result), "The text has no word.")
            return self._runs.show_answer("Done.", run.warnings, {self.answer: shown})

        async for update in self._runs.follow(session, work, finish):
            yield update


async def _answered(answer: Callable[[], str]) -> str:
    try:
        return await asyncio.to_thread(answer)
    except RDAAMError as error:
        return fragments.status(str(error), kind="error")
