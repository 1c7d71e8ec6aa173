"""One image of the history, shown in every panel that shows something of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from diffusers_rdaam.app.panels.context import Updates
from diffusers_rdaam.app.panels.run_status import RunStatus
from diffusers_rdaam.app.session import Entry, Session
from diffusers_rdaam.attribution.attribution import Attribution


@dataclass(frozen=True)
class HistoryImage:
    """An image of a visitor's history.

    Args:
        session: the visitor's.
        entry: of the image.
        attribution: of the image; None where the run has made none.
    """

    session: Session
    entry: Entry
    attribution: Attribution | None


class ImagePanel(Protocol):
    """A panel that shows something of the image, or is emptied when another image is shown."""

    def show_image(self, image: HistoryImage) -> Updates:
        """What the panel shows from now on."""


class ShownImage:
    """The panels that change when another image is shown.

    Args:
        runs: says what has been shown.
        panels: that show something of the image.
        parts: of the page that these change, in the order in which an interface gets them.
    """

    def __init__(
        self, runs: RunStatus, panels: Sequence[ImagePanel], *, parts: Sequence[Any]
    ) -> None:
        self._runs = runs
        self._panels = panels
        self.parts = list(parts)

    def show(self, session: Session, number: int, text: str, remarks: Sequence[str]) -> Updates:
        """Everything that shows one image; what belongs to another is emptied.

        Args:
            session: the visitor's.
            number: of the image in the session's history.
            text: of the status line.
            remarks: warnings below it.
        """
        entry = session.entry(number)
        found = session.attribution(number) if entry.has_attribution else None
        image = HistoryImage(session, entry, found)
        shown = self._runs.show_image(None if found is not None else entry.folder, text, remarks)
        for panel in self._panels:
            shown |= panel.show_image(image)
        return shown

    async def show_from_thread(self, session: Session, number: int, text: str) -> Updates:
        """The same from a thread, so that the server answers others in the meantime."""
        return await asyncio.to_thread(self.show, session, number, text, [])
