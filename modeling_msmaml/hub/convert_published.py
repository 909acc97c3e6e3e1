"""
Published checkpoints -> folders that `from_pretrained` of transformers reads.

    python -m modeling_msmaml.hub.convert_published REPO_OR_DIR OUT [--all] [--run RUN] [--iteration N]
        [--tokenizer PATH]
"""

import argparse
import shlex
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from ..inputs.processing_msmaml import MSMAMLFeatureExtractor, MSMAMLImageProcessor, MSMAMLProcessor
from ..model.modeling_msmaml import MSMAMLModel
from ..model.published_checkpoint import (
    CHECKPOINT_NAME,
    DATASET_MODALITIES,
    OPTIONS_NAME,
    RUNS_FOLDER,
    OriginalCheckpoint,
    check_fit,
    find_original,
    list_originals,
    read_config,
    read_options,
    read_weights,
)
from .model_card import CardContent, processed_modalities, write_model_card
from .provenance import commit

# What `multimodal_few_shot` in train_config.json calls our data sets.
DATA_SETS = {"esc50": "esc50", "brown": "brown", "cifar": "cifar100"}
WORD_VECTORS = "frontends.text.weight"


def load_original(path: str | Path) -> MSMAMLModel:
    """
    Reads one published checkpoint from this machine. `MSMAMLModel.from_pretrained` also finds it in a repository.

    Its word vectors are not part of that format: give the model those of the data, `model.set_input_embeddings(...)`.

    Args:
        path: a `maml_gated_conv_1d_<iteration>.pt`, or a run's folder, which stands for its last iteration.

    Raises:
        `FileNotFoundError`: there is no such checkpoint, or no `train_config.json` beside it.
        `ValueError`: the file is not such a checkpoint.
    """
    path = _last_checkpoint(Path(path))
    model = MSMAMLModel(read_config(path.parent / OPTIONS_NAME))
    weights = read_weights(path)
    check_fit(weights, model.state_dict(), path)
    model.load_state_dict(weights, strict=False)
    return model


def _last_checkpoint(path: Path) -> Path:
    if not path.is_dir():
        if not path.is_file():
            raise FileNotFoundError(f"there is no checkpoint {path}")
        return path
    iterations = {int(match[1]): file for file in path.iterdir() if (match := CHECKPOINT_NAME.fullmatch(file.name))}
    if not iterations:
        raise FileNotFoundError(f"{path} holds no maml_gated_conv_1d_<iteration>.pt")
    return iterations[max(iterations)]


def convert(
    source: str, folder: Path, run: str | None = None, iteration: int | None = None, tokenizer: str | None = None
) -> Path:
    """
    Writes one published checkpoint as config, safetensors, processor and model card, with the code that reads them.

    Word vectors are not written, since the published format holds none; a tokenizer only if one is given.

    Args:
        source: a folder or repository of the published layout.
        folder: where to write; it is made.
        run, iteration: as for `MSMAMLModel.from_pretrained`.
        tokenizer: folder or repository of the tokenizer of the text modality.

    Raises:
        `ValueError`: `source` has no such checkpoint, a file is not one, or the tokenizer does not fit.
        `OSError`: there is no such repository, or files are missing in it.
    """
    found = find_original(source, run=run, iteration=iteration)
    if found is None:
        raise ValueError(f"{source} is not of the published layout: it has a config.json, or no {RUNS_FOLDER}/<run>/")
    model = load_original(found.weights)
    processor = make_processor(model, tokenizer)
    # Without the word vectors, so that transformers reports them as newly initialized whenever the model is loaded.
    weights = {name: tensor for name, tensor in model.state_dict().items() if name != WORD_VECTORS}
    model.save_pretrained(folder, state_dict=weights)
    if processor is not None:
        processor.save_pretrained(folder)
    write_model_card(describe(model, found, source, folder, processor), folder)
    return folder


def make_processor(model: MSMAMLModel, tokenizer: str | None) -> MSMAMLProcessor | None:
    """
    What reads the inputs of a published model: 5 s of sound at 16 kHz, pictures of 32x32, and texts if a tokenizer is
    given. `None` if that is nothing.

    Raises:
        `ValueError`: a tokenizer for a model without text, or one that the processor refuses.
    """
    modalities = model.config.modalities
    if tokenizer is not None and "text" not in modalities:
        raise ValueError(f"tokenizer={tokenizer!r} has no use: the model has modalities {', '.join(modalities)}")
    parts = {}
    if "audio" in modalities:
        parts["feature_extractor"] = MSMAMLFeatureExtractor()
    if "image" in modalities:
        parts["image_processor"] = MSMAMLImageProcessor(size=model.config.image_size)
    if tokenizer is not None:
        parts["tokenizer"] = PreTrainedTokenizerFast.from_pretrained(tokenizer)
    return MSMAMLProcessor(**parts) if parts else None


def describe(
    model: MSMAMLModel, found: OriginalCheckpoint, source: str, folder: Path, processor: MSMAMLProcessor | None
) -> CardContent:
    """What the card of a converted model says."""
    options = read_options(found.options)
    chosen = ["--run", found.run, "--iteration", str(found.iteration)]
    return CardContent(
        model_id=str(folder),
        config=model.config,
        k_shot=options["num_samples_per_class"],
        data_sets={DATA_SETS[name]: DATASET_MODALITIES[name] for name in options["multimodal_few_shot"]},
        training_steps=found.iteration,
        settings={
            "tasks_per_step": options.get("meta_batch_size"),
            "n_query": options.get("num_val_samples"),
            "conditioning": model.config.conditioning,
            "num_inner_steps": model.config.num_inner_steps,
            "inner_lr": model.config.inner_lr,
            "first_order": model.config.first_order,
        },
        command=shlex.join(["python", "-m", "modeling_msmaml.hub.convert_published", source, str(folder), *chosen]),
        commit=commit(),
        source=f"{found.weights.name} of run {found.run} in {source}",
        processed=processed_modalities(processor),
        has_word_vectors="text" not in model.config.modalities,
    )


def option_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The parser of the command line; `prog` is the name of the command."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Published checkpoints -> folders that from_pretrained of transformers reads.",
        epilog="examples:\n  msmaml convert published/ converted/\n  msmaml convert published/ converted/ --all\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="REPO_OR_DIR", help="repository or folder of the published layout")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write; with --all it gets one folder per run")
    parser.add_argument("--all", action="store_true", help="convert every run, at its last iteration")
    parser.add_argument("--run", help="the run to convert; default: the three-modality 5-way 1-shot one")
    parser.add_argument("--iteration", type=int, help="the iteration to convert; default: the last")
    parser.add_argument("--tokenizer", help="tokenizer of the text modality, to be saved with the processor")
    return parser


def main(argv: list[str] | None = None, prog: str = "python -m modeling_msmaml.hub.convert_published") -> list[Path]:
    """
    Runs the command line.

    Args:
        argv: the arguments; by default those of the process.
        prog: the name of the command in usage and error messages.

    Returns:
        The folders that were written.
    """
    parser = option_parser(prog)
    options = parser.parse_args(argv)
    if options.all and (options.run is not None or options.iteration is not None):
        parser.error("--all converts every run at its last iteration: leave out --run and --iteration")
    try:
        if not options.all:
            written = [convert(options.source, options.out, options.run, options.iteration, options.tokenizer)]
        else:
            runs = list_originals(options.source)
            written = [convert(options.source, options.out / run, run, None, options.tokenizer) for run in runs]
    except (ValueError, OSError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    for folder in written:
        print(f"wrote {folder}")
    return written


if __name__ == "__main__":
    main()
