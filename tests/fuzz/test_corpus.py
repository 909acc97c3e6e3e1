"""Small files that once ended in an undocumented error, took gigabytes or never ended, and what is said of each."""

import shutil
from functools import lru_cache
from pathlib import Path

import pytest

from .kinds import KINDS
from .reading import make_all

CORPUS = Path(__file__).resolve().parents[1] / "corpus"
WEIGHTS, CLASSIFIER = "model.safetensors", "few_shot_classifier.json"
PT = "train_dir/brown_3m5w1s/maml_gated_conv_1d_1000.pt"

# The file in the corpus, the kind of files among which it lies, the one whose place it takes, and the error; `None`
# where it is read without one.
FINDINGS = [
    ("nested.json", "model", "config.json", "config.json is not valid JSON: maximum recursion depth"),
    ("nested.json", "model", "processor_config.json", "processor_config.json is not valid JSON"),
    ("nested.json", "classifier", CLASSIFIER, "few_shot_classifier.json is not valid JSON"),
    ("nested.json", "encoder of levels", "text/config.json", "config.json is not valid JSON"),
    ("nested.json", "published checkpoint", "train_dir/brown_3m5w1s/train_config.json", "is not the train_config.json"),
    ("nested.json", "cache of a data set", "cache/checksums.json", None),
    ("nested.json", "results that go on", "found.csv.run.json", r"found.csv is there, but not .*found.csv.run.json"),
    ("nested_line.jsonl", "results that go on", "found.jsonl", "found.jsonl, line 1 is no result of this run"),
    ("nested.json", "checkpoint of a run", "training_record_0.json", "training_record_0.json is not valid JSON"),
    ("nested_line.jsonl", "tables", "texts.jsonl", "texts.jsonl, line 1: it is no JSON object on one line"),
    ("half_a_character.json", "model", "config.json", "config.json is not valid JSON"),
    ("vocabulary_of_2_to_31_words.config.json", "model", "config.json", "does not fit config.json beside it"),
    ("layers_of_2_to_60_channels.config.json", "model", "config.json", "at most 1,048,576 are allowed"),
    ("a_number_of_401_digits.config.json", "model", "config.json", "must be an integer of at most 100,000"),
    ("infinite_rate.config.json", "model", "config.json", "inner_lr=inf must be finite"),
    ("architecture_is_an_object.config.json", "model", "config.json", "architectures=.* must be a list of names"),
    ("header_of_16_exabytes.safetensors", "model", WEIGHTS, "model.safetensors cannot be read: .*SafetensorError"),
    ("shape_of_2_to_80_values.safetensors", "model", WEIGHTS, "model.safetensors cannot be read"),
    ("offsets_beyond_the_end.safetensors", "model", WEIGHTS, "model.safetensors cannot be read"),
    ("offsets_beyond_the_end.safetensors", "encoder of levels", "text/encoder.safetensors", "encoder.safetensors"),
    ("processor_part_is_text.json", "model", "processor_config.json", "model cannot be read: it is damaged"),
    ("tokenizer_without_model.json", "model", "tokenizer.json", "model cannot be read: it is damaged"),
    ("class_is_an_object.classifier.json", "classifier", CLASSIFIER, "is no class that was saved"),
    ("negative_batches.classifier.json", "classifier", CLASSIFIER, "few_shot_classifier.json: batch_size=-128 must be"),
    (
        "rate_is_a_list.classifier.json",
        "classifier",
        CLASSIFIER,
        r"few_shot_classifier.json: sampling_rate=\[1\] is no",
    ),
    ("another_modality.classifier.json", "classifier", CLASSIFIER, "json: modality='../../etc/passwd' is none of"),
    (
        "tensor_named_by_a_number.tasks.safetensors",
        "classifier",
        "few_shot_classifier.safetensors",
        "few_shot_classifier.safetensors cannot be read",
    ),
    ("special_token_is_an_object.encoder.json", "encoder of levels", "text/config.json", "must be two lists of ids"),
    ("hidden_size_of_gigabytes.encoder.json", "encoder of levels", "text/config.json", "have other sizes"),
    ("text_for_an_integer.encoder.json", "encoder of levels", "text/config.json", "config.json cannot be read"),
    ("pickle_that_calls_a_shell.pt", "published checkpoint", PT, "1000.pt cannot be read as a checkpoint of tensors"),
    (
        "options_are_a_list.train_config.json",
        "published checkpoint",
        "train_dir/brown_3m5w1s/train_config.json",
        "it holds no JSON object",
    ),
    ("python_object.yaml", "YAML of a run", "run.yaml", "run.yaml is not valid YAML: could not determine a construct"),
    ("data_set_is_an_object.yaml", "YAML of a run", "run.yaml", "must be a list of names of data sets"),
    ("no_utf-8.yaml", "YAML of a run", "run.yaml", "run.yaml is not valid YAML: 'utf-8' codec"),
    ("lone_surrogate.jsonl", "tables", "texts.jsonl", "texts.jsonl, line 1: .* has half of a surrogate pair"),
    ("entry_outside.zip", "archives", "set.zip", "set.zip has the entry .* which points outside the archive"),
    ("no_number.training_record.json", "checkpoint of a run", "training_record_0.json", "training_record_0.json"),
    (
        "list_of_files.checkpoint_complete.json",
        "checkpoint of a run",
        "checkpoint_complete.json",
        "its checkpoint_complete.json is damaged",
    ),
    ("metadata_is_no_yaml.README.md", "card", "README.md", None),
    ("cut_off.rows.arrow", "stored levels", "rows.arrow", "rows.arrow is damaged"),
]


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """A function that returns a folder with the intact files of a kind."""
    folder = tmp_path_factory.mktemp("intact")
    return lru_cache(lambda kind: make_all(folder, [kind]) / kind)


@pytest.mark.parametrize(("file", "kind", "place", "message"), FINDINGS, ids=lambda value: str(value).replace("/", "_"))
def test_what_was_found_is_a_documented_error_now(intact, tmp_path, file, kind, place, message):
    folder = tmp_path / kind
    shutil.copytree(intact(kind), folder)
    shutil.copyfile(CORPUS / file, folder / place)
    if message is None:
        KINDS[kind].read(folder)
        return
    with pytest.raises(KINDS[kind].documented, match=message):
        KINDS[kind].read(folder)


def test_every_file_of_the_corpus_is_read_and_small():
    files = {path.name: path.stat().st_size for path in CORPUS.iterdir()}
    assert set(files) == {file for file, *_ in FINDINGS}
    assert max(files.values()) < 4_000
