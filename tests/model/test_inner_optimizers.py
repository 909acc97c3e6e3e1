"""Inner optimisers against plain loops, PyTorch's own optimisers and finite differences, in float64."""

from dataclasses import dataclass

import pytest
import torch

from modeling_msmaml import DescentOptimizer, FewShotClassifier, MSMAMLModel, register_inner_optimizer
from modeling_msmaml.model import inner_optimizers
from modeling_msmaml.model.inner_adam import Adam
from modeling_msmaml.model.inner_loop import adapt
from modeling_msmaml.model.inner_meta_curvature import MetaCurvature, transformed
from modeling_msmaml.model.inner_momentum import Momentum
from modeling_msmaml.model.inner_optimizers import inner_optimizer_class
from modeling_msmaml.model.inner_sgd import SGD
from modeling_msmaml.model.options import option, positive

from .. import reference
from ..own_data import MAKERS, SAMPLING_RATE, save_tiny_model
from ..toys import tiny_config, tiny_episodes, tiny_model
from .test_outer_gradient import finite_difference, gradients, random_direction

STEPS = 4
# What each needs of a config, with trained parameters of every kind among them.
OPTIMIZERS = {
    "momentum": {"inner_optimizer_kwargs": {"momentum": 0.8}},
    "nesterov": {"inner_optimizer": "momentum", "inner_optimizer_kwargs": {"momentum": 0.8, "nesterov": True}},
    "momentum with trained rates": {"inner_optimizer": "momentum", "inner_rates": "per_layer_per_step"},
    "adam": {"inner_lr": 0.01, "inner_optimizer_kwargs": {"beta1": 0.8, "beta2": 0.9, "eps": 0.05}},
    "adam with trained rates": {
        "inner_optimizer": "adam",
        "inner_lr": 0.01,
        "inner_rates": "per_element",
        "inner_optimizer_kwargs": {"eps": 0.05},
    },
    "meta_sgd": {},
    "meta_curvature": {},
    "meta_curvature with trained rates": {"inner_optimizer": "meta_curvature", "inner_rates": "per_layer_per_step"},
}
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


def changes_of(name: str) -> dict:
    return {"inner_optimizer": name, "inner_grad_clip": 0.3, **OPTIMIZERS[name]}


def model_of(name: str, dtype: torch.dtype = torch.float64, **more) -> MSMAMLModel:
    """A tiny model whose trained parameters of the optimiser are no longer those that training starts from."""
    model = tiny_model(dtype, **{**changes_of(name), **more})
    generator = torch.Generator().manual_seed(5)
    for parameter in model.inner_rates.parameters() if model.inner_rates is not None else ():
        noise = torch.rand(parameter.shape, generator=generator, dtype=dtype)
        parameter.data *= 1 + 0.5 * noise
        if parameter.dim() == 2 and len(parameter) > 1:
            parameter.data += 0.1 * noise
    return model


def plain_step(step: int, values: dict, found: dict, state: dict, model: MSMAMLModel) -> dict:
    """One step, written from the formulas for a single task, parameter by parameter."""
    config, trained, after = model.config, dict(model.inner_rates.named_parameters() if model.inner_rates else ()), {}
    kind, options = config.inner_optimizer, config.inner_optimizer_kwargs or {}
    for key, g in found.items():
        g = g.clamp(-config.inner_grad_clip, config.inner_grad_clip)
        rate, own = config.inner_lr, key.replace(".", "_")
        if (rates := trained.get(f"rates.{own}", trained.get(f"rates.rates.{own}"))) is not None:
            rate = rates[step] if config.inner_rates == "per_layer_per_step" else rates
        if kind == "momentum":
            mu = options.get("momentum", 0.9)
            state[key] = mu * state.get(key, 0) + g
            g = g + mu * state[key] if options.get("nesterov") else state[key]
        elif kind == "adam":
            b1, b2, eps = options.get("beta1", 0.9), options.get("beta2", 0.999), options["eps"]
            m, v = state.get(key, (0, 0))
            m, v = state[key] = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
            hat = v / (1 - b2 ** (step + 1))
            root = torch.where(hat > 0, hat, torch.ones_like(hat)).sqrt() * (hat > 0)
            g = m / (1 - b1 ** (step + 1)) / (root + eps)
        elif kind == "meta_curvature":
            factors = [
                trained[f"matrices.{own}.factor{i}"] for i in (1, 2, 3) if f"matrices.{own}.factor{i}" in trained
            ]
            if g.dim() == 1:
                g = g * factors[0]
            elif g.dim() == 2:
                g = (factors[0] * g if key.startswith("classifier") else factors[0] @ g) @ factors[1].T
            else:
                g = torch.einsum("ao,bi,cp,oip->abc", *factors, g.flatten(2)).reshape(g.shape)
        after[key] = values[key] - rate * g
    return after


