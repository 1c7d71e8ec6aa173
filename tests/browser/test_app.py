"""The app in a real browser: open, point, paint, and nothing leaves the machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from diffusers_rdaam import Attribution
from diffusers_rdaam.app.panels.run_status import RunStatus
from diffusers_rdaam.app.runs import Denoiser
from diffusers_rdaam.app.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
HOSTILE = "</script><img src=x onerror=console.error(1)> a ${1} {{2}} cat"
TINY = Path(__file__).parents[1] / "data" / "tiny_sd"


@pytest.fixture
def folder(tmp_path: Path, make_attribution: Callable[..., Attribution]) -> Path:
    found = tmp_path / "saved"
    found.mkdir()
    make_attribution("a red cat on a mat").save(found / "cat.safetensors")
    make_attribution(HOSTILE, seed=1).save(found / "hostile.safetensors")
    return found


def _load() -> Any:
    from diffusers_rdaam import StableDiffusionRDAAMPipeline

    return StableDiffusionRDAAMPipeline.from_pretrained(TINY, safety_checker=None)


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    from diffusers_rdaam.app.requests import Pipelines

    started = Server([Denoiser("tiny", _load, wrap=Pipelines)], folder, port=0)
    started.start()
    yield started
    started.close()


def _open(page: Any, name: str) -> Any:
    """Open a file of the list, and wait for its viewer; returns the viewer's frame."""
    _turn_to(page, "Files")
    page.get_by_label("Files of saved").click()
    page.get_by_role("option", name=name).click()
    return _shown_viewer(page)


def _shown_viewer(page: Any) -> Any:
    """The viewer's frame, once it answers."""
    page.wait_for_selector("#rdaam-frame iframe:not([hidden])", timeout=60_000)
    frame = page.frame_locator("#rdaam-frame iframe")
    # A browser draws nothing in a frame that is out of sight.
    page.locator("#rdaam-frame iframe").scroll_into_view_if_needed()
    frame.locator("button:visible").first.wait_for(timeout=60_000)
    found = next(one for one in page.frames if one is not page.main_frame)
    found.wait_for_function("window.rdaam && window.rdaam.viewers.length > 0", timeout=60_000)
    return found


def _turn_to(page: Any, tab: str) -> None:
    """Choose a tab, by the keyboard.

    A click that follows its own scrolling at once may land in the viewer's frame, which Chromium
    has in a process of its own and takes to be where it was: it unselects what is drawn there.
    """
    chosen = page.get_by_role("tab", name=tab, exact=True)
    chosen.press("Enter")
    page.get_by_role("tab", name=tab, exact=True, selected=True).wait_for(timeout=20_000)


def test_a_box_in_the_viewer_is_a_bar_chart_below_it(
    server: Server, folder: Path, pages: Any
) -> None:
    page = pages.open(server.url, height=1400)
    viewer = _open(page, "cat.safetensors")
    viewer.evaluate("window.rdaam.viewers[0].selectBox([10, 10, 50, 40])")
    page.get_by_text("words ranked by lift").wait_for(timeout=60_000)
    found = Attribution.load(folder / "cat.safetensors").region((10, 10, 50, 40))
    shown = page.locator(".rdaam-chart tbody th").all_inner_texts()
    assert shown == [word.text for word in found]
    cells = page.locator(".rdaam-chart tbody tr").first.locator("td").all_inner_texts()
    assert cells[:2] == [f"{found[0].lift:.2f}", f"{found[0].score:.4f}"]
    pages.picture(page, "app", full=True)


def test_a_painted_region_is_a_bar_chart(server: Server, pages: Any) -> None:
    page = pages.open(server.url, height=1400)
    _open(page, "cat.safetensors")
    _turn_to(page, "Paint")
    canvas = page.locator(".rdaam-painter canvas:visible").last
    canvas.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    page.locator(".rdaam-chart:visible").wait_for(timeout=60_000)
    assert page.locator(".rdaam-chart:visible tbody tr").count() == 5
    pages.picture(page, "app-painted", full=True)


def test_a_hostile_prompt_runs_nothing(server: Server, pages: Any) -> None:
    page = pages.open(server.url)
    _open(page, "hostile.safetensors")
    _turn_to(page, "Words")
    page.get_by_role("button", name="Draw every word's map").press("Enter")
    page.locator(".rdaam-gallery figure").first.wait_for(timeout=60_000)
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone(server: Server, pages: Any, scheme: str) -> None:
    page = pages.open(server.url, width=390, height=844, color_scheme=scheme, has_touch=True)
    _open(page, "cat.safetensors")
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) <= 0
    pages.picture(page, f"app-phone-{scheme}", full=True)


