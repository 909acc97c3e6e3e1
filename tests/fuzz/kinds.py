"""What is read from outside besides sounds, pictures and texts: intact files of each kind, and what reads them."""

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LABELS = ["wren", "crow", "wren", "crow"]
ITEMS = ["word1 word2 word3", "word4 word5 word6", "word1 word2 word2", "word5 word5 word6"]


@dataclass(frozen=True)
class Kind:
    """
    Files that are read together, one of which is damaged at a time.

    Args:
        make: writes intact ones into a folder.
        read: reads them.
        changed: patterns of those that are damaged.
        share: how many of a hundred inputs are of this kind.
        documented: errors that it may raise.
        names_file: whether these name the file or its folder; they name the option where it is not known who gave it.
    """

    make: Callable[[Path], None]
    read: Callable[[Path], Any]
    changed: tuple[str, ...]
    share: int
    documented: tuple[type[BaseException], ...] = (ValueError, OSError)
    names_file: bool = True


def _model(folder: Path, **options: Any) -> None:
    from ..own_data import save_tiny_model

    save_tiny_model(folder, modalities=["text"], **options)
    _without_code(folder)


def _without_code(folder: Path) -> None:
    """Leaves one module, as code that someone else wrote, which must not run."""
    for path in folder.glob("*.py"):
        path.unlink()
    (folder / "modeling_msmaml.py").write_text("raise SystemExit('the code of a checkpoint was run')\n")


def _read_model(folder: Path) -> None:
    from modeling_msmaml.inference.base_model import loaded_model

    loaded_model(str(folder))


def _level_model(folder: Path) -> None:
    from ..saved_levels import level_model, level_processor, save_encoders

    encoders = save_encoders(folder.with_name(f"{folder.name} encoders"), ("text",))
    level_model(encoders, ("text",)).save_pretrained(folder)
    level_processor().save_pretrained(folder)
    _without_code(folder)


def _read_level_model(folder: Path) -> None:
    from modeling_msmaml import FewShotClassifier

    FewShotClassifier(str(folder), modality="text").fit(ITEMS, LABELS).predict(ITEMS[:1])


def _encoder(folder: Path) -> None:
    from ..saved_levels import save_encoders

    save_encoders(folder, ("text",))


def _read_encoder(folder: Path) -> None:
    import torch

    from modeling_msmaml.model.level_encoder import read_level_encoder

    read_level_encoder(folder / "text").levels(torch.ones(1, 3, dtype=torch.int32))


def _pretrained(folder: Path) -> None:
    from transformers import BertConfig, BertModel

    from ..model.level_encoders import BERT
    from ..saved_levels import word_tokenizer

    options = {name: value for name, value in BERT.items() if name != "model_type"}
    BertModel(BertConfig(**options)).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)


def _read_pretrained(folder: Path) -> None:
    from modeling_msmaml.model.level_pretrained import level_encoder_from_pretrained

    level_encoder_from_pretrained("text", str(folder))


def _classifier(make: Callable[[Path], None], folder: Path) -> None:
    from modeling_msmaml import FewShotClassifier

    model = folder.with_name(f"{folder.name} model")
    make(model)
    FewShotClassifier(str(model), modality="text").fit(ITEMS, LABELS).save_pretrained(folder)
    _without_code(folder)


def _read_classifier(folder: Path) -> None:
    from modeling_msmaml import FewShotClassifier

    FewShotClassifier.from_pretrained(folder).predict_proba(ITEMS[:1])


def _published(folder: Path) -> None:
    import torch

    from modeling_msmaml import MSMAMLConfig, MSMAMLModel

    from ..hub.test_hub import published_state

    model = MSMAMLModel(MSMAMLConfig(modalities=["text"], num_channels=2))
    run = folder / "train_dir" / "brown_3m5w1s"
    run.mkdir(parents=True)
    settings = {
        **{"multimodal_few_shot": ["brown"], "num_classes_per_batch": 5, "num_channels": 2, "num_updates": 5},
        **{"condition_type": "affine", "fast_lr": 0.05, "inner_loop_grad_clip": 20.0, "first_order": False},
    }
    (run / "train_config.json").write_text(json.dumps(settings))
    torch.save(published_state(model), run / "maml_gated_conv_1d_1000.pt")


def _read_published(folder: Path) -> None:
    from modeling_msmaml import MSMAMLModel

    MSMAMLModel.from_pretrained(folder, run="brown_3m5w1s")


def _tables(folder: Path) -> None:
    for name, content in (("0.txt", "some words"), ("1.txt", "other words"), ("2.txt", "more"), ("3.txt", "last")):
        for place in ("csv", "jsonl"):
            path = folder / place / "a" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    rows = [("a/0.txt", "x", "one"), ("a/1.txt", "y", "two"), ("a/2.txt", "x", "three"), ("a/3.txt", "y", "four")]
    columns = ("file_name", "label", "source")
    _write_table(folder / "csv" / "metadata.csv", columns, rows)
    _write_table(folder / "jsonl" / "metadata.jsonl", columns, rows)
    for suffix in ("csv", "tsv", "jsonl"):
        _write_table(folder / f"texts.{suffix}", ("text", "label"), list(zip(ITEMS, LABELS, strict=True)))


