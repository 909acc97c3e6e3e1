"""Features of several levels of an encoder on disk: one pass, in parts, which a kill does not lose."""

import json
import multiprocessing
import os
import pickle
import signal

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch

from data_builders import FewShotSplit, encode_split
from data_builders.episodes import encoded
from data_builders.storage import sealed
from data_builders.storage.growing_rows import PARTS, ROWS, GrowingRows
from modeling_msmaml import MSMAMLModel

from ..encoders import encoder_config, raw_rows, save_bert

N_ROWS = 30
SHAPES = {"sum": (), "grid": (2, 3), "ends": (4,)}


class Levels:
    """Three levels of different shapes. `seen` holds the shape of every batch."""

    batch_size = 4

    def __init__(self, modality, before=lambda seen: None):
        self.modality, self.before, self.seen = modality, before, []

    def levels(self, rows):
        self.before(self.rows_seen)
        self.seen.append(tuple(rows.shape))
        flat = rows.flatten(1).float()
        total = flat.sum(dim=1) % 97
        return {"sum": total, "grid": total[:, None, None] + torch.arange(6.0).view(2, 3), "ends": flat[:, :4] / 4096}

    @property
    def rows_seen(self):
        return sum(shape[0] for shape in self.seen)

    def level_shapes(self, row_shape):
        return SHAPES

    def fingerprint(self):
        return "levels 1"


def make_split(modality="text", seed=0):
    return FewShotSplit.from_arrays(raw_rows(modality, N_ROWS, seed).numpy(), [0] * N_ROWS, modality=modality)


def expected(split):
    raw = torch.from_numpy(split.rows(np.arange(len(split))))
    return {name: level.half().numpy() for name, level in Levels(split.modality).levels(raw).items()}


def assert_levels(found, split, numbers=None):
    numbers = np.arange(len(split)) if numbers is None else numbers
    assert found.keys() == SHAPES.keys()
    for name, level in expected(split).items():
        assert found[name].dtype == np.float16 and found[name].shape[1:] == SHAPES[name]
        assert np.array_equal(found[name], level[numbers])


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(encoded, "PART_ROWS", 8)


@pytest.mark.parametrize("modality", ["audio", "text", "image"])
def test_levels_are_stored_in_one_pass_and_read_like_rows(modality, tmp_path):
    split, encoder = make_split(modality), Levels(modality)
    stored = encode_split(split, encoder, tmp_path)
    assert encoder.rows_seen == N_ROWS and max(shape[0] for shape in encoder.seen) == encoder.batch_size
    assert stored.level_shapes == SHAPES and stored.labels is split.labels
    numbers = np.asarray([29, 0, 7, 8, 8])
    for source in (stored, pickle.loads(pickle.dumps(stored))):
        assert_levels(source.levels(np.arange(N_ROWS)), split)
        assert_levels(source.levels(numbers), split, numbers)
    assert source.levels(numbers, ["ends"]).keys() == {"ends"}
    again = Levels(modality)
    assert_levels(encode_split(split, again, tmp_path, batch_size=3).levels(np.arange(N_ROWS)), split)
    assert not again.seen
    encode_split(make_split(modality, seed=1), again, tmp_path, batch_size=3)
    assert again.rows_seen == N_ROWS and max(shape[0] for shape in again.seen) == 3


def test_texts_of_a_batch_have_similar_lengths(tmp_path, monkeypatch):
    monkeypatch.setattr(encoded, "PART_ROWS", 512)
    split, encoder = make_split("text"), Levels("text")
    encode_split(split, encoder, tmp_path)
    lengths = np.sort((split.rows(np.arange(N_ROWS)) != 0).sum(axis=1))[::-1]
    assert [shape[1] for shape in encoder.seen] == lengths[::4].tolist()


def test_an_encoder_without_special_tokens(tmp_path):
    spec = {"transformers": save_bert(tmp_path / "bert"), "special_tokens": [[], []]}
    frontend = MSMAMLModel(encoder_config({"text": spec}, num_layers=1)).frontends["text"]
    split = make_split("text")
    stored = encode_split(split, frontend, tmp_path / "cache")
    raw = torch.from_numpy(split.rows(np.arange(N_ROWS)))
    assert stored.row_shape == tuple(frontend(raw, torch.float32).shape[1:])


def test_misuse_is_refused(tmp_path):
    split = make_split()
    stored = encode_split(split, Levels("text"), tmp_path)
    for wrong, message in (
        (lambda: stored.rows([0]), "several levels: read them with `levels`"),
        (lambda: split.levels([0]), "no levels: read them with `rows`"),
        (lambda: stored.levels([0], ["top"]), "levels top do not exist; there are sum, grid, ends"),
        (lambda: encode_split(stored, Levels("text"), tmp_path), "features already"),
        (lambda: encode_split(split, Levels("audio"), tmp_path), "reads audio, but .* is text"),
        (lambda: encode_split(split, Levels("text"), tmp_path, batch_size=0), "batch_size=0"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()
    with pytest.raises(IndexError, match="30 rows"):
        stored.levels([30])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda levels: levels["grid"][1].fill_(1e6),
            r"features of 1 of 4 rows of .*, among them row \d, .*not finite .*level grid",
        ),
        (lambda levels: levels.pop("ends"), "declared levels .*ends.* but gives"),
        (lambda levels: levels.update(sum=levels["sum"][:, None]), r"declared .*gives .*'sum': \(4, 1\)"),
    ],
)
def test_levels_that_cannot_be_stored(change, message, tmp_path):
    class Odd(Levels):
        def levels(self, rows):
            levels = super().levels(rows)
            change(levels)
            return levels

    with pytest.raises(ValueError, match=message):
        encode_split(make_split(), Odd("text"), tmp_path)


