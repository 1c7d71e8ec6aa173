"""Every question has the same answer whatever torch's global settings are.

The methods are found, not listed: one that takes arguments and has none here fails the test.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_rdaam import OptimizedToken, SavedAttention
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.queries import Queries
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.attribution.site_queries import SiteQueries
from diffusers_rdaam.geometry import grid as interpolation
from diffusers_rdaam.geometry.region import Box, Mask, Polygon

BOX = (10, 20, 50, 60)
OUTLINE = [(5.0, 5.0), (60.0, 10.0), (30.0, 50.0)]


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


SETTINGS: dict[str, Callable[[], Any]] = {
    "meta device": lambda: torch.device("meta"),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "inference mode": torch.inference_mode,
    "gradients": torch.enable_grad,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


@pytest.fixture(scope="module", autouse=True)
def as_a_user_runs_it() -> Iterator[None]:
    """Without checks of types: regions are given as arrays and lists."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def files(make_kept, tmp_path_factory) -> Path:
    """Files of all that a run may keep."""
    folder = tmp_path_factory.mktemp("files")
    attribution, _ = make_kept(steps=3, heads=2)
    negative, _ = make_kept(("steps",), "a blurry dog", steps=3)
    word, _ = make_kept(("heads",), "a hat")
    generator = torch.Generator().manual_seed(1)
    sums = torch.rand(96, 96, generator=generator).softmax(dim=0) * 7
    mask = torch.linspace(0, 1, 64 * 96).reshape(64, 96)
    whole = dataclasses.replace(
        attribution,
        negative_attribution=dataclasses.replace(negative, image=None),
        vocabulary={"a hat": dataclasses.replace(word, kept=None)},
        self_grids=(SelfGrid(sums.half(), 7, (8, 12), ("own",)),),
        mask=Mask(mask),
    )
    whole.save(folder / "attribution")
    grid = whole.grids[0]
    part = torch.randn(2, 96, 4, generator=generator)
    Queries((SiteQueries(grid.sites[0], grid.size, 2, 4, (0, 2), (part, part + 1)),)).save(
        folder / "queries"
    )
    prompt = whole.prompt
    maps = torch.rand(2, 1, 2, 6, len(prompt.tokens), generator=generator).half()
    SavedAttention(prompt, {"site": maps}, (4, 6)).save(folder / "saved")
    rows = torch.randn(len(prompt.tokens), 8, generator=generator)
    OptimizedToken(prompt, rows, "encoded", {"clip_l": rows}, (3.0, 2.0), 1).save(folder / "token")
    return folder


def objects(folder: Path) -> dict[str, Any]:
    """What a user may have in hand, made anew, so that nothing is cached."""
    queries = Queries.load(folder / "queries")
    attribution = Attribution.load(folder / "attribution").with_queries(queries)
    heat = attribution["cat"]
    own = attribution.self_attention
    return {
        "Attribution": attribution,
        "HeatMap": heat,
        "Timeline": heat.over_time(),
        "RegionWords": attribution.region(BOX),
        "WordsInside": attribution.inside(BOX),
        "Steps": attribution.steps,
        "SelfAttention": own,
        "SelfGrid": own.finest,
        "Segments": own.diffused(),
        "Queries": queries,
        "SiteQueries": queries.sites[0],
        "Grid": attribution.grids[0],
        "MapStack": attribution.kept.details[0],
        "Box": Box(*BOX),
        "Polygon": Polygon(tuple(OUTLINE)),
        "Mask": attribution.inpaint_mask,
        "SavedAttention": SavedAttention.load(folder / "saved"),
        "OptimizedToken": OptimizedToken.load(folder / "token"),
    }


