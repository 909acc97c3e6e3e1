"""Who is compared, and on what: the settings as data, and the command line that trains each contender."""

from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "results" / "baselines"
SHOTS = (1, 5)  # of the tests; all are trained for the first

Options = dict[str, str]


@dataclass(frozen=True)
class Setting:
    """
    The data and the features that all contenders of a table have.

    Attributes:
        title: what the table shows.
        options: those of all contenders.
        ms_maml: those of MS-MAML alone.
    """

    title: str
    options: Options
    ms_maml: Options = field(default_factory=dict)


@dataclass(frozen=True)
class Contender:
    """
    A row of a table.

    Attributes:
        title: its first cell.
        options: those that differ from the setting's.
    """

    title: str
    options: Options = field(default_factory=dict)


# The same for all but the learning rate of MS-MAML on levels, as the title of that table says. What a contender has of
# its own is from its paper, and for MS-MAML on levels from configs/base.yaml; nothing was chosen on test classes.
BUDGET = {
    "n_way": "5",
    "k_shot": str(SHOTS[0]),
    "n_query": "15",
    "learning_rate": "1e-3",
    "eval_strategy": "no",
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": "true",
    "use_cpu": "true",
}
SETTINGS = {
    "cifar100": Setting(
        "CIFAR-100 (FC100), four convolutional layers of 32 to 256 channels, trained from scratch",
        {"datasets": "cifar100", "norm": "group"},
    ),
    "clinc150": Setting(
        "CLINC150, the last level of the frozen text encoder of `pretrained/msmaml-base` and a trained linear map to "
        "64 features; MS-MAML has all levels, no map, and the learning rate 0.05 of configs/base.yaml in place of 1e-3",
        {"datasets": "clinc150", "level_encoders": "pretrained/msmaml-base", "cache_features": "true"},
        {"task_network": "levels", "learning_rate": "0.05"},
    ),
}
_MAP = {"feature_size": "64"}
_SUPERVISED = {"auxiliary": "true", "episode_weight": "0"}
CONTENDERS = {
    "ms_maml": Contender("MS-MAML"),
    "prototypical": Contender("ProtoNet"),
    "matching": Contender("matching network"),
    "relation": Contender("relation network"),
    "baseline_plus_plus": Contender("Baseline++", {**_SUPERVISED, "num_inner_steps": "100", "inner_lr": "0.01"}),
    "ridge": Contender("ridge regression (R2-D2, MetaOptNet)"),
    "simpleshot": Contender("SimpleShot", _SUPERVISED),
    "set_attention": Contender("set attention (after FEAT)"),
    "mahalanobis": Contender("Mahalanobis distance (Simple CNAPS)"),
    "in_context": Contender("in-context transformer (after CAML)"),
}


def options_of(setting: str, name: str, seed: int, steps: int, tasks: int) -> Options:
    """All options with which a contender is trained, without folders."""
    own, given = SETTINGS[setting], {"max_steps": str(steps), "per_device_train_batch_size": str(tasks)}
    common = {**BUDGET, **own.options, **given, "seed": str(seed)}
    if name == "ms_maml":
        return {**common, **own.ms_maml}
    mapped = _MAP if "level_encoders" in own.options else {}
    return {**common, "task_network": name, **mapped, **CONTENDERS[name].options}


def result_path(setting: str, name: str, seed: int) -> Path:
    return RESULTS / f"{setting}-{name}-seed{seed}.json"
