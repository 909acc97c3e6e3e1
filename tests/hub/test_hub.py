"""Published checkpoints and the round trip, over HTTP and against the Hub of `fake_hub.py`: a new process a client."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModel

from data_builders.storage.vocabulary import word_level_tokenizer
from modeling_msmaml import MSMAMLConfig, MSMAMLModel, MSMAMLProcessor
from modeling_msmaml.hub.convert_published import load_original, main
from modeling_msmaml.model.published_checkpoint import choose_run, list_originals, list_runs

from ..card_rules import card_errors
from ..fake_hub import TOKEN, FakeHub
from ..msmaml.test_run_meta import options
from ..own_data import save_tiny_model

REPOSITORY = Path(__file__).resolve().parents[2]
PUBLISHED = "ermu2001/SequenceMMAML"
THREE = "cifar_brown_esc50_3m5w1s"
TWO = "cifar_esc50_2m5w1s"
ITERATIONS = {THREE: (1000, 2000, 10000), TWO: (500,)}
NAMES = {"cifar": "image", "brown": "text", "esc50": "audio"}

# Hides this project's packages, as if they were not installed, and whatever `hidden` names besides.
WITHOUT_PACKAGE = """
import importlib.abc, sys
hidden = {"modeling_msmaml", "data_builders", "msmaml", "run_meta"}
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hide())
"""
# A client's tools: `error(call)` is what the call says when it fails, `logits(model)` a fixed prediction.
TOOLS = """
import json
import torch
def error(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except Exception as caught:
        return f"{type(caught).__name__}: {caught}"
    return "no error"
def logits(model):
    sounds = torch.randint(-9999, 9999, (1, 7, 80_000), dtype=torch.int16, generator=torch.Generator().manual_seed(0))
    task = {"support": sounds[:, :5], "support_labels": torch.arange(5)[None], "query": sounds[:, 5:]}
    with torch.no_grad():
        return model({"audio": task}).logits["audio"].tolist()
"""


def client(hub: FakeHub, home: Path, code: str, package: bool = True, token: str | None = TOKEN) -> dict:
    """Runs `code` in a new process, with or without this project's packages; returns what it leaves in `result`."""
    program = (
        ("" if package else WITHOUT_PACKAGE)
        + TOOLS
        + "result = {}\n"
        + textwrap.dedent(code)
        + "\nprint('RESULT', json.dumps(result))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHONPATH"))}
    environment |= hub.environment(home, token)
    environment |= {"PYTHONPATH": str(REPOSITORY)} if package else {}
    environment |= {"OMP_NUM_THREADS": "1"}
    home.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=REPOSITORY if package else home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.rsplit("RESULT ", 1)[1])


def docs_code() -> list[str]:
    """The Python of docs/hub.md, block by block."""
    page = (REPOSITORY / "docs" / "hub.md").read_text()
    return re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)


# Published checkpoints


def published_state(model: MSMAMLModel) -> dict[str, dict[str, torch.Tensor]]:
    """The two state dicts that the published code would have stored, with tensors that it stores but does not use."""
    network, encoder = {}, {}
    for name, tensor in model.task_network.state_dict().items():
        part, *rest = name.split(".")
        if part == "convolutions":
            network[f"features.layer{int(rest[0]) + 1}_conv.{rest[1]}"] = tensor
        elif part == "classifier":
            network[f"classifier.fully_connected.{rest[0]}"] = tensor
    for name, tensor in model.task_encoder.state_dict().items():
        part, *rest = name.split(".")
        if part in ("convolutions", "norms"):
            encoder[f"conv.{'conv' if part == 'convolutions' else 'bn'}{int(rest[0]) + 1}.{rest[1]}"] = tensor
        elif part == "projection":
            encoder[f"linear.{rest[0]}"] = tensor
        elif part == "modulations":
            encoder[f"_embeddings.{rest[0]}.{rest[1]}"] = tensor
    for state, part in ((network, model.task_network), (encoder, model.task_encoder)):
        for modality, embedding in part.embeddings.items():
            (weight,) = embedding.state_dict().values()
            state[f"embeddings.{modality}.weight"] = weight
            state[f"embeddings.{modality}.bias"] = torch.ones(len(weight))
    encoder["conv.bn1.running_mean"] = torch.zeros(2)
    return {"model_state_dict": network, "embedding_model_state_dict": encoder, "optimizers": []}


