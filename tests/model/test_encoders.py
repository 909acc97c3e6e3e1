"""Pretrained encoders as frontends, with tiny random ones."""

import json
import re
import shutil
from functools import partial

import numpy as np
import pytest
import timm
import torch
from transformers import AutoModel, BertModel

import run_meta
from benchmarks.studies import encoder_layers, pretrained_text
from data_builders import EpisodeDataset, load_few_shot
from data_builders.episodes.encoded import EncodedRows, encode_episodes, encode_split
from data_builders.episodes.level_encoder import OneLevel
from modeling_msmaml import MSMAMLConfig, MSMAMLModel
from modeling_msmaml.model.pretrained_encoder import PretrainedFrontend

from ..encoders import (
    CLS,
    N_QUERY,
    N_WAY,
    SEP,
    WORDS,
    encoder_config,
    meta_batch,
    raw_rows,
    raw_split,
    save_ast,
    save_bert,
    save_wav2vec2,
    tiny_embeddings,
)
from ..msmaml.test_run_meta import options
from ..test_docs import REPOSITORY, blocks

MODALITIES = ("audio", "text", "image")


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory):
    return tiny_embeddings(tmp_path_factory.mktemp("encoders"))


def make_model(embeddings, **changes) -> MSMAMLModel:
    torch.manual_seed(0)
    model = MSMAMLModel(encoder_config(embeddings, **changes))
    if model.config.descriptor_size:
        model.fit_front_ends({name: raw_rows(name, 32) for name in embeddings})
    return model.eval()


@pytest.fixture(scope="module")
def model(embeddings):
    return make_model(embeddings)


def episodes(modalities=MODALITIES, seed=1):
    return {name: meta_batch(raw_rows(name, 24, seed)) for name in modalities}


def text_frontend(embeddings, **changes) -> PretrainedFrontend:
    spec = {"text": {**embeddings["text"], **changes}}
    return MSMAMLModel(encoder_config(spec, num_layers=1)).frontends["text"]


def test_features_have_the_shapes_of_the_encoders(model):
    shapes = {"audio": (16, 10), "text": (16, 33), "image": (model.frontends["image"].num_features, 4)}
    for modality, expected in shapes.items():
        rows = raw_rows(modality, 6).unflatten(0, (2, 3))
        features = model.frontends[modality](rows, torch.float32)
        assert features.shape == (2, 3, *expected) and features.dtype == torch.float32
    logits = model(episodes()).logits
    assert all(logits[modality].shape == (2, N_WAY * N_QUERY, N_WAY) for modality in MODALITIES)


def test_weights_are_the_pretrained_ones(model, embeddings):
    for modality in ("audio", "text"):
        expected = AutoModel.from_pretrained(embeddings[modality]["transformers"]).state_dict()
        found = model.frontends[modality].encoder.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    random = text_frontend(embeddings, pretrained=False).encoder.state_dict()
    assert not torch.equal(random["embeddings.word_embeddings.weight"], found["embeddings.word_embeddings.weight"])


def test_short_text_has_the_states_of_the_encoder_itself(model, embeddings):
    bert = BertModel.from_pretrained(embeddings["text"]["transformers"]).eval()
    row = torch.tensor([[5, 9, 7, 0, 0, 0, 0]])
    with torch.no_grad():
        expected = bert(input_ids=torch.tensor([[CLS, 5, 9, 7, SEP]])).last_hidden_state[0].T
    features = model.frontends["text"](row, torch.float32)[0]
    torch.testing.assert_close(features[:, :5], expected, atol=2e-3, rtol=0)  # float16
    assert not features[:, 5:].any()


def test_states_of_another_layer(embeddings):
    first = text_frontend(embeddings, layer=0)
    with torch.no_grad():
        expected = first.encoder.embeddings(torch.tensor([[CLS, 5, 9, SEP]]))[0].T
    torch.testing.assert_close(first(torch.tensor([[5, 9]]), torch.float32)[0], expected, atol=2e-3, rtol=0)


