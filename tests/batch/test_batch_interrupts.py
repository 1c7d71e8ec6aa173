"""Nothing lost, nothing twice: killed processes, full disks, damaged files; without Ray."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
from pathlib import Path

import pytest

from diffusers_rdaam import BatchError, InputError, read_batch, run_batch
from diffusers_rdaam.batch import file_worker
from diffusers_rdaam.batch.folder import BatchFolder

pytest.importorskip("pyarrow")
ROWS = [{"prompt": f"a cat in hat {number}"} for number in range(5)]


@pytest.fixture(scope="module")
def clean(pipe, small, tmp_path_factory, digests_of):
    """The digests of a batch that was not interrupted."""
    out = tmp_path_factory.mktemp("clean") / "out"
    run_batch(ROWS, out, pipe=pipe, model="tiny", rows_per_file=2, **small)
    return digests_of(out)


def in_another_process(call) -> int:
    """The exit status of a call in a copy of this process, negative for a signal."""
    process = multiprocessing.get_context("fork").Process(target=call)
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def kill_at(monkeypatch, name: str, time: int, *, after: bool) -> None:
    """SIGKILL for the process at one call of a method of the folder, before or after it."""
    stock, calls = getattr(BatchFolder, name), []

    def killing(self, *args):
        calls.append(args)
        if len(calls) == time and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        found = stock(self, *args)
        if len(calls) == time:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    monkeypatch.setattr(BatchFolder, name, killing)


@pytest.mark.every(2)
@pytest.mark.parametrize(
    ("name", "time", "after", "rows"),
    [
        ("keep", 2, False, 1),
        ("keep", 4, True, 4),
        ("finish", 1, False, 2),
        ("begin", 1, True, 0),
        ("close", 1, False, 5),
    ],
)
def test_a_killed_process_loses_one_row_at_most(
    make, tmp_path, monkeypatch, clean, digests_of, name, time, after, rows
):
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        kill_at(patched, name, time, after=after)
        assert in_another_process(lambda: make(ROWS, out, rows_per_file=2)) == -signal.SIGKILL
    done = make(ROWS, out, rows_per_file=2, resume=True)
    assert done.made == len(ROWS) - rows
    assert [row.values["index"] for row in read_batch(out)] == list(range(5))
    assert digests_of(out) == clean


def test_a_process_that_is_killed_before_the_rows_are_kept(
    make, tmp_path, monkeypatch, clean, digests_of
):
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        kill_at(patched, "_write_rows", 2, after=False)
        assert in_another_process(lambda: make(ROWS, out, rows_per_file=2)) == -signal.SIGKILL
    make(ROWS, out, rows_per_file=2)
    assert digests_of(out) == clean


@pytest.mark.parametrize("limit", [200, 4_000, 90_000])
def test_a_full_disk_stops_the_batch_and_loses_nothing(
    make, tmp_path, clean, digests_of, limit, capfd
):
    out = tmp_path / "out"

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with pytest.raises(BatchError, match=r"could not be written: File too large.*--resume"):
            make(ROWS, out, rows_per_file=2)

    assert in_another_process(limited) == 0, capfd.readouterr()
    assert not list(out.rglob("*.part")), "nothing half written is left"
    assert not list((out / "data").glob("*")), "a file of rows is whole or not there"
    make(ROWS, out, rows_per_file=2, resume=True)
    assert digests_of(out) == clean


def test_damaged_files_are_made_again(make, tmp_path, clean, digests_of):
    out = tmp_path / "out"
    make(ROWS, out, rows_per_file=2)
    first, second, _ = sorted((out / "data").iterdir())
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    assert make(ROWS, out, rows_per_file=2, resume=True).made == 4
    assert digests_of(out) == clean


def test_a_damaged_record_is_made_again(make, tmp_path, monkeypatch, clean, digests_of):
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        kill_at(patched, "finish", 1, after=False)
        in_another_process(lambda: make(ROWS, out, rows_per_file=2))
    one, two = sorted((out / ".batch" / "parts" / "00000").glob("*.arrow"))
    one.write_bytes(one.read_bytes()[:-9])
    shutil.copy(one.with_name("00000000.begun"), two)
    make(ROWS, out, rows_per_file=2, resume=True)
    assert digests_of(out) == clean


def test_a_row_that_ends_every_process_becomes_an_error(make, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(file_worker, "MAX_CRASHES", 2)
    stock = file_worker.RowRunner.run

    def ending(self, row):
        if row.prompt == "poison":
            os._exit(9)
        return stock(self, row)

    monkeypatch.setattr(file_worker.RowRunner, "run", ending)
    rows = [{"prompt": "a cat"}, {"prompt": "poison"}, {"prompt": "a dog"}]
    for _ in range(2):
        assert in_another_process(lambda: make(rows, out, resume=True)) == 9
    assert make(rows, out, resume=True).errors == 1
    first, poison, last = read_batch(out)
    assert first.error is None and last.error is None
    assert "The process ended 2 times while it ran this row" in poison.error


def test_two_processes_do_not_work_on_one_folder(make, tmp_path):
    out = tmp_path / "out"
    with (
        BatchFolder(out).locked(),
        pytest.raises(InputError, match="Another process is working on the batch"),
    ):
        make(ROWS, out)
    make(ROWS[:1], out)


def test_a_device_that_failed_stops_the_batch(make, pipe, tmp_path, monkeypatch):
    import inspect

    stock = type(pipe).__call__

    def failing(self, prompt, **options):
        raise RuntimeError("CUDA error: device-side assert triggered")

    failing.__signature__ = inspect.signature(stock)  # type: ignore[attr-defined]
    with monkeypatch.context() as patched:
        patched.setattr(type(pipe), "__call__", failing)
        with pytest.raises(BatchError, match="The device of a worker failed: CUDA error"):
            make(ROWS[:2], tmp_path / "out")
    assert make(ROWS[:2], tmp_path / "out", resume=True).errors == 0


def test_a_batch_of_other_versions_is_refused(make, tmp_path, monkeypatch):
    make(ROWS[:1], tmp_path / "out")
    from diffusers_rdaam.batch import settings

    found = settings.versions() | {"torch": "1.0"}
    monkeypatch.setattr(settings, "versions", lambda: found)
    with pytest.raises(InputError, match=r"torch \(.* there, 1.0 now\)"):
        make(ROWS[:1], tmp_path / "out", resume=True)


def test_paths_in_the_way_of_the_output_are_said(make, tmp_path):
    out = tmp_path / "out"
    make(ROWS[:1], out)
    job = out / ".batch" / "job.json"
    job.write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        make(ROWS[:1], out, resume=True)
    assert Path(out / "batch.json").is_file()
