"""The inner loop's derivatives, with and without recomputation, and what it keeps in memory."""

import gc

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from benchmarks.speed.memory import peak_of_tensors, resident_memory
from modeling_msmaml import MSMAMLModel
from modeling_msmaml.model import inner_optimizers
from modeling_msmaml.model.conv_norm import ConvNormLayer, conv_norm_relu
from modeling_msmaml.model.convolution import conv1d
from modeling_msmaml.model.execution import longest, recomputed, segments
from modeling_msmaml.model.inner_loop import KEPT_STEPS, adapt
from modeling_msmaml.model.inner_optimizers import InnerOptimizer, register_inner_optimizer
from modeling_msmaml.model.inner_sgd import SGD
from modeling_msmaml.model.norms import affine_norm, batch_statistics

from ..toys import tiny_config, tiny_episodes, tiny_model
from .test_outer_gradient import gradients


def sample(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "length"),
    [(5, 2, 1, 8), (3, 1, 1, 5), (2, 3, 0, 7), (1, 1, 0, 4), (4, 2, 3, 6), (5, 5, 0, 11), (7, 3, 2, 7)],
)
def test_convolution_has_right_first_and_second_derivatives(kernel, stride, padding, length):
    torch.manual_seed(0)
    arguments = sample(2, 2, 3, length), sample(2, 4, 3, kernel), sample(2, 4)
    expected = torch.stack([torch.nn.functional.conv1d(*one, stride, padding) for one in zip(*arguments, strict=True)])
    torch.testing.assert_close(conv1d(*arguments, stride, padding), expected)
    assert gradcheck(lambda *tensors: conv1d(*tensors, stride, padding), arguments)
    assert gradgradcheck(lambda *tensors: conv1d(*tensors, stride, padding), arguments)


def test_convolution_of_constant_inputs_has_right_derivatives():
    torch.manual_seed(0)
    inputs, weight, bias = sample(1, 2, 3, 8).detach(), sample(1, 4, 3, 5), sample(1, 4)
    assert gradgradcheck(lambda *tensors: conv1d(inputs, *tensors, 2, 1), (weight, bias))


# (inputs, outputs, kernel, stride, padding) of layers on top of each other.
LAYERS = [(2, 4, 5, 2, 1), (4, 3, 3, 1, 1), (3, 2, 3, 2, 0)]


def layer_arguments(tasks: int, layers: int, length: int = 12):
    """Inputs, then weight, bias, scale and shift of each layer."""
    torch.manual_seed(0)
    arguments = [sample(tasks, 3, 2, length)]
    for inputs, outputs, kernel, _, _ in LAYERS[:layers]:
        arguments += [sample(tasks, outputs, inputs, kernel), *(sample(tasks, outputs) for _ in range(3))]
    return tuple(arguments)


