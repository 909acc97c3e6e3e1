"""The grid of experiments as data: which runs there are, and the command line of each."""

import json
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import yaml

from data_builders import NEW_CLASSES

from ..data import DATA_SETS

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "results" / "experiments"
FLAGSHIP = "configs/flagship.yaml"
REFERENCE = "configs/audio_text_image.yaml"
GROUPS = ("modalities", "baselines", "reference", "original", "ablation")
# The same training for all; evaluated on the way for the learning curves.
BUDGET = {"max_steps": "1000", "per_device_train_batch_size": "3", "logging_steps": "50"}
BUDGET |= {"eval_strategy": "steps", "eval_steps": "250", "num_eval_episodes": "100"}
# The reference architecture ends with the weights that were best on validation, which it saves at every evaluation.
REFERENCE_BUDGET = {"save_steps": "250"}
WITHOUT_MODULATION = {
    "conditioning": "none",
    "modulation_init": "default",
    "task_encoder_pooling": "mean",
    "share_embeddings": "false",
    "task_encoder_learning_rate": "0",  # which is to have no meaning without one
}
WITHOUT_INNER_LOOP = {"num_inner_steps": "0", "inner_rates": "fixed"}
# The published evaluation draws 15 queries per class, with repetition where a class has fewer.
ORIGINAL = {"protocol": "original", "n_query": "15"}

Options = dict[str, str | list[str]]


@dataclass(frozen=True)
class Run:
    """
    One row of the tables.

    Attributes:
        what: what the row shows.
        groups: the tables that the run belongs to.
        config: its YAML file; `None` for what is not trained.
        options: those that differ from the config's, apart from the common `BUDGET`.
        shots: numbers of shots of its tests; it is trained for the first.
        seeds: seeds of its training, unless the command names others.
        test_episodes: number of test episodes per modality.
    """

    what: str
    groups: tuple[str, ...]
    config: str | None = FLAGSHIP
    options: Options = field(default_factory=dict)
    shots: tuple[int, ...] = (1,)
    seeds: tuple[int, ...] = (0,)
    test_episodes: int = 600


def _default(what: str, *groups: str, config: str = FLAGSHIP, **more) -> Run:
    """A run of the default architecture; `more` holds attributes of [`Run`] and differing options."""
    own = {name: more.pop(name) for name in ("shots", "seeds", "test_episodes") if name in more}
    return Run(what, groups, config, more, **own)


_reference = partial(_default, config=REFERENCE)
BOTH = (1, 5)
ALL = {"shots": BOTH, "test_episodes": 1000}
# In the order in which they run: the most informative first.
RUNS: dict[str, Run] = {
    "nearest_centroid": Run("nearest centroid, nothing learned", ("baselines", "ablation"), None, **ALL),
    "flagship": _default("default architecture", "modalities", "baselines", "ablation", seeds=(0, 1, 2, 3), **ALL),
    "no_modulation": _default(
        "without modulation (plain MAML)", "baselines", "ablation", seeds=(0, 1), **WITHOUT_MODULATION
    ),
    "protonet": _default(
        *("ProtoNet, same backbone", "baselines", "ablation"),
        **ALL | {"seeds": (0, 1), "label_smoothing": "0"} | WITHOUT_MODULATION | WITHOUT_INNER_LOOP,
    ),
    # In training the cosine classifier of the training classes; in the test a linear layer that starts from prototypes
    # and is fitted to the support set by gradient descent.
    "supervised": _default(
        *("supervised backbone, linear head", "baselines", "ablation"),
        **ALL | {"seeds": (0, 1), "inner_rates": "fixed", "num_inner_steps": "20"} | WITHOUT_MODULATION,
        **{"label_smoothing": "0", "auxiliary": "true", "episode_weight": "0"},
    ),
    **{
        modality: _default(modality, "modalities", datasets=[name], seeds=(0, 1), shots=BOTH)
        for modality, name in DATA_SETS.items()
    },
    "audio_text": _default("audio, text", "modalities", datasets=["esc50", "brown"], shots=BOTH),
    "audio_image": _default("audio, image", "modalities", datasets=["esc50", "cifar100"], shots=BOTH),
    "text_image": _default("text, image", "modalities", datasets=["brown", "cifar100"], shots=BOTH),
    **{
        f"{modality}_third": _default(
            *(f"{modality}, as many tasks of it as the model of three", "baselines"),
            **{"datasets": [name], "per_device_train_batch_size": "1", "seeds": (0, 1, 2, 3), "shots": BOTH},
        )
        for modality, name in DATA_SETS.items()
    },
    "reference": _reference("reference architecture", "reference", "original"),
    "reference_no_modulation": _reference("without modulation (plain MAML)", "reference", conditioning="none"),
    "original_audio": _reference("audio", "original", config="configs/audio.yaml", **ORIGINAL),
    "reference_audio": _reference("audio", "original", config="configs/audio.yaml"),
    "original_text": _reference("text", "original", config="configs/text.yaml", **ORIGINAL),
    "reference_text": _reference("text", "original", config="configs/text.yaml"),
    "original": _reference("audio, text, image", "original", **ORIGINAL),
    "first_order": _default("first order", "baselines", "ablation", first_order="true", seeds=(0, 1)),
    "all_parameters": _default(
        "all parameters adapted, not the head alone (ANIL)", "baselines", "ablation", adapted_parameters="all"
    ),
    "reference_first_order": _reference("first order", "reference", first_order="true"),
    "reference_anil": _reference("head alone adapted (ANIL)", "reference", adapted_parameters="head"),
    "reference_one_embedding": _reference(
        "images read as sounds: no modality-aware embedding", "reference", image_signal_side="163"
    ),
    "reference_inductive": _reference(
        "queries normalised with the support set's statistics", "reference", norm_statistics="support"
    ),
    "untrained": _default("fitted, not trained", "ablation", max_steps="1", learning_rate="1e-12", warmup_steps="0"),
    "no_inner_loop": _default("without inner loop", "ablation", **WITHOUT_INNER_LOOP),
    "no_descriptor": _default("without descriptor", "ablation", descriptor_size="0", network_gain="1.0"),
    "no_augmentation": _default("without augmentation", "ablation", augment="false"),
    "batch_norm": _default(
        *("batch norm over each set for itself, queries with queries", "ablation"),
        **{"norm": "batch", "norm_statistics": "transductive"},
    ),
    "no_new_classes": _default(
        "without rotated images and faster and slower sounds as new classes", "ablation", new_classes="false"
    ),
    "mix_classes": _default("with mixed classes", "ablation", mix_classes='{"audio": 0.5, "image": 0.5}'),
    "same_way": _default("trained 5-way 1-shot", "ablation", train_n_way="5", train_k_shot="1"),
    "no_label_smoothing": _default("without label smoothing", "ablation", label_smoothing="0"),
    "fixed_rates": _default("without trained inner rates", "ablation", inner_rates="fixed"),
    "meta_sgd": _default("rates of each element (Meta-SGD)", "ablation", inner_rates="per_element"),
    "kernel_modulation": _default("modulated kernels (after KML)", "ablation", conditioning="kernel"),
    "multi_step_loss": _default(
        *("with multi-step loss and first order at first", "ablation"),
        **{"multi_step_loss_steps": "300", "first_order_steps": "100"},
    ),
    "auxiliary": _default("with auxiliary classification", "ablation", auxiliary="true"),
}
# Folders, which the stored commands name as a reader would.
FOLDERS = {"--data_dir": "DATA", "--output_dir": "OUTPUT", "--model_name_or_path": "TRAINED", "--json": "FILE"}