# Interruption


def interrupted(split, folder, after, how="an error"):
    """Encodes until `after` rows have been seen."""

    def stop(seen):
        if seen >= after:
            if how == "a kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("stopped")

    if how == "a kill":  # by fork, so that it takes milliseconds; the encoder is too small for threads
        context = multiprocessing.get_context("fork")
        process = context.Process(target=encode_split, args=(split, Levels("text", stop), folder))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
    else:
        with pytest.raises(RuntimeError, match="stopped"):
            encode_split(split, Levels("text", stop), folder)
    (parts,) = (folder / "encoded_rows").glob("*.parts")
    return parts


@pytest.mark.parametrize("how", ["an error", "a kill"])
@pytest.mark.parametrize(("after", "kept"), [(0, 0), (12, 8), (24, 24), (28, 24)])
def test_whole_parts_are_kept(how, after, kept, tmp_path):
    split, encoder = make_split(), Levels("text")
    interrupted(split, tmp_path, after, how)
    assert_levels(encode_split(split, encoder, tmp_path).levels(np.arange(N_ROWS)), split)
    assert encoder.rows_seen == N_ROWS - kept
    assert not list((tmp_path / "encoded_rows").glob("*.parts"))


def cut(path, number):
    os.truncate(path, path.stat().st_size - number)


def flip_last(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def more_rows(path):
    lines = path.read_text().splitlines()
    rows, *rest = json.loads(lines[-1])
    path.write_text("\n".join([*lines[:-1], json.dumps([rows + 1, *rest])]) + "\n")


DAMAGE = {
    "part cut off": (lambda folder: cut(folder / ROWS, 1), 16),
    "part without its line": (lambda folder: (folder / ROWS).open("ab").write(b"half a part"), 24),
    "part changed": (lambda folder: flip_last(folder / ROWS), 16),
    "line cut off": (lambda folder: cut(folder / PARTS, 1), 16),
    "line torn": (lambda folder: (folder / PARTS).open("ab").write(b"[8, 12"), 24),
    "line of another form": (lambda folder: (folder / PARTS).open("ab").write(b'{"rows": 8}\n'), 24),
    "line of other rows": (lambda folder: more_rows(folder / PARTS), 16),
    "rows gone": (lambda folder: (folder / ROWS).unlink(), 0),
    "lines gone": (lambda folder: (folder / PARTS).unlink(), 0),
    "rows zeroed": (lambda folder: (folder / ROWS).write_bytes(bytes((folder / ROWS).stat().st_size)), 0),
}


@pytest.mark.parametrize(("damage", "kept"), DAMAGE.values(), ids=DAMAGE)
def test_no_damaged_part_is_kept(damage, kept, tmp_path):
    split, encoder = make_split(), Levels("text")
    damage(interrupted(split, tmp_path, 28))
    assert_levels(encode_split(split, encoder, tmp_path).levels(np.arange(N_ROWS)), split)
    assert encoder.rows_seen == N_ROWS - kept


def test_parts_of_other_shapes_are_not_continued(tmp_path):
    rows = GrowingRows(tmp_path, {"a": (2,)})
    rows.append({"a": np.zeros((3, 2))})
    rows.close()
    assert GrowingRows(tmp_path, {"a": (2,)}).num_rows == 3
    assert GrowingRows(tmp_path, {"a": (1, 2)}).num_rows == 0


def test_a_part_fits_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(encoded, "PART_BYTES", 3 * 2 * 11 + 1)  # eleven numbers a row
    encode_split(make_split(), Levels("text"), tmp_path)
    (path,) = (tmp_path / "encoded_rows").rglob(ROWS)
    assert [batch.num_rows for batch in pa.ipc.open_stream(path.read_bytes())] == [3] * 10


def test_damaged_features_are_computed_again(tmp_path):
    split, encoder = make_split(), Levels("text")
    encode_split(split, encoder, tmp_path)
    (path,) = (tmp_path / "encoded_rows").rglob(ROWS)
    flip_last(path)
    with pytest.warns(UserWarning, match=f"features of arrays train is damaged: .*{ROWS}"):
        assert_levels(encode_split(split, encoder, tmp_path).levels(np.arange(N_ROWS)), split)
    assert encoder.rows_seen == 2 * N_ROWS


def test_read_only_features_that_are_missing_are_refused_by_name(tmp_path, monkeypatch):
    split = make_split()
    encode_split(split, Levels("text"), tmp_path / "full")
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.R_OK)
    assert_levels(encode_split(split, Levels("text"), tmp_path / "full").levels(np.arange(N_ROWS)), split)
    with pytest.raises(sealed.CacheError, match="no cache of features of arrays train .*cannot be written"):
        encode_split(split, Levels("text"), tmp_path / "empty")


def test_progress_is_shown_unless_it_is_switched_off(tmp_path, capsys):
    encode_split(make_split(), Levels("text"), tmp_path / "a")
    assert "Encoding arrays train: 100%" in capsys.readouterr().err
    interrupted(make_split(), tmp_path / "b", 28)
    capsys.readouterr()
    encode_split(make_split(), Levels("text"), tmp_path / "b")
    assert "24/30" in capsys.readouterr().err, "the bar goes on where the pass does"
    datasets.disable_progress_bars()
    try:
        encode_split(make_split(), Levels("text"), tmp_path / "c")
    finally:
        datasets.enable_progress_bars()
    assert not capsys.readouterr().err
