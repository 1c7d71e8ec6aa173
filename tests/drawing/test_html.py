"""HTML: right pictures, and every text escaped."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from diffusers_rdaam.drawing.html import MAX_SHOWN, coloured_text, data_uri, picture, table

HOSTILE = "<script>alert(1)</script> & \"x\" 'y'"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;x&quot; &#x27;y&#x27;"


def decoded(uri: str) -> Image.Image:
    head, _, data = uri.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data, validate=True)))


def test_data_uri_is_the_image():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    shown = decoded(data_uri(Image.fromarray(pixels)))
    assert np.array_equal(np.asarray(shown), pixels)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((320, 200), (320, 200)), ((640, 320), (320, 160)), ((100, 1000), (32, 320))],
)
def test_large_images_are_shown_smaller_and_kept(size, wanted):
    image = Image.new("RGBA", size, (10, 200, 30, 255))
    shown = decoded(data_uri(image))
    assert shown.size == wanted and max(shown.size) <= MAX_SHOWN
    assert image.size == size


def test_picture_escapes_its_caption_twice():
    html = picture(Image.new("L", (3, 2)), HOSTILE)
    assert html.count(ESCAPED) == 2 and "<script" not in html
    assert re.fullmatch(
        r'<figure style="[^"<>]*"><img alt="[^"<>]*" src="data:image/png;base64,[\w+/=]+">'
        r"<figcaption>[^<>]*</figcaption></figure>",
        html,
    )


def test_coloured_text_keeps_the_text_and_marks_the_words():
    html = coloured_text("a <b> cat!", [(0, 1, 0.25, "one"), (6, 9, 1.0, 'tw"o')])
    assert re.sub(r"<[^>]*>", "", html) == "a &lt;b&gt; cat!"
    assert re.findall(r"rgba\(234,88,12,([\d.]+)\)", html) == ["0.25", "1.00"]
    assert re.findall(r'title="([^"]*)">([^<]*)<', html) == [("one", "a"), ("tw&quot;o", "cat")]


@pytest.mark.parametrize(("strength", "shown"), [(-3.0, "0.00"), (7.0, "1.00")])
def test_strength_is_cut_to_zero_and_one(strength, shown):
    assert f"rgba(234,88,12,{shown})" in coloured_text("cat", [(0, 3, strength, "")])


def test_hostile_text_is_escaped_in_and_between_words():
    html = coloured_text(HOSTILE, [(0, 7, 0.5, HOSTILE)])
    assert set(re.findall(r"</?(\w+)", html)) == {"p", "span"}
    assert f'title="{ESCAPED}">&lt;script</span>&gt;' in html


def test_no_text():
    assert coloured_text("", []) == "<p><em>(no text)</em></p>"
    assert coloured_text("", [], empty="<none>") == "<p><em>&lt;none&gt;</em></p>"


def test_table_escapes_every_cell():
    html = table(["word", HOSTILE], [[HOSTILE, "1"], ["cat", "2"]])
    assert html.count(ESCAPED) == 2 and "<script" not in html
    assert re.findall(r"<td>([^<]*)</td>", html) == [ESCAPED, "1", "cat", "2"]
    assert re.findall(r"<th>([^<]*)</th>", html) == ["word", ESCAPED]
