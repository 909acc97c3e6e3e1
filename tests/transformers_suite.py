"""
The common tests of transformers, from its source release, which `make peers` fetches into `.transformers`; and the
table of those that are left out, docs/peers.md.
"""

import importlib
import os
import re
import sys
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

import pytest
import transformers

REPOSITORY = Path(__file__).parents[1]
FOLDER = REPOSITORY / ".transformers"
TABLE = REPOSITORY / "docs" / "peers.md"
# What marks these tests; pytest refuses marks that it was not told of.
MARKS = (
    *("accelerate_tests", "flash_attn_test", "flash_attn_3_test", "flash_attn_4_test", "torch_compile_test", "order"),
    *("is_training_test", "is_pipeline_test", "is_staging_test", "is_agent_test"),
    *("is_tensor_parallel_test", "is_fsdp_test", "is_expert_parallel_test"),
)
_PACKAGE = "transformers_tests"
_ROW = re.compile(r"\| `(?P<test>test_[\w*]+)` \| (?P<where>[^|]+) \| (?P<why>[^|]+) \|")
# Another value than the default for what every config of transformers has.
_OF_ANY_CONFIG = {
    "return_dict": False,
    "output_hidden_states": True,
    "dtype": "float16",
    "chunk_size_feed_forward": 3,
    "architectures": ["AnotherModel"],
    "id2label": {0: "one label"},
    "label2id": {"one label": 0},
    "problem_type": "regression",
}


class Row(NamedTuple):
    """A row of the table: a pattern of test names, the configurations where it is left out, and the reason."""

    test: str
    where: tuple[str, ...]
    why: str

    def leaves_out(self, test: str, configuration: str) -> bool:
        return fnmatch(test, self.test) and ("all" in self.where or configuration in self.where)


def rows() -> list[Row]:
    """The table of docs/peers.md."""
    found = _ROW.finditer(TABLE.read_text())
    return [Row(row["test"], tuple(row["where"].strip().split(", ")), row["why"].strip()) for row in found]


def load(name: str) -> ModuleType:
    """
    A module of the tests. Of what the source release leaves out, it has stand-ins: mixins of other test suites, which
    are empty, and values for configs.
    """
    version = re.search(r"^Version: (\S+)$", _about(), re.MULTILINE)
    if version is None or version[1] != transformers.__version__:
        _missing(f"{FOLDER} has no tests of transformers {transformers.__version__}: `make peers` fetches them")
    if _PACKAGE not in sys.modules:
        _stand_in(_PACKAGE, __path__=[str(FOLDER / "tests")])
        for folder in ("exporters", "generation", "utils"):
            _stand_in(f"{_PACKAGE}.{folder}", __path__=[])
        _stand_in(f"{_PACKAGE}.exporters.test_export", ExportTesterMixin=type("ExportTesterMixin", (), {}))
        _stand_in(f"{_PACKAGE}.generation.test_utils", GenerationTesterMixin=type("GenerationTesterMixin", (), {}))
        _stand_in(f"{_PACKAGE}.utils.test_configuration_utils", config_common_kwargs=_OF_ANY_CONFIG)
        _stand_in("fetch_hub_objects_for_ci", url_to_local_path=lambda url: url)
    return importlib.import_module(f"{_PACKAGE}.{name}")


def _about() -> str:
    path = FOLDER / "PKG-INFO"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _missing(message: str) -> NoReturn:
    if os.environ.get("MSMAML_REQUIRE_PEERS") == "1":
        pytest.fail(message)
    pytest.skip(reason=message, allow_module_level=True)


def _stand_in(name: str, **names: Any) -> None:
    module = ModuleType(name)
    vars(module).update(names)
    sys.modules[name] = module


def without_rows_of(configuration: str) -> Any:
    """A class decorator: tests that the table leaves out for a configuration are none of the class."""

    def decorate(cls: Any) -> Any:
        for name in [name for name in dir(cls) if name.startswith("test_") and callable(getattr(cls, name))]:
            if any(row.leaves_out(name, configuration) for row in rows()):
                setattr(cls, name, None)
            elif getattr(getattr(cls, name), "__unittest_skip__", False):
                reason = getattr(cls, name).__unittest_skip_why__
                raise AssertionError(f"{name} would be skipped, which {TABLE} does not tell: {reason}")
        return cls

    return decorate


class Unskipped:
    """A test case whose tests run, or are in the table."""

    def skipTest(self: Any, reason: str) -> NoReturn:
        self.fail(f"{self._testMethodName} is skipped, which {TABLE} does not tell: {reason}")


def stale_rows(configuration: str, cls: type) -> list[str]:
    """Rows of the table for a configuration that name no test of its class, or of the classes that it is made of."""
    return [
        row.test
        for row in rows()
        if configuration in row.where or ("all" in row.where and configuration != "processor")
        if not any(fnmatch(name, row.test) for name in dir(cls))
    ]
