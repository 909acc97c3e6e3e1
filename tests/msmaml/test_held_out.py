"""Which classes and data sets the statistics of training are fitted to."""

import numpy as np

from data_builders import FewShotSplit
from msmaml.runs.held_out import halves, turns


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
