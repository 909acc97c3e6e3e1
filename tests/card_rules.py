"""Rules of the Hub for the metadata of model cards."""

import re

import yaml


def card_errors(content: str) -> list[str]:
    """What is wrong with the metadata of a model card; a part of the rules of the Hub."""
    match = re.match(r"---\r?\n(.*?)\r?\n---\r?\n", content, flags=re.DOTALL)
    if match is None:
        return ["the card has no metadata"]
    try:
        metadata = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        return [f"the metadata are no YAML: {error}"]
    if not isinstance(metadata, dict):
        return ["the metadata are no mapping"]
    errors = []
    if not re.fullmatch(r"[a-z0-9.-]+", str(metadata.get("license", "other"))):
        errors.append(f'"license" is no identifier: {metadata["license"]}')
    if not all(isinstance(tag, str) for tag in metadata.get("tags") or []):
        errors.append('"tags" must be strings')
    for i, model in enumerate(metadata.get("model-index", [])):
        where = f'"model-index[{i}]'
        if not isinstance(model.get("name"), str):
            errors.append(f'{where}.name" is required')
        for j, result in enumerate(model.get("results", [])):
            for part, keys in (("task", ["type"]), ("dataset", ["name", "type"])):
                errors += [
                    f'{where}.results[{j}].{part}.{key}" is required' for key in keys if not result[part].get(key)
                ]
            for metric in result["metrics"]:
                errors += [
                    f'{where}.results[{j}].metrics.{key}" is required' for key in ("type", "value") if key not in metric
                ]
    return errors