@pytest.fixture(scope="module")
def layout(tmp_path_factory) -> Path:
    """A folder of the published layout with small models; every bias of a classifier is its iteration."""
    folder = tmp_path_factory.mktemp("published")
    for run, iterations in ITERATIONS.items():
        names = run.split("_")[:-1]
        model = MSMAMLModel(MSMAMLConfig(modalities=[NAMES[name] for name in names], num_channels=2))
        (folder / "train_dir" / run).mkdir(parents=True)
        settings = {
            **{"multimodal_few_shot": names, "num_classes_per_batch": 5, "num_channels": 2, "num_updates": 5},
            **{"condition_type": "affine", "fast_lr": 0.05, "inner_loop_grad_clip": 20.0, "first_order": False},
            **{"num_samples_per_class": 1, "meta_batch_size": 5, "num_val_samples": 15},
        }
        (folder / "train_dir" / run / "train_config.json").write_text(json.dumps(settings))
        for iteration in iterations:
            model.task_network.classifier.bias.data.fill_(iteration)
            torch.save(published_state(model), folder / "train_dir" / run / f"maml_gated_conv_1d_{iteration}.pt")
    (folder / "README.md").write_text("# checkpoints\n")
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def iteration_of(model: MSMAMLModel) -> int:
    return int(model.task_network.classifier.bias[0])


@pytest.mark.parametrize(
    ("choice", "run", "iteration"),
    [
        ({}, THREE, 10000),
        ({"iteration": 2000}, THREE, 2000),
        ({"run": TWO}, TWO, 500),
        ({"subfolder": f"train_dir/{THREE}/", "iteration": 1000}, THREE, 1000),
    ],
)
def test_folder_of_the_published_layout_loads(layout, choice, run, iteration):
    model = MSMAMLModel.from_pretrained(layout, **choice)
    assert iteration_of(model) == iteration
    assert model.config.modalities == [NAMES[name] for name in run.split("_")[:-1]]
    assert model.name_or_path == str(layout) and not model.training


def test_loaded_weights_are_those_of_the_file(layout, shared_dir):
    for folder, run in ((layout, layout / "train_dir" / THREE), (shared_dir / "golden", None)):
        expected = load_original(run or next((folder / "train_dir").iterdir())).state_dict()
        model, information = MSMAMLModel.from_pretrained(folder, output_loading_info=True)
        assert set(information["missing_keys"]) == {"frontends.text.weight"}
        assert not information["unexpected_keys"] and not information["mismatched_keys"]
        for name, tensor in model.state_dict().items():
            assert name == "frontends.text.weight" or torch.equal(tensor, expected[name]), name


def test_run_folder_loads_like_its_repository(layout):
    assert iteration_of(MSMAMLModel.from_pretrained(layout / "train_dir" / TWO)) == 500


def test_options_of_from_pretrained_hold_for_published_checkpoints(layout):
    model = MSMAMLModel.from_pretrained(layout, dtype=torch.bfloat16, num_inner_steps=2, norm_statistics="support")
    assert model.dtype == torch.bfloat16
    assert (model.config.num_inner_steps, model.config.norm_statistics) == (2, "support")
    config = MSMAMLConfig(modalities=["image", "text", "audio"], num_channels=2, inner_lr=0.5)
    assert MSMAMLModel.from_pretrained(layout, config=config).config.inner_lr == 0.5
    with pytest.raises(ValueError, match="modulation_init='identity' would change nothing"):
        MSMAMLModel.from_pretrained(layout, modulation_init="identity")


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"run": "esc50_9w"}, f"run='esc50_9w' does not exist: .* has the runs {THREE}, {TWO}"),
        ({"subfolder": "train_dir/none"}, f"subfolder='train_dir/none' does not exist: .* {THREE}, {TWO}"),
        ({"iteration": 3000}, f"iteration=3000 of train_dir/{THREE} does not exist; there are 1000, 2000, 10000"),
        ({"run": TWO, "subfolder": f"train_dir/{THREE}"}, "give one of them"),
        ({"weights_only": False}, "weights_only=False is refused"),
        ({"n_way": 1}, "n_way=1"),
    ],
)
def test_wrong_choice_is_named_with_what_exists(layout, choice, message):
    with pytest.raises(ValueError, match=message):
        MSMAMLModel.from_pretrained(layout, **choice)