def our_layers(inputs, *parameters):
    layers = [
        ConvNormLayer(*parameters[4 * number : 4 * number + 4], *LAYERS[number][3:])
        for number in range(len(parameters) // 4)
    ]
    return conv_norm_relu(inputs, layers, eps=0.1)


def written_layers(hidden, *parameters):
    """The formula of layers for autograd."""
    for number in range(len(parameters) // 4):
        weight, bias, scale, shift = parameters[4 * number : 4 * number + 4]
        geometry = LAYERS[number][3:]
        hidden = torch.stack([F.conv1d(*one, *geometry) for one in zip(hidden, weight, bias, strict=True)])
        hidden = F.relu(affine_norm(hidden, batch_statistics(hidden), scale, shift, eps=0.1))
    return hidden


# One task takes the derivative of PyTorch's own batch norm, several a written one.
@pytest.mark.parametrize("tasks", [1, 2])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_layers_are_the_written_formula_with_right_first_and_second_derivatives(tasks, layers):
    arguments = layer_arguments(tasks, layers)
    torch.testing.assert_close(our_layers(*arguments), written_layers(*arguments))

    def moments(function):
        output = function(*arguments)
        weights = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view_as(output)
        first = torch.autograd.grad((output * weights).sum(), arguments, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), arguments, materialize_grads=True)
        return *first, *second

    ours, written = moments(our_layers), moments(written_layers)
    for actual, expected in zip(ours, written, strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("tasks", [1, 2])
@pytest.mark.parametrize("layers", [1, 2])
def test_layers_have_the_derivatives_of_finite_differences(tasks, layers):
    arguments = layer_arguments(tasks, layers)
    assert gradcheck(our_layers, arguments)
    assert gradgradcheck(our_layers, arguments)


@pytest.mark.parametrize("tasks", [1, 2])
@pytest.mark.parametrize("layers", [1, 2])
def test_layers_of_constant_inputs_and_without_scale_have_right_derivatives(tasks, layers):
    inputs, *parameters = layer_arguments(tasks, layers)
    convolutions = [tensor for number, tensor in enumerate(parameters) if number % 4 < 2]

    def without_scale(*tensors):
        pairs = zip(tensors[::2], tensors[1::2], strict=True)
        return our_layers(inputs.detach(), *(part for pair in pairs for part in (*pair, 1.0, 0.0)))

    assert gradgradcheck(without_scale, convolutions)


def test_layers_refuse_a_third_derivative():
    arguments = layer_arguments(1, 2)
    first = torch.autograd.grad(our_layers(*arguments).square().sum(), arguments[1], create_graph=True)[0]
    with pytest.raises(NotImplementedError, match="twice"):
        torch.autograd.grad(first.square().sum(), arguments[1], create_graph=True)


def test_layers_of_half_precision_and_many_rows_have_finite_derivatives():
    inputs, *parameters = (tensor.detach().half() for tensor in layer_arguments(2, 1, length=4800))
    weight = parameters[0].requires_grad_()
    outputs = our_layers(1e-3 * inputs, weight, *parameters[1:])
    (gradient,) = torch.autograd.grad(outputs, weight, torch.full_like(outputs, 64.0))
    assert gradient.isfinite().all()


def test_layers_without_gradients_are_the_same_and_keep_nothing():
    arguments = layer_arguments(2, 3)
    with torch.no_grad():
        outputs = our_layers(*arguments)
    torch.testing.assert_close(outputs, our_layers(*arguments).detach(), rtol=0, atol=0)
    assert outputs.grad_fn is None


def test_layers_refuse_sequences_that_become_shorter_than_a_window():
    with pytest.raises(ValueError, match=r"2 positions.*kernel_size=3"):
        our_layers(*layer_arguments(1, 3, length=5))


def test_recomputed_functions_nest_and_may_differentiate_inside():
    torch.manual_seed(0)
    x, y = sample(3), sample(3)

    def inner(x, y):
        (slope,) = (
            torch.autograd.grad((x.sin() * y).sum(), x, create_graph=torch.is_grad_enabled())
            if (x.requires_grad)
            else (x.cos() * y,)
        )
        return slope, (x * y).sum()

    def twice(x, y):
        a, _ = recomputed(inner, x, y)
        return recomputed(inner, a, y)

    expected = torch.autograd.grad(inner(inner(x, y)[0], y)[0].sum(), (x, y))
    actual = torch.autograd.grad(recomputed(twice, x, y)[0].sum(), (x, y))
    torch.testing.assert_close(actual, expected)


def forward_runs(number: int, kept: int) -> list[int]:
    """How often each step of a chain runs forwards in all."""
    if number == 1:
        return [1]
    return [1 + runs for i, part in enumerate(segments(number, kept)) for runs in forward_runs(part, kept - i)]


def inputs_kept(number: int, kept: int) -> int:
    """Inputs of parts that are held at most at once beside the chain's own, going through the parts backwards."""
    if number == 1:
        return 0
    return max(i + inputs_kept(part, kept - i) for i, part in enumerate(segments(number, kept)))


@given(st.integers(1, 400), st.integers(1, 7))
def test_divided_chains_keep_few_inputs_and_run_forwards_a_bounded_number_of_times(number, kept):
    assert sum(segments(number, kept)) == number
    assert inputs_kept(number, kept) <= kept
    repeats = max(forward_runs(number, kept)) - 1
    assert repeats == 0 if number == 1 else longest(kept, repeats - 1) < number <= longest(kept, repeats)


def test_recomputed_functions_may_give_back_an_argument_and_constants():
    x, y = sample(3), sample(3)

    def function(x, y):
        return x, x * y, torch.ones(2)

    outputs = recomputed(function, x, y)
    actual = torch.autograd.grad(outputs[0].sum() + outputs[1].sum(), (x, y))
    torch.testing.assert_close(actual, (1 + y.detach(), x.detach()))


@pytest.mark.parametrize("number", [1, 6, 7, 23])
def test_checkpointing_runs_steps_forwards_as_often_as_its_schedule_says(number):
    runs = 0

    def loss(parameters):
        nonlocal runs
        runs += 1
        return (parameters["a"] ** 3).sum(1)

    start = sample(2, 3)
    path, _, _ = adapt(loss, {"a": start}, optimizer=SGD(0.01), num_inner_steps=number, checkpointing=True)
    path[-1]["a"].sum().backward()
    # A step alone is made again too, since others may follow it.
    assert runs == (2 if number == 1 else sum(forward_runs(number, KEPT_STEPS)))


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_inner_steps": 23},
        {"num_inner_steps": 7, "inner_grad_clip": 0.01},
        {"norm_statistics": "support", "train_word_vectors": True},
        {"first_order": True},
        {"conditioning": "none"},
        {"num_inner_steps": 0},
    ],
    ids=str,
)
def test_checkpointing_changes_no_result(changes, training):
    episodes = tiny_episodes()
    loss, expected = gradients(tiny_model(**changes).train(training), episodes)
    again, actual = gradients(tiny_model(inner_loop_checkpointing=True, **changes).train(training), episodes)
    assert again == loss
    for name, gradient in expected.items():
        if gradient is None:
            assert actual[name] is None, name
        else:
            torch.testing.assert_close(actual[name], gradient, rtol=1e-10, atol=1e-14, msg=name)


