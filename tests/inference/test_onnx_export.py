"""FewShotClassifier.export: onnxruntime gives the classifier's probabilities, from files, without this package."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
from PIL import Image
from sklearn.exceptions import NotFittedError
from tokenizers import Tokenizer

from modeling_msmaml import FewShotClassifier
from modeling_msmaml.inference import onnx_export
from modeling_msmaml.inference.exported_cells import cell_weights, whole_weights
from modeling_msmaml.inputs.kinds import KINDS

from ..level_models import save_level_model
from ..own_data import MAKERS, SAMPLING_RATE, save_tiny_model, write_file
from ..test_docs import blocks
from ..toys import tiny_episodes, tiny_model
from .test_few_shot_classifier import PROTOTYPES, examples

REPOSITORY = Path(__file__).resolve().parents[2]
MODALITIES = ("audio", "text", "image")
ARCHITECTURES = {"published": {}, "prototypes": PROTOTYPES}


def prepared(description: dict, folder, file) -> np.ndarray:
    """The graph's input for one file that needs no resampling and no scaling, as classifier.json describes it."""
    preparation, shape = description["preparation"], description["input"]["shape"]
    if description["modality"] == "text":
        tokenizer = Tokenizer.from_file(str(folder / preparation["tokenizer"]))
        tokenizer.encode_special_tokens = True
        ids = tokenizer.encode(file.read_text(), add_special_tokens=preparation["special_tokens"]).ids
        row = np.asarray(ids[: preparation["max_tokens"]])
        missing = 0 if isinstance(shape[1], str) else shape[1] - len(row)
        row = np.pad(row, (0, missing), constant_values=preparation["padding"])
    elif description["modality"] == "audio":
        wave, rate = soundfile.read(file, dtype="float32")
        assert rate == preparation["sampling_rate"] and wave.ndim == preparation["channels"]
        row = np.round(wave * preparation["scale"])[: preparation["max_samples"]]
    else:
        row = np.asarray(Image.open(file).convert(preparation["colours"])).transpose(2, 0, 1)
    return row[None].astype(description["input"]["dtype"])


def check_export(classifier: FewShotClassifier, folder, files, atol: float = 2e-5):
    """One file after the other, and those with rows of one shape at once."""
    classifier.export(folder)
    description = json.loads((folder / "classifier.json").read_text())
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    metadata = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert metadata == description and description["classes"] == classifier.classes_.tolist()
    rows = [prepared(description, folder, file) for file in files]
    name = description["input"]["name"]
    found = np.concatenate([session.run(["probabilities"], {name: row})[0] for row in rows])
    np.testing.assert_allclose(found, classifier.predict_proba(files), atol=atol)
    (together,) = session.run(None, {name: batch(rows, description["preparation"].get("padding", 0))})
    np.testing.assert_allclose(together, found[: len(together)], atol=atol)


def batch(rows: list[np.ndarray], padding: int) -> np.ndarray:
    """All rows, the shorter with padding at their end; or of pictures, the first ones that have one size."""
    if rows[0].ndim == 4:
        return np.concatenate([row for row in rows if row.shape == rows[0].shape])
    longest = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(row, ((0, 0), (0, longest - row.shape[1])), constant_values=padding) for row in rows])


@pytest.fixture(scope="module")
def level_dir(tmp_path_factory):
    return str(save_level_model(tmp_path_factory.mktemp("levels")))


@pytest.fixture(scope="module", params=ARCHITECTURES)
def scratch_dir(request, tmp_path_factory):
    return str(save_tiny_model(tmp_path_factory.mktemp(request.param), **ARCHITECTURES[request.param]))


def longer_files(modality: str, folder) -> list:
    """Inputs of lengths and sizes that examples do not have: several windows, many blocks, all aspects."""
    folder.mkdir()
    files = []
    for number, times in enumerate((1, 2, 9, 40)):
        path = folder / f"{number}.{ {'audio': 'wav', 'text': 'txt', 'image': 'png'}[modality] }"
        parts = [MAKERS[modality](number % 3, 50 + part) for part in range(times)]
        if modality == "text":
            path.write_text(" ".join(parts))
        elif modality == "audio":
            wave = np.concatenate(parts * 100)
            soundfile.write(path, np.concatenate([wave, np.zeros(5, "float32")]), SAMPLING_RATE, subtype="FLOAT")
        else:
            Image.fromarray(np.concatenate([np.asarray(part) for part in parts], axis=number % 2)).save(path)
        files.append(path)
    return files


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_classifier_on_levels_leaves_python(level_dir, tmp_path, modality):
    classifier = FewShotClassifier(level_dir, sampling_rate=SAMPLING_RATE).fit(*examples(modality, (3, 1, 2)))
    files = [write_file(modality, tmp_path, kind, 30 + kind) for kind in range(3)]
    files += longer_files(modality, tmp_path / "queries")
    check_export(classifier, tmp_path / "out", files, atol=5e-4)  # levels are rounded to float16


