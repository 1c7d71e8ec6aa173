"""A notebook that was run by a kernel: its cells in a browser, its widget with a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import diffusers_rdaam as rdaam

pytestmark = pytest.mark.browser

CELLS = (
    "import diffusers_rdaam as rdaam\nattribution = rdaam.Attribution.load(PATH)\nattribution",
    "attribution.explore(widget=False)",
    "viewer = attribution.explore()\nseen = []\n"
    "viewer.observe(lambda change: seen.append(change.new), 'box')\nviewer",
    "viewer.box = (8, 8, 40, 40)\nprint(seen, viewer.words[0].word, viewer.region)",
    "attribution['cat']",
)
# The page of a notebook's site, as far as its outputs go.
SITE = "<!doctype html><meta charset=utf-8><title>a notebook</title><body style='{}'>{}"
# A widget's page, with a model that is as anywidget's.
MODEL = """
class Model {
  constructor(state) { this.state = state; this.saved = []; this.listeners = new Set(); }
  get(name) { return this.state[name]; }
  set(name, value) {
    this.state[name] = value;
    this.changed = true;
  }
  save_changes() {
    if (!this.changed) return;
    this.changed = false;
    this.saved.push(JSON.parse(JSON.stringify(this.state._state)));
    this.tell();
  }
  on(name, listener) { this.listeners.add(listener); }
  off(name, listener) { this.listeners.delete(listener); }
  tell() { for (const listener of [...this.listeners]) listener(); }
  // What the kernel sends.
  receive(state) { this.state._state = state; this.tell(); }
}
"""


@pytest.fixture(scope="module")
def attribution(make_attribution) -> rdaam.Attribution:
    return make_attribution(size=(192, 288))


@pytest.fixture(scope="module")
def notebook(attribution, tmp_path_factory) -> Any:
    """What a kernel of Jupyter made of the cells."""
    nbclient = pytest.importorskip("nbclient", reason="notebooks are run by nbclient")
    nbformat = pytest.importorskip("nbformat", reason="notebooks are read by nbformat")
    path = attribution.save(tmp_path_factory.mktemp("notebook") / "cat.safetensors")
    cells = [nbformat.v4.new_code_cell(cell.replace("PATH", repr(str(path)))) for cell in CELLS]
    written = nbformat.v4.new_notebook(cells=cells)
    root = Path(__file__).parents[2]
    client = nbclient.NotebookClient(written, timeout=300, kernel_name="python3")
    return client.execute(cwd=str(root))


def _output(notebook: Any, cell: int) -> Any:
    (output,) = [one for one in notebook.cells[cell].outputs if "data" in one]
    return output.data


def _site(notebook: Any, cell: int, style: str = "background:#fff") -> str:
    return SITE.format(style, _output(notebook, cell)["text/html"])


def _frame(page: Any) -> Any:
    """The document in the only frame, once its viewer is there."""
    page.locator("iframe").wait_for(state="visible")
    (frame,) = [one for one in page.frames if one != page.main_frame]
    frame.wait_for_function("() => window.rdaam")
    return frame


def _drag(page: Any, frame: Any, start: tuple[int, int], stop: tuple[int, int]) -> None:
    content = frame.locator(".content")
    content.scroll_into_view_if_needed()
    box = content.bounding_box()
    places = [
        (box["x"] + x / 288 * box["width"], box["y"] + y / 192 * box["height"])
        for x, y in (start, stop)
    ]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=3)
    page.mouse.up()


def _box(text: str) -> tuple[int, ...]:
    return tuple(int(edge) for edge in text.split("(")[1].split(")")[0].split(", "))


def test_the_last_line_is_a_viewer(pages, notebook, attribution) -> None:
    page = pages.show(_site(notebook, 0), width=1000)
    frame = _frame(page)
    assert not page.locator("figure").is_visible(), "the still picture made room"
    _drag(page, frame, (40, 30), (150, 120))
    box = _box(frame.locator("h2").inner_text())
    words = frame.locator("table.words .word").all_inner_texts()
    assert words == [word.text for word in attribution.region(box)]
    pages.picture(page, "notebook-last-line")


def test_where_no_script_runs_there_is_the_still_picture(pages, notebook) -> None:
    page = pages.show(_site(notebook, 0), java_script_enabled=False)
    assert page.locator("figure img").is_visible()
    assert not page.locator("iframe").is_visible()
    pages.picture(page, "notebook-without-scripts")


def test_explore_is_as_high_as_its_page(pages, notebook) -> None:
    page = pages.show(_site(notebook, 1), width=1000)
    frame = _frame(page)
    for opened in (False, True):
        if opened:
            frame.get_by_text("About this run").click()
        page.wait_for_timeout(300)
        height = page.locator("iframe").bounding_box()["height"]
        inner, needed = frame.evaluate("() => [innerHeight, document.documentElement.scrollHeight]")
        assert needed <= inner == round(height), "nothing scrolls in the frame"
    page.set_viewport_size({"width": 420, "height": 800})
    page.wait_for_timeout(300)
    assert page.locator("iframe").bounding_box()["height"] > height
    assert frame.evaluate("() => document.documentElement.scrollHeight <= innerHeight")
    pages.picture(page, "notebook-explore-narrow", full=True)


@pytest.mark.values
@pytest.mark.parametrize(("style", "dark"), [("background:#fff", False), ("background:#111", True)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_frame_has_the_theme_of_the_notebook(
    pages, notebook, style: str, dark: bool, scheme: str
) -> None:
    page = pages.show(_site(notebook, 0, style), color_scheme=scheme)
    frame = _frame(page)
    page.wait_for_timeout(200)
    ground = frame.evaluate(
        "() => getComputedStyle(document.querySelector('.viewer')).backgroundColor"
    )
    assert (int(ground[4:-1].split(",")[0]) < 80) == dark
    if dark:
        pages.picture(page, "notebook-dark")


def test_the_frame_reaches_nothing_around_it(pages, notebook) -> None:
    page = pages.show(_site(notebook, 0))
    frame = _frame(page)
    assert frame.evaluate("() => window.origin") == "null"
    read = "() => { try { return parent.document.title; } catch { return 'refused'; } }"
    assert frame.evaluate(read) == "refused"


def test_selections_came_back_to_the_kernel(notebook, attribution) -> None:
    (printed,) = notebook.cells[3].outputs
    word = attribution.region((8, 8, 40, 40))[0].text
    assert printed.text == f"[(8, 8, 40, 40)] {word} (8, 8, 40, 40)\n"


def test_the_widget_is_shown_with_a_still_for_elsewhere(notebook) -> None:
    data = _output(notebook, 2)
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"]
    assert "<img" in data["text/html"] and "<iframe" not in data["text/html"]
    assert "<iframe" not in _output(notebook, 4)["text/html"], "a heat map stays a picture"


def _state(notebook: Any) -> dict[str, Any]:
    """The widget's state as the kernel sent it to the page."""
    models = notebook.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    (state,) = [one["state"] for one in models.values() if "_page" in one["state"]]
    return dict(state)