def arguments(name: str, found: dict[str, Any], folder: Path) -> list[tuple[Any, ...]]:
    """Of a method that has to be given some: each tuple is one call."""
    attribution, rows = (
        found["Attribution"],
        torch.full((2, 96), 1 / 96, dtype=torch.float32, device="cpu"),
    )
    image = Image.new("RGB", (48, 32))
    size, grids = (64, 96), [(8, 12), (2, 3)]
    guide = np.linspace(0.0, 1.0, 64 * 96).reshape(64, 96)
    regions = [(region,) for region in (BOX, OUTLINE, guide > 0.5, guide)]
    known: dict[str, list[tuple[Any, ...]]] = {
        "Attribution.word": [("cat",), (1,)],
        "Attribution.match": [(attribution.prompt.find("cat"),)],
        "Attribution.column": [(3,)],
        "Attribution.region": regions,
        "Attribution.regions": [([BOX, OUTLINE],)],
        "Attribution.inside": regions,
        "Attribution.pixels": [((2, 3),)],
        "Attribution.scores": [(Box(*BOX),)],
        "Attribution.with_image": [(attribution.image,)],
        "Attribution.with_queries": [(found["Queries"],)],
        "Attribution.save": [(folder / "again.safetensors",)],
        "HeatMap.mass": regions,
        "HeatMap.inside": regions,
        "HeatMap.save": [(folder / "again.npy",), (folder / "again.png",)],
        "HeatMap.resize": [((31, 45),), ((100, 120),)],
        "Timeline.mass": regions,
        "Timeline.gif": [(folder / "again.gif",)],
        "RegionWords.score": [("cat",)],
        "RegionWords.share": [("cat",)],
        "RegionWords.lift": [("cat",)],
        "RegionWords.top": [(2,)],
        **{f"{kind}.index": [("cat",)] for kind in ("RegionWords", "WordsInside")},
        **{f"{kind}.score_of": [("cat",)] for kind in ("RegionWords", "WordsInside")},
        **{
            f"{kind}.count": [(attribution.region(BOX)[0],)]
            for kind in ("RegionWords", "WordsInside")
        },
        "Box.index": [(9,)],
        "Box.count": [(9,)],
        # What to_dict() says, if pandas is there.
        **{f"{kind}.to_pandas": [] for kind in ("RegionWords", "WordsInside")},
        "RegionWords.ranked_by": [("score",)],
        "SelfAttention.region": regions,
        "SelfAttention.box": [(BOX,)],
        "SelfAttention.polygon": [(OUTLINE,)],
        "SelfAttention.polygons": [([OUTLINE, OUTLINE[::-1]],)],
        "SelfAttention.pixels": [((3, 4),), ([(3, 4), (90, 60)],)],
        "SelfAttention.guided": [(guide,), (guide.tolist(),), (attribution["cat"],)],
        "SelfAttention.diffused": [(), ((3, 4),)],
        "SelfGrid.attention_to": [(rows,)],
        "SelfGrid.attention_from": [(rows,)],
        "Segments.at": [(3, 4)],
        "Segments.mask": [(0,)],
        "Segments.coco": [(0,)],
        "Segments.overlay": [(), (image,)],
        "Queries.save": [(folder / "again.queries",)],
        "SiteQueries.read": [(1,)],
        "SiteQueries.of_calls": [({found["Queries"].sites[0].calls[0]},)],
        "Box.inside": [(size,)],
        **{f"{kind}.coverage": [(size,)] for kind in ("Box", "Polygon", "Mask")},
        **{f"{kind}.grid_weights": [(size, grids)] for kind in ("Box", "Polygon", "Mask")},
        "SavedAttention.save": [(folder / "again.saved",)],
        "OptimizedToken.save": [(folder / "again.token",)],
        # Refinements are named; all of them.
        "HeatMap.refined": [("product",), ("guided",), ("power",), ("ovam",), ("none",)],
        "Attribution.refined": [("product",), ("guided",)],
        "Attribution.select": [(), {"steps": [0, 2], "heads": 1}, {"resolutions": (4, 6)}],
    }
    return known.get(name, [()])


def answers(folder: Path, scratch: Path) -> dict[str, Any]:
    """What every public method and property says, as plain values."""
    found = objects(folder)
    results: dict[str, Any] = {}
    for kind, value in found.items():
        results[f"repr({kind})"] = (repr(value), str(value))
        for name in dir(type(value)):
            static = inspect.getattr_static(type(value), name)
            if name.startswith("_") or isinstance(static, (classmethod, staticmethod)):
                continue
            if isinstance(static, (property, cached_property)):
                results[f"{kind}.{name}"] = plain(getattr(value, name))
            elif inspect.isfunction(static):
                for i, given in enumerate(arguments(f"{kind}.{name}", found, scratch)):
                    positional, named = ((), given) if isinstance(given, dict) else (given, {})
                    answer = getattr(value, name)(*positional, **named)
                    results[f"{kind}.{name} {i}"] = plain(answer)
    return results


def plain(value: Any, depth: int = 3) -> Any:
    """A value to be compared: tensors, numbers, texts, and containers of them."""
    if isinstance(value, torch.Tensor):
        assert value.device.type == "cpu"
        return value.detach().clone()
    if isinstance(value, Image.Image):
        return (value.mode, value.size, value.tobytes())
    if isinstance(value, Path):
        return value.read_bytes()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, (list, tuple)):
        return [plain(item, depth) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item, depth) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and depth:
        # What a heat map is read from, and the class that a timeline makes, are no answers.
        left_out = ("attribution", "frame")
        names = [field.name for field in dataclasses.fields(value) if field.name not in left_out]
        return {name: plain(getattr(value, name), depth - 1) for name in names}
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return type(value).__name__


def assert_same(one: Any, other: Any, place: str) -> None:
    assert type(one) is type(other), place
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, place
        assert torch.equal(one, other), place
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_same(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), place
        for i, (mine, its) in enumerate(zip(one, other, strict=True)):
            assert_same(mine, its, f"{place}[{i}]")
    else:
        assert one == other, place


@pytest.fixture(scope="module")
def wanted(files, tmp_path_factory) -> dict[str, Any]:
    return answers(files, tmp_path_factory.mktemp("plain"))


def test_the_answers_are_numbers(wanted):
    assert len(wanted) > 120
    assert wanted["HeatMap.normalized"].dtype == torch.float32
    assert isinstance(wanted["HeatMap.size"], list)
    assert wanted["Attribution.word 0"]["values"].dtype == torch.float32


@pytest.mark.parametrize("name", SETTINGS)
def test_every_question_has_the_same_answer(name, files, wanted, tmp_path):
    # What one setting makes must not be kept for another, nor come from an earlier test.
    interpolation._kept.cache_clear()
    with SETTINGS[name]():
        found = answers(files, tmp_path)
    assert_same(wanted, found, name)
    # And what it has made serves plain questions after it.
    assert_same(wanted["HeatMap.resize 0"], answers_of_a_word(files), name)


def answers_of_a_word(files: Path) -> Any:
    return plain(Attribution.load(files / "attribution")["cat"].resize((31, 45)))


def test_a_matrix_of_inference_mode_serves_gradients():
    interpolation._kept.cache_clear()
    with torch.inference_mode():
        interpolation.enlarge(torch.ones(3, 5), 7, 11)
    cells = torch.ones(3, 5, requires_grad=True)
    interpolation.enlarge(cells, 7, 11).sum().backward()
    assert cells.grad is not None and float(cells.grad.sum()) == pytest.approx(77, rel=1e-4)
