"""
Writes the tables of docs/results.md and their pictures from the JSONs of `results/experiments/` alone.

    python -m benchmarks.report
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from matplotlib.figure import Figure

from . import experiments, pictures
from .experiments import BOTH, MODALITIES, RUNS
from .pages import replace_between

PAGE = experiments.REPOSITORY / "docs" / "results.md"
BEGIN, END = "<!-- experiments: begin -->", "<!-- experiments: end -->"
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
TEXT_COLUMNS = ("model", "trained with", "protocol", "modality", "setting", "source")


def cell(result: dict, key: str) -> str:
    """Accuracy and interval in %, nothing where there is none."""
    return f"{100 * result[key]:.2f} ± {100 * result[f'{key}_ci95']:.2f}" if key in result else ""


def markdown(head: list[str], rows: Rows) -> str:
    """A table, numbers to the right."""
    lines = [
        head,
        ["---" if name in TEXT_COLUMNS else "---:" for name in head],
        *rows,
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


class Results:
    """The stored JSONs."""

    def __init__(self):
        self.all = experiments.stored_results()

    def of(self, name: str, n_way: int = 5, k_shot: int = 1) -> list[dict]:
        """One for each seed."""
        wanted = (name, n_way, k_shot)
        found = [result for result in self.all if (result["name"], result["n_way"], result["k_shot"]) == wanted]
        return sorted(found, key=lambda result: result["seed"])

    def analysis(self, what: str) -> list[dict]:
        paths = sorted((experiments.RESULTS / "analysis").glob(f"{what}-*.json"))
        return [json.loads(path.read_text()) for path in paths]


def accuracies(result: dict) -> list[str]:
    """Three cells, and their mean where there are three."""
    values = [result[f"test_{m}_accuracy"] for m in MODALITIES if f"test_{m}_accuracy" in result]
    mean = f"{100 * sum(values) / 3:.2f}" if len(values) == 3 else ""
    return [*(cell(result, f"test_{m}_accuracy") for m in MODALITIES), mean]


def rows_of(results: Results, names: Iterable[str], k_shot: int, what: Callable[[dict], str] | None = None) -> Rows:
    return [
        [what(result) if what else result["what"], str(result["seed"]), *accuracies(result)]
        for name in names
        for result in results.of(name, k_shot=k_shot)
    ]


def centroid_rows(results: Results, k_shot: int) -> Rows:
    rows = []
    for result in results.of("nearest_centroid", k_shot=k_shot):
        for row in result["rows"]:
            rows.append(
                [row["method"], "", *(cell(row, "accuracy") if row["modality"] == m else "" for m in MODALITIES), ""]
            )
    return rows


def specialist_rows(results: Results, k_shot: int) -> Rows:
    """Multi-MAML: the three models of one modality as one row, of as many meta-steps, and of as many tasks in all."""
    rows = []
    kinds = {"": "as many meta-steps", "_third": "as many tasks of it"}
    for end, as_many in kinds.items():
        by_seed: dict[int, dict[str, dict]] = defaultdict(dict)
        for modality in MODALITIES:
            for result in results.of(f"{modality}{end}", k_shot=k_shot):
                by_seed[result["seed"]][modality] = result
        for seed, found in sorted(by_seed.items()):
            if len(found) == len(MODALITIES):
                merged = {
                    key: value
                    for modality, own in found.items()
                    for key, value in own.items()
                    if key.startswith(f"test_{modality}")
                }
                rows.append([f"a specialist a modality (Multi-MAML), {as_many}", str(seed), *accuracies(merged)])
    return rows


def conditions(results: list[dict]) -> str:
    """What the numbers of a table were measured with, in a sentence; all that differs between rows is listed."""

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
        f"{values('protocol')}; {sources}; queries a class: {' or '.join(whole)}; "
        f"{' or '.join(map(str, sorted(tests)))} test episodes a modality (seed {values('eval_seed')}); "
        f"{values('training_steps')} meta-steps of {values('tasks_per_step')} tasks; {how}; mean and 95 % interval "
        f"over episodes, in %; commit {', '.join(commits)}."
    )


def trained(results: Results, names: Iterable[str], k_shot: int = 1) -> list[dict]:
    return [result for name in names for result in results.of(name, k_shot=k_shot) if result["config"] is not None]


def in_group(group: str) -> list[str]:
    return [name for name, run in RUNS.items() if group in run.groups]


HEAD = ["model", "seed", *MODALITIES, "mean"]


def cost_section(results: Results) -> Iterator[str]:
    if results.all:
        hours = sum(result["wall_s"] for result in results.all) / 3600
        longest = max(result["wall_s"] for result in results.all) / 60
        yield (
            f"{len(results.all)} results, {hours:.1f} hours of one thread each in all (some side by side), at most "
            f"{longest:.0f} minutes for one."
        )


def sets_section(results: Results) -> Iterator[str]:
    found = {k_shot: trained(results, SETS, k_shot) for k_shot in BOTH}
    if not any(found.values()):
        return
    yield "### Seven modality sets"
    yield (
        "The default architecture; a row is one model. All see as many tasks in all, so that the model of one modality "
        "sees three times as many of it as the model of three."
    )
    for k_shot in BOTH:
        if found[k_shot]:
            yield f"5-way {k_shot}-shot. {conditions(found[k_shot])}"
            rows = rows_of(results, SETS, k_shot, lambda result: ", ".join(SETS[result["name"]]))
            yield markdown(["trained with", *HEAD[1:]], rows)
    if radar_data(results):
        yield (
            "![Radar chart of the mean accuracy of each modality set, and the accuracy of each modality by what it was "
            "trained with](experiments_sets.svg)"
        )


def radar_data(results: Results) -> dict[int, dict[str, dict[str, tuple[float, float]]]]:
    """Of each set's first seed; nothing unless all seven are there with one shot."""
    found: dict[int, dict[str, dict[str, tuple[float, float]]]] = {}
    for k_shot in BOTH:
        for name, modalities in SETS.items():
            for result in results.of(name, k_shot=k_shot)[:1]:
                keys = {m: f"test_{m}_accuracy" for m in modalities}
                found.setdefault(k_shot, {})[", ".join(modalities)] = {
                    m: (100 * result[key], 100 * result[f"{key}_ci95"]) for m, key in keys.items()
                }
    return found if len(found.get(1, {})) == len(SETS) else {}


