"""Workers on a cluster of Ray on this machine: killed, and with a killed driver; the same bytes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diffusers_rdaam import InputError, read_batch, run_batch

pytest.importorskip("pyarrow")
pytest.importorskip("ray")
ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "data" / "tiny_sd"
COUNT = 24
# A process of its own: Ray is started once in each, and warns of what this test run makes errors.
DRIVER = f"""
import sys
from pathlib import Path
from diffusers_rdaam import BatchError, run_batch

out, workers, resume = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "resume"
limit = int(sys.argv[4])


def full_disk():
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


if limit:
    # Of the workers alone: Ray's own files and its object store are larger.
    import ray
    hook = {{"worker_process_setup_hook": full_disk}}
    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False,
             object_store_memory=100 * 2**20, logging_level="error", runtime_env=hook)
on_ray = dict(workers=workers) if workers else dict(use_ray=False)
try:
    done = run_batch(
        [f"a cat in hat {{i}}" for i in range({COUNT})], out, model={str(TINY)!r}, steps=2,
        height=64, width=96, rows_per_file=3, resume=resume, progress=False, **on_ray,
    )
    print("made", done.made, "errors", done.errors)
except BatchError as error:
    print("stopped:", error)
"""


def driver(
    out: Path, workers: int, *, resume: bool = False, limit: int = 0
) -> subprocess.Popen[str]:
    """A batch in a process of its own; without workers in that process alone.

    With a limit no file that a worker writes may have more bytes, as on a full disk.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    begin = "resume" if resume else "new"
    command = [sys.executable, "-c", DRIVER, str(out), str(workers), begin, str(limit)]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def ended(process: subprocess.Popen[str]) -> str:
    """What a driver printed, whose status must be 0."""
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said
    return said


def wait_for_rows(out: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Until so many records are there."""
    begun = time.monotonic()
    while time.monotonic() - begun < 600:
        parts = list((out / ".batch" / "parts").glob("*/*.arrow"))
        done = list((out / ".batch" / "done").glob("*.json"))
        if len(parts) + 3 * len(done) >= count:
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError("no rows came")


def workers_below(process: subprocess.Popen[str]) -> list[int]:
    """The processes of the actors that a driver's cluster runs."""
    psutil = pytest.importorskip("psutil")
    names = ("ray::_Actor", "ray::MapWorker")
    found = []
    for one in psutil.Process(process.pid).children(recursive=True):
        try:
            if any(name in " ".join(one.cmdline()) for name in names):
                found.append(one.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_killed_workers_and_drivers_leave_the_same_bytes(tmp_path, digests_of):
    ended(driver(tmp_path / "plain", 0))
    wanted = digests_of(tmp_path / "plain")
    out = tmp_path / "killed"
    process = driver(out, 2)
    wait_for_rows(out, 4, process)
    victims = workers_below(process)
    assert victims
    os.kill(victims[0], signal.SIGKILL)
    wait_for_rows(out, 10, process)
    process.kill()
    process.communicate()
    time.sleep(3)
    assert "errors 0" in ended(driver(out, 2, resume=True))
    assert [row.values["index"] for row in read_batch(out)] == list(range(COUNT))
    assert digests_of(out) == wanted


@pytest.mark.slow
def test_three_workers_write_what_one_process_writes(tmp_path, digests_of):
    ended(driver(tmp_path / "plain", 0))
    ended(driver(tmp_path / "three", 3))
    assert digests_of(tmp_path / "three") == digests_of(tmp_path / "plain")


@pytest.mark.slow
def test_a_full_disk_under_workers_stops_the_batch_and_loses_nothing(tmp_path, digests_of):
    ended(driver(tmp_path / "plain", 0))
    out = tmp_path / "full"
    # A record fits, a file of three rows does not.
    largest = max(path.stat().st_size for path in (tmp_path / "plain" / "data").iterdir())
    said = ended(driver(out, 2, limit=largest - 1))
    assert "stopped: " in said and "could not be written: File too large" in said
    assert "--resume" in said and "Traceback" not in said
    assert not list(out.rglob("*.part")), "nothing half written is left"
    assert list((out / ".batch" / "parts").rglob("*.arrow")), "what fitted is kept"
    assert "errors 0" in ended(driver(out, 2, resume=True))
    assert digests_of(out) == digests_of(tmp_path / "plain")


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "nowhere"])
def test_a_cluster_that_is_not_there_is_said_at_once(tmp_path, address):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    begun = time.monotonic()
    with pytest.raises(InputError, match="There is no cluster of Ray at --address"):
        run_batch(["a cat"], tmp_path / "o", address=address.format(port=port), progress=False)
    assert time.monotonic() - begun < 60
    assert not (tmp_path / "o").exists(), "the folder would have to be gone on with"


def test_the_error_of_a_worker_comes_back_as_it_was(monkeypatch):
    from dataclasses import asdict

    from diffusers_rdaam import BatchError, UnsupportedPipelineError
    from diffusers_rdaam.batch import ray_workers
    from diffusers_rdaam.batch.folder import FileOfRows

    file = FileOfRows("data/part", 3, 1, 99, "ab")
    outcomes = [file, BatchError("the disk is full. Go on."), UnsupportedPipelineError("no family")]

    class Worker:
        def __init__(self, work):
            assert work == "work"

        def make(self, number):
            found = outcomes[number]
            if isinstance(found, Exception):
                raise found
            return found

    monkeypatch.setattr(ray_workers, "FileWorker", Worker)
    made = ray_workers._Actor("work")({"number": [0, 1, 2]})
    rows = [dict(zip(made, values, strict=True)) for values in zip(*made.values(), strict=True)]
    assert asdict(ray_workers._file_of(rows[0])) == asdict(file)
    for row, wanted in zip(rows[1:], outcomes[1:], strict=True):
        with pytest.raises(type(wanted)) as found:
            ray_workers._file_of(row)
        assert type(found.value) is type(wanted) and str(found.value) == str(wanted)


def test_the_error_of_a_worker_is_said_without_its_traceback():
    from ray.exceptions import RayTaskError

    from diffusers_rdaam import BatchError, UnsupportedPipelineError
    from diffusers_rdaam.batch.ray_workers import _reason

    for cause in (BatchError("the disk is full"), UnsupportedPipelineError("no such family")):
        raised = RayTaskError("make", "a long\ntraceback", cause).as_instanceof_cause()
        try:
            raise RuntimeError("a failure of the stream") from raised
        except RuntimeError as error:
            found = _reason(error)
        assert type(found) is type(cause) and str(found) == str(cause)
    other = _reason(OSError("first\nthe cluster went away"))
    assert type(other) is BatchError and "OSError: the cluster went away" in str(other)
