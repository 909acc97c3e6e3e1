"""run_meta.py as a user runs it: whole runs, wrong options, resumed runs."""

import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import run_meta
from data_builders import FewShotSplit
from data_builders.episodes.task_augmentation import add_new_classes
from modeling_msmaml import MSMAMLConfig, MSMAMLModel, MSMAMLProcessor
from modeling_msmaml.model.options import options_of
from msmaml.runs import run_model
from msmaml.runs.run_arguments import parse_arguments
from msmaml.runs.run_model import fit_front_ends

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))
MIXES = [modalities for size in (1, 2, 3) for modalities in itertools.combinations(("audio", "text", "image"), size)]
SMALL = {
    "max_steps": 4,
    "num_eval_episodes": 4,
    "num_test_episodes": 4,
    "num_inner_steps": 2,
    "per_device_train_batch_size": 3,
    "logging_steps": 2,
    "disable_tqdm": True,
    "use_cpu": True,
}


def options(**changes) -> list[str]:
    return [text for name, value in {**SMALL, **changes}.items() for text in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory) -> tuple[Path, dict]:
    """A short run of the embedded default: (its folder, its results)."""
    folder = tmp_path_factory.mktemp("quickstart")
    results = run_meta.main(["configs/quickstart.yaml", *options(output_dir=folder, do_eval=True)])
    return folder, results


def test_run_leaves_what_it_promises(quickstart):
    folder, results = quickstart
    for name in ("config.json", "model.safetensors", "processor_config.json", "README.md", "all_results.json"):
        assert (folder / name).is_file(), name
    assert {path.name for path in (folder / "plots").iterdir()} == {"accuracy.png", "loss.png"}
    stored = json.loads((folder / "all_results.json").read_text())
    for split in ("eval", "test"):
        assert stored[f"{split}_episodes"] == 12
        for name in (split, *(f"{split}_{modality}" for modality in ("audio", "text", "image"))):
            assert stored[f"{name}_accuracy"] == results[f"{name}_accuracy"]
            assert stored[f"{name}_accuracy_ci95"] == results[f"{name}_accuracy_ci95"]
    settings = stored["settings"]
    assert settings["protocol"] == "class_disjoint" and settings["training_steps"] == 4
    assert settings["transductive"] is True and settings["n_query"] == 15


def test_model_card_holds_the_results(quickstart):
    folder, results = quickstart
    card = (folder / "README.md").read_text()
    assert f"| test | audio | synthetic:audio | {100 * results['test_audio_accuracy']:.2f} |" in card
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "transformers"


def test_checkpoint_gives_the_same_evaluation_to_the_last_digit(quickstart, tmp_path):
    folder, results = quickstart
    again = run_meta.main(
        [
            "configs/quickstart.yaml",
            *options(output_dir=tmp_path, model_name_or_path=folder, do_train=False, do_eval=True),
        ]
    )
    for name, value in results.items():
        if name.startswith(("eval_", "test_")) and not name.endswith(("runtime", "per_second")):
            assert again[name] == value, name


def test_evaluation_of_a_checkpoint_keeps_how_it_was_trained(quickstart, tmp_path):
    folder, _ = quickstart
    shutil.copytree(folder, tmp_path / "model")
    changes = {"output_dir": tmp_path / "model", "model_name_or_path": tmp_path / "model", "do_train": False}
    run_meta.main(["configs/quickstart.yaml", *options(**changes, seed=5, eval_seed=7)])
    settings = json.loads((tmp_path / "model" / "all_results.json").read_text())["settings"]
    assert (settings["training_steps"], settings["seed"], settings["tasks_per_step"]) == (4, 0, 3)
    assert settings["eval_seed"] == 7


def flagship_run(folder, *more: str) -> dict:
    """A short run of the default architecture, made small; returns its settings."""
    small = {"num_channels": 8, "descriptor_size": 8, "feature_size": 8, "warmup_steps": 0, "logging_steps": 2}
    changes = {**small, "max_steps": 2, "num_test_episodes": 2, "do_eval": False, "output_dir": folder}
    run_meta.main(
        [
            "configs/flagship.yaml",
            *options(**changes),
            "--datasets",
            "synthetic:image",
            "--new_classes",
            "rotate",
            *more,
        ]
    )
    return json.loads((folder / "all_results.json").read_text())["settings"]


@pytest.mark.parametrize(
    ("more", "transductive"),
    [
        ((), False),
        (("--norm", "batch", "--norm_statistics", "transductive"), True),
        (("--norm", "batch"), True),
        (("--norm", "batch", "--norm_statistics", "support"), False),
    ],
)
def test_the_default_architecture_with_either_norm_reports_transduction(tmp_path, more, transductive):
    assert flagship_run(tmp_path, "--network_gain", "1.0", *more)["transductive"] is transductive
    card = (tmp_path / "README.md").read_text()
    assert f"| transductive | {'yes' if transductive else 'no'} |" in card


