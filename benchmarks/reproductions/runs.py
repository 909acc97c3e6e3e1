"""The reproductions as data: which published figures, what config, and what is reduced to fit two cores."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "results" / "reproductions"

Options = dict[str, str | list[str]]


@dataclass(frozen=True)
class Published:
    """
    A published figure.

    Attributes:
        accuracy: in %, as it is printed, with its interval if it has one.
        setting: what it was measured on.
        source: paper and table.
    """

    accuracy: str
    setting: str
    source: str


@dataclass(frozen=True)
class Reproduction:
    """
    One method on one data set.

    Attributes:
        method: its name in the tables.
        config: the YAML file with the published schedule.
        published: the figures that it is compared with.
        options: those that differ from the config's, for two cores and the data at hand.
        reduced: what that changes, in words.
        absent: parts of the published method that the run lacks, in words.
        developed_on: which cells were looked at while the schedule was chosen.
    """

    method: str
    config: str
    published: tuple[Published, ...]
    options: Options = field(default_factory=dict)
    reduced: str = ""
    absent: str = ""
    developed_on: str = "validation classes alone"


MAML = "Finn et al. 2017, arXiv 1703.03400, table 1"
OMNIGLOT_5_1 = "Omniglot, 5-way 1-shot, characters split at random"
# Rows with the same schedule differ in the method alone.
SMALL_OMNIGLOT: Options = {
    "dataset_options": '{"omniglot": {"part": "small1", "image_size": 28}}',
    "max_steps": "10000",
    "per_device_train_batch_size": "4",
    "learning_rate": "0.002",
    "train_n_query": "5",
    "augment": "affine",
    "lr_scheduler_type": "cosine",
    "eval_steps": "1000",
    "save_steps": "1000",
    "num_eval_episodes": "200",
}
REDUCED_OMNIGLOT = (
    "74 characters of three alphabets, turned to 296 classes, in place of 1,200; 10,000 meta-steps of 4 tasks in place "
    "of 60,000 of 32, at a rate from 0.002 down by a cosine; 5 training queries a class; small affine maps of training "
    "images; the test classes are of one alphabet, Korean"
)

ANIL = "Raghu et al. 2020, arXiv 1909.09157, the table beside MAML"
MAMLPP = "Antoniou et al. 2019, arXiv 1810.09502, table 1"
PER_STEP_NORMS = "statistics, weights and biases of batch norm for each inner step (BNRS, BNWB)"
FEW_LABELS = "FC100, 5-way 1-shot, 600 images a class"

RUNS: dict[str, Reproduction] = {
    "maml_omniglot": Reproduction(
        "MAML",
        "configs/reproductions/maml_omniglot.yaml",
        (Published("98.7 ± 0.4", OMNIGLOT_5_1, MAML),),
        SMALL_OMNIGLOT,
        REDUCED_OMNIGLOT,
    ),
    "anil_omniglot": Reproduction(
        "ANIL",
        "configs/reproductions/anil_omniglot.yaml",
        (Published("96.2 ± 0.5", "Omniglot, 20-way 1-shot", ANIL),),
        {**SMALL_OMNIGLOT, "n_way": "5", "num_inner_steps": "1", "num_eval_inner_steps": "3", "inner_lr": "0.4"}
        | {"max_steps": "3000", "eval_steps": "500", "save_steps": "500"},
        "5-way in place of 20-way, so that it stands beside MAML; 3,000 meta-steps; otherwise as MAML's run",
    ),
    "mamlpp_omniglot": Reproduction(
        "MAML++",
        "configs/reproductions/mamlpp_omniglot.yaml",
        (Published("99.47", OMNIGLOT_5_1, MAMLPP),),
        {
            **{name: value for name, value in SMALL_OMNIGLOT.items() if name != "lr_scheduler_type"},
            "num_inner_steps": "3",
            "stride": "2",
            "max_pooling": "false",
            "pooling": "mean",
            "max_steps": "1500",
            "eval_steps": "500",
            "save_steps": "500",
            "multi_step_loss_steps": "300",
            "first_order_steps": "500",
        },
        "as MAML's run, but 1,500 meta-steps; strides in place of max pooling and 3 inner steps in place of 5; the "
        "multi-step loss over 300 meta-steps, and first order over 500",
        PER_STEP_NORMS,
    ),
    "protonet_omniglot": Reproduction(
        "ProtoNet",
        "configs/reproductions/protonet_omniglot.yaml",
        (Published("98.8", OMNIGLOT_5_1, "Snell et al. 2017, arXiv 1703.05175, table 1"),),
        {
            **{
                name: value
                for name, value in SMALL_OMNIGLOT.items()
                if name not in ("train_n_query", "lr_scheduler_type")
            },
            "stride": "2",
            "max_pooling": "false",
            "pooling": "mean",
            "train_n_way": "20",
            "max_steps": "1500",
            "eval_steps": "500",
            "save_steps": "500",
            "per_device_train_batch_size": "2",
        },
        "as MAML's run, but 1,500 meta-steps of 2 tasks; 20 classes in a training task in place of 60; strides in "
        "place of max pooling",
        "the squared distance of queries and prototypes, for which their cosine stands",
    ),
    "maml_fc100": Reproduction(
        "MAML",
        "configs/reproductions/maml_fc100.yaml",
        (Published("38.1 ± 1.7", FEW_LABELS, "as Lian et al. 2020 (T-NAS, ICLR) quote it, table 4"),),
        {"max_steps": "500", "eval_steps": "250", "save_steps": "250", "num_eval_episodes": "100"}
        | {"num_test_episodes": "400"},
        "200 images a class in place of 600; 500 meta-steps in place of 60,000",
        developed_on="nothing",
    ),
}


def result_path(name: str, seed: int) -> Path:
    """Where the record of a run lies."""
    return RESULTS / f"{name}-seed{seed}.json"


def command(name: str, seed: int, data_dir: str | None, output_dir: Path) -> list[str]:
    """The command line, after `python`, that trains and tests a reproduction."""
    run = RUNS[name]
    folders = ({"data_dir": data_dir} if data_dir else {}) | {"output_dir": str(output_dir)}
    words = ["run_meta.py", run.config]
    for option, value in {**folders, "seed": str(seed), **run.options}.items():
        words += [f"--{option}", *([value] if isinstance(value, str) else value)]
    return words
