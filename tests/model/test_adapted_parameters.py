"""What the inner loop adapts: biases and norms, low-rank factors, and a choice of one's own."""

import pytest
import torch

from modeling_msmaml import AdaptedParameters, FewShotClassifier, MSMAMLModel, register_adapted_parameters
from modeling_msmaml.model import adapted_parameters

from .. import reference
from ..own_data import MAKERS, SAMPLING_RATE, save_tiny_model
from ..toys import tiny_config, tiny_episodes, tiny_model
from .test_outer_gradient import finite_difference, gradients, random_direction

CHOICES = {
    "biases_and_norms": {},
    "lora": {"lora_rank": 2},
    "lora of one layer": {"adapted_parameters": "lora", "lora_layers": ["convolutions.1"]},
    "lora of everything": {"adapted_parameters": "lora", "lora_layers": ["embeddings", "convolutions"]},
}
every_choice = pytest.mark.parametrize("name", CHOICES)


def changes_of(name: str) -> dict:
    return {"adapted_parameters": name, **CHOICES[name]}


def model_of(name: str, dtype=torch.float64, **more) -> MSMAMLModel:
    """A tiny model whose factors, scales and shifts are no longer those that training starts from."""
    model = tiny_model(dtype, **{**changes_of(name), **more})
    generator = torch.Generator().manual_seed(5)
    for key, parameter in model.task_network.named_parameters():
        if key.startswith(("factors.", "affine_norm.")):
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=dtype)
    return model


def as_used(fast: dict, modulation: list) -> tuple[dict, list]:
    """Weights with their factors; and FiLM of a scaled and shifted norm, as FiLM alone."""
    weights, changed = {}, []
    for key in fast:
        own = f"factors.{key.removesuffix('.weight').replace('.', '_')}"
        if key.endswith(".weight") and f"{own}.up" in fast:
            product = fast[f"{own}.up"] @ fast[f"{own}.down"]
            weights[key] = fast[key] + product.reshape(fast[key].shape)
    for layer, values in enumerate(modulation):
        scale, shift = values.chunk(2)
        own_scale, own_shift = fast.get(f"affine_norm.{layer}.weight", 1.0), fast.get(f"affine_norm.{layer}.bias", 0.0)
        changed.append(torch.cat([(1 + scale) * own_scale - 1, own_shift * (1 + scale) + shift]))
    return fast | weights, changed


def adapted_names(name: str) -> tuple[str, ...]:
    return ("classifier.", "affine_norm.") if name == "biases_and_norms" else ("classifier.", "factors.")


@pytest.mark.parametrize("first_order", [False, True], ids=["second order", "first order"])
@every_choice
def test_an_outer_gradient_is_that_of_a_plain_loop_over_tasks(name, first_order):
    model, episodes = model_of(name, first_order=first_order), tiny_episodes(["audio", "image"])
    loss, actual = gradients(model, episodes)

    losses = []
    for modality, batch in episodes.items():  # factors of another modality's embedding have no part

        def is_adapted(key: str, modality: str = modality) -> bool:
            of_modality = not key.startswith("factors.embeddings") or f"_{modality}_" in key
            return key.startswith(adapted_names(name)) and of_modality

        losses.append(reference.outer_gradient(model, {modality: batch}, is_adapted=is_adapted, used=as_used))
    torch.testing.assert_close(loss, sum(value for value, _ in losses).detach() / 2, rtol=1e-12, atol=1e-12)
    for key, gradient in actual.items():
        if key.startswith("task_network.convolutions") and key.endswith("bias"):
            continue  # ahead of a batch norm: nothing but rounding
        parts = [found[key] for _, found in losses if found[key] is not None]
        assert (gradient is None) == (not parts), key
        if parts:
            torch.testing.assert_close(gradient, sum(parts) / 2, rtol=1e-8, atol=1e-11, msg=key)


@every_choice
def test_outer_gradient_agrees_with_finite_differences(name):
    model, episodes = model_of(name, norm="group"), tiny_episodes(["image"], tasks=1)
    _, actual = gradients(model, episodes)
    own = [key for key, _ in model.named_parameters() if key.startswith("task_network.") and actual[key] is not None]
    along = random_direction(model, own, torch.Generator().manual_seed(1))
    analytical = sum((actual[key] * along[key]).sum().item() for key in own)
    assert analytical == pytest.approx(finite_difference(model, episodes, along, 1e-6), rel=1e-5, abs=1e-9)


@every_choice
@pytest.mark.parametrize("conditioning", ["affine", "none", "kernel"])
def test_a_network_begins_exactly_as_without_what_is_added(name, conditioning):
    """So that a trained model can be adapted in another way: the added factors, scales and shifts change nothing."""
    plain = tiny_model(torch.float32, conditioning=conditioning, num_inner_steps=0).eval()
    added = tiny_model(torch.float32, conditioning=conditioning, num_inner_steps=0, **changes_of(name)).eval()
    missing, unexpected = added.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and missing and all(("factors." in key or "affine_norm." in key) for key in missing)
    for modality, logits in plain(tiny_episodes()).logits.items():
        assert torch.equal(added(tiny_episodes()).logits[modality], logits)


@every_choice
def test_only_what_is_named_is_adapted_and_parts_do_not_change_the_result(name):
    model, batch = model_of(name).eval(), tiny_episodes(["image"])["image"]
    adapted = model.adapt("image", batch["support"], batch["support_labels"])
    start = model.task_network.task_parameters("image", 2)
    moved = {key for key, value in adapted.parameters.items() if not torch.equal(value, start[key].to(value))}
    named = {key for key in start if key.startswith(adapted_names(name))}
    biases = {f"convolutions.{layer}.bias" for layer in (0, 1)} if name == "biases_and_norms" else set()
    assert moved - biases == named
    assert not any("audio" in key or "text" in key for key in adapted.parameters)
    episodes = tiny_episodes()
    _, expected = gradients(model_of(name), episodes)
    _, actual = gradients(model_of(name, task_chunk_size=2, inner_loop_checkpointing=True), episodes)
    for key, gradient in expected.items():
        torch.testing.assert_close(actual[key], gradient, rtol=1e-8, atol=1e-11, msg=key)


