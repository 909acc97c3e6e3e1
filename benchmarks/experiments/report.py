"""
Writes the tables of docs/results.md and their pictures from the JSONs of `results/experiments/` alone.

    python -m benchmarks.experiments.report
"""

from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure

from ..data import MODALITIES
from ..pages import command_line, replace_between, table
from . import pictures
from .grid import BOTH, REPOSITORY, RUNS
from .result_tables import LITERATURE, PUBLISHED, SETS, Results, accuracies, cell, conditions, in_group

PAGE = REPOSITORY / "docs" / "results.md"
PART = "experiments"
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
    if not any(results.trained(SETS, k_shot) for k_shot in BOTH):
        return
    yield "### Seven modality sets"
    yield (
        "The default architecture; a row is one model. All see as many tasks in all, so that the model of one modality "
        "sees three times as many of it as the model of three."
    )
    for k_shot in BOTH:
        if found := results.trained(SETS, k_shot):
            yield f"5-way {k_shot}-shot. {conditions(found)}"
            rows = results.rows(SETS, k_shot, lambda result: ", ".join(SETS[result["name"]]))
            yield table(["trained with", *HEAD[1:]], rows)
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
    if not results.trained(names):
        return
    yield "### Baselines on the same backbone"
    yield (
        "Same data, episodes, front ends, backbone and meta-steps, each of 3 tasks (of one, for the specialists with "
        "as many tasks of their modality as the model of three)."
    )
    for k_shot in BOTH:
        if found := results.trained(names, k_shot):
            yield f"5-way {k_shot}-shot. {conditions(found)}"
            rows = results.centroid_rows(k_shot) + results.rows(names[:1], k_shot)
            rows += results.specialist_rows(k_shot) + results.rows(names[1:], k_shot)
            yield table(HEAD, rows)


def reference_section(results: Results) -> Iterator[str]:
    names = in_group("reference")
    if found := results.trained(names):
        yield "### The reference architecture"
        yield f"As published, ending with the weights that were best on validation. 5-way 1-shot. {conditions(found)}"
        yield table(HEAD, results.rows(names, 1))


def original_section(results: Results) -> Iterator[str]:
    pairs = (("audio", "original_audio", "reference_audio"), ("text", "original_text", "reference_text"))
    pairs += (("audio, text, image", "original", "reference"),)
    used = [(title, result) for title, *names in pairs for name in names for result in results.of(name)]
    rows = [
        [title, result["protocol"], m, cell(result, f"test_{m}_accuracy"), *_overlap_cells(title, result, m)]
        for title, result in used
        for m in MODALITIES
        if f"test_{m}_accuracy" in result
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
        f"{conditions([result for _, result in used])}"
    )
    head = ["trained with", "protocol", "modality", "accuracy", "published, about", "training classes in the test"]
    head += ["episodes where support and query share a source", "of these pairs, the same sample"]
    yield table(head, rows, words=3)


def _overlap_cells(title: str, result: dict, modality: str) -> list[str]:
    known = PUBLISHED[result["n_way"], result["k_shot"]] if result["protocol"] == "original" else {}
    overlap = result["overlap"][modality]
    return [
        f"{known[title]:g}" if title in known else "",
        f"{overlap['classes_of_training_in_test']} of {result['data'][modality]['classes_and_samples']['test'][0]}",
        f"{100 * overlap['leaking_episodes'] / overlap['episodes']:.1f} %",
        f"{overlap['same_sample']} of {overlap['same_source']}" if overlap["same_source"] else "none",
    ]


def ablation_section(results: Results) -> Iterator[str]:
    names = [name for name in in_group("ablation") if name != "nearest_centroid"]
    only = [name for name in names if RUNS[name].groups == ("ablation",)]
    if results.trained(only):
        yield "### Ablation of the default architecture"
        yield f"One part per row. 5-way 1-shot. {conditions(results.trained(names))}"
        pairs = zip(results.rows(names, 1), results.trained(names), strict=True)
        rows = [[*row, str(result["training_steps"])] for row, result in pairs]
        yield table([*HEAD, "meta-steps"], rows)


def other_settings_section(results: Results) -> Iterator[str]:
    usual = {(5, k_shot) for k_shot in BOTH}
    found = [r for r in results.all if r["config"] is not None and (r["n_way"], r["k_shot"]) not in usual]
    if found:
        yield "### Other settings"
        yield f"Trained and tested with these classes and shots. {conditions(found)}"
        rows = [[r["what"], f"{r['n_way']}-way {r['k_shot']}-shot", str(r["seed"]), *accuracies(r)] for r in found]
        yield table(["model", "setting", *HEAD[1:]], rows, words=2)


def literature_section(results: Results) -> Iterator[str]:
    yield "### Literature"
    yield (
        "Not the same data or budget: FC100 has 600 images per class where these results have 200, ESC-50 has 2,000 "
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
    yield table(["model", "modality", "5-way 1-shot", "5-way 5-shot", "source"], rows, words=(0, 1, 4))


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
            f"{found['name']}: {found['episodes']} validation episodes per modality, {found['n_way']}-way "
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
    shown = {
        "default architecture": ("flagship", "no_modulation", "protonet", "supervised"),
        "reference architecture": ("reference", "reference_no_modulation"),
    }
    rows = [
        (title, [(result["what"], result["learning_curve"]) for name in names for result in results.of(name)[:1]])
        for title, names in shown.items()
    ]
    return [(title, runs) for title, runs in rows if runs]


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
        yield "experiments_inner_steps.svg", pictures.draw(pictures.inner_steps, measured)
    for found in results.analysis("task_codes"):
        yield _codes_file(found), pictures.draw(pictures.task_codes, found)


def write(page: Path = PAGE) -> None:
    """Tables into the page, pictures beside it."""
    replace_between(page, PART, report())
    for name, figure in figures():
        pictures.save(figure, page.parent / name)


def main(argv: list[str] | None = None) -> None:
    command_line(__doc__, page=False).parse_args(argv)
    write()
    print(f"{PAGE} is written, with {sum(1 for _ in figures())} pictures")


if __name__ == "__main__":
    main()
