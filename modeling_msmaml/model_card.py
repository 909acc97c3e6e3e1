"""The README.md that is saved with a model: a Jinja template, filled with what is known of the model."""

import importlib.metadata
import logging
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HfHubHTTPError
from transformers import ProcessorMixin

from .hub_data_sets import NON_COMMERCIAL, data_set_facts, model_license
from .model.configuration_msmaml import MSMAMLConfig

logger = logging.getLogger(__name__)

TEMPLATE = Path(__file__).with_name("model_card_template.md")
TAGS = ["ms-maml", "meta-learning", "few-shot-learning", "maml"]
FRAMEWORKS = ("msmaml", "transformers", "torch", "accelerate", "datasets", "huggingface_hub")
# Part of the processor -> modality that it reads.
_PARTS = {"feature_extractor": "audio", "tokenizer": "text", "image_processor": "image"}
# Modality -> key of what the processor returns for it.
_KEYS = {"audio": "input_values", "text": "input_ids", "image": "pixel_values"}


@dataclass(frozen=True)
class Accuracy:
    """
    Args:
        split: `"validation"` or `"test"`.
        modality: `"all"` for the mean over the episodes of all modalities.
        value, ci95: mean over episodes, and half-width of its 95 % interval; in [0, 1].
        episodes: how many.
        step: the meta-step after which it was measured.
    """

    split: str
    modality: str
    value: float
    ci95: float
    episodes: int
    step: int


@dataclass
class CardContent:
    """
    What a card says.

    Args:
        model_id: repository or folder to load the model from.
        config: of the model.
        k_shot: support samples a class.
        data_sets: modality -> data set that it was trained on, as `--datasets` names it.
        training_steps: meta-steps.
        settings: everything else that an accuracy is worth nothing without, by name.
        accuracies: what was measured.
        command: the command line of the run.
        commit: of the code.
        source: the published checkpoint that this model was converted from.
        started_from: the checkpoint that the run started from, whose licence holds on if it is non-commercial.
        processed: modalities that the saved processor reads.
        has_word_vectors: whether the word vectors of the text modality are saved with the model.
        tags: more tags for the Hub.
        model_name: in the model index; by default the last part of `model_id`.
    """

    model_id: str
    config: MSMAMLConfig
    k_shot: int
    data_sets: dict[str, str]
    training_steps: int
    settings: dict[str, object] = field(default_factory=dict)
    accuracies: list[Accuracy] = field(default_factory=list)
    command: str | None = None
    commit: str | None = None
    source: str | None = None
    started_from: str | None = None
    processed: list[str] = field(default_factory=list)
    has_word_vectors: bool = True
    tags: list[str] = field(default_factory=list)
    model_name: str | None = None

    @property
    def example_modality(self) -> str | None:
        """The modality of the example: the first that the processor reads and the model has vectors for."""
        usable = [name for name in self.processed if name != "text" or self.has_word_vectors]
        return usable[0] if usable else None


def processed_modalities(processor: ProcessorMixin | None) -> list[str]:
    """The modalities that a processor has parts for; none without a processor."""
    return [modality for part, modality in _PARTS.items() if getattr(processor, part, None) is not None]


def write_model_card(content: CardContent, folder: Path) -> Path:
    """Writes `folder/README.md`, which is whole at any moment: an upload in another thread may be reading it."""
    path = Path(folder) / "README.md"
    partial = path.with_name("_README.md")  # Trainer's uploads leave out what begins with an underscore
    render_model_card(content).save(partial)
    partial.replace(path)
    return path


def render_model_card(content: CardContent) -> ModelCard:
    """The card, with metadata for the Hub: licence, tags, and the accuracies as a model index."""
    facts = {modality: data_set_facts(name) for modality, name in content.data_sets.items()}
    modality = content.example_modality
    license_name = model_license(list(facts.values()))
    if content.started_from is not None and stated_license(content.started_from) == NON_COMMERCIAL:
        license_name = NON_COMMERCIAL
    return ModelCard.from_template(
        ModelCardData(
            library_name="transformers",
            license=license_name,
            tags=list(dict.fromkeys([*TAGS, *content.config.modalities, *content.tags])),
            **_model_index(content),
        ),
        template_path=str(TEMPLATE),
        card=content,
        config=content.config,
        facts=facts,
        is_non_commercial=license_name == NON_COMMERCIAL,
        table=accuracy_table(content.accuracies, content.config.n_way, content.training_steps),
        modality=modality,
        keys=_KEYS,
        versions={name: version for name in FRAMEWORKS if (version := _version(name)) is not None},
    )


def stated_license(path_or_repo: str) -> str | None:
    """The licence in the metadata of a model's card; `None` if it has no card, or one that cannot be read."""
    local = Path(path_or_repo) / "README.md"
    try:
        return ModelCard.load(local if local.is_file() else path_or_repo).data.license
    except (HfHubHTTPError, OSError, ValueError) as error:
        logger.info("no licence of %s: %s", path_or_repo, error)
        return None


def accuracy_table(accuracies: list[Accuracy], n_way: int, training_steps: int) -> str:
    """The accuracies as a Markdown table; empty without any. A step is named if it is not the last of the training."""
    if not accuracies:
        return ""
    chance = f"{100 / n_way:.1f}"
    lines = [
        "| split | modality | accuracy, % | 95 % interval | episodes | chance, % |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in accuracies:
        split = row.split if row.step == training_steps else f"{row.split}, step {row.step}"
        lines.append(
            f"| {split} | {row.modality} | {100 * row.value:.2f} | ± {100 * row.ci95:.2f} | {row.episodes} | {chance} |"
        )
    return "\n".join(lines)


def _model_index(content: CardContent) -> dict:
    """`model_name` and `eval_results` of the metadata: one result for each split and modality."""
    results = []
    for row in content.accuracies:
        if row.modality not in content.data_sets:
            continue  # the mean over modalities is no result on any data set
        facts = data_set_facts(content.data_sets[row.modality])
        results.append(
            EvalResult(
                task_type=f"{row.modality}-classification",
                task_name=f"few-shot {row.modality} classification",
                dataset_type=facts.name,
                dataset_name=facts.title,
                dataset_config=content.settings.get("protocol"),
                dataset_split=row.split,
                metric_type="accuracy",
                metric_name=f"{content.config.n_way}-way {content.k_shot}-shot accuracy",
                metric_value=row.value,
                metric_args={
                    "ci95": row.ci95,
                    "episodes": row.episodes,
                    "step": row.step,
                    "transductive": content.config.norm_statistics == "transductive",
                },
            )
        )
    return {"model_name": content.model_name or Path(content.model_id).name, "eval_results": results} if results else {}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None  # run from a checkout that is not installed
