"""What an episode costs, by the number of rows.

    python -m benchmarks.speed.episode_cost [--folder FOLDER] [--rows 1000 100000 1000000]

Opens splits of synthetic rows and draws 5-way 1-shot episodes with 15 queries (80 rows) through `EpisodeDataset`. Every
line has a process of its own, on one core. Sounds of 5 s (160,000 bytes) are only used up to 1,000 rows, shorter ones
beyond, so that a file stays below 4 GB; files are deleted at once.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from datasets.arrow_writer import ArrowWriter

from data_builders import EpisodeDataset, FewShotBuilder, row_features, split_of_builder

from ..pages import command_line, table
from .memory import resident_memory

N_WAY, K_SHOT, N_QUERY = 5, 1, 15
DTYPES = {"audio": np.int16, "text": np.int32, "image": np.uint8}
SHAPES = {"audio": (80_000,), "text": (600,), "image": (3, 32, 32)}
N_CLASSES, ROWS_PER_SOURCE = 20, 5
BATCH = FewShotBuilder.DEFAULT_WRITER_BATCH_SIZE


def write_rows(path: Path, modality: str, shape: tuple[int, ...], n_rows: int) -> None:
    """A file as a builder writes it: `N_CLASSES` classes in blocks, `ROWS_PER_SOURCE` rows a source."""
    features = row_features(modality, int(np.prod(shape)), [f"class_{c:03d}" for c in range(N_CLASSES)])
    pool = np.random.default_rng(1).integers(0, 256, (BATCH, *shape), dtype=np.uint8).astype(DTYPES[modality])
    values = pa.FixedSizeListArray.from_arrays(pa.array(pool.reshape(-1)), int(np.prod(shape)))
    with ArrowWriter(features=features, path=str(path)) as writer:
        for start in range(0, n_rows, BATCH):
            numbers = np.arange(start, min(start + BATCH, n_rows))
            columns = {modality: values[: len(numbers)], "label": pa.array(numbers * N_CLASSES // n_rows)}
            columns["source_id"] = pa.array([f"source_{number}" for number in numbers // ROWS_PER_SOURCE])
            writer.write_table(pa.table(columns))
        writer.finalize()


def episode_case(modality: str, n_rows: int, folder: str, n_episodes: int = 1000) -> list[str]:
    """One line of the table."""
    shape = SHAPES[modality]
    if modality == "audio" and n_rows > 1000:
        shape = (8_000,) if n_rows <= 100_000 else (800,)
    path = Path(folder) / "rows.arrow"
    write_rows(path, modality, shape, n_rows)
    size = path.stat().st_size / 1e9
    before, start = resident_memory(), time.perf_counter()
    builder = SimpleNamespace(
        build=lambda: datasets.Dataset.from_file(str(path)),
        protocols=lambda: {"class_disjoint": {"train": {"classes": [f"class_{c:03d}" for c in range(N_CLASSES)]}}},
        **{"dataset_name": "benchmark", "modality": modality, "row_shape": shape},
    )
    split = split_of_builder(builder, "train", "class_disjoint")
    episodes = EpisodeDataset([split], N_WAY, K_SHOT, N_QUERY, n_episodes + 1)
    episodes[0]
    opening, opened = time.perf_counter() - start, resident_memory()
    milliseconds = []
    for number in range(1, n_episodes + 1):
        start = time.perf_counter()
        episodes[number]
        milliseconds.append(1e3 * (time.perf_counter() - start))
    grown = resident_memory() - opened
    path.unlink()
    row_bytes = int(np.prod(shape)) * np.dtype(DTYPES[modality]).itemsize
    times = [f"{opening:.2f}", f"{np.median(milliseconds):.2f}", f"{np.percentile(milliseconds, 95):.2f}"]
    memory = [f"{(opened - before) / 1e6:.0f}", f"{grown / 1e6:+.0f}"]
    return [modality, f"{n_rows:,}", f"{row_bytes:,}", f"{size:.2f}", *times, *memory]


def in_own_process(function: Callable, *arguments: Any) -> Any:
    """The result of a call in a new process with one thread."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, spawn, torch.set_num_threads, (1,)) as pool:
        return pool.submit(function, *arguments).result()


def main(argv: list[str] | None = None) -> None:
    parser = command_line(__doc__, page=False)
    parser.add_argument("--folder", help="where the files go; a temporary folder by default")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        rows = [in_own_process(episode_case, modality, n, folder) for modality in SHAPES for n in arguments.rows]
    head = ["modality", "rows", "bytes per row", "file, GB", "opening, s", "ms per episode, median", "95 % below"]
    print(table([*head, "MB after opening", "MB after 1,000 episodes more"], rows))


if __name__ == "__main__":
    main()
