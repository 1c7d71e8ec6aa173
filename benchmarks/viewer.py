"""The viewer in a real browser: size, opening, a box's answer, agreement with Python."""

from __future__ import annotations

import base64
import dataclasses
import importlib.util
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import CLIPTokenizerFast

from benchmarks.report import Row, judged
from benchmarks.sizes import PROMPT, TINY_PIPELINE, TOKENS
from benchmarks.timing import Sample
from diffusers_rdaam import Attribution, Grid
from diffusers_rdaam.tokens.alignment import align

PROGRAMS = ("chromium", "google-chrome", "google-chrome-stable", "chromium-browser")
BOXES, OPENINGS, COMPARED = 200, 7, 50
TIMEOUT_MS = 180_000
GOAL_BYTES, GOAL_BOX, GOAL_OPEN, GOAL_AGREES = 1_500_000, 0.016, 1.0, 1e-3
# The page of the greater of the two sizes has four times the cells and pixels of the smaller.
SMALL, LARGE = (512, (64, 32, 16, 8)), (1024, (128, 64, 32, 16))

ASK = """
(boxes) => boxes.map((box) => {
  const start = performance.now();
  rdaam.viewers[0].region({box});
  return (performance.now() - start) / 1000;
})"""
# As a user's drag: the table is drawn anew and laid out.
SELECT = """
(boxes) => boxes.map((box) => {
  const start = performance.now();
  rdaam.viewers[0].selectBox(box);
  document.body.getBoundingClientRect();
  return (performance.now() - start) / 1000;
})"""
CHOOSE = """
(words) => words.map((word) => {
  const start = performance.now();
  rdaam.viewers[0].chooseWord(word);
  document.body.getBoundingClientRect();
  return (performance.now() - start) / 1000;
})"""
SCORES = """
(boxes) => boxes.map((box) =>
  rdaam.viewers[0].region({box}).words.map(({text, score}) => [text, score]))"""
MAP = """
(word) => {
  const bytes = new Uint8Array(rdaam.viewers[0].wordMap(word).buffer);
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) {
    text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  }
  return btoa(text);
}"""
SHOWN = """
() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => {
  resolve(window.rdaam ? performance.now() / 1000 : null);
})))"""


def run(*, full: bool = False) -> list[Row]:
    """Pages of SD1.5's 512x512 layout, and of one of 1024x1024; smooth random maps with noise."""
    small, large = (_attribution(size, grids) for size, grids in (SMALL, LARGE))
    rows = [_bytes(small), _bytes_of_noise()]
    why = _missing()
    if why is not None:
        return [*rows, Row("viewer", "the page in a browser", why, status="SKIP")]
    with _browser() as browser, tempfile.TemporaryDirectory() as folder:
        pages = [Path(folder) / "small.html", Path(folder) / "large.html"]
        for attribution, path in zip((small, large), pages, strict=True):
            path.write_text(attribution.to_html(), encoding="utf-8")
        rows += [_opening(browser, pages[0], SMALL), _opening(browser, pages[1], LARGE)]
        context = _context(browser)
        page = context.new_page()
        page.goto(pages[0].as_uri())
        rows += _agreement(page, small)
        page.goto(pages[1].as_uri())
        rows += _answers(page, large)
        context.close()
    return rows


def _missing() -> str | None:
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed"
    return None if _program() else f"none of {', '.join(PROGRAMS)} is on PATH"


def _program() -> str | None:
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@contextmanager
def _browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=_program(), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


def _context(browser: Any) -> Any:
    context = browser.new_context()
    # A machine with other work to do.
    context.set_default_timeout(TIMEOUT_MS)
    return context


def _attribution(side: int, grids: tuple[int, ...], *, noise: bool = False) -> Attribution:
    """Maps as smooth as attention is, with a tenth of noise; or nothing but noise."""
    tokenizer = CLIPTokenizerFast.from_pretrained(TINY_PIPELINE / "tokenizer")
    generator = torch.Generator().manual_seed(0)
    smooth = 2.0 * torch.randn(1, TOKENS, 8, 8, generator=generator)
    parts = []
    for cells in grids:
        logits = F.interpolate(smooth, size=(cells, cells), mode="bicubic", align_corners=False)
        logits = logits[0] * (0.0 if noise else 1.0)
        rough = torch.randn(TOKENS, cells, cells, generator=generator)
        logits += (1.0 if noise else 0.1) * rough
        sites = tuple(f"site.{cells}.{i}" for i in range(5))
        parts.append(Grid(logits.softmax(dim=0), 250, sites))
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
    prompt = align(tokenizer, PROMPT, TOKENS)
    return Attribution(prompt, tuple(parts), (side, side), image)


