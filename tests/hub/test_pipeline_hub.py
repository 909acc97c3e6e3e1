"""Pipelines in processes without this package: of saved classifiers, from folders and from the Hub of `fake_hub.py`."""

from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline

from modeling_msmaml import FewShotClassifier

from ..fake_hub import FakeHub
from ..level_models import save_level_model
from ..own_data import save_tiny_model, text, write_file
from .test_hub import client

LABELS = ["a", "a", "b", "b"]
FEWER_STEPS = {"num_inner_steps": 1, "reject_below": 0.9}
# In a new process: the pipeline of a folder or repository, and what it says by label.
PIPELINE = """
from transformers import pipeline
def load(place, **hub):
    return pipeline("few-shot-classification", model=place, trust_remote_code=True, device="cpu", **hub)
def scores(answers):
    return [{entry["label"]: entry["score"] for entry in answer} for answer in answers]
result["installed"] = error(__import__, "modeling_msmaml")
"""


@pytest.fixture(scope="module", params=["levels", "conv1d"])
def model_dir(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "levels":
        return save_level_model(folder)
    return save_tiny_model(folder, n_way=2, inner_rates="per_layer_per_step")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Two texts, sounds and pictures of each of two kinds; the latter are files."""
    folder: Path = tmp_path_factory.mktemp("files")
    kinds = [(kind, number) for kind in (0, 1) for number in (0, 1)]
    files = {name: [str(write_file(name, folder, *kind)) for kind in kinds] for name in ("audio", "image")}
    return files | {"text": [text(*kind) for kind in kinds]}


def scores(answers) -> list[dict[str, float]]:
    return [{entry["label"]: entry["score"] for entry in answer} for answer in answers]


def same(found, expected):
    assert [list(one) for one in found] == [list(one) for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-6)


def test_folders_of_saved_classifiers_need_no_package(model_dir, inputs, tmp_path):
    expected = {}
    for modality, own in inputs.items():
        classifier = FewShotClassifier(model_dir, modality=modality, reject_below=0.7).fit(own, LABELS)
        classifier.save_pretrained(tmp_path / modality)
        pipelines: Any = pipeline  # whose signature lists the tasks of transformers
        classify = pipelines("few-shot-classification", model=str(tmp_path / modality), device="cpu")
        anew = {"examples": own, "labels": LABELS[::-1], "modality": modality, **FEWER_STEPS}
        expected[modality] = {"saved": scores(classify(own)), "anew": scores(classify(own, **anew))}
    loaded = client(
        FakeHub(),
        tmp_path / "home",
        PIPELINE
        + f"""
for modality, own in {inputs}.items():
    classify = load(f"{tmp_path}/{{modality}}")
    anew = dict(examples=own, labels={LABELS[::-1]}, modality=modality, **{FEWER_STEPS})
    result[modality] = {{"saved": scores(classify(own)), "anew": scores(classify(own, **anew))}}
    again = load(f"{tmp_path}/{{modality}}", examples=own, labels={LABELS}, modality=modality)
    again.save_pretrained(f"again_{{modality}}")
    result[modality]["again"] = scores(load(f"again_{{modality}}")(own, reject_below=0.7))
    result["class"] = type(classify).__module__
    result["export"] = error(again._forward_params["classifier"].export, "onnx")
""",
        package=False,
    )
    assert "No module named" in loaded["installed"] and loaded["class"].startswith("transformers_modules.")
    assert "ModuleNotFoundError: export is not part of the code that is saved" in loaded["export"]
    for modality, own in expected.items():
        same(loaded[modality]["saved"], own["saved"])
        same(loaded[modality]["anew"], own["anew"])
        same(loaded[modality]["again"], own["saved"])


def test_repositories_need_no_package(inputs, tmp_path):
    folder, own = save_level_model(tmp_path), inputs["text"]
    with FakeHub() as hub:
        here = client(
            hub,
            tmp_path / "pushing",
            f"""
            from modeling_msmaml import FewShotClassifier
            from transformers import pipeline
            FewShotClassifier("{folder}").fit({own}, list("aabb")).push_to_hub("someone/kinds")
            side = pipeline("few-shot-classification", model="{folder}", examples={own}, labels=list("cdcd"))
            side.push_to_hub("someone/kinds", revision="side")
            for revision in (None, "side"):
                classify = pipeline("few-shot-classification", model="someone/kinds", revision=revision, device="cpu")
                result[str(revision)] = [{{e["label"]: e["score"] for e in one}} for one in classify({own})]
            """,
        )
        loaded = client(
            hub,
            tmp_path / "home",
            PIPELINE
            + f"""
for revision in (None, "side"):
    result[str(revision)] = scores(load("someone/kinds", revision=revision)({own}))
result["not trusted"] = error(pipeline, "few-shot-classification", model="someone/kinds")
""",
            package=False,
            token=None,
        )
    for revision, labels in (("None", {"a", "b"}), ("side", {"c", "d"})):
        assert set(here[revision][0]) == labels
        same(loaded[revision], here[revision])
    assert "No module named" in loaded["installed"] and "trust_remote_code=True" in loaded["not trusted"]
