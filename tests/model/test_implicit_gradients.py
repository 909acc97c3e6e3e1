"""Implicit gradients against closed forms, unrolled loops and finite differences, in float64."""

import pytest
import torch

from modeling_msmaml.model.implicit_gradients import adapt_implicitly, conjugate_gradients
from modeling_msmaml.model.inner_loop import adapt
from modeling_msmaml.model.inner_momentum import Momentum
from modeling_msmaml.model.inner_sgd import SGD

from ..toys import tiny_episodes, tiny_model
from .test_inner_loop import peak_of_a_step, wide_episodes
from .test_outer_gradient import finite_difference, gradients, random_direction

TASKS, SIZE, WEIGHT = 3, 5, 0.7


def sample(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64).requires_grad_()


def symmetric(number: int = TASKS, size: int = SIZE) -> torch.Tensor:
    root = torch.randn(number, size, size, dtype=torch.float64)
    return root @ root.transpose(1, 2) / size


def test_conjugate_gradients_solve_each_task_by_itself():
    torch.manual_seed(0)
    matrix, right = symmetric() + torch.eye(SIZE), sample(TASKS, SIZE).detach()
    right[1] = 0  # solved before it begins

    def product(vectors):
        return list((matrix @ torch.cat(vectors, dim=1)[:, :, None])[..., 0].split([2, 3], dim=1))

    solution = torch.cat(conjugate_gradients(product, right.split([2, 3], dim=1), SIZE), dim=1)
    torch.testing.assert_close(solution, torch.linalg.solve(matrix, right))
    # A direction in which the matrix is negative ends the task, and no other.
    matrix[0] = -matrix[0]
    again = torch.cat(conjugate_gradients(product, right.split([2, 3], dim=1), 2 * SIZE), dim=1)
    assert again.isfinite().all() and not again[0].any()
    torch.testing.assert_close(again[1:], solution[1:])


