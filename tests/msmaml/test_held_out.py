"""Which classes and data sets the statistics of training are fitted to."""

import numpy as np
import yaml

import run_meta
from data_builders import FewShotSplit
from modeling_msmaml import MSMAMLModel
from modeling_msmaml.model.level_encoder import save_level_encoder
from msmaml.runs import run
from msmaml.runs.held_out import halves, turns

from ..model.level_encoders import tiny
from .test_run_meta import options


def split_of(name: str, classes: int) -> FewShotSplit:
    rows = np.random.default_rng(0).integers(0, 255, (4 * classes, 3, 4, 4)).astype(np.uint8)
    return FewShotSplit.from_arrays(rows, np.arange(4 * classes) % classes, name=name)


def test_no_class_is_on_both_sides():
    splits = [split_of("a", 9), split_of("b", 4), split_of("c", 3)]
    fitted, trained = halves(splits, seed=1)
    assert [(split.name, len(split.class_names)) for split in fitted] == [("a", 4), ("b", 2)]
    assert [(split.name, len(split.class_names)) for split in trained] == [("a", 5), ("b", 2), ("c", 3)]
    for one, other, whole in zip(fitted, trained, splits, strict=False):
        assert {*one.class_names, *other.class_names} == {*whole.class_names}
        assert not {*one.class_names} & {*other.class_names}
    assert [split.class_names for split in halves(splits, seed=1).fitted] == [split.class_names for split in fitted]
    assert [split.class_names for split in halves(splits, seed=2).fitted] != [split.class_names for split in fitted]


def test_turns_are_all_each_alone_and_all_but_one():
    names = [[split.name for split in some] for some in turns([split_of(name, 4) for name in "abc"])]
    assert names == [["a", "b", "c"], ["a"], ["b"], ["c"], ["b", "c"], ["a", "c"], ["a", "b"]]
    assert [[split.name for split in some] for some in turns([split_of(name, 4) for name in "ab"])] == [
        *(["a", "b"], ["a"], ["b"])
    ]
    assert len(turns([split_of("a", 4)])) == 1


def test_a_run_fits_statistics_of_training_to_other_classes_than_its_episodes_have(tmp_path, monkeypatch):
    folder, seen = tmp_path / "image", {}
    save_level_encoder(tiny("image"), folder)
    fit, make = MSMAMLModel.fit_for_training, run.MetaTrainer

    def fit_and_tell(model, samples):
        seen["fitted"] = [len(rows) for rows, _ in samples["image"]]
        fit(model, samples)

    def make_and_tell(**arguments):
        seen["trained"] = arguments["train_dataset"].splits
        return make(**arguments)

    monkeypatch.setattr(MSMAMLModel, "fit_for_training", fit_and_tell)
    monkeypatch.setattr(run, "MetaTrainer", make_and_tell)
    config = {"datasets": ["synthetic:image"], "task_network": "levels", "level_encoders": {"image": str(folder)}}
    (tmp_path / "levels.yaml").write_text(yaml.safe_dump(config))
    run_meta.main([str(tmp_path / "levels.yaml"), *options(output_dir=tmp_path / "model", do_train=True)])
    (split,) = seen["trained"]
    assert len(split.class_names) == 32 and seen["fitted"] == [32 * 40]