@every_optimizer
@pytest.mark.parametrize("first_order", [False, True], ids=["second order", "first order"])
def test_an_outer_gradient_is_that_of_a_plain_loop_over_tasks(name, first_order):
    model, episodes = model_of(name, first_order=first_order), tiny_episodes(["audio", "image"])
    loss, actual = gradients(model, episodes)
    expected_loss, expected = reference.outer_gradient(model, episodes, step=plain_step)
    torch.testing.assert_close(loss, expected_loss.detach(), rtol=1e-12, atol=1e-12)
    for key, gradient in expected.items():
        # A bias ahead of a batch norm has a gradient of nothing but rounding, which Adam enlarges.
        if gradient is not None and not key.endswith(("_bias", ".bias")):
            torch.testing.assert_close(actual[key], gradient, rtol=1e-7, atol=1e-11, msg=key)


@every_optimizer
def test_outer_gradient_agrees_with_finite_differences(name):
    model, episodes = model_of(name, inner_grad_clip=None), tiny_episodes(["image"], tasks=1)
    _, actual = gradients(model, episodes)
    generator = torch.Generator().manual_seed(1)
    parameters = [key for key, _ in model.named_parameters() if actual.get(key) is not None]
    for part in ("task_network.", "inner_rates."):
        own = [key for key in parameters if key.startswith(part) and not key.endswith(".bias")]
        along = random_direction(model, own, generator)
        analytical = sum((actual[key] * along[key]).sum().item() for key in own)
        assert analytical == pytest.approx(finite_difference(model, episodes, along, 1e-6), rel=1e-5, abs=1e-9), part


