"""MS-MAML: one few-shot learner for audio, text and images.

This package offers the public names of `modeling_msmaml` and `data_builders`. The two are imported when a name is first
used, so that `import msmaml` takes no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_builders import *  # noqa: F403
    from modeling_msmaml import *  # noqa: F403

__version__: str  # of the installation

_PACKAGES = ("modeling_msmaml", "data_builders")


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version(__name__)
        except PackageNotFoundError:  # the sources are run where they lie
            return "0+not.installed"
    if name == "__all__":  # of `from msmaml import *`
        return [name for package in map(importlib.import_module, _PACKAGES) for name in package.__all__]
    if not name.startswith("_"):
        for package in map(importlib.import_module, reversed(_PACKAGES)):
            if name in package.__all__:
                return getattr(package, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "__version__", *__getattr__("__all__")})
