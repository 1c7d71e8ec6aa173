"""The sessions of a server: what each visitor has made and opened, in a folder of its own."""

from __future__ import annotations

import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from diffusers_rdaam.app.requests import GenerationRequest
from diffusers_rdaam.app.runs import Run
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.queries import Queries
from diffusers_rdaam.errors import InputError, NoAttributionError
from diffusers_rdaam.files.pictures import read_picture, write_png

MOST_ENTRIES = 24
MOST_SESSIONS = 64
MOST_BYTES = 2 * 2**30  # of a session's folder
# Attributions of a session that stay in memory; the others are read from their files.
_IN_MEMORY = 2
_THUMBNAIL = 96


@dataclass(frozen=True)
class Entry:
    """One image of a session's history; its attribution is a file of the session's folder.

    Args:
        number: from 1, never given twice in a session.
        title: the prompt, or the name of a file.
        kind: how it came: ``"made"``, ``"picture"`` or ``"file"``.
        thumbnail: of the image; None where the attribution has none.
        folder: of its files.
        model: the name of the model; None for a file.
        request: that made it; with ``seed`` and ``seconds`` of this image.
        queries: that were kept, for other texts.
    """

    number: int
    title: str
    kind: str
    thumbnail: Image.Image | None = field(repr=False)
    folder: Path = field(repr=False)
    model: str | None = None
    request: GenerationRequest | None = None
    seed: int | None = None
    seconds: float | None = None
    queries: Queries | None = field(default=None, repr=False)
    has_attribution: bool = True

    @property
    def path(self) -> Path:
        """The attribution's file."""
        return self.folder / "attribution.safetensors"

    def attribution(self) -> Attribution:
        """The attribution, read from its file.

        Raises:
            NoAttributionError: there is none.
        """
        if not self.has_attribution:
            raise NoAttributionError(f"Image {self.number} was made, but not its attribution.")
        found = Attribution.load(self.path)
        return found if self.queries is None else found.with_queries(self.queries)


class Session:
    """One visitor: a history, and the run that goes on.

    Args:
        folder: that this session may write to; made when it is first needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run: Run | None = None
        self._is_preparing = self._is_cancelled = False
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._loaded: OrderedDict[int, Attribution] = OrderedDict()
        self._lock = threading.RLock()
        self._last = 0
        self._is_closed = False

    @property
    def is_busy(self) -> bool:
        """Whether a run is prepared, waits or goes on."""
        return self._is_preparing or (self.run is not None and not self.run.has_ended)

    @contextmanager
    def preparing(self) -> Iterator[Callable[[Run], None]]:
        """While a form is read and its run is queued; takes the run.

        A visitor has one run at a time: two clicks within a few milliseconds are two events, and
        the second comes before the first has a run.

        Raises:
            InputError: there is a run, or one is prepared.
        """
        with self._lock:
            if self.is_busy:
                raise InputError(
                    "A run of yours is waiting or running. Cancel it, or wait for its end."
                )
            self._is_preparing, self._is_cancelled = True, False
        try:
            yield self._take
        finally:
            self._is_preparing = False

    def _take(self, run: Run) -> None:
        with self._lock:
            self.run = run
            if self._is_cancelled:
                run.cancel()

    def cancel(self) -> bool:
        """End the run before its next step, or as soon as it is queued; False without one."""
        with self._lock:
            if not self.is_busy:
                return False
            self._is_cancelled = True
            if self.run is not None:
                self.run.cancel()
            return True

    @property
    def entries(self) -> list[Entry]:
        """The history, the newest first."""
        with self._lock:
            return list(reversed(self._entries.values()))

    def entry(self, number: int) -> Entry:
        """One entry.

        Raises:
            InputError: there is none of that number.
        """
        with self._lock:
            found = self._entries.get(number)
            numbers = ", ".join(map(str, self._entries)) or "none"
        if found is None:
            raise InputError(
                f"There is no image {number!r:.40} in this session's history. Images: {numbers}."
            )
        return found

    def attribution(self, number: int) -> Attribution:
        """The attribution of an entry; the last ones asked for are in memory.

        Raises:
            InputError: there is no such entry.
            NoAttributionError: it has none.
        """
        entry = self.entry(number)
        with self._lock:
            if number in self._loaded:
                self._loaded.move_to_end(number)
                return self._loaded[number]
        found = entry.attribution()
        with self._lock:
            if number in self._entries:
                self._loaded[number] = found
            while len(self._loaded) > _IN_MEMORY:
                self._loaded.popitem(last=False)
        return found

    def new_folder(self) -> tuple[int, Path]:
        """A number and an empty folder for the next entry.

        Raises:
            InputError: the visitor has left.
        """
        with self._lock:
            if self._is_closed:
                raise InputError("This session has ended. Open the page again.")
            self._last += 1
            number = self._last
        folder = self.folder / f"{number:04d}"
        folder.mkdir(parents=True, mode=0o700)
        return number, folder

    def add(
        self,
        attribution: Attribution | None,
        image: Image.Image | None,
        *,
        title: str,
        kind: str,
        place: tuple[int, Path] | None = None,
        model: str | None = None,
        request: GenerationRequest | None = None,
        seed: int | None = None,
        seconds: float | None = None,
    ) -> Entry:
        """Write an image's files and put it on top of the history; the oldest may leave it."""
        number, folder = place or self.new_folder()
        if attribution is not None:
            attribution.save(folder / "attribution.safetensors")
        if image is not None:
            write_png(folder / "image.png", image)
        entry = Entry(
            number,
            title,
            kind,
            _thumbnail(image),
            folder,
            model,
            _on_disk(request, folder),
            seed,
            seconds,
            None if attribution is None else attribution.queries,
            attribution is not None,
        )
        with self._lock:
            self._entries[number] = entry
            while len(self._entries) > 1 and self._is_too_large():
                self._forget(next(iter(self._entries)))
        return entry

    def replay(self, number: int) -> GenerationRequest:
        """The request behind an entry, with its images.

        Raises:
            InputError: the entry was not made here.
        """
        entry = self.entry(number)
        if entry.request is None:
            raise InputError(
                "Gradients, ablations and a replaced word generate the image again, so they are of "
                "images that were made here. Generate one first."
            )
        return _from_disk(entry.request, entry.folder)

    def close(self) -> None:
        """Cancel the run, and remove the folder."""
        self.cancel()
        with self._lock:
            self._is_closed = True
            self._entries.clear()
            self._loaded.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_too_large(self) -> bool:
        if len(self._entries) > MOST_ENTRIES:
            return True
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return sum(path.stat().st_size for path in files) > MOST_BYTES

    def _forget(self, number: int) -> None:
        entry = self._entries.pop(number)
        self._loaded.pop(number, None)
        shutil.rmtree(entry.folder, ignore_errors=True)


