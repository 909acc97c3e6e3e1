"""A published cell of docs/results.md, drawn anew each day, is what its method gives: its first episodes, once more."""

import datetime
import os
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.comparison import results
from benchmarks.comparison.cells import DATA_SETS, cells
from benchmarks.comparison.methods import Levels
from benchmarks.comparison.splits import Material, episodes_of, fingerprint, in_memory
from data_builders import FewShotSplit
from modeling_msmaml import MSMAMLModel
from modeling_msmaml.inference.base_model import SHIPPED

PAGE = Path(__file__).resolve().parents[2] / "docs" / "results.md"
EPISODES = 4
# Tasks that take few seconds: short texts and small pictures in 5-way episodes. Sounds are read for a second each.
QUICK = [cell for cell in cells() if cell.data_set in ("banking77", "clinc150", "omniglot") and cell.n_way == 5]


class FirstEpisodes(Material):
    """Levels of the rows that the first episodes of a cell read, a small part of a test split; others are 0."""

    def __init__(self, cell, *arguments):
        super().__init__(*arguments)
        self.cell = cell

    def of(self, data_set) -> FewShotSplit:
        raw = self.raw(data_set.title, "test")
        numbers = in_memory(raw, np.arange(len(raw))[:, None])
        frontend: Any = self.model.frontends[data_set.modality]
        levels = np.zeros((len(raw), frontend.total), np.float16)
        drawn = episodes_of(self.cell, numbers, EPISODES, 0)
        read = [drawn[index][part].numpy() for index in range(EPISODES) for part in ("support_ids", "query_ids")]
        wanted = np.unique(np.concatenate(read))
        with torch.no_grad():
            rows = torch.from_numpy(raw.rows(wanted))
            levels[wanted] = frontend(rows, torch.float32).half().numpy()
        return in_memory(raw, levels)


def chosen() -> random.Random:
    seed = os.environ.get("MSMAML_SEED") or datetime.date.today().isoformat()
    print(f"MSMAML_SEED={seed}")
    return random.Random(seed)


def test_a_random_published_cell_is_computed_again(data_dir, cache_dir):
    cell = chosen().choice(QUICK)
    stored = results.read(Levels.name)[cell.key]
    print(f"{cell}, published: {100 * stored['accuracy']:.2f}")
    material = FirstEpisodes(cell, MSMAMLModel.from_pretrained(SHIPPED), str(SHIPPED), str(data_dir), str(cache_dir))
    assert fingerprint(material.raw(cell.data_set, "test")) == stored["rows"], "the data are not those of the page"
    found = Levels().answers(cell, material, EPISODES, stored["seed"]).right
    queries = cell.n_way * cell.n_query
    assert np.abs(np.subtract(found, stored["right"][:EPISODES])).sum() / (EPISODES * queries) < 0.02, (found, cell)


def test_the_page_shows_the_stored_cells():
    """The first table: accuracies of this project at 1 and 5 shots."""
    stored, page = results.read(Levels.name), PAGE.read_text()
    table = page.partition("<!-- comparison: begin -->")[2].partition("<!-- comparison: end -->")[0]
    for title in DATA_SETS:
        shown = re.search(rf"^\| {re.escape(title)} \| ([\d.]+) / ([\d.]+) \|", table, flags=re.MULTILINE)
        assert shown is not None, title
        expected = [f"{100 * stored[title, 5, k_shot]['accuracy']:.1f}" for k_shot in (1, 5)]
        assert list(shown.groups()) == expected, title
