"""MSMAMLConfig and MSMAMLModel as a user of transformers meets them."""

import math

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from modeling_msmaml import ModalityEmbedding, MSMAMLConfig, MSMAMLModel, register_modality, register_task_encoder
from modeling_msmaml.model import task_encoder
from modeling_msmaml.model.losses import task_losses

from ..toys import N_QUERY, N_WAY, tiny_config, tiny_episodes, tiny_model


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conditioning": "film"}, "conditioning='film'.*affine, sigmoid, softmax, none"),
        ({"norm_statistics": "running"}, "norm_statistics='running'.*transductive, support"),
        ({"conditionin": "none"}, "did you mean 'conditioning'"),
        ({"inner_learning_rate": 0.5}, "no argument 'inner_learning_rate'"),
        ({"task_chunk_size": 0}, "task_chunk_size=0"),
        ({"n_way": 1}, "n_way=1"),
        ({"modalities": []}, "modalities"),
        ({"modalities": ["audio", "audio"]}, "twice"),
        ({"kernel_size": [3, 3, 3]}, "kernel_size=.*num_layers=2"),
        ({"stride": 0}, "stride=0"),
        ({"inner_lr": 0.0}, "inner_lr"),
        ({"inner_grad_clip": -1.0}, "inner_grad_clip"),
        ({"image_size": 7}, "image_size=7.*image_patch_size=2"),
        ({"task_encoder_kernel_size": 4}, "odd"),
        ({"num_inner_steps": 2.5}, "num_inner_steps=2.5"),
        ({"image_signal_side": -1}, "image_signal_side=-1"),
        ({"image_signal_side": 7, "modalities": ["image"]}, "image_signal_side=7 needs .*audio and image"),
        ({"image_signal_side": 7, "front_ends": "fitted", "image_size": 8}, "image_signal_side=7 needs front_ends"),
        ({"image_signal_side": 7, "image_patch_size": 3}, "image_patch_size=3 has no effect"),
    ],
)
def test_config_refuses_bad_values_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**changes)


def test_unknown_modality_is_refused_with_the_registered_ones():
    with pytest.raises(ValueError, match=r"'smell' is unknown.*audio.*register_modality"):
        MSMAMLModel(tiny_config(modalities=["smell"]))


def test_default_config_is_the_published_architecture():
    model = MSMAMLModel(MSMAMLConfig())
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert shapes["task_network.embeddings.audio.proj.weight"] == (32, 1, 320)
    assert shapes["task_network.convolutions.3.weight"] == (256, 128, 5)
    assert shapes["task_network.classifier.weight"] == (5, 256)
    assert shapes["task_encoder.projection.weight"] == (128, 256)
    assert shapes["task_encoder.modulations.3.weight"] == (512, 128)


def test_initialisation_is_the_architecture_s():
    torch.manual_seed(0)
    model = MSMAMLModel(MSMAMLConfig())
    for name, parameter in model.task_network.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
            continue
        receptive = math.prod(parameter.shape[2:])
        bound = math.sqrt(6 / ((parameter.shape[0] + parameter.shape[1]) * receptive))  # Xavier uniform
        assert 0.95 * bound < parameter.abs().max() <= bound, name
    for name, parameter in model.task_encoder.named_parameters():
        if "norms" in name:
            assert (parameter == (1.0 if name.endswith("weight") else 0.0)).all(), name
        elif name.endswith("weight"):
            bound = 1 / math.sqrt(math.prod(parameter.shape[1:]))  # PyTorch's default
            assert 0.9 * bound < parameter.abs().max() <= bound, name
        else:
            assert parameter.abs().max() > 0, name
    vectors = model.get_input_embeddings().weight
    assert not vectors[0].any() and vectors[1:].std() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("conditioning", ["affine", "none"])
def test_saved_model_comes_back_through_the_auto_classes(conditioning, tmp_path):
    model, episodes = tiny_model(torch.float32, conditioning=conditioning), tiny_episodes()
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is MSMAMLModel and type(AutoConfig.from_pretrained(tmp_path)) is MSMAMLConfig
    assert loaded.config.own_values() == model.config.own_values()
    expected, actual = model(episodes), loaded(episodes)
    for modality in episodes:
        assert torch.equal(actual.logits[modality], expected.logits[modality])


@pytest.mark.parametrize("train", [False, True])
def test_loaded_word_vectors_are_trained_if_the_config_says_so(train, tmp_path):
    tiny_model(torch.float32, train_word_vectors=train).save_pretrained(tmp_path)
    assert MSMAMLModel.from_pretrained(tmp_path).get_input_embeddings().weight.requires_grad is train