def test_long_text_is_split_into_windows_with_special_tokens_each(model):
    words = torch.arange(25) % 11 + 5
    windows = model.frontends["text"].windows(torch.stack([words, torch.where(torch.arange(25) < 12, words, 0)]))
    assert windows.shape == (2, 3, 11)  # 12 tokens at most, of which two are special
    assert windows[0].tolist() == [
        [CLS, *words[:9].tolist(), SEP],
        [CLS, *words[9:18].tolist(), SEP],
        [CLS, *words[18:].tolist(), SEP, 0, 0],
    ]
    assert windows[1].tolist() == [
        [CLS, *words[:9].tolist(), SEP],
        [CLS, *words[9:12].tolist(), SEP, 0, 0, 0, 0, 0, 0],
        [0] * 11,
    ]


def test_special_tokens_that_a_row_has_already_are_not_doubled(model):
    frontend = model.frontends["text"]
    bare = torch.tensor([[5, 6, 7, 8, 0, 0], [9, 0, 0, 0, 0, 0]])
    marked = torch.tensor([[CLS, 5, 6, 7, 8, SEP], [CLS, 9, SEP, 0, 0, 0]])
    assert torch.equal(frontend.windows(marked), frontend.windows(bare))
    only_begun = torch.tensor([[CLS, 5, 6, 7, 0, 0]])
    assert frontend.windows(only_begun)[0, 0, :6].tolist() == [CLS, CLS, 5, 6, 7, SEP]


def test_text_without_a_word_is_its_special_tokens(model):
    features = model.frontends["text"](torch.zeros(2, 4, dtype=torch.int32), torch.float32)
    assert features.isfinite().all() and (features != 0).any(dim=1).sum(dim=1).tolist() == [2, 2]


def test_padding_changes_nothing(embeddings):
    """More zeros after a text that fits one window give the same states, and the same descriptor."""
    model = make_model({"text": {**embeddings["text"], "pool": 2}})
    row = torch.tensor([[5, 9, 7, 6, 0]])
    short, long = (model.frontends["text"](ids, torch.float32) for ids in (row, torch.nn.functional.pad(row, (0, 4))))
    torch.testing.assert_close(long[..., : short.shape[-1]], short, atol=2e-3, rtol=0)
    descriptor = model.descriptors["text"]
    torch.testing.assert_close(descriptor(long), descriptor(short), atol=1e-2, rtol=0)


def test_spectrogram_encoder_reads_audio(tmp_path):
    spec = {"audio": {"transformers": save_ast(tmp_path / "ast")}}
    model = make_model(spec)
    assert model(episodes(["audio"])).logits["audio"].shape == (2, N_WAY * N_QUERY, N_WAY)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_other_backbones_read_images(name):
    spec = {"image": {"timm": name, "pretrained": False}}
    assert make_model(spec)(episodes(["image"])).logits["image"].isfinite().all()


def test_image_is_resized_and_normalised_as_the_backbone_expects(model):
    frontend, seen = model.frontends["image"], []
    handle = frontend.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    original = frontend.encoder.forward_features
    frontend.encoder.forward_features = lambda pixels: seen.append(pixels) or original(pixels)
    try:
        white = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
        frontend(white, torch.float32)
        frontend(white / 255.0, torch.float32)
    finally:
        handle.remove()
        del frontend.encoder.forward_features
    cfg = timm.get_pretrained_cfg("test_resnet")
    expected = (1 - torch.tensor(cfg.mean)) / torch.tensor(cfg.std)
    assert len(seen) == 2 and all(pixels.shape == (1, 3, 64, 64) for pixels in seen)
    torch.testing.assert_close(seen[0].mean(dim=(0, 2, 3)), expected)
    torch.testing.assert_close(seen[0], seen[1])


@pytest.mark.parametrize("adapted", ["head", "all"])
def test_training_leaves_the_encoder_alone_and_moves_the_rest(embeddings, adapted):
    changes = {"adapted_parameters": adapted, "share_embeddings": False}
    model = make_model(embeddings, **changes).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model(episodes()).loss.backward()
    optimizer.step()
    assert all(parameter.grad is None for parameter in model.frontends.parameters())
    assert not any(module.training for module in model.frontends["image"].encoder.modules())
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith("frontends.") for name in changed)
    assert "task_network.embeddings.text.adapter.up" in changed
    assert {f"task_network.embeddings.{name}.projection.weight" for name in MODALITIES} <= changed


