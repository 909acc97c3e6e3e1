"""One vocabulary with word vectors for several text data sets, so that all texts of a run share one tokenizer."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from modeling_msmaml.inputs.fingerprints import text_hash
from modeling_msmaml.model.options import at_least, checked

from .text_rows import MIN_COUNT, TrainingTexts, VocabularyBuilder


class SharedVocabulary(VocabularyBuilder):
    """Builds the vocabulary of the training texts of several data sets, one data set after the other.

    The order of the data sets matters to the word vectors, since it is the order in which they are trained.

    Args:
        texts: lines of the training texts of each data set. `TrainingTexts` are recognised in the cache by their
            fingerprint, and any other lines by their content.
        cache_dir: folder for the Arrow files; by default the cache of `datasets`.
        min_count: least number of occurrences of a word in all texts together, at least 1 and by default 5.

    Raises:
        ValueError: there are no texts, or `min_count` is not a positive integer. From `build`, the texts have no words.
    """

    def __init__(
        self,
        texts: Sequence[Iterable[str]],
        cache_dir: str | os.PathLike | None = None,
        min_count: int | None = None,
    ):
        if not texts:
            raise ValueError("texts is empty: a shared vocabulary needs the training texts of at least one data set")
        min_count = checked("min_count", MIN_COUNT if min_count is None else min_count, at_least(1))
        self._texts = [lines if isinstance(lines, TrainingTexts) else _known(lines) for lines in texts]
        super().__init__(cache_dir=cache_dir, min_count=min_count)

    def input_fingerprint(self, data_dir: str | None) -> str:
        """Returns the fingerprints of all texts, in their order."""
        return text_hash(*(lines.fingerprint for lines in self._texts))

    def training_sentences(self) -> Iterator[str]:
        for lines in self._texts:
            yield from lines


def _known(lines: Iterable[str]) -> TrainingTexts:
    """Returns lines with a fingerprint of their content."""
    stored = list(lines)
    return TrainingTexts(lambda: stored, text_hash(*stored))