def test_choice_in_another_layout_is_refused(tmp_path):
    MSMAMLModel(MSMAMLConfig(modalities=["image"], num_channels=2)).save_pretrained(tmp_path)
    assert MSMAMLModel.from_pretrained(tmp_path).config.num_channels == 2
    with pytest.raises(ValueError, match=r"run='x' was given, but .* holds no train_dir"):
        MSMAMLModel.from_pretrained(tmp_path, run="x")


def test_folder_of_no_layout_is_the_usual_error(tmp_path):
    with pytest.raises(OSError, match="no file named model.safetensors"):
        MSMAMLModel.from_pretrained(tmp_path)


def test_default_must_be_one_run():
    runs = list_runs([f"train_dir/{name}/maml_gated_conv_1d_1.pt" for name in ("a", "b")])
    with pytest.raises(ValueError, match="a, b, and no single one ends with _3m5w1s"):
        choose_run(runs, "x")
    assert choose_run(list_runs(["train_dir/a/maml_gated_conv_1d_1.pt"]), "x") == "train_dir/a"


class Malicious:
    def __reduce__(self):
        return os.system, ("echo unpickled",)


@pytest.mark.parametrize("stored", [{"weights": torch.zeros(1)}, [1], {"model_state_dict": {"a": 1}}, Malicious()])
def test_file_that_is_no_checkpoint_is_refused_by_name(layout, tmp_path, stored, capfd):
    run = tmp_path / "train_dir" / "x_3m5w1s"
    run.mkdir(parents=True)
    (run / "train_config.json").write_text((layout / "train_dir" / THREE / "train_config.json").read_text())
    torch.save(stored, run / "maml_gated_conv_1d_7.pt")
    with pytest.raises(ValueError, match=r"maml_gated_conv_1d_7\.pt"):
        MSMAMLModel.from_pretrained(tmp_path)
    assert "unpickled" not in capfd.readouterr().out


@pytest.mark.parametrize("content", ["{", "[]", '{"num_channels": 2}'])
def test_options_that_are_none_are_refused_by_name(layout, tmp_path, content):
    run = tmp_path / "train_dir" / "x_3m5w1s"
    run.mkdir(parents=True)
    (run / "maml_gated_conv_1d_7.pt").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"train_config\.json"):
        MSMAMLModel.from_pretrained(tmp_path)
    (run / "train_config.json").write_text(content)
    with pytest.raises(ValueError, match=r"train_config\.json is not"):
        MSMAMLModel.from_pretrained(tmp_path)


def test_converter_writes_model_processor_and_card(layout, tmp_path, capsys):
    assert list_originals(layout) == sorted(ITERATIONS)
    written = main([str(layout), str(tmp_path), "--all"])
    assert {path.name for path in written} == set(ITERATIONS)
    for run, folder in zip(sorted(ITERATIONS), sorted(written), strict=True):
        assert iteration_of(AutoModel.from_pretrained(folder)) == max(ITERATIONS[run])
        parts = MSMAMLProcessor.from_pretrained(folder).get_attributes()
        assert parts == ["feature_extractor", "image_processor"]
        card = ModelCard.load(folder / "README.md")
        assert card_errors(str(card)) == [] and card.data.license == "cc-by-nc-4.0"
        assert f"maml_gated_conv_1d_{max(ITERATIONS[run])}.pt of run {run}" in card.text
        assert ("It has no word vectors" in card.text) == (run == THREE)
    assert capsys.readouterr().out.count("wrote ") == 2


def test_converter_takes_a_tokenizer(layout, tmp_path):
    word_level_tokenizer(["[PAD]", "[UNK]", "word"], max_length=3000).save_pretrained(tmp_path / "tokenizer")
    main([str(layout), str(tmp_path / "out"), "--iteration", "1000", "--tokenizer", str(tmp_path / "tokenizer")])
    assert iteration_of(MSMAMLModel.from_pretrained(tmp_path / "out")) == 1000
    assert MSMAMLProcessor.from_pretrained(tmp_path / "out")(text="a word")["input_ids"].shape == (1, 3000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "x"], "run='x' does not exist"),
        (["--all", "--iteration", "3"], "leave out --run and --iteration"),
        (["--run", TWO, "--tokenizer", "t"], "tokenizer='t' has no use"),
    ],
)
def test_converter_says_what_is_wrong(layout, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit):
        main([str(layout), str(tmp_path), *arguments])
    assert message in capsys.readouterr().err


