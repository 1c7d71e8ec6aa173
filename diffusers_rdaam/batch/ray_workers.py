"""Workers on Ray: actors that hold a pipeline each, on this machine or on a cluster.

Through Ray's object store go the numbers of files and what was written, a few hundred bytes each;
images go from a worker to the folder of the batch.
"""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from diffusers_rdaam import errors
from diffusers_rdaam.batch.extra import import_ray
from diffusers_rdaam.batch.file_worker import FileWorker, Work
from diffusers_rdaam.batch.folder import GO_ON, FileOfRows
from diffusers_rdaam.errors import BatchError, InputError, RDAAMError

# What Ray takes at least; see the module.
_OBJECT_STORE = 100 * 2**20
_PATIENCE = 5.0
_MOST_TASKS = 2_000
# While a cluster starts: nothing is reported to anybody, no process is started for other work, and
# Ray's own agents have two minutes, on a busy machine, and not half of one.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_agent_register_timeout_ms": "120000",
}
# Ray gives a node 30 seconds to start, which a busy machine may not keep.
_STARTS = 3


@dataclass(frozen=True)
class Cluster:
    """Where workers run.

    Args:
        workers: how many.
        gpus: of each; a fraction shares one.
        threads: processors of each.
        address: of a cluster of Ray; None for one on this machine, for this batch alone.
    """

    workers: int
    gpus: float = 0.0
    threads: int = 1
    address: str | None = None


