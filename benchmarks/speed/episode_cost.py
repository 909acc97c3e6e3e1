"""What an episode costs: by the type of the Arrow column, and by the number of rows.

    python -m benchmarks.speed.episode_cost [--folder FOLDER] [--rows 1000 100000 1000000]

Prints two Markdown tables. The first stores the same random rows in different Arrow columns and reads the rows of
5-way 1-shot episodes with 15 queries (80 of them) from a file that was just opened; the page cache holds it. The second
opens splits of synthetic rows and draws such episodes through `EpisodeDataset`. Every modality of the first table and
every line of the second has a process of its own, on one core. Sounds of 5 s (160,000 bytes) are only used up to 1,000
rows, shorter ones beyond, so that a file stays below 4 GB; files are deleted at once.
"""

from __future__ import annotations

import argparse
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

from data_builders import EpisodeDataset
from data_builders.base import FewShotBuilder, row_features
from data_builders.few_shot import split_of_builder
from data_builders.rows import ArrowRows

N_WAY, K_SHOT, N_QUERY, EPISODE_ROWS = 5, 1, 15, 80
DTYPES = {"audio": np.int16, "text": np.int32, "image": np.uint8}
SHAPES = {"audio": (80_000,), "text": (600,), "image": (3, 32, 32)}
N_CLASSES, ROWS_PER_SOURCE = 20, 5
BATCH = FewShotBuilder.DEFAULT_WRITER_BATCH_SIZE


def random_rows(modality: str, shape: tuple[int, ...], n: int, seed: int) -> np.ndarray:
    """Random integers, (n, *shape)."""
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8).astype(DTYPES[modality])


# Column types: a feature, what is stored of a row, and how the rows of an episode are read.


def _from_list_by_pread(data: datasets.Dataset, shape: tuple[int, ...]) -> Callable:
    return ArrowRows([file["filename"] for file in data.cache_files], "row", shape).take


def _from_list_by_map(data: datasets.Dataset, shape: tuple[int, ...]) -> Callable:
    views = [chunk.flatten().to_numpy().reshape(-1, *shape) for chunk in data.data.column("row").chunks]
    starts = np.cumsum([0, *map(len, views)])

    def take(indices):
        chunks = np.searchsorted(starts, indices, side="right") - 1
        return np.stack([views[chunk][index - starts[chunk]] for chunk, index in zip(chunks, indices, strict=True)])

    return take


def _from_binary(data: datasets.Dataset, shape: tuple[int, ...], dtype: Any = None) -> Callable:
    column = data.data.column("row")
    return lambda indices: np.stack([np.frombuffer(column[int(i)].as_buffer(), dtype).reshape(shape) for i in indices])


def _by_format(data: datasets.Dataset, shape: tuple[int, ...], form: str = "numpy") -> Callable:
    formatted = data.with_format(form)
    return lambda indices: formatted[indices.tolist()]["row"]


