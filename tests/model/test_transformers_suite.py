"""
The tests that every model of transformers passes, and that of its configs, on three configurations: the published one,
the one that is trained from scratch, and levels, which is the default.
"""

import unittest
from pathlib import Path
from typing import Any

import pytest
import torch

from modeling_msmaml import MSMAMLConfig, MSMAMLModel
from modeling_msmaml.model.level_encoder import save_level_encoder

from ..toys import tiny_config, tiny_episodes
from ..transformers_suite import Unskipped, load, stale_rows, without_rows_of
from .level_encoders import raw_rows, tiny
from .test_default_architecture import SMALL
from .test_default_architecture import episodes as small_episodes

ModelTesterMixin = load("test_modeling_common").ModelTesterMixin
ConfigTester = load("test_configuration_common").ConfigTester
MODALITIES = ("audio", "text", "image")


class _Tester:
    """What the tests ask for inputs and configurations."""

    is_training = True
    batch_size = 2

    def __init__(self, case: "_Suite"):
        self.get_config = case.make_config
        self._episodes = case.make_episodes

    def prepare_config_and_inputs_for_common(self) -> tuple[MSMAMLConfig, dict[str, Any]]:
        return self.get_config(), {"episodes": self._episodes()}


class _Suite(Unskipped, ModelTesterMixin):
    all_model_classes = (MSMAMLModel,)
    has_attentions = False
    # Files without the year in which they were written count as old.
    test_can_init_all_missing_weights_before_2023 = True

    make_config: Any
    make_episodes: Any

    @pytest.fixture(autouse=True)
    def peers_folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def setUp(self) -> None:
        self.model_tester = _Tester(self)

    def test_config(self) -> None:
        MSMAMLModel(self.make_config()).save_pretrained(self.folder)  # the config of levels then names no own folder
        saved, default = MSMAMLConfig.from_pretrained(self.folder).own_values(), MSMAMLConfig().own_values()
        changes = {name: value for name, value in saved.items() if value != default[name]}
        ConfigTester(self, MSMAMLConfig, common_properties=["n_way", "modalities"], **changes).run_common_tests()


@without_rows_of("published")
class TestPublished(_Suite, unittest.TestCase):
    make_config = staticmethod(tiny_config)
    make_episodes = staticmethod(tiny_episodes)


@without_rows_of("from scratch")
class TestFromScratch(_Suite, unittest.TestCase):
    make_config = staticmethod(lambda: MSMAMLConfig(**SMALL))
    make_episodes = staticmethod(small_episodes)


@without_rows_of("levels")
class TestLevels(_Suite, unittest.TestCase):
    @pytest.fixture(autouse=True, scope="class")
    def _encoders(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
        request.cls.encoders = {name: str(tmp_path_factory.mktemp(name)) for name in MODALITIES}
        for name, folder in request.cls.encoders.items():
            save_level_encoder(tiny(name), folder)

    def make_config(self) -> MSMAMLConfig:
        return MSMAMLConfig(task_network="levels", modalities=list(MODALITIES), level_encoders=dict(self.encoders))

    def make_episodes(self) -> dict[str, dict[str, torch.Tensor]]:
        labels, found = torch.tensor([[0, 1, 0, 1]]), {}
        for name in MODALITIES:
            rows = raw_rows(name)[None, 1:]
            found[name] = {"support": rows, "support_labels": labels, "query": rows, "query_labels": labels}
        return found


@pytest.mark.parametrize(
    ("configuration", "suite"),
    [("published", TestPublished), ("from scratch", TestFromScratch), ("levels", TestLevels)],
)
def test_every_row_of_the_table_names_tests(configuration, suite):
    assert not stale_rows(configuration, suite)
