"""A session's history: files in a folder of its own, bounded, and gone when its visitor is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_rdaam import Attribution, InputError, NoAttributionError
from diffusers_rdaam.app import session as sessions
from diffusers_rdaam.app.requests import GenerationRequest
from diffusers_rdaam.app.runs import Run
from diffusers_rdaam.app.session import Session, Sessions


def _add(session: Session, found: Attribution, title: str = "a title") -> int:
    return session.add(found, found.image, title=title, kind="file").number


def test_an_entry_is_read_from_its_file(
    tmp_path: Path, make_attribution: Callable[..., Attribution]
) -> None:
    session = Session(tmp_path / "one")
    made = [make_attribution(seed=seed) for seed in range(4)]
    numbers = [_add(session, one) for one in made]
    assert numbers == [1, 2, 3, 4] and [one.number for one in session.entries] == [4, 3, 2, 1]
    for number, one in zip(numbers, made, strict=True):
        found = session.attribution(number)
        assert torch.equal(found.grids[0].maps, one.grids[0].maps)
        assert found is session.attribution(number), "the last ones stay in memory"
    assert session.entry(1).thumbnail is not None
    assert max(session.entry(1).thumbnail.size) <= 96


def test_the_history_is_bounded_in_number_and_bytes(
    tmp_path: Path, make_attribution: Callable[..., Attribution], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, found = Session(tmp_path / "one"), make_attribution()
    monkeypatch.setattr(sessions, "MOST_ENTRIES", 3)
    for _ in range(5):
        _add(session, found)
    assert [one.number for one in session.entries] == [5, 4, 3]
    assert sorted(path.name for path in session.folder.iterdir()) == ["0003", "0004", "0005"]
    monkeypatch.setattr(sessions, "MOST_BYTES", 1)
    _add(session, found)
    assert [one.number for one in session.entries] == [6], "the newest stays in any case"
    with pytest.raises(InputError, match=r"no image 5 in .*history\. Images: 6"):
        session.attribution(5)


def test_the_images_behind_a_request_come_back_from_files(
    tmp_path: Path, make_attribution: Callable[..., Attribution], picture: Image.Image
) -> None:
    session, found = Session(tmp_path / "one"), make_attribution()
    mask = Image.new("L", picture.size, 255)
    request = GenerationRequest("a cat", start=picture, mask=mask)
    entry = session.add(
        found, found.image, title="a cat", kind="made", request=request, seed=3, seconds=1.0
    )
    assert entry.request is not None and entry.request.start is None, "it is in no memory"
    again = session.replay(entry.number)
    assert again.start is not None and (np.asarray(again.start) == np.asarray(picture)).all()
    assert again.mask is not None and again.prompt == "a cat"
    other = _add(session, found)
    with pytest.raises(InputError, match="of images that were made here"):
        session.replay(other)


def test_an_image_without_an_attribution_says_so(tmp_path: Path, picture: Image.Image) -> None:
    session = Session(tmp_path / "one")
    number = session.add(None, picture, title="a cat", kind="made").number
    with pytest.raises(NoAttributionError, match="Image 1 was made, but not its attribution"):
        session.attribution(number)


@pytest.mark.parametrize("key", ["../outside", "/etc", "a/../../b", "", "\x00", "x" * 5000])
def test_a_key_is_part_of_no_path(
    tmp_path: Path, make_attribution: Callable[..., Attribution], key: str
) -> None:
    root = tmp_path / "root"
    found = Sessions(root)
    number = _add(found.get(key), make_attribution(), title="../../x")
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written and all(path.is_relative_to(root / "session-1") for path in written)
    assert found.get(key).attribution(number).words
    found.close(key)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_no_session_sees_another_s_images(
    tmp_path: Path, make_attribution: Callable[..., Attribution]
) -> None:
    found = Sessions(tmp_path)
    _add(found.get("first"), make_attribution())
    with pytest.raises(InputError, match=r"no image 1 in .*history\. Images: none"):
        found.get("second").attribution(1)


def test_the_session_unused_for_longest_makes_room_unless_it_runs(
    tmp_path: Path, make_attribution: Callable[..., Attribution], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MOST_SESSIONS", 2)
    found = Sessions(tmp_path)
    first = found.get("first")
    first.run = Run(lambda pipe, run: None)
    second = found.get("second")
    _add(second, make_attribution())
    found.get("third")
    assert len(found) == 2 and found.get("first") is first
    assert not second.folder.exists() and not first.run.is_cancelled
    found.close("first")
    assert first.run.is_cancelled, "nobody waits for it any more"