@pytest.mark.parametrize("inner_rates", ["per_layer_per_step", "per_element"])
def test_trained_rates_that_a_checkpoint_lacks_start_from_inner_lr(inner_rates, tmp_path):
    base = tiny_model(torch.float32, adapted_parameters="head", inner_rates=inner_rates)
    torch.nn.init.constant_(base.inner_rates.rates["classifier_weight"], 0.7)
    base.save_pretrained(tmp_path)
    rates = dict(MSMAMLModel.from_pretrained(tmp_path, adapted_parameters="upper").inner_rates.rates)
    assert (rates.pop("classifier_weight") == 0.7).all(), "rates of the checkpoint are kept"
    assert len(rates) == 5 and all((rate == 0.1).all() for rate in rates.values())


def test_trained_rates_of_a_checkpoint_with_fixed_ones_start_from_inner_lr(tmp_path):
    tiny_model(torch.float32).save_pretrained(tmp_path)
    rates = MSMAMLModel.from_pretrained(tmp_path, inner_rates="per_element").inner_rates.rates
    assert all((rate == 0.1).all() for rate in rates.values())


class HeavyBall(InnerOptimizer):
    """SGD with a momentum that the outer loop trains: a state for each parameter."""

    def __init__(self, lr: float, momentum: torch.nn.Parameter):
        self.lr, self.momentum = lr, momentum

    @classmethod
    def trained_module(cls, config, shapes):
        return torch.nn.ParameterDict({"momentum": torch.nn.Parameter(torch.tensor(0.5))})

    @classmethod
    def from_config(cls, config, trained):
        return cls(config.inner_lr, trained["momentum"])

    def trained_of_steps(self, names, num_inner_steps):
        return [(self.momentum,)] * num_inner_steps

    def initial_state(self, parameters):
        return [torch.zeros_like(p) for p in parameters]

    def step(self, parameters, gradients, state, trained):
        state = [trained[0] * v + g for v, g in zip(state, gradients, strict=True)]
        return [p - self.lr * v for p, v in zip(parameters, state, strict=True)], state


