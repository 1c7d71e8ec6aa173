"""Two images side by side: two of the history, or one and the same with another word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import gradio as gr

from diffusers_rdaam.app import events, form, fragments
from diffusers_rdaam.app.panels.context import PageContext, Updates
from diffusers_rdaam.app.panels.history import add_generated
from diffusers_rdaam.app.panels.run_status import RunStatus, Task
from diffusers_rdaam.app.panels.shown_image import HistoryImage, ShownImage
from diffusers_rdaam.app.panels.viewer import ViewerPanel
from diffusers_rdaam.app.runs import Run
from diffusers_rdaam.errors import RDAAMError


class ComparisonPanel:
    """Two numbers of the history to compare, and a word to replace.

    Args:
        context: the server behind the page.
        runs: the status line.
    """

    def __init__(self, context: PageContext, runs: RunStatus) -> None:
        self._context = context
        self._runs = runs
        with gr.Row():
            # Without a minimum, whose error would not name the field.
            self.first = gr.Number(label="Image A of the history", precision=0)
            self.second = gr.Number(label="Image B", precision=0)
        self.compare_button = gr.Button("Compare side by side")
        with gr.Row(visible=bool(context.denoisers)):
            # Any text, because the choices of another page may come from a caller.
            self.replaced = gr.Dropdown(
                [], label="Word of the shown image", allow_custom_value=True, value=None
            )
            self.replacement = gr.Textbox(label="Another in its place", max_lines=1)
        with gr.Row(visible=bool(context.denoisers)):
            self.replace_button = gr.Button("Replace the word, same seed")
            self.cancel_button = gr.Button("Cancel", variant="stop")
        self.comparison = gr.HTML("")

    def bind(self, viewer: ViewerPanel) -> None:
        """Compare two images of the history in the viewer."""
        self._viewer = viewer
        self.compare_button.click(
            self.compare,
            [self.first, self.second, viewer.selection],
            [viewer.frame, self.comparison, self._runs.status],
            api_name="compare",
        )

    def bind_runs(self, viewer: ViewerPanel, shown: ShownImage) -> None:
        """Generate the shown image again with another word."""
        self._shown = shown
        self.replace_button.click(
            self.replace_word,
            [viewer.current, self.replaced, self.replacement],
            [*shown.parts, self.first, self.second, self.comparison],
            api_name="replace_word",
            show_progress="hidden",
        )

    def show_image(self, image: HistoryImage) -> Updates:
        """The image's words, one of which may be replaced."""
        found = image.attribution
        labels = [] if found is None else list(events.word_labels(found.prompt))
        return {self.replaced: gr.Dropdown(labels, value=None)}

    async def replace_word(
        self, current: Any, word: Any, text: Any, request: gr.Request
    ) -> AsyncIterator[Updates]:
        """Generate an image again with another word and the same seed, and show both."""
        session = self._context.session(request)
        before: list[Any] = []

        def work() -> Task:
            number = form.image_number(current)
            entry, asked = session.entry(number), session.replay(number)
            found = session.attribution(number)
            changed = events.replaced_word(found.prompt, word, text)
            again = replace(asked, prompt=changed.prompt, seed=entry.seed or 0, images=1)
            before[:] = [entry, found, changed]
            denoiser = self._context.denoiser(entry.model)
            return denoiser, lambda pipes, run: pipes.generate(again, run)

        def finish(run: Run) -> Updates:
            entry, found, changed = before
            made = add_generated(session, run, entry.model)
            done = f"Done: {changed.title} in {run.seconds:.1f} s."
            shown = self._shown.show(session, made.number, done, run.warnings)
            if not made.has_attribution:
                return shown | {self.comparison: ""}
            other = session.attribution(made.number)
            table = fragments.comparison(*events.comparison_chart(found, other))
            images = [("A", found.image), ("B", other.image)]
            maps = events.replaced_maps(found, other, changed)
            return shown | {
                **self._viewer.show_pair(found, other, changed.title),
                self.first: entry.number,
                self.second: made.number,
                self.comparison: fragments.replacement(images, maps) + table,
            }

        async for update in self._runs.follow(session, work, finish):
            yield update

    async def compare(
        self, first: Any, second: Any, selection: str, request: gr.Request
    ) -> Updates:
        """Two images of the history in one viewer, and their words in a table."""
        session = self._context.session(request)

        def answer() -> Updates:
            numbers = [form.image_number(first), form.image_number(second)]
            a, b = (session.attribution(number) for number in numbers)
            title = " and ".join(session.entry(number).title for number in numbers)
            try:
                region = events.selected_region(events.read_selection(selection), a.image_size)
                table = events.comparison_chart(a, b, region)
            except RDAAMError:
                # The region may be of an image of another size.
                table = events.comparison_chart(a, b)
            return {
                **self._viewer.show_pair(a, b, title),
                self.comparison: fragments.comparison(*table),
                self._runs.status: fragments.status("Images A and B, side by side."),
            }

        try:
            return await asyncio.to_thread(answer)
        except RDAAMError as error:
            return self._runs.show_error(str(error))
