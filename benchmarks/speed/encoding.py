"""
Storing the features of an encoder, beside the encoder alone:

    python -m benchmarks.speed.encoding [--rows 512] [--rounds 5] [--batch_size 32] [--device cuda]

Two encoders with random weights and several levels: a BERT of the size of MiniLM (hidden states 0 to 6, mean over the
tokens) on texts of 8 to 128 tokens, and a ResNet-18 (four stages, mean over the positions) on pictures of 64 x 64.
"Alone" is the encoder's own loop over the same batches, whose results are thrown away; "in order" is the same loop over
batches in the order of the rows, texts padded to the longest of the split. The three take turns, and the best of the
rounds counts, since other work on the machine only slows a round down.
"""

import tempfile
import time
from collections.abc import Callable

import datasets
import numpy as np
import timm
import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from data_builders import FewShotSplit, RowEncoder, encode_split, weights_fingerprint

from ..pages import command_line, table
from .memory import peak_of_process

VOCABULARY, TOKENS, PIXELS = 2_000, 128, 64


class TextLevels:
    """Hidden states 0 to 6 of a BERT, each as its mean over the tokens."""

    modality, batch_size = "text", 32

    def __init__(self, device: str):
        torch.manual_seed(0)
        config = BertConfig(vocab_size=VOCABULARY, hidden_size=384, num_hidden_layers=6, intermediate_size=1536)
        self.device, self.model = device, BertModel(config).eval()
        self.model.to(torch.device(device))

    def levels(self, rows: Tensor) -> dict[str, Tensor]:
        ids = rows.to(self.device).long()
        mask = ids != 0
        states = self.model(ids, attention_mask=mask.long(), output_hidden_states=True).hidden_states
        weights = mask / mask.sum(dim=1, keepdim=True)
        return {f"hidden_{n}": (weights[..., None] * state).sum(dim=1) for n, state in enumerate(states)}

    def level_shapes(self, row_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        return {f"hidden_{n}": (384,) for n in range(7)}

    def fingerprint(self) -> str:
        return weights_fingerprint(self.model, {})


class ImageLevels:
    """The four stages of a ResNet-18, each as its mean over the positions."""

    modality, batch_size = "image", 32

    def __init__(self, device: str):
        torch.manual_seed(0)
        self.device = device
        self.model = timm.create_model("resnet18", features_only=True, out_indices=(1, 2, 3, 4)).to(device).eval()

    def levels(self, rows: Tensor) -> dict[str, Tensor]:
        stages = self.model(rows.to(self.device) / 255)
        return {f"stage_{n}": stage.mean(dim=(2, 3)) for n, stage in enumerate(stages)}

    def level_shapes(self, row_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        return {f"stage_{n}": (64 * 2**n,) for n in range(4)}

    def fingerprint(self) -> str:
        return weights_fingerprint(self.model, {})


def make_split(modality: str, n_rows: int) -> FewShotSplit:
    """Random rows of one class."""
    rng = np.random.default_rng(0)
    if modality == "image":
        rows = rng.integers(0, 256, (n_rows, 3, PIXELS, PIXELS), dtype=np.uint8)
    else:
        rows = rng.integers(1, VOCABULARY, (n_rows, TOKENS), dtype=np.int32)
        rows[np.arange(TOKENS) >= rng.integers(8, TOKENS + 1, (n_rows, 1))] = 0
    return FewShotSplit.from_arrays(rows, [0] * n_rows, modality=modality)


def alone(split: FewShotSplit, encoder: RowEncoder, batch_size: int, by_length: bool) -> None:
    """Runs the encoder over all rows and throws the results away."""
    order = np.arange(len(split))
    if by_length and split.modality == "text":
        lengths = (split.rows(order) != 0).sum(axis=1)
        order = np.argsort(-lengths)
    with torch.no_grad():
        for batch in np.split(order, range(batch_size, len(order), batch_size)):
            rows = split.rows(batch)
            if by_length and split.modality == "text":
                rows = rows[:, : lengths[batch].max()]
            encoder.levels(torch.from_numpy(rows))
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def stored(split: FewShotSplit, encoder: RowEncoder, batch_size: int) -> None:
    """Stores the features in an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        encode_split(split, encoder, folder, batch_size)


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def case(encoder: RowEncoder, n_rows: int, rounds: int, batch_size: int) -> list[str]:
    """One line of the table."""
    split = make_split(encoder.modality, n_rows)
    ways: dict[str, Callable[[], object]] = {
        "alone": lambda: alone(split, encoder, batch_size, True),
        "stored": lambda: stored(split, encoder, batch_size),
        "in order": lambda: alone(split, encoder, batch_size, False),
    }
    ways["alone"]()  # warms the machine up
    times = [{name: seconds(way) for name, way in ways.items()} for _ in range(rounds)]
    speeds = {name: n_rows / min(found[name] for found in times) for name in ways}
    ratio = speeds["stored"] / speeds["alone"]
    peak = (peak_of_process(ways["stored"]) - peak_of_process(ways["alone"])) / 2**20
    return [encoder.modality, *(f"{speed:.0f}" for speed in speeds.values()), f"{ratio:.2f}", f"{peak:+.0f}"]


def main(argv: list[str] | None = None) -> None:
    parser = command_line(__doc__ or "", page=False, rows=512, rounds=5, batch_size=32, device="cpu")
    arguments = parser.parse_args(argv)
    datasets.disable_progress_bars()
    encoders = (TextLevels(arguments.device), ImageLevels(arguments.device))
    lines = [case(encoder, arguments.rows, arguments.rounds, arguments.batch_size) for encoder in encoders]
    head = ["modality", "alone, rows/s", "stored, rows/s", "in order, rows/s", "ratio stored / alone"]
    print(table([*head, "MiB more at the peak"], lines))


if __name__ == "__main__":
    main()
