"""What every reader refuses in the same words: pipes, links out, bombs, tables with holes."""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_rdaam import OptimizedToken, Queries, SavedAttention, VideoAttribution
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.site_queries import StoredTensor
from diffusers_rdaam.compat.daam import GenerationExperiment, load_mask
from diffusers_rdaam.errors import AttributionFileError, InputError
from diffusers_rdaam.files.json_text import parse_json
from diffusers_rdaam.files.opening import is_inner_path, read_text
from diffusers_rdaam.files.tensor_file import TYPES, open_tensors, write_tensors

LOADERS = (Attribution.load, Queries.load, SavedAttention.load, OptimizedToken.load)
NAME = "generation.safetensors"


def write_file(path: Path, table: Any, data: bytes = b"", *, text: str | None = None) -> Path:
    head = (json.dumps(table) if text is None else text).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + data)
    return path


def entry(dtype: str, shape: list[int], start: int, stop: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


KINDS = {
    "diffusers_rdaam.attribution": Attribution.load,
    "diffusers_rdaam.video": VideoAttribution.load,
    "diffusers_rdaam.queries": Queries.load,
    "diffusers_rdaam.saved_attention": SavedAttention.load,
    "diffusers_rdaam.token": OptimizedToken.load,
}


@pytest.mark.parametrize("format", KINDS)
def test_a_file_of_another_kind_says_what_reads_it(format, tmp_path):
    path = tmp_path / "file.safetensors"
    maps = {"a": torch.zeros(1)}
    write_tensors(path, maps, {"format": format, "version": "1"}, noun="file")
    for other, load in KINDS.items():
        if other == format:
            continue
        with pytest.raises(AttributionFileError) as caught:
            load(path)
        text = str(caught.value)
        assert text.startswith(f"{path} is a safetensors file, but not ")
        assert text.endswith(f": {KINDS[format].__qualname__} reads it.")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
@pytest.mark.parametrize("load", LOADERS)
def test_a_pipe_is_not_waited_for(load, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AttributionFileError, match="is a pipe, socket or device and is not read"):
        load(tmp_path / "pipe")
    with pytest.raises(AttributionFileError, match="is a pipe, socket or device"):
        StoredTensor(tmp_path / "pipe", "a", (1,), torch.float16).read()
    with pytest.raises(AttributionFileError, match="is a pipe, socket or device"):
        load_mask(tmp_path / "pipe")
    with pytest.raises(AttributionFileError, match="is a pipe, socket or device"):
        load("/dev/zero")


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize("place", ["missing", ".", "missing/cat"])
def test_no_file(load, place, tmp_path):
    with pytest.raises(AttributionFileError, match=r"^There is no .*file"):
        load(tmp_path / place)


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize("header", ["[" * 100_000, "[" * 40 + "]" * 40, "{" * 3, "1" * 5000, ""])
def test_headers_that_are_no_json_of_ours(load, header, tmp_path):
    for kind, field in (("attribution", "attribution"), ("queries", "sites"),
                        ("saved_attention", "attention"), ("token", "optimized")):  # fmt: skip
        metadata = {"format": f"diffusers_rdaam.{kind}", "version": "1", field: header}
        path = write_file(tmp_path / kind, {"__metadata__": metadata})
        with pytest.raises(AttributionFileError):
            load(path)


TENSOR = {"a": entry("F32", [2], 0, 8)}
BAD_TABLES = [
    ("begins at byte 4, not 0", {"a": entry("F32", [1], 4, 8)}),
    ("its tensors have 4 bytes, and 8 are there", {"a": entry("F32", [1], 0, 4)}),
    ("begins at byte 0, not 8", {**TENSOR, "b": entry("F32", [2], 0, 8)}),
    ("its tensors have 16 bytes, and 8 are there", {**TENSOR, "b": entry("F32", [2], 8, 16)}),
    ("is said to be", {"a": entry("F32", [3], 0, 8)}),
    ("is said to be", {"a": entry("F32", [-2], 0, 8)}),
    ("is said to be", {"a": entry("F32", [True, 2], 0, 8)}),
    ("is said to be", {"a": entry("F32", [2**62, 2**62], 0, 8)}),
    ("is said to be", {"a": entry("F32", [1] * 17, 0, 4)}),
    ("is said to be", {"a": entry("F32", [2], 8, 0)}),
    ("is said to be", {"a": entry("F7", [2], 0, 8)}),
    ("is said to be", {"a": {"dtype": "F32", "shape": [2]}}),
    ("is not a tensor", {"a": 5}),
    ("is not a tensor", {"\ud800": entry("F32", [2], 0, 8)}),
    ("its table is not an object", []),
    ("its metadata are not texts", {**TENSOR, "__metadata__": {"a": 1}}),
]


@pytest.mark.parametrize(("text", "table"), BAD_TABLES, ids=lambda value: str(value)[:50])
def test_tables_that_lie(text, table, tmp_path):
    path = write_file(tmp_path / "file", table, b"\x00" * 8)
    with pytest.raises(AttributionFileError) as caught, open_tensors(path, "attribution"):
        pass
    assert text in str(caught.value) and "is not a whole safetensors file (" in str(caught.value)


def test_a_name_that_occurs_twice(tmp_path):
    one = json.dumps(TENSOR)[1:-1]
    path = write_file(tmp_path / "file", None, b"\x00" * 8, text=f"{{{one}, {one}}}")
    with (
        pytest.raises(AttributionFileError, match="the field 'a' occurs twice"),
        open_tensors(path, "attribution"),
    ):
        pass


@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_is_read_as_it_was_written(dtype, tmp_path):
    made = {
        "flat": torch.arange(6).to(dtype),
        "turned": torch.arange(6).view(2, 3).to(dtype).T,
        "empty": torch.zeros(0, 3).to(dtype),
        "one": torch.tensor(7).to(dtype),
    }
    path = write_tensors(tmp_path / "file", made, {"a": "猫"}, noun="file")
    with open_tensors(path, "file") as file:
        assert file.metadata == {"a": "猫"}
        for name, tensor in made.items():
            found = file.read(name)
            assert found.dtype == dtype and torch.equal(found, tensor)


def test_a_file_that_is_cut_off_while_it_is_read(tmp_path):
    path = write_tensors(tmp_path / "file", {"a": torch.ones(100)}, noun="file")
    with open_tensors(path, "file") as file:
        os.truncate(path, path.stat().st_size - 8)
        with pytest.raises(AttributionFileError, match="it was cut off while it was read"):
            file.read("a")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 33 + "]" * 33, "nested over 32 deep"),
        ("[" + "[]," * 2_000_000 + "0]", "over 2000000 elements"),
        ('{"a": {"b": 1, "b": 2}}', "the field 'b' occurs twice"),
        ("1" * 1001, "over 1000 digits"),
        ('"' + "\\" * 2_000_001, "Unterminated|Invalid"),
        ('"\\' * 1_000_000, "Invalid|Unterminated"),
    ],
    ids=["deep", "many", "twice", "digits", "open", "escapes"],
)
def test_json_costs_no_more_than_it_may(text, why):
    start = time.process_time()
    with pytest.raises(ValueError, match=why):
        parse_json(text)
    assert time.process_time() - start < 5