def _bytes(attribution: Attribution) -> Row:
    size = len(dataclasses.replace(attribution, image=None).to_html().encode())
    what = "bytes of the page without its image, SD1.5's 512x512 layout, smooth maps"
    return _size_row(what, size)


def _bytes_of_noise() -> Row:
    size = len(dataclasses.replace(_attribution(*SMALL, noise=True), image=None).to_html().encode())
    return _size_row("the same with maps of noise, which hardly become smaller", size)


def _size_row(what: str, size: int) -> Row:
    goal = f"at most {GOAL_BYTES / 1e6:g} MB"
    met = size <= GOAL_BYTES
    return judged("viewer", what, f"{size / 1e6:.2f} MB", goal, met, deterministic=True)


def _opening(browser: Any, path: Path, layout: tuple[int, tuple[int, ...]]) -> Row:
    seconds = []
    for _ in range(OPENINGS):
        context = _context(browser)
        page = context.new_page()
        page.goto(path.as_uri())
        shown = page.evaluate(SHOWN)
        context.close()
        if shown is None:
            raise RuntimeError(f"The viewer of {path.name} did not start.")
        seconds.append(float(shown))
    what = f"a file opened until its first picture, {layout[0]}x{layout[0]}, {TOKENS} columns"
    return _time_row(what, Sample(tuple(seconds)), GOAL_OPEN)


def _time_row(what: str, sample: Sample, goal: float) -> Row:
    met = sample.median <= goal
    return judged("viewer", what, sample.text(), f"median at most {goal * 1e3:g} ms", met)


def _boxes(count: int, side: int) -> list[list[int]]:
    draw = random.Random(7)
    boxes = []
    for _ in range(count):
        left, right = sorted(draw.sample(range(side + 1), 2))
        top, bottom = sorted(draw.sample(range(side + 1), 2))
        boxes.append([left, top, right, bottom])
    return boxes


def _answers(page: Any, attribution: Attribution) -> list[Row]:
    side = attribution.image_size[0]
    boxes = _boxes(BOXES, side)
    words = [word.index for word in attribution.words if word.columns]
    size = f"{side}x{side}, {TOKENS} columns"
    asked = Sample(tuple(page.evaluate(ASK, boxes)))
    selected = Sample(tuple(page.evaluate(SELECT, boxes)))
    chosen = Sample(tuple(page.evaluate(CHOOSE, (words * BOXES)[: BOXES // 4])))
    return [
        _time_row(f"the scores of a box, {BOXES} random boxes, {size}", asked, GOAL_BOX),
        _time_row(f"a box selected: scores, ranks, table laid out, {size}", selected, GOAL_BOX),
        Row("viewer", f"a word chosen: its map over the image, {size}", chosen.text()),
    ]


def _agreement(page: Any, attribution: Attribution) -> list[Row]:
    """The largest differences from Python, over the largest of Python's numbers."""
    boxes = _boxes(COMPARED, attribution.image_size[0])
    error = 0.0
    for box, found in zip(boxes, page.evaluate(SCORES, boxes), strict=True):
        wanted = {word.text: word.score for word in attribution.region(box)}
        if wanted.keys() != dict(found).keys():
            raise RuntimeError(f"The page has the words {dict(found)}; Python has {wanted}.")
        highest = max(wanted.values())
        error = max(error, *(abs(score - wanted[text]) / highest for text, score in found))
    return [
        _agreement_row(f"scores of {COMPARED} boxes against Python's, over the highest", error),
        _agreement_row(
            "every word's map against Python's, over its maximum", _maps(page, attribution)
        ),
    ]


def _maps(page: Any, attribution: Attribution) -> float:
    error = 0.0
    for word in attribution.words:
        wanted = attribution.pixels(word.columns).numpy()
        text = base64.b64decode(page.evaluate(MAP, word.index))
        found = np.frombuffer(text, "<f4").reshape(wanted.shape)
        error = max(error, float(abs(found - wanted).max() / wanted.max()))
    return error


def _agreement_row(what: str, error: float) -> Row:
    goal = f"at most {GOAL_AGREES:g}"
    return judged("viewer", what, f"{error:.1e}", goal, error <= GOAL_AGREES, deterministic=True)
