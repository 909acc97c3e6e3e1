"""
How long the classifier takes to fit and predict, beside the forward pass of the encoder on the same inputs.

    python -m benchmarks.comparison.fit_and_predict --model FOLDER [--rounds 7] [--threads 2] [--write docs/results.md]

Inputs are what a person has: strings, pictures as arrays, waveforms; 5 examples a class, all others are asked. The
model is loaded before. `FewShotClassifier.fit` and `.predict` do all the rest: they read the inputs, encode them, adapt
and predict. Beside that stands the time of the encoder's levels of the same inputs, ready as tensors, in batches of the
classifier's size. Both alternate; times are medians, and the ratio is the median of the rounds'
ratios, of elapsed and of CPU seconds.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from modeling_msmaml import FewShotClassifier, MSMAMLModel, MSMAMLProcessor
from modeling_msmaml.inference.encoded_inputs import MEMORY

from ..own_sets import media
from ..own_sets.runner import TEXTS
from ..pages import command_line, publish, table

PART = "comparison_speed"
K_SHOT = 5


class Inputs(NamedTuple):
    """
    The inputs of a comparison.

    Attributes:
        title: what the table calls them.
        modality: of the inputs.
        given: as a person has them.
        labels: of each.
        rows: the same as raw tensors that the encoder reads.
    """

    title: str
    modality: str
    given: Sequence[Any]
    labels: list[str]
    rows: Tensor


def texts(processor: MSMAMLProcessor) -> Inputs:
    """Returns short texts of customers."""
    by_class = json.loads(TEXTS["chatter"].read_text())
    given = [text for own in by_class.values() for text in own]
    ids = processor.tokenizer(given, add_special_tokens=False, padding=True, return_tensors="pt")["input_ids"]
    return Inputs("short texts", "text", given, [label for label, own in by_class.items() for _ in own], ids.int())


def pictures() -> Inputs:
    """Returns pictures of 96 x 96 pixels."""
    rows, labels = media.pictures("coloured shapes")
    return Inputs("pictures of 96 px", "image", list(rows.transpose(0, 2, 3, 1)), labels, torch.from_numpy(rows))


def sounds(seconds: int) -> Inputs:
    """Returns sounds of one length."""
    rows, labels = media.sounds("noise colours")
    few = [number for number in range(len(rows)) if number % media.PER_CLASS < 12]
    rows = np.resize(rows[few], (len(few), media.SAMPLING_RATE))
    rows = np.tile(rows, (1, seconds))
    waves = [(row / 32767).astype(np.float32) for row in rows]
    return Inputs(f"sounds of {seconds} s", "audio", waves, [labels[number] for number in few], torch.from_numpy(rows))


def seconds_of(call: Callable[[], Any]) -> tuple[float, float]:
    """Returns how long a call takes, and its CPU seconds."""
    start = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def measure(path: str, model: MSMAMLModel, inputs: Inputs, rounds: int) -> list[str]:
    """Returns the row of the table for some inputs, after one round that does not count."""
    rate = media.SAMPLING_RATE if inputs.modality == "audio" else None
    classifier = FewShotClassifier(path, modality=inputs.modality, sampling_rate=rate)
    encoder = model.frontends[inputs.modality].encoder(torch.device("cpu"))
    seen: dict[str, int] = {}
    support, query = [], []
    for number, label in enumerate(inputs.labels):
        seen[label] = seen.get(label, 0) + 1
        (support if seen[label] <= K_SHOT else query).append(number)

    def fit_and_predict() -> None:
        MEMORY.clear()  # levels of inputs that came in an earlier round
        classifier.fit([inputs.given[n] for n in support], [inputs.labels[n] for n in support])
        classifier.predict([inputs.given[n] for n in query])

    def encode() -> None:
        for part in (inputs.rows[support], *inputs.rows[query].split(classifier.batch_size)):
            encoder.levels(part)

    ours, alone = [], []
    for _ in range(rounds + 1):
        ours.append(seconds_of(fit_and_predict))
        alone.append(seconds_of(encode))
    row = [inputs.title, str(len(support)), str(len(query))]
    for kind in (0, 1):
        pairs = [(one[kind], other[kind]) for one, other in zip(ours[1:], alone[1:], strict=True)]
        ratios = [one / other for one, other in pairs]
        quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        row += [f"{statistics.median(times):.2f}" for times in zip(*pairs, strict=True)]
        row.append(f"{quartiles[1]:.2f} ({quartiles[0]:.2f} to {quartiles[2]:.2f})")
    return row


def described(own: argparse.Namespace) -> str:
    """Returns the table as Markdown."""
    model, processor = MSMAMLModel.from_pretrained(own.model).eval(), MSMAMLProcessor.from_pretrained(own.model)
    rows = [
        measure(own.model, model, inputs, own.rounds) for inputs in (texts(processor), pictures(), sounds(1), sounds(5))
    ]
    head = ["inputs", "examples", "queries", "fit and predict, s", "encoder alone, s", "ratio (quartiles)"]
    head += ["CPU seconds", "of the encoder", "ratio (quartiles)"]
    return f"{own.rounds} rounds, {own.threads} threads, after loading.\n\n" + table(head, rows)


def main(argv: list[str] | None = None) -> None:
    parser = command_line(__doc__, rounds=7, threads=2)
    parser.add_argument("--model", required=True, help="folder of the model on levels, with its processor")
    own = parser.parse_args(argv)
    torch.set_num_threads(own.threads)
    publish(PART, described(own), own.write)


if __name__ == "__main__":
    main()
