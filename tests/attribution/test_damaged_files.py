"""Files that are cut off, changed at random, or of another kind."""

from __future__ import annotations

import json
import pickle
import random
import struct
from pathlib import Path

import pytest
import torch

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.errors import AttributionFileError


@pytest.fixture
def good(make_attribution, tmp_path) -> bytes:
    attribution = make_attribution("a cat", grids=((4, 6), (2, 3)), size=(16, 24))
    data = attribution.save(tmp_path / "good").read_bytes()
    # The table is written in no fixed order; sorted, the same bytes are changed in every run.
    end = 8 + struct.unpack("<Q", data[:8])[0]
    table = json.dumps(json.loads(data[8:end]), sort_keys=True).encode()
    return struct.pack("<Q", len(table)) + table + data[end:]


def test_the_sorted_table_is_good(good, tmp_path):
    (tmp_path / "file").write_bytes(good)
    assert answers_or_refuses(tmp_path / "file")


def test_cut_off_anywhere(good, tmp_path):
    path = tmp_path / "file"
    lengths = {0, 1, 7, 8, 9, 100, len(good) - 1, *range(0, len(good), len(good) // 60)}
    for length in sorted(lengths - {len(good)}):
        path.write_bytes(good[:length])
        with pytest.raises(AttributionFileError) as caught:
            Attribution.load(path)
        assert f"{path} is not a whole safetensors file (" in str(caught.value)
        assert str(caught.value).endswith(". It may be cut off; save it again.")


def test_with_bytes_behind_the_end(good, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(good + b"more")
    with pytest.raises(AttributionFileError, match="is not a whole safetensors file"):
        Attribution.load(path)


def answers_or_refuses(path: Path) -> bool:
    try:
        attribution = Attribution.load(path)
    except AttributionFileError:
        return False
    attribution.region((0, 0, 1, 1)).to_dict()
    assert repr(attribution)
    return True


def test_random_bytes_changed(good, tmp_path):
    path = tmp_path / "file"
    generator = random.Random(0)
    header_end = 8 + struct.unpack("<Q", good[:8])[0]
    outcomes = []
    for i in range(400):
        changed = bytearray(good)
        end = len(good) if i % 4 == 0 else header_end
        for _ in range(generator.choice([1, 1, 2, 5, 20])):
            changed[generator.randrange(end)] = generator.choice(
                [generator.randrange(256), *b'0123456789"[]{},:-']
            )
        path.write_bytes(bytes(changed))
        outcomes.append(answers_or_refuses(path))
    assert any(outcomes) and not all(outcomes)


def test_digits_of_the_header_changed(good, tmp_path):
    """Sizes, counts and spans that are still valid JSON."""
    path = tmp_path / "file"
    header_end = 8 + struct.unpack("<Q", good[:8])[0]
    places = [i for i in range(8, header_end) if chr(good[i]).isdigit()]
    assert len(places) > 50
    for place in places:
        for digit in b"019-":
            path.write_bytes(good[:place] + bytes([digit]) + good[place + 1 :])
            answers_or_refuses(path)


@pytest.mark.parametrize("content", [b"", b"\x00" * 8, b"\xff" * 8, b"\x00" * 100, b"PK\x03\x04"])
def test_no_safetensors(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(AttributionFileError, match="is not a whole safetensors file"):
        Attribution.load(tmp_path / "file")


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("dump", [pickle.dumps, None])
def test_nothing_is_unpickled(tmp_path, monkeypatch, dump):
    monkeypatch.chdir(tmp_path)
    if dump is None:
        torch.save({"grid.0": Bomb()}, tmp_path / "file")
    else:
        (tmp_path / "file").write_bytes(dump(Bomb()))
    with pytest.raises(AttributionFileError, match="is not a whole safetensors file"):
        Attribution.load(tmp_path / "file")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 100_000,
        b"{" + b'"a":{' * 50_000,
        b'{"__metadata__": 5}',
        b'{"__metadata__": {"format": 5}}',
        b'{"__metadata__": {"format": "\xff"}}',
        b'{"grid.0": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}',
        b'{"grid.0": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        b'{"grid.0": {"dtype": "F32", "shape": [4611686018427387904, 16], "data_offsets": [0, 4]}}',
        b'{"grid.0": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"grid.0": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}',
    ],
)
def test_hostile_safetensors_table(tmp_path, header):
    path = tmp_path / "file"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\x00" * 4)
    with pytest.raises(AttributionFileError, match="is not a whole safetensors file"):
        Attribution.load(path)


def test_table_that_is_longer_than_any_file(tmp_path):
    (tmp_path / "file").write_bytes(struct.pack("<Q", 2**63) + b"{}")
    with pytest.raises(AttributionFileError, match="is not a whole safetensors file"):
        Attribution.load(tmp_path / "file")
