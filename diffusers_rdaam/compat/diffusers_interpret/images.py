"""The images on the way, as diffusers-interpret shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from importlib import import_module
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, overload

from PIL import Image

from diffusers_rdaam.drawing.slider import slider_html
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.files.writing import replacing


class GeneratedImages(Sequence[Image.Image]):
    """The image after every step; the last is the result.

    Args:
        images: PIL images, at least one.

    Raises:
        InputError: there is none.
    """

    def __init__(self, images: Sequence[Image.Image]) -> None:
        if not images:
            raise InputError("There are no images on the way to show.")
        self.images = list(images)

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, item: int) -> Image.Image: ...
    @overload
    def __getitem__(self, item: slice) -> list[Image.Image]: ...
    def __getitem__(self, item: Any) -> Any:
        return self.images[item]

    def __iter__(self) -> Iterator[Image.Image]:
        return iter(self.images)

    def html(self) -> str:
        """A page with a slider; it loads nothing."""
        count = len(self.images)
        labels = [f"step {number} of {count}" for number in range(1, count + 1)]
        return slider_html(self.images, labels, "Images during generation")

    def show(self, width: str | int = "100%", height: str | int = "400px") -> None:
        """Show the slider in a notebook; elsewhere write its page to a new file and print where.

        Args:
            width, height: of its frame in a notebook.
        """
        notebook = _notebook()
        if notebook is None:
            with NamedTemporaryFile(
                "w", prefix="images-", suffix=".html", delete=False, encoding="utf-8"
            ) as page:
                page.write(self.html())
            print(f"The slider is in {page.name}: open it in a browser.")
            return
        notebook.display(notebook.HTML(self._frame(width, height)))

    def gif(
        self, file_name: str | Path | None = None, duration: int = 400, show: bool = True
    ) -> Path:
        """Write a GIF; returns its path.

        Args:
            file_name: ``diffusion_process.gif`` if not given.
            duration: of each image, in milliseconds.
            show: in a notebook, show it too.

        Raises:
            InputError: it cannot be written.
        """
        path = Path(file_name or "diffusion_process.gif")
        first, *rest = (image.convert("RGB") for image in self.images)
        with replacing(path, "GIF") as file:
            first.save(
                file,
                format="GIF",
                save_all=True,
                append_images=rest,
                duration=duration,
                loop=0,
            )
        notebook = _notebook() if show else None
        if notebook is not None:
            notebook.display(notebook.Image(data=path.read_bytes()))
        return path

    def _frame(self, width: str | int, height: str | int) -> str:
        size = f'width="{escape(str(width))}" height="{escape(str(height))}"'
        return f'<iframe {size} style="border:0" srcdoc="{escape(self.html())}"></iframe>'

    def _repr_html_(self) -> str:
        return self._frame("100%", "400px")


def _notebook() -> Any:
    """IPython's displays; None where it is not installed."""
    try:
        return import_module("IPython.display")
    except ImportError:
        return None
