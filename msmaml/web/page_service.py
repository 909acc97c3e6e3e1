"""The answers of the page, from workers: what the server knows of them, and nothing of the model."""

import time
from collections.abc import Iterator
from pathlib import Path

from . import page_html as html
from .page_answers import SECONDS_PER_STEP, staleness
from .page_limits import PageError, given_to_adapt
from .worker_pool import WorkerPool


class Kept:
    """
    What the server keeps for a visitor.

    Attributes:
        content: the classifiers, packed; only a worker knows what is in it.
        given: what the visitor gave, see [`given_to_adapt`].
    """

    def __init__(self, content: bytes, given: tuple):
        self.content, self.given = content, given

    def __deepcopy__(self, memo: dict) -> "Kept":  # which gradio does to states; neither part ever changes
        return self


class PageService:
    """
    Has the answers of the page computed. It answers as [`Demo`] does, and says so where no worker could.

    Args:
        pool: of workers.
        folder: of downloads.

    Attributes:
        modalities, reads_levels: see [`WorkerPool`].
        limits: of the page.
    """

    def __init__(self, pool: WorkerPool, folder: Path):
        self.pool, self.folder = pool, folder
        self.modalities, self.reads_levels, self.limits = pool.modalities, pool.reads_levels, pool.limits

    def preview(self, modality: str, files: list[str] | None, lines: str | None, what: str) -> str:
        """Returns the HTML of some inputs, see [`Demo.preview`]."""
        if not (files or (modality == "text" and lines and lines.strip())):
            return html.in_a_row([])
        if (waiting := self.pool.waiting) >= 8 * self.limits.max_waiting:
            return html.message(busy(self.pool, waiting), error=True)
        try:
            ((shown, _),) = self.pool.run("preview", modality, files, lines, what)
        except PageError as error:
            return html.message(str(error), error=True)
        return shown

    def adapt(
        self, modality: str, count: int, skip_unreadable: bool, fields: tuple
    ) -> Iterator[tuple[str, str, Kept | None]]:
        """Yields (message, charts, classifiers), see [`Demo.adapt`]."""
        yield html.message("Adapting …"), "", None
        given, kept, steps = given_to_adapt(modality, count, fields), None, 0
        try:
            for (message, drawn), content in self.pool.run("adapt", modality, count, skip_unreadable, fields):
                if content is not None and (kept is None or content is not kept.content):
                    kept = Kept(content, given)
                if kept is None and drawn:
                    steps += 1
                    if steps > 1 and not self.pool.waiting:  # nobody waits for the pleasure of another
                        time.sleep(SECONDS_PER_STEP)
                yield message, drawn, kept
        except PageError as error:
            yield html.message(str(error), error=True), "", None

    def staleness(self, kept: Kept | None, modality: str, count: int, fields: tuple) -> str:
        """Returns the HTML that says that results are of earlier examples, see [`Demo.staleness`]."""
        return staleness(None if kept is None else kept.given, modality, count, fields)

    def classify(
        self, kept: Kept | None, modality: str, skip_unreadable: bool, files: list[str] | None, lines: str | None
    ) -> tuple[str, str | None]:
        """Returns the HTML of the results, and the path of their table, see [`Demo.classify`]."""
        content = None if kept is None else kept.content
        try:
            ((answer, _),) = self.pool.run("classify", content, modality, skip_unreadable, files, lines)
        except PageError as error:
            return html.message(str(error), error=True), None
        return answer[0], answer[1]

    def archive(self, kept: Kept) -> str:
        """
        Returns the path of the archive, see [`Demo.archive`].

        Raises:
            PageError: it could not be made.
        """
        ((path, _),) = self.pool.run("archive", kept.content)
        return path


def busy(pool: WorkerPool, ahead: int) -> str:
    """Returns the sentence for a visitor who cannot even wait."""
    wait = "1 request waits" if ahead == 1 else f"{ahead} requests wait"
    return f"The page is busy: {wait} already. Try again in {pool.seconds_until_free(ahead)} s."
