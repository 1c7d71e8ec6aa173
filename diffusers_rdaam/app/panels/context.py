"""What every panel of a page asks the server for: the visitor's session, a model, the folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from diffusers_rdaam.app.runs import Denoiser
from diffusers_rdaam.app.session import Session, Sessions
from diffusers_rdaam.errors import InputError

NO_MODEL = "This server has no model: it shows saved attributions. Start it with --model."

# What an event changes: a part of the page, and its new value or properties.
Updates = dict[Any, Any]


@dataclass(frozen=True)
class PageContext:
    """The server behind a page.

    Args:
        denoisers: the models by name, the first one chosen at the beginning; none to show files
            only.
        sessions: of the server's visitors.
        folder: of attribution files that every visitor may open, if any.
    """

    denoisers: Mapping[str, Denoiser]
    sessions: Sessions
    folder: Path | None = None

    def session(self, request: gr.Request) -> Session:
        """The session of the visitor whose browser has sent an event."""
        return self.sessions.get(request.session_hash or "")

    def close_session(self, request: gr.Request) -> None:
        """End the session of a visitor who has left the page."""
        self.sessions.close(request.session_hash or "")

    def denoiser(self, name: str | None) -> Denoiser:
        """The model of a name.

        Raises:
            InputError: the server has no model, or none of this name.
        """
        if not self.denoisers:
            raise InputError(NO_MODEL)
        if name is None or name not in self.denoisers:
            names = ", ".join(self.denoisers)
            raise InputError(f"{name!r:.80} is not a model of this server. Models: {names}.")
        return self.denoisers[name]