def test_settings_of_transformers_are_no_typos():
    assert tiny_config(num_labels=5).num_labels == 5


@pytest.mark.parametrize("changes", [{"norm_statistics": "suport"}, {"conditioning": "film"}])
def test_changes_while_loading_are_checked(changes, tmp_path):
    tiny_model(torch.float32).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=next(iter(changes.values()))):
        MSMAMLModel.from_pretrained(tmp_path, **changes)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("task_chunk_size", [1, 2, 3])
def test_no_result_depends_on_chunks_and_threads(task_chunk_size, training, threads):
    expected, episodes = tiny_model(task_chunk_size=3).train(training), tiny_episodes(tasks=3)
    actual = tiny_model(task_chunk_size=task_chunk_size).train(training)
    outputs = [model(episodes) for model in (expected, actual)]
    for output in outputs:
        output.loss.backward()
    torch.testing.assert_close(outputs[1].loss, outputs[0].loss, rtol=1e-12, atol=0)
    for modality in episodes:
        assert torch.allclose(outputs[1].logits[modality], outputs[0].logits[modality], rtol=1e-10)
        assert torch.allclose(outputs[1].support_loss[modality], outputs[0].support_loss[modality], rtol=1e-10)
        for layer in range(2):
            assert torch.allclose(outputs[1].modulation[modality][layer], outputs[0].modulation[modality][layer])
    for (name, parameter), other in zip(expected.named_parameters(), actual.parameters(), strict=True):
        if parameter.requires_grad:
            torch.testing.assert_close(other.grad, parameter.grad, rtol=1e-8, atol=1e-12, msg=name)
    assert torch.get_num_threads() == threads, "worker threads leave this one's setting alone"


def test_every_output_can_be_differentiated_in_evaluation_mode():
    model = tiny_model().eval()
    output = model(tiny_episodes())
    (output.loss + output.logits["audio"].sum() + output.support_loss["text"].sum()).backward()
    assert model.task_network.classifier.weight.grad.abs().sum() > 0


def test_threads_take_over_the_context_of_the_caller(threads):
    model, episodes = tiny_model(torch.float32), tiny_episodes()
    with torch.inference_mode():
        assert model(episodes).logits["audio"].is_inference()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(episodes).logits["audio"].dtype == torch.bfloat16


def test_loading_initialises_only_what_is_missing(tmp_path):
    model = tiny_model(torch.float32, modalities=["audio"])
    model.save_pretrained(tmp_path)
    bigger = MSMAMLModel.from_pretrained(tmp_path, modalities=["audio", "image"])
    weight = "task_network.embeddings.audio.proj.weight"
    assert torch.equal(bigger.state_dict()[weight], model.state_dict()[weight])
    new = bigger.task_network.embeddings["image"].patches.proj.weight
    assert torch.isfinite(new).all() and 0 < new.abs().max() <= math.sqrt(6 / ((4 + 3) * 4))


def test_plain_maml_has_no_task_encoder_and_no_modulation():
    model, episodes = tiny_model(conditioning="none"), tiny_episodes()
    assert model.task_encoder is None
    assert model(episodes).modulation == dict.fromkeys(episodes, ())


def test_output_shapes():
    model, episodes = tiny_model(), tiny_episodes(tasks=2)
    output = model(episodes)
    for modality in episodes:
        assert output.logits[modality].shape == (2, N_WAY * N_QUERY, N_WAY)
        assert output.support_loss[modality].shape == (2, 3)
        assert [tuple(m.shape) for m in output.modulation[modality]] == [(2, 8), (2, 16)]
        assert (output.support_loss[modality][:, -1] < output.support_loss[modality][:, 0]).all()


def test_without_query_labels_there_are_logits_and_no_loss():
    model, episodes = tiny_model(), tiny_episodes()
    with_labels = model(episodes)
    for batch in episodes.values():
        del batch["query_labels"]
    output = model(episodes)
    assert output.loss is None
    assert torch.equal(output.logits["audio"], with_labels.logits["audio"])


@pytest.mark.parametrize("head", ["linear", "prototype"])
def test_a_given_number_of_classes_changes_nothing_and_must_be_right(head):
    model, episodes = tiny_model(head=head), tiny_episodes(["image"])
    expected = model(episodes).loss
    assert torch.equal(model({"image": {**episodes["image"], "n_way": N_WAY}}).loss, expected)
    with pytest.raises(ValueError, match=rf"'n_way'\] is {N_WAY + 1}, but the .* {N_WAY} classes"):
        model({"image": {**episodes["image"], "n_way": N_WAY + 1}})


