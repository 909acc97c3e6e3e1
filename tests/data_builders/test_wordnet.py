"""WordNet: what its lines say, which synsets are classes, and the official layouts."""

import io
import tarfile

import numpy as np
import pytest

from data_builders import load_few_shot
from data_builders.data_sets.wordnet import LEAST_KINDS, MOST_KINDS, classes_of, read_protocols, synset_of

DOG = (
    "02084071 05 n 03 dog 0 domestic_dog 0 Canis_familiaris 0 002 @ 02083346 n 0000 ~ 01322604 n 0000 "
    '| a member of the genus Canis; "the dog barked all night"'
)


def line(offset, word, hypernym, definition):
    return f"{offset} 05 n 01 {word} 0 001 @ {hypernym} n 0000 | {definition}  "


def nouns(classes, kinds=LEAST_KINDS):
    """The licence, and for each class its own line and those of its kinds."""
    lines = ["  1 This software and database is being provided to you"]
    for name in classes:
        word, offset = name.rsplit(".", 1)
        lines.append(line(offset, word, "00000000", f"what a {word} is"))
        lines += [line(f"9{i:03d}{offset[-4:]}", "kind", offset, f"kind {i} of {word}") for i in range(kinds)]
    return "\n".join(lines) + "\n"


def test_a_synset_has_its_first_word_its_definition_and_what_it_is_a_kind_of():
    assert synset_of(DOG) == ("02084071", "dog", "a member of the genus Canis", "02083346")
    assert synset_of("00001740 03 n 01 entity 0 001 ~ 00001930 n 0000 | that which is  ").hypernym is None


@pytest.mark.parametrize("kinds", [LEAST_KINDS - 1, LEAST_KINDS])
def test_a_class_has_enough_kinds_and_no_genera(kinds):
    text = nouns(["dog.02084071"], kinds) + line("00000009", "Canis", "02084071", "type genus of the dogs")
    found = classes_of(synset_of(one) for one in text.splitlines()[1:])
    assert {name: len(members) for name, members in found.items()} == (
        {"dog.02084071": kinds} if kinds == LEAST_KINDS else {}
    )


@pytest.mark.parametrize("layout", ["data.noun", "wordnet/data.noun", "dict/data.noun", "WNdb-3.0.tar.gz"])
def test_every_layout_gives_the_texts_of_the_listed_classes(layout, tmp_path):
    splits = read_protocols("wordnet")["class_disjoint"]
    classes = splits["test"]["classes"]
    content = nouns([*splits["train"]["classes"][:2], *classes, "unlisted.00000001"], MOST_KINDS + 5).encode()
    path = tmp_path / "data" / layout
    path.parent.mkdir(parents=True)
    if layout.endswith(".gz"):
        with tarfile.open(path, "w:gz") as archive:
            member = tarfile.TarInfo("dict/data.noun")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    else:
        path.write_bytes(content)
    split = load_few_shot("wordnet", "test", data_dir=tmp_path / "data", cache_dir=tmp_path / "cache", min_count=1)
    assert sorted(split.class_names[label] for label in np.unique(split.labels)) == sorted(classes)
    assert set(np.bincount(split.labels)[np.unique(split.labels)]) == {MOST_KINDS}


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / "data.noun").write_text(nouns(["dog.02084071"]) + "02084071 05 n 03 dog\n")
    with pytest.raises(ValueError, match=r"line 25 of data.noun .* '02084071 05 n 03 dog', no synset"):
        load_few_shot("wordnet", "test", data_dir=tmp_path, cache_dir=tmp_path / "cache")
