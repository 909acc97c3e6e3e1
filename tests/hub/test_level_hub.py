"""Models on levels over the Hub of `fake_hub.py`: their encoders are uploaded, and fetched when they are needed."""

import json

import pytest

from ..fake_hub import TOKEN, FakeHub
from ..msmaml.test_run_meta import options
from ..saved_levels import save_level_model
from .test_hub import client


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    """Pushes of one model in three ways, and what the model said."""
    home = tmp_path_factory.mktemp("push")
    folder = save_level_model(home / "model", home / "encoders")
    training = ["--datasets", "synthetic:image", "--task_network", "levels", "--level_encoders", str(folder)]
    training += options(output_dir=home / "run", do_train=True, save_steps=2, max_steps=2, n_way=3, n_query=2)
    training += ["--push_to_hub", "true", "--hub_model_id", "someone/run", "--save_strategy", "steps"]
    with FakeHub() as hub:
        result = client(
            hub,
            home / "home",
            f"""
            from tests.saved_levels import fetched, reads
            from modeling_msmaml import MSMAMLModel, MSMAMLProcessor
            model, processor = (kind.from_pretrained("{folder}") for kind in (MSMAMLModel, MSMAMLProcessor))
            model.push_to_hub("someone/pushed")
            processor.push_to_hub("someone/pushed")
            model.save_pretrained("{home}/saved", push_to_hub=True, repo_id="someone/saved")
            model.push_to_hub("someone/pushed", revision="side")
            from msmaml.commands.push import main
            main(["{folder}", "someone/folder"])
            from transformers import pipeline
            pipeline("few-shot-classification", model="{folder}").push_to_hub("someone/pipeline")
            import run_meta
            run_meta.main({training!r})
            for modality in ("audio", "text", "image"):
                result[modality] = reads(model, modality)
            """,
        )
        yield hub, result, str(home)


def test_encoders_are_uploaded_and_no_path_is(pushed):
    hub, _, home = pushed
    for repo, revision in (
        ("pushed", "main"),
        ("pushed", "side"),
        ("saved", "main"),
        ("folder", "main"),
        ("pipeline", "main"),
    ):
        files = hub.files(f"someone/{repo}", revision)
        assert {f"encoders/{name}/encoder.safetensors" for name in ("audio", "text", "image")} <= files.keys(), repo
        assert {"config.json", "model.safetensors", "encoders/text/tokenizer.json"} <= files.keys(), repo
        assert home.encode() not in files["config.json"] + files.get("README.md", b"")
    for commit in hub.repositories["someone/run"].branches["main"]:
        assert ("config.json" in commit.files) <= ("encoders/image/encoder.safetensors" in commit.files), commit.message
    assert home.encode() not in hub.files("someone/run")["config.json"] + hub.files("someone/run")["README.md"]
    assert [commit.message for commit in hub.repositories["someone/saved"].branches["main"]][1:] == ["Upload model"]


def test_an_encoder_is_fetched_when_its_modality_is_first_used(pushed, tmp_path):
    hub, result, _ = pushed
    loaded = client(
        hub,
        tmp_path / "home",
        """
        from tests.saved_levels import fetched, reads
        import os
        from modeling_msmaml import FewShotClassifier, MSMAMLModel
        model = MSMAMLModel.from_pretrained("someone/pushed")
        result["after loading"] = fetched(os.environ["HF_HUB_CACHE"])
        result["text"] = reads(model, "text")
        result["after text"] = fetched(os.environ["HF_HUB_CACHE"])
        offline = MSMAMLModel.from_pretrained("someone/pushed", local_files_only=True)
        result["offline text"] = reads(offline, "text")
        result["offline image"] = error(reads, offline, "image")
        classifier = FewShotClassifier.from_pretrained("someone/pushed")
        texts = ["word1 word2 word3", "word7 word8 word9"]
        result["classes"] = classifier.fit(texts, ["a", "b"]).predict(texts).tolist()
        """,
        token=None,
    )
    assert loaded["after loading"] == [] and loaded["after text"] == ["text"]
    assert loaded["text"] == loaded["offline text"] == result["text"]
    assert "FileNotFoundError" in loaded["offline image"] and "encoders/image" in loaded["offline image"]
    assert loaded["classes"] == ["a", "b"]


def test_encoders_are_those_of_the_revision_that_was_loaded(pushed, tmp_path):
    hub, result, _ = pushed
    loaded = client(
        hub,
        tmp_path / "home",
        f"""
        from tests.saved_levels import fetched, reads
        from huggingface_hub import HfApi
        from modeling_msmaml import MSMAMLModel
        early = MSMAMLModel.from_pretrained("someone/saved")
        HfApi(token="{TOKEN}").delete_folder("encoders", repo_id="someone/saved")
        result["text"] = reads(early, "text")
        result["late"] = error(reads, MSMAMLModel.from_pretrained("someone/saved"), "text")
        cache = "{tmp_path}/cache"
        side = MSMAMLModel.from_pretrained("someone/pushed", revision="side", cache_dir=cache)
        result["side"] = reads(side, "image")
        result["cache"] = fetched(cache)
        side.save_pretrained("{tmp_path}/again")
        result["again"] = reads(MSMAMLModel.from_pretrained("{tmp_path}/again"), "audio")
        """,
    )
    assert loaded["text"] == result["text"] and loaded["side"] == result["image"] and loaded["again"] == result["audio"]
    assert loaded["cache"] == ["image"]
    assert "has no encoder.safetensors" in loaded["late"]
    again = json.loads((tmp_path / "again" / "config.json").read_text())
    assert "source" not in again["level_encoders"]["text"]
    assert (tmp_path / "again" / "encoders" / "text" / "tokenizer.json").is_file()


def test_encoders_of_a_repository_serve_a_new_model(pushed, tmp_path):
    hub, _, _ = pushed
    loaded = client(
        hub,
        tmp_path / "home",
        """
        import os
        from pathlib import Path
        from transformers import AutoTokenizer
        from modeling_msmaml import MSMAMLConfig, MSMAMLModel
        from msmaml.runs.run_arguments import ModelArguments
        from msmaml.runs.run_model import tokenizer_of_levels
        config = MSMAMLConfig(task_network="levels", modalities=["text"], level_encoders="someone/pushed")
        result["total"] = MSMAMLModel(config).frontends["text"].total
        result["place"] = config.level_encoders["text"]["source"]["place"]
        result["padding"] = tokenizer_of_levels(ModelArguments(level_encoders="someone/pushed")).pad_token_id
        """,
        token=None,
    )
    assert loaded == {"total": 48, "place": "someone/pushed", "padding": 0}


def test_auto_classes_load_it_without_the_package(pushed, tmp_path):
    hub, result, _ = pushed
    loaded = client(
        hub,
        tmp_path / "home",
        """
        from transformers import AutoModel
        model = AutoModel.from_pretrained("someone/pushed", trust_remote_code=True)
        result["class"] = type(model).__module__.split(".")[0]
        generator = torch.Generator().manual_seed(0)
        raw = torch.randint(0, 256, (1, 5, 3, 40, 24), generator=generator, dtype=torch.uint8)  # as in `raw_rows`
        adapted = model.adapt("image", raw, torch.tensor([[0, 1, 1, 0, 1]]))
        result["image"] = model.classify(adapted, raw).tolist()
        """,
        package=False,
        token=None,
    )
    assert loaded["class"] == "transformers_modules"
    assert loaded["image"] == result["image"]
