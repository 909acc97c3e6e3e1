"""The comparison of methods on the same episodes, its stored results and its tables."""

import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from benchmarks.comparison import baselines, methods, report, results, runner
from benchmarks.comparison.cells import DATA_SETS, Cell, DataSet, cells
from benchmarks.comparison.splits import Material, episodes_of, fingerprint
from benchmarks.pages import parts_of
from data_builders import FewShotSplit
from modeling_msmaml import MSMAMLConfig, MSMAMLModel
from modeling_msmaml.model.level_encoder import save_level_encoder

from ..model.level_encoders import texts, tiny

CELL = Cell("toy", 3, 2, 4, looked_at=True)
CLASSES, PER_CLASS = 6, 8


@pytest.fixture
def material(tmp_path, monkeypatch):
    """A toy data set of texts, whose classes have words of their own, in place of those of the comparison."""
    save_level_encoder(tiny("text"), tmp_path / "encoder")
    config = MSMAMLConfig(
        task_network="levels", modalities=["text"], level_encoders={"text": str(tmp_path / "encoder")}
    )
    model = MSMAMLModel(config).eval()
    monkeypatch.setitem(DATA_SETS, "toy", DataSet("toy", "toy", "text"))
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")

    def split(part: str, seed: int) -> FewShotSplit:
        labels = np.arange(CLASSES).repeat(PER_CLASS)
        rows = texts([10] * len(labels), width=10, seed=seed).numpy()
        rows[:, :4] = 5 + labels[:, None] * 4 + np.arange(4)
        return FewShotSplit.from_arrays(rows, labels, modality="text", split=part, name="toy")

    class ToyMaterial(Material):
        def _raw(self, title: str, part: str, **options: object) -> FewShotSplit:
            return split(part, seed=["train", "test"].index(part))

    return ToyMaterial(model, "toy", None, str(tmp_path / "cache"))


@pytest.fixture
def saved(material, tmp_path):
    """The folder of the same model."""
    material.model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_every_method_answers_the_same_episodes(material, saved):
    test = material.of(DATA_SETS["toy"])
    drawn = episodes_of(CELL, test, 5, seed=0)
    assert fingerprint(material.raw("toy", "test")) == fingerprint(test)
    found = {
        method.name: method.answers(CELL, material, 5, seed=0)
        for method in (methods.Levels(), methods.LevelsOwnStatistics(saved), *baselines.bases())
    }
    for name, answers in found.items():
        assert len(answers.right) == 5 and all(0 <= right <= 12 for right in answers.right)
        assert (answers.confidence is None) == name.startswith("centroid")
    # The model, and one of the bases, computed from the raw rows episode by episode.
    last = material.last_level("text")
    for number in range(5):
        episode = drawn[number]
        batch = {name: episode[name][None] for name in ("support", "support_labels", "query")}
        with torch.no_grad():
            predicted = material.model({"text": batch}).logits["text"][0].argmax(dim=1)
        assert (predicted == episode["query_labels"]).sum() == found["levels"].right[number]
        support, query = (baselines.unit(episode[part][:, last].float().numpy()) for part in ("support", "query"))
        fitted = LogisticRegression(C=10, max_iter=1000).fit(support, episode["support_labels"])
        right = (fitted.predict(query) == episode["query_labels"].numpy()).sum()
        assert right == found["regression_raw_10"].right[number]


def test_own_statistics_are_fitted_to_training_rows_and_leave_the_model_as_it_is(material, saved):
    before = material.model.task_network.statistics["text"]["L2"].mean.clone()
    own = methods.LevelsOwnStatistics(saved).model(CELL, material)
    rows, groups = material.training(DATA_SETS["toy"])
    assert len(rows) == CLASSES * PER_CLASS and sorted(set(groups.tolist())) == list(range(CLASSES))
    assert torch.equal(material.model.task_network.statistics["text"]["L2"].mean, before)
    expected = rows[:, material.last_level("text")].mean(dim=0)
    torch.testing.assert_close(own.task_network.statistics["text"]["L2"].mean, expected)


