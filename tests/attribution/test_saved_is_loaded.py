"""What can be saved loads equal, and what could not be loaded is not saved."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diffusers_rdaam import OptimizedToken, Queries, SavedAttention
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.kept_maps import KeptMaps, MapStack
from diffusers_rdaam.attribution.prompt import Prompt, Token
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.attribution.site_queries import SiteQueries
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.geometry.region import Mask

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ANY_TEXTS = st.text(max_size=6)
FACTS = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), ANY_TEXTS)
POSITIONS = st.one_of(st.none(), st.integers(0, 2**32))
NUMBERS = st.sampled_from([0.0, -0.0, 0.25, 1.0, 1e-38, 3e38, float("nan"), float("inf")])


@pytest.fixture(scope="module", autouse=True)
def types_unchecked() -> Iterator[None]:
    """As a user runs it: what is not of the right type comes to the checks of files."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@st.composite
def prompts(draw: Any) -> Prompt:
    text = draw(st.one_of(st.none(), TEXTS))
    tokens = []
    for column in range(draw(st.integers(1, 4))):
        encoder, position = draw(st.one_of(st.none(), ANY_TEXTS)), draw(POSITIONS)
        if text and draw(st.booleans()):
            start = draw(st.integers(0, len(text)))
            end = draw(st.integers(start, len(text)))
            tokens.append(Token(column, draw(TEXTS), "text", start, end, encoder, position))
        else:
            kind = draw(st.sampled_from(["start", "end", "padding", "unknown", "template", "rest"]))
            tokens.append(Token(column, draw(ANY_TEXTS), kind, None, None, encoder, position))
    further = []
    for _ in range(0 if text is None else draw(st.integers(0, 2))):
        other = draw(TEXTS)
        kinds = st.sampled_from(["start", "padding"])
        further.append(
            Prompt(
                other,
                tuple(
                    Token(i, draw(TEXTS), "text", 0, len(other))
                    if draw(st.booleans())
                    else Token(i, draw(ANY_TEXTS), draw(kinds))
                    for i in range(len(tokens))
                ),
            )
        )
    return Prompt(text, tuple(tokens), further=tuple(further))


def tensor(draw: Any, *shape: int, dtypes: Any = (torch.float32,)) -> torch.Tensor:
    maps = torch.full(shape, draw(NUMBERS)).to(draw(st.sampled_from(dtypes)))
    return maps if draw(st.booleans()) else maps.transpose(-1, -2).contiguous().transpose(-1, -2)


@st.composite
def parts(draw: Any, size: tuple[int, int]) -> Attribution:
    prompt = draw(prompts())
    count = len(prompt.tokens)
    sides = draw(st.lists(st.sampled_from([(1, 2), (2, 3), (4, 1)]), min_size=1, unique=True))
    additions = draw(st.sampled_from([1, 7, 2**53, 2**54]))
    grids = tuple(
        Grid(tensor(draw, count, *side), additions, tuple(draw(st.lists(TEXTS, max_size=2))), 2.0)
        for side in sides
    )
    kept = None
    if draw(st.booleans()):
        halves = (torch.float16, torch.float32)
        details = tuple(
            MapStack(tensor(draw, 2, 1, count, *side, dtypes=halves), (0, additions), (f"s{i}",))
            for i, side in enumerate(sides)
        )
        times = draw(st.sampled_from([(), (981.0, 1.5), (1e13, 1.0)]))
        kept = KeptMaps(("steps",), details, times)
    run = draw(st.dictionaries(ANY_TEXTS, FACTS, max_size=2))
    return Attribution(prompt, grids, size, run=run, kept=kept)


@st.composite
def attributions(draw: Any) -> Attribution:
    size = draw(st.sampled_from([(1, 1), (4, 6), (5, 3), (20_000, 1)]))
    whole = draw(parts(size))
    if draw(st.booleans()):
        image = Image.fromarray(np.zeros((*size, 3), dtype=np.uint8) + 7)
        whole = dataclasses.replace(whole, image=image)
    if draw(st.booleans()):
        whole = dataclasses.replace(whole, negative_attribution=draw(parts(size)))
    texts = draw(st.dictionaries(ANY_TEXTS, parts(size), max_size=2))
    whole = dataclasses.replace(whole, vocabulary=texts)
    if draw(st.booleans()):
        halves = (torch.float16, torch.float32)
        own = SelfGrid(tensor(draw, 2, 2, dtypes=halves), 3, (2, 1), ("own",))
        whole = dataclasses.replace(whole, self_grids=(own,))
    if draw(st.booleans()):
        whole = dataclasses.replace(whole, mask=Mask(torch.ones(size)))
    return whole


