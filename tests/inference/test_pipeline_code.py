"""The code of the pipeline that is saved with a classifier: modules of one folder, and what they import."""

import json
import re
import sys
from typing import Any

import pytest
from transformers import AutoConfig, pipeline
from transformers.dynamic_module_utils import get_class_from_dynamic_module, get_imports, get_relative_imports

from modeling_msmaml import FewShotClassifier, MSMAMLConfig, MSMAMLModel
from modeling_msmaml.inference.base_model import is_model
from modeling_msmaml.inference.modality_parts import part_of_model, part_of_processor

from ..level_models import save_level_model
from .test_few_shot_classifier import examples

# As docs/hub.md says.
PACKAGES = {"torch", "timm", "jaxtyping", "torchaudio", "soundfile", "PIL", "sklearn", "scipy"}
ALWAYS_THERE = {"transformers", "huggingface_hub", "numpy", "safetensors", "yaml"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_level_model(tmp_path_factory.mktemp("levels"))


@pytest.fixture(scope="module")
def saved(base, tmp_path_factory):
    """The folder of a saved classifier of texts."""
    folder = tmp_path_factory.mktemp("classifier")
    FewShotClassifier(base).fit(*examples("text")).save_pretrained(folder)
    return folder


def modules(folder) -> dict[str, str]:
    return {path.stem: path.read_text() for path in folder.glob("*.py")}


def test_modules_import_from_their_own_folder_alone(saved):
    found = modules(saved)
    named = get_relative_imports(saved / "few_shot_pipeline.py")
    assert {"few_shot_classifier", "modeling_msmaml", "processing_msmaml"} < set(named)
    assert set(named) == found.keys() - {"few_shot_pipeline"}, "transformers fetches what this module names"
    for name, source in found.items():
        assert not re.search(r"^\s*from \.\.", source, re.MULTILINE), name
        assert set(get_relative_imports(saved / f"{name}.py")) <= found.keys(), name
        compile(source, name, "exec")


def test_modules_need_the_packages_that_the_docs_name(saved):
    needed = {package for path in saved.glob("*.py") for package in get_imports(path)}
    assert needed - set(sys.stdlib_module_names) - ALWAYS_THERE == PACKAGES


def test_code_that_was_saved_saves_itself(saved):
    own = get_class_from_dynamic_module("pipeline_code.add_pipeline_code", str(saved))
    assert own.__module__.startswith("transformers_modules.")
    code = get_class_from_dynamic_module("few_shot_pipeline.FewShotClassificationPipeline", str(saved))
    written = sys.modules[code.__module__.replace("few_shot_pipeline", "pipeline_code")]
    assert written.pipeline_code().items() <= modules(saved).items()


def test_the_pipeline_is_named_where_its_code_is(saved, base, tmp_path):
    written = json.loads((saved / "config.json").read_text())["custom_pipelines"]
    implementation = {"impl": "few_shot_pipeline.FewShotClassificationPipeline", "pt": ["AutoModel"]}
    assert written == {"few-shot-classification": {**implementation, "type": "multimodal"}}
    # With this package its own pipeline runs, which asks for no trust; a model alone is saved without the code.
    assert not hasattr(AutoConfig.from_pretrained(saved), "custom_pipelines")
    pipelines: Any = pipeline  # whose signature lists the tasks of transformers
    own = pipelines("few-shot-classification", model=str(saved), device="cpu")
    assert type(own).__module__ == "modeling_msmaml.inference.few_shot_pipeline"
    config = MSMAMLConfig.from_pretrained(saved)
    config.custom_pipelines = written
    config.save_pretrained(tmp_path)
    assert "custom_pipelines" not in json.loads((tmp_path / "config.json").read_text())


def test_models_of_saved_code_serve_this_classifier(saved, base):
    """Local code is loaded once with the model and once with the pipeline: two classes of the same name."""
    model, processor = (
        get_class_from_dynamic_module(name, str(saved)).from_pretrained(saved)
        for name in ("modeling_msmaml.MSMAMLModel", "processing_msmaml.MSMAMLProcessor")
    )
    assert is_model(model) and not isinstance(model, MSMAMLModel)
    assert part_of_model(model, "text") is model
    assert part_of_processor(processor, "text").get_attributes() == ["tokenizer"]
    items, labels = examples("text")
    foreign = FewShotClassifier(model, processor).fit(items, labels)
    ours = FewShotClassifier(saved).fit(items, labels)
    assert foreign.predict_proba(items).tolist() == ours.predict_proba(items).tolist()


@pytest.mark.parametrize("given", [5, object()])
def test_what_is_no_model_is_refused(given):
    with pytest.raises(TypeError):
        FewShotClassifier(given).fit(*examples("text"))
