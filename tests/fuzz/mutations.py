"""Changes files so that what reads them meets what their author did not write: by their structure, and byte by byte."""

import copy
import csv
import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import yaml

from ..inputs.test_damaged_files import mutated as damaged
from .watch import CANARY

_CODE = f"__import__('os').system('echo {CANARY}')"
# What stands in place of a value. Each is of a kind that some program somewhere took for something else.
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 2**31, 2**63, -(2**63), 2**64, 10**30, 10**400),
    *(0.5, -0.0, 1e308, float("nan"), float("inf"), float("-inf")),
    *("", " ", "\0", "\ud800", "\u202etxt.exe", "é" * 300, "1", "nan", "a" * 20_000, "{{ 7 * 7 }}", "%s%n", "${HOME}"),
    *("../../../../etc/passwd", "/etc/passwd", "/dev/zero", "C:\\x", "file:///etc/passwd", "~/.netrc", "a\nb", "."),
    *("__proto__", "__class__", "__init__", "builtins.eval", f"{CANARY}.module", f"{CANARY}--x.A", _CODE),
    *("someone/model", "hf_hub:someone/model", "https://example.invalid/x", "NoSuchClass", "float128", "cuda:99"),
    *([], {}, [None], [[]], {"a": 1}, [-1, 2**40], [2**40, 2**40], list(range(1_000)), {"__class__": "x"}, [1.5, "x"]),
)  # fmt: skip
# What stands in place of a cell of a table besides.
_CELLS = ("=cmd|' /C calc'!A0", '"', '""', "'", ",", "\t", ";", "\ufeff", "\r", "a\nb", "nan", "None", "-1", "1e999")
_BOMB = "\n".join(
    ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}]" for n in range(1, 15))]
)
_YAML = (
    f"!!python/object/apply:os.system ['echo {CANARY}']",
    "!!python/name:os.system",
    "*nowhere",
    "[" * 3_000,
    _BOMB,
)


def mutated(name: str, content: bytes, rng: np.random.Generator) -> bytes:
    """The content of a file, changed; its name says what structure it has."""
    change = _BY_SUFFIX.get(name.rpartition(".")[2])
    if change is None or not content or rng.random() < 0.2:
        return damaged(content, rng)
    return change(content, rng)


def _picked(rng: np.random.Generator, items: Any) -> Any:
    return items[int(rng.integers(len(items)))]


def _json(content: bytes, rng: np.random.Generator) -> bytes:
    value = json.loads(content)
    for _ in range(rng.integers(1, 4)):
        value = _changed(value, rng)
    text = json.dumps(value, ensure_ascii=bool(rng.random() < 0.8))
    match rng.integers(40):
        case 0:
            text = "[" * 100_000
        case 1:
            text = '{"a":' * 100_000
        case 2:
            text = text.replace(":", ": " + "[" * 20_000 + "]" * 20_000 + ', "x":', 1)
        case 3 if text.startswith("{"):
            text = "{" + text[1:-1] + ", " + text[1:-1] + "}"
    return text.encode("utf-8", "surrogatepass")


def _changed(value: Any, rng: np.random.Generator) -> Any:
    """A value of JSON with one part of it replaced, removed, repeated or put elsewhere."""
    value = copy.deepcopy(value)
    places = list(_places(value))
    if not places or rng.random() < 0.02:
        return copy.deepcopy(_picked(rng, ODD))
    holder, key = _picked(rng, places)
    match rng.integers(8):
        case 0:
            del holder[key]
        case 1:
            other, place = _picked(rng, places)
            holder[key] = copy.deepcopy(other[place]) if place in _keys(other) else None
        case 2 if isinstance(holder, dict):
            holder[str(_picked(rng, [odd for odd in ODD if isinstance(odd, str)]))] = holder.pop(key)
        case 3 if isinstance(holder, list):
            holder.extend(copy.deepcopy(holder[:50]))
        case 4 if isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
            holder[key] = _picked(rng, (-holder[key], holder[key] + 1, holder[key] * 1_000, str(holder[key])))
        case _:
            holder[key] = copy.deepcopy(_picked(rng, ODD))
    return value


def _places(value: Any) -> Any:
    """All (container, key) in a value; containers with very many entries by some of them."""
    for key in list(_keys(value))[:200]:
        yield value, key
        yield from _places(value[key])


def _keys(value: Any) -> Any:
    return value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()


def _json_lines(content: bytes, rng: np.random.Generator) -> bytes:
    lines = content.splitlines(keepends=True)
    number = int(rng.integers(len(lines)))
    lines[number] = _json(lines[number], rng) + b"\n"
    return b"".join(lines)


def _safetensors(content: bytes, rng: np.random.Generator) -> bytes:
    size = int.from_bytes(content[:8], "little")
    header, data = _json(content[8 : 8 + size], rng), content[8 + size :]
    length = len(header) if rng.random() < 0.9 else int(_picked(rng, (0, 2**40, 2**63, 2**64 - 1, len(content))))
    return length.to_bytes(8, "little") + header + data


def _zip(content: bytes, rng: np.random.Generator) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(made, "w") as changed:
        infos = archive.infolist()
        chosen = _picked(rng, infos)
        for info in infos:
            name, own, compression = info.filename, archive.read(info), info.compress_type
            if info is chosen:
                match rng.integers(6):
                    case 0:
                        name = _picked(
                            rng, ("../../out", "/tmp/out", "C:\\out", "a\0b", f"{name}/../../x", "", "é" * 200)
                        )
                    case 1:
                        continue
                    case 2:
                        own, compression = bytes(60_000_000), zipfile.ZIP_DEFLATED
                    case 3:
                        own = mutated(name, own, rng) if name.endswith(tuple(_TEXT)) else damaged(own, rng)
                    case _:
                        own = damaged(own, rng)
            changed.writestr(zipfile.ZipInfo(name, info.date_time), own, compression)
    return made.getvalue()


def _yaml(content: bytes, rng: np.random.Generator) -> bytes:
    if rng.random() < 0.2:
        return content + f"\n{_picked(rng, ('output_dir', 'n_way', 'x'))}: {_picked(rng, _YAML)}\n".encode()
    value = yaml.safe_load(content)
    for _ in range(rng.integers(1, 3)):
        value = _changed(value, rng)
    return yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass")


def _table(content: bytes, rng: np.random.Generator) -> bytes:
    delimiter = "\t" if b"\t" in content.splitlines()[0] else ","
    rows = list(csv.reader(io.StringIO(content.decode()), delimiter=delimiter))
    for _ in range(rng.integers(1, 4)):
        row = _picked(rng, rows)
        column = int(rng.integers(len(row)))
        row[column] = str(_picked(rng, (*_CELLS, *ODD)))
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=_picked(rng, (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))).writerows(rows)
    encoding = _picked(rng, ("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32"))
    return text.getvalue().encode(encoding, "surrogatepass")


_TEXT = (".json", ".csv", ".jsonl")
_BY_SUFFIX: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "json": _json,
    "jsonl": _json_lines,
    "safetensors": _safetensors,
    "zip": _zip,
    "pt": _zip,
    "yaml": _yaml,
    "csv": _table,
    "tsv": _table,
}
