"""What an installation for classification alone lacks, and how to add it."""

from importlib.metadata import PackageNotFoundError, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = (
    "train",
    "web",
    "bench",
    "export",
    "search",
    "trackers",
    "completion",
)  # those that somebody may need who does not develop


def extra_with(module: str | None) -> str | None:
    """The first extra of the installed package that brings a module; `None` if there is no such extra."""
    try:
        needed = [Requirement(line) for line in requires("msmaml") or ()]
    except PackageNotFoundError:  # the folders alone, as in a Space
        return None
    name = canonicalize_name((module or "").partition(".")[0])
    marked = [one.marker for one in needed if one.marker is not None and canonicalize_name(one.name) == name]
    found = (extra for extra in EXTRAS if any(marker.evaluate({"extra": extra}) for marker in marked))
    return next(found, None)


def with_extra(error: ModuleNotFoundError) -> ModuleNotFoundError:
    """The error of an import, with the command that installs the module where an extra brings it."""
    extra = extra_with(error.name)
    if extra is None:
        return error
    message = f"this needs {error.name}, which comes with the extra {extra}: pip install 'msmaml[{extra}]'"
    return ModuleNotFoundError(message, name=error.name, path=error.path)
