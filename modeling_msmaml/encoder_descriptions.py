"""How a config describes pretrained encoders, and which descriptions make no sense."""

from typing import Any

# Modality -> the library its encoders are from, and the options of its description.
LIBRARIES = {"audio": "transformers", "text": "transformers", "image": "timm"}
OPTIONS = {
    "audio": ("pretrained", "adapter_size", "layer", "pool", "recorded"),
    "text": ("pretrained", "adapter_size", "layer", "pool", "window", "special_tokens", "recorded"),
    "image": ("pretrained", "adapter_size", "input_size", "recorded"),
}


def check_embeddings(embeddings: dict[str, dict[str, Any]], modalities: list[str]) -> None:
    """
    Refuses descriptions of encoders that make no sense, see `embeddings` in [`MSMAMLConfig`].

    Raises:
        `ValueError`: a modality that the config lacks or that no encoder reads, another library, an unknown option or
            a value outside of its range.
    """
    if not isinstance(embeddings, dict):
        raise ValueError(f"embeddings={embeddings!r} must be a dict, modality -> description of its encoder")
    for modality, spec in embeddings.items():
        where = f"embeddings[{modality!r}]"
        if modality not in LIBRARIES:
            raise ValueError(f"{where}: pretrained encoders read {', '.join(LIBRARIES)}")
        if modality not in modalities:
            raise ValueError(f"{where} has no effect, since modalities={modalities}")
        library = LIBRARIES[modality]
        if not isinstance(spec, dict) or not isinstance(spec.get(library), str) or not spec[library]:
            raise ValueError(f"{where}={spec!r} must name its encoder: {{{library!r}: name or folder}}")
        if unknown := sorted(spec.keys() - {library, *OPTIONS[modality]}):
            works = ", ".join((library, *OPTIONS[modality][:-1]))
            raise ValueError(f"{where} has unknown options {', '.join(unknown)}; those for {modality} are {works}")
        if not isinstance(spec.get("pretrained", True), bool):
            raise ValueError(f"{where}: pretrained={spec['pretrained']!r} must be true or false")
        for name, least in (("adapter_size", 1), ("layer", 0), ("pool", 1), ("window", 3), ("input_size", 8)):
            value = spec.get(name, least)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{where}: {name}={value!r} must be an integer of at least {least}")
        _check_special_tokens(where, spec.get("special_tokens", [[], []]))


def _check_special_tokens(where: str, value: Any) -> None:
    fits = isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(ids, (list, tuple)) for ids in value)
    if not fits or not all(isinstance(token, int) and token > 0 for ids in value for token in ids):
        raise ValueError(
            f"{where}: special_tokens={value!r} must be two lists of positive token ids: those before a text, such as "
            "[CLS], and those after it, such as [SEP]"
        )
