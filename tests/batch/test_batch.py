"""Batches in one process: what is written, what is read back, and what is refused."""

from __future__ import annotations

import io
import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_rdaam import (
    Attribution,
    BatchError,
    InputError,
    Mask,
    NoAttributionError,
    read_batch,
    run_batch,
)

pytest.importorskip("pyarrow")
import pyarrow.parquet as parquet

ROWS = [
    {"prompt": "a cat in a hat", "seed": 3, "boxes": [[0, 0, 40, 30]], "id": "first"},
    {"prompt": "a dog", "negative_prompt": "blurry", "words": ["dog"], "size": [32, 64]},
    {"prompt": "  "},
    {"prompt": "a box", "boxes": [[500, 500, 600, 600]]},
    {"prompt": "two cats"},
]


@pytest.fixture(scope="module")
def batch(pipe, tmp_path_factory):
    """The folder of a batch with rows that fail before and after their image."""
    out = tmp_path_factory.mktemp("batch") / "out"
    options = {"steps": 1, "height": 64, "width": 96, "progress": False}
    done = run_batch(ROWS, out, pipe=pipe, model="tiny", rows_per_file=2, folder=True, **options)
    assert (done.rows, done.errors, done.made, len(done.files)) == (5, 2, 5, 3)
    assert done.first_error == "row 2: its prompt is empty."
    return out


def test_a_row_is_what_the_pipeline_makes_by_itself(batch, pipe):
    row = next(read_batch(batch))
    generator = torch.Generator().manual_seed(3)
    output = pipe("a cat in a hat", num_inference_steps=1, height=64, width=96, generator=generator)
    assert np.array_equal(row.image, output.images[0])
    for one, other in zip(row.attribution.grids, output.attribution.grids, strict=True):
        assert torch.equal(one.maps, other.maps)
    assert row.facts == output.attribution.run and row.facts["seed"] == 3
    by_word = {word["text"]: word for word in row.values["words"]}
    cat = output.attribution.word("cat")
    assert by_word["cat"]["box"] == list(cat.box())
    lift = cat.mass(cat.box()) / cat.mass((0, 0, 96, 64))
    assert by_word["cat"]["lift"] == pytest.approx(lift, rel=1e-12)
    masks = {mask["word"]: mask for mask in row.values["masks"]}
    assert torch.equal(Mask.from_coco(masks["cat"]).weights > 0, cat.mask())
    (box,) = row.values["boxes"]
    answer = output.attribution.region((0, 0, 40, 30))
    assert [word["text"] for word in box["words"]] == [word.text for word in answer]
    assert box["words"][0]["lift"] == answer[0].lift and box["no_word"] == answer.no_word


