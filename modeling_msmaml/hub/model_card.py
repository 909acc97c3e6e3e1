"""The README.md that is saved with a model: a Jinja template, filled with what is known of the model."""

import importlib.metadata
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HfHubHTTPError
from transformers import ProcessorMixin

from ..inputs.kinds import KINDS
from ..model.configuration_msmaml import MSMAMLConfig
from ..model.hub_files import hub_file
from ..model.task_networks import task_network_kind
from .encoder_facts import EncoderFacts, encoders_of

logger = logging.getLogger(__name__)

TEMPLATE = Path(__file__).with_name("model_card_template.md")
TAGS = ["ms-maml", "meta-learning", "few-shot-learning", "maml"]
FRAMEWORKS = ("msmaml", "transformers", "torch", "accelerate", "datasets", "huggingface_hub")
APACHE, ATTRIBUTION, NON_COMMERCIAL = "apache-2.0", "cc-by-4.0", "cc-by-nc-4.0"


@dataclass(frozen=True)
class DataSetFacts:
    """
    What a card says of a data set. `datasets.DatasetInfo` has no place for a title or for whether commercial use is
    excluded, and a model may be described without a builder: one that was converted has never seen the data.

    Args:
        name: as in `--datasets`, without a modality.
        title: its name for people.
        url: where the data come from; `None` for data that are made on the spot.
        licence: as its makers state it.
        is_commercial_use_excluded: whether that licence excludes commercial use.
        origin: name of the data that it is a part of, if other data sets have parts of them under the same class names.
    """

    name: str
    title: str
    url: str | None
    licence: str
    is_commercial_use_excluded: bool = False
    origin: str | None = None


_KNOWN = {
    facts.name: facts
    for facts in (
        DataSetFacts("esc50", "ESC-50", "https://github.com/karolpiczak/ESC-50", "CC BY-NC, non-commercial", True),
        DataSetFacts(
            "esc10",
            "ESC-10, the part of ESC-50 for any use",
            "https://github.com/karolpiczak/ESC-50",
            "CC BY",
            origin="esc50",
        ),
        DataSetFacts(
            "brown",
            "Brown Corpus",
            "https://www.nltk.org/nltk_data/",
            "non-commercial use only",
            is_commercial_use_excluded=True,
        ),
        DataSetFacts(
            "cifar100", "CIFAR-100", "https://www.cs.toronto.edu/~kriz/cifar.html", "none stated; see its page"
        ),
        DataSetFacts(
            "miniimagenet",
            "miniImageNet",
            "https://www.image-net.org",
            "terms of ImageNet: non-commercial research and education",
            is_commercial_use_excluded=True,
            origin="imagenet",
        ),
        DataSetFacts(
            "tieredimagenet",
            "tieredImageNet",
            "https://github.com/renmengye/few-shot-ssl-public",
            "terms of ImageNet: non-commercial research and education",
            is_commercial_use_excluded=True,
            origin="imagenet",
        ),
        DataSetFacts(
            "cifar_fs",
            "CIFAR-FS",
            "https://github.com/bertinetto/r2d2",
            "none stated; images of CIFAR-100",
            origin="cifar100",
        ),
        DataSetFacts(
            "cub200",
            "CUB-200-2011",
            "https://www.vision.caltech.edu/datasets/cub_200_2011",
            "non-commercial research and education",
            is_commercial_use_excluded=True,
        ),
        DataSetFacts("speech_commands", "Speech Commands v2", "https://arxiv.org/abs/1804.03209", "CC BY 4.0"),
        DataSetFacts("clinc150", "CLINC150", "https://github.com/clinc/oos-eval", "CC BY 3.0"),
        DataSetFacts("banking77", "Banking77", "https://github.com/PolyAI-LDN/task-specific-datasets", "CC BY 4.0"),
        DataSetFacts(
            "fsdd",
            "Free Spoken Digit Dataset",
            "https://github.com/Jakobovski/free-spoken-digit-dataset",
            "CC BY-SA 4.0",
        ),
        DataSetFacts("omniglot", "Omniglot", "https://github.com/brendenlake/omniglot", "MIT"),
        DataSetFacts("wordnet", "WordNet 3.0", "https://wordnet.princeton.edu", "WordNet licence (free to use)"),
        DataSetFacts(
            "emoji", "Twemoji and Noto Emoji", "https://github.com/iamcal/emoji-data", "CC BY 4.0 and Apache-2.0"
        ),
        DataSetFacts("clipart", "Open Clip Art Library 0.18", "https://openclipart.org", "public domain"),
        DataSetFacts("synthetic", "synthetic tasks of this project", None, "Apache-2.0"),
        DataSetFacts("procedural", "made-up sounds and pictures of this project", None, "Apache-2.0"),
    )
}


