"""
Stops every kind of long work at random moments, lets it go on, and compares what it leaves with that of an undisturbed
run. It prints a table, and fails if anything was lost.

    python -m tests.campaign --trials 50 --seed 0 [--works train "save a model"] [--folder FOLDER]
"""

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path

from ..fake_hub import FakeHub
from .trials import run_trials
from .works import FAULTS, HUB_FILE, WORKS, material


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50, help="of each work with each fault")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS), help="by default all")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS), help="by default both")
    parser.add_argument("--folder", type=Path, help="keeps what the trials that were lost left; it must not exist")
    options = parser.parse_args(arguments)
    if options.trials < 1:
        parser.error(f"--trials {options.trials}: it must be at least 1")
    with contextlib.ExitStack() as context:
        elsewhere = context.enter_context(tempfile.TemporaryDirectory())
        folder = options.folder or Path(elsewhere, "campaign")
        if folder.exists():
            parser.error(f"--folder {folder} exists: name another")
        material(folder / "material")
        hub = context.enter_context(FakeHub())
        (folder / "material" / HUB_FILE).write_text(hub.url)
        lost = []
        print("| work | fault | tried | survived | lost | done before the fault |")
        print("| --- | --- | ---: | ---: | ---: | ---: |", flush=True)
        for number, name in enumerate(options.works):
            for fault in [own for own in options.faults if own in WORKS[name].faults]:
                place = folder / f"{number}-{fault.replace(' ', '-')}"
                tally = run_trials(name, fault, options.trials, options.seed, folder / "material", place)
                counts = (tally.tried, tally.survived, len(tally.lost), tally.missed)
                print(f"| {name} | {fault} | {' | '.join(map(str, counts))} |", flush=True)
                lost += [f"{name}, {fault}, {problem}" for problem in tally.lost]
    print(*lost, sep="\n", file=sys.stderr)
    return bool(lost)


if __name__ == "__main__":
    sys.exit(main())
