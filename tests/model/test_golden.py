"""Equality with what the published code computes from a published-layout checkpoint, in float64."""

import json

import pytest
import torch
from safetensors.torch import load_file

from modeling_msmaml.hub.convert_published import load_original
from modeling_msmaml.model.published_checkpoint import task_encoder_name, task_network_name

SHOTS, QUERIES, WAYS = 1, 3, 5
VALUE_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}
COSINE = {torch.float64: 0.999999, torch.float32: 0.9999}
NORM_TOLERANCE = 1e-3
# Biases ahead of a batch norm, which subtracts them again: their gradients are zero up to rounding (below 1e-15 in the
# float64 reference, where the others are above 1e-3).
ZERO_GRADIENTS = {
    *(f"task_network.convolutions.{layer}.bias" for layer in range(4)),
    *(f"task_encoder.convolutions.{layer}.bias" for layer in range(4)),
}


@pytest.fixture(scope="module")
def reference(shared_dir):
    folder = shared_dir / "golden"
    return load_file(folder / "reference.safetensors"), json.loads((folder / "reference.json").read_text())


def reference_episodes(tensors, facts):
    """The six episodes as meta-batches, and where episode i went: (modality, task)."""
    tasks, places = {}, []
    for i, modality in enumerate(facts["modalities"]):
        samples = tensors[f"episode{i}.{modality}"]
        tasks.setdefault(modality, []).append(
            {
                "support": samples[:, :SHOTS].flatten(0, 1),
                "support_labels": torch.arange(WAYS).repeat_interleave(SHOTS),
                "query": samples[:, SHOTS:].flatten(0, 1),
                "query_labels": torch.arange(WAYS).repeat_interleave(QUERIES),
            }
        )
        places.append((modality, len(tasks[modality]) - 1))
    batches = {
        modality: {name: torch.stack([task[name] for task in batch]) for name in batch[0]}
        for modality, batch in tasks.items()
    }
    return batches, places


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def golden(request, threads, reference, shared_dir):
    """(model with outer gradients, its output, query logits before adaptation, dtype), with 1 and with 2 threads."""
    tensors, facts = reference
    model = load_original(shared_dir / "golden/train_dir/cifar_brown_esc50_3m5w1s").to(request.param)
    model.set_input_embeddings(torch.nn.Embedding.from_pretrained(tensors["text_table"]))
    episodes, places = reference_episodes(tensors, facts)
    steps, model.config.num_inner_steps = model.config.num_inner_steps, 0
    with torch.no_grad():
        before = model(episodes).logits
    model.config.num_inner_steps = steps
    output = model(episodes)
    output.loss.backward()
    return model, output, before, places, request.param


def assert_close(actual, expected, tolerance):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    difference = (actual.detach().double() - expected).abs().max() / expected.abs().max()
    assert difference <= tolerance


def test_outputs_are_those_of_the_published_code(golden, reference):
    _, output, before, places, dtype = golden
    tensors, facts = reference
    tolerance = VALUE_TOLERANCE[dtype]
    for i, (modality, task) in enumerate(places):
        for layer, modulation in enumerate(output.modulation[modality]):
            assert_close(modulation[task], tensors[f"episode{i}.modulation{layer}"], tolerance)
        assert_close(before[modality][task], tensors[f"episode{i}.logits0"], tolerance)
        assert_close(output.logits[modality][task], tensors[f"episode{i}.logits5"], tolerance)
        assert_close(output.support_loss[modality][task], facts["episodes"][i]["support_losses"], tolerance)
        labels = torch.arange(WAYS).repeat_interleave(QUERIES)
        query_loss = torch.nn.functional.cross_entropy(output.logits[modality][task], labels)
        assert_close(query_loss, facts["episodes"][i]["query_loss"], tolerance)
    assert_close(output.loss, facts["mean_query_loss"], tolerance)


def test_outer_gradient_is_that_of_the_published_code(golden, reference):
    model, _, _, _, dtype = golden
    parameters = dict(model.named_parameters())
    compared = set()
    for key, expected in reference[0].items():
        if not key.startswith("grad."):
            continue
        part, name = key.removeprefix("grad.").split(".", 1)
        rename, prefix = {
            "model": (task_network_name, "task_network"),
            "embedding_model": (task_encoder_name, "task_encoder"),
        }[part]
        if rename(name) is None:
            assert not expected.any(), f"{name} is stored but unused, so its gradient is zero"
            continue
        full_name = f"{prefix}.{rename(name)}"
        compared.add(full_name)
        if full_name in ZERO_GRADIENTS:
            assert expected.norm() < 1e-15
            continue
        actual, expected = parameters[full_name].grad.double(), expected.double()
        cosine = (actual * expected).sum() / (actual.norm() * expected.norm())
        assert cosine >= COSINE[dtype], full_name
        assert abs(actual.norm() / expected.norm() - 1) <= NORM_TOLERANCE, full_name
    trained = {name for name, parameter in parameters.items() if parameter.requires_grad}
    assert compared == trained, "every trained parameter has a reference gradient"


def test_checkpoint_without_its_options_is_refused(shared_dir, tmp_path):
    source = next((shared_dir / "golden/train_dir/cifar_brown_esc50_3m5w1s").glob("*.pt"))
    (tmp_path / source.name).symlink_to(source)
    with pytest.raises(FileNotFoundError, match="train_config.json"):
        load_original(tmp_path)


def test_checkpoint_of_another_configuration_is_refused(shared_dir, tmp_path):
    run = shared_dir / "golden/train_dir/cifar_brown_esc50_3m5w1s"
    source = next(run.glob("*.pt"))
    (tmp_path / source.name).symlink_to(source)
    options = json.loads((run / "train_config.json").read_text())
    (tmp_path / "train_config.json").write_text(json.dumps({**options, "num_classes_per_batch": 10}))
    with pytest.raises(ValueError, match=r"does not fit.*classifier"):
        load_original(tmp_path)


def test_file_that_is_no_checkpoint_is_refused(shared_dir, tmp_path):
    options = (shared_dir / "golden/train_dir/cifar_brown_esc50_3m5w1s/train_config.json").read_text()
    (tmp_path / "train_config.json").write_text(options)
    path = tmp_path / "maml_gated_conv_1d_1.pt"
    path.write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match="maml_gated_conv_1d_1.pt"):
        load_original(path)
    torch.save({"something": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="model_state_dict"):
        load_original(path)


def test_folder_stands_for_its_last_iteration(tmp_path):
    with pytest.raises(FileNotFoundError, match="maml_gated_conv_1d"):
        load_original(tmp_path)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        load_original(tmp_path / "missing.pt")