def same(one: Attribution, other: Attribution) -> None:
    assert one.prompt == other.prompt and one.run == other.run
    assert one.image_size == other.image_size
    for mine, its in zip(one.grids, other.grids, strict=True):
        assert torch.equal(mine.maps, its.maps) and mine.maps.dtype == its.maps.dtype
        assert (mine.additions, mine.sites, mine.weight) == (
            its.additions, its.sites, its.weight,
        )  # fmt: skip
    assert (one.kept is None) == (other.kept is None)
    if one.kept is not None and other.kept is not None:
        assert (one.kept.axes, one.kept.timesteps) == (other.kept.axes, other.kept.timesteps)
        for mine, its in zip(one.kept.details, other.kept.details, strict=True):
            assert torch.equal(mine.maps, its.maps) and mine.maps.dtype == its.maps.dtype
            assert (mine.additions, mine.sites) == (its.additions, its.sites)


@settings(max_examples=40)
@given(attributions())
def test_what_is_saved_loads_equal(tmp_path_factory, made):
    path = tmp_path_factory.getbasetemp() / "saved"
    path.unlink(missing_ok=True)
    try:
        made.save(path)
    except InputError as error:
        assert "could not be written to" in str(error) and not path.exists()
        return
    loaded = Attribution.load(path)
    same(made, loaded)
    assert list(made.vocabulary) == list(loaded.vocabulary)
    for text, other in made.vocabulary.items():
        same(other, loaded.vocabulary[text])
    assert (made.negative_attribution is None) == (loaded.negative_attribution is None)
    if made.negative_attribution is not None:
        same(made.negative_attribution, loaded.negative_attribution)
    for mine, its in zip(made.self_grids, loaded.self_grids, strict=True):
        assert torch.equal(mine.sums, its.sums) and mine.size == its.size
    assert (made.image is None) == (loaded.image is None)
    assert (made.mask is None) == (loaded.mask is None)


def plain(**changes: Any) -> Attribution:
    prompt = Prompt("a cat", (Token(0, "a", "text", 0, 1), Token(1, "cat", "text", 2, 5)))
    fields = {"prompt": prompt, "grids": (Grid(torch.full((2, 2, 3), 0.5), 4),)}
    return Attribution(**{**fields, "image_size": (4, 6), **changes})


def grid(maps: torch.Tensor, **options: Any) -> tuple[Grid, ...]:
    return (Grid(maps, 4, **options),)