def _write_table(path: Path, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    if path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in rows]
    else:
        lines = [("\t" if path.suffix == ".tsv" else ",").join(row) for row in (columns, *rows)]
    path.write_text("\n".join(lines) + "\n")


def _read_tables(folder: Path) -> None:
    from modeling_msmaml.inputs.input_tables import table_rows
    from modeling_msmaml.inputs.labelled_files import labelled_files
    from msmaml.classifying.queries import Queries

    for place in ("csv", "jsonl"):
        labelled_files(folder / place, "text")
    for suffix in ("csv", "tsv", "jsonl"):
        path = folder / f"texts.{suffix}"
        list(table_rows(path, is_labelled=True))
        list(Queries([str(path)], "text"))


def _yaml(folder: Path) -> None:
    from msmaml.runs.run_arguments import CONFIGS

    (folder / "run.yaml").write_bytes((CONFIGS / "quickstart.yaml").read_bytes())


def _read_yaml(folder: Path) -> None:
    from msmaml.runs.run_arguments import parse_arguments

    parse_arguments([str(folder / "run.yaml"), "--output_dir", str(folder / "out")])


def _archives(folder: Path) -> None:
    from ..data_builders.test_builders import write_archive

    files = {"data/a.json": b'{"a": [1, 2]}', "data/b.txt": b"some words " * 50, "meta.csv": b"a,b\n1,2\n"}
    for name in ("set.zip", "set.tar.gz", "set.tar"):
        write_archive(folder / name, files, "root")


def _read_archives(folder: Path) -> None:
    from data_builders.storage.archives import Official, archive_store

    for name in ("set.zip", "set.tar.gz", "set.tar"):
        official = Official("set", ("root",), (name,), "meta.csv", "https://example.org")
        store = archive_store(folder / name, official)
        names = store.names()
        assert all(len(content) < 2**30 for _, content in store.read(names))


def _own_sets(folder: Path) -> None:
    import pandas

    rows = pandas.DataFrame({"text": [f"{text} {n}" for n in range(3) for text in ITEMS], "label": LABELS * 3})
    for suffix in ("csv", "jsonl", "parquet"):
        (folder / suffix).mkdir(parents=True)
    rows.to_csv(folder / "csv" / "train.csv", index=False)
    rows.to_json(folder / "jsonl" / "train.jsonl", orient="records", lines=True)
    rows.to_parquet(folder / "parquet" / "train.parquet")


def _read_own_sets(folder: Path) -> None:
    """The one that was changed last, since each takes a while."""
    from data_builders import load_few_shot

    last = max(folder.glob("*/train.*"), key=lambda path: path.stat().st_mtime_ns)
    load_few_shot(f"hub:{last.parent}", "train", "sample_disjoint", cache_dir=folder / "cache", min_count=1)


def _official_sets(folder: Path) -> None:
    from ..data_builders.test_builders import tiny_archive
    from ..data_builders.tiny_sets import write_set

    for name in ("clinc150", "banking77"):
        write_set(name, folder)
    tiny_archive("brown", folder)


def _read_official_sets(folder: Path) -> None:
    from data_builders import load_few_shot

    last = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime_ns)
    name = "clinc150" if last.name.startswith("data_full") else "brown" if last.suffix == ".zip" else "banking77"
    load_few_shot(name, "test", data_dir=folder, cache_dir=folder / "cache")


def _cache(folder: Path) -> None:
    import numpy as np

    from data_builders.storage.growing_rows import GrowingRows
    from data_builders.storage.sealed import seal

    rows = GrowingRows(folder / "cache", {"input_ids": (4,)})
    rows.append({"input_ids": np.ones((5, 4))})
    rows.finish()
    seal(folder / "cache")
    shutil.copytree(folder / "cache", folder / "built again")


def _read_cache(folder: Path) -> None:
    """It is opened, or built again by a copy."""
    import numpy as np

    from data_builders.storage.growing_rows import ROWS
    from data_builders.storage.rows import ArrowRows
    from data_builders.storage.sealed import make_whole, replace_folder

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make_whole(folder / "cache", "a data set", lambda: replace_folder(folder / "built again", folder / "cache"))
    assert ArrowRows([folder / "cache" / ROWS], "input_ids", (4,)).take(np.arange(5)).all()


def _levels(folder: Path) -> None:
    import numpy as np

    from data_builders.storage.growing_rows import GrowingRows

    rows = GrowingRows(folder, {"pooled": (4,), "middle": (3,)})
    for _ in range(3):
        rows.append({"pooled": np.ones((5, 4)), "middle": np.ones((5, 3))})
    rows.close()


