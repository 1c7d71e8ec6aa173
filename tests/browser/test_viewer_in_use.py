"""The viewer's page as people use it: pointer, touch and keyboard, dark, narrow, hostile texts."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

import diffusers_rdaam as rdaam

pytestmark = pytest.mark.browser

HOSTILE = (
    "</script><script>document.title='taken'</script>"
    " <img src=https://example.org/x onerror=alert(1)> \"'onload='x' javascript:alert(1)"
    " {{7*7}} \u202ethgir <style>*{display:none}</style> cat"
)


@pytest.fixture(scope="module")
def attribution(make_attribution) -> rdaam.Attribution:
    return make_attribution(size=(192, 288))


@pytest.fixture
def page(pages, attribution) -> Any:
    return pages.show(attribution.to_html())


def _place(page: Any, x: float, y: float) -> tuple[float, float]:
    """Where on the screen a place of the image is."""
    box = page.locator(".content").first.bounding_box()
    return box["x"] + x / 288 * box["width"], box["y"] + y / 192 * box["height"]


def _drag(page: Any, start: tuple[float, float], stop: tuple[float, float]) -> None:
    page.mouse.move(*_place(page, *start))
    page.mouse.down()
    page.mouse.move(*_place(page, (start[0] + stop[0]) / 2, (start[1] + stop[1]) / 2))
    page.mouse.move(*_place(page, *stop))
    page.mouse.up()


def _rows(page: Any) -> list[tuple[str, str, str]]:
    """Word, lift and score of each row of the table."""
    rows = page.locator("table.words tbody tr").all()
    return [
        (row.locator(".word").inner_text(), *row.locator("td.number").all_inner_texts()[:2])
        for row in rows
    ]


def _wanted(words: rdaam.RegionWords) -> list[tuple[str, str, str]]:
    return [(word.text, f"{word.lift:.2f}", f"{word.score:.4f}") for word in words]


def _drawn_box(page: Any) -> tuple[int, ...]:
    """The box that the heading names."""
    text = page.locator("h2").inner_text()
    return tuple(int(edge) for edge in text.split("(")[1].split(")")[0].split(", "))


def test_a_drawn_box_lists_the_words_of_python(pages, page, attribution) -> None:
    assert _rows(page) == [
        (word.text, "1.00", f"{word.score:.4f}")
        for word in attribution.region((0, 0, 288, 192), ranking="score")
    ]
    _drag(page, (40.5, 30.5), (150.5, 120.5))
    box = _drawn_box(page)
    assert box == pytest.approx((40, 30, 151, 121), abs=1)
    assert _rows(page) == _wanted(attribution.region(box))
    for ranking in ("score", "share"):
        page.get_by_role("button", name=ranking, exact=True).click()
        assert [row[0] for row in _rows(page)] == [
            word.text for word in attribution.region(box, ranking=ranking)
        ]
    pages.picture(page, "viewer-box")
    page.get_by_role("button", name="Clear").click()
    assert page.locator("h2").inner_text() == "Words in the whole image"


def test_a_box_beyond_the_image_is_what_lies_inside(page, attribution) -> None:
    _drag(page, (100.5, 100.5), (400, 400))
    box = _drawn_box(page)
    assert box[2:] == (288, 192)
    assert _rows(page) == _wanted(attribution.region(box))


def test_a_drawn_polygon_and_a_painted_region(page, attribution) -> None:
    page.get_by_role("button", name="Polygon").click()
    corners = [(40, 30), (200, 50), (120, 150)]
    for corner in [*corners, corners[0]]:
        page.mouse.click(*_place(page, *corner))
    assert "polygon" in page.locator("h2").inner_text()
    rows = _rows(page)
    wanted = {word.text: word.score for word in attribution.region(corners)}
    # A corner is where on the screen the pointer was, to about a pixel of the image.
    assert {word: float(score) for word, _, score in rows} == pytest.approx(wanted, abs=2e-3)
    page.get_by_role("button", name="Brush").click()
    _drag(page, (60, 60), (120, 60))
    assert "painted" in page.locator("h2").inner_text()
    assert _rows(page) != rows


def test_the_overlay_of_a_word_is_pythons(pages, attribution) -> None:
    """What is seen: the screenshot of the stage against the picture that Python draws."""
    # Without noise of the image, which scaling to the screen and back would change.
    grey = Image.new("RGB", (288, 192), (128, 128, 128))
    attribution = dataclasses.replace(attribution, image=grey)
    page = pages.show(attribution.to_html())
    page.locator(".chip", has_text="cat").click()
    page.locator(".hint").evaluate("hint => { hint.hidden = true; }")
    page.mouse.move(0, 0)
    png = page.locator(".content").screenshot()
    seen = Image.open(io.BytesIO(png)).convert("RGB").resize((288, 192))

    def difference(word: str) -> np.ndarray:
        drawn = attribution.word(word).overlay(opacity=0.8, cmap="viridis").convert("RGB")
        # Without the rounded corners.
        return np.abs(np.asarray(seen, float) - np.asarray(drawn, float))[6:-6, 6:-6]

    found, other = difference("cat"), difference("mat")
    assert found.mean() < 1.5 and np.quantile(found, 0.99) < 6, (found.mean(), found.max())
    assert other.mean() > 10, "two words' maps are told apart"


def test_a_chosen_word_is_marked_everywhere(pages, page) -> None:
    page.locator(".chip", has_text="cat").click()
    assert page.locator(".chip[aria-pressed=true]").all_inner_texts() == ["cat"]
    assert page.locator("tr.chosen .word").inner_text() == "cat"
    assert page.locator(".what").inner_text().startswith("cat ")
    page.locator("table.words .word", has_text="mat").click()
    assert page.locator(".chip[aria-pressed=true]").all_inner_texts() == ["mat"]
    pages.picture(page, "viewer-word")


def _press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def _focused(page: Any) -> str:
    return page.evaluate(
        "() => document.activeElement.getAttribute('aria-label')"
        " || document.activeElement.textContent"
    )


def test_the_keyboard_alone(page, attribution) -> None:
    """From the top: a word by arrows, a box by arrows, another order, a mask."""
    _press(page, "Tab")
    first = _focused(page)
    assert first in {word.text for word in attribution.words}
    _press(page, "Home", "ArrowRight")
    assert _focused(page) == "cat"
    _press(page, "Enter")
    assert "cat" in page.locator(".what").inner_text()
    ring = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
    assert ring == "solid", "the focus is seen"
    for _ in range(20):
        _press(page, "Tab")
        if page.evaluate("() => document.activeElement.classList.contains('content')"):
            break
    assert "The image" in _focused(page)
    _press(page, "ArrowRight")
    assert _drawn_box(page) == (72, 48, 216, 144)
    _press(page, "ArrowRight", "Shift+ArrowDown", "Alt+ArrowLeft")
    box = _drawn_box(page)
    assert box == (72 + 9 - 1, 48, 216 + 9 - 1, 144 + 9)
    assert _rows(page) == _wanted(attribution.region(box))
    _press(page, "Escape")
    assert page.locator("h2").inner_text() == "Words in the whole image"


def test_every_control_has_a_name_and_can_be_reached(page) -> None:
    unnamed = page.evaluate("""() => [...document.querySelectorAll('button, input, select, a')]
        .filter((one) => one.offsetParent !== null)
        .filter((one) => !(one.getAttribute('aria-label') || one.textContent.trim()
            || (one.labels && one.labels.length) || one.title))
        .map((one) => one.outerHTML)""")
    assert unnamed == []
    reached = set()
    for _ in range(60):
        _press(page, "Tab")
        reached.add(page.evaluate("() => document.activeElement.tagName"))
    assert {"BUTTON", "INPUT", "DIV", "SUMMARY"} <= reached


@pytest.mark.parametrize("width", [360, 768])
def test_nothing_is_cut_off_on_a_narrow_screen(pages, attribution, width: int) -> None:
    page = pages.show(attribution.to_html(), width=width, height=740)
    inner, needed = page.evaluate("() => [innerWidth, document.documentElement.scrollWidth]")
    assert needed <= inner
    controls = "button, input, table, .content"
    outside = page.evaluate(
        """(controls) => [...document.querySelectorAll(controls)]
        .filter((one) => one.offsetParent !== null)
        .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
        .map((one) => one.outerHTML.slice(0, 80))""",
        controls,
    )
    assert outside == []
    pages.picture(page, f"viewer-{width}", full=True)


def test_a_finger_draws_a_box(pages, attribution) -> None:
    page = pages.show(attribution.to_html(), width=390, height=844, has_touch=True, is_mobile=True)
    page.locator(".content").scroll_into_view_if_needed()
    touch = page.context.new_cdp_session(page)
    places = [_place(page, x, y) for x, y in ((60, 40), (100, 80), (160, 120))]
    for kind, place in zip(("Start", "Move", "Move"), places, strict=True):
        points = [{"x": place[0], "y": place[1]}]
        touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    box = _drawn_box(page)
    assert box == pytest.approx((60, 40, 160, 120), abs=2)
    assert _rows(page) == _wanted(attribution.region(box))


def _contrast(page: Any, selector: str) -> float:
    """The ratio of luminances of a text and what is behind it (WCAG)."""
    return page.evaluate(
        """(selector) => {
        const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
        const element = document.querySelector(selector);
        let ground = element;
        while (ground.parentElement && /, 0\\)$/.test(getComputedStyle(ground).backgroundColor)) {
          ground = ground.parentElement;
        }
        const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
          .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
          .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const both = [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor]
          .map((text) => light(numbers(text))).sort((a, b) => b - a);
        return (both[0] + 0.05) / (both[1] + 0.05);
      }""",
        selector,
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_are_readable_in_light_and_dark(pages, attribution, scheme: str) -> None:
    page = pages.show(attribution.to_html(), color_scheme=scheme)
    ground = page.evaluate(
        "() => getComputedStyle(document.querySelector('.viewer')).backgroundColor"
    )
    levels = [int(part) for part in ground[4:-1].split(",")]
    assert (max(levels) < 80) == (scheme == "dark")
    for selector in ("h2", ".note", ".words .word", ".words thead th", "summary", ".scale"):
        assert _contrast(page, selector) >= 4.5, selector
    pages.picture(page, f"viewer-{scheme}")


def test_a_hostile_prompt_is_text(pages, make_attribution) -> None:
    attribution = make_attribution(HOSTILE, size=(192, 288))
    attribution = dataclasses.replace(
        attribution,
        run={**attribution.run, "model": HOSTILE, "<b>key</b>": "<i>value</i>"},
        negative_attribution=make_attribution(HOSTILE[:40], size=(192, 288), image=False),
    )
    page = pages.show(attribution.to_html())
    _drag(page, (40, 30), (150, 120))
    page.get_by_text("About this run").click()
    assert page.title() != "taken"
    assert page.locator("script").count() == 2 and page.locator("style").count() == 1
    assert page.locator("img").count() == 1 and page.locator("b, i").count() == 0
    shown = page.locator(".prompt .text").text_content()
    assert shown == HOSTILE
    page.locator(".chip", has_text="cat").last.click()
    pages.picture(page, "viewer-hostile", full=True)


def test_a_script_that_got_in_would_not_run(pages, attribution) -> None:
    """The policy stops what the escaping would have let through."""
    html = attribution.to_html()
    planted = html.replace("</main>", "</main><script>document.title = 'taken'</script>", 1)
    assert planted != html
    page = pages.show(planted, ignored="Content Security Policy")
    page.evaluate("""() => {
      const image = document.createElement('img');
      image.setAttribute('onerror', "document.title = 'taken'");
      image.src = 'data:image/png;base64,AA';
      document.body.append(image);
      fetch('https://example.org/').catch(() => 0);
    }""")
    page.wait_for_timeout(100)
    assert page.title() != "taken"


def test_several_select_together(pages, make_attribution) -> None:
    from diffusers_rdaam.viewer import viewer_page

    both = [make_attribution(size=(192, 288), seed=seed) for seed in (0, 1)]
    page = pages.show(viewer_page(both))
    _drag(page, (40.5, 30.5), (150.5, 120.5))
    headings = page.locator("h2").all_inner_texts()
    assert len(headings) == 2 and headings[0] == headings[1]
    tables = page.locator("table.words").all()
    box = _drawn_box(page.locator(".viewer").first)
    for table, attribution in zip(tables, both, strict=True):
        words = table.locator(".word").all_inner_texts()
        assert words == [word.text for word in attribution.region(box)]
    pages.picture(page, "viewer-several", full=True)


def test_without_scripts_it_says_so(pages, attribution) -> None:
    page = pages.show(attribution.to_html(), java_script_enabled=False)
    # Not at once: a script that is about to run removes the line first.
    page.get_by_text("switch scripts on").wait_for(state="visible", timeout=30_000)
    assert "switch scripts on" in page.locator("body").inner_text()


def test_what_is_saved_is_python_s(page, attribution) -> None:
    _drag(page, (40.5, 30.5), (150.5, 120.5))
    box = _drawn_box(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Table").click()
    lines = download.value.path().read_text(encoding="utf-8").splitlines()
    assert lines[0] == "rank,word,lift,score,share"
    assert [line.split(",")[1] for line in lines[1:]] == [
        word.text for word in attribution.region(box)
    ]