def test_adapter_changes_nothing_at_first(embeddings):
    with_adapter = make_model({"text": embeddings["text"]})
    spec = {key: value for key, value in embeddings["text"].items() if key != "adapter_size"}
    without = make_model({"text": spec})
    without.load_state_dict(with_adapter.state_dict(), strict=False)
    assert torch.equal(with_adapter(episodes(["text"])).logits["text"], without(episodes(["text"])).logits["text"])


def test_saved_model_loads_without_the_encoders_folders(tmp_path):
    sources = tmp_path / "sources"
    model = make_model(tiny_embeddings(sources))
    expected = model(episodes()).logits
    model.save_pretrained(tmp_path / "saved")
    shutil.rmtree(sources)
    loaded = MSMAMLModel.from_pretrained(tmp_path / "saved").eval()
    logits = loaded(episodes()).logits
    assert all(torch.equal(logits[modality], expected[modality]) for modality in MODALITIES)
    assert not any(parameter.requires_grad for parameter in loaded.frontends.parameters())


def test_cached_features_give_the_logits_of_raw_inputs(model, tmp_path):
    for modality in MODALITIES:
        split = raw_split(modality)
        encoded = encode_split(split, model.frontends[modality], tmp_path)
        assert encoded.labels is split.labels and encoded.row_shape[0] == model.frontends[modality].num_features
        raw, stored = (EpisodeDataset([part], N_WAY, 2, 2, 4, seed=3) for part in (split, encoded))
        for number in range(4):
            a, b = (data[number] for data in (raw, stored))
            assert torch.equal(a["query_ids"], b["query_ids"]) and b["query"].dtype == torch.float16
            keys = ("support", "support_labels", "query", "query_labels")
            logits = [model({modality: {key: item[key][None] for key in keys}}).logits[modality] for item in (a, b)]
            torch.testing.assert_close(logits[0], logits[1], atol=2e-3, rtol=1e-3)


def test_features_are_computed_once(model, tmp_path, monkeypatch):
    split, frontend = raw_split("text"), model.frontends["text"]
    rows = []
    original = type(frontend).encode
    monkeypatch.setattr(
        type(frontend), "encode", lambda self, inputs: rows.append(len(inputs)) or original(self, inputs)
    )
    encode_split(split, frontend, tmp_path)
    assert sum(rows) == 1 + len(split)  # another row shows the shape
    encode_split(split, frontend, tmp_path)
    assert sum(rows) == 1 + len(split)
    changed = raw_split("text", seed=5)
    encode_split(changed, frontend, tmp_path)
    assert sum(rows) == 2 + 2 * len(split)


def test_cache_belongs_to_the_weights_and_the_options(embeddings, tmp_path):
    split = raw_split("text")
    folders = set()
    for changes in ({}, {"pool": 2}, {"window": 8}, {"layer": 0}, {"pretrained": False}):
        frontend = text_frontend(embeddings, **changes)
        folders.add(EncodedRows(split, OneLevel(frontend), tmp_path).cache_dir)
    assert len(folders) == 5
    frontend = text_frontend(embeddings)
    assert EncodedRows(split, OneLevel(frontend), tmp_path).cache_dir in folders
    frontend.encoder.embeddings.word_embeddings.weight.data[7, 0] += 1
    assert EncodedRows(split, OneLevel(frontend), tmp_path).cache_dir not in folders


def test_what_cannot_be_cached_is_refused(model, tmp_path):
    split, frontend = raw_split("text"), model.frontends["text"]
    encoded = encode_split(split, frontend, tmp_path)
    with pytest.raises(ValueError, match="features already"):
        encode_split(encoded, frontend, tmp_path)
    with pytest.raises(ValueError, match="reads text, but .* is audio"):
        encode_split(raw_split("audio"), frontend, tmp_path)
    with pytest.raises(TypeError, match="pretrained encoder is needed"):
        encode_split(split, torch.nn.Identity(), tmp_path)
    with pytest.raises(ValueError, match="augment=True"):
        encode_episodes(EpisodeDataset([split], N_WAY, 1, 1, 2, augment=True), model.frontends, tmp_path)
    with pytest.raises(ValueError, match="no features to store"):
        encode_episodes(EpisodeDataset([split], N_WAY, 1, 1, 2), {"text": torch.nn.Identity()}, tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"smell": {"timm": "resnet18"}}, "read audio, text, image"),
        ({"image": {"transformers": "x"}}, "must name its encoder"),
        ({"image": {"timm": "resnet18", "pool": 2}}, "unknown options pool"),
        ({"text": {"transformers": "x", "adapter_size": 0}}, "adapter_size=0"),
        ({"text": {"transformers": "x", "pretrained": "yes"}}, "pretrained='yes'"),
        ({"text": {"transformers": "x", "special_tokens": [101, 102]}}, "special_tokens"),
        ({"text": "x"}, "must name its encoder"),
        ("resnet18", "must be a dict"),
    ],
)
def test_nonsense_is_refused_by_the_config(given, message):
    with pytest.raises(ValueError, match=message):
        MSMAMLConfig(embeddings=given)


