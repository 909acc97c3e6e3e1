"""What every baseline computes: the formula of its paper, whatever the classes are called; training; saving."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_msmaml import MSMAMLModel

from ..toys import K_SHOT, N_WAY
from .formulas import FORMULAS
from .tiny_baselines import METHODS, episodes_of, features_of, model_of

# Of three classes, with equal and with other numbers of support samples.
SHOTS = ([0, 0, 1, 1, 2, 2], [2, 0, 1, 0, 0, 0])


@pytest.mark.parametrize("labels", SHOTS, ids=["equal", "unequal"])
@pytest.mark.parametrize("name", METHODS)
def test_logits_are_those_of_the_formula(name, labels):
    model, batch = model_of(name), episodes_of(name)["image"]
    labels = torch.tensor(labels)
    adapted = model.adapt("image", batch["support"], labels.expand(2, -1))
    logits = model.classify(adapted, batch["query"])
    support, query = (features_of(model, batch[part]) for part in ("support", "query"))
    for task in range(2):
        expected = FORMULAS[name](model, support[task], labels, query[task])
        torch.testing.assert_close(logits[task], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(order=st.permutations(range(N_WAY)), rows=st.permutations(range(N_WAY * K_SHOT)), seed=st.integers(0, 3))
def test_other_numbers_of_the_classes_permute_the_logits(name, order, rows, seed):
    """And the order of the support samples does not matter."""
    model, batch = model_of(name), episodes_of(name, tasks=1, seed=seed)["image"]
    labels, order = batch["support_labels"], torch.tensor(order)
    logits = model.classify(model.adapt("image", batch["support"], labels), batch["query"])
    again = model.classify(model.adapt("image", batch["support"][:, rows], order[labels][:, rows]), batch["query"])
    torch.testing.assert_close(again[..., order], logits, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", METHODS)
def test_no_query_has_a_part_in_another(name):
    model, batch = model_of(name), episodes_of(name)["image"]
    adapted = model.adapt("image", batch["support"], batch["support_labels"])
    together = model.classify(adapted, batch["query"])
    torch.testing.assert_close(together[:, :1], model.classify(adapted, batch["query"][:, :1]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", METHODS)
def test_training_lowers_the_loss(name):
    model, batch = model_of(name).train(), episodes_of(name, tasks=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = model(batch).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0]


@pytest.mark.parametrize("name", METHODS)
def test_every_part_is_trained(name):
    model = model_of(name).train()
    model(episodes_of(name)).loss.backward()
    assert [own for own, value in model.named_parameters() if value.grad is None] == []


@pytest.mark.parametrize("name", METHODS)
def test_a_saved_model_gives_the_same_logits(name, tmp_path):
    model, batch = model_of(name), episodes_of(name)
    model.train()
    model(batch)
    batch["image"].pop("class_ids", None)
    expected = model.eval()(batch).logits["image"]
    model.save_pretrained(tmp_path)
    again = MSMAMLModel.from_pretrained(tmp_path, dtype=torch.float64).eval()
    assert torch.equal(again(batch).logits["image"], expected)


@pytest.mark.parametrize("name", METHODS)
def test_tasks_of_other_numbers_of_classes(name):
    model, batch = model_of(name), episodes_of(name)["image"]
    adapted = model.adapt("image", batch["support"], torch.tensor([[0, 1, 2, 3, 4, 4]] * 2))
    assert model.classify(adapted, batch["query"]).shape == (2, 12, 5)


@pytest.mark.parametrize("name", METHODS)
def test_batch_norm_uses_the_statistics_that_the_config_says(name):
    """Of the support set, where no query has a part in another; else of all queries."""
    for where, same in (("support", True), ("transductive", False)):
        model = model_of(name, norm="batch", norm_statistics=where)
        batch = episodes_of(name)["image"]
        adapted = model.adapt("image", batch["support"], batch["support_labels"])
        together, alone = (model.classify(adapted, batch["query"][:, :number]) for number in (12, 2))
        assert torch.allclose(together[:, :2], alone, rtol=1e-9) is same
