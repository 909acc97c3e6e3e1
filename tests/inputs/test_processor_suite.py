"""The tests that every processor of transformers passes, on one with all three parts."""

import unittest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from modeling_msmaml import MSMAMLFeatureExtractor, MSMAMLImageProcessor, MSMAMLProcessor

from ..level_models import words_of_tiny_encoder
from ..own_data import WORDS
from ..transformers_suite import Unskipped, load, stale_rows, without_rows_of

_common = load("test_processing_common")


@without_rows_of("processor")
class TestProcessor(Unskipped, _common.ProcessorTesterMixin, unittest.TestCase):
    processor_class = MSMAMLProcessor
    audio_input_name = "input_values"

    _setup_feature_extractor = MSMAMLFeatureExtractor
    _setup_image_processor = MSMAMLImageProcessor
    _setup_tokenizer = staticmethod(words_of_tiny_encoder)

    @pytest.fixture(autouse=True)
    def peers_folder(self, tmp_path: Path) -> None:
        self.sound = tmp_path / "sound.wav"
        soundfile.write(self.sound, np.sin(np.arange(4000) / 10) / 2, 16_000)

    def prepare_audio_inputs(self, batch_size: int | None = None) -> list[Any]:
        return [self.sound] * (batch_size or 1)  # a waveform would need its sampling rate

    def prepare_text_inputs(self, batch_size: int | None = None, modalities: Any = None) -> Any:
        text = " ".join(WORDS[2:5])
        return text if batch_size is None else [text] * batch_size


def test_every_row_of_the_table_names_tests():
    assert not stale_rows("processor", TestProcessor)