def baselines_section(results: Results) -> Iterator[str]:
    left_out = {"nearest_centroid", *(f"{modality}_third" for modality in MODALITIES)}
    names = [name for name in in_group("baselines") if name not in left_out]
    if not trained(results, names):
        return
    yield "### Baselines on the same backbone"
    yield (
        "Same data, episodes, front ends, backbone and meta-steps, each of 3 tasks (of one, for the specialists with "
        "as many tasks of their modality as the model of three)."
    )
    for k_shot in BOTH:
        found = trained(results, names, k_shot)
        if found:
            yield f"5-way {k_shot}-shot. {conditions(found)}"
            rows = centroid_rows(results, k_shot) + rows_of(results, names[:1], k_shot)
            rows += specialist_rows(results, k_shot) + rows_of(results, names[1:], k_shot)
            yield markdown(HEAD, rows)


def reference_section(results: Results) -> Iterator[str]:
    names = in_group("reference")
    if found := trained(results, names):
        yield "### The reference architecture"
        yield f"As published, ending with the weights that were best on validation. 5-way 1-shot. {conditions(found)}"
        yield markdown(HEAD, rows_of(results, names, 1))


def original_section(results: Results) -> Iterator[str]:
    pairs = (("audio", "original_audio", "reference_audio"), ("text", "original_text", "reference_text"))
    pairs += (("audio, text, image", "original", "reference"),)
    rows, used = [], []
    for title, *names in pairs:
        for name in names:
            for result in results.of(name):
                used.append(result)
                rows += [
                    [
                        title,
                        result["protocol"],
                        modality,
                        cell(result, f"test_{modality}_accuracy"),
                        *overlap(result, title),
                    ]
                    for modality in MODALITIES
                    for overlap in [_overlap_cells(modality)]
                    if f"test_{modality}_accuracy" in result
                ]
    if not rows:
        return
    yield "### What the published numbers measure"
    yield (
        "Protocol `original` splits audio and text by sample, whatever their class, and draws again where a class is "
        "short: the test's classes are those of training, and support and query share recordings, documents, and "
        "samples themselves. The reference architecture under it and under `class_disjoint`, 5-way 1-shot, beside what "
        "the published project gives for its sets (read off its chart; its training was longer: 30,000 batches of 5). "
        "Brown is documents of 3,000 tokens under `original`, as published, else passages of 600. "
        f"{conditions(used)}"
    )
    head = ["trained with", "protocol", "modality", "accuracy", "published, about", "training classes in the test"]
    yield markdown([*head, "episodes where support and query share a source", "of these pairs, the same sample"], rows)


