"""The default architecture: fitted front ends, descriptors, prototypes, trained rates, co-training."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from data_builders import EpisodeDataset, FewShotSplit
from modeling_msmaml import MSMAMLConfig, MSMAMLModel
from modeling_msmaml.model.descriptors import Descriptor, DescriptorStatistics, within_group_whitening
from modeling_msmaml.model.modalities import embedding_class
from modeling_msmaml.model.modality_image import (
    ACTIVATION_THRESHOLD,
    PatchDictionaryFrontend,
    normalise_contrast,
    spherical_kmeans,
)
from modeling_msmaml.model.modality_text import DEVIATION_FLOOR, WeightedWordsFrontend, occurrences
from modeling_msmaml.model.norms import batch_statistics, mixed_statistics
from modeling_msmaml.model.samples import drop_channels, mixed_bits, task_seeds
from modeling_msmaml.training.callbacks import step_weights
from modeling_msmaml.training.trainer import MetaTrainer
from modeling_msmaml.training.training_args import MetaTrainingArguments

N_WAY, K_SHOT, N_QUERY = 3, 2, 3
STEP = 1e-7  # of finite differences; small, since ReLU has kinks
SHAPES = {"audio": (3200,), "text": (24,), "image": (3, 16, 16)}
SMALL = {
    "n_way": N_WAY,
    "front_ends": "fitted",
    "descriptor_size": 6,
    "num_channels": 8,
    "num_layers": 2,
    "kernel_size": 3,
    "stride": 1,
    "padding": 1,
    "pooling": "mean_max",
    "feature_size": 8,
    "norm": "group",
    "head": "prototype",
    "adapted_parameters": "head",
    "inner_rates": "per_layer_per_step",
    "num_inner_steps": 2,
    "inner_lr": 0.1,
    "modulation_init": "identity",
    "task_encoder_pooling": "class",
    "task_encoder_hidden_size": 6,
    "share_embeddings": True,
    "image_size": 16,
    "num_mels": 16,
    "patch_dictionary_size": 8,
    "vocab_size": 30,
    "word_vector_size": 10,
    "text_patch_size": 4,
}
WITHOUT_MODULATION = {
    "conditioning": "none",
    "modulation_init": "default",
    "task_encoder_pooling": "mean",
    "share_embeddings": False,
}


def raw(modality: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    low, high, dtype = {
        "audio": (-32767, 32768, torch.int16),
        "text": (0, 30, torch.int32),
        "image": (0, 256, torch.uint8),
    }[modality]
    return torch.randint(low, high, (*shape, *SHAPES[modality]), generator=generator, dtype=torch.int64).to(dtype)


def small_model(dtype: torch.dtype = torch.float64, **changes) -> MSMAMLModel:
    torch.manual_seed(0)
    model = MSMAMLModel(MSMAMLConfig(**{**SMALL, **changes}))
    generator = torch.Generator().manual_seed(5)
    model.fit_front_ends({name: raw(name, (40,), generator) for name in model.config.modalities})
    for name, parameter in model.named_parameters():
        if "modulations" in name:  # else the identity would hide what the task encoder does
            torch.nn.init.normal_(parameter, std=0.3)
    return model.to(dtype)


def episodes(modalities=tuple(SHAPES), tasks: int = 2, n_way: int = N_WAY, class_ids: bool = False, seed: int = 0):
    generator, batch = torch.Generator().manual_seed(seed), {}
    for name in modalities:
        batch[name] = {
            "support": raw(name, (tasks, n_way * K_SHOT), generator),
            "support_labels": torch.arange(n_way).repeat_interleave(K_SHOT).repeat(tasks, 1),
            "query": raw(name, (tasks, n_way * N_QUERY), generator),
            "query_labels": torch.arange(n_way).repeat_interleave(N_QUERY).repeat(tasks, 1),
        }
        if class_ids:
            batch[name]["class_ids"] = torch.stack([torch.arange(n_way).roll(task) + task for task in range(tasks)])
    return batch


VARIANTS = {
    "default": {},
    "upper": {"adapted_parameters": "upper"},
    "all": {"adapted_parameters": "all", "inner_lr": 0.02},
    "all with own embeddings": {"adapted_parameters": "all", "share_embeddings": False, "inner_lr": 0.02},
    "per element": {"inner_rates": "per_element", "adapted_parameters": "upper"},
    "fixed rates": {"inner_rates": "fixed", "adapted_parameters": "upper"},
    "checkpointed": {"adapted_parameters": "upper", "inner_loop_checkpointing": True, "num_inner_steps": 3},
    "linear head": {"head": "linear", "adapted_parameters": "upper"},
    "without modulation": WITHOUT_MODULATION,
    "without descriptor": {"descriptor_size": 0},
    "batch norm": {"norm": "batch", "norm_statistics": "support", "adapted_parameters": "upper"},
    "batch norm, head": {"norm": "batch"},
    "task norm": {"norm": "task"},
    "task norm, upper": {"norm": "task", "adapted_parameters": "upper"},
    "co-training": {"auxiliary_classes": {"audio": 5, "image": 6}, "auxiliary_weight": 0.5},
    "network gain": {"network_gain": {"text": 0.3}},
    "kernel modulation": {"conditioning": "kernel"},
    "label smoothing": {"label_smoothing": 0.2},
    "dropout": {"dropout": 0.3},
    "dropout, upper": {"dropout": 0.3, "adapted_parameters": "upper"},
    "dropout, batch norm": {"dropout": 0.3, "adapted_parameters": "upper", "norm": "batch"},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_outer_gradient_agrees_with_finite_differences(name):
    model = small_model(**VARIANTS[name]).train()
    batch = episodes()
    for modality in model.auxiliary:
        batch[modality] |= {"class_ids": episodes([modality], class_ids=True)[modality]["class_ids"]}
    model(batch).loss.backward()
    generator = torch.Generator().manual_seed(1)
    trained = [p for p in model.parameters() if p.requires_grad and p.grad is not None]
    for _ in range(4):
        # Every tensor takes part in every direction, with a length of its own.
        direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in trained]
        direction = [d / d.norm() for d in direction]
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                for parameter, step in zip(trained, direction, strict=True):
                    parameter += sign * STEP * step
                losses.append(model(batch).loss.item())
                for parameter, step in zip(trained, direction, strict=True):
                    parameter -= sign * STEP * step
        numerical = (losses[0] - losses[1]) / (2 * STEP)
        analytical = sum((p.grad * d).sum().item() for p, d in zip(trained, direction, strict=True))
        assert analytical == pytest.approx(numerical, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("adapted_parameters", ["head", "upper", "all"])
def test_every_part_gets_a_gradient(adapted_parameters):
    model = small_model(
        auxiliary_classes={"audio": 5, "text": 5, "image": 5}, adapted_parameters=adapted_parameters
    ).train()
    model(episodes(class_ids=True)).loss.backward()
    idle = {name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())}
    assert idle == set()


@pytest.mark.parametrize("name", ["default", "upper", "all", "co-training"])
@pytest.mark.parametrize("task_chunk_size", [1, 3])
def test_no_result_depends_on_chunks(name, task_chunk_size):
    together = small_model(**VARIANTS[name]).eval()
    model = small_model(**VARIANTS[name], task_chunk_size=task_chunk_size).eval()
    batch = episodes(tasks=3)
    expected, actual = together(batch), model(batch)
    torch.testing.assert_close(actual.loss, expected.loss, rtol=1e-10, atol=0)
    for modality in batch:
        torch.testing.assert_close(actual.logits[modality], expected.logits[modality], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("adapted_parameters", ["head", "upper"])
def test_dropout_is_a_function_of_the_task_and_only_in_training(adapted_parameters):
    options = {"adapted_parameters": adapted_parameters, "inner_loop_checkpointing": True}
    plain, model, chunked = (
        small_model(dropout=rate, task_chunk_size=size, **options).train()
        for rate, size in ((0, 3), (0.5, 3), (0.5, 1))
    )
    batch = episodes(tasks=3)
    first = model(batch)
    torch.rand(7)  # the global state plays no part
    again, apart, without = model(batch), chunked(batch), plain(batch)
    for modality in batch:
        assert torch.equal(first.logits[modality], again.logits[modality])
        torch.testing.assert_close(apart.logits[modality], first.logits[modality], rtol=1e-8, atol=1e-10)
        assert not torch.allclose(first.logits[modality], without.logits[modality])
        assert not torch.allclose(first.support_loss[modality], without.support_loss[modality]), "in the inner loop too"
    assert torch.equal(model.eval()(batch).loss, plain.eval()(batch).loss)


def test_dropped_channels_differ_by_sample_and_keep_the_mean():
    raw_rows = raw("audio", (3, 50), torch.Generator().manual_seed(1))
    ones = torch.ones(3, 50, 40, 5)
    dropped = drop_channels(ones, 0.25, raw_rows)
    assert ((dropped == 0) | (dropped == 1 / 0.75)).all() and torch.equal(dropped[..., 0], dropped[..., 4])
    assert dropped.mean().item() == pytest.approx(1, abs=0.03)
    assert len({tuple(sample.tolist()) for sample in dropped[..., 0].flatten(0, 1)}) == 150
    assert torch.equal(drop_channels(ones[1:2], 0.25, raw_rows[1:2]), dropped[1:2])


def test_dropped_channels_are_those_of_independent_draws():
    rows = torch.arange(400, dtype=torch.int16)[:, None, None]  # tasks as alike as can be
    kept = drop_channels(torch.ones(400, 10, 20, 1), 0.5, rows)[..., 0].flatten(1) > 0
    shares = kept.double()
    assert (shares.mean(dim=0) - 0.5).abs().max() < 5 * 0.5 / 400**0.5
    assert (shares.mean(dim=1) - 0.5).abs().max() < 5 * 0.5 / 200**0.5
    between_places, between_tasks = torch.corrcoef(shares.T), torch.corrcoef(shares)
    for correlations, size in ((between_places, 400), (between_tasks, 200)):
        assert correlations.fill_diagonal_(0).abs().max() < 6 / size**0.5


def test_samples_that_differ_in_some_bytes_of_their_numbers_alone_have_seeds_of_their_own():
    rows = torch.randint(256, (2, 25, 3, 84, 84), generator=torch.Generator().manual_seed(0)) / 256
    first, second = task_seeds(rows.float()).tolist()
    assert first != second


def test_mixed_numbers_are_those_of_murmur_hash():
    # fmix32 in C, of 0, 1, 2 and 2^32 - 1.
    numbers = torch.tensor([0, 1, 2, 2**32 - 1])
    assert mixed_bits(numbers).tolist() == [0, 0x514E28B7, 0x30F4C306, 0x81F16F39]


@pytest.mark.parametrize("norm", ["group", "task"])
def test_predictions_do_not_depend_on_other_queries(norm):
    model, batch = small_model(norm=norm).eval(), episodes(["image"])
    together = model(batch).logits["image"]
    for query in range(N_WAY * N_QUERY):
        one = {name: batch["image"][name] for name in ("support", "support_labels")}
        alone = model({"image": {**one, "query": batch["image"]["query"][:, query : query + 1]}}).logits["image"]
        torch.testing.assert_close(alone[:, 0], together[:, query], rtol=1e-10, atol=1e-12)


def test_task_norm_lies_between_batch_norm_and_instance_norm():
    inputs = torch.randn(2, 5, 4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    own = inputs.mean(dim=3, keepdim=True), inputs.var(dim=3, keepdim=True, unbiased=False)
    of_set = batch_statistics(inputs)
    for share, expected in ((1.0, of_set), (0.0, own)):
        mixed = mixed_statistics(inputs, of_set, torch.full((2,), share, dtype=inputs.dtype))
        for one, other in zip(mixed, expected, strict=True):
            torch.testing.assert_close(one, other.expand_as(one))
    # The variance of a mixture of two distributions.
    mean, variance = mixed_statistics(inputs, of_set, torch.full((2,), 0.25, dtype=inputs.dtype))
    second = 0.25 * (of_set[1] + of_set[0] ** 2) + 0.75 * (own[1] + own[0] ** 2)
    torch.testing.assert_close(variance, second - mean**2)


def test_prototypes_work_for_any_number_of_classes():
    model = small_model().eval()
    assert model(episodes(n_way=4)).logits["text"].shape == (2, 4 * N_QUERY, 4)
    assert model(episodes(n_way=2)).logits["text"].shape == (2, 2 * N_QUERY, 2)


def test_prototypes_are_mean_features_of_unit_length():
    model = small_model(num_inner_steps=0, inner_rates="fixed").eval()
    adapted = model.adapt("audio", *(episodes(["audio"])["audio"][k] for k in ("support", "support_labels")))
    weight = adapted.parameters["classifier.weight"]
    torch.testing.assert_close(weight.norm(dim=2), torch.ones(2, N_WAY, dtype=weight.dtype))
    assert not adapted.parameters["classifier.bias"].any()


def test_trained_rates_start_as_the_fixed_one():
    batch = episodes()
    fixed, trained, element = (
        small_model(inner_rates=kind).eval()(batch).logits["audio"]
        for kind in ("fixed", "per_layer_per_step", "per_element")
    )
    torch.testing.assert_close(trained, fixed, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(element, fixed, rtol=1e-6, atol=1e-6)


def test_identity_modulation_changes_nothing_at_first():
    torch.manual_seed(0)
    model = MSMAMLModel(MSMAMLConfig(**SMALL)).eval()
    assert not any(m.any() for m in model(episodes()).modulation["audio"])


def test_inner_loop_lowers_the_support_loss():
    losses = small_model(num_inner_steps=5, inner_lr=0.01, adapted_parameters="upper").eval()(episodes()).support_loss
    for modality, values in losses.items():
        assert (values[:, -1] < values[:, 0]).all(), modality


def test_round_trip_keeps_every_result(tmp_path):
    model = small_model(torch.float32, auxiliary_classes={"audio": 5}).eval()
    model.save_pretrained(tmp_path)
    loaded = MSMAMLModel.from_pretrained(tmp_path).eval()
    expected, actual = model.state_dict(), loaded.state_dict()
    assert expected.keys() == actual.keys()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)
    assert torch.equal(loaded(episodes()).loss, model(episodes()).loss)


def test_fitting_is_a_function_of_the_seed():
    rows = {"image": raw("image", (40,), torch.Generator().manual_seed(5))}
    filters = []
    for seed in (0, 0, 1):
        model = MSMAMLModel(MSMAMLConfig(**SMALL))
        model.fit_front_ends(rows, seed)
        filters.append(model.frontends["image"].filters.clone())
    assert torch.equal(filters[0], filters[1]) and not torch.equal(filters[0], filters[2])


def test_fitting_refuses_what_it_cannot_use():
    model = MSMAMLModel(MSMAMLConfig(**{**SMALL, "modalities": ["image"]}))
    with pytest.raises(ValueError, match="'audio'"):
        model.fit_front_ends({"audio": torch.zeros(5, 3200)})
    with pytest.raises(ValueError, match="1 samples; at least 2"):
        model.fit_front_ends({"image": torch.zeros(1, 3, 16, 16)})


@pytest.mark.parametrize(
    ("whitening", "groups", "message"),
    [
        ("class", None, "'class' for image: give groups.*the class of each sample"),
        ("class", {"image": torch.arange(3)}, r"shape \(4,\), one number per sample, not \(3,\)"),
        ("class", {"image": torch.zeros(4, 1)}, r"not \(4, 1\)"),
        ("class", {"image": [0, 0, 1, 1]}, "not list"),
        ("class", {"image": torch.zeros(4), "txt": torch.zeros(4)}, "groups has .'txt'.*rows has .'image'"),
        ("source", {"image": torch.arange(4)}, "no two of 4 samples share their source: use 'class' or 'total'"),
        ("total", {"image": torch.zeros(4)}, "has no effect: omit it"),
    ],
)
def test_fitting_refuses_groups_that_do_not_fit_the_whitening(whitening, groups, message):
    changes = {"modalities": ["image"], "descriptor_whitening": whitening}
    model = MSMAMLModel(MSMAMLConfig(**{**SMALL, **changes}))
    with pytest.raises(ValueError, match=message):
        model.fit_front_ends({"image": torch.zeros(4, 3, 16, 16)}, groups=groups)


def test_fitting_refuses_to_whiten_a_descriptor_that_a_modality_does_not_have(monkeypatch):
    monkeypatch.setattr(embedding_class("image", "fitted"), "statistics", classmethod(lambda cls, config: None))
    model = MSMAMLModel(MSMAMLConfig(**{**SMALL, "modalities": ["image", "text"], "descriptor_whitening": "class"}))
    with pytest.raises(ValueError, match="'class' for image, which has no descriptor"):
        model.fit_front_ends({"image": torch.zeros(4, 3, 16, 16)}, groups={"image": torch.tensor([0, 0, 1, 1])})


@given(st.integers(2, 6), st.integers(0, 10_000))
def test_whitening_within_groups_inverts_the_root_of_their_regularised_covariance(size, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(20, size, generator=generator, dtype=torch.float64) * 10.0 ** torch.arange(size)
    groups = torch.randint(0, 6, (20,), generator=generator)
    matrix = within_group_whitening(values, groups)
    within = torch.cat([values[groups == group] - values[groups == group].mean(0) for group in groups.unique()])
    covariance = within.T @ within / (20 - len(groups.unique()))
    regularised = covariance / covariance.trace() * size + torch.eye(size)
    torch.testing.assert_close(matrix @ regularised @ matrix, torch.eye(size, dtype=torch.float64), atol=1e-6, rtol=0)
    # Neither the unit of the values nor the numbers of groups mean anything, and moving whole groups changes nothing.
    torch.testing.assert_close(within_group_whitening(1e-9 * values, groups), matrix)
    moved = values + 100 * torch.randn(6, size, generator=generator, dtype=torch.float64)[groups]
    torch.testing.assert_close(within_group_whitening(moved, 17 - 3 * groups), matrix)


def test_descriptor_whitened_by_source_tells_sources_apart_where_samples_of_one_vary_much():
    generator = torch.Generator().manual_seed(0)
    groups = torch.arange(10).repeat_interleave(20)
    of_source = torch.randn(10, 9, generator=generator)[groups]
    values = torch.cat([of_source, 10 * torch.randn(200, 1, generator=generator)], dim=1)
    apart = {}
    for name, given_groups in (("as it is", None), ("source", groups)):
        descriptor = Descriptor(DescriptorStatistics(lambda maps: maps, 10, standardise=False, whitening=0.0), 10)
        descriptor.fit_statistics(values, given_groups)
        described = descriptor(values).unflatten(0, (10, 20))
        between, within = described.mean(dim=1).var(dim=0).sum(), described.var(dim=1).sum(dim=1).mean()
        apart[name] = float(between / within)
    assert apart["source"] > 2 * apart["as it is"], apart


@given(st.lists(st.lists(st.integers(0, 5), min_size=6, max_size=6), min_size=1, max_size=4))
def test_occurrences_count(rows):
    expected = [[row.count(token) for token in row] for row in rows]
    assert occurrences(torch.tensor(rows)).tolist() == expected


def test_positions_of_a_text_sum_up_to_its_latent_semantic_representation():
    generator = torch.Generator().manual_seed(0)
    rows = raw("text", (50,), generator)
    frontend = WeightedWordsFrontend(MSMAMLConfig(**{**SMALL, "word_vector_size": 5}))
    frontend.requires_grad_(False).fit(rows, generator)
    counts = torch.stack([torch.bincount(row.long(), minlength=30) for row in rows]).float()
    counts[:, 0] = 0
    weights = ((counts > 0).sum(0) > 1) / (counts.sqrt().std(0) + DEVIATION_FLOOR)
    weighted = counts.sqrt() * weights
    _, _, directions = torch.linalg.svd(weighted - weighted.mean(0), full_matrices=False)
    expected = weighted @ directions[:5].T
    actual = frontend(rows, torch.float32).sum(dim=-1)
    signs = torch.sign((actual * expected).sum(0))
    torch.testing.assert_close(actual * signs, expected, rtol=1e-3, atol=1e-3)


def test_patch_responses_are_those_of_normalised_patches():
    frontend = PatchDictionaryFrontend(MSMAMLConfig(**SMALL))
    rows = raw("image", (30,), torch.Generator().manual_seed(0))
    frontend.fit(rows, torch.Generator().manual_seed(0))
    patches = normalise_contrast(F.unfold(rows[:3].double() / 255, 6).transpose(1, 2))
    responses = (patches @ frontend.filters.double() + frontend.offsets.double()).transpose(1, 2).unflatten(2, (11, 11))
    parts = [F.avg_pool2d(F.relu(sign * responses - ACTIVATION_THRESHOLD), 3) for sign in (1, -1)]
    torch.testing.assert_close(frontend.maps(rows[:3], torch.float64), torch.cat(parts, 1).sqrt())
    maps = frontend(rows, torch.float32)
    torch.testing.assert_close(maps.mean(dim=(0, 2, 3)), torch.zeros(16), atol=1e-5, rtol=0)
    used = frontend.channel_std > 1e-6
    torch.testing.assert_close(maps.std(dim=(0, 2, 3))[used], torch.ones(int(used.sum())), atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match=r"\(3, 8, 8\).*takes \(3, 16, 16\)"):
        frontend(torch.zeros(2, 3, 8, 8), torch.float32)


def test_spherical_kmeans_finds_directions():
    generator = torch.Generator().manual_seed(0)
    directions = torch.eye(4)[:3]
    points = directions.repeat_interleave(50, 0) * torch.rand(150, 1, generator=generator).add(0.5)
    points += 0.05 * torch.randn(150, 4, generator=generator)
    found = spherical_kmeans(points[torch.randperm(150, generator=generator)], 3, generator)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_descriptor_whitens_as_much_as_it_says(whitening):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(500, 4, generator=generator) @ torch.diag(torch.tensor([8.0, 4.0, 2.0, 1.0])) + 3
    descriptor = Descriptor(DescriptorStatistics(lambda maps: maps, 4, standardise=False, whitening=whitening), 3)
    descriptor.fit(values)
    projected = (values - descriptor.mean) @ descriptor.projection
    deviations = (values - values.mean(0)).svd().S[:3] / 499**0.5
    torch.testing.assert_close(projected.std(0), deviations ** (1 - whitening), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(descriptor(values).norm(dim=1), torch.ones(500))


def test_descriptor_of_fewer_samples_than_components_is_finite():
    descriptor = Descriptor(DescriptorStatistics(lambda maps: maps, 10), 8)
    descriptor.fit(torch.randn(4, 10))
    assert torch.isfinite(descriptor(torch.randn(3, 10))).all()
    assert not descriptor.projection[:, 3:].any()


def test_co_training_needs_the_classes_and_only_then_knows_them():
    model = small_model(auxiliary_classes={"audio": 5}).train()
    with pytest.raises(ValueError, match="'audio'.*lacks 'class_ids'"):
        model(episodes(["audio"]))
    with pytest.raises(ValueError, match="'class_ids'"):
        small_model().train()(episodes(["audio"], class_ids=True))
    model.eval()(episodes(["audio"]))


def test_co_training_adds_to_the_training_loss_alone():
    plain, batch = small_model(), episodes(["audio"], class_ids=True)
    model = small_model(auxiliary_classes={"audio": 5}, auxiliary_weight=2.0)
    model.load_state_dict(plain.state_dict(), strict=False)
    without = {"audio": {name: tensor for name, tensor in batch["audio"].items() if name != "class_ids"}}
    torch.testing.assert_close(model.eval()(batch).loss, plain.eval()(without).loss)
    assert model.train()(batch).loss > plain.train()(without).loss + 0.5
    model.config.episode_weight = 0.0
    only = model(batch).loss
    model.config.episode_weight = 1.0
    torch.testing.assert_close(only + plain.train()(without).loss, model.train()(batch).loss)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm_statistics": "transductive"}, "norm_statistics='transductive'.*norm='group'"),
        ({"front_ends": "raw"}, "descriptor_size=6 needs front_ends"),
        ({"descriptor_size": 0, "network_gain": 0.5}, "network_gain=0.5 needs a descriptor"),
        ({"network_gain": {"audio": 0.0}}, "network_gain=.*positive"),
        ({"descriptor_whitening": "classes"}, "descriptor_whitening='classes'.*total, source, class"),
        ({"descriptor_whitening": {"text": "clas"}}, r"descriptor_whitening={'text': 'clas'} is unknown"),
        ({"descriptor_whitening": {"txt": "class"}}, "descriptor_whitening names .*txt"),
        ({"descriptor_size": 0, "descriptor_whitening": "class"}, "descriptor_whitening='class' needs a descriptor"),
        ({"head": "linear", "cosine_scale": 5.0}, "cosine_scale=5.0 has no effect"),
        ({"num_inner_steps": 0}, "inner_rates='per_layer_per_step' has no effect"),
        ({"conditioning": "sigmoid"}, "modulation_init='identity' needs"),
        ({**WITHOUT_MODULATION, "share_embeddings": True}, "share_embeddings=True has no effect"),
        ({**WITHOUT_MODULATION, "task_encoder_pooling": "class"}, "task_encoder_pooling='class' has no effect"),
        ({"auxiliary_weight": 0.5}, "auxiliary_weight=0.5 has no effect"),
        ({"auxiliary_classes": {"smell": 3}}, "auxiliary_classes names .*smell"),
        ({"episode_weight": 0.0}, "episode_weight=0.0"),
        ({"inner_rates": "meta_sgd"}, "inner_rates='meta_sgd'"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"dropout": 1.0}, "dropout=1.0 must be in"),
        ({"dropout": 0.1, "adapted_parameters": "all"}, "dropout=0.1 drops what comes out of the embeddings"),
        ({"network_gain": {"txt": 0.3}}, "network_gain names .*txt"),
        ({"image_size": 7}, "image_size=7 must be at least dictionary_patch_size"),
    ],
)
def test_combinations_without_meaning_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        MSMAMLConfig(**{**SMALL, **changes})


def test_trainer_refuses_what_does_not_fit_the_model(tmp_path):
    arguments = {"output_dir": str(tmp_path), "n_way": N_WAY, "report_to": "none", "use_cpu": True}
    with pytest.raises(ValueError, match="num_inner_steps=4.*rates for 2"):
        MetaTrainer(small_model(torch.float32), MetaTrainingArguments(**arguments, num_inner_steps=4))
    linear = small_model(torch.float32, head="linear")
    with pytest.raises(ValueError, match="train_n_way=5.*linear"):
        MetaTrainer(linear, MetaTrainingArguments(**arguments, train_n_way="5"))
    with pytest.raises(ValueError, match="more steps|num_inner_steps=3"):
        model = small_model(torch.float32)
        model.config.num_inner_steps = 3
        model(episodes())


def test_rates_and_scale_do_not_decay(tmp_path):
    args = MetaTrainingArguments(
        output_dir=str(tmp_path), n_way=N_WAY, report_to="none", use_cpu=True, weight_decay=0.1
    )
    trainer = MetaTrainer(small_model(torch.float32), args)
    decayed = {id(p) for g in trainer.create_optimizer().param_groups if g["weight_decay"] for p in g["params"]}
    model = trainer.model
    assert decayed and not any(id(p) in decayed for p in model.inner_rates.parameters())
    assert id(model.task_network.cosine_scale.value) not in decayed


@pytest.mark.parametrize("adapted_parameters", ["head", "upper"])
def test_multi_step_loss_weighs_the_losses_after_every_step(adapted_parameters):
    batch, model = episodes(["audio"]), small_model(adapted_parameters=adapted_parameters).train()
    losses = []
    for steps in (1, 2):
        model.config.num_inner_steps = steps
        losses.append(model(batch).loss)
    model.multi_step_weights = (0.3, 0.7)
    loss = model(batch).loss
    torch.testing.assert_close(loss, 0.3 * losses[0] + 0.7 * losses[1])
    loss.backward()
    assert model.inner_rates.rates["classifier_weight"].grad[0] != 0
    assert torch.equal(model.eval()(batch).loss, losses[1].detach()), "evaluation takes the last step"


def test_weights_of_steps_anneal_to_the_last():
    assert step_weights(4, 0.0) == (0.25,) * 4
    assert step_weights(4, 1.0) is None and step_weights(1, 0.0) is None
    for progress in (0.2, 0.9):
        weights = step_weights(4, progress)
        assert sum(weights) == pytest.approx(1) and weights[-1] > weights[0] > 0


def image_trainer(model: MSMAMLModel, output_dir, steps: int, **arguments) -> MetaTrainer:
    """Trains `steps` meta-steps of one task."""
    rows = raw("image", (40,), torch.Generator().manual_seed(0)).numpy()
    splits = [FewShotSplit.from_arrays(rows, [0, 1, 2, 3] * 10)]
    settings = MetaTrainingArguments(
        output_dir=str(output_dir),
        n_way=N_WAY,
        report_to="none",
        use_cpu=True,
        per_device_train_batch_size=1,
        max_steps=steps,
        save_strategy="no",
        disable_tqdm=True,
        **arguments,
    )
    dataset = EpisodeDataset(splits, N_WAY, K_SHOT, N_QUERY, num_episodes=steps)
    return MetaTrainer(model, settings, train_dataset=dataset)


def test_annealing_follows_the_meta_steps(tmp_path, monkeypatch):
    seen = []
    model = small_model(torch.float32, adapted_parameters="upper")
    solve = model._solve

    def watched(*args, **kwargs):
        seen.append((model.multi_step_weights, model.first_order_for_now))
        return solve(*args, **kwargs)

    monkeypatch.setattr(model, "_solve", watched)
    image_trainer(model, tmp_path, 4, multi_step_loss_steps=2, first_order_steps=3).train()
    assert seen == [((0.5, 0.5), True), ((0.25, 0.75), True), (None, True), (None, False)]
    assert model.multi_step_weights is None and not model.first_order_for_now


def test_logging_of_the_inner_loop_goes_with_the_multi_step_loss(tmp_path):
    trainer = image_trainer(
        small_model(torch.float32), tmp_path, 1, multi_step_loss_steps=5, log_inner_loop=True, logging_steps=1
    )
    trainer.train()
    assert any("image_accuracy_before" in entry for entry in trainer.state.log_history)


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [({"multi_step_loss_steps": 2}, {"num_inner_steps": 1}), ({"first_order_steps": 2}, {"first_order": True})],
)
def test_annealing_without_effect_is_refused(arguments, changes, tmp_path):
    with pytest.raises(ValueError, match="no effect with"):
        image_trainer(small_model(torch.float32, **changes), tmp_path, 1, **arguments)


@pytest.mark.parametrize("changes", [{"head": "linear"}, {"inner_rates": "per_element"}, {}])
def test_a_descriptor_may_be_wider_than_its_statistics(changes):
    model = small_model(descriptor_size=100, **changes).eval()
    assert torch.isfinite(model(episodes()).loss)
    assert not model.descriptors["text"].projection[:, 10:].any()


def test_co_training_of_some_modalities_takes_the_classes_of_all():
    model = small_model(auxiliary_classes={"audio": 5}).train()
    assert torch.isfinite(model(episodes(class_ids=True)).loss)


def test_a_meta_batch_whose_tasks_differ_in_their_number_of_classes_is_refused():
    model, batch = small_model().eval(), episodes(["text"])
    batch["text"]["support_labels"][1][batch["text"]["support_labels"][1] == N_WAY - 1] = 0
    with pytest.raises(ValueError, match=f"has {N_WAY - 1} classes in task 1, but the tasks have {N_WAY}"):
        model(batch)


def test_tasks_of_several_shapes_are_solved_as_each_shape_alone():
    model = small_model().eval()
    first, second = episodes(["text"])["text"], episodes(["text"], n_way=4)["text"]
    together = model({"text": first, "text#1": second})
    for name, alone in (("text", first), ("text#1", second)):
        torch.testing.assert_close(together.logits[name], model({"text": alone}).logits["text"])
    assert together.logits["text#1"].shape[-1] == 4


def test_adapting_takes_the_number_of_classes_from_the_labels():
    batch = episodes(["text"], n_way=4)["text"]
    adapted = small_model().adapt("text", batch["support"], batch["support_labels"])
    assert adapted.parameters["classifier.weight"].shape[1] == 4


def test_a_class_without_samples_has_no_prototype_and_no_part_in_the_modulation():
    model, batch = small_model(), episodes(["text"])["text"]
    two = [tensor[:, : 2 * K_SHOT] for tensor in (batch["support"], batch["support_labels"])]
    with_gap = model.adapt("text", *two, n_way=3)
    without = model.adapt("text", *two, n_way=2)
    for one, other in zip(with_gap.modulation, without.modulation, strict=True):
        torch.testing.assert_close(one, other)
    half = model.task_network.prototype_classifier(torch.randn(1, 4, 8).half(), torch.tensor([[0, 0, 1, 1]]), 3)
    assert torch.isfinite(half["classifier.weight"]).all() and not half["classifier.weight"][0, 2].any()
