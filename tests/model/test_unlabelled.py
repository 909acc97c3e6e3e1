"""Unlabelled samples refine the prototypes: soft k-means in the model, and its gradient."""

import pytest
import torch
import torch.nn.functional as F

from modeling_msmaml import MSMAMLConfig
from modeling_msmaml.model.soft_kmeans import refined_prototypes

from ..toys import N_WAY, raw_inputs, tiny_episodes, tiny_model

SETTINGS = {"head": "prototype", "adapted_parameters": "head", "norm": "group", "soft_kmeans_steps": 2}


def with_unlabelled(modality: str = "image", samples: int = 4):
    episodes = tiny_episodes([modality])
    raw = episodes[modality]["support"]
    generator = torch.Generator().manual_seed(9)
    episodes[modality]["unlabelled"] = raw_inputs(modality, (len(raw), samples, *raw.shape[2:])[: raw.dim()], generator)
    return episodes


def test_one_step_is_the_formula_of_the_paper_on_unit_vectors():
    """The paper's own form: shares by squared distances, means over labelled and unlabelled samples."""
    generator = torch.Generator().manual_seed(0)
    support, unlabelled = (
        F.normalize(torch.randn(1, n, 5, generator=generator, dtype=torch.float64), dim=-1) for n in (6, 7)
    )
    labels = torch.tensor([[0, 0, 1, 1, 2, 2]])
    sums = torch.stack([support[0, labels[0] == c].sum(dim=0) for c in range(3)])
    prototypes = F.normalize(sums, dim=-1)
    distances = torch.cdist(unlabelled[0], prototypes).square()
    shares = (-distances).softmax(dim=1)
    means = (sums + shares.T @ unlabelled[0]) / (2 + shares.sum(dim=0))[:, None]
    refined = refined_prototypes(
        prototypes[None], support, labels, unlabelled, torch.full((1, 1, 1), 2.0, dtype=torch.float64), 1
    )
    torch.testing.assert_close(refined[0], F.normalize(means, dim=-1))


def test_unlabelled_samples_draw_prototypes_to_the_middle_of_their_clusters():
    angles = torch.tensor([0.3, 1.4]), torch.tensor([0.0, 0.05, -0.05, 1.6, 1.65, 1.55])
    support, unlabelled = (torch.stack([a.cos(), a.sin()], dim=-1)[None] for a in angles)
    refined = refined_prototypes(support, support, torch.tensor([[0, 1]]), unlabelled, torch.full((1, 1, 1), 50.0), 5)[
        0
    ]
    found = torch.atan2(refined[:, 1], refined[:, 0])
    assert abs(found[0] - 0.075) < 0.02 and abs(found[1] - 1.55) < 0.02  # the means of 0.3, 0, 0.05, -0.05 and so on


def test_forward_and_adapt_agree_and_without_unlabelled_samples_nothing_changes():
    model = tiny_model(**SETTINGS).eval()
    episodes = with_unlabelled()
    batch = episodes["image"]
    output = model(episodes)
    adapted = model.adapt("image", batch["support"], batch["support_labels"], unlabelled=batch["unlabelled"])
    torch.testing.assert_close(model.classify(adapted, batch["query"]), output.logits["image"])
    del batch["unlabelled"]
    inductive = model(episodes).logits["image"]
    assert not torch.allclose(inductive, output.logits["image"])
    plain = tiny_model(**{**SETTINGS, "soft_kmeans_steps": 0}).eval()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(plain(episodes).logits["image"], inductive)


def test_outer_gradient_goes_through_the_refinement():
    model = tiny_model(**SETTINGS)
    episodes = with_unlabelled()
    loss = model(episodes).loss
    loss.backward()
    name, parameter = next((n, p) for n, p in model.named_parameters() if n.endswith("convolutions.0.weight"))
    direction = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1), dtype=parameter.dtype)
    analytical, values = (parameter.grad * direction).sum(), []
    with torch.no_grad():
        for step in (1e-6, -2e-6):
            parameter.add_(step * direction)
            values.append(model(episodes).loss)
    assert ((values[0] - values[1]) / 2e-6).item() == pytest.approx(analytical.item(), rel=1e-4, abs=1e-9), name


def test_samples_without_use_are_refused():
    with pytest.raises(ValueError, match="soft_kmeans_steps makes use of unlabelled samples"):
        tiny_model(**{**SETTINGS, "soft_kmeans_steps": 0})(with_unlabelled())
    with pytest.raises(ValueError, match="soft_kmeans_steps=1 has no effect with head='linear'"):
        MSMAMLConfig(soft_kmeans_steps=1)
    model, batch = tiny_model(**SETTINGS), with_unlabelled()["image"]
    with pytest.raises(ValueError, match=r"unlabelled has shape \(1, "):
        model.adapt("image", batch["support"], batch["support_labels"], N_WAY, batch["unlabelled"][:1])
