"""explore: the viewer at full size in a notebook's cell."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, runtime_checkable

from diffusers_rdaam.errors import NotebookExtraError
from diffusers_rdaam.notebook.frame import frame_title, framed
from diffusers_rdaam.viewer.page import Viewable, check_size, contents_of, document

if TYPE_CHECKING:
    from diffusers_rdaam.notebook.widget import ViewerWidget

# What only a widget has.
SELECTION = (
    "attribution",
    "box",
    "index",
    "mask",
    "observe",
    "polygon",
    "region",
    "unobserve",
    "word",
    "words",
)


@runtime_checkable
class Explorable(Viewable, Protocol):
    """What can be explored: the attribution of an image or of a video."""

    def still_html(self) -> str:
        """HTML without scripts, for where the viewer cannot run."""
        ...


class NotebookViewer:
    """The viewer in a frame of a notebook's cell: its page answers by itself, without a kernel.

    What is selected in it stays in it; a widget, which :func:`explore` makes where ``anywidget`` is
    installed, tells it to Python.
    """

    def __init__(self, page: str, still: str, title: str) -> None:
        self._page, self._still, self._title = page, still, title

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        cell = framed(self._page, self._still, title=self._title)
        return {"text/plain": repr(self), "text/html": cell}

    def __repr__(self) -> str:
        return f"NotebookViewer({self._title!r}, {len(self._page) / 1e6:.2f} MB)"

    def __getattr__(self, name: str) -> NoReturn:
        if name in SELECTION:
            raise NotebookExtraError(_without_widget(name))
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        # As an attribute of this object it would be there, and not in the page.
        if name in SELECTION:
            raise NotebookExtraError(_without_widget(name))
        super().__setattr__(name, value)


def _without_widget(name: str) -> str:
    """Why a frame does not have this part of a widget, and what to do."""
    if find_spec("anywidget") is None:
        return (
            f"viewer.{name} needs anywidget, through which page and kernel talk. Restart the "
            "kernel and call explore() again after installing it with: pip install "
            '"diffusers_rdaam[notebook]"'
        )
    return (
        f"This viewer was made with widget=False, so viewer.{name} stays in its page. Call "
        "explore() without widget=False."
    )


def explore(
    attributions: Explorable | Iterable[Explorable],
    *,
    title: str | None = None,
    kept: bool = True,
    large: bool = False,
    widget: bool | None = None,
) -> NotebookViewer | ViewerWidget:
    """The viewer of one attribution or of several side by side, as high as it is, in a cell.

    With ``anywidget`` (the extra ``notebook``) and a kernel what is selected comes back:
    ``viewer.box``, ``viewer.polygon``, ``viewer.words``, ``viewer.word``; ``viewer.observe`` calls
    a function on each change, and ``viewer.box = (8, 8, 64, 64)`` selects in the page.

    Args:
        attributions: of images or videos.
        title: of the viewer, for screen readers; the prompt if not given.
        kept: whether single steps and layers, refined maps and self-attention are in it.
        large: whether it may have more than 50 MB.
        widget: a widget or not; one where ``anywidget`` is installed if not given.

    Raises:
        InputError: there is no attribution, something is none, or the page would be over 50 MB.
        NotebookExtraError: a widget was asked for, and ``anywidget`` is not installed.
    """
    if widget and find_spec("anywidget") is None:
        raise NotebookExtraError(
            "A widget needs anywidget. Pass widget=False for a frame without it, or install it "
            'with: pip install "diffusers_rdaam[notebook]"'
        )
    shown = [attributions] if isinstance(attributions, Viewable) else attributions
    # Once, as it may be a generator; contents_of refuses what is not a sequence.
    shown = list(shown) if isinstance(shown, Iterable) and not isinstance(shown, str) else shown
    contents = contents_of(shown, kept=kept)
    check_size(contents, large=large)
    page = document(contents, title=title, embedded=True)
    name = frame_title(contents[0].title if title is None else title, len(contents))
    still = "".join(one.still_html() for one in shown)
    if widget or (widget is None and find_spec("anywidget") is not None):
        from diffusers_rdaam.notebook.widget import ViewerWidget

        return ViewerWidget(tuple(shown), page, still, name)
    return NotebookViewer(page, still, name)