@every_optimizer
def test_checkpointing_changes_no_gradient(name):
    episodes, steps = tiny_episodes(["text"], tasks=1), {"num_inner_steps": 7}
    _, expected = gradients(model_of(name, **steps), episodes)
    _, actual = gradients(model_of(name, **steps, inner_loop_checkpointing=True), episodes)
    for key, gradient in expected.items():
        torch.testing.assert_close(actual[key], gradient, rtol=1e-9, atol=1e-12, msg=key)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (SGD(0.1), lambda p: torch.optim.SGD(p, 0.1)),
        (Momentum(0.1, momentum=0.7), lambda p: torch.optim.SGD(p, 0.1, momentum=0.7)),
        (
            Momentum(0.1, momentum=0.7, nesterov=True),
            lambda p: torch.optim.SGD(p, 0.1, momentum=0.7, nesterov=True),
        ),
        (Adam(0.1), lambda p: torch.optim.Adam(p, 0.1)),
        (Adam(0.1, beta1=0.5, beta2=0.6, eps=0.1), lambda p: torch.optim.Adam(p, 0.1, betas=(0.5, 0.6), eps=0.1)),
    ],
    ids=["sgd", "momentum", "nesterov", "adam", "adam with options"],
)
def test_steps_are_those_of_pytorch_s_optimisers(ours, theirs):
    torch.manual_seed(0)
    start = {"a": torch.randn(2, 3, dtype=torch.float64), "b": torch.randn(2, dtype=torch.float64)}

    def loss(parameters):
        return (parameters["a"] ** 4).sum(1) + (parameters["a"][:, 0] * parameters["b"]).sin()

    with torch.no_grad():
        path, _, _ = adapt(loss, start, optimizer=ours, num_inner_steps=STEPS)
    expected = {key: torch.nn.Parameter(value.clone()) for key, value in start.items()}
    optimizer = theirs(expected.values())
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(expected).sum().backward()
        optimizer.step()
    for key, value in expected.items():
        torch.testing.assert_close(path[-1][key], value.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adam_is_differentiable_where_gradients_are_zero(dtype):
    """At 0 the gradient of a^2 is 0 but not its derivative; b is in no loss, so that its gradient stays 0."""
    start = torch.zeros(1, 2, dtype=dtype, requires_grad=True)
    unused = torch.ones(1, 2, dtype=dtype, requires_grad=True)
    path, _, _ = adapt(
        lambda p: (p["a"] ** 2).sum(1), {"a": start, "b": unused}, optimizer=Adam(0.1, eps=0.5), num_inner_steps=1
    )
    by_start, by_unused = torch.autograd.grad(path[-1]["a"].sum() + path[-1]["b"].sum(), (start, unused))
    # p - 0.1 * 2 p / (|2 p| + 0.5), whose derivative at 0 is 1 - 0.2 / 0.5.
    torch.testing.assert_close(by_start, torch.full_like(start, 0.6))
    torch.testing.assert_close(by_unused, torch.ones_like(unused))


def test_meta_sgd_is_the_name_of_a_rate_for_each_element():
    named, meant = model_of("meta_sgd"), tiny_model(inner_rates="per_element", inner_grad_clip=0.3)
    assert named.state_dict().keys() == meant.state_dict().keys()
    meant.load_state_dict(named.state_dict())
    episodes = tiny_episodes(["image"])
    (loss, own), (expected, other) = gradients(named, episodes), gradients(meant, episodes)
    assert loss == expected
    assert all(torch.equal(own[key], other[key]) for key in own if own[key] is not None)


def test_curvature_starts_as_gradient_descent_and_multiplies_along_every_dimension():
    episodes = tiny_episodes()
    with torch.no_grad():
        curved, plain = (tiny_model(inner_optimizer=kind)(episodes).loss for kind in ("meta_curvature", "sgd"))
    torch.testing.assert_close(curved, plain, rtol=1e-12, atol=0)
    torch.manual_seed(0)
    kernel, factors = torch.randn(2, 4, 3, 5), [torch.randn(n, n) for n in (4, 3, 5)]
    expected = torch.einsum("ao,bi,cp,toip->tabc", *factors, kernel)
    torch.testing.assert_close(transformed(kernel, factors), expected)


@every_optimizer
def test_what_is_trained_of_an_optimiser_is_saved_and_its_start_known(name, tmp_path):
    model, episodes = model_of(name, torch.float32), tiny_episodes(["text"])
    model.save_pretrained(tmp_path / "own")
    again = MSMAMLModel.from_pretrained(tmp_path / "own")
    assert again.config.inner_optimizer_kwargs == changes_of(name).get("inner_optimizer_kwargs")
    assert torch.equal(again(episodes).loss, model(episodes).loss)
    # A checkpoint of plain gradient descent gives none of it.
    tiny_model(torch.float32).save_pretrained(tmp_path / "plain")
    changed = MSMAMLModel.from_pretrained(tmp_path / "plain", **changes_of(name))
    fresh = MSMAMLModel(tiny_config(**changes_of(name)))
    own, expected = ([*m.inner_rates.parameters()] if m.inner_rates is not None else [] for m in (changed, fresh))
    assert len(own) == len(expected) and all(torch.equal(a, b) for a, b in zip(own, expected, strict=True))


@pytest.mark.parametrize("optimizer", ["momentum", "meta_curvature"])
@pytest.mark.parametrize("steps", [2, 5])
def test_rates_of_steps_are_kept_or_repeated_with_any_optimiser(optimizer, steps, tmp_path):
    model = model_of(f"{optimizer} with trained rates", torch.float32)
    model.save_pretrained(tmp_path)
    again = MSMAMLModel.from_pretrained(tmp_path, num_inner_steps=steps)
    model.config.num_inner_steps = steps
    assert torch.equal(again(tiny_episodes()).loss, model(tiny_episodes()).loss)


@pytest.mark.parametrize("name", ["momentum", "adam", "meta_sgd", "meta_curvature"])
def test_a_classifier_adapts_with_the_optimiser_of_its_model(name, tmp_path):
    folder = save_tiny_model(tmp_path, inner_optimizer=name, inner_lr=0.05, num_inner_steps=3)
    items = [MAKERS["image"](kind, number) for kind in range(4) for number in range(2)]
    labels = [kind for kind in range(4) for _ in range(2)]
    classifier = FewShotClassifier.from_pretrained(folder, sampling_rate=SAMPLING_RATE).fit(items, labels)
    assert len(classifier.support_losses_) == 4 and classifier.support_losses_[-1] < classifier.support_losses_[0]
    classifier.save_pretrained(tmp_path / "fitted")
    again = FewShotClassifier.from_pretrained(tmp_path / "fitted")
    assert (again.predict_proba(items) == classifier.predict_proba(items)).all()


@dataclass(frozen=True)
class Softsign(DescentOptimizer):
    """A direction of bounded length, with one option."""

    softness: float = option(0.1, "How large a gradient is half a step.", positive)

    def directions(self, gradients, state, trained):
        return [g / (g.abs() + self.softness) for g in gradients], state


def test_an_optimiser_of_one_s_own_is_one_method_and_its_options(monkeypatch):
    monkeypatch.setattr(inner_optimizers, "_REGISTRY", dict(inner_optimizers._REGISTRY))
    register_inner_optimizer("softsign", Softsign)
    given = {"inner_optimizer": "softsign", "inner_optimizer_kwargs": {"softness": 0.5}, "inner_rates": "per_element"}
    model = tiny_model(**given)
    assert inner_optimizer_class(model.config).from_config(model.config, model.inner_rates).softness == 0.5
    gradients(model, tiny_episodes())
    assert model.inner_rates.rates["classifier_weight"].grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inner_optimizer_kwargs": {"momentum": 0.9}}, "has 'momentum', but inner_optimizer='sgd' takes no options"),
        (
            {"inner_optimizer": "momentum", "inner_optimizer_kwargs": {"mu": 0.9}},
            "inner_optimizer='momentum' takes momentum, nesterov",
        ),
        (
            {"inner_optimizer": "momentum", "inner_optimizer_kwargs": {"momentum": 1.0}},
            r"inner_optimizer_kwargs: momentum=1.0 must be in \[0, 1\)",
        ),
        ({"inner_optimizer": "adam", "inner_optimizer_kwargs": {"eps": "small"}}, "eps='small' must be a number"),
        ({"inner_optimizer": "adam", "num_inner_steps": 0}, "inner_optimizer='adam' has no effect"),
        ({"inner_optimizer": "meta_sgd", "inner_rates": "per_layer_per_step"}, "leave one of them out"),
        ({"inner_optimizer": "adam", "inner_optimizer_kwargs": 0.9}, "inner_optimizer_kwargs=0.9 must be a dict"),
    ],
    ids=str,
)
def test_options_that_fit_no_optimiser_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_model(**changes)


def test_curvature_of_a_classifier_is_shared_by_its_classes():
    """So that a model with prototypes, or of another number of classes, has the same parameters."""
    model = model_of("meta_curvature").eval()
    assert MetaCurvature.trained_module(model.config, {"classifier.bias": (1,)}).of(["classifier.bias"])[0].shape == (
        1,
    )
    batch = tiny_episodes(["image"])["image"]
    order = torch.tensor([2, 0, 3, 1])
    labels, support = torch.arange(4).repeat(2, 1), batch["support"][:, :4]
    logits = model.classify(model.adapt("image", support, labels, n_way=4), batch["query"])
    renamed = model.classify(model.adapt("image", support, order[labels], n_way=4), batch["query"])
    torch.testing.assert_close(renamed[..., order], logits)
