"""Attribution files: open one of the visitor's or of the server's folder, save the shown one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from diffusers_rdaam.app import events, form
from diffusers_rdaam.app.panels.context import PageContext, Updates
from diffusers_rdaam.app.panels.run_status import RunStatus
from diffusers_rdaam.app.panels.shown_image import HistoryImage, ShownImage
from diffusers_rdaam.errors import RDAAMError


class FilesPanel:
    """The files that may be opened, and a button that saves.

    Args:
        context: the server behind the page; its folder is listed, if it has one.
    """

    def __init__(self, context: PageContext) -> None:
        self._context = context
        self.upload = gr.File(
            label="An attribution file (.safetensors)", type="filepath", height=120
        )
        if context.folder is not None:
            names = events.listed_files(context.folder)
            self.listed = gr.Dropdown(
                names, value=None, label=f"Files of {context.folder.name}", allow_custom_value=True
            )
            self.reload_button = gr.Button("Read the folder again")
        self.save_button = gr.DownloadButton("Save the shown attribution", interactive=False)

    def bind(self, shown: ShownImage, runs: RunStatus) -> None:
        """Show the files that are opened here."""
        self._shown, self._runs = shown, runs
        self.upload.upload(self.open_upload, self.upload, shown.parts, api_name="open_file")
        folder = self._context.folder
        if folder is not None:
            self.listed.input(self.open_listed, self.listed, shown.parts, api_name="open_listed")
            self.reload_button.click(
                lambda: gr.Dropdown(events.listed_files(folder)),
                None,
                self.listed,
                api_name="list_files",
            )

    def show_image(self, image: HistoryImage) -> Updates:
        """The image's attribution on the button that saves."""
        has_attribution, path = image.entry.has_attribution, str(image.entry.path)
        button = gr.DownloadButton(
            value=path if has_attribution else None, interactive=has_attribution
        )
        return {self.save_button: button}

    async def open_upload(self, path: str | None, request: gr.Request) -> Updates:
        """Open an attribution file of the visitor."""
        return await self._open(
            request,
            lambda: (events.read_attribution(form.uploaded(path)), Path(form.uploaded(path)).name),
        )

    async def open_listed(self, name: Any, request: gr.Request) -> Updates:
        """Open an attribution file of the server's folder."""
        folder = self._context.folder
        assert folder is not None
        return await self._open(request, lambda: (events.open_listed(folder, name), str(name)))

    async def _open(self, request: gr.Request, read: Callable[[], Any]) -> Updates:
        session = self._context.session(request)

        def add() -> int:
            found, name = read()
            return session.add(found, found.image, title=name, kind="file").number

        try:
            number = await asyncio.to_thread(add)
        except RDAAMError as error:
            return self._runs.show_error(form.error_text(error))
        return await self._shown.show_from_thread(session, number, "The file is open.")