def _overlap_cells(modality: str) -> Callable[[dict, str], list[str]]:
    def cells(result: dict, title: str) -> list[str]:
        known = PUBLISHED[result["n_way"], result["k_shot"]] if result["protocol"] == "original" else {}
        overlap = result["overlap"][modality]
        classes = result["data"][modality]["classes_and_samples"]["test"][0]
        return [
            f"{known[title]:g}" if title in known else "",
            f"{overlap['classes_of_training_in_test']} of {classes}",
            f"{100 * overlap['leaking_episodes'] / overlap['episodes']:.1f} %",
            f"{overlap['same_sample']} of {overlap['same_source']}" if overlap["same_source"] else "none",
        ]

    return cells


def ablation_section(results: Results) -> Iterator[str]:
    names = [name for name in in_group("ablation") if name != "nearest_centroid"]
    only = [name for name in names if RUNS[name].groups == ("ablation",)]
    if trained(results, only):
        yield "### Ablation of the default architecture"
        yield f"One part a row. 5-way 1-shot. {conditions(trained(results, names))}"
        steps = [str(result["training_steps"]) for result in trained(results, names)]
        rows = [[*row, number] for row, number in zip(rows_of(results, names, 1), steps, strict=True)]
        yield markdown([*HEAD, "meta-steps"], rows)


def other_settings_section(results: Results) -> Iterator[str]:
    usual = {(5, k_shot) for k_shot in BOTH}
    found = [r for r in results.all if r["config"] is not None and (r["n_way"], r["k_shot"]) not in usual]
    if found:
        yield "### Other settings"
        yield f"Trained and tested with these classes and shots. {conditions(found)}"
        rows = [[r["what"], f"{r['n_way']}-way {r['k_shot']}-shot", str(r["seed"]), *accuracies(r)] for r in found]
        yield markdown(["model", "setting", *HEAD[1:]], rows)


def literature_section(results: Results) -> Iterator[str]:
    yield "### Literature"
    yield (
        "Not the same data or budget: FC100 has 600 images a class where these results have 200, ESC-50 has 2,000 "
        "clips where they have 731, and MetaAudio does not keep recordings apart. MetaAudio's 5-shot figures are left "
        "out: its released evaluation takes queries from index n_way * q on, which is the support set's own range when "
        "k differs from q."
    )
    rows = [[method, modality, one, five, f"{source}; not the same data or budget"]
            for modality, method, one, five, source in LITERATURE]  # fmt: skip
    for result in results.of("flagship"):
        five = [r for r in results.of("flagship", k_shot=5) if r["seed"] == result["seed"]]
        for modality in ("image", "audio"):
            key = f"test_{modality}_accuracy"
            name = f"this project's default architecture, three modalities, seed {result['seed']}"
            rows.append([name, modality, cell(result, key), cell(five[0], key) if five else "", "above"])
    yield markdown(["model", "modality", "5-way 1-shot", "5-way 5-shot", "source"], rows)