@pytest.mark.filterwarnings("ignore:.*short")
@pytest.mark.parametrize("modality", ["text", "audio", "image"])
def test_the_page_runs_with_the_shipped_model(tmp_path, monkeypatch, modality):
    """As another process would run it: after `export`, this package is not asked for anything."""
    page = REPOSITORY / "docs" / "export.md"
    (code,) = [own for own in blocks(page, "python") if KINDS[modality].key in own]
    rng = np.random.default_rng(0)
    for kind, (bird, colour) in enumerate((("crow", "red"), ("wren", "blue"))):
        for number in range(1, 3):
            wave = np.sin(np.arange(9_000 * number) * (0.05 + 0.2 * kind)) * rng.uniform(0.2, 0.9, 9_000 * number)
            (tmp_path / "birds" / bird).mkdir(parents=True, exist_ok=True)
            soundfile.write(tmp_path / "birds" / bird / f"{number}.wav", wave, 16_000)
            pixels = rng.integers(0, 60, (70 + 10 * number, 90, 3))
            pixels[..., 2 * kind] += 150
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{colour}{number}.png")
    unknown = {"audio": "unknown.wav", "image": "unknown.png", "text": "Bake it for an hour."}[modality]
    (tmp_path / "birds" / "crow" / "2.wav").rename(tmp_path / "unknown.wav")
    (tmp_path / "blue2.png").rename(tmp_path / "unknown.png")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, page.name, "exec"), names)
    np.testing.assert_allclose(names["probabilities"], names["classifier"].predict_proba([unknown]), atol=1e-4)


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_classifier_from_scratch_leaves_python(scratch_dir, tmp_path, modality):
    classifier = FewShotClassifier(scratch_dir, sampling_rate=SAMPLING_RATE)
    classifier.fit(*examples(modality))
    check_export(classifier, tmp_path / "out", [write_file(modality, tmp_path, kind, 30) for kind in range(3)])


@pytest.mark.filterwarnings("ignore:A model attribute .* requires gradient")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("modality", MODALITIES)
def test_classify_is_exported_by_torch(modality, architecture):
    model = tiny_model(torch.float32, **ARCHITECTURES[architecture]).eval()
    task = tiny_episodes((modality,), tasks=1)[modality]
    with torch.no_grad():
        adapted = model.adapt(modality, task["support"], task["support_labels"])

    class Classify(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, query):
            return self.model.classify(adapted, query)

    with torch.no_grad():
        program = torch.export.export(
            Classify(), (task["query"],), dynamic_shapes=({1: torch.export.Dim("queries", min=2)},)
        )
        for queries in (task["query"], task["query"][:, :5]):
            torch.testing.assert_close(program.module()(queries), model.classify(adapted, queries))


def test_cells_are_those_of_adaptive_pooling():
    values = torch.randn(2, 3, 17)
    for cells in (1, 4, 17, 24):
        expected = torch.nn.functional.adaptive_avg_pool1d(values, cells)
        torch.testing.assert_close(values @ whole_weights(17, cells).T, expected)
    starts, ends = torch.tensor([2, 5]), torch.tensor([9, 6])
    weights = cell_weights(starts, ends, torch.arange(17), 4)
    for own, start, end, found in zip(values, starts, ends, values @ weights.transpose(1, 2), strict=True):
        torch.testing.assert_close(found, torch.nn.functional.adaptive_avg_pool1d(own[:, start:end], 4))


def test_what_cannot_leave_python_is_refused_by_name(level_dir, tmp_path, monkeypatch):
    with pytest.raises(NotFittedError):
        FewShotClassifier(level_dir).export(tmp_path)
    classifier = FewShotClassifier(level_dir).fit(["word1 word2", "word5 word6"], [b"a", b"b"])
    with pytest.raises(ValueError, match=r"class b'a' is a bytes, which cannot be saved"):
        classifier.export(tmp_path)
    classifier.fit(["word1 word2", "word5 word6"], ["a", "b"])
    monkeypatch.delitem(onnx_export._EXPORTED, "transformers")
    with pytest.raises(ValueError, match="the encoder 'transformers' of text has no form as ONNX: .*timm, aisfx"):
        classifier.export(tmp_path)
    classifier.modality_ = "motion"
    with pytest.raises(ValueError, match="modality='motion' has no form as ONNX: .*audio, text, image"):
        classifier.export(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs onnxscript, .*pip install 'msmaml\[export\]'"):
        classifier.export(tmp_path)
    assert not any(tmp_path.iterdir())


def test_no_file_is_left_that_gives_other_probabilities(scratch_dir, tmp_path, monkeypatch):
    classifier = FewShotClassifier(scratch_dir).fit(*examples("text"))
    monkeypatch.setattr(onnx_export, "_CLOSE", -1.0)
    with pytest.raises(ValueError, match="its probabilities would be off by"):
        classifier.export(tmp_path)
    assert not any(tmp_path.iterdir())