HALF = torch.full((2, 2, 3), 0.5)
REFUSED: dict[str, tuple[str, Callable[[], Attribution]]] = {
    "float64": ("grid 0 has type F64, and a file has float32", lambda: plain(
        grids=grid(HALF.double()))),
    "bfloat16": ("grid 0 has type BF16, and a file has float32", lambda: plain(
        grids=grid(HALF.bfloat16()))),
    "int": ("grid 0 has type int32, and a file has float32", lambda: plain(grids=grid(HALF.int()))),
    "nan": ("half precision overflowed", lambda: plain(grids=grid(HALF * torch.nan))),
    "inf": ("half precision overflowed", lambda: plain(grids=grid(HALF * torch.inf))),
    "height": ("its image is 6 pixels wide and 20000 high", lambda: plain(image_size=(20_000, 6))),
    "area": ("all together 67108864", lambda: plain(image_size=(16_384, 16_384))),
    "enlargement": ("takes 167608832 numbers, over 134217728", lambda: plain(
        grids=tuple(Grid(torch.zeros(2, side, 1), 4) for side in (2048, 2047, 2046, 2045, 2044)),
        image_size=(16_384, 512))),
    "texts": ("its vocabulary has 1001 texts, over 1000", lambda: plain(
        vocabulary={str(i): plain() for i in range(1001)})),
    "a text within a text": ("'x' of its vocabulary has a vocabulary", lambda: plain(
        vocabulary={"x": plain(vocabulary={"y": plain()})})),
    "negative": ("its negative prompt has", lambda: plain(
        negative_attribution=plain(vocabulary={"y": plain()}))),
    "prompt": ("its prompt is over 100000 characters", lambda: plain(
        prompt=Prompt("a" * 100_001, plain().prompt.tokens))),
    "surrogate": ("surrogate", lambda: plain(run={"a": "\udc00"})),
    "surrogate name": ("surrogate", lambda: plain(run={"\udc00": 1})),
    "fact": ("the fact 'a' about its run", lambda: plain(run={"a": float("nan")})),
    "large fact": ("the fact 'a' about its run", lambda: plain(run={"a": 10**30})),
    "name of a fact": ("a name that is not a text", lambda: plain(run={1: "a"})),
    "sites": ("is not a grid", lambda: plain(grids=grid(HALF, sites=(5,)))),
    "no cells": ("grid 0 has shape [2, 0, 3]", lambda: plain(grids=grid(torch.zeros(2, 0, 3)))),
    "additions": ("is not a grid", lambda: plain(grids=(Grid(HALF, 2**54),))),
    "half an addition": ("is not a grid", lambda: plain(grids=(Grid(HALF, 1.5),))),
    "self": ("self 0 has type F64, and a file has float16 or float32", lambda: plain(
        self_grids=(SelfGrid(torch.eye(6).double(), 1, (2, 3)),))),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_reader_takes_is_not_written(name, tmp_path):
    text, make = REFUSED[name]
    with pytest.raises(InputError) as caught:
        make().save(tmp_path / "file")
    message = str(caught.value)
    assert message.startswith(f"The attribution could not be written to {tmp_path / 'file'}: ")
    assert text in message and len(message) < 600
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_numpy_are_numbers(tmp_path):
    made = plain(grids=(Grid(HALF, np.int64(4), (), np.float32(0.5)),))
    loaded = Attribution.load(made.save(tmp_path / "file"))
    assert (loaded.grids[0].additions, loaded.grids[0].weight) == (4, 0.5)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_an_image_is_written_in_rgb(mode, tmp_path):
    made = plain(image=Image.new(mode, (6, 4)))
    assert Attribution.load(made.save(tmp_path / "file")).image.mode == "RGB"


def token(**changes: Any) -> OptimizedToken:
    rows = torch.ones(2, 4)
    fields = {
        "prompt": plain().prompt, "embedding": rows, "space": "encoded",
        "vectors": {"clip_l": rows}, "losses": (1.0,), "best": 0,
    }  # fmt: skip
    return OptimizedToken(**{**fields, **changes})


OTHERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "attention nan": ("half precision overflowed", lambda path: SavedAttention(
        plain().prompt, {"a": torch.full((1, 1, 1, 6, 2), torch.nan).half()}, (2, 3)).save(path)),
    "attention float32": ("its maps do not fit its prompt", lambda path: SavedAttention(
        plain().prompt, {"a": torch.ones(1, 1, 1, 6, 2)}, (2, 3)).save(path)),
    "attention of two runs": ("its maps do not fit its prompt", lambda path: SavedAttention(
        plain().prompt, {str(i): torch.ones(i, 1, 1, 6, 2).half() for i in (1, 2)},
        (2, 3)).save(path)),
    "attention pixels": ("its maps do not fit its prompt", lambda path: SavedAttention(
        plain().prompt, {"a": torch.ones(1, 1, 1, 9, 2).half()}, (2, 3)).save(path)),
    "attention size": ("its latent size is not a size", lambda path: SavedAttention(
        plain().prompt, {"a": torch.ones(1, 1, 1, 6, 2).half()}, (-2, 3)).save(path)),
    "queries nan": ("half precision overflowed", lambda path: Queries((SiteQueries(
        "a", (1, 1), 1, 1, (0,), (torch.full((1, 1, 1), torch.nan),)),)).save(path)),
    "queries calls": ("no valid list of the sites", lambda path: Queries((SiteQueries(
        "a", (1, 1), 1, 1, (2**40,), (torch.ones(1, 1, 1),)),)).save(path)),
    "token losses": ("its losses are not a list of finite numbers", lambda path: token(
        losses=(float("nan"),)).save(path)),
    "token no loss": ("its losses are not a list of finite numbers", lambda path: token(
        losses=()).save(path)),
    "token best": ("is the number of none of its losses", lambda path: token(best=1).save(path)),
    "token nan": ("half precision overflowed", lambda path: token(
        vectors={"clip_l": torch.full((2, 4), torch.nan)}).save(path)),
    "token embedding": ("its embedding is not that of its vectors", lambda path: token(
        embedding=torch.zeros(2, 4)).save(path)),
    "token rows": ("has shape [3, 4] and type F32 for 2 tokens", lambda path: token(
        vectors={"clip_l": torch.ones(3, 4)}).save(path)),
    "token name": ("surrogate", lambda path: token().save(path, token="\ud800")),
    "token types": ("are of several types", lambda path: token(
        vectors={"clip_l": torch.ones(2, 2), "clip_g": torch.ones(2, 2).half()}).save(path)),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_the_other_formats_check_before_they_write(name, tmp_path):
    text, save = OTHERS[name]
    with pytest.raises(InputError) as caught:
        save(tmp_path / "file")
    assert text in str(caught.value) and "could not be written to" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_queries_have_each_site_and_call_once():
    site = SiteQueries("a", (1, 1), 1, 1, (0, 1), (torch.ones(1, 1, 1),) * 2)
    with pytest.raises(InputError, match="Queries have each site once; 'a' occurs twice"):
        Queries((site, site))
    for calls in ((0, 0), (1, 0), (-1, 0)):
        with pytest.raises(InputError, match="are counted from 0 and ascend, each once"):
            dataclasses.replace(site, calls=calls)
