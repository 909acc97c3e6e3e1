"""Pages of docs/ parts of which a command writes."""

from pathlib import Path


def replace_between(page: Path, begin: str, end: str, content: str) -> None:
    """
    Puts `content` between two marks of a page.

    Raises:
        ValueError: the page lacks a mark.
    """
    text = page.read_text()
    if begin not in text or end not in text:
        raise ValueError(f"{page} has no place for this: it needs the lines {begin} and {end}")
    before, rest = text.split(begin)
    _, after = rest.split(end)
    page.write_text(f"{before}{begin}\n{content}\n{end}{after}")
