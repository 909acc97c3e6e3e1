"""Tiny data sets in the official layouts of those that come as plain files, as several archives, or in parts.

A data set is a dict of its official archives and files: their name -> the paths in them -> the contents.
"""

import csv
import io
import json
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from data_builders.data_sets.banking77 import Banking77, Banking77Vocabulary
from data_builders.data_sets.clinc150 import Clinc150, Clinc150Vocabulary
from data_builders.data_sets.fsdd import Fsdd
from data_builders.data_sets.omniglot import Omniglot, OmniglotSmall1, OmniglotSmall2
from data_builders.splits.protocols import read_protocols

from .test_builders import write_archive, write_folder

FSDD_ARCHIVE = "free-spoken-digit-dataset-1.0.10.zip"
SPEAKERS = ("ada", "bob", "cleo", "dan")
# What `load_few_shot` gets besides the name; the key is the name, with the part of Omniglot.
OPTIONS = {"clinc150": {}, "banking77": {}, "fsdd": {}, "omniglot": {"part": "full"}, "omniglot small1": {}}
BUILDERS = {
    "clinc150": (Clinc150, Clinc150Vocabulary),
    "banking77": (Banking77, Banking77Vocabulary),
    "fsdd": (Fsdd,),
    "omniglot": (Omniglot,),
    "omniglot small1": (OmniglotSmall1,),
    "omniglot small2": (OmniglotSmall2,),
}


def classes(lists):
    return sorted({name for split in read_protocols(lists)["class_disjoint"].values() for name in split["classes"]})


def texts_of(label, n=6):
    """Texts with a word of their class that occurs often, other words, and a word that occurs once."""
    rng = np.random.default_rng(len(label))
    word = label.strip("?")
    return [f"{word} w{rng.integers(20)} {word} w{rng.integers(20)} once{word}{number}" for number in range(n)]


def clinc150():
    parts = {"train": [], "val": [], "test": [], "oos_train": [["out of scope", "oos"]]}
    for intent in classes("clinc150"):
        for number, text in enumerate(texts_of(intent)):
            parts[("train", "train", "train", "train", "val", "test")[number]].append([text, intent])
    return {"data_full.json": {"data_full.json": json.dumps(parts).encode()}}


def banking77():
    pieces = {"categories.json": json.dumps(classes("banking77")).encode()}
    for part, numbers in (("train", range(4)), ("test", (4, 5))):
        table = io.StringIO(newline="")
        writer = csv.writer(table)
        writer.writerow(["text", "category"])
        writer.writerows(["\n" + texts_of(name)[number], name] for name in classes("banking77") for number in numbers)
        pieces[f"{part}.csv"] = table.getvalue().encode()
    return {name: {name: pieces[name]} for name in ("train.csv", "test.csv", "categories.json")}


def fsdd(speakers=SPEAKERS):
    files = {"README.md": b"FSDD", "recordings/index.txt": b""}
    for digit in range(10):
        for place, speaker in enumerate(speakers):
            for number in range(2):
                content = io.BytesIO()
                noise = np.random.default_rng([digit, place, number]).uniform(-0.5, 0.5, 800)
                soundfile.write(content, noise, 8000, format="WAV")
                files[f"recordings/{digit}_{speaker}_{number}.wav"] = content.getvalue()
    return {FSDD_ARCHIVE: files}


def drawing(seed):
    """A 1-bit picture of 105x105 pixels."""
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).random((105, 105)) > 0.2).save(content, format="PNG")
    return content.getvalue()


def characters(names):
    """Four drawings of each character."""
    return {
        f"{name}/{number:04d}_{drawer:02d}.png": drawing([number, drawer])
        for number, name in enumerate(names, 1)
        for drawer in (1, 7, 12, 20)
    }


def omniglot():
    """The first character of each alphabet."""
    splits = read_protocols("omniglot")["class_disjoint"]
    first = {split: [name for name in splits[split]["classes"] if name.endswith("character01")] for split in splits}
    return {
        "images_background.zip": characters([*first["train"], *first["validation"]]),
        "images_evaluation.zip": characters(first["test"]),
    }


def omniglot_small(part):
    return {f"images_background_{part}.zip": characters(classes(f"omniglot_{part}")[::8])}


TINY = {
    "clinc150": clinc150,
    "banking77": banking77,
    "fsdd": fsdd,
    "omniglot": omniglot,
    "omniglot small1": lambda: omniglot_small("small1"),
}
PLAIN = ("clinc150", "banking77")
FOLDER = {"clinc150": "clinc150", "banking77": "banking77", "fsdd": "fsdd"}


def write_set(key, data_dir, pieces=None, layout="root"):
    """Writes a tiny data set.

    Args:
        layout: "root" (archives and files lie in `data_dir`), "folder" (in a folder of the data set in it), "extracted"
            (the archives are extracted there), or "inside" (`data_dir` is the extracted folder).
    """
    folder = FOLDER.get(key, "omniglot")
    for name, files in (TINY[key]() if pieces is None else pieces).items():
        place = Path(data_dir) if layout in ("root", "inside") else Path(data_dir, folder)
        place.mkdir(parents=True, exist_ok=True)
        if key in PLAIN or layout == "inside":
            write_folder(place, files)
        elif layout == "extracted":
            write_folder(place / name.removesuffix(".zip") if folder == "omniglot" else place, files)
        else:
            write_archive(place / name, files, name.removesuffix(".zip"))
    return Path(data_dir)