@pytest.mark.parametrize("whitening", ["source", "class"])
def test_groups_to_whiten_by_are_those_of_the_rows_that_are_fitted_to(monkeypatch, whitening):
    monkeypatch.setattr(run_model, "ROWS_TO_FIT_TO", 30)
    labels, sources = np.arange(100) // 20, np.random.default_rng(0).permutation(100) // 2
    rows = np.zeros((100, 3, 16, 16), dtype=np.uint8)
    rows[:, 0, 0, 0], rows[:, 0, 0, 1] = labels, sources
    split = add_new_classes([FewShotSplit.from_arrays(rows, labels, sources.astype(str))], ["rotate"])[0]
    assert len(split) == 400

    class Model:
        config = MSMAMLConfig(
            modalities=["image"], front_ends="fitted", descriptor_size=4, descriptor_whitening=whitening
        )

        def fit_front_ends(self, rows, seed, groups):
            self.rows, self.groups = rows["image"], groups["image"]

    model = Model()
    fit_front_ends(model, [split], 0)
    assert len(model.rows) == len(model.groups) == 30
    marks = model.rows[:, 0, 0, 0 if whitening == "class" else 1]
    assert torch.equal(marks[:, None] == marks, model.groups[:, None] == model.groups)


def test_descriptors_are_whitened_within_classes_or_sources_of_the_data(tmp_path):
    runs = {"total": (), "class": ("--descriptor_whitening", "class")}
    runs["class as JSON"] = ("--descriptor_whitening", '{"image": "class"}')
    found = {}
    for name, more in runs.items():
        flagship_run(tmp_path / name, "--network_gain", "1.0", *more)
        found[name] = load_file(tmp_path / name / "model.safetensors")["descriptors.image.projection"]
    assert torch.equal(found["class"], found["class as JSON"]) and not torch.equal(found["class"], found["total"])
    with pytest.raises((ValueError, SystemExit), match="'source' of image: no two of .* share their source"):
        flagship_run(tmp_path / "source", "--network_gain", "1.0", "--descriptor_whitening", "source")
    with pytest.raises((ValueError, SystemExit), match="neither one of total, source, class nor JSON"):
        flagship_run(tmp_path / "wrong", "--network_gain", "1.0", "--descriptor_whitening", "{image: class}")


def test_options_of_a_data_set(tmp_path):
    run = ["configs/quickstart.yaml", *options(output_dir=tmp_path, max_steps=1), "--datasets", "synthetic:text"]
    run_meta.main([*run, "--dataset_options", '{"synthetic:text": {"seed": 3}}'])
    with pytest.raises((ValueError, SystemExit), match="dataset_options is for brown"):
        run_meta.main([*run, "--dataset_options", '{"brown": {"unit": "document"}}'])
    with pytest.raises((ValueError, SystemExit), match="is not JSON"):
        run_meta.main([*run, "--dataset_options", "document"])


def test_protocol_that_overlaps_warns_beside_its_results(data_dir, cache_dir, tmp_path, capsys):
    changes = {"protocol": "original", "output_dir": tmp_path, "data_dir": data_dir, "cache_dir": cache_dir}
    with pytest.warns(UserWarning):
        run_meta.main(
            [
                "configs/audio.yaml",
                *options(**changes, max_steps=1, eval_strategy="no", save_strategy="no", do_eval=False),
                *("--load_best_model_at_end", "false"),
            ]
        )
    settings = json.loads((tmp_path / "all_results.json").read_text())["settings"]
    assert settings["warnings"] and settings["source_disjoint"] is False
    assert settings["warnings"][0] in capsys.readouterr().out
    assert "Protocol `original`" in (tmp_path / "README.md").read_text()


def test_saved_parts_load(quickstart):
    folder, _ = quickstart
    model, processor = MSMAMLModel.from_pretrained(folder), MSMAMLProcessor.from_pretrained(folder)
    assert model.config.vocab_size == len(processor.tokenizer)
    assert not model.get_input_embeddings().weight[0].any()


