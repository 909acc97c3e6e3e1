"""
Files that are read a second, from the disk to rows:

    python -m benchmarks.speed.reading [--rounds 3]

Sounds of 5 s at 44.1 kHz (WAV, FLAC, OGG) and pictures of 640 x 480 (JPEG, PNG), made here. The best of the rounds is
printed, since other work on the machine only slows a round down.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from modeling_msmaml import MSMAMLFeatureExtractor, MSMAMLImageProcessor

FILES = 40  # of each kind


def write_files(folder: Path) -> dict[str, list[Path]]:
    """Kind -> files."""
    rng = np.random.default_rng(0)
    files: dict[str, list[Path]] = {}
    for kind in ("wav", "flac", "ogg"):
        for number in range(FILES):
            wave = np.cumsum(rng.normal(0, 0.01, (220_500, 2)), axis=0).clip(-1, 1)
            files.setdefault(kind, []).append(folder / f"{number}.{kind}")
            soundfile.write(files[kind][-1], wave, 44_100)
    for kind in ("jpg", "png"):
        for number in range(FILES):
            small = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
            files.setdefault(kind, []).append(folder / f"{number}.{kind}")
            Image.fromarray(small).resize((640, 480)).save(files[kind][-1])
    return files


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each kind is read")
    arguments = parser.parse_args(argv)
    sounds, pictures = MSMAMLFeatureExtractor(), MSMAMLImageProcessor()
    with tempfile.TemporaryDirectory() as folder:
        for kind, files in write_files(Path(folder)).items():
            read = pictures if kind in ("jpg", "png") else sounds
            best = 0.0
            for _ in range(arguments.rounds):
                start = time.perf_counter()
                for file in files:
                    read([file])
                best = max(best, len(files) / (time.perf_counter() - start))
            print(f"{kind}: {best:.0f} files per second")


if __name__ == "__main__":
    main()
