"""FileWorker: makes the rows of one file after the other, in any process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers_rdaam.batch.folder import BatchFolder, FileOfRows, Job
from diffusers_rdaam.batch.row_runner import RowRunner, crashed_record
from diffusers_rdaam.batch.settings import BatchSettings, differences, versions
from diffusers_rdaam.errors import BatchError

# A row that ended its process so often is an error row: it would end every one after.
MAX_CRASHES = 5


@dataclass(frozen=True)
class Work:
    """What a worker is given; it can be sent to another machine.

    Args:
        out: the folder of the batch, which every worker reaches under this path.
        job: the batch.
        settings: of the rows.
        base: the folder that the paths of images are relative to.
        retries: how often a row runs again after an exception.
    """

    out: Path
    job: Job
    settings: BatchSettings
    base: Path
    retries: int


class FileWorker:
    """Makes files of rows; the pipeline is loaded when the first row needs it.

    Args:
        work: what is to be made.
        pipe: the pipeline; loaded if not given.

    Raises:
        BatchError: this process has other versions of the libraries than the one that began.
    """

    def __init__(self, work: Work, pipe: Any = None) -> None:
        other = differences(versions(), work.job.identity["versions"])
        if other:
            raise BatchError(
                f"A worker has other versions than the batch began with: {', '.join(other)}. Its "
                "bytes could differ. Install the same versions on all machines."
            )
        self.work = work
        self.folder = BatchFolder(work.out)
        self.pipe = pipe
        self._runner: RowRunner | None = None

    def make(self, number: int) -> FileOfRows:
        """Make a file, of the rows that are still to be made and of those that are there.

        Raises:
            BatchError: it cannot be written, or the device has failed.
            InputError: the pipeline cannot be loaded.
        """
        work, folder = self.work, self.folder
        while (done := folder.done(number, work.job)) is None:
            rows = folder.rows(number)
            for row in rows:
                if folder.record(number, row.index) is not None:
                    continue
                runner = self._loaded()
                crashes = folder.begun(number, row.index)
                lost = crashes >= MAX_CRASHES
                folder.keep(number, crashed_record(row, crashes) if lost else runner.run(row))
            folder.finish(number, work.job, [row.index for row in rows])
        return done

    def _loaded(self) -> RowRunner:
        if self._runner is None:
            work = self.work
            self._runner = RowRunner(
                work.settings, retries=work.retries, base=work.base, pipe=self.pipe
            )
        return self._runner
