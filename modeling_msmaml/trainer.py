"""Meta-training and evaluation on episodes."""

import math
from collections import defaultdict
from dataclasses import dataclass

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput

from .metrics import FewShotAccuracy
from .modeling_msmaml import MSMAMLModel, MSMAMLOutput
from .training_args import MetaTrainingArguments


@dataclass
class EpisodeResult:
    """What evaluation keeps of one episode."""

    modality: str
    predictions: list[int]
    labels: list[int]
    loss: float


class AlternatingUpdates(TrainerCallback):
    """
    What happens to the outer gradient between backward and optimizer step: the task encoder's is clipped, and under
    alternating updates the resting network's is dropped (to `None`, so that Adam leaves it alone).
    """

    def __init__(self, trainer: "MetaTrainer"):
        self.trainer = trainer

    def on_pre_optimizer_step(self, args: MetaTrainingArguments, state, control, **kwargs):
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        if model.task_encoder is None:
            return
        if args.task_encoder_max_grad_norm:
            self.trainer.accelerator.clip_grad_norm_(model.task_encoder.parameters(), args.task_encoder_max_grad_norm)
        if args.alternating_steps:
            network_turn = state.global_step // args.alternating_steps % 2 == 0
            for name, parameter in model.named_parameters():
                if name.startswith("task_encoder.") == network_turn:
                    parameter.grad = None


