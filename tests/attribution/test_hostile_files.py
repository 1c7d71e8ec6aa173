"""Every field of a stranger's file is checked, and the error says which is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.files.header import FORMAT, VERSION
from diffusers_rdaam.errors import AttributionFileError

TEXT = "a cat"
HEADER: dict[str, Any] = {
    "prompt": TEXT,
    "tokens": [
        ["<start>", "start", None, None],
        ["a", "text", 0, 1],
        ["cat", "text", 2, 5],
        ["<end>", "end", None, None],
    ],
    "image_size": [64, 96],
    "grids": [{"additions": 50, "sites": ["up.0"]}, {"additions": 100, "sites": []}],
    "run": {"model": "toy", "steps": 50},
}
MAPS = {"grid.0": torch.full((4, 4, 6), 0.25), "grid.1": torch.full((4, 2, 3), 0.25)}


def load_with(path: Path, *, raw=None, tensors=None, metadata=None, **changes) -> Attribution:
    """Load a file with this header and these tensors."""
    header = {key: value for key, value in {**HEADER, **changes}.items() if value != "absent"}
    text = json.dumps(header) if raw is None else raw
    facts = {"format": FORMAT, "version": str(VERSION), "attribution": text}
    facts = {
        key: value for key, value in {**facts, **(metadata or {})}.items() if value is not None
    }
    save_file(MAPS if tensors is None else tensors, path, metadata=facts or None)
    return Attribution.load(path)


def assert_refused(path: Path, text: str, **changes) -> None:
    with pytest.raises(AttributionFileError) as caught:
        load_with(path, **changes)
    assert text in str(caught.value)
    assert str(caught.value).startswith(str(path)) and len(str(caught.value)) < 1000


def test_the_unchanged_file_is_good(tmp_path):
    attribution = load_with(tmp_path / "file")
    assert attribution.prompt.text == TEXT and len(attribution.grids) == 2
    assert attribution.run == HEADER["run"]


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"format": FORMAT + "s"}])
def test_safetensors_of_somebody_else(tmp_path, metadata):
    save_file(MAPS, tmp_path / "file", metadata=metadata)
    with pytest.raises(AttributionFileError) as caught:
        Attribution.load(tmp_path / "file")
    assert str(caught.value) == (
        f"{tmp_path / 'file'} is a safetensors file, but not an attribution of diffusers_rdaam."
    )


@pytest.mark.parametrize(
    ("version", "shown"), [("3", "'3'"), ("0", "'0'"), ("9" * 50, f"'{'9' * 20}'"), (None, "''")]
)
def test_another_version(tmp_path, version, shown):
    assert_refused(
        tmp_path / "file",
        f"has format version {shown}; this release reads versions 1 and 2. Load it with the "
        "release that wrote it, or generate again.",
        metadata={"version": version},
    )


NO_JSON = "is not a valid attribution: its header is not JSON."


DEEP = "is not a valid attribution: its header is not taken: it is nested over 32 deep."
TWICE = "is not a valid attribution: its header is not taken: the field 'prompt' occurs twice."
DIGITS = "is not a valid attribution: its header is not taken: a number has over 1000 digits."


@pytest.mark.parametrize(
    ("text", "raw"),
    [
        (NO_JSON, ""),
        (NO_JSON, "{"),
        (NO_JSON, "no json"),
        (NO_JSON, json.dumps(HEADER)[:-1]),
        (DEEP, "[" * 100_000),
        (DEEP, "[" * 100_000 + "]" * 100_000),
        (DEEP, '{"a":' * 50_000 + "1" + "}" * 50_000),
        (DIGITS, '{"prompt": ' + "9" * 100_000 + "}"),
        (TWICE, '{"prompt": "a", "prompt": "b"}'),
    ],
    ids=[
        "empty", "open", "text", "cut", "deep", "deep closed", "deep objects", "long number",
        "twice",
    ],
)  # fmt: skip
def test_header_that_is_no_json(tmp_path, text, raw):
    assert_refused(tmp_path / "file", text, raw=raw)


@pytest.mark.parametrize("depth", [50, 300, 900, 950, 970, 980, 985, 990, 995, 1000])
@pytest.mark.parametrize("field", ["prompt", "tokens", "grids", "run"])
def test_nested_deeply_in_a_field(tmp_path, field, depth):
    nest = "[" * depth + "]" * depth
    raw = json.dumps({**HEADER, field: {"x": "NEST"} if field == "run" else ["NEST"]})
    assert_refused(
        tmp_path / "file", "is not a valid attribution: ", raw=raw.replace('"NEST"', nest)
    )


@pytest.mark.parametrize("raw", ["null", "[]", "5", '"text"', "true"])
def test_header_that_is_no_object(tmp_path, raw):
    assert_refused(
        tmp_path / "file", "is not a valid attribution: its header is not an object.", raw=raw
    )


def test_header_of_hundreds_of_megabytes_is_not_parsed(tmp_path, monkeypatch):
    monkeypatch.setattr("diffusers_rdaam.files.json_text.MAX_CHARACTERS", 1000)
    text = "its header is not taken: it is over 1000 characters."
    assert_refused(tmp_path / "file", text, raw=json.dumps(HEADER) + " " * 999)


NO_TOKEN = (
    "text", None, 5, {}, [], ["a", "text", 0], ["a", "text", 0, 1, 2], ["a", "text", None, None],
    ["a", "text", 0, None], ["a", "text", 0.0, 1.0], ["a", "text", "0", "1"],
    ["a", "text", False, True], ["a", "word", None, None], ["a", None, None, None],
    ["a", ["text"], 0, 1], ["a", {}, None, None], [5, "text", 0, 1], [None, "start", None, None],
    ["<start>", "start", 0, 1], ["<start>", "start", 0, None], ["\ud800", "text", 0, 1],
)  # fmt: skip
NO_GRID = (
    None, 5, "grid", [], {}, {"additions": 50}, {"sites": []}, {"additions": -1, "sites": []},
    {"additions": 0, "sites": []}, {"additions": 1.0, "sites": []},
    {"additions": True, "sites": []}, {"additions": "1", "sites": []},
    {"additions": 2**60, "sites": []}, {"additions": float("nan"), "sites": []},
    {"additions": 1, "sites": None}, {"additions": 1, "sites": "up"},
    {"additions": 1, "sites": [5]},
)  # fmt: skip


@pytest.mark.parametrize("token", NO_TOKEN, ids=repr)
def test_no_token(tmp_path, token):
    assert_refused(
        tmp_path / "file",
        f"{str(token)[:80]} is not a token.",
        tokens=[*HEADER["tokens"][:3], token],
    )


@pytest.mark.parametrize("grid", NO_GRID, ids=repr)
def test_no_grid(tmp_path, grid):
    assert_refused(
        tmp_path / "file", f"{str(grid)[:80]} is not a grid.", grids=[HEADER["grids"][0], grid]
    )


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("its prompt is not a text.", {"prompt": "absent"}),
        ("its prompt is not a text.", {"prompt": 5}),
        ("its prompt is not a text.", {"prompt": ["a cat"]}),
        ("its prompt is not a text.", {"prompt": "a ca\ud800"}),
        ("its prompt is over 100000 characters.", {"prompt": "a" * 100_001}),
        *(("its image size is not a size.", {"image_size": size}) for size in (
            "absent", None, 64, [64], [64, 96, 3], [0, 96], [64, -1], [64, 96.0], [64, True],
            ["64", "96"], [10**30, 96], {"0": 64, "1": 96}, [float("inf"), 96],
        )),
        ("its image is 16385 pixels wide and 64 high; a side may have 16384, and all together "
         "67108864.", {"image_size": [64, 16385]}),
        ("its image is 8193 pixels wide and 8192 high; a side may have 16384, and all together "
         "67108864.", {"image_size": [8192, 8193]}),
        *(("it has no tokens.", {"tokens": tokens}) for tokens in (
            "absent", None, [], "text", {},
        )),
        ("it has 8193 tokens, over 8192.", {"tokens": [["x", "padding", None, None]] * 8193}),
        *(("it has no grids.", {"grids": grids}) for grids in (
            "absent", None, [], "text", {},
        )),
        ("it has 65 grids, over 64.", {"grids": [{"additions": 1, "sites": []}] * 65}),
        *(("its facts about the run are not a flat object.", {"run": run}) for run in (
            "absent", None, [], "text", {"a": []}, {"a": {"b": 1}},
        )),
        *(("the fact 'a' about its run is not a text or finite number.", {"run": {"a": value}})
          for value in (float("nan"), float("inf"), 2**64, -(2**64), "\ud800")),
        ("the tensor 'grid.2' is missing.", {"grids": [*HEADER["grids"], HEADER["grids"][0]]}),
        ("lies outside the prompt of 5 characters.",
         {"tokens": [*HEADER["tokens"][:3], ["hat", "text", 3, 6]]}),
        ("lies outside the prompt of 5 characters.",
         {"tokens": [*HEADER["tokens"][:3], ["hat", "text", 10**30, 10**31]]}),
        ("lies outside the prompt of 5 characters.",
         {"tokens": [*HEADER["tokens"][:3], ["hat", "text", -1, 2]]}),
        ("lies outside the prompt of 5 characters.",
         {"tokens": [*HEADER["tokens"][:3], ["hat", "text", 4, 2]]}),
        ("lies outside the prompt of 0 characters.", {"prompt": None}),
        ("grid 0 has shape [4, 4, 6] for 3 tokens.", {"tokens": HEADER["tokens"][:3]}),
    ],
)  # fmt: skip
def test_bad_field(tmp_path, text, changes):
    assert_refused(tmp_path / "file", "is not a valid attribution: ", **changes)
    assert_refused(tmp_path / "file", text, **changes)


def changed(name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    return {**MAPS, name: tensor}


@pytest.mark.parametrize(
    ("text", "tensors"),
    [
        ("the tensor 'grid.1' is missing.", {"grid.0": MAPS["grid.0"]}),
        ("grid 1 has shape [4, 6] for 4 tokens.", changed("grid.1", torch.zeros(4, 6))),
        ("grid 1 has shape [] for 4 tokens.", changed("grid.1", torch.tensor(1.0))),
        ("grid 1 has shape [4, 1, 2, 3] for 4 tokens.", changed("grid.1", torch.zeros(4, 1, 2, 3))),
        ("grid 1 has shape [5, 2, 3] for 4 tokens.", changed("grid.1", torch.zeros(5, 2, 3))),
        ("grid 1 has shape [4, 0, 3] for 4 tokens.", changed("grid.1", torch.zeros(4, 0, 3))),
        ("grid 1 has shape [4, 1, 2049] for 4 tokens.", changed("grid.1", torch.zeros(4, 1, 2049))),
        *((f"grid 0 has type {name}.", changed("grid.0", MAPS["grid.0"].to(dtype)))
          for name, dtype in (
              ("F16", torch.float16), ("BF16", torch.bfloat16), ("F64", torch.float64),
              ("I32", torch.int32), ("BOOL", torch.bool), ("C64", torch.complex64),
              ("F8_E4M3", torch.float8_e4m3fn),
          )),
        ("grid 0 has values that are not finite", changed("grid.0", MAPS["grid.0"] * torch.nan)),
        ("grid 0 has values that are not finite", changed("grid.0", MAPS["grid.0"] * torch.inf)),
        ("its image has shape [96, 64, 3].",
         changed("image", torch.zeros(96, 64, 3, dtype=torch.uint8))),
        ("its image has shape [64, 96].", changed("image", torch.zeros(64, 96, dtype=torch.uint8))),
        ("its image has shape [64, 96, 4].",
         changed("image", torch.zeros(64, 96, 4, dtype=torch.uint8))),
        ("its image has type F32.", changed("image", torch.zeros(64, 96, 3))),
    ],
)  # fmt: skip
def test_bad_tensor(tmp_path, text, tensors):
    assert_refused(tmp_path / "file", f"is not a valid attribution: {text}", tensors=tensors)


def test_tensors_that_nobody_asked_for_are_not_read(tmp_path):
    attribution = load_with(tmp_path / "file", tensors=changed("more", torch.zeros(3).bfloat16()))
    assert len(attribution.grids) == 2
