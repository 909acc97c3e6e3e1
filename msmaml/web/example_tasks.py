"""Example tasks, whose files and texts are drawn from the classes of the synthetic data sets."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image

from data_builders.data_sets.synthetic import CLASSES, FAMILIES, SAMPLING_RATE, ImageFamily, SoundFamily, TokenFamily
from modeling_msmaml import MSMAMLModel, MSMAMLProcessor

N_CLASSES, N_EXAMPLES, N_QUERIES = 3, 5, 2
WORDS = 120  # per text
_KINDS = {"audio": "sound", "text": "topic", "image": "pattern"}
SENTENCES = {  # of three topics, for models that know a language; the last of each are queries
    "cooking": (
        *("Whisk two eggs with a pinch of salt.", "Let the dough rise overnight.", "Chop the onions finely."),
        *("Simmer the sauce for ten minutes.", "Grease the tin with butter.", "Bake it until the crust is golden."),
        "Season the soup with pepper.",
    ),
    "weather": (
        *("Rain is expected in the afternoon.", "A cold wind blows from the north.", "Clouds will clear by noon."),
        *("Temperatures drop below zero tonight.", "A storm is heading for the coast.", "Fog lingers in the valleys."),
        "Tomorrow will be sunny and warm.",
    ),
    "football": (
        *("The striker scored twice.", "The referee showed a red card.", "They lost the final on penalties."),
        *("The keeper saved a free kick.", "The coach changed the defence.", "A late goal won the match."),
        "The midfielder passed to the winger.",
    ),
}


@dataclass(frozen=True)
class ExampleTask:
    """A task that a visitor can load.

    Attributes:
        names: the names of the classes.
        examples: the paths or texts of the examples of each class.
        queries: the paths or texts to classify.
    """

    names: list[str]
    examples: list[list[str]]
    queries: list[str]


def synthetic_family(modality: str) -> SoundFamily | TokenFamily | ImageFamily:
    """Returns the generator of the classes of `load_few_shot("synthetic:<modality>")`."""
    rng = np.random.default_rng([0, list(FAMILIES).index(modality), 0])
    return FAMILIES[modality](rng, sum(CLASSES.values()))


def draw_task(modality: str, folder: Path, model: MSMAMLModel, processor: MSMAMLProcessor) -> ExampleTask:
    """
    Draws a task of test classes; it is the same every time.

    Args:
        modality: the modality of the task.
        folder: the folder to which sounds and pictures are written.
        model: the model whose word vectors tell which words of its vocabulary are alike. One on levels, whose encoder
            knows a language, gets sentences.
        processor: the processor in whose vocabulary the texts are written.
    """
    if modality == "text" and model.reads_levels:
        examples = [list(own[:N_EXAMPLES]) for own in SENTENCES.values()]
        return ExampleTask(list(SENTENCES), examples, [text for own in SENTENCES.values() for text in own[N_EXAMPLES:]])
    family, rng = synthetic_family(modality), np.random.default_rng(7)
    first = CLASSES["train"] + CLASSES["validation"]
    words = words_for(family, model, processor) if isinstance(family, TokenFamily) else []
    names = [f"{_KINDS[modality]} {letter}" for letter in "ABC"[:N_CLASSES]]
    examples, queries = [], []
    for number, name in enumerate(names):
        rows = [family.sample(rng, first + number) for _ in range(N_EXAMPLES + N_QUERIES)]
        if modality == "text":
            made = [" ".join(words[token] for token in row[:WORDS]) for row in rows]
        else:
            slug = name.replace(" ", "_")
            made = [str(_write(row, modality, folder / f"{slug}_{i}")) for i, row in enumerate(rows)]
        examples.append(made[:N_EXAMPLES])
        queries += made[N_EXAMPLES:]
    return ExampleTask(names, examples, queries)


def _write(row: np.ndarray, modality: str, path: Path) -> Path:
    if modality == "audio":
        path = path.with_suffix(".wav")
        soundfile.write(path, row, SAMPLING_RATE, subtype="PCM_16")
    else:
        path = path.with_suffix(".png")
        Image.fromarray(row.transpose(1, 2, 0)).save(path)
    return path


def words_for(family: TokenFamily, model: MSMAMLModel, processor: MSMAMLProcessor) -> list[str]:
    """
    Returns a word for each token of the family: the token itself if the model knows it, otherwise a word of the
    model's vocabulary. Topics and themes get words whose vectors are close to each other; the rest get frequent words.

    Raises:
        ValueError: the processor has no tokenizer.
    """
    tokenizer = processor.tokenizer
    if tokenizer is None:
        raise ValueError("the processor has no tokenizer, so no example texts can be drawn")
    if tokenizer.convert_tokens_to_ids(family.tokens[2]) != tokenizer.unk_token_id:
        return list(family.tokens)
    known = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    usable = [i for i, word in enumerate(known) if word.isalpha()]  # by decreasing frequency
    share = len(usable) // 4
    frequent, others = itertools.cycle(usable[:share]), usable[share:]
    vectors = torch.nn.functional.normalize(model.get_input_embeddings().weight.detach().float()[others], dim=1)
    groups: dict[str, list[int]] = {}
    for token, name in enumerate(family.tokens):
        groups.setdefault(name.split("word")[0], []).append(token)
    words, used, far_from = list(family.tokens), torch.zeros(len(others), dtype=torch.bool), vectors.mean(dim=0)
    for group, tokens in groups.items():
        if not group.startswith(("topic", "theme")) or (~used).sum() < len(tokens):
            chosen = [next(frequent) for _ in tokens]
        else:  # the unused word that is least similar to the earlier ones, and its nearest neighbours
            centre = torch.where(used, torch.inf, vectors @ far_from).argmin()
            nearest = torch.where(used, -torch.inf, vectors @ vectors[centre]).topk(len(tokens)).indices
            used[nearest] = True
            far_from = far_from + vectors[centre]
            chosen = [others[i] for i in nearest.tolist()]
        for token, word in zip(tokens, chosen, strict=True):
            words[token] = known[word]
    return words