def test_known_channels_are_taken_back(material):
    split = material.of(DATA_SETS["toy"])
    frontend = material.model.frontends["text"]
    with pytest.raises(RuntimeError, match="stop"), methods.channels_known(material.model, split):
        raise RuntimeError("stop")
    assert material.model.frontends["text"] is frontend
    assert "unit_channels" not in vars(material.model.task_network)


def test_regression_in_the_span_of_the_support_set_is_the_same_classifier():
    random = np.random.default_rng(0)
    support, query = random.normal(size=(6, 40)), random.normal(size=(9, 40))
    labels = np.arange(3).repeat(2)
    whole = LogisticRegression(C=10, max_iter=1000, tol=1e-8).fit(support, labels).predict_proba(query)
    np.testing.assert_allclose(
        baselines.logistic_regression(support, labels, query, 10), whole, atol=0.02
    )  # as far as sklearn goes by default


def stored(name: str, right: list[int], **changes) -> dict:
    method = methods.Method()
    method.name = name
    answers = methods.Answers(right, np.full(12, 0.9), np.arange(12) < 9)
    return results.entry(method, CELL, answers, True, **{"seed": 0, "commit": "c" * 40, "rows": "a", **changes})


def test_results_are_kept_by_cell_and_paired_on_common_episodes(tmp_path):
    one, other = stored("one", [12, 9, 6, 12]), stored("other", [9, 9, 9])
    results.write("one", [stored("one", [0, 0])], tmp_path)
    results.write("one", [one], tmp_path)
    assert results.read("one", tmp_path) == {CELL.key: json.loads(json.dumps(one))}
    mean, half_width, number = results.difference(one, other)
    assert number == 3 and mean == 0 and half_width == pytest.approx(1.96 * 0.25 / 3**0.5, rel=1e-3)
    assert one["calibration_error"] == pytest.approx(0.15) and one["kept"] == 1 and one["accuracy_of_kept"] == 0.75
    with pytest.raises(ValueError, match="differ in rows, 'a' and 'b'"):
        results.difference(one, stored("other", [9], rows="b"))


def test_runner_stores_what_is_missing_only(material, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "Material", lambda *arguments: material)
    monkeypatch.setattr(runner, "cells", lambda: [CELL])
    monkeypatch.setattr(runner.MSMAMLModel, "from_pretrained", lambda folder: material.model)
    monkeypatch.setattr(results.read, "__defaults__", (tmp_path,))
    monkeypatch.setattr(results.write, "__defaults__", (tmp_path,))
    options = ["--model", "toy", "--sets", "toy", "--threads", "1", "--n_way", "3", "--k_shot", "2"]
    options += ["--methods", "levels", "centroid_raw"]
    monkeypatch.setattr(runner, "DATA_SETS", DATA_SETS)
    runner.main([*options, "--episodes", "2"])
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["centroid_raw.json", "levels.json"]
    before = results.read("levels", tmp_path)[CELL.key]
    assert before["episodes"] == 2 and before["looked_at"] and before["statistics"] == "shipped"
    monkeypatch.setattr(methods.Levels, "answers", lambda *arguments: pytest.fail("measured again"))
    runner.main([*options, "--episodes", "2", "--missing"])
    with pytest.raises(SystemExit):
        runner.main([*options[:-2], "centroid"])


def test_page_is_what_the_stored_results_give():
    found = report.Found()
    for name, content in report.parts(found).items():
        assert parts_of(results.REPOSITORY / "docs" / "results.md", name)[1].strip("\n") == content, name


def test_cells_have_one_shape_each():
    found = [cell.key for cell in cells()]
    assert len(found) == len(set(found)) and {key[0] for key in found} == set(DATA_SETS)
    assert all((title, 5, k_shot) in found for title in DATA_SETS for k_shot in (1, 5))
