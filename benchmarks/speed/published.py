"""
The code that was published with MS-MAML, from a checkout of its repository, as a contender of `meta_step.py`.

Its two networks are given the parameters of our model, so that gradients are left in these. A step is what its
`MetaLearner` does with a meta-batch, its measurements included, but without the optimiser's step.
"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from torch import Tensor, nn

from modeling_msmaml import MSMAMLModel
from modeling_msmaml.model.published_checkpoint import task_encoder_name, task_network_name

# Modality -> the data set by whose name the published networks know it.
DATA_SETS = {"audio": "ESC50", "text": "BROWN", "image": "FC100"}


def use_published_code(folder: Path) -> None:
    """
    Makes the published modules importable.

    Raises:
        `FileNotFoundError`: the folder is no checkout of the repository.
    """
    if not (folder / "maml" / "metalearner.py").is_file():
        raise FileNotFoundError(f"{folder} has no maml/metalearner.py: give a checkout of the published repository")
    sys.path.insert(0, str(folder))


class PublishedLearner:
    """The published `MetaLearner` on the parameters of a model with the architecture that was published."""

    def __init__(self, model: MSMAMLModel):
        config = model.config
        sizes = {"num_channels": config.num_channels, "output_size": config.n_way}
        networks = importlib.import_module("maml.models.gated_conv_net_1d")
        encoders = importlib.import_module("maml.models.conv_embedding_1d_model")
        network = networks.GatedConv1dModel(input_channels=1, **sizes)
        encoder = encoders.ConvEmbeddingOneDimensionalModel(
            input_size=1,
            embedding_dims=list(config.modulation_sizes),
            hidden_size=config.task_encoder_hidden_size,
            convolutional=True,
            embedding_pooling="avg",
            **sizes,
        )
        self.model = model
        share_parameters(network, model.task_network, task_network_name)
        share_parameters(encoder, model.task_encoder, task_encoder_name)
        # The other contenders cannot clip the inner gradient; 0 stands for no clipping.
        self.learner = importlib.import_module("maml.metalearner").MetaLearner(
            network,
            encoder,
            [SimpleNamespace(zero_grad=lambda: None, step=lambda: None)],
            config.inner_lr,
            nn.CrossEntropyLoss(),
            first_order=False,
            num_updates=config.num_inner_steps,
            inner_loop_grad_clip=0,
            collect_accuracies=True,
            device=model.device,
        )

    def step(self, episodes: dict[str, dict[str, Tensor]]) -> None:
        """Leaves the outer gradient in the model's parameters."""
        support, query = (self._tasks(episodes, part) for part in ("support", "query"))
        _, parameters, modulations = self.learner.adapt(support)
        self.learner.step(parameters, modulations, query, is_training=True)

    def _tasks(self, episodes: dict[str, dict[str, Tensor]], part: str) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(x=self._inputs(modality, samples), y=labels, task_info=DATA_SETS[modality])
            for modality, batch in episodes.items()
            for samples, labels in zip(batch[part], batch[f"{part}_labels"], strict=True)
        ]

    def _inputs(self, modality: str, samples: Tensor) -> Tensor:
        """Samples as the published networks read them, channels first."""
        inputs = self.model.frontends[modality](samples, self.model.dtype)
        if modality == "audio":
            return inputs[:, None]
        return inputs.transpose(1, 2) if modality == "text" else inputs


def share_parameters(published: nn.Module, ours: nn.Module, rename: Callable[[str], str | None]) -> None:
    """
    Puts our parameters in the place of the published network's, except for those that it does not use.

    Raises:
        `ValueError`: a parameter has no counterpart, or one of another shape.
    """
    own = dict(ours.named_parameters())
    for name, parameter in list(published.named_parameters()):
        new_name = rename(name)
        if new_name is None:
            continue
        if name.startswith("embeddings.") and new_name not in own:  # of a modality that is not compared
            continue
        if new_name not in own or own[new_name].shape != parameter.shape:
            raise ValueError(f"the published {name} {tuple(parameter.shape)} has no counterpart of its shape")
        *path, last = name.split(".")
        published.get_submodule(".".join(path))._parameters[last] = own[new_name]
    published.to(next(ours.parameters()).dtype)  # running statistics; the parameters have this dtype already
