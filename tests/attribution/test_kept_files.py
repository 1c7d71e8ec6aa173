"""Files of all that a run may keep: equal again, and every field of a stranger's checked."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.files.header import FORMAT, VERSION
from diffusers_rdaam.attribution.kept_maps import KeptMaps, MapStack
from diffusers_rdaam.errors import AttributionFileError, InputError
from diffusers_rdaam.geometry.region import Mask

MID = "mid_block.attentions.0.transformer_blocks.0.attn2"
COUNTS = {MID: (0, 2, 0, 3, 1)}


def assert_same_kept(one: KeptMaps, other: KeptMaps) -> None:
    assert (one.axes, one.timesteps) == (other.axes, other.timesteps)
    for detail, same in zip(one.details, other.details, strict=True):
        assert detail.maps.dtype == same.maps.dtype and torch.equal(detail.maps, same.maps)
        assert (detail.additions, detail.sites) == (same.additions, same.sites)


@pytest.fixture
def full(make_kept) -> Attribution:
    """Everything at once."""
    attribution, _ = make_kept(dtype=torch.float16, counts=COUNTS)
    negative, _ = make_kept(("steps",), "a blurry dog", seed=3, counts=COUNTS)
    mask = torch.linspace(0, 1, 64 * 96).reshape(64, 96)
    full = dataclasses.replace(attribution, negative_attribution=negative, mask=Mask(mask))
    return full.select(resolutions={(8, 12): 0.3, (4, 6): 1.0, (2, 3): 2.5})


def test_round_trip_of_everything(full, tmp_path):
    loaded = Attribution.load(full.save(tmp_path / "file"))
    assert repr(loaded) == repr(full) and loaded.nbytes == full.nbytes
    for one, other in ((full, loaded), (full.negative, loaded.negative)):
        assert one.prompt == other.prompt and one.run == other.run
        assert [grid.weight for grid in other.grids] == [0.3, 1.0, 2.5]
        for grid, same in zip(one.grids, other.grids, strict=True):
            assert torch.equal(grid.maps, same.maps)
            assert (grid.additions, grid.sites) == (same.additions, same.sites)
        assert_same_kept(one.kept, other.kept)
    assert torch.equal(loaded.mask.weights, full.mask.weights)
    assert loaded.negative.image is loaded.image
    one, other = (made.select(steps=3, heads=1, layers="up_blocks") for made in (full, loaded))
    assert torch.equal(one["cat"].values, other["cat"].values)


@pytest.mark.parametrize("axes", [("layers",), ("heads",), ("steps", "heads")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_round_trip_of_some_axes(make_kept, tmp_path, axes, dtype):
    attribution, _ = make_kept(axes, dtype=dtype)
    loaded = Attribution.load(attribution.save(tmp_path / "file"))
    assert_same_kept(attribution.kept, loaded.kept)
    assert loaded.negative_attribution is None and loaded.mask is None


def test_parts_of_a_record_are_saved_as_they_are(full, tmp_path):
    """Views of one memory, with steps between their values."""
    part = full.select(steps=[1, 3], heads=slice(1, 3))
    assert not part.kept.details[0].maps.is_contiguous()
    loaded = Attribution.load(part.save(tmp_path / "file"))
    assert_same_kept(part.kept, loaded.kept)
    assert loaded.kept.timesteps == (800.0, 600.0)
    assert (tmp_path / "file").stat().st_size < full.save(tmp_path / "full").stat().st_size


def test_shared_memory_is_written_twice(full, tmp_path):
    main = dataclasses.replace(full, negative_attribution=None)
    shared = dataclasses.replace(main, negative_attribution=main)
    loaded = Attribution.load(shared.save(tmp_path / "file"))
    assert_same_kept(loaded.kept, loaded.negative.kept)


def test_without_what_was_kept(full, tmp_path):
    large = full.save(tmp_path / "large").stat().st_size
    path = full.save(tmp_path / "small", kept=False)
    loaded = Attribution.load(path)
    assert loaded.kept is None and loaded.negative.kept is None
    assert large - path.stat().st_size > full.kept.nbytes + full.negative.kept.nbytes
    assert torch.equal(loaded["cat"].values, full["cat"].values) and full.kept is not None


def test_the_library_reads_the_same(full, tmp_path):
    tensors = load_file(full.save(tmp_path / "file"))
    for i, detail in enumerate(full.kept.details):
        assert torch.equal(tensors[f"detail.{i}"], detail.maps)
    assert set(tensors) >= {"image", "mask", "negative.grid.0", "negative.detail.0"}
    assert (tmp_path / "file").read_bytes() == full.save(tmp_path / "again").read_bytes()


def test_every_number_is_aligned_in_the_file(make_kept, tmp_path):
    """As a reader wants it that maps the file; the image has an odd number of bytes."""
    data = make_kept(size=(15, 25), dtype=torch.float16)[0].save(tmp_path / "file").read_bytes()
    end = 8 + struct.unpack("<Q", data[:8])[0]
    table = json.loads(data[8:end])
    del table["__metadata__"]
    bytes_of = {"F32": 4, "F16": 2, "U8": 1}
    assert {entry["dtype"] for entry in table.values()} == set(bytes_of)
    for entry in table.values():
        assert (end + entry["data_offsets"][0]) % bytes_of[entry["dtype"]] == 0


def test_more_than_a_file_may_hold(full, tmp_path, monkeypatch):
    monkeypatch.setattr("diffusers_rdaam.attribution.files.attribution_file.MAX_KEPT_CELLS", 1000)
    with pytest.raises(InputError) as caught:
        full.save(tmp_path / "file")
    cells = (full.kept.nbytes // 2) + full.negative.kept.nbytes // 4
    assert str(caught.value) == (
        f"What was kept separately has {cells} cells, and a file may hold 1000. Select a part of "
        "it, or save(path, kept=False)."
    )
    assert list(tmp_path.iterdir()) == []
    full.save(tmp_path / "file", kept=False)


PART: dict[str, Any] = {
    "prompt": "a cat",
    "tokens": [["<start>", "start", None, None], ["a", "text", 0, 1], ["cat", "text", 2, 5]],
    "grids": [{"additions": 4, "sites": ["up.0"], "weight": 2.0}],
    "run": {"model": "toy"},
    "kept": {
        "axes": ["steps", "heads"],
        "timesteps": [981, 500.5],
        "details": [{"additions": [3, 1], "sites": ["up.0"]}],
    },
}
HEADER = {**PART, "image_size": [16, 24], "negative": PART}
THIRD = 1 / 3
MAPS = {
    "grid.0": torch.full((3, 2, 3), THIRD),
    "detail.0": torch.full((2, 4, 3, 2, 3), THIRD).half(),
    "negative.grid.0": torch.full((3, 2, 3), THIRD),
    "negative.detail.0": torch.full((2, 4, 3, 2, 3), THIRD),
    "mask": torch.full((16, 24), 0.5),
}


def load_with(path: Path, header: dict[str, Any], tensors=MAPS) -> Attribution:
    facts = {"format": FORMAT, "version": str(VERSION), "attribution": json.dumps(header)}
    save_file(tensors, path, metadata=facts)
    return Attribution.load(path)


def assert_refused(path: Path, text: str, header=HEADER, tensors=MAPS) -> None:
    with pytest.raises(AttributionFileError) as caught:
        load_with(path, header, tensors)
    assert text in str(caught.value)
    assert str(caught.value).startswith(f"{path} is not a valid attribution: ")
    assert len(str(caught.value)) < 1000


def test_the_unchanged_file_is_good(tmp_path):
    attribution = load_with(tmp_path / "file", HEADER)
    assert attribution.kept.timesteps == (981.0, 500.5)
    assert attribution.negative.heads == {"up.0": 4}
    assert attribution.steps[0]["cat"].over_time().mass((0, 0, 9, 9)) == pytest.approx(
        [THIRD], 1e-3
    )
    assert float(attribution.inpaint_mask.weights.mean()) == 0.5


def with_kept(**changes) -> dict[str, Any]:
    return {**PART, "kept": {**PART["kept"], **changes}}


DETAIL = PART["kept"]["details"][0]
NO_DETAIL = (
    None, 5, [], {}, {"additions": [3, 1]}, {"sites": ["up.0"]}, {**DETAIL, "additions": []},
    {**DETAIL, "additions": 4}, {**DETAIL, "additions": "31"}, {**DETAIL, "additions": [3, -1]},
    {**DETAIL, "additions": [3, 1.0]}, {**DETAIL, "additions": [3, True]},
    {**DETAIL, "additions": [3, 2**60]}, {**DETAIL, "additions": [1] * 100_001},
    {**DETAIL, "sites": "up.0"}, {**DETAIL, "sites": [5]}, {**DETAIL, "sites": ["\ud800"]},
)  # fmt: skip
BAD_PARTS = [
    *((f"{str(detail)[:80]} is not a detail.", with_kept(details=[detail]))
      for detail in NO_DETAIL),
    *(("what was kept separately is not an object.", {**PART, "kept": kept})
      for kept in (5, [], "x", True)),
    *((f"{axes} are not axes.", with_kept(axes=axes))
      for axes in (None, 5, "steps", ["step"], [[]])),
    *(("its timesteps are not a list of numbers.", with_kept(timesteps=times)) for times in (
        None, 5, {}, ["1", 2], [None, 1], [True, 1], [float("nan"), 1], [float("inf"), 1],
        [1, 10**400], [1, -1e13], [1.0] * 100_001,
    )),
    *(("what was kept separately has no details.", with_kept(details=details)) for details in (
        None, [], {}, "x",
    )),
    ("what was kept separately has 4097 details, over 4096.", with_kept(details=[DETAIL] * 4097)),
    *((f"{str({**PART['grids'][0], 'weight': weight})[:80]} is not a grid.",
       {**PART, "grids": [{**PART["grids"][0], "weight": weight}]})
      for weight in (0, -1, "1", None, True, [1.0], float("nan"), float("inf"), 1e10, 10**400)),
    ("Axes are some of steps, layers, heads, each once; got ()", with_kept(axes=[])),
    ("each once; got ('steps', 'steps')", with_kept(axes=["steps", "steps"])),
    ("Steps were not kept, but there are 2 with timesteps.", with_kept(axes=["heads"])),
    ("Heads were not kept, but there is a detail", with_kept(axes=["steps"])),
    ("There are 1 timesteps for 2 steps.", with_kept(timesteps=[1])),
    ("Additions are counts, at least one of them over 0; got (0, 0).",
     with_kept(details=[{**DETAIL, "additions": [0, 0]}])),
    ("has 4 additions, what was kept separately 5.",
     with_kept(details=[{**DETAIL, "additions": [3, 2]}])),
    ("A site belongs to one detail; these repeat: ['up.0'].",
     with_kept(details=[{**DETAIL, "sites": ["up.0", "up.0"]}])),
    ("these repeat: ['xxxxx", with_kept(details=[{**DETAIL, "sites": ["x" * 9999] * 2}])),
]  # fmt: skip


@pytest.mark.parametrize("where", ["main", "negative"])
@pytest.mark.parametrize(("text", "part"), BAD_PARTS, ids=lambda value: str(value)[:40])
def test_bad_part(tmp_path, text, part, where):
    header = {**HEADER, **part} if where == "main" else {**HEADER, "negative": part}
    assert_refused(tmp_path / "file", text, header)


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        *(("its negative prompt is not an object.", {"negative": value})
          for value in (5, [], "x", True)),
        ("its prompt is not a text.", {"negative": {}}),
        ("it has no tokens.", {"negative": {**PART, "tokens": []}}),
        ("[] is not a token.", {"negative": {**PART, "tokens": [[]]}}),
        ("it has no grids.", {"negative": {**PART, "grids": None}}),
        ("its facts about the run are not a flat object.",
         {"negative": {**PART, "run": {"a": []}}}),
        ("negative.grid 0 has shape [3, 2, 3] for 2 tokens.",
         {"negative": {**PART, "tokens": PART["tokens"][:2]}}),
        ("the tensor 'detail.1' is missing.", with_kept(details=[DETAIL, DETAIL])),
        ("the tensor 'negative.grid.1' is missing.",
         {"negative": {**PART, "grids": PART["grids"] * 2}}),
    ],
)  # fmt: skip
def test_bad_negative_or_missing(tmp_path, text, changes):
    assert_refused(tmp_path / "file", text, {**HEADER, **changes})


def detail(*shape: int) -> torch.Tensor:
    return torch.zeros(shape).half()


@pytest.mark.parametrize(
    ("text", "name", "tensor"),
    [
        *((f"detail 0 has shape {list(shape)} for 2 steps and 3 tokens.", "detail.0",
           detail(*shape))
          for shape in ((), (2, 3, 2, 3), (1, 4, 3, 2, 3), (2, 4, 4, 2, 3), (2, 0, 3, 2, 3),
                        (2, 1025, 3, 1, 1), (2, 1, 3, 0, 3), (2, 1, 3, 1, 2049))),
        *((f"detail 0 has type {name}.", "detail.0", MAPS["detail.0"].to(dtype))
          for name, dtype in (
              ("BF16", torch.bfloat16), ("F64", torch.float64), ("I8", torch.int8),
          )),
        ("negative.detail 0 has type U8.", "negative.detail.0", MAPS["detail.0"].byte()),
        ("negative.grid 0 has type F16.", "negative.grid.0", MAPS["grid.0"].half()),
        ("detail 0 has values that are not finite", "detail.0", MAPS["detail.0"] * torch.inf),
        ("negative detail 0 has values that are not finite", "negative.detail.0",
         MAPS["negative.detail.0"] * torch.nan),
        ("its mask has shape [24, 16].", "mask", torch.ones(24, 16)),
        ("its mask has type U8.", "mask", torch.ones(16, 24).byte()),
        ("Mask values must lie in [0, 1]; these go from 0 to 2.", "mask", 2 * torch.eye(16, 24)),
        ("The mask is all zero: no pixel is inside.", "mask", torch.zeros(16, 24)),
        ("mask has values that are not finite", "mask", torch.ones(16, 24) * torch.nan),
        ("The grid (2, 3) (height, width) has 4 additions, what was kept separately 0.", "detail.0",
         detail(2, 4, 3, 3, 2)),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, str) else "",
)  # fmt: skip
def test_bad_tensor(tmp_path, text, name, tensor):
    assert_refused(tmp_path / "file", text, tensors={**MAPS, name: tensor})


def test_more_cells_than_a_file_may_have(tmp_path, monkeypatch):
    monkeypatch.setattr("diffusers_rdaam.attribution.files.header.MAX_KEPT_CELLS", 287)
    text = "what was kept separately has 288 cells, over 287."
    assert_refused(tmp_path / "file", text)
    monkeypatch.setattr("diffusers_rdaam.attribution.files.header.MAX_CELLS", 35)
    assert_refused(tmp_path / "file", "its grids have 36 cells, over 35.")


def test_cut_off_and_changed_anywhere(tmp_path):
    """Every digit of the header, and cuts everywhere: an answer or the one error."""
    path = tmp_path / "file"
    load_with(path, HEADER)
    good = path.read_bytes()
    end = 8 + struct.unpack("<Q", good[:8])[0]
    for length in range(0, len(good), 97):
        path.write_bytes(good[:length])
        with pytest.raises(AttributionFileError):
            Attribution.load(path)
    outcomes = set()
    for place in [i for i in range(8, end) if chr(good[i]).isdigit()]:
        for digit in b"09-":
            path.write_bytes(good[:place] + bytes([digit]) + good[place + 1 :])
            try:
                attribution = Attribution.load(path)
            except AttributionFileError:
                outcomes.add("refused")
                continue
            attribution.region((0, 0, 1, 1)).to_dict()
            attribution.negative.steps[-1].column(1).over_time().mass((0, 0, 1, 1))
            outcomes.add("answered")
    assert outcomes == {"refused", "answered"}


def test_a_record_of_one_step_without_counts(tmp_path, make_attribution):
    attribution = make_attribution(grids=((2, 3),), size=(16, 24))
    grid = attribution.grids[0]
    kept = KeptMaps(("layers",), (MapStack(grid.maps[None, None], (50,), ("site.0.0",)),))
    whole = dataclasses.replace(attribution, kept=kept)
    loaded = Attribution.load(whole.save(tmp_path / "file"))
    assert_same_kept(loaded.kept, kept)