def test_published_repository_loads_over_http(layout, tmp_path):
    with FakeHub() as hub:
        first = hub.commit(PUBLISHED, files_of(layout))
        hub.commit("someone/once", files_of(layout))
        hub.commit("someone/empty", {"README.md": b"# nothing\n"})
        changed = MSMAMLModel.from_pretrained(layout)
        changed.task_network.classifier.bias.data.fill_(11000)
        torch.save(published_state(changed), tmp_path / "new.pt")
        hub.commit(PUBLISHED, {f"train_dir/{THREE}/maml_gated_conv_1d_11000.pt": (tmp_path / "new.pt").read_bytes()})
        result = client(
            hub,
            tmp_path / "home",
            f"""
            from transformers import AutoModel
            from modeling_msmaml import MSMAMLModel
            from modeling_msmaml.hub.convert_published import main

            def iteration(*args, **kwargs):
                return int(MSMAMLModel.from_pretrained(*args, **kwargs).task_network.classifier.bias[0])

            repo, other_cache = "{PUBLISHED}", "{tmp_path / "other_cache"}"
            result["once"] = iteration("someone/once")
            result["default"] = iteration(repo)
            result["offline"] = iteration(repo, local_files_only=True)
            result["run"] = iteration(repo, run="{TWO}")
            result["subfolder"] = iteration(repo, subfolder="train_dir/{THREE}", iteration=2000)
            result["revision"] = iteration(repo, revision="{first}", cache_dir=other_cache)
            result["no run"] = error(MSMAMLModel.from_pretrained, repo, run="x")
            result["no iteration"] = error(MSMAMLModel.from_pretrained, repo, iteration=5)
            result["no revision"] = error(MSMAMLModel.from_pretrained, repo, revision="y")
            result["not cached"] = error(MSMAMLModel.from_pretrained, "someone/empty", local_files_only=True)
            result["empty"] = error(MSMAMLModel.from_pretrained, "someone/empty")
            result["missing"] = error(MSMAMLModel.from_pretrained, "someone/missing")
            result["auto"] = error(AutoModel.from_pretrained, repo)
            folders = main([repo, "{tmp_path / "converted"}", "--all"])
            result["converted"] = [int(AutoModel.from_pretrained(f).task_network.classifier.bias[0]) for f in folders]
            names = {{}}
            exec({docs_code()[0]!r}, names)
            result["docs"] = int(names["model"].task_network.classifier.bias[0])
            """,
            token=None,
        )
        downloads = hub.downloads("someone/once")
    assert result["once"] == 10000
    assert sorted(downloads) == [
        f"train_dir/{THREE}/maml_gated_conv_1d_10000.pt",
        f"train_dir/{THREE}/train_config.json",
    ]
    assert result["default"] == result["offline"] == result["docs"] == 11000
    assert (result["run"], result["subfolder"], result["revision"]) == (500, 2000, 10000)
    assert (tmp_path / "other_cache").is_dir()
    assert f"has the runs {THREE}, {TWO}" in result["no run"]
    assert "there are 1000, 2000, 10000, 11000" in result["no iteration"]
    assert result["no revision"].startswith("FileNotFoundError: ermu2001/SequenceMMAML has no revision='y'")
    assert "OSError" in result["not cached"]
    assert "OSError: someone/empty does not appear to have a file named" in result["empty"]
    assert "FileNotFoundError: someone/missing is no local folder" in result["missing"]
    assert "config.json" in result["auto"]
    assert result["converted"] == [11000, 500]


