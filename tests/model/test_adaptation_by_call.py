"""Steps, rates and temperature by call, going on from adapted tasks, more steps in evaluation, and other losses."""

import pytest
import torch
import torch.nn.functional as F

from modeling_msmaml import (
    FewShotClassifier,
    MSMAMLModel,
    TaskLoss,
    register_task_loss,
)
from modeling_msmaml.inference.saved_tasks import load_tasks, save_tasks
from modeling_msmaml.model import task_loss
from modeling_msmaml.training.evaluation import without_inner_loop

from .. import reference
from ..own_data import MAKERS, SAMPLING_RATE, save_tiny_model
from ..toys import N_WAY, tiny_config, tiny_episodes, tiny_model
from .test_outer_gradient import gradients

RATES = {"inner_rates": "per_layer_per_step"}


def image_tasks():
    batch = tiny_episodes(["image"])["image"]
    return batch["support"], batch["support_labels"], batch["query"]


@pytest.mark.parametrize("given", [{"num_inner_steps": 1}, {"inner_lr": 0.02}, {"num_inner_steps": 0, "inner_lr": 1}])
def test_settings_of_one_call_are_those_of_a_config_and_change_no_other(given):
    support, labels, query = image_tasks()
    model, meant = tiny_model().eval(), tiny_model(**given).eval()
    before = model.config.to_dict()
    adapted, expected = model.adapt("image", support, labels, **given), meant.adapt("image", support, labels)
    assert torch.equal(model.classify(adapted, query), meant.classify(expected, query))
    assert model.config.to_dict() == before


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"inner_optimizer": "momentum", "inner_optimizer_kwargs": {"nesterov": True}},
        {"inner_optimizer": "adam", "inner_lr": 0.01, **RATES},
        {"inner_optimizer": "meta_curvature", "adapted_parameters": "lora", "lora_layers": ["embeddings"]},
        {"head": "prototype", "norm": "group", "adapted_parameters": "head", **RATES},
        {"norm_statistics": "support"},
    ],
    ids=str,
)
def test_going_on_is_to_take_all_steps_at_once(changes):
    support, labels, query = image_tasks()
    model = tiny_model(**changes).eval()
    for number, parameter in enumerate(model.inner_rates.parameters() if model.inner_rates else ()):
        parameter.data *= torch.linspace(1, 2, len(parameter)).view(-1, *[1] * (parameter.dim() - 1)) + 0.1 * number
    at_once = model.adapt("image", support, labels, num_inner_steps=5)
    begun = model.adapt("image", support, labels, num_inner_steps=2)
    kept = {name: value.clone() for name, value in begun.parameters.items()}
    gone_on = model.adapt_further(begun, support, labels, num_inner_steps=3)
    assert torch.equal(gone_on.support_loss, at_once.support_loss)
    assert torch.equal(model.classify(gone_on, query), model.classify(at_once, query))
    assert all(torch.equal(begun.parameters[name], value) for name, value in kept.items())


def test_going_on_can_be_differentiated_and_works_in_inference_mode():
    support, labels, query = image_tasks()
    model = tiny_model(inner_optimizer="momentum")
    found = []
    for parts in ((5,), (2, 3)):
        model.zero_grad()
        adapted = model.adapt("image", support, labels, num_inner_steps=parts[0])
        for steps in parts[1:]:
            adapted = model.adapt_further(adapted, support, labels, num_inner_steps=steps)
        model.classify(adapted, query).square().sum().backward()
        found.append(model.task_network.convolutions[0].weight.grad)
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)
    with torch.inference_mode():
        adapted = model.adapt_further(model.adapt("image", support, labels), support, labels)
    assert adapted.support_loss.shape == (2, 6)


def test_tasks_that_were_saved_go_on(tmp_path):
    support, labels, _ = image_tasks()
    model = tiny_model(torch.float32, inner_optimizer="adam", inner_lr=0.01).eval()
    with torch.no_grad():
        begun = model.adapt("image", support, labels)
        save_tasks(begun, tmp_path / "tasks.safetensors")
        again = load_tasks(tmp_path / "tasks.safetensors")
        own, others = (model.adapt_further(tasks, support, labels) for tasks in (begun, again))
    assert torch.equal(own.support_loss, others.support_loss)


def test_a_temperature_divides_logits():
    support, labels, query = image_tasks()
    model = tiny_model().eval()
    adapted = model.adapt("image", support, labels)
    expected = model.classify(adapted, query) / 4
    torch.testing.assert_close(model.classify(adapted, query, temperature=4.0), expected)
    with pytest.raises(ValueError, match="temperature=0 must be positive"):
        model.classify(adapted, query, temperature=0)


@pytest.mark.parametrize(
    ("changes", "call", "message"),
    [
        ({}, {"num_inner_steps": -1}, "num_inner_steps=-1 must be an integer of at least 0"),
        ({}, {"inner_lr": 0.0}, "inner_lr=0.0 must be positive"),
        (RATES, {"inner_lr": 0.1}, "inner_lr=0.1 has no effect: this model has trained rates"),
        ({"inner_optimizer": "meta_sgd"}, {"inner_lr": 0.1}, "this model has trained rates"),
    ],
    ids=str,
)
def test_settings_of_a_call_that_cannot_be_are_refused(changes, call, message):
    support, labels, _ = image_tasks()
    model = tiny_model(**changes)
    with pytest.raises(ValueError, match=message):
        model.adapt("image", support, labels, **call)
    with pytest.raises(ValueError, match=message):
        model.adapt_further(model.adapt("image", support, labels), support, labels, **call)