class _Actor:
    """A worker, as Ray Data calls it: once for each file."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.worker: FileWorker | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        done: dict[str, list[Any]] = {}
        for number in batch["number"]:
            for name, value in self._made(int(number)).items():
                done.setdefault(name, []).append(value)
        return done

    def _made(self, number: int) -> dict[str, Any]:
        """The file, or the error of the package that it ended with.

        An error is a value: of an exception Ray may keep no more than its traceback as a text.
        """
        try:
            # Not in __init__, where an exception would start the actor again and again.
            if self.worker is None:
                self.worker = FileWorker(self.work)
            return asdict(self.worker.make(number)) | {"failure": "", "reason": ""}
        except RDAAMError as error:
            if "The device of a worker failed" in str(error):
                # The next process has a device again; Ray starts it and gives it this file.
                os._exit(1)
            return asdict(_NO_FILE) | {"failure": type(error).__name__, "reason": str(error)}


_NO_FILE = FileOfRows("", 0, 0, 0, "")


def _file_of(row: dict[str, Any]) -> FileOfRows:
    """The file that a worker made.

    Raises:
        RDAAMError: the error that the worker ended with instead.
    """
    failure, reason = row.pop("failure"), row.pop("reason")
    if failure:
        raise getattr(errors, failure, BatchError)(reason)
    return FileOfRows(**row)


def make_on_ray(work: Work, numbers: Sequence[int], cluster: Cluster) -> Iterator[FileOfRows]:
    """Make files of rows; each is returned once it is complete, in any order.

    A worker that ends, with its machine or alone, is started again and goes on with its file.

    Raises:
        InputError: there is no such cluster, or it cannot have such a worker.
        BatchError: a worker cannot write, or Ray stopped.
    """
    ray = import_ray()
    with _connected(ray, cluster):
        size = _workers_that_fit(ray, cluster)
        with _silent(ray):
            rows = [{"number": number} for number in numbers]
            blocks = min(len(rows), _MOST_TASKS)
            data = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
                _Actor,
                fn_constructor_args=(work,),
                batch_size=1,
                num_cpus=cluster.threads,
                num_gpus=cluster.gpus or None,
                # One file at a time for each: a second would wait while another worker is idle.
                compute=ray.data.ActorPoolStrategy(
                    size=min(size, len(rows)), max_tasks_in_flight_per_actor=1
                ),
            )
            for row in data.iter_rows():
                yield _file_of(row)


@contextmanager
def _silent(ray: Any) -> Iterator[None]:
    """Ray Data without its bars and plans; its exceptions are errors of the package.

    Raises:
        BatchError, InputError: what a worker raised, or that Ray stopped.
    """
    context, logger = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, logger.level
    context.enable_progress_bars = False
    logger.setLevel(logging.ERROR)
    try:
        yield
    except Exception as error:
        raise _reason(error) from error
    finally:
        context.enable_progress_bars = before[0]
        logger.setLevel(before[1])


@contextmanager
def _connected(ray: Any, cluster: Cluster) -> Iterator[None]:
    """A connection to a cluster, closed afterwards; one that is there already is used and kept."""
    if ray.is_initialized():
        yield
        return
    if cluster.address is not None:
        check_address(cluster.address)
    options: dict[str, Any] = {"address": cluster.address}
    if cluster.address is None:
        processors = max(os.cpu_count() or 1, cluster.workers * cluster.threads + 1)
        options = {
            "address": "local",
            "num_cpus": processors,
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE,
        }
    with _environment():
        for left in reversed(range(1 if cluster.address is not None else _STARTS)):
            try:
                ray.init(log_to_driver=False, logging_level="error", **options)
                break
            # What Ray raises depends on what is at the address.
            except Exception as error:
                ray.shutdown()
                if not left:
                    raise _no_cluster(cluster.address, error) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _environment() -> Iterator[None]:
    """The variables that Ray reads when it starts, and afterwards those that were there."""
    added = [name for name in _ENVIRONMENT if name not in os.environ]
    os.environ.update({name: _ENVIRONMENT[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def check_address(address: str) -> None:
    """Refuse an address where nothing listens; Ray itself waits for a minute.

    Raises:
        InputError: there is no cluster.
    """
    if address in ("auto", "local"):
        return
    try:
        parts = urlsplit(address if "://" in address else f"ray-gcs://{address}")
        host, port = parts.hostname, parts.port
        if host is None or (port is None and "://" not in address):
            raise ValueError("it is not host:port, ray://host:port or auto")
        socket.create_connection((host, port or 10001), timeout=_PATIENCE).close()
    except (OSError, ValueError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str | None, error: Exception) -> InputError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    if address is None:
        return InputError(
            f"Ray could not be started on this machine: {reason}. Run in one process with --no-ray "
            "(use_ray=False)."
        )
    return InputError(
        f"There is no cluster of Ray at --address {address}: {reason}. Start one with ray start "
        "--head and give the address that it prints; or leave the address out for one on this "
        "machine."
    )


def _workers_that_fit(ray: Any, cluster: Cluster) -> int:
    """How many of the workers the cluster has room for.

    Raises:
        InputError: not for one.
    """
    there = ray.cluster_resources()
    room = [there.get("CPU", 0.0) / cluster.threads]
    if cluster.gpus:
        room.append(there.get("GPU", 0.0) / cluster.gpus)
    most = math.floor(min(room) + 1e-9)
    if most < cluster.workers and (cluster.gpus or most < 1):
        raise InputError(
            f"{cluster.workers} workers of {cluster.threads} processors and {cluster.gpus:g} GPUs "
            f"do not fit: the cluster has {there.get('CPU', 0):g} processors and "
            f"{there.get('GPU', 0):g} GPUs. Give fewer --workers (workers=), or another "
            "--gpus-per-worker (gpus_per_worker=)."
        )
    return min(most, cluster.workers)


def _reason(error: BaseException) -> RDAAMError:
    """The error of the package that a worker raised; or that Ray stopped, with its reason."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        # Ray makes a class of its own and the worker's, with the worker's traceback as the text.
        inner = getattr(at, "cause", None)
        if isinstance(at, RDAAMError) and inner is None:
            return type(at)(str(at))
        at = inner or at.__cause__ or at.__context__
    text = str(error).strip().splitlines() or [type(error).__name__]
    reason = text[-1][:500].rstrip(".")
    return BatchError(f"The batch stopped: {type(error).__name__}: {reason}. {GO_ON}")
