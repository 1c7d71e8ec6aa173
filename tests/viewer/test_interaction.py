"""The page in hands: pointer, touch, keyboard, a frame around it, and whose prompt it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from diffusers_rdaam import VideoAttribution, viewer_page

pytestmark = pytest.mark.browser
HOSTILE = (
    "</script><script>window.hacked=1</script> <img src=x onerror=window.hacked=1> a \"cat\" 'on' "
    "a\u2028mat \u202edog\u202c 🙂 {{1}} =cmd &lt;b&gt; \ud800"
)
# Of the messages that the page sends to the one around it.
FRAME = """<!doctype html><meta charset=utf-8><title>around</title>
<iframe id=frame src=inner.html width=700 height=500></iframe>
<script>
window.heard = [];
addEventListener("message", ({data}) => heard.push(data));
</script>"""


def drag(page, start: tuple[float, float], stop: tuple[float, float], *, size=(64, 96)) -> None:
    """Press, move and release, in pixels of the image."""
    shown = page.locator(".content").first.bounding_box()
    height, width = size

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            shown["x"] + x * shown["width"] / width,
            shown["y"] + y * shown["height"] / height,
        )

    page.mouse.move(*place(*start))
    page.mouse.down()
    page.mouse.move(*place((start[0] + stop[0]) / 2, stop[1]), steps=3)
    page.mouse.move(*place(*stop), steps=3)
    page.mouse.up()


def heading(page) -> str:
    return page.locator("h2").first.inner_text()


def first_word(page) -> str:
    return page.locator("table.words tbody .word").first.inner_text()


def focused(page) -> str:
    return page.evaluate("document.activeElement.textContent || document.activeElement.tagName")


def test_a_box_is_dragged(pages, make_attribution) -> None:
    attribution = make_attribution("a red cat")
    page = pages.show(attribution.to_html())
    assert heading(page) == "Words in the whole image"
    assert page.locator(".hint").is_visible()
    drag(page, (10.5, 5.5), (49.5, 39.5))
    assert heading(page).startswith("Words in box (10, 5, 50, 40), 22.8 % of the image")
    assert not page.locator(".hint").is_visible()
    wanted = attribution.region((10, 5, 50, 40))
    assert first_word(page) == wanted[0].text
    row = page.locator("table.words tbody tr").first.locator("td").all_inner_texts()
    best = wanted[0]
    assert row == ["1", f"{best.lift:.2f}", f"{best.score:.4f}", f"{best.share * 100:.1f} %"]
    # From the lower right to beyond the upper left corner.
    drag(page, (30.5, 20.5), (-40, -30))
    assert heading(page).startswith("Words in box (0, 0, 31, 21)")
    page.get_by_role("button", name="Clear").click()
    assert heading(page) == "Words in the whole image"


def test_a_word_is_chosen(pages, make_attribution) -> None:
    attribution = make_attribution("a cat and a cat")
    page = pages.show(attribution.to_html())
    chips = page.locator(".chip")
    page.evaluate("rdaam.viewers[0].chooseWord(null)")
    chips.nth(2).click()
    pressed = [chip.get_attribute("aria-pressed") for chip in chips.all()]
    assert pressed == ["false", "false", "true", "false", "false"]
    values = attribution[2].normalized
    y, x = divmod(int(values.argmax()), 96)
    colour = page.evaluate(
        "([x, y]) => [...document.querySelector('.overlay').getContext('2d')"
        ".getImageData(x, y, 1, 1).data]",
        [x, y],
    )
    # The last colour of viridis, at the opacity of the overlay.
    assert colour[:3] == pytest.approx([253, 231, 36], abs=2) and colour[3] == 204
    # A phrase, and then a row: all occurrences of a word.
    chips.nth(3).click(modifiers=["Shift"])
    assert page.locator(".what").inner_text() == "and a attention probability"
    page.locator("table.words tbody .word", has_text="cat").click()
    pressed = [chip.get_attribute("aria-pressed") for chip in chips.all()]
    assert pressed == ["false", "true", "false", "false", "true"]
    chips.nth(1).click()
    chips.nth(1).click()
    assert page.locator(".what").inner_text() == "Choose a word to see where it is."
    assert page.evaluate("document.querySelector('.overlay').hidden")


def test_polygon_lasso_and_brush(pages, make_attribution) -> None:
    attribution = make_attribution("a red cat")
    page = pages.show(attribution.to_html())
    page.get_by_role("button", name="Polygon").click()
    shown = page.locator(".content").bounding_box()
    scale = shown["width"] / 96
    for x, y in ((10, 10), (60, 12), (40, 50)):
        page.mouse.click(shown["x"] + x * scale, shown["y"] + y * scale)
    page.mouse.dblclick(shown["x"] + 40 * scale, shown["y"] + 50 * scale)
    assert heading(page).startswith("Words in a polygon")
    python = page.evaluate("rdaam.viewers[0].python()")
    words = eval(python, {"attribution": attribution})
    assert words.region.points == ((10.0, 10.0), (60.0, 12.0), (40.0, 50.0))
    drag(page, (20, 20), (60, 50))
    lasso = eval(page.evaluate("rdaam.viewers[0].python()"), {"attribution": attribution})
    assert len(lasso.region.points) > 3
    page.get_by_role("button", name="Brush").click()
    drag(page, (30, 30), (50, 32))
    assert heading(page).startswith("Words in the painted region")
    painted = eval(page.evaluate("rdaam.viewers[0].python()"), {"attribution": attribution})
    assert painted.region.weights[31, 45] == 1.0 and painted.region.weights[60, 5] == 0.0
    assert first_word(page) == painted[0].text
    page.get_by_label("Erase").check()
    drag(page, (0, 30), (96, 30))
    drag(page, (0, 34), (96, 34))
    assert heading(page) == "Words in the whole image"


def test_by_keyboard_alone(pages, make_attribution) -> None:
    attribution = make_attribution("a red cat")
    page = pages.show(attribution.to_html())
    page.keyboard.press("Tab")
    assert focused(page) in ("a", "red", "cat")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert focused(page) == "red"
    page.keyboard.press("Enter")
    assert page.locator(".what").inner_text() == "red attention probability"
    page.keyboard.press("Tab")
    assert focused(page) == "Box"
    for _ in range(20):
        if page.evaluate("document.activeElement.classList.contains('content')"):
            break
        page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("ArrowRight")
    assert heading(page).startswith("Words in box (24, 16, 72, 48)")
    page.keyboard.press("Alt+ArrowLeft")
    page.keyboard.press("Shift+ArrowDown")
    assert heading(page).startswith("Words in box (23, 16, 71, 51)")
    said = page.locator("[role=status]").inner_text()
    assert said.startswith("Words in box (23, 16, 71, 51)") and "lift: " in said
    page.keyboard.press("Escape")
    assert heading(page) == "Words in the whole image"
    page.keyboard.press("+")
    assert page.locator(".zoom output").inner_text() == "150 %"
    page.keyboard.press("0")
    # A polygon by its corners.
    page.get_by_role("button", name="Polygon").focus()
    page.keyboard.press("Enter")
    page.locator(".content").focus()
    for key in ("Space", "ArrowRight", "ArrowRight", "Space", "ArrowDown", "ArrowDown", "Space"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    assert heading(page).startswith("Words in a polygon")


def test_every_control_has_a_name(pages, full_attribution) -> None:
    page = pages.show(full_attribution().to_html())
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    for control in page.locator("button, input, select, [tabindex='0']").all():
        name = control.evaluate(
            "one => one.ariaLabel || one.textContent.trim() || one.labels?.[0]?.textContent || ''"
        )
        assert name, control.evaluate("one => one.outerHTML")
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.locator("table caption").count() == page.locator("table").count()


def test_steps_maps_points_and_masks(pages, full_attribution) -> None:
    attribution = full_attribution()
    page = pages.show(attribution.to_html())
    pixels = (
        "[...document.querySelector('.overlay').getContext('2d').getImageData(9, 9, 9, 9).data]"
    )
    page.locator(".chip", has_text="cat").click()
    whole = page.evaluate(pixels)
    step = page.get_by_label("Step", exact=True)
    step.fill("2")
    assert page.locator(".times output").inner_text() == "step 3, timestep 500"
    assert page.evaluate(pixels) != whole
    step.fill("0")
    assert page.evaluate(pixels) == whole
    page.locator("summary", has_text="More").click()
    page.get_by_label("Maps").select_option(label="refined by self-attention (product)")
    assert page.evaluate(pixels) != whole
    page.get_by_label("Maps").select_option("0")
    page.get_by_label("Mask").check()
    page.wait_for_function("document.querySelectorAll('svg .dashes').length === 1")
    page.get_by_label("Mask").uncheck()
    page.get_by_label("Colours").select_option("cividis")
    page.wait_for_timeout(60)
    assert page.evaluate(pixels) != whole
    page.get_by_role("button", name="Point").click()
    page.locator(".content").hover(position={"x": 50, "y": 50})
    page.wait_for_timeout(60)
    assert page.locator(".what").inner_text().startswith("What attends to the point (")
    page.get_by_role("button", name="Box", exact=True).click()
    page.wait_for_timeout(60)
    assert page.locator(".what").inner_text() == "cat attention probability"


def test_files_are_saved(pages, make_attribution, tmp_path: Path) -> None:
    from PIL import Image

    attribution = make_attribution("a red cat")
    page = pages.show(attribution.to_html())
    assert page.get_by_role("button", name="Region mask").is_disabled()
    page.evaluate("rdaam.viewers[0].selectBox([10, 5, 50, 40])")
    saved = {}
    for name in ("Region mask", "Word mask", "Table", "COCO"):
        with page.expect_download() as download:
            page.get_by_role("button", name=name, exact=True).click()
        saved[name] = download.value
        download.value.save_as(tmp_path / name)
    names = [one.suggested_filename for one in saved.values()]
    assert names == [
        "a-red-cat-region.png",
        "a-red-cat-word.png",
        "a-red-cat.csv",
        "a-red-cat.coco.json",
    ]
    with Image.open(tmp_path / "Region mask") as mask:
        assert mask.size == (96, 64) and mask.convert("L").getbbox() == (10, 5, 50, 40)
    assert (tmp_path / "Table").read_text().startswith("rank,word,lift,score,share\n1,")


def test_a_hostile_prompt_is_text(pages, make_attribution) -> None:
    attribution = make_attribution(HOSTILE)
    page = pages.show(attribution.to_html(), accept_downloads=True)
    assert page.evaluate("window.hacked") is None
    shown = page.evaluate("document.querySelector('.text').textContent")
    assert shown == HOSTILE.replace("\ud800", "\ud800") or shown[:60] == HOSTILE[:60]
    assert page.evaluate("document.querySelectorAll('main img').length") == 1
    page.evaluate("rdaam.viewers[0].selectBox([9, 5, 58, 40])")
    assert not any(
        row.split(",")[1][:1] in "=+-@"
        for row in page.evaluate("rdaam.viewers[0].csv()").split("\r\n")[:-1]
    )
    # The policy stops what has come into the page another way.
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<b onclick=\"hacked=1\">x</b>')")
    assert page.evaluate("window.hacked") is None
    pages.problems[:] = [one for one in pages.problems if "Content Security Policy" not in one]


def test_in_a_frame(pages, make_attribution, tmp_path: Path) -> None:
    attribution = make_attribution("a red cat")
    (tmp_path / "inner.html").write_text(attribution.to_html(embedded=True), encoding="utf-8")
    page = pages.show(FRAME, "around.html")
    page.wait_for_function("heard.some((one) => one.rdaam === 'size' && one.height > 300)")
    assert page.evaluate("heard.every((one) => one.rdaam === 'size')")
    send = "message => document.getElementById('frame').contentWindow.postMessage(message, '*')"
    page.evaluate(send, {"rdaam": "select", "attribution": 0, "box": [10, 5, 50, 40]})
    page.wait_for_function("heard.some((one) => one.rdaam === 'selection')")
    told = page.evaluate("heard.find((one) => one.rdaam === 'selection')")
    assert told["attribution"] == 0 and told["box"] == [10, 5, 50, 40] and told["polygon"] is None
    wanted = attribution.region((10, 5, 50, 40))
    assert [word[0] for word in told["words"]] == [word.text for word in wanted]
    assert told["words"][0][1] == pytest.approx(wanted[0].lift, rel=1e-3)
    page.evaluate(send, {"rdaam": "choose-word", "attribution": 0, "word": 1})
    page.wait_for_function("heard.some((one) => one.rdaam === 'word' && one.word === 1)")
    before = page.evaluate("heard.length")
    for wrong in (
        {"rdaam": "select", "attribution": 7, "box": [0, 0, 9, 9]},
        {"rdaam": "select", "attribution": 0, "box": ["a", None, 1]},
        {"rdaam": "select", "attribution": "constructor", "box": [0, 0, 9, 9]},
        "select",
        None,
    ):
        page.evaluate(send, wrong)
    page.wait_for_timeout(100)
    assert page.evaluate("heard.length") == before


@pytest.mark.values
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_it_fits(pages, full_attribution, width: int, scheme: str) -> None:
    attribution = full_attribution("a " + "very " * 12 + "long_word_without_any_space_in_it cat")
    page = pages.show(
        attribution.to_html(), width=width, color_scheme=scheme, has_touch=width < 500
    )
    page.evaluate("rdaam.viewers[0].selectBox([10, 5, 50, 40])")
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    wide = page.evaluate(
        "w => [...document.querySelectorAll('*')].filter((one) =>"
        " one.getBoundingClientRect().right > w + 1).map((one) => one.className || one.tagName)",
        width,
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width, wide
    pages.picture(page, f"viewer-{width}-{scheme}", full=True)


def test_a_finger_draws(pages, make_attribution) -> None:
    page = pages.show(
        make_attribution("a red cat").to_html(), width=390, has_touch=True, is_mobile=True
    )
    page.locator(".content").scroll_into_view_if_needed()
    shown = page.locator(".content").bounding_box()
    client = page.context.new_cdp_session(page)
    points = [(0.2, 0.2), (0.4, 0.4), (0.7, 0.6)]
    for kind, (x, y) in zip(("touchStart", "touchMove", "touchMove"), points, strict=True):
        at = {"x": shown["x"] + x * shown["width"], "y": shown["y"] + y * shown["height"]}
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [at]})
    client.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_timeout(80)
    assert heading(page).startswith("Words in box (19, 12, 68, 39)")


def test_a_video_and_maps_without_an_image(pages, make_attribution) -> None:
    frames = [make_attribution("a red cat", seed=seed, image=seed > 0) for seed in range(2)]
    video = VideoAttribution.of_frames([frames[1], frames[1]])
    page = pages.show(viewer_page([video, frames[0]]))
    page.get_by_label("Frame").fill("1")
    page.evaluate("rdaam.viewers[0].selectBox([10, 5, 50, 40])")
    assert first_word(page) == frames[1].region((10, 5, 50, 40))[0].text
    # Where there is no image the map is opaque.
    page.evaluate("rdaam.viewers[1].chooseWord(2)")
    alpha = page.evaluate(
        "document.querySelectorAll('.overlay')[1].getContext('2d').getImageData(0, 0, 1, 1).data[3]"
    )
    assert alpha == 255


def test_it_opens_at_once(pages, make_attribution) -> None:
    """A page of Stable Diffusion's size, from the file to the first map: within a second."""
    grids = ((64, 64), (32, 32), (16, 16), (8, 8))
    text = " ".join(f"w{i}" for i in range(73))
    page = pages.show(make_attribution(text, size=(512, 512), grids=grids).to_html())
    if os.getloadavg()[0] > 1.5 * (os.cpu_count() or 1):
        pytest.skip("The machine is busy with other work, so that a time says nothing.")
    times = []
    for _ in range(3):
        page.reload()
        times.append(
            page.evaluate("performance.timing.loadEventStart - performance.timing.navigationStart")
        )
    assert min(times) <= 1000, times