@dataclass(frozen=True)
class Accuracy:
    """
    Args:
        split: `"validation"` or `"test"`.
        modality: `"all"` for the mean over the episodes of all modalities.
        data_set: name of the data set; `None` for the mean over those of the modality.
        value, ci95: mean over episodes, and half-width of its 95 % interval; in [0, 1].
        episodes: their number.
        step: the meta-step after which it was measured.
    """

    split: str
    modality: str
    value: float
    ci95: float
    episodes: int
    step: int
    data_set: str | None = None


@dataclass
class CardContent:
    """
    What a card says.

    Args:
        model_id: repository or folder to load the model from.
        config: the model's config.
        k_shot: support samples per class.
        data_sets: each data set that it was trained on, as `--datasets` names it -> its modality.
        training_steps: meta-steps.
        settings: by name, everything else that one must know to make use of an accuracy.
        accuracies: the accuracies that were measured.
        command: the command line of the run.
        commit: the commit of the code.
        source: the published checkpoint that this model was converted from.
        started_from: the checkpoint that the run started from.
        started_license: the licence of that one, which holds on if it is non-commercial.
        processed: modalities that the saved processor reads.
        has_word_vectors: whether the word vectors of the text modality are saved with the model.
        tags: more tags for the Hub.
        model_name: the name in the model index; by default the last part of `model_id`.
    """

    model_id: str
    config: MSMAMLConfig
    k_shot: int
    data_sets: dict[str, str]
    training_steps: int
    settings: dict[str, Any] = field(default_factory=dict)
    accuracies: list[Accuracy] = field(default_factory=list)
    command: str | None = None
    commit: str | None = None
    source: str | None = None
    started_from: str | None = None
    started_license: str | None = None
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
    return [modality for modality, kind in KINDS.items() if getattr(processor, kind.part, None) is not None]


def write_model_card(content: CardContent, folder: Path) -> Path:
    """Writes `folder/README.md`, which is whole at any moment: an upload in another thread may be reading it."""
    path = Path(folder) / "README.md"
    partial = path.with_name("_README.md")  # Trainer's uploads leave out what begins with an underscore
    render_model_card(content).save(partial)
    partial.replace(path)
    return path


def render_model_card(content: CardContent) -> ModelCard:
    """The card, with metadata for the Hub: licence, tags, and the accuracies as a model index."""
    facts, encoders = {name: data_set_facts(name) for name in content.data_sets}, encoders_of(content.config)
    modality = content.example_modality
    license_name = model_license(list(facts.values()), list(encoders.values()))
    if content.started_license == NON_COMMERCIAL:
        license_name = NON_COMMERCIAL
    settings = {
        "n_way": content.config.n_way,
        "k_shot": content.k_shot,
        "training steps": content.training_steps,
        "transductive": "yes" if content.config.norm_statistics == "transductive" else "no",
        **content.settings,
    }
    data = [
        (content.data_sets[name], f"[{fact.title}]({fact.url})" if fact.url else fact.title, fact.licence)
        for name, fact in facts.items()
    ]
    read_by = [
        (name, f"[{fact.title}]({fact.url})" if fact.url else fact.title, fact.licence, fact.attribution)
        for name, fact in encoders.items()
    ]
    versions = {name: version for name in FRAMEWORKS if (version := _version(name)) is not None}
    return ModelCard.from_template(
        ModelCardData(
            library_name="transformers",
            license=license_name,
            tags=list(dict.fromkeys([*TAGS, *content.config.modalities, *content.tags])),
            **_model_index(content),
        ),
        template_path=str(TEMPLATE),
        method=task_network_kind(content.config.task_network).description,
        card=content,
        config=content.config,
        is_non_commercial=license_name == NON_COMMERCIAL,
        accuracies=accuracy_table(content.accuracies, content.config.n_way, content.training_steps),
        settings=markdown_table(("setting", "value"), settings.items()),
        data=markdown_table(("modality", "data", "licence"), data),
        encoders=markdown_table(("modality", "encoder", "licence", "by"), read_by) if read_by else "",
        versions=markdown_table(("", ""), [("commit", content.commit or "unknown"), *versions.items()]),
        modality=modality,
        kinds=KINDS,
    )


