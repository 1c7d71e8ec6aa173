"""The words of a drawn region, and what explains it: gradients, and images without each word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import gradio as gr

from diffusers_rdaam.app import events, form, fragments
from diffusers_rdaam.app.panels.context import PageContext, Updates
from diffusers_rdaam.app.panels.paint import PaintPanel
from diffusers_rdaam.app.panels.run_status import RunStatus, Task
from diffusers_rdaam.app.panels.shown_image import HistoryImage
from diffusers_rdaam.app.panels.viewer import ViewerPanel
from diffusers_rdaam.app.runs import Run
from diffusers_rdaam.errors import RDAAMError

_HOW = "Draw a box or an outline in the image above."


class RegionPanel:
    """The chart of a region's words, and the buttons that explain the region.

    Args:
        context: the server behind the page.
        runs: the status line.
    """

    def __init__(self, context: PageContext, runs: RunStatus) -> None:
        self._context = context
        self._runs = runs
        self.chart = gr.HTML(fragments.note(_HOW))
        visible = bool(context.denoisers)
        with gr.Row(visible=visible):
            self.gradient_button = gr.Button("Gradients of the region")
            self.ablation_button = gr.Button("Change without each word")
            self.cancel_button = gr.Button("Cancel", variant="stop")
        self.costs = gr.HTML("", visible=visible)
        self.explanation = gr.HTML("")

    def bind(self, viewer: ViewerPanel, paint: PaintPanel) -> None:
        """Chart the words of a region that is drawn in the viewer, painted, or sent."""
        status = self._runs.status
        viewer.frame.selection(
            self._select, viewer.current, [viewer.selection, self.chart, status], api_name=False
        )
        viewer.selection.input(
            self.region,
            [viewer.current, viewer.selection],
            [self.chart, status],
            api_name="region",
        )
        paint.canvas.change(
            self.region,
            [viewer.current, paint.canvas],
            [paint.chart, status],
            api_name=False,
            show_progress="hidden",
        )

    def bind_runs(self, viewer: ViewerPanel) -> None:
        """Explain the region with the model."""
        explained = [self._runs.status, self._runs.live, self.explanation]
        for button, kind in (
            (self.gradient_button, "gradient"),
            (self.ablation_button, "ablation"),
        ):
            button.click(
                self._explainer(kind),
                [viewer.current, viewer.selection],
                explained,
                api_name=kind,
                show_progress="hidden",
            )

    def show_image(self, image: HistoryImage) -> Updates:
        """No region, and what it costs to explain one."""
        found = image.attribution
        words = 0 if found is None else len({word.text.casefold() for word in found.words})
        return {
            self.chart: fragments.note(_HOW),
            self.costs: fragments.note(events.costs(words, image.entry.seconds)),
            self.explanation: "",
        }

    async def _select(
        self, current: Any, event: gr.EventData, request: gr.Request
    ) -> tuple[str, str, str]:
        text = str(event._data.get("text", ""))
        shown, status = await self.region(current, text, request)
        return text, shown, status

    async def region(self, current: Any, selection: str, request: gr.Request) -> tuple[str, str]:
        """The words of a drawn or painted region, as a bar chart."""
        session = self._context.session(request)

        def answer() -> str:
            number = form.image_number(current)
            found = session.attribution(number)
            region = events.selected_region(events.read_selection(selection), found.image_size)
            if region is None:
                return fragments.note(_HOW)
            return fragments.chart(events.region_chart(found, region))

        try:
            return await asyncio.to_thread(answer), fragments.status("Ready.")
        except RDAAMError as error:
            return "", fragments.status(str(error), kind="error")

    def _explainer(self, kind: Any) -> Callable[..., AsyncIterator[Updates]]:
        async def explain(
            current: Any, selection: str, request: gr.Request
        ) -> AsyncIterator[Updates]:
            """Explain the drawn region of an image that was made here."""
            session = self._context.session(request)

            def work() -> Task:
                number = form.image_number(current)
                entry, asked = session.entry(number), session.replay(number)
                size = session.attribution(number).image_size
                region = events.selected_region(events.read_selection(selection), size)
                if region is not None:
                    session.attribution(number).region(region)
                seed = entry.seed or 0
                return self._context.denoiser(entry.model), lambda pipes, run: pipes.explain(
                    kind, asked, seed, region, run
                )

            def finish(run: Run) -> Updates:
                words = run.result
                memory = getattr(words, "memory", None)
                remarks = [*run.warnings, *([str(memory)] if memory is not None else [])]
                shown = fragments.chart(events.chart(words))
                if kind == "ablation":
                    without = [("the image", words.image)]
                    without += [(f"without {word.text}", word.image) for word in words.words]
                    shown += fragments.gallery(without, side=192)
                done = f"Done in {run.seconds:.1f} s."
                return self._runs.show_answer(done, remarks, {self.explanation: shown})

            async for update in self._runs.follow(session, work, finish):
                yield update

        return explain
