"""The last line of a cell: the viewer in a frame, and a still picture."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from typing import Any

import pytest
import torch

import diffusers_rdaam as rdaam
from diffusers_rdaam.notebook import frame
from diffusers_rdaam.pipelines.output import with_attributions
from diffusers_rdaam.viewer.page import viewer_page

HOSTILE = "<script>alert(1)</script> & \"x\" onload='y' </iframe> <img src=x onerror=alert(2)>"


class _Elements(HTMLParser):
    """The elements of a cell, with their attributes as a browser reads them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, Any]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def frames(self) -> list[dict[str, Any]]:
        return [attributes for tag, attributes in self.found if tag == "iframe"]


@pytest.fixture
def with_steps(make_attribution) -> rdaam.Attribution:
    """An attribution that kept 40 steps, which are most of its page."""
    plain = make_attribution(grids=((8, 12),))
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(40, 1, len(plain.prompt.tokens), 8, 12, generator=generator).softmax(dim=2)
    stack = rdaam.MapStack(maps, (1,) * 40, plain.grids[0].sites)
    kept = rdaam.KeptMaps(("steps",), (stack,), tuple(float(900 - i) for i in range(40)))
    grid = rdaam.Grid(maps.mean(dim=(0, 1)), 40, plain.grids[0].sites)
    return dataclasses.replace(plain, grids=(grid,), kept=kept)


def test_a_cell_has_the_viewer_and_the_still_picture(make_attribution) -> None:
    attribution = make_attribution()
    html = attribution._repr_html_()
    (shown,) = _Elements(html).frames()
    assert shown["srcdoc"] == viewer_page(attribution, embedded=True)
    assert attribution.still_html() in html
    assert "display:none" in shown["style"], "until a script shows it"
    assert len(html.encode()) <= frame.LARGEST_CELL


def test_a_notebook_s_file_can_hold_any_prompt(make_attribution) -> None:
    assert b"<iframe" in make_attribution("a \ud800 cat")._repr_html_().encode()


@pytest.mark.parametrize("text", [HOSTILE, "a cat", "", None])
def test_nothing_of_a_prompt_becomes_an_element(make_attribution, text: str | None) -> None:
    elements = _Elements(make_attribution(text)._repr_html_())
    known = {"div", "p", "span", "em", "figure", "img", "figcaption", "iframe"}
    assert {tag for tag, _ in elements.found} <= known
    (shown,) = elements.frames()
    assert set(shown) == {"title", "sandbox", "allow", "style", "onload", "srcdoc"}
    # Its page runs scripts and is of no origin: it cannot read the notebook around.
    assert shown["sandbox"].split() == ["allow-scripts", "allow-downloads"]
    assert "alert" not in shown["onload"] and "alert" not in shown["style"]


def test_results_of_a_question_stay_as_they_were(make_attribution) -> None:
    attribution = make_attribution()
    for result in (attribution["cat"], attribution.region((8, 8, 40, 40))):
        assert "<iframe" not in result._repr_html_()


@pytest.mark.parametrize(
    ("largest", "kept", "image"),
    [
        (10**9, True, "png"),
        (125_000, False, "png"),
        (116_000, False, "jpeg"),
        (30_000, False, None),
    ],
)
def test_a_cell_is_not_too_large(
    with_steps, monkeypatch: pytest.MonkeyPatch, largest: int, kept: bool, image: str | None
) -> None:
    """Finer records are left out first, then the image is compressed, then the frame is."""
    sizes = {
        name: len(
            frame.framed(
                viewer_page(with_steps, embedded=True, kept=name[0], image_format=name[1]),
                with_steps.still_html(),
                title=frame.frame_title("a cat with blue eyes, on a red mat"),
                most_height=frame.MOST_HEIGHT,
            )
        )
        for name in ((True, "png"), (True, "jpeg"), (False, "png"), (False, "jpeg"))
    }
    assert sizes[True, "png"] > sizes[True, "jpeg"] > sizes[False, "png"] > sizes[False, "jpeg"]
    if image is not None:
        largest = max(largest, sizes[kept, image]) if largest == 10**9 else sizes[kept, image]
    monkeypatch.setattr(frame, "LARGEST_CELL", largest)
    html = with_steps._repr_html_()
    frames = _Elements(html).frames()
    if image is None:
        assert frames == [] and with_steps.still_html() in html
        assert "<code>explore()</code>" in html and "more than 0.0 MB" in html
        return
    (shown,) = frames
    assert shown["srcdoc"] == viewer_page(with_steps, embedded=True, kept=kept, image_format=image)


def test_far_too_much_is_not_even_read(with_steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "LARGEST_CELL", 100)
    monkeypatch.setattr(frame, "document", None)
    assert "<iframe" not in with_steps._repr_html_()


def test_an_output_shows_its_images_side_by_side(make_attribution) -> None:
    from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput

    several = [make_attribution(seed=seed) for seed in range(3)]
    stock = StableDiffusionPipelineOutput([one.image for one in several], None)
    html = with_attributions(stock, several, None)._repr_html_()
    (shown,) = _Elements(html).frames()
    assert shown["srcdoc"] == viewer_page(several, embedded=True)
    assert shown["title"] == "Viewer: a cat with blue eyes, on a red mat and 2 more"
    assert html.count("<figure") == 3


def test_other_texts_are_shown_as_stills(make_attribution) -> None:
    attribution = dataclasses.replace(
        make_attribution(), vocabulary={"a dog": make_attribution("a dog")}
    )
    html = attribution.vocabulary._repr_html_()  # type: ignore[attr-defined]
    assert "<iframe" not in html and html.count("<figure") == 1
