"""The model card: what it says, that it reads back, that its code runs, that it follows the training."""

import re
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard

from data_builders.storage.vocabulary import word_level_tokenizer
from modeling_msmaml import (
    CardContent,
    MetaTrainer,
    MetaTrainingArguments,
    ModelCardCallback,
    MSMAMLConfig,
    MSMAMLFeatureExtractor,
    MSMAMLImageProcessor,
    MSMAMLModel,
    MSMAMLProcessor,
    RunReport,
    write_model_card,
)
from modeling_msmaml.hub.model_card import Accuracy, render_model_card, stated_license
from modeling_msmaml.hub.provenance import command_line

from ..card_rules import card_errors
from ..toys import K_SHOT, N_QUERY, N_WAY, tiny_dataset, tiny_model

REAL_DATA = {"esc50": "audio", "brown": "text", "cifar100": "image"}
PARTS = {
    "audio": ("feature_extractor", MSMAMLFeatureExtractor),
    "text": ("tokenizer", lambda: word_level_tokenizer(["[PAD]", "[UNK]", "a", "text"], max_length=600)),
    "image": ("image_processor", MSMAMLImageProcessor),
}


def content(**changes) -> CardContent:
    fields = {
        "model_id": "someone/few-shot",
        "config": MSMAMLConfig(),
        "k_shot": 1,
        "data_sets": REAL_DATA,
        "training_steps": 300,
        "settings": {"protocol": "class_disjoint", "n_query": {"audio": 3, "text": 15}, "seed": 0},
        "accuracies": [
            Accuracy("test", "audio", 0.4321, 0.0123, 1000, 300, "esc50"),
            Accuracy("validation", "text", 0.5, 0.02, 100, 200, "brown"),
            Accuracy("test", "all", 0.41, 0.01, 3000, 300),
        ],
        "command": "python run_meta.py configs/audio_text_image.yaml",
        "commit": "c0ffee",
        "processed": ["audio", "text", "image"],
    }
    return CardContent(**{**fields, **changes})


def python_blocks(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)


def test_card_reads_back_with_its_results(tmp_path):
    card = ModelCard.load(write_model_card(content(), tmp_path))
    assert card_errors(str(card)) == []
    assert card.data.license == "cc-by-nc-4.0"
    assert {"ms-maml", "few-shot-learning", "audio", "text", "image"} <= set(card.data.tags)
    assert card.data.model_name == "few-shot"
    results = {(result.dataset_type, result.dataset_split): result for result in card.data.eval_results}
    assert results.keys() == {("esc50", "test"), ("brown", "validation")}
    audio = results["esc50", "test"]
    assert (audio.task_type, audio.metric_type, audio.metric_value) == ("audio-classification", "accuracy", 0.4321)
    assert audio.metric_args == {"ci95": 0.0123, "episodes": 1000, "step": 300, "transductive": True}


@pytest.mark.parametrize(
    "text",
    [
        "| test | audio | esc50 | 43.21 | ± 1.23 | 1000 | 20.0 |",
        "| validation, step 200 | text | brown | 50.00 | ± 2.00 | 100 | 20.0 |",
        "| n_way | 5 |",
        "| k_shot | 1 |",
        "| training steps | 300 |",
        "| n_query | {'audio': 3, 'text': 15} |",
        "`class_disjoint`: no test class occurs in training",
        "**Transductive**",
        "CC BY-NC, non-commercial",
        "non-commercial use only",
        "python run_meta.py configs/audio_text_image.yaml",
        "| commit | c0ffee |",
        f"| torch | {torch.__version__.split('+')[0]}",
        'AutoModel.from_pretrained("someone/few-shot", trust_remote_code=True)',
    ],
)
def test_card_says(text):
    assert text in str(render_model_card(content()))


def test_card_has_no_gaps():
    for changes in (
        {},
        {"accuracies": []},
        {"command": None},
        {"processed": []},
        {"data_sets": {"my_sounds": "audio"}},
    ):
        text = str(render_model_card(content(**changes)))
        assert not any(trace in text for trace in ("None |", "`None`", "{{", "{%"))
        assert "\n\n\n\n" not in text


def test_support_statistics_and_other_protocols_are_told_apart():
    text = str(render_model_card(content(config=MSMAMLConfig(norm_statistics="support"))))
    assert "Not transductive" in text and "| transductive | no |" in text
    text = str(render_model_card(content(settings={"protocol": "original"})))
    assert "support and query samples of an episode may coincide" in text


@pytest.mark.parametrize(
    ("data_sets", "expected"),
    [
        ({"esc50": "audio"}, "cc-by-nc-4.0"),
        ({"brown": "text"}, "cc-by-nc-4.0"),
        ({"cifar100": "image", "synthetic:audio": "audio"}, "apache-2.0"),
    ],
)
def test_licence_follows_the_data(data_sets, expected):
    assert render_model_card(content(data_sets=data_sets)).data.license == expected


def test_licence_of_the_start_holds_on(tmp_path):
    write_model_card(content(), tmp_path)
    start = {"started_from": tmp_path.name, "started_license": stated_license(str(tmp_path))}
    card = render_model_card(content(data_sets={"synthetic": "audio"}, **start))
    assert card.data.license == "cc-by-nc-4.0"
    assert "Its training started from" in str(card)


def test_a_folder_without_a_card_is_not_asked_for_on_the_hub(tmp_path, monkeypatch):
    """As a relative path, it could be the name of somebody's repository."""
    (tmp_path / "outputs" / "run").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for module in ("modeling_msmaml.model.hub_files", "huggingface_hub.repocard"):
        monkeypatch.setattr(f"{module}.hf_hub_download", lambda *_, **__: pytest.fail("the Hub was asked"))
    assert stated_license("outputs/run") is None


