"""The scale of a classifier of cosines."""

import torch
from torch import nn
from transformers import initialization as init


class CosineScale(nn.Module):
    """
    The trained factor by which cosines are multiplied to give logits.

    Args:
        value: the factor before training.
    """

    def __init__(self, value: float):
        super().__init__()
        self.start = value
        self.value = nn.Parameter(torch.tensor(float(value)))

    def reset_parameters(self) -> None:
        init.constant_(self.value, self.start)
