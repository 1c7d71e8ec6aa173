"""explore(): a frame without anywidget, and a widget whose selections come back with it."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import diffusers_rdaam as rdaam
from diffusers_rdaam.notebook.explore import SELECTION, NotebookViewer
from diffusers_rdaam.notebook.widget import SelectedWord, ViewerWidget
from diffusers_rdaam.viewer.page import viewer_page

BOX = (8, 8, 40, 40)
SHAPE = ((10.0, 5.0), (60.0, 20.0), (30.0, 50.0))


@pytest.fixture
def attribution(make_attribution) -> rdaam.Attribution:
    return make_attribution()


@pytest.fixture
def viewer(attribution) -> Any:
    return attribution.explore()


def _page_says(viewer: ViewerWidget, **state: Any) -> None:
    """What arrives when a view of the widget has saved its changes."""
    data = {"method": "update", "state": {"_state": {"by": "view 1", **state}}, "buffer_paths": []}
    viewer._handle_msg({"content": {"data": data}, "buffers": []})


def _words(words: rdaam.RegionWords) -> tuple[SelectedWord, ...]:
    return tuple(SelectedWord(word.text, word.lift, word.score) for word in words)


# ---- without anywidget


def test_a_frame_is_html(attribution) -> None:
    shown = attribution.explore(widget=False)
    bundle = shown._repr_mimebundle_()
    assert bundle["text/plain"] == repr(shown)
    assert repr(shown).startswith("NotebookViewer('Viewer: a cat with blue eyes, on a red mat', 0.")
    assert "<iframe" in bundle["text/html"]
    # As high as the page; the last line of a cell is not.
    assert "px;max-height" not in bundle["text/html"].split("srcdoc=")[0]


def test_without_anywidget_it_is_a_frame(attribution, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    shown = attribution.explore()
    assert "<iframe" in shown._repr_mimebundle_()["text/html"]
    for name in SELECTION:
        said = rf'^viewer\.{name} needs anywidget.*: pip install "diffusers_rdaam\[notebook\]"$'
        with pytest.raises(rdaam.NotebookExtraError, match=said):
            getattr(shown, name)
    with pytest.raises(rdaam.NotebookExtraError, match=r'"diffusers_rdaam\[notebook\]"$'):
        attribution.explore(widget=True)
    with pytest.raises(ImportError):
        _ = shown.box


def test_a_frame_says_why_it_has_no_selection(attribution) -> None:
    shown = attribution.explore(widget=False)
    # anywidget is installed here: that it should be would be wrong.
    with pytest.raises(rdaam.NotebookExtraError, match=r"was made with widget=False.*Call explore"):
        _ = shown.words
    with pytest.raises(AttributeError, match="no attribute 'boxes'"):
        _ = shown.boxes


@pytest.mark.parametrize("name", SELECTION)
def test_a_frame_takes_no_selection(attribution, name: str) -> None:
    shown = attribution.explore(widget=False)
    with pytest.raises(rdaam.NotebookExtraError, match=rf"viewer\.{name} stays in its page"):
        setattr(shown, name, (8, 8, 40, 40))
    assert name not in vars(shown)


def test_what_only_a_widget_has_is_known(viewer) -> None:
    own = set(ViewerWidget.__dict__) - set(NotebookViewer.__dict__)
    parts = {name for name in own if not name.startswith("_")} | {"observe", "unobserve"}
    assert parts == set(SELECTION)


def test_the_package_does_not_need_anywidget() -> None:
    import subprocess

    code = (
        "import sys; sys.modules['anywidget'] = None\n"
        "import diffusers_rdaam; diffusers_rdaam.explore\n"
        "assert 'traitlets' not in sys.modules and 'ipywidgets' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- the widget


def test_a_widget_shows_itself(attribution, viewer) -> None:
    assert isinstance(viewer, ViewerWidget)
    data, _ = viewer._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == viewer.model_id
    # Where there are no widgets.
    assert data["text/html"] == attribution.still_html()
    sent = viewer.get_state()
    assert sent["_page"] == viewer_page(attribution, embedded=True)
    assert "render" in sent["_esm"] and sent["_state"] == {}
    assert (viewer.box, viewer.polygon, viewer.words, viewer.word) == (None, None, (), None)
    assert viewer.region is None and viewer.attribution is attribution


def test_a_box_of_the_page_comes_back(attribution, viewer) -> None:
    words = [["cat", 2.0, 0.25], ["mat", 0.5, 0.125]]
    _page_says(viewer, attribution=0, box=[8, 8, 40, 40], polygon=None, mask=None, words=words)
    assert viewer.box == BOX and viewer.region == BOX and viewer.polygon is None
    assert viewer.words == (SelectedWord("cat", 2.0, 0.25), SelectedWord("mat", 0.5, 0.125))
    assert viewer.words[0].word == "cat" and viewer.words[0].lift == 2.0
    attribution.region(viewer.region)


def test_a_polygon_and_a_painted_region_come_back(attribution, viewer) -> None:
    _page_says(viewer, box=None, polygon=[[10, 5], [60, 20], [30, 50]], words=[["cat", 2.0, 0.2]])
    assert viewer.polygon == SHAPE == viewer.region and viewer.box is None
    mask = {"size": [64, 96], "counts": [100, 900, 5144]}
    _page_says(viewer, box=None, polygon=None, mask=mask, words=[["mat", 1.5, 0.1]])
    assert viewer.region == mask == viewer.mask and viewer.words[0].word == "mat"
    assert attribution.region(viewer.region)[0].lift > 0


def test_a_cleared_selection_has_no_words(viewer) -> None:
    viewer.box = BOX
    _page_says(viewer, box=None, polygon=None, words=[["cat", 1.0, 0.25]])
    assert viewer.box is None and viewer.words == ()


def test_a_word_of_the_page_comes_back(attribution, viewer) -> None:
    _page_says(viewer, attribution=0, word=1, record=0, text="cat")
    assert viewer.word == "cat"
    attribution.word(viewer.word)
    # Of the negative prompt, or a phrase: the prompt need not have it.
    _page_says(viewer, attribution=0, word=0, record=1, text="blurry")
    assert viewer.word == "blurry"
    _page_says(viewer, attribution=0, word=None, record=0, text=None)
    assert viewer.word is None


def test_observers_see_a_whole_selection(viewer) -> None:
    seen = []
    viewer.observe(lambda change: seen.append((change.new, viewer.box, viewer.words)), "box")
    _page_says(viewer, box=[8, 8, 40, 40], polygon=None, words=[["cat", 2.0, 0.25]])
    viewer.box = (0, 0, 16, 16)
    assert [new for new, _, _ in seen] == [BOX, (0, 0, 16, 16)]
    assert seen[0] == (BOX, BOX, (SelectedWord("cat", 2.0, 0.25),))
    assert seen[1][2] == viewer.words != seen[0][2]


def test_an_observer_may_set_another_box(viewer) -> None:
    """As one that moves boxes onto a grid; the page is told of it."""

    def onto_grid(change: Any) -> None:
        if change.new is not None:
            viewer.box = tuple(8 * round(edge / 8) for edge in change.new)

    viewer.observe(onto_grid, "box")
    _page_says(viewer, box=[9, 7, 42, 41], polygon=None, words=[["cat", 2.0, 0.25]])
    assert viewer.box == BOX
    assert viewer._state["by"] == "kernel" and viewer._state["box"] == BOX


# ---- what Python sets


def test_a_box_that_is_set_is_shown_and_answered(attribution, viewer) -> None:
    viewer.box = rdaam.Box(*BOX)
    assert viewer.box == BOX and viewer.words == _words(attribution.region(BOX))
    sent = viewer._state
    assert sent["by"] == "kernel" and sent["box"] == BOX and sent["polygon"] is None
    # The page's own answer, with numbers of 16 bits, changes nothing.
    rounded = [[word.word, round(word.lift, 3), round(word.score, 3)] for word in viewer.words]
    _page_says(viewer, box=list(BOX), polygon=None, words=rounded)
    assert viewer.words == _words(attribution.region(BOX))
    viewer.box = None
    assert viewer.words == () and viewer._state["box"] is None


def test_a_polygon_replaces_a_box(attribution, viewer) -> None:
    viewer.box = BOX
    viewer.polygon = [(10, 5), (60, 20), (30, 50)]
    assert viewer.box is None and viewer.polygon == SHAPE
    assert viewer.words == _words(attribution.region(list(SHAPE)))
    assert viewer._state["polygon"] == SHAPE and viewer._state["box"] is None
    viewer.box = BOX
    assert viewer.polygon is None and viewer._state["polygon"] is None


def test_a_word_that_is_set_is_shown(attribution, viewer) -> None:
    viewer.word = "CAT"
    assert viewer.word == "cat" and viewer._state["word"] == 1
    viewer.box = BOX
    assert viewer._state["word"] == 1 and viewer._state["box"] == BOX
    # A word that occurs twice is also one by its number.
    viewer.word = 6
    assert viewer.word == "a" and viewer._state["word"] == 6
    viewer.word = None
    assert viewer._state["word"] is None and viewer.words == _words(attribution.region(BOX))


@pytest.mark.parametrize(
    ("name", "value", "error", "text"),
    [
        ("box", (40, 8, 8, 40), rdaam.RegionError, "40"),
        ("box", (200, 8, 240, 40), rdaam.RegionError, "outside"),
        ("box", "everything", rdaam.RegionError, "is not a region"),
        ("box", list(SHAPE), rdaam.RegionError, r"viewer\.box takes a box .* got a polygon"),
        ("polygon", BOX, rdaam.RegionError, r"viewer\.polygon takes a list .* got a box"),
        ("polygon", [(1, 1), (2, 2)], rdaam.RegionError, "at least 3 points"),
        ("word", "dog", rdaam.WordError, "'dog' is not a word of the prompt"),
        ("word", "blue eyes", rdaam.WordError, "takes one word of the prompt; 'blue eyes' is not"),
        ("word", 99, rdaam.WordError, "99"),
        ("index", 1, rdaam.InputError, "from 0 to 0; got 1"),
        ("index", -1, rdaam.InputError, "from 0 to 0; got -1"),
    ],
)
def test_what_cannot_be_shown_changes_nothing(
    viewer, name: str, value: Any, error: type[Exception], text: str, types_unchecked
) -> None:
    viewer.box = BOX
    before = (viewer.box, viewer.polygon, viewer.word, viewer.index, viewer.words, viewer._state)
    with pytest.raises(error, match=text):
        setattr(viewer, name, value)
    after = (viewer.box, viewer.polygon, viewer.word, viewer.index, viewer.words, viewer._state)
    assert after == before


def test_words_and_mask_are_the_pages(viewer) -> None:
    from traitlets import TraitError

    for name in ("words", "mask"):
        with pytest.raises(TraitError, match="read-only"):
            setattr(viewer, name, ())


# ---- several


def test_several_side_by_side(make_attribution) -> None:
    first, second = make_attribution(), make_attribution("a dog", size=(32, 48), seed=1)
    viewer: Any = rdaam.explore(iter([first, second]))
    assert viewer._page == viewer_page([first, second], embedded=True)
    assert viewer._title.endswith("and 1 more")
    _page_says(viewer, attribution=1, box=[0, 0, 8, 8], polygon=None, words=[["dog", 2.0, 0.5]])
    assert viewer.index == 1 and viewer.attribution is second and viewer.box == (0, 0, 8, 8)
    viewer.index = 0
    assert viewer.attribution is first and viewer.box is None and viewer.words == ()
    viewer.box = (40, 40, 90, 60)
    assert viewer._state["attribution"] == 0 and viewer.words == _words(first.region(viewer.box))


@pytest.mark.parametrize("given", [[], "a file", 3, ["a file"]])
def test_what_is_no_attribution_is_refused(given: Any, types_unchecked) -> None:
    with pytest.raises(rdaam.InputError, match="viewer"):
        rdaam.explore(given)


def test_a_title_is_the_frames(attribution) -> None:
    shown = attribution.explore(widget=False, title="<b>one</b>")
    assert 'title="Viewer: &lt;b&gt;one&lt;/b&gt;"' in shown._repr_mimebundle_()["text/html"]


def test_a_page_of_over_50_mb_is_asked_for(attribution, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers_rdaam.viewer import page

    monkeypatch.setattr(page, "LARGEST", 1000)
    with pytest.raises(rdaam.InputError, match="large=True"):
        attribution.explore()
    assert attribution.explore(large=True).box is None