def test_words_of_the_chart_are_not_cut_on_a_phone(server: Server, pages: Any) -> None:
    page = pages.open(server.url, width=390, height=844)
    viewer = _open(page, "cat.safetensors")
    viewer.evaluate("window.rdaam.viewers[0].selectBox([10, 10, 50, 40])")
    page.get_by_text("words ranked by lift").wait_for(timeout=60_000)
    heights = "all => all.map((one) => one.getBoundingClientRect().height)"
    found = page.locator(".rdaam-chart tbody th").evaluate_all(heights)
    # One line of text each.
    assert found and max(found) < 40, found
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) <= 0


@pytest.mark.parametrize(
    ("label", "value", "text"),
    [("Seed", "-1", "The seed is a whole number from 0"), ("Images", "-1", "from 1 to 16; got -1")],
)
def test_a_wrong_number_is_named_by_its_field(
    server: Server, pages: Any, label: str, value: str, text: str
) -> None:
    page = pages.open(server.url)
    page.locator("#rdaam-prompt textarea").fill("a cat")
    page.get_by_label(label, exact=True).fill(value)
    page.get_by_role("button", name="Generate", exact=True).click()
    page.locator("#rdaam-status").get_by_text(text).wait_for(timeout=60_000)


def test_generating_shows_live_attention_and_then_the_viewer(server: Server, pages: Any) -> None:
    page = pages.open(server.url, height=1400)
    page.locator("#rdaam-prompt textarea").fill("a cat in a hat")
    for label, value in (("Steps", "40"), ("Width", "64"), ("Height", "64")):
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_role("button", name="Generate", exact=True).click()
    page.locator("#rdaam-live img").first.wait_for(timeout=120_000)
    page.locator("#rdaam-status").get_by_text("Done: 1 image").wait_for(timeout=120_000)
    page.wait_for_selector("#rdaam-frame iframe:not([hidden])", timeout=60_000)
    _turn_to(page, "History")
    page.locator("#rdaam-history button").first.wait_for(timeout=20_000)
    assert page.locator("#rdaam-history button").count() == 1


@pytest.fixture
def late_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs whose event ends long after its last update, as on a busy machine."""
    follow = RunStatus.follow

    async def slowly(self: RunStatus, *of_run: Any) -> AsyncIterator[Any]:
        async for update in follow(self, *of_run):
            yield update
        await asyncio.sleep(_LATE)

    monkeypatch.setattr(RunStatus, "follow", slowly)


# Seconds.
_LATE = 20


def _generate(page: Any, *, steps: str = "2", seed: str = "3") -> None:
    page.locator("#rdaam-prompt textarea").fill("a cat in a hat")
    fields = {"Steps": steps, "Width": "64", "Height": "64", "Seed": seed}
    for label, value in fields.items():
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_role("button", name="Generate", exact=True).click()


def test_what_is_drawn_before_the_event_of_a_run_ends_stays(
    late_ends: None, server: Server, pages: Any
) -> None:
    page = pages.open(server.url, height=1400)
    _generate(page)
    page.locator("#rdaam-status").get_by_text("Done: 1 image").wait_for(timeout=120_000)
    viewer = _shown_viewer(page)
    viewer.evaluate("window.rdaam.viewers[0].selectBox([10, 10, 50, 40])")
    page.get_by_text("words ranked by lift").wait_for(timeout=60_000)
    _turn_to(page, "Paint")
    canvas = page.locator(".rdaam-painter canvas:visible").last
    canvas.focus()
    page.keyboard.press("Space")
    page.locator(".rdaam-chart:visible").wait_for(timeout=60_000)
    page.wait_for_timeout(1000 * _LATE)
    assert page.locator(".rdaam-chart").count() == 2, "one of the box, one of the paint"
    assert page.locator(".rdaam-chart:visible").count() == 1
    assert "10, 10, 50, 40" in viewer.locator("h2").inner_text()


def test_paint_has_the_picture_after_an_event_that_left_it_alone(
    server: Server, pages: Any
) -> None:
    page = pages.open(server.url, height=1400)
    _open(page, "cat.safetensors")
    _turn_to(page, "Generate")
    _generate(page, seed="-1")
    page.locator("#rdaam-status").get_by_text("The seed is").wait_for(timeout=60_000)
    _turn_to(page, "Paint")
    page.locator(".rdaam-painter canvas:visible").wait_for(timeout=20_000)
