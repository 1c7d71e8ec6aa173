"""A picture that is painted on, and the panel that asks for the words of what was painted."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr
from PIL import Image

from diffusers_rdaam.app import fragments
from diffusers_rdaam.app.panels.context import Updates
from diffusers_rdaam.app.panels.shown_image import HistoryImage


class PaintPanel:
    """The shown image to paint a region on, and the words of that region."""

    def __init__(self) -> None:
        self.canvas: Any = painter("Paint a region of the shown image")
        self.chart = gr.HTML("")

    def show_image(self, image: HistoryImage) -> Updates:
        """The image without paint."""
        found = image.attribution
        picture = None if found is None else found.image or _blank(found.image_size)
        return {self.canvas: gr.HTML(**fragments.canvas(picture)), self.chart: ""}


def painter(label: str) -> gr.HTML:
    """A picture that can be painted on; its value is the strokes, as JSON."""
    template = (
        f'<div class="rdaam-painter"><p>{escape(label)}.</p><div class="rdaam-tools"><label>'
        'Brush <input type="range" min="2" max="40" value="12" aria-label="Size of the brush">'
        '</label><button type="button" data-tool="erase" aria-pressed="false">Erase</button>'
        '<button type="button" data-tool="clear">Clear</button></div>'
        '<p class="rdaam-empty">There is no image yet.</p>'
        f'<canvas hidden tabindex="0" role="application" aria-label="{escape(label)}; arrows '
        'move the brush, the space bar paints"></canvas></div>'
    )
    return gr.HTML(
        **fragments.canvas(None),
        show_label=False,
        html_template=template,
        js_on_load=fragments.asset("painter.js"),
    )


def _blank(size: tuple[int, int]) -> Image.Image:
    """What is painted on where a file has maps and no image."""
    return Image.new("L", size[::-1], 200)
