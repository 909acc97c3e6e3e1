"""Folded batch norms compute the same, follow the weights, and are left out where they would not."""

import copy

import pytest
import timm
import torch
from torch import nn

from modeling_msmaml.model.folded_norms import FoldedNorms


def randomised(network):
    """In evaluation mode, with norms that do something."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in (
                (module.weight, 0.5),
                (module.running_var, 0.5),
                (module.bias, -1),
                (module.running_mean, -1),
            ):
                with torch.no_grad():
                    tensor.uniform_(low, low + 1, generator=generator)
    return network.eval()


def norms(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


PIXELS = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def run(network):
    return network(PIXELS)


@pytest.mark.parametrize("architecture", ["tf_efficientnet_lite0", "resnet18", "densenet121", "resnetv2_50"])
@torch.no_grad()
def test_networks_of_timm_compute_the_same(architecture):
    network = randomised(timm.create_model(architecture, num_classes=0))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folded = FoldedNorms().of(network, run)
    assert norms(folded) < norms(network)
    torch.testing.assert_close(run(folded), run(network), rtol=1e-3, atol=1e-4 * float(run(network).abs().max()))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


@torch.no_grad()
def test_the_copy_follows_the_weights_and_is_not_kept_with_its_holder():
    network, keeper = randomised(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())), FoldedNorms()
    folded = keeper.of(network, run)
    assert keeper.of(network, run) is folded and norms(folded) == 0
    network[1].bias.add_(1)
    assert keeper.of(network, run) is not folded
    torch.testing.assert_close(run(keeper.of(network, run)), run(network))
    assert copy.deepcopy(keeper)._made is None


class NormAhead(nn.Module):
    """Defines a norm behind a convolution, but applies it to the input."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

    def forward(self, pixels):
        return self.convolution(self.norm(pixels))


def test_a_norm_that_does_not_follow_its_convolution_stays():
    network = randomised(NormAhead())
    assert FoldedNorms().of(network, run) is network
