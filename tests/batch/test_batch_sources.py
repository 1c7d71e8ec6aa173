"""The formats of the input, and what is wrong with a file or with one row of it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from diffusers_rdaam import InputError
from diffusers_rdaam.batch.prompt_row import COLUMNS
from diffusers_rdaam.batch.sources import BatchInput, ListedRows
from diffusers_rdaam.batch.text_sources import MAX_LINE, SourceRow

pa = pytest.importorskip("pyarrow")
ROWS = [
    {"id": "one", "prompt": "a cat, in a hat", "seed": 3, "size": [64, 96]},
    {"id": "two", "prompt": 'a "red" dog', "words": ["red"], "boxes": [[0, 0, 8, 8]]},
    {"id": "three", "prompt": "ein Hündchen"},
]


def written(path: Path, rows=ROWS) -> Path:
    """The rows in the format of the path's ending."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            names = ["id", "prompt", "seed", "size", "words", "boxes"]
            writer = csv.DictWriter(file, names, delimiter="\t" if "t" in path.suffix else ",")
            writer.writeheader()
            for row in rows:
                lists = {n: json.dumps(v) for n, v in row.items() if isinstance(v, list)}
                writer.writerow(row | lists)
    else:
        import pyarrow.parquet

        names = list(dict.fromkeys(name for row in rows for name in row))
        table = pa.Table.from_pylist([dict.fromkeys(names) | row for row in rows])
        pyarrow.parquet.write_table(table, path)
    return path


def read(source: BatchInput | ListedRows) -> list[SourceRow]:
    return list(source.rows())


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_formats_have_the_same_rows(tmp_path, ending):
    from diffusers_rdaam.batch.prompt_row import read_row

    path = written(tmp_path / f"rows.{ending}")
    found = [read_row(i, row.fields, row.place, 0) for i, row in enumerate(read(BatchInput(path)))]
    wanted = [read_row(i, row, "", 0) for i, row in enumerate(ROWS)]
    assert found == wanted and all(row.problem is None for row in found)
    assert found[0].size == (64, 96) and found[1].words == ("red",) and found[2].seed == 2


def test_plain_text_is_a_prompt_a_line(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes(b"\xef\xbb\xbfa cat\r\n\r\n  a dog \nlast")
    assert [row.fields for row in read(BatchInput(path))] == [
        {"prompt": "a cat"},
        {"prompt": "a dog"},
        {"prompt": "last"},
    ]


def test_captions_of_coco_with_and_without_their_images(tmp_path):
    path = tmp_path / "captions.json"
    content = {
        "images": [{"id": 7, "file_name": "7.jpg"}],
        "annotations": [
            {"id": 1, "image_id": 7, "caption": " A cat. "},
            {"id": 2, "image_id": 8, "caption": "A dog."},
            {"id": 3, "image_id": 7},
        ],
    }
    path.write_text(json.dumps(content))
    rows = read(BatchInput(path))
    assert [row.fields for row in rows[:2]] == [
        {"prompt": "A cat.", "id": 1},
        {"prompt": "A dog.", "id": 2},
    ]
    assert rows[2].problem == "annotation 2 has no caption"
    with_images = read(BatchInput(path, images=tmp_path))
    assert with_images[0].fields["image"] == str(tmp_path / "7.jpg")
    assert "is of image 8, which is not listed" in str(with_images[1].problem)
    content["annotations"] = [{"id": 1, "bbox": [0, 0, 1, 1]}]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"None of the annotations .* has a caption"):
        read(BatchInput(path))


def test_a_data_set_on_disk_is_read_by_its_splits(tmp_path):
    datasets = pytest.importorskip("datasets")
    one = datasets.Dataset.from_list([{"prompt": "a cat"}, {"prompt": "a dog"}])
    one.save_to_disk(tmp_path / "one")
    assert [row.fields["prompt"] for row in read(BatchInput(tmp_path / "one"))] == [
        "a cat",
        "a dog",
    ]
    both = datasets.DatasetDict({"train": one, "test": one.select([1])})
    both.save_to_disk(tmp_path / "both")
    assert len(read(BatchInput(tmp_path / "both", split="test"))) == 1
    with pytest.raises(InputError, match=r"has the splits train, test; None is not one"):
        read(BatchInput(tmp_path / "both"))
    with pytest.raises(InputError, match=r"has no splits"):
        read(BatchInput(tmp_path / "one", split="train"))


