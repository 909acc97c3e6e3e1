"""
Level encoders beside the loops of the libraries that their models come from:

    python -m benchmarks.speed.level_encoders [--rows 64] [--rounds 5] [--threads 1]

Random weights of the shapes that the project uses. Texts: strings to vectors, by `SentenceTransformer.encode` where
sentence-transformers is installed (otherwise by transformers, sorted by length, 32 at a time), which gives the last
level alone; the level encoder gives all seven. Pictures: uint8 pictures to all levels, views included, beside timm's
forward of as many views that lie ready in memory: 32 pictures at a time or as many as the encoder takes, in either
order of the channels in memory, whichever is fastest. All take turns, and the best of the rounds counts. Seconds are
those of the process on all its threads, in which other work on the machine has no part.
"""

import importlib.util
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from modeling_msmaml import level_encoder_from_pretrained
from modeling_msmaml.inputs.read_text import encode_texts
from modeling_msmaml.model.level_encoder import build_level_encoder

from ..pages import command_line, table

WORDS = 2_000
BATCH = 32


def text_model(folder: Path) -> PreTrainedTokenizerFast:
    """A BERT of the size of MiniLM, in a folder, and its tokenizer."""
    words = ["[PAD]", "[UNK]", *(f"w{number}" for number in range(WORDS))]
    core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", model_max_length=256
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    size: dict[str, Any] = {
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    }
    BertModel(BertConfig(vocab_size=len(tokenizer), **size)).save_pretrained(folder)
    return tokenizer


def texts_of(number: int, least: int, most: int) -> list[str]:
    """Random texts of some numbers of words."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(least, most + 1, number)
    return [" ".join(f"w{word}" for word in generator.integers(0, WORDS, length)) for length in lengths]


def library_texts(folder: Path, tokenizer: PreTrainedTokenizerFast) -> Callable[[list[str]], Any]:
    """The library's own way from strings to vectors."""
    if importlib.util.find_spec("sentence_transformers"):
        from sentence_transformers import SentenceTransformer  # pyright: ignore[reportMissingImports]
        from sentence_transformers.sentence_transformer.modules import Pooling, Transformer  # pyright: ignore[reportMissingImports]

        model = SentenceTransformer(modules=[Transformer(str(folder)), Pooling(384)], device="cpu")
        return lambda texts: model.encode(texts, batch_size=BATCH, show_progress_bar=False)
    bert = BertModel.from_pretrained(folder).eval()

    @torch.inference_mode()
    def encode(texts: list[str]) -> list[torch.Tensor]:
        found = []
        ordered = sorted(texts, key=len, reverse=True)
        for start in range(0, len(ordered), BATCH):
            tokens = tokenizer(ordered[start : start + BATCH], padding=True, return_tensors="pt")
            mask = tokens["attention_mask"][..., None]
            states = bert(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state
            found.append((states * mask).sum(dim=1) / mask.sum(dim=1))
        return found

    return encode


def level_texts(encoder: Any, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> torch.Tensor:
    return encoder.levels(torch.from_numpy(encode_texts(tokenizer, texts, 256)))


def text_cases(folder: Path, rows: int) -> list[tuple[str, int, Sequence[Callable[[], Any]]]]:
    tokenizer = text_model(folder)
    encoder, library = level_encoder_from_pretrained("text", folder), library_texts(folder, tokenizer)
    cases = []
    for title, least, most, number in (
        ("short texts, 6 to 16 words", 6, 16, 8 * rows),
        ("passages, 250 words", 250, 250, rows),
    ):
        texts = texts_of(number, least, most)
        cases.append((title, number, (partial(level_texts, encoder, tokenizer, texts), partial(library, texts))))
    return cases


def image_cases(rows: int) -> list[tuple[str, int, Sequence[Callable[[], Any]]]]:
    lite = {"encoder": "timm", "architecture": "tf_efficientnet_lite0"}
    sizes = [("EfficientNet-Lite0", {**lite, "input_size": size}, rows) for size in (96, 128, 192)]
    features = {"encoder": "timm_features", "input_size": 224}
    sizes.append(("ResNet-18", {**features, "architecture": "resnet18"}, rows // 4))
    sizes.append(("DINOv2 ViT-S/14", {**features, "architecture": "vit_small_patch14_dinov2"}, rows // 8))
    cases = []
    for title, description, number in sizes:
        encoder: Any = build_level_encoder(description)
        side, views = encoder.input_size, len(encoder.views)
        pictures = torch.randint(0, 256, (number, 3, side, side), dtype=torch.uint8)
        ways = [partial(encoder.levels, pictures)]
        ready = torch.randn(number * views, 3, side, side)
        for layout in (torch.contiguous_format, torch.channels_last):
            model = library_model(description["architecture"]).to(memory_format=layout)
            for batch in (BATCH * views, encoder.chunk_size * views):
                ways.append(partial(forward, model, ready.contiguous(memory_format=layout), batch))
        cases.append((f"{title}, {side} px, {views} views", number, ways))
    return cases


def library_model(architecture: str) -> Any:
    options: dict[str, Any] = {"dynamic_img_size": True} if architecture.startswith("vit") else {}
    return timm.create_model(architecture, num_classes=0, **options).eval()


@torch.inference_mode()
def forward(model: Any, ready: torch.Tensor, batch: int) -> None:
    """The library's own loop over pictures, whose results are thrown away."""
    for part in ready.split(batch):
        model(part)


def seconds(function: Callable[[], Any]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def line(title: str, number: int, ways: Sequence[Callable[[], Any]], rounds: int) -> list[str]:
    """One line of the table."""
    for way in ways:
        way()  # warms the machine up
    times = [[seconds(way) for way in ways] for _ in range(rounds)]
    ours, *libraries = (min(column) for column in zip(*times, strict=True))
    library = min(libraries)
    return [title, f"{number / ours:.1f}", f"{number / library:.1f}", f"{library / ours:.2f}"]


def main(argv: list[str] | None = None) -> None:
    parser = command_line(__doc__ or "", page=False, rows=64, rounds=5, threads=1)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        cases = [*text_cases(Path(folder), arguments.rows), *image_cases(arguments.rows)]
        lines = [line(*case, arguments.rounds) for case in cases]
    print(table(["inputs", "levels, a second", "library, a second", "ratio"], lines))


if __name__ == "__main__":
    main()