# The round trip


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    """A Hub with a run that was pushed at every checkpoint, and with a model and a processor pushed on their own."""
    home = tmp_path_factory.mktemp("pushing")
    arguments = options(
        output_dir=home / "run",
        save_strategy="steps",
        save_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        do_predict=True,
        push_to_hub=True,
        hub_model_id="someone/run",
        hub_strategy="checkpoint",
        num_channels=2,
    )
    with FakeHub() as hub:
        result = client(
            hub,
            home,
            f"""
            import run_meta
            from modeling_msmaml import MSMAMLModel, MSMAMLProcessor

            run_meta.main(["configs/quickstart.yaml", *{arguments!r}])
            model = MSMAMLModel.from_pretrained("{home / "run"}")
            model.push_to_hub("alone")
            MSMAMLProcessor.from_pretrained("{home / "run"}").push_to_hub("someone/alone", commit_message="Processor")
            result["logits"] = logits(model)
            result["no token"] = error(model.push_to_hub, "someone/refused", token="hf_wrong")
            """,
        )
        yield hub, result


def test_run_is_pushed_whole(pushed):
    hub, _ = pushed
    files = hub.files("someone/run")
    expected = {"README.md", "all_results.json", "config.json", "model.safetensors", "processor_config.json"}
    assert expected | {"tokenizer.json", "plots/accuracy.png", "modeling_msmaml.py", "processing_msmaml.py"} <= set(
        files
    )
    assert hub.messages("someone/run")[-1] == "End of training"
    card = ModelCard(files["README.md"].decode())
    results = json.loads(files["all_results.json"])
    found = {(r.dataset_split, r.task_type): r.metric_value for r in card.data.eval_results}
    assert found["test", "audio-classification"] == results["test_audio_accuracy"]
    assert 'from_pretrained("someone/run"' in card.text and card.data.model_name == "run"
    assert "--push_to_hub True" in card.text
    assert TOKEN not in card.text


def test_pushed_checkpoint_is_whole(pushed):
    hub, _ = pushed
    commits = {commit.message: commit.files for commit in hub.repositories["someone/run"].branches["main"]}
    # The next one is not pushed if this push is still under way (see hub_always_push).
    files = commits["Training in progress, step 2"]
    assert {"modeling_msmaml.py", "task_network.py", "processing_msmaml.py", "config.json"} <= set(files)
    card = ModelCard(files["README.md"].decode())
    assert "| training steps | 2 |" in card.text
    assert {result.dataset_split for result in card.data.eval_results} == {"validation"}
    checkpoint = commits["Training in progress, step 2, checkpoint"]
    assert checkpoint["last-checkpoint/model.safetensors"] == files["model.safetensors"]
    assert {f"last-checkpoint/{name}" for name in ("optimizer.pt", "README.md")} <= set(checkpoint)


def test_push_needs_a_token(pushed):
    hub, result = pushed
    assert "401" in result["no token"] and "someone/refused" not in hub.repositories


def test_auto_classes_load_with_the_package(pushed, tmp_path):
    hub, result = pushed
    first = next(c.oid for c in hub.repositories["someone/run"].branches["main"] if c.message.endswith("step 2"))
    loaded = client(
        hub,
        tmp_path,
        f"""
        import modeling_msmaml
        from huggingface_hub import ModelCard
        from transformers import AutoModel, AutoProcessor

        for repo in ("someone/run", "someone/alone"):
            for trust in (None, True):
                model = AutoModel.from_pretrained(repo, trust_remote_code=trust)
                processor = AutoProcessor.from_pretrained(repo, trust_remote_code=trust)
                kinds = (type(model), type(processor))
                assert kinds == (modeling_msmaml.MSMAMLModel, modeling_msmaml.MSMAMLProcessor), kinds
                result[f"{{repo}} {{trust}}"] = logits(model)
        result["revision"] = logits(AutoModel.from_pretrained("someone/run", revision="{first}"))
        half = AutoModel.from_pretrained("someone/run", dtype=torch.bfloat16, num_inner_steps=1, local_files_only=True)
        result["overridden"] = [str(half.dtype), half.config.num_inner_steps]
        ModelCard.load("someone/run").validate()
        names = {{}}
        exec({docs_code()[1].replace("you/few-shot", "someone/run")!r}, names)
        result["docs"] = logits(names["model"])
        """,
        token=None,
    )
    for name in ("someone/run None", "someone/run True", "someone/alone None", "someone/alone True"):
        assert loaded[name] == result["logits"], name
    assert loaded["docs"] == result["logits"]
    assert loaded["revision"] != result["logits"]
    assert loaded["overridden"] == ["torch.bfloat16", 1]