def test_columns_of_other_names_are_named_or_left_out(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("caption,source\na cat,web\n")
    with pytest.raises(InputError, match=r"no column 'prompt'.* It has: caption, source"):
        read(BatchInput(path))
    with pytest.raises(InputError, match=r"'source' \(the first line of .* is not a column"):
        read(BatchInput(path, columns={"prompt": "caption"}))
    rows = read(BatchInput(path, columns={"prompt": "caption"}, ignore=True))
    assert rows[0].fields == {"prompt": "a cat"}
    with pytest.raises(InputError, match=r"'promt' is not a column .* Did you mean 'prompt'"):
        BatchInput(path, columns={"promt": "caption"})
    with pytest.raises(InputError, match=r"no column 'captions'. Did you mean 'caption'"):
        read(BatchInput(path, columns={"prompt": "captions"}))


def test_an_unknown_column_of_any_row_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": "b", "sed": 3}\n')
    with pytest.raises(InputError, match=r"'sed' \(line 2 of .* Did you mean 'seed'"):
        read(BatchInput(path))
    with pytest.raises(InputError, match=r"'text' \(row 0 of the rows\) is not a column"):
        read(ListedRows(({"text": "a"},)))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"prompt": "a"', "line 2 is not JSON"),
        (b'["a"]', "line 2 is a list, and a row is a JSON object"),
        (b'{"prompt": "a", "prompt": "b"}', "occurs twice"),
        (b'{"prompt": "' + b"a" * MAX_LINE + b'"}', f"line 2 has over {MAX_LINE} bytes"),
    ],
)
def test_a_line_that_is_wrong_is_a_row_with_a_problem(tmp_path, content, problem):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"prompt": "first"}\n' + content + b'\n{"prompt": "last"}\n')
    first, wrong, last = read(BatchInput(path))
    assert first.problem is None and last.fields == {"prompt": "last"}
    assert wrong.problem is not None and problem in wrong.problem


def test_a_row_of_a_table_with_too_many_cells_or_bytes_is_one_problem(tmp_path):
    path = tmp_path / "rows.csv"
    long = "a" * (MAX_LINE + 1)
    path.write_text(f"prompt,seed\na cat,1\na dog,2,3\n{long},4\nlast,5\n")
    rows = read(BatchInput(path))
    assert [row.problem is None for row in rows] == [True, False, False, True]
    assert "3 cells, and the first line has 2" in str(rows[1].problem)
    assert "line 4 has over" in str(rows[2].problem)
    path.write_text('prompt,seed\n"a cat,1\na dog,2\n')
    with pytest.raises(InputError, match="quotation mark is not closed"):
        read(BatchInput(path))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.txt", "rows.parquet"])
def test_files_that_are_not_there_or_of_another_kind(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(InputError, match="There is no input at"):
        BatchInput(path)
    path.write_bytes("a cat\n".encode("utf-16"))
    with pytest.raises(InputError, match=r"not UTF-8 text|cannot be read as Parquet"):
        read(BatchInput(path))


def test_formats_that_are_not_known(tmp_path):
    path = tmp_path / "rows.xlsx"
    path.write_text("")
    with pytest.raises(InputError, match="does not say which format it is"):
        BatchInput(path)
    assert read(BatchInput(path, input_format="text")) == []
    with pytest.raises(InputError, match="'exel' is not a format of rows"):
        BatchInput(path, input_format="exel")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="has no rows"):
        BatchInput(tmp_path)


def test_every_column_says_what_it_is():
    assert set(COLUMNS) >= {"prompt", "negative_prompt", "seed", "size", "words", "boxes", "image"}


def test_a_cell_that_python_cannot_hold_is_wrong_in_its_row_alone(tmp_path):
    """Arrow raises for the whole batch of rows, also for a column that is left out."""
    import pyarrow.parquet

    from diffusers_rdaam.batch.prompt_row import read_row

    prompts = pa.array([b"a cat", b"\xff\xfe", b"a dog"], pa.binary()).view(pa.string())
    dates = pa.array([0, 2**60, None], pa.timestamp("us"))
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pa.table({"prompt": prompts, "made": dates}), path)
    rows = [
        read_row(index, row.fields, row.place, 0)
        for index, row in enumerate(read(BatchInput(path, ignore=True)))
    ]
    assert [row.prompt for row in rows] == ["a cat", None, "a dog"]
    assert [row.problem is None for row in rows] == [True, False, True]
    assert "row 1: prompt is a text; got a value that cannot be read" in str(rows[1].problem)