def test_resumed_run_ends_like_one_that_was_not_interrupted(quickstart, tmp_path):
    straight = {"output_dir": tmp_path / "straight", "do_predict": False}
    run_meta.main(["configs/quickstart.yaml", *options(**straight)])
    stopped = {"output_dir": tmp_path / "stopped", "do_predict": False, "save_strategy": "steps", "save_steps": 2}
    run_meta.main(["configs/quickstart.yaml", *options(**stopped)])
    (tmp_path / "stopped" / "model.safetensors").unlink()
    checkpoint = tmp_path / "stopped" / "checkpoint-2"
    run_meta.main(["configs/quickstart.yaml", *options(**stopped, resume_from_checkpoint=checkpoint)])
    expected = load_file(tmp_path / "straight" / "model.safetensors")
    actual = load_file(tmp_path / "stopped" / "model.safetensors")
    assert expected.keys() == actual.keys()
    for name, tensor in expected.items():
        assert torch.equal(actual[name], tensor), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_way": 3}, "n_way=3 does not fit the model, whose classifier has n_way=5"),
        ({"num_channels": 16}, "num_channels=16 does not fit the checkpoint"),
        ({"conditioning": "none"}, "conditioning=none does not fit the checkpoint"),
    ],
)
def test_checkpoint_of_another_configuration_is_refused(quickstart, tmp_path, changes, message):
    folder, _ = quickstart
    with pytest.raises(ValueError, match=message):
        run_meta.main(
            [
                "configs/quickstart.yaml",
                *options(output_dir=tmp_path, model_name_or_path=folder, do_train=False, **changes),
            ]
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol": "class_joint"}, "class_joint.*class_disjoint"),
        ({"datasets": "synthetic:smell"}, "smell"),
        ({"datasets": "imagenet"}, "imagenet.*esc50"),
        ({"n_way": 30}, "30"),
        ({"n_query": 1000}, "1000"),
        ({"num_test_episodes": 1}, "num_test_episodes=1"),
    ],
)
def test_wrong_option_is_named(tmp_path, changes, message):
    with pytest.raises((ValueError, SystemExit), match=message):
        run_meta.main(["configs/quickstart.yaml", *options(output_dir=tmp_path, **{**changes})])


def test_wrong_choice_is_refused_with_the_right_ones(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run_meta.main(["configs/quickstart.yaml", *options(output_dir=tmp_path, conditioning="film")])
    assert re.search(r"--conditioning: invalid choice: 'film' \(choose from .*affine.*sigmoid", capsys.readouterr().err)
    path = tmp_path / "film.yaml"
    path.write_text(Path("configs/quickstart.yaml").read_text() + "\nconditioning: film\n")
    with pytest.raises(ValueError, match="conditioning='film' is unknown; choose one of affine, sigmoid"):
        run_meta.main([str(path), *options(output_dir=tmp_path)])


@pytest.mark.parametrize("name", [field.name for field in options_of(MSMAMLConfig)])
def test_every_option_of_the_config_is_on_the_command_line_and_in_yaml(name, tmp_path, capsys):
    """With the value that it has by default: given, it reaches the config that a run makes."""
    default = getattr(MSMAMLConfig(), name)
    value = {"modalities": ["image"], "auxiliary_classes": None, "embeddings": None}.get(name, default)
    if value is None:  # what a run sets itself, or what has no value that can be written
        with pytest.raises(SystemExit, match="no value"):
            (tmp_path / "run.yaml").write_text(f"{name}: null\n")
            parse_arguments([str(tmp_path / "run.yaml")])
        return
    more = {"auxiliary": True} if name == "auxiliary_weight" else {}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({name: value, "use_cpu": True, **more}))
    text = value if isinstance(value, str) else json.dumps(value)
    for argv in (
        [str(tmp_path / "run.yaml")],
        [f"--{name}", text, "--use_cpu", "true", *(f"--{extra}" for extra in more)],
    ):
        arguments, _, args = parse_arguments([*argv, "--output_dir", str(tmp_path)])
        given = {**arguments.given(), **args.model_overrides(), "n_way": args.n_way}
        assert given[name] == value


def test_a_data_set_that_is_named_twice_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="datasets names synthetic:text more than once"):
        run_meta.main(
            ["configs/quickstart.yaml", *options(output_dir=tmp_path), "--datasets", "synthetic:text", "synthetic:text"]
        )


def test_unknown_options_are_refused_with_the_nearest_known_one(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text("k_shots: 5\n")
    with pytest.raises(SystemExit, match="k_shots.*did you mean 'k_shot'"):
        run_meta.main([str(path)])
    with pytest.raises(SystemExit, match="no config file"):
        run_meta.main([str(tmp_path / "missing.yaml")])
    with pytest.raises(SystemExit, match="--k_shots"):
        run_meta.main(["configs/quickstart.yaml", "--k_shots", "5"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"do_train": False, "do_predict": False}, "--do_train, --do_eval or --do_predict"),
        ({"do_train": False}, "no model to evaluate: give --model_name_or_path"),
        ({"do_train": False, "model_name_or_path": "x", "resume_from_checkpoint": "y"}, "resume_from_checkpoint=y"),
    ],
)
def test_combinations_of_options_without_effect_are_refused(tmp_path, changes, message):
    with pytest.raises(SystemExit, match=f"train: .*{message}"):
        run_meta.main(["configs/quickstart.yaml", *options(output_dir=tmp_path, **changes)])


