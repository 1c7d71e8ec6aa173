"""The page: its panels, where each stands, and how they are put together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from diffusers_rdaam.app.panels.comparison import ComparisonPanel
from diffusers_rdaam.app.panels.context import PageContext
from diffusers_rdaam.app.panels.files import FilesPanel
from diffusers_rdaam.app.panels.generation import GenerationPanel
from diffusers_rdaam.app.panels.history import HistoryPanel
from diffusers_rdaam.app.panels.paint import PaintPanel
from diffusers_rdaam.app.panels.picture import PicturePanel
from diffusers_rdaam.app.panels.region import RegionPanel
from diffusers_rdaam.app.panels.run_status import RunStatus
from diffusers_rdaam.app.panels.shown_image import ShownImage
from diffusers_rdaam.app.panels.viewer import ViewerPanel
from diffusers_rdaam.app.panels.words import WordsPanel
from diffusers_rdaam.app.runs import Denoiser
from diffusers_rdaam.app.session import Sessions


class Page:
    """One server's page.

    Args:
        denoisers: the models, the first one chosen at the beginning; none to show files only.
        sessions: of its visitors.
        folder: of attribution files that every visitor may open, if any.
    """

    def __init__(
        self, denoisers: Sequence[Denoiser], sessions: Sessions, folder: Path | None = None
    ) -> None:
        self._context = PageContext({one.name: one for one in denoisers}, sessions, folder)

    def build(self) -> gr.Blocks:
        """The page with its events."""
        with gr.Blocks(
            analytics_enabled=False, title="rdaam", delete_cache=(600, 3600), fill_width=True
        ) as blocks:
            gr.Markdown("# rdaam\nWhich words made this region, and which regions this word made.")
            with gr.Row():
                with gr.Column(scale=2, min_width=320):
                    self._lay_inputs()
                with gr.Column(scale=3, min_width=320):
                    self._lay_result()
            self._bind(blocks)
            blocks.unload(self._leave)
        blocks.queue(default_concurrency_limit=None)
        return blocks

    def _lay_inputs(self) -> None:
        with gr.Tabs():
            if self._context.denoisers:
                with gr.Tab("Generate"):
                    self.generation = GenerationPanel(self._context)
                with gr.Tab("A picture of yours"):
                    self.picture = PicturePanel(self._context)
            with gr.Tab("Files"):
                self.files = FilesPanel(self._context)

    def _lay_result(self) -> None:
        self.runs = RunStatus(self._context)
        self.viewer = ViewerPanel()
        with gr.Tabs():
            with gr.Tab("Region"):
                self.region = RegionPanel(self._context, self.runs)
            with gr.Tab("Paint"):
                self.paint = PaintPanel()
            with gr.Tab("Words"):
                self.words = WordsPanel(self._context, self.runs)
            with gr.Tab("Compare"):
                self.comparison = ComparisonPanel(self._context, self.runs)
            with gr.Tab("History"):
                self.history = HistoryPanel(self._context, self.runs)

    def _leave(self, request: gr.Request) -> None:
        self._context.close_session(request)

    def _shown_image(self) -> ShownImage:
        return ShownImage(
            self.runs,
            [
                *(self.viewer, self.history, self.paint, self.region),
                *(self.files, self.comparison, self.words),
            ],
            parts=[
                *(self.runs.status, self.runs.live),
                *(self.viewer.frame, self.viewer.current, self.viewer.selection),
                *(self.history.gallery, self.paint.canvas, self.region.costs),
                *(self.files.save_button, self.comparison.replaced),
                *(self.region.chart, self.region.explanation, self.paint.chart),
                *(self.words.maps, self.words.tree, self.words.answer),
            ],
        )

    def _bind(self, blocks: gr.Blocks) -> None:
        shown = self._shown_image()
        self.files.bind(shown, self.runs)
        self.history.bind(shown, self.viewer)
        self.region.bind(self.viewer, self.paint)
        self.words.bind(self.viewer)
        self.comparison.bind(self.viewer)
        if self._context.denoisers:
            self._bind_runs(shown, blocks)

    def _bind_runs(self, shown: ShownImage, blocks: gr.Blocks) -> None:
        generated = self.generation.bind(shown, self.runs)
        attributed = self.picture.bind(shown, self.runs, self.generation)
        # The first run loads the model, and a page may be opened later than that.
        self.generation.bind_defaults(
            [generated.then, attributed.then, self.generation.model.change, blocks.load]
        )
        self.runs.bind_cancel(
            panel.cancel_button
            for panel in (self.generation, self.picture, self.region, self.comparison)
        )
        self.generation.bind_start()
        self.region.bind_runs(self.viewer)
        self.comparison.bind_runs(self.viewer, shown)
        self.words.bind_runs(self.viewer)