def test_a_damaged_page_says_so(pages, make_attribution) -> None:
    page_text = make_attribution("a red cat").to_html()
    start = page_text.index('"data":"') + 40
    damaged = page_text[:start] + "AAAA" * 30 + page_text[start + 120 :]
    page = pages.show(damaged, ignored="damaged|script")
    assert "This page cannot be shown" in page.inner_text("[role=alert]")


@pytest.mark.every(2)
@pytest.mark.parametrize("end", ["note", "styles", "data", "script", "no scripts", "whole"])
def test_a_page_that_cannot_show_its_maps_says_so(pages, make_attribution, end: str) -> None:
    html = make_attribution("a red cat").to_html()
    styles, data = html.index("<style>"), html.index('id="rdaam-data"')
    ends = {
        "note": styles,
        "styles": (styles + html.index("</style>")) // 2,
        "data": data + 2000,
        "script": (html.index("<script>", data) + len(html)) // 2,
    }
    # The policy has the hash of the whole styles, and refuses a part of them.
    ignored = "Content Security Policy" if end == "styles" else None
    page = pages.show(
        html[: ends.get(end)], java_script_enabled=end != "no scripts", ignored=ignored
    )
    note = page.get_by_text("This page is incomplete or its script did not run")
    if end == "whole":
        page.wait_for_timeout(1800)
        assert note.count() == 0 and heading(page) == "Words in the whole image"
        return
    note.wait_for(timeout=20_000)
    pages.picture(page, f"viewer-without-{end.replace(' ', '-')}")
