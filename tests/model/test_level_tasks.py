"""`task_network="levels"` in the model: forward, adapt and classify, second order, saving, options."""

from pathlib import Path

import pytest
import torch

from data_builders.episodes.level_encoder import FlatLevels
from modeling_msmaml import MSMAMLConfig, MSMAMLModel, register_task_network
from modeling_msmaml.inference.saved_tasks import load_tasks, save_tasks
from modeling_msmaml.model.convolutional_tasks import ConvolutionalTasks
from modeling_msmaml.model.level_encoder import save_level_encoder

from ..toys import tiny_episodes, tiny_model
from .level_encoders import raw_rows, tiny

N_WAY, K_SHOT, N_QUERY = 3, 2, 2


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """A tiny encoder of each modality, in a folder."""
    found = {}
    for modality in ("text", "image"):
        folder = tmp_path_factory.mktemp(modality)
        save_level_encoder(tiny(modality), folder)
        found[modality] = str(folder)
    return found


def level_model(folders: dict[str, str], **changes) -> MSMAMLModel:
    config = MSMAMLConfig(task_network="levels", modalities=list(folders), level_encoders=folders, **changes)
    model = MSMAMLModel(config)
    generator = torch.Generator().manual_seed(0)
    for modality in folders:
        total = model.frontends[modality].total
        levels = torch.randn(30, total, generator=generator) + torch.randn(total, generator=generator)
        model.fit_front_ends({modality: levels.half()}, groups={modality: torch.arange(30) % 5})
        for parameter in model.task_network.mixtures[modality].parameters():
            torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return model


def episodes(model: MSMAMLModel, modality: str = "text", tasks: int = 2, k_shot: int = K_SHOT) -> dict:
    """Tasks of stored levels, whose classes differ."""
    generator = torch.Generator().manual_seed(1)
    total = model.frontends[modality].total
    centres = torch.randn(tasks, N_WAY, total, generator=generator)

    def samples(number):
        noise = torch.randn(tasks, N_WAY * number, total, generator=generator)
        return (centres.repeat_interleave(number, dim=1) + noise).half()

    return {
        modality: {
            "support": samples(k_shot),
            "support_labels": torch.arange(N_WAY).repeat_interleave(k_shot).repeat(tasks, 1),
            "query": samples(N_QUERY),
            "query_labels": torch.arange(N_WAY).repeat_interleave(N_QUERY).repeat(tasks, 1),
        }
    }


@pytest.mark.parametrize("k_shot", [1, 3])
def test_forward_is_adapt_and_classify(folders, k_shot):
    model = level_model(folders).eval()
    batch = episodes(model, k_shot=k_shot)
    output = model(batch)
    assert output.logits["text"].shape == (2, N_WAY * N_QUERY, N_WAY)
    assert output.support_loss["text"].shape == (2, 5)
    adapted = model.adapt("text", batch["text"]["support"], batch["text"]["support_labels"])
    torch.testing.assert_close(model.classify(adapted, batch["text"]["query"]), output.logits["text"])
    (before,) = output.modulation["text"]
    torch.testing.assert_close(before.sum(dim=1), torch.ones(2))
    assert torch.equal(adapted.parameters["weights"], before) == (k_shot == 1)


def test_no_query_has_a_part_in_another(folders):
    model = level_model(folders).eval()
    batch = episodes(model)["text"]
    adapted = model.adapt("text", batch["support"], batch["support_labels"])
    together = model.classify(adapted, batch["query"])
    alone = model.classify(adapted, batch["query"][:, :1])
    torch.testing.assert_close(together[:, :1], alone)


def test_outer_gradient_is_that_of_finite_differences(folders):
    model = level_model(folders).double().train()
    batch = episodes(model)
    model(batch).loss.backward()
    for name, parameter in model.named_parameters():
        if "image" in name:
            assert parameter.grad is None
            continue
        direction = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2), dtype=parameter.dtype)
        analytical, values = float((parameter.grad * direction).sum()), []
        with torch.no_grad():
            for step in (1e-5, -2e-5):
                parameter.add_(step * direction)
                values.append(float(model(batch).loss))
            parameter.add_(1e-5 * direction)
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(analytical, rel=2e-3, abs=1e-6), name


def test_first_order_leaves_out_the_derivatives_of_inner_gradients(folders):
    """Without them, the inner temperature has no part in the outer gradient, and the size of a step still has one."""
    gradients = {}
    for first_order in (False, True):
        model = level_model(folders, first_order=first_order).double().train()
        model(episodes(model)).loss.backward()
        gradients[first_order] = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    name = "task_network.head.log_temperature"  # it acts through the inner gradient alone
    assert gradients[False][name].abs() > 0 and name not in gradients[True]
    assert gradients[True]["task_network.head.log_step"].abs() > 0


