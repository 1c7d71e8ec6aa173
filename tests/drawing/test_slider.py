"""The slider: one text with everything in it, every text escaped, nothing loaded."""

from __future__ import annotations

import base64
import html
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from diffusers_rdaam.drawing.slider import slider_frame, slider_html
from diffusers_rdaam.errors import InputError

IMAGES = [Image.new(mode, (90, 60), 7) for mode in ("L", "RGB", "RGBA")]
LABELS = ["step 1 of 3", "step 2 of 3", "step 3 of 3"]
HOSTILE = "</script><script>alert(1)</script><img src=x onerror='y'> & \"z\" ${1} </figure>"


class Page(HTMLParser):
    """The tags, attributes and texts as a browser reads them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data):
        self.texts.append(data)


def test_every_image_and_label_is_in_the_page():
    rng = np.random.default_rng(0)
    noisy = Image.fromarray(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8).repeat(10, 0))
    text = slider_html([*IMAGES, noisy], [*LABELS, "last"], "a cat")
    page = Page(text)
    assert page.tags.count("figure") == 4
    sources = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    for source, image in zip(sources, [*IMAGES, noisy], strict=True):
        head, _, data = source.partition(",")
        assert head == "data:image/jpeg;base64"
        shown = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
        assert shown.size == image.size
    assert all(page.texts.count(label) == 1 for label in [*LABELS, "last"])
    assert page.texts.count("a cat") == 2
    assert ("input", "max", "3") in page.attributes and ("input", "value", "3") in page.attributes


def test_nothing_is_loaded():
    text = slider_html(IMAGES, LABELS, "a cat")
    assert "http" not in text.replace("http-equiv", "")
    page = Page(text)
    assert not {"link", "iframe", "object"} & set(page.tags)
    (policy,) = [
        value for tag, name, value in page.attributes if name == "content" and "none" in value
    ]
    assert policy.startswith("default-src 'none'; img-src data:;")


@pytest.mark.parametrize("where", ["label", "title"])
def test_texts_of_strangers_make_no_tags(where):
    labels = [HOSTILE, *LABELS[1:]] if where == "label" else LABELS
    text = slider_html(IMAGES, labels, HOSTILE if where == "title" else "a cat")
    page, plain = Page(text), Page(slider_html(IMAGES, LABELS, "a cat"))
    assert page.tags == plain.tags
    assert [(tag, name) for tag, name, _ in page.attributes] == [
        (tag, name) for tag, name, _ in plain.attributes
    ]
    assert HOSTILE in page.texts
    scripts = [
        re.findall(r"<script>(.*?)</script>", one, re.S)
        for one in (text, slider_html(IMAGES, LABELS, ""))
    ]
    assert scripts[0] == scripts[1] and len(scripts[0]) == 1


def test_without_scripts_every_image_is_seen():
    page = Page(slider_html(IMAGES, LABELS, "a cat"))
    hidden = [tag for tag, name, _ in page.attributes if name == "hidden"]
    assert hidden == ["nav"]


def test_frame_for_a_notebook_holds_the_page():
    text = slider_frame(IMAGES, LABELS, HOSTILE)
    page = Page(text)
    assert page.tags == ["iframe"]
    attributes = {name: value for _, name, value in page.attributes}
    assert attributes["srcdoc"] == slider_html(IMAGES, LABELS, HOSTILE)
    assert attributes["sandbox"] == "allow-scripts" and attributes["height"] == "180"
    assert 'height="77"' in slider_frame(IMAGES, LABELS, "", height=77)
    assert html.unescape(attributes["srcdoc"]) != attributes["srcdoc"]


@pytest.mark.parametrize(("images", "labels"), [([], []), (IMAGES, LABELS[:2])])
def test_images_and_labels_go_together(images, labels):
    with pytest.raises(InputError) as caught:
        slider_html(images, labels, "")
    assert str(caught.value) == (
        f"Every image has a label, and there is at least one; got {len(images)} images and "
        f"{len(labels)} labels."
    )