@every_choice
def test_what_is_added_is_saved_and_starts_as_it_should_where_a_checkpoint_lacks_it(name, tmp_path):
    model, episodes = model_of(name, torch.float32, inner_rates="per_layer_per_step"), tiny_episodes(["text"])
    model.save_pretrained(tmp_path / "own")
    assert torch.equal(MSMAMLModel.from_pretrained(tmp_path / "own")(episodes).loss, model(episodes).loss)
    plain = tiny_model(torch.float32, num_inner_steps=0)
    plain.save_pretrained(tmp_path / "plain")
    changed = MSMAMLModel.from_pretrained(tmp_path / "plain", **changes_of(name))
    for key, parameter in changed.task_network.named_parameters():
        if key.endswith(".down"):
            assert parameter.isfinite().all() and parameter.std() > 0.01 and parameter.abs().max() < 3
    assert torch.equal(changed(episodes).loss, plain(episodes).loss)


def test_scales_of_norms_do_not_decay(tmp_path):
    from ..training.test_trainer import make_trainer

    trainer = make_trainer(tmp_path, weight_decay=0.1)
    trainer.model = tiny_model(torch.float32, adapted_parameters="biases_and_norms")
    names = {id(p): key for key, p in trainer.model.named_parameters()}
    decayed = [
        names[id(p)]
        for group in trainer.create_optimizer().param_groups
        if group["weight_decay"]
        for p in group["params"]
    ]
    assert "task_network.convolutions.0.weight" in decayed and not any("affine_norm" in key for key in decayed)


@every_choice
def test_a_classifier_adapts_what_its_model_says(name, tmp_path):
    folder = save_tiny_model(tmp_path, **changes_of(name))
    items, labels = (
        [MAKERS["image"](kind, number) for kind in range(4) for number in range(2)],
        [0, 0, 1, 1, 2, 2, 3, 3],
    )
    classifier = FewShotClassifier.from_pretrained(folder, sampling_rate=SAMPLING_RATE).fit(items, labels)
    assert classifier.support_losses_[-1] < classifier.support_losses_[0]
    classifier.save_pretrained(tmp_path / "fitted")
    again = FewShotClassifier.from_pretrained(tmp_path / "fitted")
    assert (again.predict_proba(items) == classifier.predict_proba(items)).all()


@pytest.fixture
def own_choice(monkeypatch):
    monkeypatch.setattr(adapted_parameters, "_REGISTRY", dict(adapted_parameters._REGISTRY))
    return register_adapted_parameters


@pytest.mark.parametrize("head", ["linear", "prototype"])
def test_a_choice_of_one_s_own_is_a_function_of_names(own_choice, head):
    """The body without the classifier (BOIL)."""
    own_choice("body", AdaptedParameters(lambda name: name.startswith("convolutions.")))
    model = tiny_model(adapted_parameters="body", inner_rates="per_element", head=head).eval()
    assert list(model.inner_rates.rates) == [f"convolutions_{n}_{kind}" for n in (0, 1) for kind in ("weight", "bias")]
    batch = tiny_episodes(["image"])["image"]
    adapted = model.adapt("image", batch["support"], batch["support_labels"])
    assert not torch.equal(
        adapted.parameters["convolutions.0.weight"][0], adapted.parameters["convolutions.0.weight"][1]
    )
    if head == "linear":
        assert torch.equal(adapted.parameters["classifier.weight"][0], adapted.parameters["classifier.weight"][1])


def test_choices_that_cannot_be_adapted_are_refused(own_choice):
    own_choice("nothing", AdaptedParameters(lambda name: False))
    own_choice("embeddings", AdaptedParameters(lambda name: name.startswith("embeddings.")))
    with pytest.raises(ValueError, match="adapted_parameters='nothing' adapts no parameter"):
        tiny_model(adapted_parameters="nothing")
    with pytest.raises(ValueError, match="embeddings=True"):
        tiny_model(adapted_parameters="embeddings")
    with pytest.raises(TypeError, match="must be an AdaptedParameters"):
        own_choice("function", lambda name: True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adapted_parameters": "lower"}, "adapted_parameters='lower' is unknown; registered are all, upper, head"),
        ({"lora_rank": 2}, "lora_rank=2 and lora_layers=None have no effect with adapted_parameters='all'"),
        ({"adapted_parameters": "lora", "lora_layers": ["convolution"]}, "has 'convolution', but .* convolutions.0"),
        ({"adapted_parameters": "lora", "lora_layers": ["classifier"]}, "has 'classifier', but"),
        ({"adapted_parameters": "lora", "lora_rank": 0}, "lora_rank=0 must be an integer of at least 1"),
        (
            {"adapted_parameters": "lora", "lora_layers": ["embeddings"], "dropout": 0.1},
            "dropout=0.1 drops what comes out of the embeddings",
        ),
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        MSMAMLModel(tiny_config(**changes))


def test_embeddings_that_keep_their_sequences_are_read_once():
    assert tiny_model(adapted_parameters="lora", conditioning="none").can_read_rows_once
    model = tiny_model(adapted_parameters="lora", lora_layers=["embeddings"], conditioning="none")
    assert not model.can_read_rows_once