def test_options_without_effect_are_refused():
    spec = {"text": {"transformers": "x"}}
    with pytest.raises(ValueError, match="no effect"):
        MSMAMLConfig(modalities=["image"], embeddings=spec)
    with pytest.raises(ValueError, match="train_word_vectors"):
        MSMAMLConfig(embeddings=spec, train_word_vectors=True)
    with pytest.raises(ValueError, match="descriptor_size=8 needs"):
        MSMAMLConfig(modalities=["text", "image"], embeddings=spec, descriptor_size=8)


def test_encoders_that_cannot_be_used_are_refused(tmp_path):
    padded = {"transformers": save_bert(tmp_path / "padded", pad_token_id=1)}
    for spec, message in (
        ({"text": padded}, "pads with token 1"),
        ({"text": {"transformers": save_bert(tmp_path / "bert"), "window": 13}}, "at most 12 tokens"),
        ({"text": {"transformers": str(tmp_path / "bert"), "layer": 2}}, "has 1 layers"),
        ({"audio": {"transformers": save_wav2vec2(tmp_path / "slow", 8_000)}}, "8000 Hz"),
        ({"image": {"timm": "no_such_backbone"}}, "timm cannot build 'no_such_backbone'"),
    ):
        with pytest.raises(ValueError, match=message):
            MSMAMLModel(encoder_config(spec))


def test_inputs_that_do_not_fit_are_refused(model):
    with pytest.raises(ValueError, match="vocab_size=16: tokenise with its tokenizer"):
        model.frontends["text"](torch.full((1, 4), 99), torch.float32)
    with pytest.raises(ValueError, match=r"have shape \(.., 16, positions\), not \(2, 8, 5\)"):
        model.frontends["text"](torch.zeros(2, 8, 5, dtype=torch.float16), torch.float32)
    with pytest.raises(ValueError, match="integer token ids, or float16 features"):
        model.frontends["text"](torch.zeros(2, 8), torch.float32)
    with pytest.raises(NotImplementedError, match="no word vectors of its own"):
        model.get_input_embeddings()


def run_options(folder, tmp_path, **changes) -> list[str]:
    given = {
        "output_dir": folder,
        "cache_dir": tmp_path / "built",
        "datasets": "synthetic:image",
        "embeddings": '{"image": {"timm": "test_resnet", "pretrained": false, "input_size": 32}}',
        "n_way": 3,
        "n_query": 2,
        "num_channels": 8,
        "num_layers": 1,
        "kernel_size": 3,
        "padding": 2,
        "head": "prototype",
        "norm": "group",
        "descriptor_size": 8,
        **changes,
    }
    return ["configs/quickstart.yaml", *options(**given)]