def _read_levels(folder: Path) -> None:
    import numpy as np

    from data_builders.storage.growing_rows import ROWS, GrowingRows, stored_shapes
    from data_builders.storage.rows import LevelRows

    path = folder / ROWS
    shapes = stored_shapes(path)
    LevelRows(path, shapes).take(np.arange(2), shapes)
    rows = GrowingRows(folder, {"pooled": (4,), "middle": (3,)})
    rows.append({"pooled": np.ones((5, 4)), "middle": np.ones((5, 3))})
    rows.finish()
    assert len(LevelRows(path, stored_shapes(path)).take(np.arange(5), ["pooled"])["pooled"]) == 5


def _results(folder: Path) -> None:
    from msmaml.classifying import run_record

    lines = [{"file": f"{n}.txt", "class": "wren", "probabilities": {"wren": 0.9, "crow": 0.1}} for n in range(4)]
    (folder / "found.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "found.csv").write_text("file,class,error,p_crow,p_wren\n0.txt,wren,,0.1,0.9\n1.txt,crow,,0.9,0.1\n")
    for suffix in ("jsonl", "csv"):
        run_record.write(folder / f"found.{suffix}", {"model": "1", "classes": LABELS[:2]}, command="msmaml classify")


def _read_results(folder: Path) -> None:
    from msmaml.classifying import run_record
    from msmaml.classifying.formats import Csv, JsonLines
    from msmaml.classifying.results_file import errors_in, merge, names_in

    for suffix, form in (("jsonl", JsonLines(["crow", "wren"])), ("csv", Csv(["crow", "wren"]))):
        output = folder / f"found.{suffix}"
        run_record.check(output, {"model": "1", "classes": LABELS[:2], "format": None})
        names_in(output, form)
        errors_in(output, form)
        merge(output, form, iter(["0.txt", "1.txt"]))


def _checkpoint(folder: Path) -> None:
    import torch

    from modeling_msmaml.training.checkpoints import FILE_LIST

    run = {"window": {"loss": [1.5, 2]}, "run": [3.5, 4]}
    (folder / "training_record_0.json").write_text(json.dumps(run))
    torch.save({"a": torch.ones(3)}, folder / "optimizer.pt")
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    (folder / FILE_LIST).write_text(json.dumps({"files": sizes}))


def _read_checkpoint(folder: Path) -> None:
    from modeling_msmaml.training.checkpoints import resolve
    from modeling_msmaml.training.training_record import TrainingRecord

    TrainingRecord().load(folder, 0, 1)
    resolve(folder, folder)


def _card(folder: Path) -> None:
    metadata = "---\nlicense: cc-by-4.0\nlibrary_name: transformers\ntags:\n- ms-maml\nbase_model: someone/x\n---\n"
    table = "# x\n\n## Encoders and licences\n\n| modality | licence |\n| --- | --- |\n| text | apache-2.0 |\n"
    (folder / "README.md").write_text(metadata + table)


def _read_card(folder: Path) -> None:
    from modeling_msmaml.inference.classifier_card import classifier_card

    path = folder / "README.md"
    classifier_card("text", ["wren", "crow"], [2, 2], str(folder), path.read_text("utf-8", errors="replace"))


_CONFIGS = ("*.json", "model.safetensors")
KINDS = {
    "model": Kind(_model, _read_model, _CONFIGS, 8),
    "model on levels": Kind(_level_model, _read_level_model, (*_CONFIGS, "encoders/*/*"), 6),
    "encoder of levels": Kind(_encoder, _read_encoder, ("text/*",), 6),
    "pretrained encoder": Kind(_pretrained, _read_pretrained, _CONFIGS, 4),
    "classifier": Kind(
        lambda folder: _classifier(_model, folder),
        _read_classifier,
        ("few_shot_classifier.*", "processor*", "tok*"),
        6,
    ),
    "classifier on levels": Kind(
        lambda folder: _classifier(_level_model, folder), _read_classifier, ("few_shot_classifier.*", "processor*"), 4
    ),
    "published checkpoint": Kind(_published, _read_published, ("train_dir/*/*",), 6),
    "tables": Kind(_tables, _read_tables, ("*/metadata.*", "texts.*"), 20),
    "YAML of a run": Kind(_yaml, _read_yaml, ("run.yaml",), 6, (SystemExit,), names_file=False),
    "archives": Kind(_archives, _read_archives, ("set.*",), 8),
    "own data sets": Kind(_own_sets, _read_own_sets, ("*/train.*",), 1),
    "official data sets": Kind(_official_sets, _read_official_sets, ("*", "*/*.csv"), 1),
    "cache of a data set": Kind(_cache, _read_cache, ("cache/*",), 6),
    "stored levels": Kind(_levels, _read_levels, ("*",), 6),
    "results that go on": Kind(_results, _read_results, ("*",), 6),
    "checkpoint of a run": Kind(_checkpoint, _read_checkpoint, ("*.json",), 4),
    "card": Kind(_card, _read_card, ("README.md",), 2),
}
