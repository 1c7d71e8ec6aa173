"""The annotation page in a real browser: what is drawn is what Python reads."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from diffusers_rdaam import AnnotatedObject, annotate, annotation_page, read_annotations

NAMES = ["cat", "</script><img src=x onerror=alert(1)>"]


@pytest.fixture
def picture() -> Image.Image:
    """Wider than high."""
    pixels = np.full((96, 160, 3), 235, dtype=np.uint8)
    pixels[20:60, 30:90] = (200, 60, 60)
    return Image.fromarray(pixels)


def drag(page, first: tuple[float, float], last: tuple[float, float]) -> None:
    """Drag over the image, in its pixels."""
    edges = page.locator("#drawing").bounding_box()
    across, down = edges["width"] / 160, edges["height"] / 96
    page.mouse.move(edges["x"] + first[0] * across, edges["y"] + first[1] * down)
    page.mouse.down()
    page.mouse.move(edges["x"] + last[0] * across, edges["y"] + last[1] * down, steps=3)
    page.mouse.up()


def saved(page, path):
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(path)
    return read_annotations(path)


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_boxes_and_points_are_those_that_were_drawn(pages, picture, tmp_path, width):
    page = pages.show(annotation_page(picture, NAMES), width=width)
    drag(page, (30.4, 20.4), (89.6, 59.6))
    drag(page, (50.1, 40.1), (50.1, 40.1))  # a click, inside of the box
    page.get_by_label(NAMES[1]).check()
    drag(page, (150.1, 90.1), (120.4, 70.4))  # from the other corner
    drag(page, (10, 10), (10.5, 10.5))
    found = saved(page, tmp_path / "annotations.json")
    cat, one, two = found.objects
    assert cat.name == "cat" and one.name == two.name == NAMES[1]
    # A pixel of the screen is up to half a pixel of the image.
    np.testing.assert_allclose(cat.box, (30, 20, 90, 60), atol=1)
    np.testing.assert_allclose(cat.point, (50, 40), atol=1)
    np.testing.assert_allclose(one.box, (120, 70, 151, 91), atol=1)
    assert two.box is None and found.size == (96, 160) and found.names == tuple(NAMES)
    without = annotate(picture, found, segmenter=lambda image, box, point: np.ones((96, 160)))
    assert set(without.areas) == set(NAMES)
    pages.picture(page, f"annotation-page-{width}", full=True)


@pytest.mark.browser
def test_by_keyboard_and_back(pages, picture, tmp_path):
    page = pages.show(annotation_page(picture, ["cat", "dog"]), color_scheme="dark")
    page.get_by_label("cat").focus()
    page.keyboard.press("ArrowDown")
    for name, value in (("left", 5), ("top", 6), ("right", 50), ("bottom", 40)):
        page.get_by_label(name, exact=True).fill(str(value))
    page.keyboard.press("Enter")
    assert page.inner_text("#said") == "Added dog: box 5, 6, 50, 40."
    page.get_by_label("right", exact=True).fill("2")
    page.keyboard.press("Enter")
    assert "its left below its right" in page.inner_text("#said")
    page.get_by_label("right", exact=True).fill("30")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Remove dog: box 5, 6, 50, 40").press("Enter")
    found = saved(page, tmp_path / "annotations.json")
    assert found.objects == (AnnotatedObject("dog", (5, 6, 30, 40)),)
    pages.picture(page, "annotation-page-dark", full=True)
    page.click("#undo")
    assert saved(page, tmp_path / "none.json").objects == ()
