"""Which options baselines read, and that all others are refused."""

import pytest
import torch

from modeling_msmaml import FewShotClassifier, MSMAMLConfig, MSMAMLModel

from .tiny_baselines import METHODS, config_of, episodes_of, model_of

OF_THE_INNER_LOOP = {"inner_optimizer": "adam", "first_order": True, "adapted_parameters": "head", "head": "prototype"}
OF_THE_INNER_LOOP |= {"conditioning": "none", "task_encoder_hidden_size": 64, "soft_kmeans_steps": 0}


@pytest.mark.parametrize("option", [name for name in OF_THE_INNER_LOOP if name != "soft_kmeans_steps"])
@pytest.mark.parametrize("name", METHODS)
def test_options_of_maml_are_refused(name, option):
    value = OF_THE_INNER_LOOP[option]
    with pytest.raises(ValueError, match=f"{option}={value!r} has no effect with task_network='{name}': leave it out"):
        MSMAMLModel(config_of(name, **{option: value}))


@pytest.mark.parametrize(("option", "value"), [("num_inner_steps", 3), ("inner_lr", 0.1)])
def test_steps_are_refused_where_there_are_none(option, value):
    with pytest.raises(ValueError, match=f"{option}={value} has no effect with task_network='prototypical'"):
        MSMAMLModel(config_of("prototypical", **{option: value}))
    model, batch = model_of("prototypical"), episodes_of("prototypical")["image"]
    with pytest.raises(ValueError, match=f"{option}={value} has no effect with task_network='prototypical'"):
        model.adapt("image", batch["support"], batch["support_labels"], **{option: value})
    with pytest.raises(ValueError, match="cannot go on from adapted tasks"):
        model.adapt_further(
            model.adapt("image", batch["support"], batch["support_labels"]), batch["support"], batch["support_labels"]
        )


@pytest.mark.parametrize("name", ["simpleshot", "baseline_plus_plus"])
@pytest.mark.parametrize("missing", ["auxiliary_classes", "episode_weight"])
def test_supervised_features_need_training_classes(name, missing):
    given = {"auxiliary_classes": {"image": 9}, "episode_weight": 0.0}
    given[missing] = {"auxiliary_classes": None, "episode_weight": 1.0}[missing]
    if missing == "auxiliary_classes":
        given["episode_weight"] = 1.0
    with pytest.raises(ValueError, match="is trained to classify among all training classes.*auxiliary=true"):
        MSMAMLModel(config_of(name, **given))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task_network_kwargs": {"depth": 3}}, "has 'depth', but task_network='prototypical' takes no options"),
        ({"task_network_kwargs": 3}, "task_network_kwargs=3 must be a dict"),
        ({"cosine_scale": 5.0}, "cosine_scale=5.0 has no effect with task_network='prototypical'"),
        (
            {"task_network": "relation", "task_network_kwargs": {"hidden_size": 0}},
            "task_network_kwargs: hidden_size=0 must be an integer of at least 1",
        ),
        (
            {"task_network": "in_context", "task_network_kwargs": {"size": 10, "num_heads": 4}},
            "size=10 must be even, and a multiple of num_heads=4",
        ),
        (
            {"task_network": "in_context", "task_network_kwargs": {"labels": "random"}},
            "labels='random' is unknown; choose one of etf, orthonormal",
        ),
        ({"pooling": "flatten"}, "pooling='flatten' needs inputs of one size, but task_network='prototypical'"),
        ({"soft_kmeans_steps": 2}, "soft_kmeans_steps=2 has no effect with task_network='prototypical'"),
        ({"level_rank": 5}, "level_rank=5 has no effect with task_network='prototypical'"),
    ],
)
def test_options_of_other_methods_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MSMAMLModel(config_of(options.get("task_network", "prototypical"), **options))


@pytest.mark.parametrize("name", ["conv1d", "levels"])
def test_other_networks_take_no_options_of_their_own(name):
    with pytest.raises(ValueError, match=f"task_network_kwargs=.* task_network='{name}'"):
        MSMAMLModel(MSMAMLConfig(task_network=name, task_network_kwargs={"num_layers": 2}))


@pytest.mark.parametrize("name", METHODS)
def test_a_classifier_takes_inner_steps_only_where_they_have_an_effect(name):
    classifier = FewShotClassifier(model_of(name).float(), num_inner_steps=2)
    if name == "baseline_plus_plus":
        assert classifier.base_model()[0].config.num_inner_steps == 2
    else:
        with pytest.raises(ValueError, match=f"num_inner_steps=2 has no effect .* task_network='{name}'"):
            classifier.base_model()


@pytest.mark.parametrize("name", METHODS)
def test_models_in_half_precision_classify(name):
    logits = model_of(name).to(torch.bfloat16)(episodes_of(name)).logits["image"]
    assert torch.isfinite(logits).all()


def test_layers_may_have_widths_and_scales_of_their_own():
    network = model_of("prototypical", layer_widths=[6, 5], norm_affine=True).task_network.features.network
    assert [layer.out_channels for layer in network.convolutions] == [6, 5] and len(network.affine_norm) == 2


@pytest.mark.parametrize("name", METHODS)
def test_dropout_acts_in_training_alone(name):
    plain, dropped = model_of(name), model_of(name, dropout=0.5)
    batch = episodes_of(name)
    ids = batch["image"].pop("class_ids", None)
    assert torch.equal(dropped(batch).logits["image"], plain(batch).logits["image"])
    if ids is not None:
        batch["image"]["class_ids"] = ids
    assert not torch.allclose(dropped.train()(batch).loss, plain.train()(batch).loss)