def test_evaluation_keeps_no_outer_graph():
    with torch.no_grad():
        output = tiny_model()(tiny_episodes())
    assert output.loss.grad_fn is None and not output.loss.requires_grad
    with torch.inference_mode():
        assert torch.equal(tiny_model()(tiny_episodes()).loss, output.loss)


def test_a_task_does_not_depend_on_the_others():
    model = tiny_model()
    together = model(tiny_episodes(tasks=3)).logits
    for modality, batch in tiny_episodes(tasks=3).items():
        for task in range(3):
            alone = model({modality: {name: tensor[task : task + 1] for name, tensor in batch.items()}})
            torch.testing.assert_close(alone.logits[modality][0], together[modality][task], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("norm_statistics", ["support", "transductive"])
def test_only_transductive_predictions_depend_on_other_queries(norm_statistics):
    model, episodes = tiny_model(norm_statistics=norm_statistics), tiny_episodes(["image"])
    together = model(episodes).logits["image"]
    alone = []
    for query in range(N_WAY * N_QUERY):
        batch = dict(episodes["image"], query=episodes["image"]["query"][:, query : query + 1])
        del batch["query_labels"]
        alone.append(model({"image": batch}).logits["image"])
    difference = (torch.cat(alone, dim=1) - together).abs().max()
    assert difference < 1e-12 if norm_statistics == "support" else difference > 1e-3


def test_a_fourth_modality_needs_one_class():
    class Accelerometer(ModalityEmbedding):
        """(batch, time, 3) -> (batch, C, time)."""

        def __init__(self, config):
            super().__init__(config)
            self.linear = nn.Linear(3, config.num_channels, bias=False)

        def forward(self, inputs):
            return self.linear(inputs).transpose(1, 2)

    register_modality("motion", Accelerometer)
    model = tiny_model(modalities=["audio", "motion"])
    episodes = tiny_episodes(["audio"])
    episodes["motion"] = dict(
        episodes["audio"],
        support=torch.randn(2, 6, 9, 3, dtype=torch.float64),
        query=torch.randn(2, 12, 9, 3, dtype=torch.float64),
    )
    output = model(episodes)
    output.loss.backward()
    assert output.logits["motion"].shape == (2, 12, N_WAY)
    assert model.task_network.embeddings["motion"].linear.weight.grad.abs().sum() > 0
    assert model.task_encoder.embeddings["motion"].linear.weight.grad.abs().sum() > 0


def test_images_as_signals_are_read_by_the_audio_embedding(tmp_path):
    model = tiny_model(image_signal_side=7)
    for network in (model.task_network, model.task_encoder):
        assert set(network.embeddings) == {"audio", "text"}
    images = torch.arange(2 * 3 * 6 * 6, dtype=torch.uint8).view(2, 1, 3, 6, 6)
    signals = model.frontends["image"](images, torch.float64)
    assert signals.shape == (2, 1, 3 * 7 * 7)
    resized = torch.nn.functional.interpolate(images[1] / 255.0, size=(7, 7), mode="bicubic")
    torch.testing.assert_close(signals[1, 0], resized.flatten().double(), atol=1e-6, rtol=0)
    # A support set of images adapts the audio embedding, and the outer gradient reaches it.
    output = model(tiny_episodes(["image"]))
    output.loss.backward()
    assert model.task_network.embeddings["audio"].proj.weight.grad.any()
    model.save_pretrained(tmp_path)
    again = MSMAMLModel.from_pretrained(tmp_path, dtype=torch.float64)
    assert torch.equal(again.eval()(tiny_episodes()).logits["image"], model.eval()(tiny_episodes()).logits["image"])
    with pytest.raises(ValueError, match=r"an image has shape \(3, 5, 5\)"):
        model.frontends["image"](images[..., :5, :5], torch.float64)


def test_registering_needs_an_embedding_class_and_an_identifier():
    with pytest.raises(TypeError, match="ModalityEmbedding"):
        register_modality("motion", nn.Linear)
    with pytest.raises(ValueError, match="identifier"):
        register_modality("my motion", ModalityEmbedding)


def test_word_vectors_can_be_replaced():
    model = tiny_model()
    vectors = torch.randn(20, 5)
    vectors[0] = 0
    model.set_input_embeddings(nn.Embedding.from_pretrained(vectors))
    assert model.config.vocab_size == 20
    assert torch.equal(model.get_input_embeddings().weight, vectors.double())
    assert not model.get_input_embeddings().weight.requires_grad
    with pytest.raises(ValueError, match="word_vector_size=5"):
        model.set_input_embeddings(nn.Embedding(20, 6))
    with pytest.raises(NotImplementedError, match="audio"):
        tiny_model(modalities=["audio"]).get_input_embeddings()


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda e: e.clear(), "empty"),
        (lambda e: e.update(smell=e["audio"]), "'smell'"),
        (lambda e: e["audio"].pop("query"), "lacks 'query'"),
        (lambda e: e["audio"].pop("support_labels"), "lacks 'support_labels'"),
        (lambda e: e["audio"].update(class_ids=e["audio"]["support_labels"]), "class_ids"),
        (lambda e: e.update(audio={name: tensor[:0] for name, tensor in e["audio"].items()}), "no task"),
        (lambda e: e["image"].update(query=e["image"]["query"][..., :4]), r"\(3, 6, 4\).*takes \(3, 6, 6\)"),
        (lambda e: e["audio"].update(support_labels=torch.zeros(2, 5, dtype=torch.int64)), r"shape \(2, 5\)"),
        (lambda e: e["audio"].update(query=torch.zeros(1, 12, 36)), r"\['query'\]"),
        (lambda e: e["audio"].update(support=e["audio"]["support"][..., :2]), "0 positions"),
        (lambda e: e["text"].update(support=e["text"]["support"] + 50), "vocab_size=11"),
        (lambda e: e["image"].update(query=e["image"]["query"].long()), "int64"),
        (lambda e: e["audio"].update(support_labels=e["audio"]["support_labels"] + 1), "labels.*0 to 2"),
    ],
)
def test_bad_episodes_are_refused_by_name(break_it, message):
    episodes = tiny_episodes()
    break_it(episodes)
    with pytest.raises(ValueError, match=message):
        tiny_model()(episodes)


