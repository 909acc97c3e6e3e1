"""The published code as a contender, with a learner of its interface in its place."""

import sys
from collections import OrderedDict
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.speed import meta_step
from benchmarks.speed.contenders import Contender, Setting
from benchmarks.speed.published import share_parameters, use_published_code
from modeling_msmaml.model.published_checkpoint import task_network_name


def embeddings(channels: int) -> nn.ModuleDict:
    layers = {"audio": nn.Conv1d(1, channels, 320, 320), "text": nn.Conv1d(128, channels, 12, 12)}
    return nn.ModuleDict({**layers, "image": nn.Conv2d(3, channels, 2, 2)})


class GatedConv1dModel(nn.Module):
    """The task network under the published names."""

    def __init__(self, input_channels, output_size, num_channels):
        super().__init__()
        self.embeddings = embeddings(num_channels)
        sizes = [num_channels * width for width in (1, 1, 2, 4, 8)]
        layers = {f"layer{n}_conv": nn.Conv1d(sizes[n - 1], sizes[n], 5, 2, 1) for n in (1, 2, 3, 4)}
        self.features = nn.Sequential(OrderedDict(layers))
        self.classifier = nn.Sequential(OrderedDict(fully_connected=nn.Linear(sizes[-1], output_size)))

    def forward(self, task, params, embeddings):
        assert task.task_info == "FC100"
        x = F.conv2d(task.x, params["embeddings.image.weight"], stride=2).flatten(2)
        for number, modulation in enumerate(embeddings, start=1):
            weight, bias = (params[f"features.layer{number}_conv.{part}"] for part in ("weight", "bias"))
            x = F.batch_norm(F.conv1d(x, weight, bias, 2, 1), None, None, training=True)
            scale, shift = modulation.view(-1).chunk(2)
            x = F.relu(x * (1 + scale[:, None]) + shift[:, None])
        names = (f"classifier.fully_connected.{part}" for part in ("weight", "bias"))
        return F.linear(x.mean(dim=2), *(params[name] for name in names))


class ConvEmbeddingOneDimensionalModel(nn.Module):
    """The task encoder under the published names."""

    def __init__(
        self, input_size, output_size, embedding_dims, hidden_size, convolutional, embedding_pooling, num_channels
    ):
        super().__init__()
        assert convolutional and embedding_pooling == "avg"
        self.embeddings = embeddings(num_channels)
        sizes = [num_channels * width for width in (1, 1, 2, 4, 8)]
        layers = {}
        for n in (1, 2, 3, 4):
            layers |= {f"conv{n}": nn.Conv1d(sizes[n - 1], sizes[n], 3, 1, 1), f"bn{n}": nn.BatchNorm1d(sizes[n])}
        self.conv = nn.Sequential(OrderedDict(layers))
        self.linear = nn.Linear(sizes[-1], hidden_size)
        self._embeddings = nn.ModuleList(nn.Linear(hidden_size, size) for size in embedding_dims)

    def forward(self, task):
        x = F.conv2d(task.x, self.embeddings["image"].weight, stride=2).flatten(2)
        for name, layer in self.conv.named_children():
            x = F.relu(layer(x)) if name.startswith("bn") else layer(x)
        vector = F.relu(self.linear(x.mean(dim=2))).mean(dim=0)
        return [embedding(vector) for embedding in self._embeddings]


class MetaLearner:
    """The inner loop under the published interface."""

    def __init__(self, model, embedding_model, optimizers, fast_lr, loss_func, **options):
        assert options["inner_loop_grad_clip"] == 0 and not options["first_order"]
        self.model, self.encoder, self.rate, self.loss = model, embedding_model, fast_lr, loss_func
        self.updates = options["num_updates"]

    def adapt(self, tasks):
        adapted, modulations = [], []
        for task in tasks:
            params, modulation = dict(self.model.named_parameters()), self.encoder(task)
            for _ in range(self.updates):
                loss = self.loss(self.model(task, params, modulation), task.y)
                found = torch.autograd.grad(loss, list(params.values()), create_graph=True, allow_unused=True)
                pairs = zip(params.items(), found, strict=True)
                params = {name: value if g is None else value - self.rate * g for (name, value), g in pairs}
            adapted.append(params)
            modulations.append(modulation)
        return {}, adapted, modulations

    def step(self, adapted, modulations, tasks, is_training):
        assert is_training
        triples = zip(tasks, adapted, modulations, strict=True)
        torch.stack([self.loss(self.model(*triple), triple[0].y) for triple in triples]).mean().backward()


@pytest.fixture
def published(monkeypatch):
    """Modules of the published names."""
    for name, part in (
        ("models.gated_conv_net_1d", GatedConv1dModel),
        ("models.conv_embedding_1d_model", ConvEmbeddingOneDimensionalModel),
        ("metalearner", MetaLearner),
    ):
        module = ModuleType(f"maml.{name}")
        setattr(module, part.__name__, part)
        monkeypatch.setitem(sys.modules, f"maml.{name}", module)


def test_its_outer_gradient_is_left_in_our_parameters(published):
    setting = Setting(["image"], 5, 1, 2, 1, "cpu", "float64")
    found = Contender("published", setting, torch.float64).gradient()
    expected = Contender("plain", setting, torch.float64).gradient()
    assert found.keys() == expected.keys()
    assert meta_step.difference(found, expected) < 1e-12


def test_a_folder_without_the_published_code_is_refused_before_anything_is_measured(tmp_path):
    with pytest.raises(FileNotFoundError, match="no maml/metalearner.py: give a checkout"):
        use_published_code(tmp_path)
    with pytest.raises(FileNotFoundError, match="no maml/metalearner.py"):
        meta_step.main(["--published", str(tmp_path)])


def test_networks_of_other_shapes_are_refused():
    model = Setting(["image"], 5, 1, 1, 1, "cpu", "float32").model(torch.float32)
    with pytest.raises(ValueError, match=r"published embeddings.image.weight \(16, 3, 2, 2\) has no counterpart"):
        share_parameters(GatedConv1dModel(1, 5, 16), model.task_network, task_network_name)
