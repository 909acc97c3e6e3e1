"""Rows and cells of the tables in docs/results.md, from the JSONs of `results/experiments/`."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable

from ..data import MODALITIES
from ..pages import percent
from . import grid
from .grid import RUNS

# Runs of group "modalities": what they are trained with.
SETS = {"audio": ("audio",), "text": ("text",), "image": ("image",)}
SETS |= {"audio_text": ("audio", "text"), "audio_image": ("audio", "image"), "text_image": ("text", "image")}
SETS |= {"flagship": MODALITIES}
# Read off the chart of the published project, and therefore approximate: (n_way, k_shot) -> set -> accuracy.
PUBLISHED = {
    (5, 1): {"audio": 54, "text": 57, "image": 35, "audio, text": 51, "audio, image": 45, "text, image": 44.5},
    (5, 5): {"audio": 78, "text": 87, "image": 45.5, "audio, text": 76, "audio, image": 61, "text, image": 61},
    (10, 1): {"audio": 43, "text": 45, "image": 21, "audio, text": 38, "audio, image": 31, "text, image": 26},
    (10, 5): {"audio": 68, "text": 65, "image": 28.5, "audio, text": 69, "audio, image": 51, "text, image": 44.5},
}
METAAUDIO = "MetaAudio (Heggan et al. 2022, arXiv 2204.02121)"
FC100 = "FC100, 4-layer CNN, as reported elsewhere; first source not traced"
LEARN2LEARN = "learn2learn (Arnold et al. 2020, arXiv 2008.12284), FC100"
# (data, method, 5-way 1-shot, 5-way 5-shot, source).
LITERATURE = (
    ("image", "MAML, Conv-4", "38.1", "50.4", FC100),
    ("image", "ANIL, Conv-4", "40.7", "48.0", FC100),
    ("image", "ProtoNet, Conv-4", "35.9", "49.3", FC100),
    ("image", "supervised, Conv-4", "", "52.2", LEARN2LEARN),
    ("audio", "FO-MAML", "74.66", "", f"{METAAUDIO}, ESC-50"),
    ("audio", "FO-Meta-Curvature", "76.17", "", f"{METAAUDIO}, ESC-50"),
    ("audio", "ProtoNet", "68.83", "", f"{METAAUDIO}, ESC-50"),
    ("audio", "joint training", "76.24", "", f"{METAAUDIO}, ESC-50"),
)

Rows = list[list[str]]


def cell(result: dict, key: str) -> str:
    """Accuracy and interval in %; an empty cell where there is no accuracy."""
    return percent(result[key], result[f"{key}_ci95"]) if key in result else ""


def accuracies(result: dict) -> list[str]:
    """A cell for each modality, and the mean where there are all three."""
    values = [result[f"test_{m}_accuracy"] for m in MODALITIES if f"test_{m}_accuracy" in result]
    mean = f"{100 * sum(values) / 3:.2f}" if len(values) == 3 else ""
    return [*(cell(result, f"test_{m}_accuracy") for m in MODALITIES), mean]


class Results:
    """The stored results, and rows of tables that are made of them."""

    def __init__(self):
        self.all = grid.stored_results()

    def of(self, name: str, n_way: int = 5, k_shot: int = 1) -> list[dict]:
        """The results of one run, one for each seed."""
        wanted = (name, n_way, k_shot)
        found = [result for result in self.all if (result["name"], result["n_way"], result["k_shot"]) == wanted]
        return sorted(found, key=lambda result: result["seed"])

    def analysis(self, what: str) -> list[dict]:
        paths = sorted((grid.RESULTS / "analysis").glob(f"{what}-*.json"))
        return [json.loads(path.read_text()) for path in paths]

    def rows(self, names: Iterable[str], k_shot: int, what: Callable[[dict], str] | None = None) -> Rows:
        return [
            [what(result) if what else result["what"], str(result["seed"]), *accuracies(result)]
            for name in names
            for result in self.of(name, k_shot=k_shot)
        ]

    def centroid_rows(self, k_shot: int) -> Rows:
        return [
            [row["method"], "", *(cell(row, "accuracy") if row["modality"] == m else "" for m in MODALITIES), ""]
            for result in self.of("nearest_centroid", k_shot=k_shot)
            for row in result["rows"]
        ]

    def specialist_rows(self, k_shot: int) -> Rows:
        """Multi-MAML: each row joins the three models of one modality with the same seed."""
        rows = []
        for end, as_many in (("", "as many meta-steps"), ("_third", "as many tasks of it")):
            by_seed: dict[int, dict[str, float]] = defaultdict(dict)
            for modality in MODALITIES:
                keys = (f"test_{modality}_accuracy", f"test_{modality}_accuracy_ci95")
                for result in self.of(f"{modality}{end}", k_shot=k_shot):
                    by_seed[result["seed"]] |= {key: result[key] for key in keys}
            what, whole = f"a specialist a modality (Multi-MAML), {as_many}", 2 * len(MODALITIES)
            rows += [[what, str(n), *accuracies(own)] for n, own in sorted(by_seed.items()) if len(own) == whole]
        return rows

    def trained(self, names: Iterable[str], k_shot: int = 1) -> list[dict]:
        return [result for name in names for result in self.of(name, k_shot=k_shot) if result["config"] is not None]


def conditions(results: list[dict]) -> str:
    """One sentence on how the numbers of a table were measured; whatever differs between rows is listed."""

    def values(key: str) -> str:
        found = dict.fromkeys(str(result[key]) for result in results if result.get(key) is not None)
        return " or ".join(sorted(found, key=lambda value: (len(value), value)))

    def queries(result: dict) -> str:
        n_query = result["n_query"]
        return str(n_query) if isinstance(n_query, int) else ", ".join(f"{m} {n_query[m]}" for m in n_query)

    longest = dict.fromkeys(queries(result) for result in sorted(results, key=lambda r: -len(r["datasets"])))
    whole = [text for text in longest if not any(text != other and text in other for other in longest)]
    tests = {result[f"test_{m}_episodes"] for result in results for m in MODALITIES if f"test_{m}_episodes" in result}
    kinds = {True: "transductive (a query's prediction depends on the other queries)", False: "inductive"}
    how = " or ".join(kinds[kind] for kind in sorted({result["transductive"] for result in results}))
    source = {True: "support and query from different sources", False: "support and query may share sources"}
    sources = " or ".join(source[kind] for kind in sorted({result["source_disjoint"] for result in results})[::-1])
    commits = sorted({result["training_commit"][:8] for result in results if result["training_commit"]})
    return (
        f"{values('protocol')}; {sources}; queries per class: {' or '.join(whole)}; "
        f"{' or '.join(map(str, sorted(tests)))} test episodes per modality (seed {values('eval_seed')}); "
        f"{values('training_steps')} meta-steps of {values('tasks_per_step')} tasks; {how}; mean and 95 % interval "
        f"over episodes, in %; commit {', '.join(commits)}."
    )


def in_group(group: str) -> list[str]:
    return [name for name, run in RUNS.items() if group in run.groups]
