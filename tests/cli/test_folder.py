"""What a verb leaves in its folder, and what it never touches there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from diffusers_rdaam import Attribution
from diffusers_rdaam.cli import app
from diffusers_rdaam.cli.folder import LIST, OutputFolder, write_file
from diffusers_rdaam.errors import InputError

PATTERNS = ("image.png", "word-*.png")


def rdaam(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def put(folder: OutputFolder, name: str, text: str) -> Path:
    return folder.save(name, lambda path: path.write_text(text))


def test_files_are_listed_and_an_earlier_run_is_removed(tmp_path) -> None:
    folder = OutputFolder(tmp_path / "out", PATTERNS)
    put(folder, "word-a.png", "one")
    put(folder, "word-b.png", "two")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    line = f"{hashlib.sha256(b'one').hexdigest()}  word-a.png\n"
    assert (tmp_path / "out" / LIST).read_text().startswith(line)
    again = OutputFolder(tmp_path / "out", PATTERNS)
    assert again.remove_earlier() == 2
    put(again, "word-b.png", "three")
    assert names(tmp_path / "out") == {"word-b.png", "notes.txt", LIST}


def test_a_file_of_somebody_else_is_neither_removed_nor_overwritten(tmp_path) -> None:
    (tmp_path / "word-mine.png").write_text("mine")
    with pytest.raises(InputError, match=r"holds word-mine\.png, not written by this command or"):
        OutputFolder(tmp_path, PATTERNS)
    assert names(tmp_path) == {"word-mine.png"}


def test_a_file_that_was_changed_since_is_somebody_elses(tmp_path) -> None:
    path = put(OutputFolder(tmp_path, PATTERNS), "word-a.png", "one")
    path.write_text("painted over")
    with pytest.raises(InputError, match=r"holds word-a\.png, not written by this command or "):
        OutputFolder(tmp_path, PATTERNS)
    assert OutputFolder(tmp_path, ("image.png",)).remove_earlier() == 0
    assert path.read_text() == "painted over"


def test_a_list_from_a_stranger_removes_nothing_outside(tmp_path) -> None:
    out, secret = tmp_path / "out", tmp_path / "secret"
    secret.write_text("keep")
    out.mkdir()
    (out / "link").symlink_to(secret)
    (out / "up").symlink_to(tmp_path)
    digest = hashlib.sha256(b"keep").hexdigest()
    listed = ["../secret", str(secret), "link", "up/secret", "./../secret", "a/../../secret", ""]
    (out / LIST).write_text("".join(f"{digest}  {name}\n" for name in listed) + "\0" * 99)
    assert OutputFolder(out, PATTERNS).remove_earlier() == 0
    assert secret.read_text() == "keep" and (out / "link").is_symlink()


def test_nothing_is_written_through_a_link(tmp_path) -> None:
    out, secret = tmp_path / "out", tmp_path / "secret"
    secret.write_text("keep")
    out.mkdir()
    (out / LIST).symlink_to(secret)
    (out / "other.png").symlink_to(secret)
    (out / "0").symlink_to(tmp_path)
    folder = OutputFolder(out, PATTERNS)
    with pytest.raises(InputError, match=r"cannot be written"):
        put(folder, "image.png", "new")
    (out / LIST).unlink()
    put(folder, "other.png", "new")
    assert not (out / "other.png").is_symlink() and (out / "other.png").read_text() == "new"
    with folder.scratch() as scratch:
        (scratch / "0").mkdir()
        (scratch / "0" / "secret").write_text("new")
        with pytest.raises(InputError, match=r"is a link, and files are written inside of --out"):
            folder.adopt(scratch)
    (out / "map.png").symlink_to(secret)
    write_file(out / "map.png", lambda path: path.write_text("new"), "The map")
    assert secret.read_text() == "keep" and (out / "map.png").read_text() == "new"
    assert not list(out.glob(".rdaam-*"))


PROMPT = "É e\u0301 ſ s CON a/b 🟥 3 " + "红" * 60


@pytest.mark.parametrize("verb", ["generate", "daam"])
def test_words_of_all_kinds_become_files_and_a_second_run_leaves_none(verb, tmp_path) -> None:
    steps = ["--steps", 1] if verb == "generate" else ["-n", 1]
    out = tmp_path / "out"
    result = rdaam(verb, PROMPT, *steps, "-o", out, "--seed", 3, "--format", "json")
    assert result.exit_code == 0, result.output
    found = names(out)
    assert max(len(name.encode()) for name in found) <= 120
    assert all("/" not in name for name in found) and names(tmp_path) == {f"out/{n}" for n in found}
    if verb == "generate":
        told = json.loads(result.stdout)["heat_maps"]
        assert {Path(path).name for path in told.values()} < found
        assert len(set(told.values())) == len(told)
        assert {"word-🟥.png", "word-3.png", "word-CON.png"} < found
        assert Attribution.load(out / "attribution.safetensors").prompt.text == PROMPT
    result = rdaam(verb, "a red circle", *steps, "-o", out)
    assert result.exit_code == 0, result.output
    assert f"{len(found) - 1} files of an earlier run in {out}" in result.stdout
    left = {name for name in names(out) if "word-" in name or "heat_map" in name}
    kept = ["a", "red", "circle"]
    wanted = {f"word-{w}.png" if verb == "generate" else f"{w}.heat_map.png" for w in kept}
    assert left == wanted
    Image.open(out / sorted(wanted)[0]).verify()
    assert (out / LIST).exists()


def test_what_cannot_be_written_names_no_temporary_file(tmp_path):
    with pytest.raises(InputError) as caught:
        write_file(tmp_path / "gone" / "map.png", lambda path: path.write_text("new"), "The map")
    assert str(caught.value).startswith(
        f"The map could not be written to {tmp_path / 'gone' / 'map.png'}: there is no folder "
        f"{tmp_path / 'gone'}. Give a path"
    )