def test_brackets_in_texts_are_no_depth():
    assert parse_json(json.dumps(["[" * 100, '\\"' * 100 + "{"])) == ["[" * 100, '\\"' * 100 + "{"]


def test_near_the_end_of_the_stack_too(tmp_path):
    """The caller may be deep in calls of its own."""
    path = write_file(tmp_path / "file", {"__metadata__": {"format": "x"}})

    def deep(depth: int) -> None:
        if depth:
            deep(depth - 1)
        else:
            with pytest.raises(AttributionFileError):
                Attribution.load(path)

    deep(100)


@pytest.mark.parametrize(
    ("name", "right"),
    [
        (".", True), ("a", True), ("a/b", True), ("prompt-0001", True), ("a..b", True),
        ("", False), ("..", False), ("a/../b", False), ("/a", False), ("\\a", False),
        ("C:", False), ("c:\\x", False), ("a\\..\\b", False), ("//host/share", False),
        ("a\x00b", False), ("~/x", False),
    ],
)  # fmt: skip
def test_names_that_stay_in_a_folder(name, right):
    assert is_inner_path(name) is right


@pytest.fixture
def experiment(make_prompt, tmp_path) -> Path:
    prompt = make_prompt("a cat")
    image = Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8))
    made = GenerationExperiment(
        image, torch.rand(len(prompt.tokens), 4, 4), "a cat", seed=1, id="one",
        path=tmp_path / "all", tokens=prompt, truth_masks={"cat": torch.ones(8, 8)},
    )  # fmt: skip
    made.annotate("a", 1).save(heat_maps=False)
    return tmp_path / "all" / "one"