def test_auto_classes_load_without_the_package(pushed, tmp_path):
    hub, result = pushed
    loaded = client(
        hub,
        tmp_path,
        """
        import re
        from pathlib import Path
        from huggingface_hub import hf_hub_download
        from transformers import AutoModel, AutoProcessor

        result["installed"] = error(__import__, "modeling_msmaml")
        result["not trusted"] = error(AutoModel.from_pretrained, "someone/run")
        for package in ("jaxtyping", "timm"):  # in the order of their import
            hidden.add(package)
            result[package] = error(AutoModel.from_pretrained, "someone/run", trust_remote_code=True)
            hidden.remove(package)
        model = AutoModel.from_pretrained("someone/run", trust_remote_code=True)
        processor = AutoProcessor.from_pretrained("someone/run", trust_remote_code=True)
        result["classes"] = [f"{type(part).__module__}.{type(part).__name__}" for part in (model, processor)]
        result["logits"] = logits(model)

        card = Path(hf_hub_download("someone/run", "README.md")).read_text()
        _, load, classify, _ = re.findall(r"```python\\n(.*?)```", card, flags=re.DOTALL)
        names = {}
        exec(load, names)
        exec(classify, names)
        result["predicted"] = names["predicted"]

        model.save_pretrained("again")
        processor.save_pretrained("again")
        model = AutoModel.from_pretrained("again", trust_remote_code=True)
        processor = AutoProcessor.from_pretrained("again", trust_remote_code=True)
        result["again"] = logits(model)
        result["parts"] = processor.get_attributes()
        """,
        package=False,
        token=None,
    )
    assert "No module named" in loaded["installed"]
    assert "trust_remote_code=True" in loaded["not trusted"] and "ValueError" in loaded["not trusted"]
    missing = "requires the following packages that were not found in your environment: jaxtyping"
    assert missing in loaded["jaxtyping"]
    assert loaded["timm"] == "no error", "only a model with an encoder of timm needs timm"
    assert all(name.startswith("transformers_modules.") for name in loaded["classes"])
    assert [name.rsplit(".", 1)[1] for name in loaded["classes"]] == ["MSMAMLModel", "MSMAMLProcessor"]
    assert loaded["logits"] == loaded["again"] == result["logits"]
    assert len(loaded["predicted"]) == 2
    assert loaded["parts"] == ["feature_extractor", "image_processor", "tokenizer"]


def test_adapted_classifier_goes_over_the_hub(tmp_path):
    save_tiny_model(tmp_path / "model")
    with FakeHub() as hub:
        result = client(
            hub,
            tmp_path / "home",
            f"""
            from modeling_msmaml import FewShotClassifier

            texts, labels = ["word1 word2", "word3 word1", "word5"], ["a", "a", "b"]
            classifier = FewShotClassifier.from_pretrained("{tmp_path / "model"}").fit(texts, labels)
            classifier.push_to_hub("someone/a-or-b")
            loaded = FewShotClassifier.from_pretrained("someone/a-or-b")
            result["classes"] = loaded.classes_.tolist()
            result["equal"] = (loaded.predict_proba(texts) == classifier.predict_proba(texts)).all().item()
            result["absent"] = error(FewShotClassifier.from_pretrained, "someone/nothing")
            """,
        )
        assert {"few_shot_classifier.json", "few_shot_classifier.safetensors"} <= set(hub.files("someone/a-or-b"))
    assert result["classes"] == ["a", "b"] and result["equal"]
    assert re.search("FileNotFoundError: model='someone/nothing' is no folder or repository", result["absent"])


def test_the_module_of_the_auto_class_names_every_module_that_it_needs():
    """transformers fetches what this module imports; what only those import it fetches in some orders alone."""

    def imported(name: str) -> set[str]:
        source = (REPOSITORY / "modeling_msmaml" / "model" / f"{name}.py").read_text()
        return set(re.findall(r"^\s*from \.(\w+) import", source, re.MULTILINE))

    needed, waiting = set(), ["modeling_msmaml"]
    while waiting:
        new = imported(waiting.pop()) - needed
        needed |= new
        waiting += new
    assert needed == imported("modeling_msmaml")
