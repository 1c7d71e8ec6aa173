"""A page of the best and the worst images of an evaluation: image, truth, map, words."""

from __future__ import annotations

import base64
import io
import warnings
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffusers_rdaam.argument_checks import check_count
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.errors import InputError, RDAAMError, RDAAMWarning
from diffusers_rdaam.evaluation.evaluation import Evaluation
from diffusers_rdaam.evaluation.maps import RecordedAnswers, maps_of
from diffusers_rdaam.evaluation.protocols.protocol import Protocol
from diffusers_rdaam.evaluation.protocols.table import protocol_of
from diffusers_rdaam.evaluation.run import Recorded, Run, RunSettings
from diffusers_rdaam.evaluation.sample import DataSet
from diffusers_rdaam.files.writing import replacing

SHOWN = 6
# Of a picture on the page, in pixels.
SIDE = 256
# The truth's outline: seen on any image.
INNER, OUTER = (255, 255, 255), (0, 0, 0)
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "frame-src 'self' about:"
)
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
pre { overflow-x: auto; font-size: .8rem; }
article { border-top: 1px solid #8884; padding: 1rem 0; }
.row { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; } figcaption { font-size: .85rem; max-width: 256px; }
img { display: block; width: 256px; height: auto; image-rendering: auto; background: #8882; }
iframe { width: 100%; height: 34rem; border: 1px solid #8884; margin-top: .5rem; }
.facts { color: #777; font-size: .85rem; }
"""


def write_gallery(
    pipe: Any,
    data: DataSet,
    protocol: str | Protocol,
    evaluation: Evaluation,
    path: str | Path,
    *,
    count: int = SHOWN,
    **run: Any,
) -> Path:
    """Write a page of the best and the worst images; they are attributed once more for it.

    Args:
        pipe, data, protocol: those of the evaluation.
        evaluation: whose first maps decide which are best.
        path: of the page, which needs no other file and no network.
        count: of the best, and of the worst.
        run: ``source``, ``noise``, ``draws``, ``seed`` and ``call`` of the evaluation.

    Raises:
        InputError: nothing was scored, or the page cannot be written.
    """
    check_count(count, "count=")
    ranked = evaluation.ranked()
    if not ranked:
        raise InputError(f"There is no image to show: {evaluation.summary()}.")
    shown = min(count, (len(ranked) + 1) // 2)
    chosen = protocol_of(protocol) if isinstance(protocol, str) else protocol
    recording = Run(pipe, data, chosen, maps_of(evaluation.maps[0]), RunSettings(**run))
    parts = {"The best": ranked[:shown], "The worst": ranked[shown:][-shown:][::-1]}
    body = [
        f"<h2>{title}</h2>" + "".join(_article(recording, *pair) for pair in pairs)
        for title, pairs in parts.items()
        if pairs
    ]
    target = Path(path)
    with replacing(target, "gallery") as file:
        file.write(_page(evaluation, "".join(body)).encode())
    return target


def _article(run: Run, name: str, value: float) -> str:
    """One image: itself with the outline of the truth, and each word's map."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RDAAMWarning)
            recorded = run.recorded(name)
    except (RDAAMError, OSError) as error:
        return f"<article><h3>{escape(name)}</h3><p>{escape(str(error))}</p></article>"
    if not isinstance(recorded, Recorded):
        return ""
    answers = RecordedAnswers(recorded.attribution, run.maps[0])
    image = recorded.sample.image
    assert image is not None
    outlined = _outlined(image, [one.mask for one in recorded.question.asked])
    figures = [_figure(outlined, "the truth's outline")]
    for one in recorded.question.asked:
        heat_map = answers.heat_map(one.text, one.span)
        if heat_map is None:
            figures.append(
                f"<figure><figcaption>{escape(one.text)}: not in the prompt</figcaption></figure>"
            )
        elif one.mask.any():
            figures.append(_figure(_outlined(heat_map.overlay(image), [one.mask]), one.text))
    return (
        f"<article><h3>{escape(name)}: {value:.3f}</h3>"
        f'<p class="facts">{escape(recorded.question.prompt)}</p>'
        f'<div class="row">{"".join(figures)}</div>{_viewer(recorded.attribution)}</article>'
    )


def _viewer(attribution: Attribution) -> str:
    """The interactive page of one image, folded away; nothing where it is not installed."""
    if find_spec("diffusers_rdaam.viewer") is None:
        return ""
    from importlib import import_module

    page = import_module("diffusers_rdaam.viewer").viewer_page([attribution], embedded=True)
    frame = f'<iframe sandbox="allow-scripts" loading="lazy" srcdoc="{escape(page)}"></iframe>'
    return f"<details><summary>Ask this image</summary>{frame}</details>"


def _figure(picture: Image.Image, caption: str) -> str:
    scale = SIDE / max(picture.size)
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    buffer = io.BytesIO()
    picture.convert("RGB").resize((size[0], size[1])).save(buffer, format="PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    text = escape(caption)
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{text}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _outlined(image: Image.Image, masks: list[np.ndarray]) -> Image.Image:
    """The image in page size with the edge of each mask: white inside, black outside."""
    scale = max(1.0, SIDE / max(image.size))
    size = (round(image.width * scale), round(image.height * scale))
    pixels = np.array(image.convert("RGB").resize(size))
    for mask in masks:
        large = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
        padded = np.pad(large, 1, mode="edge")
        around = np.stack(
            [padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
        )
        pixels[large & ~around.all(axis=0)] = INNER
        pixels[~large & around.any(axis=0)] = OUTER
    return Image.fromarray(pixels)


def _page(evaluation: Evaluation, body: str) -> str:
    title = f"{evaluation.label} on {evaluation.data}"
    flaws = "".join(f"<li>{escape(flaw)}</li>" for flaw in evaluation.flaws)
    listed = f"<p>As published:</p><ul>{flaws}</ul>" if flaws else ""
    facts = ", ".join(f"{key} {value}" for key, value in evaluation.facts.items())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f"<pre>{escape(str(evaluation.table()))}</pre>{listed}{body}"
        f'<p class="facts">{escape(facts)}</p></body></html>\n'
    )