@pytest.mark.parametrize("id", ["../../x", "/tmp/x", "a/../../x", "C:\\x"])
def test_an_id_that_leads_out(id, experiment, make_prompt, tmp_path):
    image, maps = Image.new("RGB", (8, 8)), torch.rand(4, 4, 4)
    with pytest.raises(InputError, match="could lead out of it"):
        GenerationExperiment(image, maps, "a cat", id=id, path=tmp_path)
    made = GenerationExperiment(image, maps, "a cat", id=id)
    with pytest.raises(InputError, match="could lead out of it"):
        made.save(tmp_path / "out" / "deep", heat_maps=False)
    made = GenerationExperiment(image, maps, "a cat", path=tmp_path, subtype=id)
    with pytest.raises(InputError, match="could lead out of it"):
        made.save(heat_maps=False)
    path = experiment / NAME
    with open_tensors(path, "experiment") as file:
        header = json.loads(file.metadata["experiment"])
        maps = file.read("global_heat_map")
        metadata = file.metadata | {"experiment": json.dumps({**header, "id": id})}
    write_tensors(path, {"global_heat_map": maps}, metadata, noun="experiment")
    with pytest.raises(
        AttributionFileError, match="which is not the name of a folder within another"
    ):
        GenerationExperiment.load(experiment)


@pytest.mark.parametrize("name", [NAME, "output.png", "annotations.json", "cat.gt.png"])
def test_links_out_of_an_experiment(name, experiment, tmp_path):
    GenerationExperiment.load(experiment)
    moved = tmp_path / "elsewhere"
    (experiment / name).rename(moved)
    (experiment / name).symlink_to(moved)
    with pytest.raises(AttributionFileError, match="is a link that leads out of"):
        GenerationExperiment.load(experiment)
    # Writing puts the experiment's own file in its place.
    moved.write_bytes(b"mine")
    made = GenerationExperiment(
        Image.new("RGB", (8, 8)), torch.rand(4, 4, 4), "a cat", id="one", path=tmp_path / "all",
        truth_masks={"cat": torch.ones(8, 8)}, annotations={"a": 2},
    )  # fmt: skip
    made.save(heat_maps=False)
    assert moved.read_bytes() == b"mine"
    assert GenerationExperiment.load(experiment).annotations == {"a": 2}


def test_a_subtype_that_is_a_link_out(experiment, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (experiment / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is a link that leads out of"):
        GenerationExperiment.load(experiment, subtype="sub")
    made = GenerationExperiment(
        Image.new("RGB", (8, 8)), torch.rand(4, 4, 4), "a", id="one", path=tmp_path / "all",
        subtype="sub",
    )  # fmt: skip
    with pytest.raises(InputError, match="is a link that leads out of"):
        made.save(heat_maps=False)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    size = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    parts = (chunk(b"IHDR", size), chunk(b"IDAT", zlib.compress(b"\0")), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("size", [(65535, 65535), (2**31 - 1, 1), (8193, 8192), (10000, 10000)])
def test_what_a_picture_costs_is_known_before_it_is_decoded(size, experiment):
    for name in ("output.png", "cat.gt.png"):
        whole = (experiment / name).read_bytes()
        (experiment / name).write_bytes(png(*size))
        with pytest.raises(AttributionFileError):
            GenerationExperiment.load(experiment)
        (experiment / name).write_bytes(whole)
    (experiment / "x.png").write_bytes(png(*size))
    with pytest.raises(AttributionFileError):
        load_mask(experiment / "x.png")


@pytest.mark.parametrize("seed", ["9" * 5000, "-", "--1", "1e3", "١٢", str(2**64), "1\n2", ""])
def test_seeds_that_are_none(seed, experiment):
    (experiment / "seed.txt").write_text(seed, encoding="utf-8")
    with pytest.raises(AttributionFileError, match="holds no seed but"):
        GenerationExperiment.read_seed(experiment)
    (experiment / "seed.txt").write_text(str(2**64 - 1))
    assert GenerationExperiment.read_seed(experiment) == 2**64 - 1


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": 1, "a": 2}', "[]", "{", "9" * 5000])
def test_annotations_that_are_none(text, experiment):
    (experiment / "annotations.json").write_text(text)
    with pytest.raises(AttributionFileError, match="holds no JSON object"):
        GenerationExperiment.load(experiment)


def test_small_files_are_small(tmp_path):
    (tmp_path / "file").write_text("x" * 101)
    with pytest.raises(AttributionFileError, match="has over 100 bytes"):
        read_text(tmp_path / "file", limit=100)
    (tmp_path / "file").write_bytes(b"\xff")
    with pytest.raises(AttributionFileError, match="cannot be read as UTF-8"):
        read_text(tmp_path / "file")


def test_queries_that_count_a_call_twice(tmp_path):
    tensors = {f"0.{i}": torch.zeros(1, 1, 1).half() for i in range(2)}
    for calls in ([0, 0], [1, 0]):
        metadata = {
            "format": "diffusers_rdaam.queries",
            "version": "1",
            "sites": json.dumps([["s", [1, 1], 1, 1, calls, "F16"]]),
        }
        path = write_tensors(tmp_path / "q", tensors, metadata, noun="queries")
        with pytest.raises(AttributionFileError, match="has no valid list of the sites"):
            Queries.load(path)