def data_set_facts(name: str) -> DataSetFacts:
    """Facts of a data set as `--datasets` names it (`"esc50"`, `"synthetic:audio"`); of an unknown one, its name."""
    base = name.split(":", 1)[0]
    return _KNOWN.get(base) or DataSetFacts(base, base, None, "unknown")


def data_set_origin(name: str) -> str:
    """
    What data sets have in common whose classes are the same if their names are: that of `DataSetFacts`, or else the
    name without what follows a colon. Data without facts, such as `"folder:birds"`, have their whole name.
    """
    facts = _KNOWN.get(name.split(":", 1)[0])
    return name if facts is None else facts.origin or facts.name


def add_data_set_facts(facts: DataSetFacts) -> None:
    """Adds what cards say of a data set that this project does not know; facts of the same name are replaced."""
    _KNOWN[facts.name] = facts


def model_license(data_sets: list[DataSetFacts], encoders: Sequence[EncoderFacts] = ()) -> str:
    """
    The licence of a model trained on these data with these encoders, as the Hub names it: non-commercial as soon as one
    of the data sets is, else with attribution as soon as one of the encoders asks for it.
    """
    if any(facts.is_commercial_use_excluded for facts in data_sets):
        return NON_COMMERCIAL
    return ATTRIBUTION if any(facts.is_attribution_required for facts in encoders) else APACHE


def stated_license(path_or_repo: str) -> str | None:
    """The licence in the metadata of a model's card; `None` if it has no card, or one that cannot be read."""
    try:
        card = hub_file(path_or_repo, "README.md")
        return None if card is None else ModelCard.load(card).data.get("license")
    except (HfHubHTTPError, OSError, ValueError) as error:
        logger.info("no licence of %s: %s", path_or_repo, error)
        return None


def accuracy_table(accuracies: list[Accuracy], n_way: int, training_steps: int) -> str:
    """The accuracies as a Markdown table; empty without any. A step is named if it is not the last of the training."""
    if not accuracies:
        return ""
    header = ("split", "modality", "data set", "accuracy, %", "95 % interval", "episodes", "chance, %")
    rows = [
        (
            row.split if row.step == training_steps else f"{row.split}, step {row.step}",
            row.modality,
            row.data_set or ("all" if row.modality == "all" else f"all of {row.modality}"),
            f"{100 * row.value:.2f}",
            f"± {100 * row.ci95:.2f}",
            row.episodes,
            f"{100 / n_way:.1f}",
        )
        for row in accuracies
    ]
    return markdown_table(header, rows, numbers=header[3:])


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]], numbers: Collection[str] = ()) -> str:
    """
    A Markdown table.

    Args:
        header: names of the columns.
        rows: one cell per column, which is shown as `str` shows it.
        numbers: names of the columns that are aligned to the right.
    """

    def line(cells: Iterable[object]) -> str:
        return "| " + " | ".join(str(cell).replace("|", r"\|") for cell in cells) + " |"

    rule = ["---:" if name in numbers else "---" for name in header]
    return "\n".join(map(line, (header, rule, *rows)))


def _model_index(content: CardContent) -> dict:
    """`model_name` and `eval_results` of the metadata: one result for each split and data set."""
    results = []
    for row in content.accuracies:
        if row.data_set is None:
            continue  # the mean over data sets is not a result on any data set
        facts = data_set_facts(row.data_set)
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