def test_training_on_tasks_lowers_their_loss(folders):
    model = level_model(folders).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    batch = episodes(model, tasks=4)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = model(batch).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < losses[0]


def test_raw_inputs_and_their_stored_levels_are_the_same(folders):
    model = level_model(folders).eval()
    raw = raw_rows("text")[1:]
    stored = model.frontends["text"](raw[None], torch.float32).half()
    labels = torch.tensor([[0, 1, 0, 1]])
    from_raw, from_stored = (
        model.classify(model.adapt("text", samples, labels), samples) for samples in (raw[None], stored)
    )
    assert torch.equal(from_raw, from_stored)


def test_a_saved_model_is_the_same_and_holds_no_encoder(folders, tmp_path):
    model = level_model(folders).eval()
    model.save_pretrained(tmp_path)
    again = MSMAMLModel.from_pretrained(tmp_path).eval()
    batch = episodes(model)
    assert torch.equal(again(batch).logits["text"], model(batch).logits["text"])
    assert not any("encoder" in name for name in model.state_dict())
    adapted = model.adapt("text", batch["text"]["support"], batch["text"]["support_labels"])
    save_tasks(adapted, tmp_path / "tasks.safetensors")
    loaded = load_tasks(tmp_path / "tasks.safetensors")
    assert torch.equal(again.classify(loaded, batch["text"]["query"]), model.classify(adapted, batch["text"]["query"]))


def test_an_encoder_that_was_changed_is_refused(folders, tmp_path):
    save_level_encoder(tiny("text"), tmp_path / "text")
    model = level_model({"text": str(tmp_path / "text")})
    other = tiny("text")
    for parameter in other.parameters():
        parameter.data += 0.1
    save_level_encoder(other, tmp_path / "text")
    with pytest.raises(ValueError, match="this model was made for"):
        model.frontends["text"](raw_rows("text")[None], torch.float32)


def test_an_encoder_with_other_options_is_another_one(tmp_path):
    """The same weights at another size of pictures give other levels, which stored ones must not stand in for."""
    save_level_encoder(tiny("image"), tmp_path / "image")
    model = level_model({"image": str(tmp_path / "image")})
    before = FlatLevels(model.frontends["image"]).fingerprint()
    save_level_encoder(tiny("image", input_size=40), tmp_path / "image")
    with pytest.raises(ValueError, match="'input_size': 40.* but this model was made for .*'input_size': 32"):
        model.frontends["image"](raw_rows("image")[None], torch.float32)
    assert FlatLevels(level_model({"image": str(tmp_path / "image")}).frontends["image"]).fingerprint() != before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_channels": 8}, "num_channels=8 has no effect with task_network='levels'"),
        ({"norm_statistics": "transductive"}, "does not go with task_network='levels'"),
        ({"modalities": ["text", "image"]}, r"level_encoders is for \['text'\]"),
        ({"task_network": "conv1d"}, "level_encoders=.* has no effect with task_network='conv1d'"),
        ({"task_network": "other"}, "task_network='other' is unknown; registered are .*conv1d, .*levels"),
    ],
)
def test_options_that_cannot_work_are_refused(folders, options, message):
    given = {"task_network": "levels", "modalities": ["text"], "level_encoders": {"text": folders["text"]}, **options}
    if given["task_network"] == "other":
        del given["level_encoders"]
    with pytest.raises(ValueError, match=message):
        MSMAMLModel(MSMAMLConfig(**given))


def test_folders_without_an_encoder_of_the_modality_are_refused(folders, tmp_path):
    for folder, error, message in (
        (tmp_path, FileNotFoundError, "is no folder of a level encoder: it has no config.json"),
        (Path(folders["image"]), ValueError, "is an encoder of image"),
    ):
        config = MSMAMLConfig(task_network="levels", modalities=["text"], level_encoders={"text": str(folder)})
        with pytest.raises(error, match=message):
            MSMAMLModel(config)