@pytest.mark.parametrize("modalities", MIXES, ids="-".join)
def test_every_set_of_modalities_trains_evaluates_and_saves(modalities, tmp_path):
    results = run_meta.main(
        [
            "configs/quickstart.yaml",
            *options(output_dir=tmp_path, max_steps=1, num_inner_steps=1, num_test_episodes=2, save_strategy="steps"),
            "--datasets",
            *(f"synthetic:{modality}" for modality in modalities),
        ]
    )
    assert {name for name in ("audio", "text", "image") if f"test_{name}_accuracy" in results} == set(modalities)
    assert MSMAMLModel.from_pretrained(tmp_path).config.modalities == list(modalities)
    parts = {"audio": "feature_extractor", "text": "tokenizer", "image": "image_processor"}
    for folder in (tmp_path, tmp_path / "checkpoint-1"):
        processor = MSMAMLProcessor.from_pretrained(folder)
        assert {name for name, part in parts.items() if getattr(processor, part) is not None} == set(modalities)


def test_going_on_with_fewer_modalities_keeps_the_whole_processor(quickstart, tmp_path):
    folder, _ = quickstart
    changes = {"output_dir": tmp_path, "model_name_or_path": folder, "do_predict": False, "max_steps": 1}
    run_meta.main(["configs/quickstart.yaml", *options(**changes), "--datasets", "synthetic:text"])
    assert MSMAMLModel.from_pretrained(tmp_path).config.modalities == ["audio", "text", "image"]
    assert MSMAMLProcessor.from_pretrained(tmp_path).feature_extractor is not None


def test_trained_inner_rates_are_those_of_the_run_and_load(tmp_path):
    rates = {"inner_rates": "per_layer_per_step", "num_inner_steps": 3, "inner_lr": 0.3, "learning_rate": 1e-9}
    changes = {"output_dir": tmp_path, "datasets": "synthetic:image", "max_steps": 1, **rates}
    run_meta.main(["configs/quickstart.yaml", *options(**changes)])
    model = MSMAMLModel.from_pretrained(tmp_path)
    for rate in model.inner_rates.rates.values():
        torch.testing.assert_close(rate.detach(), torch.full((3,), 0.3))


def test_clamping_can_be_switched_off(tmp_path):
    arguments, _, _ = parse_arguments(["configs/quickstart.yaml", "--inner_grad_clip", "0"])
    assert arguments.given() == {"inner_grad_clip": None}
    path = tmp_path / "null.yaml"
    path.write_text("inner_grad_clip: null\n")
    with pytest.raises(SystemExit, match="gives 'inner_grad_clip' no value"):
        run_meta.main([str(path)])


def test_one_data_set_needs_no_brackets(tmp_path):
    path = tmp_path / "one.yaml"
    path.write_text("datasets: brown\n")
    assert parse_arguments([str(path)])[1].datasets == ["brown"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_parse_and_the_command_line_goes_on_top(path):
    _, data, args = parse_arguments([str(path), "--max_steps", "7", "--learning_rate", "0.5"])
    assert (args.max_steps, args.learning_rate) == (7, 0.5)
    assert args.do_train and args.do_predict
    if path.stem in ("base", "everything"):
        assert data.names("train")[0] == "clinc150" and data.names("test")[-1] == "esc50"
        return
    assert "_".join({"esc50": "audio", "brown": "text", "cifar100": "image"}.get(n, n) for n in data.datasets) in (
        path.stem,
        {"flagship": "audio_text_image", "pretrained_text": "text"}.get(path.stem),
        {"seven_sets": "audio_fsdd_clinc150_banking77_text_image_omniglot"}.get(path.stem),
        {"mmaml": "image_omniglot"}.get(path.stem),
        "synthetic:audio_synthetic:text_synthetic:image",
    )


def test_there_is_a_config_for_each_set_of_modalities():
    assert {path.stem for path in CONFIGS} == {
        *("audio", "text", "image", "audio_text", "audio_image", "text_image", "audio_text_image"),
        "quickstart",
        "base",
        "everything",
        "flagship",
        "mmaml",
        "pretrained_text",
        "seven_sets",
    }


def test_accelerate_launches_a_run_on_real_data(data_dir, cache_dir, tmp_path):
    """The command of the README, cut short."""
    launcher = Path(sys.executable).with_name("accelerate")
    subprocess.run(
        [
            str(launcher),
            "launch",
            *("--config_file", "accelerate_configs/cpu.yaml"),
            *("run_meta.py", "configs/audio_text_image.yaml", "--data_dir", str(data_dir)),
            *options(output_dir=tmp_path / "run", cache_dir=cache_dir, eval_strategy="no", save_strategy="no"),
            *("--load_best_model_at_end", "false"),
        ],
        check=True,
        cwd=REPOSITORY,
        timeout=280,
    )
    results = json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert results["test_episodes"] == 12
    assert results["settings"]["datasets"] == ["esc50", "brown", "cifar100"]