class Sessions:
    """The sessions of a server, by their secret keys; the one unused for longest makes room.

    Args:
        root: a folder that nobody else can read; each session has one in it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()
        self._made = 0

    def get(self, key: str) -> Session:
        """The session of a visitor; a new one for a new key. The key is part of no path."""
        with self._lock:
            if key not in self._sessions:
                self._made += 1
                self._sessions[key] = Session(self._root / f"session-{self._made}")
            self._sessions.move_to_end(key)
            old = self._oldest_idle() if len(self._sessions) > MOST_SESSIONS else None
            found = self._sessions[key]
        if old is not None:
            old.close()
        return found

    def close(self, key: str) -> None:
        """End a session: its visitor has left."""
        with self._lock:
            session = self._sessions.pop(key, None)
        if session is not None:
            session.close()

    def close_all(self) -> None:
        """End every session."""
        for key in list(self._sessions):
            self.close(key)

    def __len__(self) -> int:
        return len(self._sessions)

    def _oldest_idle(self) -> Session | None:
        for key, session in list(self._sessions.items())[:-1]:
            if not session.is_busy:
                del self._sessions[key]
                return session
        return None


def _thumbnail(image: Image.Image | None) -> Image.Image | None:
    if image is None:
        return None
    small = image.convert("RGB")
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return small


def _on_disk(request: GenerationRequest | None, folder: Path) -> GenerationRequest | None:
    """The request without its images, which go to files of the entry's folder."""
    if request is None or request.start is None:
        return request
    write_png(folder / "start.png", request.start)
    if request.mask is not None:
        write_png(folder / "mask.png", request.mask)
    return _with_images(request, lambda name: None)


def _from_disk(request: GenerationRequest, folder: Path) -> GenerationRequest:
    def read(name: str) -> Image.Image | None:
        path = folder / name
        return read_picture(path) if path.is_file() else None

    return _with_images(request, read)


def _with_images(
    request: GenerationRequest, read: Callable[[str], Image.Image | None]
) -> GenerationRequest:
    from dataclasses import replace

    return replace(request, start=read("start.png"), mask=read("mask.png"))