def column_types(modality: str) -> dict[str, tuple]:
    """Name -> (feature, stored form of a row, reader)."""
    shape, value = SHAPES[modality], np.dtype(DTYPES[modality]).name
    size = int(np.prod(shape))
    fixed = datasets.List(datasets.Value(value), length=size)
    square = datasets.Array2D((shape[0] if len(shape) > 1 else 1, size // (shape[0] if len(shape) > 1 else 1)), value)
    return {
        "fixed-size list, pread": (fixed, np.ravel, _from_list_by_pread),
        "fixed-size list, memory map": (fixed, np.ravel, _from_list_by_map),
        "fixed-size list, numpy format": (fixed, np.ravel, _by_format),
        "Array2D, numpy format": (square, lambda row: row.reshape(square.shape), _by_format),
        "Array2D, torch format": (
            square,
            lambda row: row.reshape(square.shape),
            lambda data, shape: _by_format(data, shape, "torch"),
        ),
        "binary, memory map": (
            datasets.Value("binary"),
            np.ndarray.tobytes,
            lambda data, shape: _from_binary(data, shape, DTYPES[modality]),
        ),
    }


def column_cases(modality: str, n_rows: int, folder: str) -> str:
    """The lines of one modality in the first table."""
    return "\n".join(column_case(modality, name, n_rows, folder) for name in column_types(modality))


def column_case(modality: str, name: str, n_rows: int, folder: str) -> str:
    """One line of the first table."""
    feature, stored, reader = column_types(modality)[name]
    rows = random_rows(modality, SHAPES[modality], n_rows, seed=0)
    path = Path(folder) / "rows.arrow"
    start = time.perf_counter()
    with ArrowWriter(features=datasets.Features({"row": feature}), path=str(path), writer_batch_size=BATCH) as writer:
        for row in rows:
            writer.write({"row": stored(row)})
        writer.finalize()
    write_ms = 1e3 * (time.perf_counter() - start) / n_rows
    take = reader(datasets.Dataset.from_file(str(path)), SHAPES[modality])
    draws = [np.random.default_rng(seed).permutation(n_rows)[:EPISODE_ROWS] for seed in range(20)]
    taken = np.asarray(take(draws[0]))
    if not np.array_equal(taken.reshape(EPISODE_ROWS, -1), rows[draws[0]].reshape(EPISODE_ROWS, -1)):
        raise RuntimeError(f"{name} gave other rows than were stored")
    before = resident_mb()
    milliseconds = _timed(lambda i: take(draws[i]), range(1, len(draws)))
    grown = resident_mb() - before
    size = path.stat().st_size / n_rows
    path.unlink()
    return (
        f"| {modality} | {name} | {taken.dtype} | {np.median(milliseconds):.2f} | {np.max(milliseconds):.2f} | "
        f"{grown:+.0f} | {write_ms:.3f} | {size:,.0f} |"
    )


# Episodes from many rows


def write_rows(path: Path, modality: str, shape: tuple[int, ...], n_rows: int) -> None:
    """A file as a builder writes it: `N_CLASSES` classes in blocks, `ROWS_PER_SOURCE` rows a source."""
    features = row_features(modality, int(np.prod(shape)), [f"class_{c:03d}" for c in range(N_CLASSES)])
    pool = random_rows(modality, shape, BATCH, seed=1)
    values = pa.FixedSizeListArray.from_arrays(pa.array(pool.reshape(-1)), int(np.prod(shape)))
    with ArrowWriter(features=features, path=str(path)) as writer:
        for start in range(0, n_rows, BATCH):
            numbers = np.arange(start, min(start + BATCH, n_rows))
            columns = {
                modality: values[: len(numbers)],
                "label": pa.array(numbers * N_CLASSES // n_rows),
                "source_id": pa.array([f"source_{number}" for number in numbers // ROWS_PER_SOURCE]),
            }
            writer.write_table(pa.table(columns))
        writer.finalize()


def resident_mb() -> float:
    """Memory of this process, MB (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def episode_case(modality: str, n_rows: int, folder: str, n_episodes: int = 1000) -> str:
    """One line of the second table."""
    shape = SHAPES[modality]
    if modality == "audio" and n_rows > 1000:
        shape = (8_000,) if n_rows <= 100_000 else (800,)
    path = Path(folder) / "rows.arrow"
    write_rows(path, modality, shape, n_rows)
    size = path.stat().st_size / 1e9
    before, start = resident_mb(), time.perf_counter()
    builder = SimpleNamespace(
        build=lambda: datasets.Dataset.from_file(str(path)),
        protocols=lambda: {"class_disjoint": {"train": {"classes": [f"class_{c:03d}" for c in range(N_CLASSES)]}}},
        dataset_name="benchmark",
        modality=modality,
        row_shape=shape,
    )
    split = split_of_builder(builder, "train", "class_disjoint")
    episodes = EpisodeDataset([split], N_WAY, K_SHOT, N_QUERY, n_episodes + 1)
    episodes[0]
    opening, opened = time.perf_counter() - start, resident_mb()
    milliseconds = _timed(lambda i: episodes[i], range(1, n_episodes + 1))
    grown = resident_mb() - opened
    path.unlink()
    row_bytes = int(np.prod(shape)) * np.dtype(DTYPES[modality]).itemsize
    return (
        f"| {modality} | {n_rows:,} | {row_bytes:,} | {size:.2f} | {opening:.2f} | {np.median(milliseconds):.2f} | "
        f"{np.percentile(milliseconds, 95):.2f} | {opened - before:.0f} | {grown:+.0f} |"
    )


def _timed(call: Callable[[int], Any], numbers: range) -> np.ndarray:
    """Milliseconds of every call; a result is dropped before the next."""
    found = []
    for number in numbers:
        start = time.perf_counter()
        call(number)
        found.append(1e3 * (time.perf_counter() - start))
    return np.asarray(found)


def in_own_process(function: Callable, *arguments: Any) -> Any:
    """The result of a call in a new process with one thread."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, spawn, torch.set_num_threads, (1,)) as pool:
        return pool.submit(function, *arguments).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="where the files go; a temporary folder by default")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--column_rows", type=int, default=1_000, help="rows of the first table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print(
            "| modality | column, read by | dtype | ms an episode, median | slowest | MB after 19 episodes "
            "| ms to write a row | bytes a row |"
        )
        print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |")
        for modality in SHAPES:
            print(in_own_process(column_cases, modality, arguments.column_rows, folder), flush=True)
        print("\n| modality | rows | bytes a row | file, GB | opening, s | ms an episode, median | 95 % below ", end="")
        print("| MB after opening | MB after 1,000 episodes more |")
        print("| --- " + "| ---: " * 8 + "|")
        for modality in SHAPES:
            for n_rows in arguments.rows:
                print(in_own_process(episode_case, modality, n_rows, folder), flush=True)


if __name__ == "__main__":
    main()