# A task encoder from outside the package


class MeanOfTokens(torch.nn.Module):
    """Emits a linear function of the mean of the support sequences."""

    embeddings = None

    def __init__(self, config):
        super().__init__()
        self.maps = torch.nn.ModuleList(torch.nn.Linear(config.num_channels, size) for size in config.modulation_sizes)

    def forward(self, support, labels, modality, n_way):
        task = support.mean(dim=(1, 3))
        return tuple(layer(task) for layer in self.maps)


def test_a_task_encoder_of_ones_own(monkeypatch, tmp_path):
    monkeypatch.setattr(task_encoder, "_REGISTRY", dict(task_encoder._REGISTRY))
    register_task_encoder("mean_of_tokens", MeanOfTokens)
    model, episodes = tiny_model(torch.float32, task_encoder="mean_of_tokens", share_embeddings=True), tiny_episodes()
    assert isinstance(model.task_encoder, MeanOfTokens)
    output = model.train()(episodes)
    output.loss.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.task_encoder.parameters())
    model.save_pretrained(tmp_path)
    loaded = MSMAMLModel.from_pretrained(tmp_path)
    for modality, logits in model.eval()(episodes).logits.items():
        assert torch.equal(loaded(episodes).logits[modality], logits)
    with pytest.raises(
        ValueError, match="task_encoder='gru' is unknown; registered are conv1d, conv2d, conv_gru, mean_of_tokens"
    ):
        MSMAMLModel(tiny_config(task_encoder="gru"))
    with pytest.raises(ValueError, match="task_encoder='mean_of_tokens' has no effect with conditioning='none'"):
        tiny_config(task_encoder="mean_of_tokens", conditioning="none")
    with pytest.raises(TypeError, match="subclass of torch.nn.Module"):
        register_task_encoder("none", object)


def test_training_with_a_loss_of_ones_own(threads):
    """Without the model's loss its outputs have a graph, which gives the same gradients."""
    model, episodes = tiny_model().train(), tiny_episodes()

    def own_loss(output):
        return sum(task_losses(logits, episodes[m]["query_labels"]).sum() for m, logits in output.logits.items()) / 6

    model(episodes).loss.backward()
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    own_loss(model(episodes, return_loss=False)).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (name not in expected), name
        if name in expected:
            assert torch.allclose(parameter.grad, expected[name], rtol=1e-9, atol=1e-12), name


def test_a_frozen_model_has_its_loss_in_training_mode_too():
    model = tiny_model().requires_grad_(False)
    assert torch.allclose(model.train()(tiny_episodes()).loss, model.eval()(tiny_episodes()).loss)