@dataclass(frozen=True)
class Job:
    """A run with a seed and a setting to train for."""

    name: str
    seed: int
    n_way: int = 5
    k_shot: int = 1

    @property
    def run(self) -> Run:
        return RUNS[self.name]

    @property
    def shots(self) -> tuple[int, ...]:
        """Numbers of shots of its tests. Any other setting than 5-way 1-shot is trained and tested for itself."""
        return self.run.shots if (self.n_way, self.k_shot) == (5, 1) else (self.k_shot,)

    @property
    def label(self) -> str:
        return f"{self.name}-{self.n_way}w{self.k_shot}s-seed{self.seed}"

    def result(self, k_shot: int) -> Path:
        return result_path(self.name, self.seed, k_shot, self.n_way)

    def missing(self) -> list[int]:
        """Numbers of shots whose tests have no result yet."""
        return [k_shot for k_shot in self.shots if not self.result(k_shot).is_file()]

    def options(self) -> Options:
        """The options that are given on top of the config, without folders."""
        setting = {} if (self.n_way, self.k_shot) == (5, 1) else {"n_way": str(self.n_way), "k_shot": str(self.k_shot)}
        test = {"num_test_episodes": str(self.run.test_episodes), "seed": str(self.seed)}
        common = BUDGET if self.run.config == FLAGSHIP else {**BUDGET, **REFERENCE_BUDGET}
        options = {**common, **test, **self.run.options, **setting}
        return {**options, **_of_its_modalities(self.run.config, options)}

    def command(self, data_dir: str | None, output_dir: Path) -> list[str]:
        """The command line, after `python`, that trains and tests the run."""
        folders = ({"data_dir": data_dir} if data_dir else {}) | {"output_dir": str(output_dir)}
        words = ["run_meta.py", self.run.config]
        for name, value in {**folders, **self.options()}.items():
            words += [f"--{name}", *([value] if isinstance(value, str) else value)]
        return words

    def values(self) -> dict:
        """All options of the run, including those of the config."""
        return {**_yaml(self.run.config), **self.options(), "output_dir": None}


def _of_its_modalities(config: str, options: Options) -> Options:
    """Options that the config gives for each modality, without the modalities that the run does not have."""
    own, few = _yaml(config), {}
    if "datasets" not in options:
        return few
    if "new_classes" in own and "new_classes" not in options:
        kept = [new for new in own["new_classes"] if DATA_SETS[NEW_CLASSES[new].modality] in options["datasets"]]
        few["new_classes"] = kept or "false"
    for name in ("network_gain", "descriptor_whitening"):
        value = own.get(name)
        value = json.loads(value) if isinstance(value, str) and value.startswith("{") else value
        if isinstance(value, dict) and name not in options:
            few[name] = json.dumps({m: value[m] for m in value if DATA_SETS[m] in options["datasets"]})
    return few


@cache
def _yaml(config: str) -> dict:
    return yaml.safe_load((REPOSITORY / config).read_text())


def result_path(name: str, seed: int, k_shot: int, n_way: int = 5) -> Path:
    return RESULTS / f"{name}-{n_way}w{k_shot}s-seed{seed}.json"


def stored_results() -> list[dict]:
    """The results of all runs, in the order of their file names."""
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*-seed*.json"))]