def test_gradients_of_a_quadratic_are_those_of_its_closed_form():
    torch.manual_seed(0)
    matrix, start, target = symmetric(), sample(TASKS, SIZE), sample(TASKS, SIZE)

    def loss(parameters, target):
        p = torch.cat([parameters["a"], parameters["b"]], dim=1)
        return (p * ((matrix @ p[..., None])[..., 0] / 2 - target)).sum(dim=1)

    parts = {"a": start[:, :2], "b": start[:, 2:]}
    path, losses, _ = adapt_implicitly(
        loss,
        parts,
        (target,),
        optimizer=SGD(0.2),
        num_inner_steps=400,
        proximal_weight=WEIGHT,
        conjugate_gradient_steps=SIZE,
    )
    minimum = torch.cat([path[-1]["a"], path[-1]["b"]], dim=1)
    identity = torch.eye(SIZE, dtype=torch.float64)
    expected = torch.linalg.solve(matrix + WEIGHT * identity, target + WEIGHT * start)
    torch.testing.assert_close(minimum, expected)
    assert losses.shape == (TASKS, 400) and not losses.requires_grad and (losses[:, -1] < losses[:, 0]).all()
    weights = torch.linspace(-1, 2, SIZE, dtype=torch.float64)
    actual = torch.autograd.grad((weights * minimum**2).sum(), (start, target))
    wanted = torch.autograd.grad((weights * expected**2).sum(), (start, target))
    torch.testing.assert_close(actual, wanted, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("optimizer", [SGD(0.3), Momentum(0.2, momentum=0.5)], ids=["sgd", "momentum"])
def test_gradients_of_a_convex_loss_are_those_of_the_unrolled_loop_once_it_has_converged(optimizer):
    """Logistic regression, whose Hessian is not constant; inputs stand for what the outer loop trains besides."""
    torch.manual_seed(0)
    inputs, start = sample(TASKS, 6, 4), sample(TASKS, 4)
    labels = torch.tensor([0, 1, 0, 1, 1, 0], dtype=torch.float64)

    def loss(parameters, inputs):
        logits = (inputs @ parameters["w"][..., None])[..., 0]
        return torch.nn.functional.softplus(logits).mean(1) - (labels * logits).mean(1)

    def with_term(parameters, inputs, start):
        return loss(parameters, inputs) + WEIGHT / 2 * (parameters["w"] - start).square().sum(1)

    implicit, _, _ = adapt_implicitly(
        loss,
        {"w": start},
        (inputs,),
        optimizer=optimizer,
        num_inner_steps=150,
        proximal_weight=WEIGHT,
        conjugate_gradient_steps=4,
    )
    unrolled, _, _ = adapt(
        with_term, {"w": start}, (inputs, start.view_as(start)), optimizer=optimizer, num_inner_steps=150
    )
    found = []
    for path in (implicit, unrolled):
        found.append(torch.autograd.grad(path[-1]["w"].pow(3).sum(), (start, inputs)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-7, atol=1e-9)


HEAD = {
    "adapted_parameters": "head",
    "norm": "group",
    "outer_gradient": "implicit",
    "inner_grad_clip": None,
    "proximal_weight": 0.5,
    "conjugate_gradient_steps": 40,
    "num_inner_steps": 250,
    "inner_lr": 0.2,
}


@pytest.mark.parametrize("head", ["linear", "prototype"])
def test_a_model_s_outer_gradient_agrees_with_finite_differences(head):
    """The loss of a classifier alone is convex, so that the inner loop reaches its minimum; embeddings, layers and the
    task encoder are in the loss besides."""
    scale = {"cosine_scale": 5.0} if head == "prototype" else {}
    model, episodes = tiny_model(head=head, **HEAD, **scale), tiny_episodes(["image"], tasks=1)
    _, actual = gradients(model, episodes)
    generator = torch.Generator().manual_seed(1)
    for part in ("task_network.", "task_encoder."):
        own = [name for name, _ in model.named_parameters() if name.startswith(part) and actual[name] is not None]
        along = random_direction(model, own, generator)
        analytical = sum((actual[name] * along[name]).sum().item() for name in own)
        assert analytical == pytest.approx(finite_difference(model, episodes, along, 1e-5), rel=1e-4, abs=1e-8), part


def test_a_network_of_layers_trains_and_evaluates():
    model, episodes = tiny_model(torch.float32, outer_gradient="implicit", conjugate_gradient_steps=3), tiny_episodes()
    _, found = gradients(model, episodes)
    for name, gradient in found.items():
        assert gradient is not None and gradient.isfinite().all(), name
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model(episodes).loss.item()
    for _ in range(3):
        optimizer.zero_grad()
        model(episodes).loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert model.eval()(episodes).loss.item() < before


def test_memory_does_not_grow_with_the_number_of_inner_steps():
    episodes = wide_episodes()
    few, many = (peak_of_a_step(episodes, num_inner_steps=n, outer_gradient="implicit") for n in (5, 50))
    assert many < 1.05 * few


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first_order": True}, "first_order=True has no effect with outer_gradient='implicit'"),
        ({"inner_loop_checkpointing": True}, "inner_loop_checkpointing=True has no effect"),
        ({"inner_rates": "per_element"}, "trains how the inner loop goes"),
        ({"inner_optimizer": "meta_curvature"}, "trains how the inner loop goes"),
        ({"num_inner_steps": 0}, "has no effect with num_inner_steps=0"),
        ({"outer_gradient": "unrolled", "proximal_weight": 1.0}, "proximal_weight=1.0 has no effect"),
    ],
    ids=str,
)
def test_options_that_have_no_part_in_it_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_model(**{"outer_gradient": "implicit", **changes})


def test_what_needs_the_path_is_refused():
    model, batch = tiny_model(outer_gradient="implicit"), tiny_episodes(["image"])["image"]
    adapted = model.adapt("image", batch["support"], batch["support_labels"])
    with pytest.raises(ValueError, match="cannot go on from adapted tasks"):
        model.adapt_further(adapted, batch["support"], batch["support_labels"])
    model.multi_step_weights = (0.2, 0.3, 0.5)
    with pytest.raises(ValueError, match="multi_step_loss_steps does not go with"):
        model({"image": batch})
