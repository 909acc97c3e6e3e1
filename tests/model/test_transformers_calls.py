"""Calls that transformers, and programs written for it, make on any model."""

from typing import Any

import pytest
import torch
from transformers import AutoModel

from modeling_msmaml import MSMAMLConfig, MSMAMLModel
from modeling_msmaml.model.inner_rates import InnerRates

from ..saved_levels import save_level_model
from ..toys import tiny_config, tiny_episodes, tiny_model


@pytest.mark.parametrize("training", [False, True])
def test_loss_comes_first(training):
    model, episodes = tiny_model().train(training), tiny_episodes()
    output = model(episodes)
    assert output[0] is output.loss and list(output) == ["loss", "logits", "support_loss", "modulation"]
    for values in (model(episodes, return_dict=False), _with_config(return_dict=False)(episodes)):
        assert isinstance(values, tuple) and len(values) == 4 and torch.allclose(values[0], output.loss)


def test_loss_may_be_left_out():
    output = tiny_model()(tiny_episodes(), return_loss=False)
    assert output.loss is None and list(output) == ["logits", "support_loss", "modulation"]


def _with_config(**changes) -> MSMAMLModel:
    model = tiny_model()
    for name, value in changes.items():
        setattr(model.config, name, value)
    return model


@pytest.mark.parametrize("name", ["output_hidden_states", "output_attentions"])
def test_inner_states_are_refused_politely(name):
    with pytest.raises(ValueError, match=f"{name}=True: tasks have networks of their own.*logits, support_loss"):
        tiny_model()(tiny_episodes(), **{name: True})
    with pytest.raises(ValueError, match=f"{name}=True"):
        _with_config(**{name: True})(tiny_episodes())
    assert _with_config(**{name: True})(tiny_episodes(), **{name: False}).loss > 0


def test_checkpointing_is_refused_where_it_has_no_effect(tmp_path):
    model = MSMAMLModel.from_pretrained(save_level_model(tmp_path / "model", tmp_path / "made"))
    with pytest.raises(ValueError, match="task_network='levels' has no inner steps"):
        model.activation_checkpointing_enable()
    model.activation_checkpointing_disable()
    with pytest.raises(ValueError, match="every_n_layers=2 has no meaning"):
        tiny_model().activation_checkpointing_enable(every_n_layers=2)


RATES = {"inner_rates": "per_layer_per_step", "num_inner_steps": 3, "adapted_parameters": "head"}


@pytest.fixture
def with_rates(tmp_path):
    """A saved model whose trained rates differ by step."""
    model = tiny_model(torch.float32, **RATES)
    for rate in model.inner_rates.parameters():
        rate.data.copy_(torch.tensor([0.1, 0.2, 0.3]))
    model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize(
    "load",
    [
        lambda path: MSMAMLModel.from_pretrained(path, num_inner_steps=1),
        lambda path: AutoModel.from_pretrained(path, num_inner_steps=1),
        lambda path: MSMAMLModel.from_pretrained(path, config=MSMAMLConfig.from_pretrained(path, num_inner_steps=1)),
    ],
    ids=["class", "auto class", "config"],
)
def test_with_fewer_inner_steps_the_first_trained_rates_are_kept(load, with_rates, tmp_path):
    whole, model = MSMAMLModel.from_pretrained(with_rates), load(with_rates)
    assert [rate.tolist() for rate in model.inner_rates.parameters()] == [pytest.approx([0.1])] * 2
    whole.config.num_inner_steps = 1
    assert torch.equal(model(tiny_episodes()).loss, whole(tiny_episodes()).loss)
    model.save_pretrained(tmp_path / "again")
    again = MSMAMLModel.from_pretrained(tmp_path / "again")
    assert again.config.num_inner_steps == 1
    assert torch.equal(again(tiny_episodes()).loss, whole(tiny_episodes()).loss)


def test_arguments_that_do_not_fit_are_named(tmp_path):
    MSMAMLModel(tiny_config(head="linear")).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="the saved weights have other sizes than n_way=2 asks for"):
        MSMAMLModel.from_pretrained(tmp_path, n_way=2)
    with pytest.raises(ValueError, match="from_pretrained has no argument adapt_further=True"):
        MSMAMLModel.from_pretrained(tmp_path, adapt_further=True)


def test_more_inner_steps_than_trained_rates_repeat_the_last_or_begin_anew(with_rates, tmp_path):
    whole, model = (MSMAMLModel.from_pretrained(with_rates, **more) for more in ({}, {"num_inner_steps": 5}))
    expected = pytest.approx([0.1, 0.2, 0.3, 0.3, 0.3])
    assert [rate.tolist() for rate in model.inner_rates.parameters()] == [expected] * 2
    whole.config.num_inner_steps = 5
    assert torch.equal(model(tiny_episodes()).loss, whole(tiny_episodes()).loss)
    model.save_pretrained(tmp_path / "again")
    assert MSMAMLModel.from_pretrained(tmp_path / "again").config.num_inner_steps == 5
    model = MSMAMLModel.from_pretrained(with_rates, num_inner_steps=5, ignore_mismatched_sizes=True)
    assert all(torch.equal(rate, torch.full((5,), tiny_config().inner_lr)) for rate in model.inner_rates.parameters())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A saved model with parameters for all options that say where parameters start."""
    folder = tmp_path_factory.mktemp("trained")
    tiny_model(torch.float32, inner_rates="per_layer_per_step", head="prototype").save_pretrained(folder)
    return folder


STARTS = [("inner_lr", 0.7), ("cosine_scale", 3.0), ("modulation_init", "identity")]


@pytest.mark.parametrize(("name", "value"), STARTS)
@pytest.mark.parametrize(
    "load",
    [
        lambda path, **options: MSMAMLModel.from_pretrained(path, **options),
        lambda path, **options: AutoModel.from_pretrained(path, **options),
        lambda path, **options: MSMAMLModel.from_pretrained(path, config=MSMAMLConfig.from_pretrained(path, **options)),
    ],
    ids=["class", "auto class", "config"],
)
def test_another_start_of_trained_parameters_is_refused(load, name, value, trained):
    with pytest.raises(ValueError, match=f"{name}={value!r} would change nothing: .* leave it out"):
        load(trained, **{name: value})
    same = getattr(MSMAMLConfig.from_pretrained(trained), name)
    assert getattr(load(trained, **{name: same}).config, name) == same


@pytest.mark.parametrize(
    "options", [{"inner_rates": "fixed"}, {"inner_rates": "per_element", "ignore_mismatched_sizes": True}], ids=str
)
def test_a_start_of_what_is_not_trained_counts(options, trained):
    loaded: Any = MSMAMLModel.from_pretrained(trained, inner_lr=0.7, output_loading_info=True, **options)
    model, info = loaded
    assert model.config.inner_lr == 0.7 and "missing_keys" in info
    if model.inner_rates is not None:
        assert all((rate == 0.7).all() for rate in model.inner_rates.parameters())


@pytest.mark.parametrize("changes", [{"adapted_parameters": "all"}, {"inner_rates": "per_element"}], ids=str)
def test_rates_that_a_checkpoint_lacks_begin_at_inner_lr(changes, with_rates):
    model = MSMAMLModel.from_pretrained(with_rates, ignore_mismatched_sizes=True, **changes)
    assert isinstance(model.inner_rates, InnerRates)
    for name, rate in model.inner_rates.rates.items():
        kept = name.startswith("classifier") and "inner_rates" not in changes
        expected = torch.tensor([0.1, 0.2, 0.3]) if kept else torch.full_like(rate, tiny_config().inner_lr)
        assert torch.equal(rate, expected), name