def analysis_section(results: Results) -> Iterator[str]:
    curves, steps, codes = curve_rows(results), results.analysis("inner_steps"), results.analysis("task_codes")
    if curves:
        yield "### Learning curves"
        yield (
            "Training episodes are those of the meta-steps since the last point, in the shape that the run trains with "
            "(the default architecture: more classes and samples than in the test); validation is 5-way 1-shot."
        )
        yield "![Accuracy on training episodes and on validation against meta-steps](experiments_learning_curves.svg)"
    if steps:
        yield "### Steps of the inner loop"
        yield " ".join(
            f"{found['name']}: {found['episodes']} validation episodes a modality, {found['n_way']}-way "
            f"{found['k_shot']}-shot, trained with {found['trained_steps']} steps, inner rates {found['inner_rates']}."
            for found in steps
        )
        yield "![Validation accuracy against the number of inner steps](experiments_inner_steps.svg)"
    if codes:
        yield "### What the task encoder tells apart"
    for found in codes:
        sets = {m: sum(group["modality"] == m for group in found["groups"]) for m in MODALITIES}
        yield (
            f"{found['name']}: the modulations of {found['tasks_of_a_set']} support sets of each class set "
            f"({', '.join(f'{m} {n}' for m, n in sets.items() if n)} sets of {found['n_way']} test classes; Brown has "
            f"only {found['n_way']} test categories, and so one set), {found['k_shot']}-shot, {found['size']} values "
            "each."
        )
        yield f"![PCA and t-SNE of the task encoder's output, by modality and by class set]({_codes_file(found)})"


def _codes_file(found: dict) -> str:
    return f"experiments_task_codes_{found['name']}.svg"


def curve_rows(results: Results) -> list[tuple[str, list[tuple[str, dict]]]]:
    """Title of an architecture -> its runs' curves."""
    shown = (
        ("default architecture", ("flagship", "no_modulation", "protonet", "supervised")),
        ("reference architecture", ("reference", "reference_no_modulation")),
    )
    rows = []
    for title, names in shown:
        runs = [(result["what"], result["learning_curve"]) for name in names for result in results.of(name)[:1]]
        if runs:
            rows.append((title, runs))
    return rows


SECTIONS = (cost_section, sets_section, baselines_section, reference_section, original_section, ablation_section)
SECTIONS += (other_settings_section, analysis_section, literature_section)


def report() -> str:
    """What stands between the marks of docs/results.md."""
    results = Results()
    return "\n\n".join(part for section in SECTIONS for part in section(results))


def figures() -> Iterator[tuple[str, Figure]]:
    """(file name, picture) of everything that there are data for."""
    results = Results()
    if found := radar_data(results):
        published = {k_shot: PUBLISHED[5, k_shot] for k_shot in found}
        yield "experiments_sets.svg", pictures.draw(pictures.modality_sets, found, published)
    if rows := curve_rows(results):
        yield "experiments_learning_curves.svg", pictures.draw(pictures.learning_curves, rows)
    if measured := results.analysis("inner_steps"):
        titles = [found["name"] for found in measured]
        yield "experiments_inner_steps.svg", pictures.draw(pictures.inner_steps, measured, titles)
    for found in results.analysis("task_codes"):
        yield _codes_file(found), pictures.draw(pictures.task_codes, found)


def write(page: Path = PAGE) -> None:
    """Tables into the page, pictures beside it."""
    replace_between(page, BEGIN, END, report())
    for name, figure in figures():
        pictures.save(figure, page.parent / name)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args(argv)
    write()
    print(f"{PAGE} is written, with {sum(1 for _ in figures())} pictures")


if __name__ == "__main__":
    main()