class MetaTrainer(Trainer):
    """
    `transformers.Trainer` for an [`MSMAMLModel`] and data sets of episodes (`data_builders.EpisodeDataset`).

    Evaluation adapts to every episode, keeps no outer graph, and reports means and 95 % intervals over episodes:
    `eval_accuracy`, `eval_accuracy_ci95`, `eval_loss`, `eval_episodes`, and for each modality
    `eval_<modality>_accuracy`, `eval_<modality>_accuracy_ci95`, `eval_<modality>_loss`, `eval_<modality>_episodes`.

    Args:
        model: its config takes over the inner-loop settings that `args` gives.
        args: with the `n_way` that the model was made for.
        data_collator: by default `data_builders.collate_episodes`.
        kwargs: as for `transformers.Trainer`.

    Raises:
        `ValueError`: `args` do not fit the model.
        `FloatingPointError`: in training, a loss that is not finite; before it has changed a parameter.
    """

    def __init__(self, model: MSMAMLModel, args: MetaTrainingArguments, data_collator=None, **kwargs):
        if args.n_way != model.config.n_way:
            raise ValueError(
                f"n_way={args.n_way} does not fit the model, whose classifier has n_way={model.config.n_way}: "
                "evaluate with that, or train a model of the n_way you want"
            )
        if model.task_encoder is None:
            for name in ("alternating_steps", "task_encoder_max_grad_norm", "task_encoder_learning_rate"):
                if getattr(args, name):
                    raise ValueError(f"{name}={getattr(args, name)} needs a task encoder, but conditioning is 'none'")
        for name, value in args.model_overrides().items():
            setattr(model.config, name, value)
        model.config.check()
        if data_collator is None:
            # Imported late: the data layer stands on this package's processor.
            from data_builders import collate_episodes as data_collator
        super().__init__(model=model, args=args, data_collator=data_collator, **kwargs)
        self.add_callback(AlternatingUpdates(self))
        self._train_accuracies: dict[str, list[Tensor]] = defaultdict(list)

    # Training

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """One parameter group for each network and kind of weight decay, each with its learning rate."""
        if self.optimizer is not None:
            return self.optimizer
        model = self.model if model is None else model
        optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, model)
        if options.keys() & {"params", "model", "optimizer_dict"}:
            raise ValueError(f"optim={self.args.optim} chooses its own parameters; take one that has parameter groups")
        decayed = set(self.get_decay_parameter_names(model))
        groups = defaultdict(list)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                groups["task_encoder." in name, name in decayed].append(parameter)
        rates = {True: self.args.task_encoder_learning_rate, False: self.args.task_network_learning_rate}
        self.optimizer = optimizer_class(
            [
                {
                    "params": parameters,
                    "lr": self.args.learning_rate if rates[is_encoder] is None else rates[is_encoder],
                    "weight_decay": self.args.weight_decay if is_decayed else 0.0,
                }
                for (is_encoder, is_decayed), parameters in groups.items()
            ],
            **options,
        )
        return self.optimizer

    def compute_loss(
        self, model: nn.Module, inputs: dict, return_outputs: bool = False, num_items_in_batch=None
    ) -> Tensor | tuple[Tensor, MSMAMLOutput]:
        output = model(**inputs)
        episodes = inputs["episodes"]
        if not torch.isfinite(output.loss):
            raise FloatingPointError(self._explain_not_finite(output, episodes))
        for modality, logits in output.logits.items():
            correct = logits.detach().argmax(dim=-1) == episodes[modality]["query_labels"]
            self._train_accuracies[modality].append(correct.float().mean())
        return (output.loss, output) if return_outputs else output.loss

    def _explain_not_finite(self, output: MSMAMLOutput, episodes: dict) -> str:
        places = []
        for modality, losses in output.support_loss.items():
            bad_steps = (~torch.isfinite(losses)).any(dim=0).nonzero()
            if len(bad_steps):
                places.append(f"{modality} (from inner step {bad_steps[0].item() + 1} on)")
            elif not torch.isfinite(output.logits[modality]).all():
                places.append(f"{modality} (after the inner loop)")
        floating = [m for m in episodes if not bool(torch.isfinite(episodes[m]["support"].float()).all())]
        inputs = f" The inputs of {', '.join(floating)} are not finite themselves." if floating else ""
        return (
            f"the loss is {output.loss.item()} at meta-step {self.state.global_step + 1}, in {', '.join(places)}."
            f"{inputs} Lower inner_lr (now {self.model.config.inner_lr}) or learning_rate (now "
            f"{self.args.learning_rate}), or set inner_grad_clip (now {self.model.config.inner_grad_clip}); the last "
            "checkpoint is intact."
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            for modality, values in self._train_accuracies.items():
                logs[f"{modality}_accuracy"] = torch.stack(values).mean().item()
            self._train_accuracies.clear()
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: dict) -> int:
        """0, meaning not counted: Trainer's formula (6 x parameters x tokens) does not hold for an inner loop."""
        return 0

    # Evaluation

    def get_eval_dataloader(self, eval_dataset: Dataset | str | None = None) -> DataLoader:
        if isinstance(eval_dataset, str):
            eval_dataset = self.eval_dataset[eval_dataset]
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if dataset is None:
            raise ValueError("evaluation needs an eval_dataset")
        return self._evaluation_dataloader(dataset)

    def get_test_dataloader(self, test_dataset: Dataset) -> DataLoader:
        return self._evaluation_dataloader(test_dataset)

    def _evaluation_dataloader(self, dataset: Dataset) -> DataLoader:
        # Each process takes its share and no more: accelerate's samplers repeat episodes to even out the last batch.
        rank, world = self.args.process_index, self.args.world_size
        share = range(len(dataset) * rank // world, len(dataset) * (rank + 1) // world)
        return DataLoader(
            dataset,
            sampler=share,
            batch_size=self.args.eval_batch_size,
            collate_fn=self.data_collator,
            # Else an evaluation would draw from the global random state, and change the training that goes on after it.
            generator=torch.Generator(),
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            multiprocessing_context=self.args.dataloader_multiprocessing_context,
        )

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        self.callback_handler.eval_dataloader = dataloader
        model = self.accelerator.unwrap_model(self.model).eval()
        results = []
        for batch in dataloader:
            episodes = self._prepare_inputs(batch)["episodes"]
            with torch.no_grad(), self.accelerator.autocast():
                output = model(episodes)
            results += episode_results(output, episodes)
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        results = gather_object(results)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in summarise(results).items()}
        return EvalLoopOutput(
            predictions=[result.predictions for result in results],
            label_ids=[result.labels for result in results],
            metrics=metrics,
            num_samples=len(results),
        )


def episode_results(output: MSMAMLOutput, episodes: dict[str, dict[str, Tensor]]) -> list[EpisodeResult]:
    """The result of every episode of a meta-batch, modality by modality."""
    results = []
    for modality, logits in output.logits.items():
        labels = episodes[modality]["query_labels"]
        losses = nn.functional.cross_entropy(logits.float().transpose(1, 2), labels, reduction="none").mean(dim=1)
        rows = zip(logits.argmax(dim=-1).tolist(), labels.tolist(), losses.tolist(), strict=True)
        results += [EpisodeResult(modality, *row) for row in rows]
    return results


def summarise(results: list[EpisodeResult]) -> dict[str, float]:
    """Accuracies with intervals and mean losses, in all and for each modality."""
    if not results:
        raise ValueError("there is no episode to evaluate: num_episodes must be at least 1")
    metrics = FewShotAccuracy().compute(
        predictions=[result.predictions for result in results],
        references=[result.labels for result in results],
        modalities=[result.modality for result in results],
    )
    metrics["loss"] = math.fsum(result.loss for result in results) / len(results)
    for modality in {result.modality for result in results}:
        losses = [result.loss for result in results if result.modality == modality]
        metrics[f"{modality}_loss"] = math.fsum(losses) / len(losses)
    return metrics