def test_each_row_is_there_once_and_failed_rows_say_why(batch):
    rows = list(read_batch(batch))
    assert [row.values["index"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row.id for row in rows] == ["first", "00000001", "00000002", "00000003", "00000004"]
    assert [row.error is None for row in rows] == [True, True, False, False, True]
    assert rows[1].image.size == (64, 32) and [w["text"] for w in rows[1].values["words"]] == [
        "dog"
    ]
    assert rows[1].values["negative_prompt"] == "blurry" and rows[4].values["seed"] == 4
    assert rows[2].image is None and rows[2].values["error_class"] == "InputError"
    with pytest.raises(NoAttributionError, match="its prompt is empty"):
        _ = rows[2].attribution
    # What was made before the row failed is kept.
    assert rows[3].image is not None and rows[3].values["error_class"] == "RegionError"
    assert "lies outside" in rows[3].error and rows[3].attribution.word("box") is not None
    assert repr(rows[2]).startswith("BatchRow('00000002', ")


def test_plain_files_are_those_of_the_table(batch):
    (folder,) = (batch / "files").glob("00000000-*")
    assert folder.name == "00000000-first"
    row = next(read_batch(batch))
    assert (folder / "image.png").read_bytes() == row.values["image"]
    loaded = Attribution.load(folder / "attribution.safetensors")
    assert loaded.to_bytes() == row.values["attribution"]
    facts = json.loads((folder / "row.json").read_text())
    assert facts["prompt"] == "a cat in a hat" and facts["facts"]["seed"] == 3
    assert {path.name for path in (batch / "files" / "00000002").iterdir()} == {"row.json"}


def test_other_libraries_read_the_files(batch, tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(batch / "data")
    assert frame["prompt"][0] == "a cat in a hat" and frame["image"][0].startswith(b"\x89PNG")
    assert Image.open(io.BytesIO(frame["image"][4])).size == (96, 64)
    coco = pytest.importorskip("pycocotools.mask")
    mask = parquet.read_table(batch / "data")["masks"][0].as_py()[1]
    runs = coco.frPyObjects(mask, *mask["size"])
    # It still copies arrays as numpy 1 did.
    warnings.simplefilter("ignore", DeprecationWarning)
    assert np.array_equal(coco.decode(runs) > 0, Mask.from_coco(mask).weights.numpy() > 0)


@pytest.mark.slow
def test_datasets_reads_the_folder_by_its_card(batch, tmp_path):
    datasets = pytest.importorskip("datasets")
    found = datasets.load_dataset(str(batch), split="train", cache_dir=str(tmp_path))
    assert found.features["image"] == datasets.Image() and len(found) == 5
    row = found[0]
    assert row["image"].size == (96, 64) and row["words"][1]["text"] == "cat"
    attribution = Attribution.from_bytes(row["attribution"]).with_image(row["image"])
    assert attribution.prompt.text == "a cat in a hat"


def test_the_card_and_the_summary_name_every_file(batch):
    text = (batch / "README.md").read_text()
    assert text.startswith("---\n") and "5 rows, of which 2 failed" in text
    yaml = pytest.importorskip("yaml")
    head = yaml.safe_load(text.split("---\n")[1])
    names = [feature["name"] for feature in head["dataset_info"]["features"]]
    assert names == parquet.read_schema(next((batch / "data").iterdir())).names
    summary = json.loads((batch / "batch.json").read_text())
    assert (summary["rows"], summary["errors"]) == (5, 2)
    assert [file["rows"] for file in summary["files"]] == [2, 2, 1]


def test_the_same_rows_give_the_same_bytes(make, tmp_path, digests_of):
    one, two = tmp_path / "one", tmp_path / "two"
    make(ROWS[:3], one, rows_per_file=2)
    make(iter(ROWS[:3]), two, rows_per_file=2)
    assert digests_of(one) == digests_of(two)


def test_images_that_exist_are_attributed(make, pipe, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (128, 192, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    source = tmp_path / "rows.jsonl"
    box = [0, 0, 96, 64]
    rows = [
        {"prompt": "a cat", "image": "one.png", "boxes": [box], "seed": 5},
        {"prompt": "a cat", "image": "bad.png"},
        {"prompt": "a cat", "image": "none.png"},
    ]
    source.write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out"
    noise = {"noise": (0.3,), "draws": 1}
    done = make(source, out, image_options=noise)
    assert done.errors == 2
    first, bad, missing = read_batch(out)
    generator = torch.Generator().manual_seed(5)
    wanted = pipe.attribute_image(
        tmp_path / "one.png", "a cat", size=(64, 96), generator=generator, **noise
    )
    assert torch.equal(first.attribution.grids[0].maps, wanted.grids[0].maps)
    # The box is in pixels of the file, the answer in those of what it was scaled to.
    assert first.values["boxes"][0]["box"] == [0, 0, 48, 32]
    assert "cannot be read as an image" in bad.error and "There is no image at" in missing.error


def test_a_row_that_fails_for_another_reason_runs_again(make, pipe, tmp_path, monkeypatch):
    calls: list[str] = []
    stock = type(pipe).__call__

    def failing(self, prompt, **options):
        calls.append(prompt)
        if prompt == "never" or len(calls) == 1:
            raise RuntimeError("out of something\nsecond line")
        return stock(self, prompt, **options)

    failing.__signature__ = __import__("inspect").signature(stock)
    monkeypatch.setattr(type(pipe), "__call__", failing)
    done = make([{"prompt": "a cat"}, {"prompt": "never"}], tmp_path / "out", retries=1)
    assert calls == ["a cat", "a cat", "never", "never"] and done.errors == 1
    assert list(read_batch(tmp_path / "out"))[1].error == "RuntimeError: out of something"


def test_warnings_of_a_row_are_in_it(make, tmp_path):
    make([{"prompt": "cat " * 100}], tmp_path / "out")
    (row,) = read_batch(tmp_path / "out")
    assert row.error is None and len(row.values["warnings"]) == 1
    assert "cat" in row.values["warnings"][0]


def test_a_folder_with_other_settings_is_refused(make, tmp_path):
    out = tmp_path / "out"
    make(ROWS[:1], out)
    before = (out / "batch.json").read_bytes()
    with pytest.raises(InputError, match=r"holds this batch already, 1 of its 1 files .*--resume"):
        make(ROWS[:1], out)
    assert make(ROWS[:1], out, resume=True).made == 0
    with pytest.raises(InputError, match=r"other settings: guidance_scale \(None there, 3.0 now\)"):
        make(ROWS[:1], out, resume=True, guidance_scale=3.0)
    with pytest.raises(InputError, match=r"other settings: the rows \(1 there, 2 now, or others\)"):
        make(ROWS[:2], out, resume=True)
    assert (out / "batch.json").read_bytes() == before
    foreign = tmp_path / "foreign"
    (foreign / "data").mkdir(parents=True)
    with pytest.raises(InputError, match=r"holds data, which no batch wrote"):
        make(ROWS[:1], foreign)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        make(ROWS[:1], tmp_path / "file")


@pytest.mark.parametrize(
    ("rows", "options", "text"),
    [
        ([], {}, "the rows has no rows"),
        ([{"seed": 3}], {}, "No row of the rows has a prompt"),
        (
            [{"prompt": "a", "id": 1}, {"prompt": "b", "id": "1"}],
            {},
            "occurs twice in the rows: row 0",
        ),
        ({"prompt": "a"}, {}, "got a dict"),
        (ROWS, {"height": 65}, "height= is a multiple of 8"),
        (ROWS, {"width": None}, "height= and width= are given together"),
        (ROWS, {"step": 3}, "Did you mean steps="),
        (ROWS, {"workers": 2}, "pipe= is a pipeline of this process"),
        (ROWS, {"workers": 0}, "workers= is a whole number from 1"),
        (ROWS, {"use_ray": False, "workers": 2}, "Several workers, GPUs of each"),
        (ROWS, {"gpus_per_worker": 1.5}, "gpus_per_worker= is a number from 0 to 1"),
        (ROWS, {"retries": -1}, "retries= is a whole number from 0"),
        (ROWS, {"guidance_scale": float("nan")}, "guidance_scale= is a number"),
    ],
)
def test_wrong_arguments_write_nothing(make, tmp_path, rows, options, text):
    with pytest.raises(InputError, match=text.replace("(", r"\(")):
        make(rows, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_batch_that_is_not_there_or_not_complete(tmp_path):
    with pytest.raises(InputError, match="There is no batch in"):
        read_batch(tmp_path)
    (tmp_path / ".batch").mkdir()
    (tmp_path / ".batch" / "job.json").write_text("{}")
    with pytest.raises(BatchError, match="is not complete"):
        read_batch(tmp_path)


def test_a_missing_library_is_named(make, tmp_path, monkeypatch):
    import sys

    from diffusers_rdaam import BatchExtraError

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BatchExtraError, match=r'pip install "diffusers_rdaam\[batch\]"'):
        make(ROWS, tmp_path / "out")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(BatchExtraError, match=r"Run in one process with --no-ray"):
        run_batch(ROWS, tmp_path / "out", workers=2)


def test_an_attribution_in_bytes(make_attribution, tmp_path, types_unchecked):
    attribution = make_attribution()
    content = attribution.to_bytes()
    assert content == attribution.save(tmp_path / "one.safetensors").read_bytes()
    again = Attribution.from_bytes(content)
    assert again.to_bytes() == content and np.array_equal(again.image, attribution.image)
    from diffusers_rdaam import AttributionFileError

    for wrong in (b"", content[:-1], content + b"x", b"\x00" * 100):
        with pytest.raises(AttributionFileError):
            Attribution.from_bytes(wrong)
    with pytest.raises(InputError, match="takes the bytes of an attribution; got a str"):
        Attribution.from_bytes("one.safetensors")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"dtype": "float13"}, "'float13' is not a dtype. Did you mean 'float"),
        ({"dtype": torch.float16}, "is not a dtype"),
        ({"guidance_scale": "7"}, "guidance_scale= is a number from 0 to 1000; got '7'"),
        ({"guidance_scale": float("nan")}, "guidance_scale= is a number from 0 to 1000"),
        ({"steps": True}, "steps= is a whole number from 1"),
        ({"device": None}, "device= is such as 'cuda'; got None"),
        ({"folder": "no"}, "folder= is True or False; got 'no'"),
        ({"image_options": {"noise": 7}}, "A level of noise= is a share of noise"),
        ({"image_options": {"methd": "invert"}}, r"image_options.* no argument 'methd'.*method="),
        ({"image_options": {"size": (64, 64)}}, "no argument 'size'"),
        ({"image_options": "forward"}, "image_options= are names and values"),
    ],
)
def test_settings_that_are_wrong_are_said_before_a_folder_is_made(make, tmp_path, options, text):
    with pytest.raises(InputError, match=text):
        make(ROWS[:1], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_settings_may_be_numbers_of_numpy(make, tmp_path):
    options = {"seed": np.int64(3), "rows_per_file": np.int32(1), "threads": np.int64(1)}
    image_options = {"noise": np.float32(0.5), "draws": np.int64(1)}
    scale = np.float64(2.0)
    done = make(
        ROWS[4:], tmp_path / "out", guidance_scale=scale, image_options=image_options, **options
    )
    assert done.errors == 0
    settings = json.loads((tmp_path / "out" / "batch.json").read_text())["settings"]
    assert (settings["seed"], settings["guidance_scale"]) == (3, 2.0)
    assert settings["image_options"] == {"noise": [0.5], "draws": 1}


def test_a_batch_that_made_no_row_leaves_the_folder_to_another(make, tmp_path):
    """Its model could not be loaded: with the right one the folder was that of other settings."""
    out = tmp_path / "out"
    with pytest.raises(InputError, match="nowhere"):
        run_batch(ROWS[:1], out, model=tmp_path / "nowhere", use_ray=False, progress=False)
    assert make(ROWS[:1], out).errors == 0
    with pytest.raises(InputError, match="holds a batch of other settings"):
        run_batch(ROWS[:1], out, model=tmp_path / "nowhere", use_ray=False, progress=False)


def test_a_batch_that_was_copied_in_part_is_said(make, tmp_path):
    out = tmp_path / "out"
    make([{"prompt": "a cat"}, {"prompt": "a dog"}], out, rows_per_file=1)
    first, second = sorted((out / "data").iterdir())
    content = second.read_bytes()
    second.write_bytes(content[: len(content) // 2])
    rows = read_batch(out)
    assert next(rows).prompt == "a cat"
    with pytest.raises(BatchError, match=f"{second.name} is missing or damaged"):
        next(rows)
    first.unlink()
    with pytest.raises(BatchError, match=f"{first.name} is missing or damaged"):
        next(read_batch(out))
    # What is missing is made again.
    assert make([{"prompt": "a cat"}, {"prompt": "a dog"}], out, rows_per_file=1, resume=True)
    assert second.read_bytes() == content and [row.prompt for row in read_batch(out)] == [
        "a cat",
        "a dog",
    ]
    for text in ("{", "[]", '{"files": [3]}'):
        (out / "batch.json").write_text(text)
        with pytest.raises(BatchError, match=r"batch.json is damaged"):
            next(read_batch(out))
