"""The page as a document: what is in it, how large it is, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import diffusers_rdaam.viewer.page
from diffusers_rdaam import Attribution, VideoAttribution, explore, viewer_page
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.viewer.contents import ViewerContents
from diffusers_rdaam.viewer.packing import packed

HOSTILE = [
    "</script><script>window.hacked = 1</script> a cat",
    "<!--<script> a cat",
    "a \"cat\" 'on' `a` ${mat} \\u003c",
    "a\u2028cat\u2029on a mat",
    "a \u202ecat\u202c \u200fעברית\u200f on a mat",
    "a 🙂 cat 👩‍👩‍👧 on",
    "<img src=x onerror=alert(1)> & &lt;cat&gt;",
    "a\x00cat \x1b[31m \ud800 mat",
    "{{cat}} ]]> %0a =cmd()",
    " ",
]


def data_of(page: str) -> dict[str, Any]:
    """The data of a page, which is the only script that is no program."""
    [text] = re.findall(r'<script type="application/json" id="rdaam-data">(.*?)</script>', page)
    return json.loads(text)


def unpacked(grid: dict[str, Any]) -> np.ndarray:
    """What packing.py describes, read back."""
    columns, height, width = grid["columns"], grid["height"], grid["width"]
    raw = zlib.decompress(base64.b64decode(grid["data"]))
    head = np.frombuffer(raw[: columns * 8], dtype="<f4").reshape(columns, 2)
    upper, lower = np.frombuffer(raw[columns * 8 :], dtype=np.uint8).reshape(2, -1).astype(int)
    levels = np.cumsum(upper * 256 + lower) % 65536
    values = head[:, :1] + levels.reshape(columns, -1) * head[:, 1:]
    return values.reshape(columns, height, width)


@pytest.mark.parametrize("text", HOSTILE)
def test_prompts_are_data(make_attribution, text: str) -> None:
    """No prompt, fact or title ends an element or is lost; the policy is that of the assets."""
    attribution = make_attribution(text)
    attribution = replace(attribution, run={**attribution.run, "model": text})
    page = attribution.to_html(title=text)
    # The data, and the program; and the document's own ends of elements alone.
    assert page.count("<script") == 2 and page.count("</script>") == 2
    assert page.encode("utf-8") and "\u2028" not in page
    [title] = re.findall(r"<title>(.*?)</title>", page)
    assert "<" not in title and '"' not in title
    [entry] = data_of(page)["entries"]
    [record] = entry["parts"][0]["records"]
    [pieces] = record["texts"]
    words = [word["text"] for word in record["words"]]
    assert "".join(words[p] if isinstance(p, int) else p for p in pieces) == text
    assert entry["title"] == text
    [policy] = re.findall(r'Content-Security-Policy" content="(.*?)"', page)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data: blob:"
    for rule, element in (("script-src", "<script>"), ("style-src", "<style>")):
        [content] = re.findall(f"{element}(.*?)</", page, re.S)
        digest = hashlib.sha256(content.encode()).digest()
        assert rules[rule] == f"'sha256-{base64.b64encode(digest).decode()}'"


def test_nothing_in_the_page_points_elsewhere(make_attribution) -> None:
    page = make_attribution().to_html()
    addresses = set(re.findall(r"https?://[^\"'\s]+", page))
    # The name of a namespace, which nothing is loaded from.
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert not re.findall(r"<(?:link|iframe|object|embed|base)\b", page)


def test_a_page_without_its_end_says_so_before_all_that_is_long(make_attribution) -> None:
    page = make_attribution().to_html()
    said = page.index("This page is incomplete or its script did not run")
    assert page.index("</head>") < said < page.index("<style>") < page.index('id="rdaam-data"')
    # A title is cut to a line, so that little stands before the note.
    assert said < 1500
    # The script, which stands last, takes it away.
    assert said < page.index('getElementById("incomplete")?.remove()') and "<noscript" not in page


def test_maps_come_back(full_attribution) -> None:
    attribution = full_attribution()
    [entry] = data_of(attribution.to_html())["entries"]
    [part] = entry["parts"]
    records = part["records"]
    assert [one["role"] for one in records] == ["prompt", "negative", "vocabulary"]
    for record, of in zip(records, (attribution, attribution.negative), strict=False):
        whole = record["maps"][0]
        assert whole["levels"] == pytest.approx(of.levels.tolist(), rel=1e-6)
        for grid, wanted in zip(whole["grids"], of.grids, strict=True):
            maps = wanted.maps.numpy()
            assert np.abs(unpacked(grid) - maps).max() <= 1e-5 * maps.max()
        shares = [grid["share"] for grid in whole["grids"]]
        assert shares == pytest.approx(of.grid_shares)
    assert [one["columns"] for one in part["self"]] == [96, 6]


@pytest.mark.parametrize(
    "maps",
    [
        np.zeros((2, 3, 4)),
        np.full((1, 1, 1), 0.25),
        np.array([[[1e-8, 2e-8]], [[0.1, 0.9]], [[0.5, 0.5]]]),
        np.random.default_rng(0).random((5, 9, 7)) ** 9,
    ],
)
def test_packing_keeps_each_column(maps: np.ndarray) -> None:
    maps = maps.astype(np.float32)
    columns, height, width = maps.shape
    grid = {"columns": columns, "height": height, "width": width, "data": packed(maps)}
    error = np.abs(unpacked(grid) - maps).reshape(columns, -1).max(axis=1)
    extent = np.ptp(maps.reshape(columns, -1), axis=1)
    assert (error <= extent / 100_000 + maps.reshape(columns, -1).max(axis=1) * 2e-7).all()


def test_a_page_of_stable_diffusion_is_small(make_attribution) -> None:
    """512 by 512 with 77 columns, of maps that do not compress: under 1.5 MB without the image."""
    grids = ((64, 64), (32, 32), (16, 16), (8, 8))
    text = " ".join(f"w{i}" for i in range(73))
    attribution = make_attribution(text, size=(512, 512), grids=grids, image=False)
    assert len(attribution.prompt.tokens) >= 77
    page = attribution.to_html()
    assert len(page) < 1_500_000
    # The estimate is of the maps alone, and an upper bound.
    estimate = diffusers_rdaam.viewer.page.largest_size([attribution.viewer_contents()])
    maps = sum(
        len(g["data"])
        for g in data_of(page)["entries"][0]["parts"][0]["records"][0]["maps"][0]["grids"]
    )
    assert maps * 0.9 < estimate < maps * 1.3


def test_a_large_page_is_refused_before_its_maps_are_read(
    make_attribution, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(diffusers_rdaam.viewer.page, "LARGEST", 1000)
    monkeypatch.setattr(diffusers_rdaam.viewer.page, "packed", None)
    attribution = make_attribution()
    wanted = r"up to .* MB, over .* MB\. Pass kept=False .*select\(\).*large=True"
    for ask in (attribution.to_html, lambda: viewer_page([attribution] * 2)):
        with pytest.raises(InputError, match=wanted):
            ask()
    with pytest.raises(InputError, match=wanted):
        attribution.to_html(tmp_path / "cat.html")
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    monkeypatch.setattr(diffusers_rdaam.viewer.page, "LARGEST", 1000)
    assert "</html>" in attribution.to_html(large=True)


def test_the_size_of_finer_records_is_said_first(full_attribution, capsys) -> None:
    attribution = full_attribution()
    attribution.to_html(kept=False)
    assert capsys.readouterr() == ("", "")
    with_all = attribution.to_html()
    out, err = capsys.readouterr()
    assert out == "" and re.match(r"viewer: up to 0\.\d MB of maps .*kept=False", err)
    kinds = lambda page: [  # noqa: E731  # of one use
        maps["kind"] for maps in data_of(page)["entries"][0]["parts"][0]["records"][0]["maps"]
    ]
    assert kinds(attribution.to_html(kept=False)) == ["all"]
    assert kinds(with_all) == ["all", "refined", *["step"] * 3, *["layer"] * 3]


def test_a_file_is_written_whole(make_attribution, tmp_path: Path) -> None:
    attribution = make_attribution()
    path = attribution.to_html(str(tmp_path / "cat.HTML"))
    assert path == tmp_path / "cat.HTML"
    assert path.read_text(encoding="utf-8") == attribution.to_html()
    for wrong, said in (
        ("cat.png", r"'cat.png' does not end in .html. Name it 'cat.html'"),
        ("cat", r"Name it 'cat.html'"),
        ("nowhere/cat.html", r"could not be written"),
        ("", r"needs the name of a file"),
    ):
        with pytest.raises(InputError, match=said):
            attribution.to_html(tmp_path / wrong if wrong else "")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(InputError, match="there is a folder of that name"):
        attribution.to_html(tmp_path / "folder.html")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cat.HTML", "folder.html"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "at least one attribution; the list is empty"),
        ("cat.safetensors", r"got a str\. Give an Attribution, such as Attribution\.load\(path\)"),
        (None, "got a NoneType"),
        ([3], "one of these is a int"),
        ([Image.new("RGB", (2, 2))], "one of these is a Image"),
    ],
)
def test_what_is_not_an_attribution_is_refused(given: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        viewer_page(given)


def test_several_in_one_page(make_attribution) -> None:
    first, second = make_attribution("a cat"), make_attribution("a dog", size=(40, 40))
    page = viewer_page((one for one in (first, second)), title="two animals", embedded=True)
    assert [entry["size"] for entry in data_of(page)["entries"]] == [[64, 96], [40, 40]]
    assert "<title>two animals</title>" in page and '<body class="embedded">' in page


@pytest.mark.parametrize("name", ["png", "jpeg", "webp"])
def test_formats_of_images(make_attribution, name: str) -> None:
    attribution = make_attribution()
    [frame] = data_of(attribution.to_html(image_format=name))["entries"][0]["frames"]
    head, text = frame["image"].split(",")
    assert head == f"data:image/{name};base64"
    assert base64.b64decode(text)[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0", b"RIFF")


def test_other_formats_are_refused(make_attribution) -> None:
    with pytest.raises(InputError, match="one of png, jpeg, webp; got 'gif'"):
        make_attribution().to_html(image_format="gif")


@pytest.mark.parametrize("options", [{"title": 5}, {"title": b"cat"}, {"image_format": ["png"]}])
def test_what_is_not_a_text_is_refused(make_attribution, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"is a text; got a|is written as one of png"):
        viewer_page(make_attribution(), **options)
    if "title" in options:
        with pytest.raises(InputError, match="title= is a text"):
            explore(make_attribution(), **options)


def test_without_an_image_or_a_text(make_attribution) -> None:
    [entry] = data_of(make_attribution(None, image=False).to_html())["entries"]
    assert entry["frames"] == [{"image": None, "part": 0, "label": ""}]
    [record] = entry["parts"][0]["records"]
    assert record["words"] == record["groups"] == [] and record["texts"] == [[]]
    assert record["special"] == {"unknown": list(range(7))}


def test_folders_of_this_computer_are_not_passed_on(make_attribution) -> None:
    attribution = make_attribution()
    for value, wanted in (
        ("/home/somebody/models/sd15", "…/sd15"),
        ("C:\\Users\\somebody\\sd15", "…/sd15"),
        ("owner/name", "owner/name"),
        (3, 3),
        (None, None),
    ):
        run = {**attribution.run, "model": value}
        page = replace(attribution, run=run).to_html()
        assert data_of(page)["entries"][0]["facts"]["model"] == wanted
        assert "somebody" not in page


def test_a_saved_attribution_makes_the_same_page(full_attribution, tmp_path: Path, capsys) -> None:
    attribution = full_attribution()
    loaded = Attribution.load(attribution.save(tmp_path / "cat.safetensors"))
    [before], [after] = (data_of(one.to_html())["entries"] for one in (attribution, loaded))
    assert before["parts"][0]["records"][0]["words"] == after["parts"][0]["records"][0]["words"]
    for one, other in zip(before["parts"][0]["records"], after["parts"][0]["records"], strict=True):
        assert [maps["label"] for maps in one["maps"]] == [maps["label"] for maps in other["maps"]]
        first, second = one["maps"][0]["grids"], other["maps"][0]["grids"]
        for grid, same in zip(first, second, strict=True):
            assert np.abs(unpacked(grid) - unpacked(same)).max() <= 2e-4


def test_a_video_has_its_frames(make_attribution, tmp_path: Path) -> None:
    frames = [make_attribution("a red cat", seed=seed) for seed in range(3)]
    video = VideoAttribution.of_frames(frames)
    path = video.to_html(tmp_path / "video.html")
    [entry] = data_of(path.read_text(encoding="utf-8"))["entries"]
    assert [frame["label"] for frame in entry["frames"]] == ["1", "2", "3"]
    assert len({frame["image"] for frame in entry["frames"]}) == len(entry["parts"]) == 3
    [entry] = data_of(video[1:].to_html())["entries"]
    assert [frame["label"] for frame in entry["frames"]] == ["2", "3"]
    assert [frame["part"] for frame in entry["frames"]] == [0, 1]


def test_contents_are_read_late(make_attribution) -> None:
    """What a page holds is known without reading a map, so that its size is."""
    contents = make_attribution().viewer_contents()
    assert isinstance(contents, ViewerContents)
    assert contents.cells == sum(g.maps.numel() for g in make_attribution().grids)
    assert not contents.has_finer_records
