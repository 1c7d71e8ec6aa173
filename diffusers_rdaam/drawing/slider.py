"""A slider over images, as one HTML text that loads nothing."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from diffusers_rdaam.errors import InputError

# Every text stands in an element of its own and none in the script, so that escaping is enough.
_STYLE = """
body{font-family:sans-serif;margin:12px;color:#222;background:#fff;text-align:center}
h1{font-size:1.1em;margin:0 0 8px;overflow-wrap:anywhere}
figure{margin:0}
figure[hidden]{display:none}
img{max-width:100%;height:auto}
figcaption{margin:6px 0;font-variant-numeric:tabular-nums}
nav{display:flex;gap:8px;justify-content:center;align-items:center;max-width:540px;margin:0 auto}
input{flex:1}
button{font-size:1em;padding:4px 10px}
"""
_SCRIPT = """
const frames = [...document.querySelectorAll("figure")];
const range = document.querySelector("input");
const [previous, next] = document.querySelectorAll("button");
function show(index) {
  index = Math.min(Math.max(index, 0), frames.length - 1);
  frames.forEach((frame, i) => { frame.hidden = i !== index; });
  range.value = index;
  range.setAttribute("aria-valuetext", frames[index].textContent);
  previous.disabled = index === 0;
  next.disabled = index === frames.length - 1;
}
range.addEventListener("input", () => show(Number(range.value)));
previous.addEventListener("click", () => show(Number(range.value) - 1));
next.addEventListener("click", () => show(Number(range.value) + 1));
document.querySelector("nav").hidden = false;
show(Number(range.value));
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def slider_html(images: Sequence[Image.Image], labels: Sequence[str], title: str) -> str:
    """A whole page: the last image first, a slider, buttons for the one before and the next.

    The images are in it (JPEG, as ``data:``); its policy forbids it to load anything. Where scripts
    are forbidden, all images stand below one another.

    Args:
        images: PIL images of any mode.
        labels: one an image, such as ``"step 12 of 50, timestep 741"``.
        title: any text.

    Raises:
        InputError: there are no images, or another number of labels.
    """
    if not images or len(images) != len(labels):
        raise InputError(
            f"Every image has a label, and there is at least one; got {len(images)} images and "
            f"{len(labels)} labels."
        )
    figures = "\n".join(
        f'<figure><img alt="{escape(label)}" src="{_jpeg_uri(image)}">'
        f"<figcaption>{escape(label)}</figcaption></figure>"
        for image, label in zip(images, labels, strict=True)
    )
    last = len(images) - 1
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{_STYLE}</style></head>
<body><h1>{escape(title)}</h1>
{figures}
<nav hidden><button type="button" aria-label="previous">&#8249;</button>
<input type="range" min="0" max="{last}" value="{last}" aria-label="step">
<button type="button" aria-label="next">&#8250;</button></nav>
<script>{_SCRIPT}</script></body></html>
"""


def slider_frame(
    images: Sequence[Image.Image], labels: Sequence[str], title: str, *, height: int | None = None
) -> str:
    """:func:`slider_html` as a fragment for a notebook.

    It is a frame of its own, so that neither its script nor its style touches the notebook.

    Args:
        height: in pixels; that of the largest image and the controls if not given.
    """
    page = slider_html(images, labels, title)
    tall = height or max(image.height for image in images) + 120
    return (
        f'<iframe sandbox="allow-scripts" srcdoc="{escape(page)}" width="100%" height="{tall}" '
        'style="border:0" title="images with a slider"></iframe>'
    )


def _jpeg_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
