"""run_batch: the images, attributions, words and masks of many rows."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from diffusers_rdaam.argument_checks import check_count, real_number
from diffusers_rdaam.batch.card import card, summary
from diffusers_rdaam.batch.extra import import_arrow, import_ray
from diffusers_rdaam.batch.file_worker import FileWorker, Work
from diffusers_rdaam.batch.folder import BatchFolder, FileOfRows, Job
from diffusers_rdaam.batch.model import is_embedded
from diffusers_rdaam.batch.progress import showing
from diffusers_rdaam.batch.prompt_row import COLUMNS, PromptRow, read_row
from diffusers_rdaam.batch.ray_workers import Cluster, check_address, make_on_ray
from diffusers_rdaam.batch.settings import BatchSettings, differences
from diffusers_rdaam.batch.sources import BatchInput, ListedRows
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.suggestions import check_keywords

_SHOWN_PROBLEMS = 5


@dataclass(frozen=True)
class BatchSummary:
    """What a batch has written.

    Args:
        out: the folder.
        rows: in all files.
        errors: rows that failed, each with its ``error``.
        files: the Parquet files, in order.
        made: rows that this call made; the others were there.
        seconds: that this call took.
        first_error: of the first row that failed; None if none did.
    """

    out: Path
    rows: int
    errors: int
    files: tuple[Path, ...] = field(repr=False)
    made: int
    seconds: float
    first_error: str | None = None

    @property
    def rows_per_second(self) -> float:
        """Of the rows that this call made."""
        return self.made / self.seconds if self.seconds > 0.0 else 0.0


def run_batch(
    source: str | Path | Iterable[Mapping[str, Any]],
    out: str | Path,
    *,
    model: str | None = None,
    pipe: Any = None,
    workers: int = 1,
    gpus_per_worker: float = 0.0,
    address: str | None = None,
    use_ray: bool | None = None,
    resume: bool = False,
    retries: int = 2,
    columns: Mapping[str, str] | None = None,
    ignore_columns: bool = False,
    input_format: Any = None,
    split: str | None = None,
    images: str | Path | None = None,
    progress: bool = True,
    **settings: Any,
) -> BatchSummary:
    """Make every row of a file: its image, its attribution, its words and their masks.

    The output is a data set of Parquet files with a card, see :func:`read_batch`. It has every row
    once, whatever is killed on the way: call again with ``resume=True``. A row that is wrong is a
    row with an ``error``. Needs the extra ``batch``.

    Args:
        source: a JSONL, CSV, TSV, Parquet, text or JSON file, the captions of COCO, a data set on
            disk; or rows. Columns: ``prompt``, ``negative_prompt``, ``seed``, ``size``, ``words``,
            ``boxes``, ``image``, ``id``.
        out: the folder.
        model: a diffusers folder or hub id; the embedded model if not given.
        pipe: a recording pipeline that is loaded already, for one process; ``model`` is its name.
        workers: processes, each with a pipeline.
        gpus_per_worker: of each; a fraction shares one.
        address: of a cluster of Ray; one on this machine if not given.
        use_ray: False for this process alone; if not given, that is so for the embedded models and
            a ``pipe`` unless there are several workers, GPUs or an address.
        resume: go on with what is in ``out``.
        retries: how often a row runs again after an exception that is not about its fields.
        columns: names in the file by the names here: ``{"prompt": "caption"}``.
        ignore_columns: leave columns of other names out; they are refused if not.
        input_format: of the file; by its ending if not given.
        split: of a data set on disk that has several.
        images: the folder of the images of COCO's captions.
        progress: a bar on standard error, with rows a second and the time that is left.
        settings: what decides the bytes: ``dtype``, ``device``, ``steps``, ``guidance_scale``,
            ``height``, ``width``, ``seed``, ``image_options``, ``rows_per_file``, ``threads``,
            ``folder`` (images and attributions as files as well).

    Raises:
        InputError: an argument or a column is wrong, ids occur twice, the file is empty, there is
            no such cluster, or ``out`` holds a batch of other settings.
        BatchError: the batch stopped; what was written is whole.
        BatchExtraError: pyarrow or Ray is not installed.
    """
    begun = time.monotonic()
    import_arrow()
    rows = _input(source, columns, ignore_columns, input_format, split, images)
    chosen = _settings(model, gpus_per_worker, settings)
    cluster = _cluster(workers, gpus_per_worker, address, chosen)
    on_ray = _is_on_ray(use_ray, cluster, chosen, pipe)
    if chosen.device.startswith("cuda") and not cluster.gpus:
        # Ray hides all GPUs from an actor that asks for none.
        cluster = replace(cluster, gpus=1.0)
    if on_ray and address is not None:
        # Before anything is written.
        check_address(address)
    check_count(retries, "retries=", least=0)
    folder = BatchFolder(Path(out))
    found = folder.job()
    job = _job(rows, chosen)
    _check_output(folder, found, job, resume=resume)
    with folder.locked():
        # Again, as another process may have had the folder until now.
        is_new = _check_output(folder, folder.job(), job, resume=resume)
        folder.sweep()
        if is_new:
            folder.begin(job, _prompt_rows(rows, chosen))
        left = [number for number in range(job.files) if folder.done(number, job) is None]
        if not all(map(folder.has_rows, left)):
            folder.keep_rows(job, _prompt_rows(rows, chosen))
        before = _rows_of_done(folder, job, left) + folder.rows_in_parts()
        work = Work(folder.path.absolute(), job, chosen, rows.base, retries)
        make = make_on_ray(work, left, cluster) if on_ray else _make_here(work, left, pipe)
        _make(folder, job, left, make, progress=progress)
        files = _finish(folder, job)
    return BatchSummary(
        folder.path,
        sum(file.rows for file in files),
        sum(file.errors for file in files),
        tuple(folder.path / file.file for file in files),
        job.rows - before,
        time.monotonic() - begun,
        _first_error(folder.path, files),
    )


def _input(
    source: Any,
    columns: Mapping[str, str] | None,
    ignore: bool,
    input_format: Any,
    split: str | None,
    images: str | Path | None,
) -> BatchInput | ListedRows:
    if isinstance(source, (str, Path)):
        folder = None if images is None else Path(images).absolute()
        return BatchInput(Path(source), input_format, columns or {}, ignore, split, folder)
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise InputError(
            f"A batch is read from a path, or from rows such as [{{'prompt': 'a cat'}}]; got a "
            f"{type(source).__name__}."
        )
    return ListedRows(tuple(source), columns or {}, ignore)


def _settings(model: str | None, gpus: float, settings: dict[str, Any]) -> BatchSettings:
    known = [name for name in BatchSettings.__dataclass_fields__ if name != "model"]
    check_keywords(settings, known, "run_batch")
    if gpus and "device" not in settings:
        settings = {**settings, "device": "cuda"}
    return BatchSettings(model=str(model) if isinstance(model, Path) else model, **settings)


def _cluster(workers: int, gpus: float, address: str | None, settings: BatchSettings) -> Cluster:
    check_count(workers, "workers=")
    number = real_number(gpus)
    if number is None or number < 0.0 or (number > 1.0 and not number.is_integer()):
        raise InputError(
            f"gpus_per_worker= is a number from 0 to 1, or a whole number; got {gpus!r}."
        )
    return Cluster(workers, number, settings.threads, address)


def _is_on_ray(use_ray: bool | None, cluster: Cluster, settings: BatchSettings, pipe: Any) -> bool:
    several = cluster.workers > 1 or cluster.gpus > 0.0 or cluster.address is not None
    if use_ray is False and several:
        raise InputError(
            "Several workers, GPUs of each, and an address are for Ray; leave them out with "
            "--no-ray (use_ray=False)."
        )
    if pipe is not None and (use_ray or several):
        raise InputError(
            "pipe= is a pipeline of this process, and workers load their own. Give model= the "
            "folder or hub id of the model."
        )
    chosen = several or (pipe is None and not is_embedded(settings.model))
    on_ray = chosen if use_ray is None else use_ray
    if on_ray:
        import_ray()
    return on_ray


def _prompt_rows(rows: BatchInput | ListedRows, settings: BatchSettings) -> Iterator[PromptRow]:
    for index, row in enumerate(rows.rows()):
        if row.problem is None:
            yield read_row(index, row.fields, row.place, settings.seed)
        else:
            yield PromptRow(index, f"{index:08d}", problem=f"{row.problem.rstrip('.')}.")


def _job(rows: BatchInput | ListedRows, settings: BatchSettings) -> Job:
    """Read all rows once: their number, their digest, and that no id occurs twice.

    Raises:
        InputError: there is no row, no row has a prompt, or two have the same id.
    """
    digest, seen, count, prompts = hashlib.sha256(), dict[str, int](), 0, False
    problem = None
    for row in _prompt_rows(rows, settings):
        first = seen.setdefault(row.id, row.index)
        if first != row.index:
            raise InputError(
                f"The id {row.id[:80]!r} occurs twice in {rows.name}: row {first} and row "
                f"{row.index}, counted from 0. Give each row one of its own, or leave the column "
                "out."
            )
        digest.update(f"{row.to_json()}\n".encode())
        if row.pixels is not None:
            digest.update(row.pixels)
        count, prompts = count + 1, prompts or row.prompt is not None
        problem = problem or row.problem
    if not count:
        raise InputError(f"{rows.name} has no rows.")
    if not prompts:
        reason = (problem or "").rstrip(".")
        raise InputError(
            f"No row of {rows.name} has a prompt ({reason}). Columns: {', '.join(COLUMNS)}; the "
            'column of the prompts has such as --column prompt=caption (columns={"prompt": '
            '"caption"}).'
        )
    size = settings.rows_of_files(count)
    return Job(settings.identity(), digest.hexdigest(), count, size, settings.folder)


def _check_output(folder: BatchFolder, found: Job | None, job: Job, *, resume: bool) -> bool:
    """Refuse a folder with another batch, and with this one unless it is to go on.

    Returns:
        Whether the batch begins: the folder has none, or another one of which no row was made, as
        after a model that could not be loaded.

    Raises:
        InputError: as it says.
    """
    if found is None:
        return True
    other = differences(job.identity, found.identity)
    if found.digest != job.digest:
        other.insert(0, f"the rows ({found.rows} there, {job.rows} now, or others)")
    if other and not folder.has_rows_made():
        return True
    if other:
        raise InputError(
            f"{folder.path} holds a batch of other settings: {'; '.join(other)[:1500]}. Give the "
            "same ones to go on with it, or another --out (out=)."
        )
    if not resume:
        ready = sum(folder.done(number, found) is not None for number in range(found.files))
        raise InputError(
            f"{folder.path} holds this batch already, {ready} of its {found.files} files complete. "
            "Go on with it by --resume (resume=True), or give another --out (out=)."
        )
    return False


def _rows_of_done(folder: BatchFolder, job: Job, left: list[int]) -> int:
    missing = set(left)
    last = job.rows - (job.files - 1) * job.rows_per_file
    return sum(
        last if number == job.files - 1 else job.rows_per_file
        for number in range(job.files)
        if number not in missing
    )


def _make_here(work: Work, numbers: list[int], pipe: Any) -> Iterator[FileOfRows]:
    """Make files in this process, one after the other."""
    worker = FileWorker(work, pipe)
    for number in numbers:
        yield worker.make(number)


def _make(
    folder: BatchFolder, job: Job, left: list[int], make: Iterator[FileOfRows], *, progress: bool
) -> None:
    """Make what is left, and show how far it is."""
    ready = _rows_of_done(folder, job, left)

    def rows_ready() -> int:
        return min(job.rows, ready + folder.rows_in_parts())

    if not left:
        return
    with showing(job.rows, rows_ready, shown=progress):
        for file in make:
            ready += file.rows


def _finish(folder: BatchFolder, job: Job) -> list[FileOfRows]:
    """Write the card and the summary, and remove what is needed no more."""
    done = [folder.done(number, job) for number in range(job.files)]
    files = [file for file in done if file is not None]
    if len(files) != job.files:
        raise AssertionError(f"{len(files)} of {job.files} files are there after the last was made")
    folder.write("README.md", card(job, files))
    folder.write("batch.json", summary(job, files))
    folder.close()
    return files


def _first_error(out: Path, files: list[FileOfRows]) -> str | None:
    parquet = import_arrow("pyarrow.parquet")
    for file in files:
        if file.errors:
            for text in parquet.read_table(out / file.file, columns=["error"])["error"]:
                if text.is_valid:
                    return str(text.as_py())
    return None
