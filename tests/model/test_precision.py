"""Training in half precision: gradients through the inner loop, and fifty meta-steps of bf16 beside float32."""

import pytest
import torch
from accelerate.state import AcceleratorState

from data_builders import EpisodeDataset, FewShotSplit
from modeling_msmaml import MetaTrainer, MSMAMLModel

from ..toys import K_SHOT, N_QUERY, N_WAY, RAW_SHAPES, raw_inputs, tiny_episodes, tiny_model
from ..training.test_trainer import arguments
from .test_default_architecture import episodes as default_episodes
from .test_default_architecture import small_model


@pytest.fixture(autouse=True)
def fresh_precision():
    """accelerate keeps the precision of the first trainer in a process."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


def outer_gradient(
    model: MSMAMLModel, episodes: dict, bf16: bool, dtype: torch.dtype = torch.bfloat16, loss_scale: float = 1.0
) -> dict[str, torch.Tensor]:
    model.zero_grad()
    with torch.autocast("cpu", dtype, enabled=bf16):
        loss = model(episodes).loss
    (loss_scale * loss).backward()
    return {name: p.grad / loss_scale for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("conditioning", ["affine", "sigmoid", "softmax", "none"])
@pytest.mark.parametrize("norm_statistics", ["transductive", "support"])
def test_second_order_gradients_are_finite_in_bf16(conditioning, norm_statistics):
    model = tiny_model(torch.float32, conditioning=conditioning, norm_statistics=norm_statistics)
    exact, rounded = (outer_gradient(model, tiny_episodes(), bf16) for bf16 in (False, True))
    assert exact.keys() == rounded.keys()
    assert all(torch.isfinite(gradient).all() and gradient.dtype == torch.float32 for gradient in rounded.values())
    exact, rounded = (torch.cat([g.flatten() for g in gradients.values()]) for gradients in (exact, rounded))
    assert torch.cosine_similarity(exact, rounded, dim=0) > 0.95
    assert not torch.equal(exact, rounded), "bf16 was not used"


def test_task_without_variance_has_finite_gradients_in_bf16():
    """Silence, padding, black pictures: the norms divide by almost nothing."""
    episodes = tiny_episodes()
    for batch in episodes.values():
        batch["support"].zero_()
    gradients = outer_gradient(tiny_model(torch.float32), episodes, bf16=True)
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())


@pytest.mark.parametrize(("dtype", "loss_scale"), [(torch.bfloat16, 1.0), (torch.float16, 2.0**10)])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dropout": 0.2},
        {"adapted_parameters": "upper"},
        {"norm": "batch", "adapted_parameters": "upper"},
        {"adapted_parameters": "all", "inner_rates": "per_element", "inner_lr": 0.02},
        {"conditioning": "kernel", "adapted_parameters": "upper"},
    ],
)
def test_gradients_of_the_default_architecture_are_finite_in_half_precision(dtype, loss_scale, changes):
    """fp16 with a scaled loss, as the gradient scaler of a GPU has it."""
    model, batch = small_model(torch.float32, **changes).train(), default_episodes()
    exact, rounded = (outer_gradient(model, batch, half, dtype, loss_scale) for half in (False, True))
    assert exact.keys() == rounded.keys()
    assert all(torch.isfinite(gradient).all() and gradient.dtype == torch.float32 for gradient in rounded.values())
    exact, rounded = (torch.cat([g.flatten() for g in gradients.values()]) for gradients in (exact, rounded))
    assert torch.cosine_similarity(exact, rounded, dim=0) > 0.9
    assert not torch.equal(exact, rounded), "half precision was not used"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_tasks_without_content_have_finite_gradients_in_the_default_architecture(dtype):
    batch = default_episodes()
    for tensors in batch.values():
        tensors["support"].zero_()
    model = small_model(torch.float32, dropout=0.2).train()
    gradients = outer_gradient(model, batch, True, dtype)
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())


def learnable_episodes(number: int, seed: int) -> EpisodeDataset:
    """Rows of the tiny shapes that scatter about one random row for each of twelve classes."""
    generator = torch.Generator().manual_seed(seed)
    splits = []
    for modality, shape in RAW_SHAPES.items():
        centres, others = (raw_inputs(modality, (12, samples, *shape), generator) for samples in (1, 12))
        noisy = torch.rand(others.shape, generator=generator) < 0.25
        rows = torch.where(noisy, others, centres).flatten(0, 1)
        labels = [label for label in range(12) for _ in range(12)]
        splits.append(FewShotSplit.from_arrays(rows.numpy(), labels, modality=modality))
    return EpisodeDataset(splits, N_WAY, K_SHOT, N_QUERY, number, seed)


def losses(folder, bf16: bool) -> tuple[list[float], float]:
    """Training losses of fifty meta-steps, and the loss on episodes of other classes."""
    train = learnable_episodes(50 * 6, seed=1)
    trainer = MetaTrainer(
        model=tiny_model(torch.float32, num_channels=8),
        args=arguments(
            folder, max_steps=50, logging_steps=5, per_device_train_batch_size=6, learning_rate=3e-3, bf16=bf16
        ),
        train_dataset=train,
        eval_dataset=learnable_episodes(60, seed=2),
    )
    assert trainer.accelerator.mixed_precision == ("bf16" if bf16 else "no")
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert all(parameter.dtype == torch.float32 for parameter in trainer.model.parameters())
    return logged, trainer.evaluate()["eval_loss"]


def test_bf16_trains_like_float32(tmp_path):
    single, single_eval = losses(tmp_path / "float32", bf16=False)
    AcceleratorState._reset_state()
    half, half_eval = losses(tmp_path / "bf16", bf16=True)
    print(f"float32: {single[0]:.4f} -> {single[-1]:.4f}, evaluation {single_eval:.4f}")
    print(f"bf16:    {half[0]:.4f} -> {half[-1]:.4f}, evaluation {half_eval:.4f}")
    assert half != single, "bf16 was not used"
    assert single[-1] < 0.9 * single[0], "float32 did not learn anything to compare with"
    assert half[-1] == pytest.approx(single[-1], rel=0.05)
    assert half_eval == pytest.approx(single_eval, rel=0.05)


def test_environment_of_accelerate_sets_the_precision(tmp_path, monkeypatch):
    """`mixed_precision` in an accelerate configuration arrives as this variable."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    trainer = MetaTrainer(tiny_model(torch.float32), arguments(tmp_path))
    assert trainer.accelerator.mixed_precision == "bf16"