@pytest.mark.parametrize("every_step", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_an_optimiser_s_state_goes_from_step_to_step(checkpointing, every_step):
    torch.manual_seed(0)
    start, momentum, power = sample(2, 3), sample(), torch.full((), 3.0, dtype=torch.float64).requires_grad_()

    def loss(parameters, power):
        return (parameters["a"].abs() ** power).sum(1)

    path, losses, _ = adapt(
        loss,
        {"a": start},
        (power,),
        optimizer=HeavyBall(0.01, momentum),
        num_inner_steps=7,
        checkpointing=checkpointing,
        every_step=every_step,
    )
    expected, velocity = [start], torch.zeros_like(start)
    for _ in range(7):
        value = expected[-1]
        (gradient,) = torch.autograd.grad(loss({"a": value}, power).sum(), value, create_graph=True)
        velocity = momentum * velocity + gradient
        expected.append(value - 0.01 * velocity)
    assert losses.shape == (2, 7) and len(path) == (7 if every_step else 1)
    expected = expected[1:] if every_step else expected[-1:]
    torch.testing.assert_close([after["a"] for after in path], expected)
    arguments = start, momentum, power
    actual = torch.autograd.grad(sum(after["a"].square().sum() for after in path), arguments, retain_graph=True)
    wanted = torch.autograd.grad(sum(value.square().sum() for value in expected), arguments)
    torch.testing.assert_close(actual, wanted)


def test_a_registered_optimiser_is_the_config_s(monkeypatch):
    monkeypatch.setattr(inner_optimizers, "_REGISTRY", {"sgd": SGD})
    register_inner_optimizer("heavy_ball", HeavyBall)
    episodes, config = tiny_episodes(), tiny_config()
    config.inner_optimizer = "heavy_ball"
    torch.manual_seed(0)
    model = MSMAMLModel(config).double()
    torch.nn.init.zeros_(model.inner_rates["momentum"])
    output, plain = model(episodes), tiny_model()(episodes)
    torch.testing.assert_close(output.logits, plain.logits)
    output.loss.backward()
    assert model.inner_rates["momentum"].grad != 0
    config.inner_optimizer = "newton"
    with pytest.raises(ValueError, match="inner_optimizer='newton' is unknown; registered are heavy_ball, sgd"):
        MSMAMLModel(config)
    with pytest.raises(TypeError, match="must be a subclass of InnerOptimizer"):
        register_inner_optimizer("newton", torch.optim.SGD)


def wide_model(**changes):
    """Of a size at which activations take more memory than parameters, as in real use."""
    return tiny_model(torch.float32, num_channels=8, modalities=["image"], image_size=32, **changes)


def wide_episodes(n_query: int = 12):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat_interleave(4)[None]
    images = [torch.rand(1, samples, 3, 32, 32, generator=generator) for samples in (12, n_query)]
    query_labels = torch.arange(3).repeat_interleave(n_query // 3)[None]
    names = "support", "query", "support_labels", "query_labels"
    return {"image": dict(zip(names, (*images, labels, query_labels), strict=True))}


def peak_of_a_step(episodes, **changes) -> int:
    return peak_of_a_step_of(wide_model(**changes), episodes)


def peak_of_a_step_of(model, episodes) -> int:
    def step():
        model.zero_grad()
        model(episodes).loss.backward()

    step()
    return peak_of_tensors(step)


def test_with_checkpointing_memory_does_not_grow_with_the_number_of_inner_steps():
    episodes = wide_episodes()
    few, many = (peak_of_a_step(episodes, num_inner_steps=n, inner_loop_checkpointing=True) for n in (5, 50))
    assert many < 1.1 * few
    assert peak_of_a_step(episodes, num_inner_steps=50) > 3 * many


def test_checkpointing_spares_graphs_under_a_multi_step_loss_too():
    episodes, peaks = wide_episodes(), {}
    for checkpointing in (False, True):
        model = wide_model(num_inner_steps=20, inner_loop_checkpointing=checkpointing)
        model.multi_step_weights = [1 / 20] * 20
        peaks[checkpointing] = peak_of_a_step_of(model, episodes)
    assert peaks[True] < 0.6 * peaks[False]


def test_checkpointing_of_50_steps_holds_hardly_more_parameters_than_of_5():
    episodes = tiny_episodes(["text"], tasks=1)
    changes = {"num_channels": 64, "modalities": ["text"], "inner_loop_checkpointing": True}
    models = [tiny_model(torch.float32, num_inner_steps=n, **changes) for n in (5, 50)]
    few, many = (peak_of_a_step_of(model, episodes) for model in models)
    parameters = sum(p.numel() for p in models[0].task_network.parameters()) * 4
    assert many - few < 2.5 * parameters


def test_evaluation_keeps_one_step_s_graph_at_a_time():
    model, episodes = wide_model().eval(), wide_episodes()

    def evaluate(num_inner_steps):
        model.config.num_inner_steps = num_inner_steps
        with torch.no_grad():
            return model(episodes)

    evaluate(5)
    few, many = (peak_of_tensors(lambda n=n: evaluate(n)) for n in (5, 20))
    assert many < 1.02 * few


def test_memory_is_flat_over_200_meta_steps():
    """Steps of every kind: with and without recomputation, in training and in evaluation mode, without a graph."""
    model, episodes = tiny_model(torch.float32), tiny_episodes(["image"], tasks=1)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    tensors, resident = [], []
    for step in range(200):
        model.config.inner_loop_checkpointing = step % 2 == 0
        model.train(step % 3 > 0)
        optimizer.zero_grad()
        model(episodes).loss.backward()
        optimizer.step()
        with torch.no_grad():
            model(episodes)
        if step in (19, 199):
            gc.collect()
            tensors.append(sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects()))
            resident.append(resident_memory())
    assert tensors[1] <= tensors[0]
    assert resident[1] - resident[0] < 4 * 2**20