def _widget_page(pages: Any, state: dict[str, Any], views: int = 1) -> Any:
    page = pages.show(SITE.format("background:#fff", "<div></div>" * views), width=1000)
    page.evaluate(
        """async ([model, state]) => {
          window.model = new (eval(`(${model.trim()})`))(state);
          const module = await import(
            URL.createObjectURL(new Blob([state._esm], {type: "text/javascript"})));
          window.ends = [...document.querySelectorAll("div")].map(
            (el) => module.default.render({model: window.model, el}));
        }""",
        [MODEL, state],
    )
    for element in page.locator("iframe").element_handles():
        element.content_frame().wait_for_function("() => window.rdaam")
    return page


def test_the_widget_tells_what_is_selected(pages, notebook, attribution) -> None:
    state = _state(notebook)
    state["_state"] = {}
    page = _widget_page(pages, state)
    frame = _frame(page)
    _drag(page, frame, (40, 30), (150, 120))
    page.wait_for_function("() => model.saved.length")
    saved = page.evaluate("() => model.saved.at(-1)")
    box = _box(frame.locator("h2").inner_text())
    assert tuple(saved["box"]) == box and saved["polygon"] is None
    wanted = attribution.region(box)
    assert [word for word, _, _ in saved["words"]] == [word.text for word in wanted]
    assert [score for _, _, score in saved["words"]] == pytest.approx(
        [word.score for word in wanted], rel=1e-3
    )
    frame.locator(".chip", has_text="cat").click()
    page.wait_for_function("() => model.saved.at(-1).text === 'cat'")
    # A message of the page, as it reaches the kernel.
    viewer: Any = attribution.explore()
    update = {"method": "update", "buffer_paths": []}
    for saved in page.evaluate("() => model.saved"):
        data = {**update, "state": {"_state": saved}}
        viewer._handle_msg({"content": {"data": data}, "buffers": []})
    assert viewer.box == box and viewer.word == "cat"
    assert viewer.words[0].word == wanted[0].text
    pages.picture(page, "notebook-widget")


def test_the_widget_shows_what_python_sets(pages, attribution) -> None:
    viewer: Any = attribution.explore()
    viewer.word = "cat"
    viewer.box = (8, 8, 40, 40)
    # Set before it was shown, and after.
    page = _widget_page(pages, viewer.get_state())
    frame = _frame(page)
    frame.wait_for_function("() => document.querySelector('h2').textContent.includes('(8, 8, 40')")
    assert frame.locator(".chip[aria-pressed=true]").all_inner_texts() == ["cat"]
    viewer.polygon = [(10, 5), (200, 20), (30, 150)]
    viewer.word = "mat"
    page.evaluate("state => model.receive(state)", json.loads(json.dumps(viewer._state)))
    frame.wait_for_function("() => document.querySelector('h2').textContent.includes('polygon')")
    frame.wait_for_function("() => document.querySelector('.what').textContent.includes('mat')")
    words = frame.locator("table.words .word").all_inner_texts()
    assert words == [word.word for word in viewer.words]


def test_two_views_show_the_same_and_come_to_rest(pages, attribution) -> None:
    viewer: Any = attribution.explore()
    page = _widget_page(pages, viewer.get_state(), views=2)
    first, second = [one for one in page.frames if one != page.main_frame]
    _drag(page, first, (40, 30), (150, 120))
    box = _box(first.locator("h2").inner_text())
    second.wait_for_function(
        "text => document.querySelector('h2').textContent === text",
        arg=first.locator("h2").inner_text(),
    )
    page.wait_for_timeout(300)
    count = page.evaluate("() => model.saved.length")
    page.wait_for_timeout(300)
    assert page.evaluate("() => model.saved.length") == count <= 3
    assert tuple(page.evaluate("() => model.saved.at(-1).box")) == box
    # A view that is gone listens to nothing.
    page.evaluate("() => ends.forEach((end) => end())")
    assert page.evaluate("() => model.listeners.size") == 0
