"""What the commands have in common: their options, Markdown tables, and pages of docs/ parts of which they write."""

import argparse
from collections.abc import Collection, Iterable
from pathlib import Path


def command_line(description: str, page: bool = True, **options: int | float | str | None) -> argparse.ArgumentParser:
    """
    The parser of a command, without abbreviations.

    Args:
        description: the docstring of its module, which is the help.
        page: whether it can fill its place on a page, which `--write` names.
        **options: those that need no help, with their defaults; `None` stands for text.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    if page:
        parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables into their place on this page")
    for name, default in options.items():
        parser.add_argument(f"--{name}", type=str if default is None else type(default), default=default)
    return parser


def table(head: Iterable[str], rows: Iterable[Iterable[str]], words: int | Collection[int] = 1) -> str:
    """
    A Markdown table.

    Args:
        head: the name of each column.
        rows: the cells of each row.
        words: how many of the first columns, or which columns, hold words; numbers are aligned to the right.
    """
    head = list(head)
    of_words = range(words) if isinstance(words, int) else words
    lines = [head, ["---" if column in of_words else "---:" for column in range(len(head))], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def percent(mean: float, half_width: float, sign: str = "") -> str:
    """A mean and the half-width of its interval, both in 0..1, as the tables show them: in %."""
    return f"{100 * mean:{sign}.2f} ± {100 * half_width:.2f}"


def publish(name: str, content: str, page: Path | None) -> None:
    """Prints what a command has found, and puts it into its place on a page if there is one."""
    print(content)
    if page is not None:
        replace_between(page, name, content)


def replace_between(page: Path, name: str, content: str) -> None:
    """Puts `content` between the marks of a page that [`parts_of`] looks for."""
    before, _, after = parts_of(page, name)
    page.write_text(f"{before}\n{content}\n{after}")


def parts_of(page: Path, name: str) -> tuple[str, str, str]:
    """
    A page up to and with its mark `<!-- name: begin -->`, what stands between the marks, and the rest.

    Raises:
        ValueError: the page lacks a mark.
    """
    text, begin, end = Path(page).read_text(), f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if begin not in text or end not in text:
        raise ValueError(f"{page} has no place for this: it needs the lines {begin} and {end}")
    before, rest = text.split(begin)
    content, after = rest.split(end)
    return before + begin, content, end + after