def test_run_with_stored_features_gives_the_results_of_one_without(tmp_path):
    results = {}
    for cached in (False, True):
        results[cached] = run_meta.main(run_options(tmp_path / str(cached), tmp_path, cache_features=cached))
    assert results[True]["train_loss"] == pytest.approx(results[False]["train_loss"], abs=1e-3)
    assert results[True]["test_accuracy"] == pytest.approx(results[False]["test_accuracy"], abs=0.1)
    saved = [MSMAMLModel.from_pretrained(tmp_path / str(cached)).state_dict() for cached in (False, True)]
    for name in saved[0]:
        torch.testing.assert_close(saved[0][name], saved[1][name], atol=2e-2, rtol=0)
    again = {"model_name_or_path": tmp_path / "True", "do_train": False, "cache_features": True}
    evaluated = run_meta.main(run_options(tmp_path / "again", tmp_path, **again))
    assert evaluated["test_accuracy"] == results[True]["test_accuracy"]
    other = {**again, "embeddings": '{"image": {"timm": "resnet18"}}'}
    with pytest.raises(ValueError, match="does not fit the checkpoint"):
        run_meta.main(run_options(tmp_path / "other", tmp_path, **other))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cache_features": True, "augment": True}, "augment=True"),
        ({"cache_features": True, "embeddings": "{}", "descriptor_size": 0}, "no feat"),
    ],
)
def test_run_refuses_options_that_could_do_nothing(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run_meta.main(run_options(tmp_path / "run", tmp_path, **changes))


def test_run_refuses_rows_of_another_vocabulary(tmp_path):
    encoder = save_bert(tmp_path / "bert")
    changes = {"datasets": "synthetic:text", "embeddings": json.dumps({"text": {"transformers": encoder}})}
    with pytest.raises(ValueError, match="another vocabulary than that of the encoder"):
        run_meta.main(run_options(tmp_path / "run", tmp_path, **changes))


def test_run_refuses_embeddings_that_are_no_json(tmp_path):
    with pytest.raises(SystemExit, match="is not JSON"):
        run_meta.main(run_options(tmp_path / "run", tmp_path, embeddings="resnet18"))


def test_brown_in_the_tokens_of_an_encoder(tmp_path, data_dir, cache_dir):
    encoder = save_bert(tmp_path / "bert")
    load = partial(load_few_shot, "brown", "test", data_dir=data_dir, cache_dir=cache_dir, tokenizer=encoder)
    split = load(passage_length=40)
    assert split.row_shape == (40,) and split.word_vectors is None
    assert split.preprocessor.model_max_length == 40 and split.tokenizer.vocab_size == len(WORDS)
    rows = split.rows(np.arange(5))
    assert rows.max() < len(WORDS) and CLS not in rows and SEP not in rows
    with pytest.raises(ValueError, match="min_count=3 has no effect beside tokenizer"):
        load(min_count=3)


def test_python_of_the_page_runs(tmp_path):
    code = blocks(REPOSITORY / "docs" / "pretrained.md", "python")[0]
    code = code.replace("sentence-transformers/all-MiniLM-L6-v2", save_bert(tmp_path / "bert", num_hidden_layers=4))
    code = code.replace('"window": 256', '"window": 12').replace('"resnet18"', '"test_resnet", "pretrained": False')
    names = {}
    exec(compile(code, "docs/pretrained.md", "exec"), names)
    assert names["model"](episodes(["text"])).logits["text"].shape == (2, N_WAY * N_QUERY, N_WAY)


def test_benchmark_compares_on_the_same_episodes(tmp_path, data_dir, cache_dir, capsys):
    """On a tiny encoder and few episodes."""
    encoder = save_bert(tmp_path / "bert", max_position_embeddings=202)
    arguments = ["--encoder", encoder, "--layer", "1", "--window", "202", "--num_episodes", "4"]
    arguments += ["--data_dir", str(data_dir), "--cache_dir", str(cache_dir), "--held_out", "0"]
    results = pretrained_text.main([*arguments, "--descriptor_size", "8", *options(max_steps=1, eval_strategy="no")])
    assert [(result["k_shot"], result["training_steps"]) for result in results] == [
        (k_shot, steps) for steps in (0, 0, 1, 0) for k_shot in (1, 5)
    ]
    test = set(results[0]["categories"])
    assert len(test) == 5 and not test & {"editorial", "hobbies", "learned", "mystery", "romance"}
    assert re.search(
        r"\| this model, trained \| 0 \| [\d.]+ ± [\d.]+ \| [\d.]+ ± [\d.]+ \| 1 \|", capsys.readouterr().out
    )


def test_benchmark_of_layers_reports_each(tmp_path, data_dir, cache_dir, capsys):
    encoder = save_bert(tmp_path / "bert", max_position_embeddings=202)
    arguments = ["--encoder", encoder, "--window", "202", "--draws", "1", "--num_episodes", "3"]
    results = encoder_layers.main([*arguments, "--data_dir", str(data_dir), "--cache_dir", str(cache_dir)])
    assert {result["layer"] for result in results} == {0, 1} and len(results) == 2 * 2 * 6
    rows = re.findall(r"^\| (\d) \|(?: [\d.]+ / [\d.]+ \|){6}$", capsys.readouterr().out, flags=re.MULTILINE)
    assert rows == ["0", "1"]