def test_going_on_with_other_tasks_is_refused():
    support, labels, _ = image_tasks()
    model = tiny_model()
    adapted = model.adapt("image", support, labels)
    with pytest.raises(ValueError, match=r"support has shape \(1, .*expected \(2, samples"):
        model.adapt_further(adapted, support[:1], labels[:1])
    with pytest.raises(ValueError, match=f"from 0 to {N_WAY - 1}"):
        model.adapt_further(adapted, support, labels + 1)


def test_evaluation_may_take_more_steps_than_training(tmp_path):
    """The last trained rate goes on, and the classifier takes them too, unless it is told how many."""
    changes = {"num_eval_inner_steps": 7, "inner_lr": 0.05, **RATES}
    folder, episodes = save_tiny_model(tmp_path, **changes), tiny_episodes()
    model = MSMAMLModel.from_pretrained(folder)
    assert model.train()(episodes).support_loss["image"].shape == (2, 3)
    assert model.eval()(episodes).support_loss["image"].shape == (2, 7)
    longer = MSMAMLModel.from_pretrained(folder, num_inner_steps=7, num_eval_inner_steps=None).eval()
    assert torch.equal(longer(episodes).loss, model(episodes).loss)
    with without_inner_loop(model):
        assert model(episodes).support_loss["image"].shape == (2, 0)
    assert model.num_inner_steps == 7
    items, labels = [MAKERS["image"](kind, number) for kind in range(3) for number in range(2)], [0, 0, 1, 1, 2, 2]
    for steps, expected in ((None, 8), (2, 3)):
        classifier = FewShotClassifier(str(folder), sampling_rate=SAMPLING_RATE, num_inner_steps=steps)
        assert len(classifier.fit(items, labels).support_losses_) == expected
    classifier.save_pretrained(tmp_path / "fitted")
    assert MSMAMLModel.from_pretrained(tmp_path / "fitted").config.num_eval_inner_steps == 7


# Losses


def numbers(outputs: int, tasks: int = 2):
    """Pictures with numbers for labels."""
    generator, batch = torch.Generator().manual_seed(3), dict(tiny_episodes(["image"], tasks)["image"])
    for part in ("support", "query"):
        shape = (*batch[part].shape[:2], outputs)
        batch[f"{part}_labels"] = torch.randn(shape, generator=generator, dtype=torch.float64)
    return {"image": batch}


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("first_order", [False, True])
def test_regression_has_the_outer_gradient_of_a_plain_loop(outputs, first_order, monkeypatch):
    changes = {"task_loss": "squared_error", "n_way": outputs, "first_order": first_order}
    model, episodes = tiny_model(**changes, inner_grad_clip=None), numbers(outputs)
    loss, actual = gradients(model, episodes)
    monkeypatch.setattr(F, "cross_entropy", F.mse_loss)  # the loss of the plain loop
    expected_loss, expected = reference.outer_gradient(model, episodes)
    torch.testing.assert_close(loss, expected_loss.detach(), rtol=1e-12, atol=0)
    for key, gradient in expected.items():
        if gradient is not None and not key.endswith(".bias"):
            torch.testing.assert_close(actual[key], gradient, rtol=1e-8, atol=1e-11, msg=key)


def test_a_loss_of_one_s_own_is_that_of_both_loops(monkeypatch):
    monkeypatch.setattr(task_loss, "_REGISTRY", dict(task_loss._REGISTRY))

    def doubled(outputs, targets):
        losses = F.cross_entropy(outputs.transpose(1, 2), targets, reduction="none")
        return 2 * losses.mean(dim=1)

    register_task_loss("doubled", TaskLoss(doubled))
    episodes = tiny_episodes()
    own = tiny_model(task_loss="doubled", inner_lr=0.05, inner_grad_clip=None)
    plain = tiny_model(inner_lr=0.1, inner_grad_clip=None)
    torch.testing.assert_close(own(episodes).loss, 2 * plain(episodes).loss)
    torch.testing.assert_close(own(episodes).support_loss, {k: 2 * v for k, v in plain(episodes).support_loss.items()})
    own.multi_step_weights = plain.multi_step_weights = (0.2, 0.3, 0.5)
    torch.testing.assert_close(own(episodes).loss, 2 * plain(episodes).loss)
    with pytest.raises(TypeError, match="must be a TaskLoss"):
        register_task_loss("function", doubled)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task_loss": "hinge"}, "task_loss='hinge' is unknown; registered are cross_entropy, squared_error"),
        ({"task_loss": "squared_error", "label_smoothing": 0.1}, "label_smoothing=0.1 has no effect"),
        ({"task_loss": "squared_error", "head": "prototype"}, "head='prototype' needs classes"),
        ({"task_loss": "squared_error", "task_encoder_pooling": "class"}, "task_encoder_pooling='class' needs classes"),
        ({"n_way": 1}, "n_way=1 must be an integer of at least 2"),
    ],
    ids=str,
)
def test_losses_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        MSMAMLModel(tiny_config(**changes))


def test_targets_of_another_kind_are_refused():
    model = tiny_model(task_loss="squared_error", n_way=2)
    with pytest.raises(
        ValueError, match=r"\['support_labels'\] has shape \(2, 6\) and dtype torch.int64, expected floats"
    ):
        model(tiny_episodes(["image"]))
    with pytest.raises(ValueError, match=r"expected floats of shape \(2, 6, 2\)"):
        model(numbers(3))
    batch = numbers(2)["image"]
    with pytest.raises(ValueError, match="support_labels has shape"):
        model.adapt("image", batch["support"], batch["support_labels"][..., :1])