def test_a_task_network_of_ones_own_is_registered():
    class Doubled(ConvolutionalTasks):
        """Twice the logits of the convolutional task network."""

        def classify(self, model, adapted, query, state=()):
            return 2 * super().classify(model, adapted, query, state)

    register_task_network("doubled", Doubled())
    plain = tiny_model(head="prototype", adapted_parameters="head", norm="group").eval()
    doubled = tiny_model(task_network="doubled", head="prototype", adapted_parameters="head", norm="group").eval()
    doubled.load_state_dict(plain.state_dict())
    batch = tiny_episodes(["image"])
    torch.testing.assert_close(doubled(batch).logits["image"], 2 * plain(batch).logits["image"])
    with pytest.raises(TypeError, match="must be an instance of a subclass of TaskNetworkKind"):
        register_task_network("wrong", Doubled)


def test_statistics_for_training_are_seen_in_turn_and_in_training_alone(folders):
    model = level_model({"text": folders["text"]})
    batch, generator = episodes(model), torch.Generator().manual_seed(3)
    levels = torch.randn(2, 20, model.frontends["text"].total, generator=generator).half()
    samples = [(rows, torch.arange(20) % number) for rows, number in zip(levels, (4, 5), strict=True)]
    before = model.eval()(batch).logits["text"]
    state = model.state_dict()
    model.fit_for_training({"text": samples})
    assert torch.equal(model(batch).logits["text"], before)
    assert model.state_dict().keys() == state.keys()
    found = []
    for turn in range(3):
        model.train().training_turn = turn
        found.append(model(batch).logits["text"].detach())
        own = level_model({"text": folders["text"]}).train()
        own.fit_front_ends({"text": levels[turn % 2]}, groups={"text": samples[turn % 2][1]})
        torch.testing.assert_close(found[-1], own(batch).logits["text"].detach())
    assert torch.equal(found[0], found[2]) and not torch.allclose(found[0], found[1])


def test_other_kinds_have_no_statistics_for_training():
    assert not tiny_model().has_statistics_for_training
    with pytest.raises(ValueError, match="task_network='conv1d' has no statistics for training"):
        tiny_model().fit_for_training({})


def test_level_dropout_changes_training_of_several_shots_alone_and_follows_from_the_tasks(folders):
    plain, noisy = (level_model(folders, level_dropout=rate) for rate in (0.0, 0.6))
    noisy.load_state_dict(plain.state_dict())
    batch, single = episodes(plain, tasks=3), episodes(plain, k_shot=1)
    for one in (plain, noisy):
        one.train()
    first = noisy(batch).logits["text"].detach()
    assert not torch.allclose(first, plain(batch).logits["text"].detach(), atol=1e-3)
    last = {"text": {name: tensor[2:] for name, tensor in batch["text"].items()}}
    torch.testing.assert_close(noisy(last).logits["text"].detach(), first[2:])
    assert torch.equal(noisy(single).logits["text"], plain(single).logits["text"])
    assert torch.equal(noisy.eval()(batch).logits["text"], plain.eval()(batch).logits["text"])


def test_steps_on_the_head_change_probabilities_and_none_are_taken_without_inner_steps(folders):
    batch = None
    logits = {}
    for name, options in {
        "both": {},
        "weights": {"num_head_steps": 0},
        "none": {"num_inner_steps": 0},
        "neither": {"num_inner_steps": 0, "num_head_steps": 0},
    }.items():
        model = level_model(folders, **options).eval()
        batch = batch or episodes(model)
        logits[name] = model(batch).logits["text"]
    assert not torch.allclose(logits["both"], logits["weights"])
    assert torch.equal(logits["none"], logits["neither"])


@pytest.mark.parametrize("name, value", [("num_head_steps", 3), ("level_dropout", 0.2)])
def test_options_of_levels_are_refused_elsewhere(name, value):
    with pytest.raises(ValueError, match=f"{name}={value} has no effect with task_network='conv1d'"):
        MSMAMLModel(MSMAMLConfig(**{name: value}))


def test_two_hundred_classes_of_twenty_samples_take_little_memory(folders):
    """What grows with the square of the number of samples is there once, not once for each channel."""
    model = level_model({"text": folders["text"]}).eval()
    total = model.frontends["text"].total
    centres = torch.randn(200, total, generator=torch.Generator().manual_seed(4))
    labels = torch.arange(200).repeat_interleave(6)
    support = (centres[labels] + 0.3 * torch.randn(1200, total, generator=torch.Generator().manual_seed(5))).half()
    with torch.no_grad():
        adapted = model.adapt("text", support[None], labels[None], n_way=200)
        predicted = model.classify(adapted, centres.half()[None]).argmax(dim=2)
    assert (predicted[0] == torch.arange(200)).float().mean() > 0.9
    assert sum(tensor.nbytes for tensor in adapted.parameters.values()) < 1200 * 1200 * 4
