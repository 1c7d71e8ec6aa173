"""The viewer's page in a frame, and what the page knows between two events."""

from __future__ import annotations

from typing import Any

import gradio as gr

from diffusers_rdaam.app import fragments
from diffusers_rdaam.app.panels.context import Updates
from diffusers_rdaam.app.panels.shown_image import HistoryImage
from diffusers_rdaam.attribution.attribution import Attribution


class ViewerPanel:
    """The frame with the shown image and its maps; the region that is drawn in it."""

    def __init__(self) -> None:
        self.frame: Any = gr.HTML(
            value="",
            html_template=(
                '<div class="rdaam-frame"><p class="rdaam-empty">The image and its words appear '
                'here.</p><iframe hidden title="Attribution viewer" '
                'sandbox="allow-scripts allow-downloads"></iframe></div>'
            ),
            js_on_load=fragments.asset("frame.js"),
            elem_id="rdaam-frame",
        )
        # What the page knows between two events; an interface may set them, too.
        self.current = gr.Number(visible=False, precision=0)
        self.selection = gr.Textbox(visible=False)

    def show_image(self, image: HistoryImage) -> Updates:
        """The image in the frame, with no region drawn."""
        found, entry = image.attribution, image.entry
        return {
            self.frame: "" if found is None else fragments.document([found], entry.title),
            self.current: entry.number,
            self.selection: "",
        }

    def show_pair(self, first: Attribution, second: Attribution, title: str) -> Updates:
        """Two images side by side in the frame."""
        return {self.frame: fragments.document([first, second], title)}
