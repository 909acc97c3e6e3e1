"""`MSMAMLModel.adapt` and `classify`: the two halves of `forward`, for one's own support sets."""

import pytest
import torch

from modeling_msmaml import MSMAMLConfig
from modeling_msmaml.model.options import choices

from ..toys import N_QUERY, N_WAY, tiny_episodes, tiny_model


def relabelled(n_way: int):
    """One image task of `n_way` classes with one support sample each."""
    batch = tiny_episodes(["image"], tasks=2)["image"]
    return batch["support"][:, :n_way], torch.arange(n_way).repeat(2, 1), batch["query"]


@pytest.mark.parametrize("norm_statistics", choices(MSMAMLConfig, "norm_statistics"))
@pytest.mark.parametrize("conditioning", choices(MSMAMLConfig, "conditioning"))
def test_adapting_and_classifying_are_the_halves_of_forward(conditioning, norm_statistics):
    model = tiny_model(conditioning=conditioning, norm_statistics=norm_statistics).eval()
    episodes = tiny_episodes()
    expected = model(episodes)
    for modality, batch in episodes.items():
        model.config.task_chunk_size = 2  # a product of another size may round differently
        adapted = model.adapt(modality, batch["support"], batch["support_labels"])
        torch.testing.assert_close(adapted.support_loss, expected.support_loss[modality], rtol=1e-12, atol=0)
        assert len(adapted.modulation) == len(expected.modulation[modality])
        logits = model.classify(adapted, batch["query"])
        torch.testing.assert_close(logits, expected.logits[modality], rtol=1e-11, atol=1e-13)
        assert torch.equal(model.classify(adapted, batch["query"]), logits), "it can be used again"


def test_forward_gives_the_same_to_the_last_bit():
    model, episodes = tiny_model(torch.float32, task_chunk_size=2), tiny_episodes()
    with torch.no_grad():
        expected = model(episodes).logits
        for modality, batch in episodes.items():
            adapted = model.adapt(modality, batch["support"], batch["support_labels"])
            assert torch.equal(model.classify(adapted, batch["query"]), expected[modality])


def test_queries_in_parts_are_the_same_with_statistics_of_the_support_set():
    model = tiny_model(norm_statistics="support").eval()
    batch = tiny_episodes(["audio"])["audio"]
    adapted = model.adapt("audio", batch["support"], batch["support_labels"])
    parts = [model.classify(adapted, part) for part in batch["query"].split(5, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model.classify(adapted, batch["query"]))


@pytest.mark.parametrize("n_way", [2, 4, 6])
def test_another_number_of_classes_starts_from_the_mean_of_the_trained_rows(n_way):
    model = tiny_model().eval()
    support, labels, query = relabelled(n_way)
    model.config.num_inner_steps = 0
    start = model.adapt("image", support, labels, n_way=n_way)
    weight = model.task_network.classifier.weight.mean(dim=0)
    torch.testing.assert_close(start.parameters["classifier.weight"], weight.expand(2, n_way, -1))
    bias = model.task_network.classifier.bias.mean()
    torch.testing.assert_close(start.parameters["classifier.bias"], bias.expand(2, n_way))
    torch.testing.assert_close(model.classify(start, query).softmax(-1), torch.full((2, 12, n_way), 1 / n_way).double())
    model.config.num_inner_steps = 20
    adapted = model.adapt("image", support, labels, n_way=n_way)
    assert (adapted.support_loss[:, -1] < 0.9 * adapted.support_loss[:, 0]).all()
    assert model.classify(adapted, query).shape == (2, N_WAY * N_QUERY, n_way)


def test_classes_of_a_new_head_are_interchangeable():
    """Renaming the classes renames the logits and changes nothing else, as no class has a row of its own at first."""
    model = tiny_model().eval()
    support, labels, query = relabelled(4)
    order = torch.tensor([2, 0, 3, 1])
    logits = model.classify(model.adapt("image", support, labels, n_way=4), query)
    renamed = model.classify(model.adapt("image", support, order[labels], n_way=4), query)
    torch.testing.assert_close(renamed[..., order], logits)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modality": "smell"}, "'smell'.*audio"),
        ({"n_way": 1}, "n_way=1"),
        ({"n_way": 2}, "from 0 to 1"),
        ({"support_labels": torch.zeros(2, 5, dtype=torch.int64)}, r"\(2, 5\), expected \(2, 6\)"),
        ({"support_labels": torch.zeros(2, 6)}, "int64"),
        ({"support": torch.zeros(3)}, r"\(3,\)"),
    ],
)
def test_bad_support_sets_are_refused_by_name(arguments, message):
    batch = tiny_episodes(["image"])["image"]
    good = {"modality": "image", "support": batch["support"], "support_labels": batch["support_labels"]}
    with pytest.raises(ValueError, match=message):
        tiny_model().adapt(**{**good, **arguments})


def test_queries_of_another_number_of_tasks_are_refused():
    model, batch = tiny_model(), tiny_episodes(["image"])["image"]
    adapted = model.adapt("image", batch["support"], batch["support_labels"])
    with pytest.raises(ValueError, match=r"expected \(2, samples"):
        model.classify(adapted, batch["query"][:1])
