"""One run per data set, which trains on all the others and tests on it: what a learner makes of data of a new kind."""

import json
import re
from pathlib import Path
from typing import cast

from modeling_msmaml import MetaTrainingArguments
from modeling_msmaml.hub.model_card import markdown_table

from .data_arguments import DataArguments
from .run import run
from .run_arguments import parse_arguments

RESULTS, TABLE = "leave_one_out.json", "leave_one_out.md"


def run_leave_one_out(
    data: DataArguments, args: MetaTrainingArguments, argv: list[str], command: str
) -> dict[str, dict[str, float]]:
    """Makes the runs, each in a folder of its own inside `output_dir`, where the table of all of them is written.

    Args:
        data, args: the options, which are the same for all runs.
        argv: the command line that gave these options.
        command: the command that was called.

    Returns:
        The name of each data set -> the results of the run that was tested on it, which are also the content of
        `leave_one_out.json`.

    Raises:
        ValueError: the runs would train or test nothing, or all push to one repository.
    """
    if not (args.do_train and args.do_predict):
        raise ValueError(f"leave_one_out trains and tests: give do_train ({args.do_train}) and do_predict too")
    if args.push_to_hub:
        raise ValueError("leave_one_out makes several models, which push_to_hub would push over each other")
    folder, results = Path(str(args.output_dir)), {}
    for name in data.datasets:
        others = [other for other in data.datasets if other != name]
        own = [
            *("--leave_one_out", "false", "--output_dir", str(folder / folder_name(name))),
            *("--train_datasets", *others, "--eval_datasets", *others, "--test_datasets", name),
        ]
        if data.dataset_weights:  # a string has been parsed
            given = cast("dict[str, float]", data.dataset_weights)
            weights = {other: weight for other, weight in given.items() if other != name}
            own += ["--dataset_weights", json.dumps(weights)]
        results[name] = run(*parse_arguments([*argv, *own], command), [*argv, *own])
        if args.should_save:  # after each run, so that one that fails does not lose the others
            (folder / RESULTS).write_text(json.dumps(results, indent=2) + "\n")
            (folder / TABLE).write_text(table(results, args) + "\n")
    if args.should_save:
        print(table(results, args))
    return results


def folder_name(data_set: str) -> str:
    """A name for a folder, from the name of a data set such as `hub:user/name`."""
    return re.sub(r"[^\w.-]+", "_", data_set)


def table(results: dict[str, dict[str, float]], args: MetaTrainingArguments) -> str:
    """The accuracies on the data sets that were left out, as a Markdown table."""
    header = ("tested on", "accuracy, %", "95 % interval", "episodes")
    rows = [
        (name, f"{100 * own['test_accuracy']:.2f}", f"± {100 * own['test_accuracy_ci95']:.2f}", own["test_episodes"])
        for name, own in results.items()
    ]
    title = (
        f"Leave one data set out: {args.n_way}-way {args.k_shot}-shot, {args.max_steps} meta-steps, seed {args.seed}"
    )
    return f"{title}\n\n{markdown_table(header, rows, numbers=header[1:])}"
