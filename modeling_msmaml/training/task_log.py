"""
The log of tasks: one row for each task, in Parquet files of the folder `task_log` that hold together after a kill.

Each process writes files of its own into `OUTPUT_DIR/_task_log`, a group of rows at a time, and moves a file to
`OUTPUT_DIR/task_log` when it is whole: that of an evaluation when all processes have evaluated their share, that of
training before each checkpoint. So what `task_log` holds of training ends at a checkpoint, and a run that goes on from
an earlier one can drop what it is about to repeat.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

logger = logging.getLogger(__name__)

FOLDER = "task_log"
# Begins with an underscore: Trainer's uploads to the Hub leave such files out.
UNFINISHED = "_task_log"
SCHEMA = pa.schema(
    [
        ("phase", pa.string()),
        ("step", pa.int64()),
        ("episode", pa.int64()),
        ("data_set", pa.string()),
        ("modality", pa.string()),
        ("split", pa.string()),
        ("n_way", pa.int64()),
        ("class_names", pa.list_(pa.string())),
        ("class_shots", pa.list_(pa.int64())),
        ("class_accuracies", pa.list_(pa.float64())),
        ("accuracy", pa.float64()),
        ("squared_error", pa.float64()),
        ("query_loss", pa.float64()),
        ("support_losses", pa.list_(pa.float32())),
        ("modulation", pa.list_(pa.list_(pa.float32()))),
    ]
)
ROWS_AT_ONCE = 256  # rows that are held in memory
ROWS_A_FILE = 20_000  # rows after which training begins another file
# "eval" is the prefix of metrics on the validation split, by whose name `datasets` finds the file's split.
_PARTS = {"eval": "validation"}
_NAME = re.compile(r"(?P<part>.+)-step(?P<step>\d+)-\d{5}-of-(?P<processes>\d{5})\.parquet")


class TaskLog:
    """
    The rows of one process.

    Args:
        output_dir: folder of the run.
        process_index: number of this process, from 0.
        processes: number of all processes.
    """

    def __init__(self, output_dir: Path, process_index: int = 0, processes: int = 1):
        self.folder, self._unfinished = output_dir / FOLDER, output_dir / UNFINISHED
        self._suffix = f"{process_index:05d}-of-{processes:05d}.parquet"
        self._processes = processes
        self._training: TaskFile | None = None
        self._training_step = 0
        self._before_training: set[str] = set()  # parts that were evaluated with the weights that training starts from

    def begin(self, resumed_step: int | None) -> None:
        """
        Deletes what a run is about to write again: all of an earlier run, if it starts anew, or what came after the
        checkpoint of meta-step `resumed_step`. Only one process of a machine does it, while none writes.
        """

        def is_kept(part: str, step: int) -> bool:
            return part in self._before_training and step == 0 if resumed_step is None else step <= resumed_step

        for path in self._unfinished.glob("*.parquet"):
            path.unlink(missing_ok=True)
        dropped = [path for path, name in self._files() if not is_kept(name["part"], int(name["step"]))]
        for path in dropped:
            path.unlink(missing_ok=True)
        if dropped:
            since = "an earlier run" if resumed_step is None else f"the meta-steps after {resumed_step}"
            logger.warning("%s: deleted %d files of %s, which this run writes anew", self.folder, len(dropped), since)

    def add_training(self, step: int, rows: list[dict]) -> None:
        """Adds rows of training in the meta-step `step`, from 1."""
        if self._training is not None and self._training.num_rows >= ROWS_A_FILE and step != self._training_step:
            self.end_training()
        if self._training is None:
            self._training = self._file("train", step)
        self._training_step = step
        self._training.add(rows)

    def end_training(self) -> None:
        """Makes the rows of training up to now whole files."""
        if self._training is not None:
            self._training.close()
            self._training.publish(self.folder)
            self._training = None

    @contextmanager
    def evaluation(self, prefix: str, step: int, wait: Callable[[], None]) -> Iterator["TaskFile"]:
        """
        Within, rows of one evaluation are added to a file. It takes the place of one of an earlier evaluation of the
        same name and step.

        Args:
            prefix: of the metrics, such as `"eval"`.
            step: meta-step of the weights.
            wait: returns when all processes have called it.
        """
        part = _part(prefix)
        if step == 0:
            self._before_training.add(part)
        file = self._file(part, step)
        try:
            yield file
            file.close()
        except BaseException:
            file.discard()
            raise
        wait()
        file.publish(self.folder)
        for path, name in self._files():  # of a run with another number of processes
            if (name["part"], int(name["step"])) == (part, step) and int(name["processes"]) != self._processes:
                path.unlink(missing_ok=True)

    def _file(self, part: str, step: int) -> "TaskFile":
        return TaskFile(self._unfinished / f"{part}-step{step:08d}-{self._suffix}")

    def _files(self) -> list[tuple[Path, re.Match[str]]]:
        """The whole files, and what their names say."""
        return [(path, name) for path in self.folder.glob("*.parquet") if (name := _NAME.fullmatch(path.name))]


class TaskFile:
    """A file that grows row by row, with at most `ROWS_AT_ONCE` of them in memory, and that is unreadable until it is
    closed."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.num_rows = path, 0
        self._writer = pyarrow.parquet.ParquetWriter(path, SCHEMA, compression="zstd")
        self._rows: list[dict] = []

    def add(self, rows: list[dict]) -> None:
        """Adds rows, with the columns of `SCHEMA`."""
        self._rows += rows
        self.num_rows += len(rows)
        if len(self._rows) >= ROWS_AT_ONCE:
            self._write()

    def close(self) -> None:
        """Writes the last rows and the end of the file, which reach the disk."""
        self._write()
        self._writer.close()
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())

    def publish(self, folder: Path) -> None:
        """Moves the closed file to a folder, where it takes the place of one of its name."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path.replace(folder / self.path.name)

    def discard(self) -> None:
        """Deletes the file."""
        try:
            self._writer.close()
        finally:
            self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, SCHEMA))
            self._rows = []


def _part(prefix: str) -> str:
    """The beginning of a file's name: `"eval"` -> `"validation"`, `"eval_birds"` -> `"validation-birds"`."""
    first, _, rest = re.sub(r"[^\w.-]+", "_", prefix).partition("_")
    return "-".join(filter(None, (_PARTS.get(first, first), rest)))