@pytest.mark.parametrize("modality", PARTS)
def test_code_of_the_card_runs(modality, tmp_path):
    model = MSMAMLModel(MSMAMLConfig(modalities=[modality], num_channels=2, vocab_size=4))
    model.save_pretrained(tmp_path)
    part, make = PARTS[modality]
    MSMAMLProcessor(**{part: make()}).save_pretrained(tmp_path)
    card = render_model_card(content(model_id=str(tmp_path), config=model.config, k_shot=2, processed=[modality]))
    package, auto, classify, in_short = python_blocks(str(card))
    for load in (package, auto):
        names = {}
        exec(compile(load, "load", "exec"), names)
        exec(compile(classify, "classify", "exec"), names)
        assert len(names["predicted"]) == 2 and set(names["predicted"]) <= set(names["classes"])
    exec(compile(in_short, "in short", "exec"), names)
    assert names["classifier"].predict(names["unknown"]).tolist() == names["predicted"]


class Data:
    protocol, source_disjoint, eval_seed, dataset_weights = "class_disjoint", True, 0, None

    @staticmethod
    def names(split: str | None = None) -> list[str]:
        return ["arrays"]


def reported_trainer(folder: Path, **changes) -> tuple[MetaTrainer, RunReport]:
    fields = {"max_steps": 4, "save_steps": 1, "eval_strategy": "steps", "eval_steps": 2, "report_to": []}
    shape = {"n_way": N_WAY, "k_shot": K_SHOT, "n_query": N_QUERY}
    args = MetaTrainingArguments(
        output_dir=str(folder), use_cpu=True, disable_tqdm=True, **{**fields, **shape, **changes}
    )
    trainer = MetaTrainer(
        model=tiny_model(torch.float32), args=args, train_dataset=tiny_dataset(24), eval_dataset=tiny_dataset(6)
    )
    report = RunReport(trainer, Data(), {"arrays": "audio"}, "python x.py")
    trainer.add_callback(ModelCardCallback(report))
    return trainer, report


def test_card_follows_every_checkpoint(tmp_path):
    trainer, _ = reported_trainer(tmp_path)
    trainer.train()
    cards = {step: (tmp_path / f"checkpoint-{step}" / "README.md").read_text() for step in (1, 2, 3, 4)}
    for step, card in cards.items():
        assert f"| training steps | {step} |" in card
        assert card_errors(card) == []
    assert "No accuracy was measured" in cards[1]
    accuracy = next(entry["eval_audio_accuracy"] for entry in trainer.state.log_history if "eval_accuracy" in entry)
    assert f"| validation | audio | arrays | {100 * accuracy:.2f} |" in cards[2]
    assert f"| validation, step 2 | audio | arrays | {100 * accuracy:.2f} |" in cards[3]
    assert (tmp_path / "README.md").read_text() == cards[4]
    trainer.create_model_card(tags="mine")
    assert "mine" in ModelCard.load(tmp_path / "README.md").data.tags


def test_card_of_the_best_model_has_its_accuracies(tmp_path):
    best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "greater_is_better": True}
    trainer, report = reported_trainer(tmp_path, save_steps=2, learning_rate=0.01, **best)
    trainer.train()
    step = trainer.state.best_global_step
    losses = {entry["step"]: entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry}
    assert losses[step] == max(losses.values()) and step == 2, "the best is not the last, so the test means something"
    assert {row.step for row in report.accuracies()} == {step}


@pytest.mark.parametrize(
    ("argv", "arguments", "expected"),
    [
        (["a.yaml", "--n_query", '{"audio": 3}'], (), """python run_meta.py a.yaml --n_query '{"audio": 3}'"""),
        (["--hub_token", "hf_x", "--n_way", "5"], (), "python run_meta.py --hub_token TOKEN --n_way 5"),
        (["--hub_token=hf_x"], (), "python run_meta.py --hub_token=TOKEN"),
        (["a.yaml"], (2, "cpu"), "ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 run_meta.py a.yaml"),
        (["a.yaml"], (2, "cuda"), "torchrun --nproc_per_node 2 run_meta.py a.yaml"),
    ],
)
def test_command_repeats_the_run_without_secrets(argv, arguments, expected, monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert command_line(argv, *arguments) == expected


@pytest.mark.parametrize(
    ("started", "world_size", "expected"),
    [
        ("run_meta.py", 1, "python run_meta.py a.yaml"),
        ("/usr/bin/msmaml", 1, "msmaml train a.yaml"),
        ("/lib/msmaml/__main__.py", 1, "msmaml train a.yaml"),
        ("/lib/msmaml/__main__.py", 2, "ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 -m msmaml train a.yaml"),
    ],
)
def test_command_is_the_one_that_was_called(started, world_size, expected, monkeypatch):
    monkeypatch.setattr("sys.argv", [started, "train", "a.yaml"])
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert command_line(["a.yaml"], world_size, "cpu") == expected


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("/home/me/data", "data"),
        ("--data_dir=/home/me/data", "--data_dir=data"),
        ('{"text": "/home/me/text", "audio": "audio/here"}', '{"text": "text", "audio": "audio/here"}'),
        ("../data", "../data"),
        ("user/name", "user/name"),
        ("https://hub.example/a/b", "https://hub.example/a/b"),
        (str(Path.cwd() / "outputs" / "run"), "outputs/run"),
    ],
)
def test_folders_of_one_machine_are_not_shown(given, shown):
    assert command_line([given]).split("run_meta.py ")[1].strip("'") == shown
