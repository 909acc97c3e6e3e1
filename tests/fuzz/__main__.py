"""Command: reads damaged files of all kinds, and prints what came of each kind as a table."""

import argparse
import itertools
import os
import sys
import tempfile
import time
from pathlib import Path

from ..inputs.measured_reading import Reading, report
from .kinds import KINDS
from .reading import SECONDS, inputs, make_all, read_damaged


def table(readings: list[Reading]) -> str:
    """A row for each kind: inputs, findings, and the most that one of its files took."""
    lines = ["| files | inputs | findings | mean, s | slowest, s | largest, MiB |", "| --- |" + " ---: |" * 5]
    for kind in KINDS:
        own = [reading for reading in readings if reading.name.split("/")[1] == kind]
        if own:
            findings, seconds = sum(bool(one.finding) for one in own), [one.seconds for one in own]
            largest = 1024 * max(one.gigabytes for one in own)
            cells = (
                f"{len(own):,}",
                findings,
                f"{sum(seconds) / len(own):.3f}",
                f"{max(seconds):.1f}",
                f"{largest:.0f}",
            )
            lines.append(f"| {kind} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=int(os.environ.get("MSMAML_MUTATIONS", "1000")))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that a file may take")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no further file is read")
    parser.add_argument("--folder", type=Path, help="where the files with a finding are left")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="msmaml_seeds_") as folder:
        seeds = make_all(Path(folder), arguments.kinds)
        files = inputs(seeds, arguments.inputs, arguments.kinds, arguments.seed)
        end = time.monotonic() + 60 * arguments.minutes
        in_time = itertools.takewhile(lambda _: time.monotonic() < end, files)
        readings = read_damaged(seeds, in_time, arguments.seconds)
        found = {reading.name for reading in readings if reading.finding}
        if arguments.folder is not None:
            arguments.folder.mkdir(parents=True, exist_ok=True)
            for name, content in inputs(seeds, len(readings), arguments.kinds, arguments.seed):
                if name in found:
                    (arguments.folder / name.replace("/", "_")).write_bytes(content)
    print(table(readings), report(readings), sep="\n\n")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
