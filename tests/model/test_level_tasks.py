"""`task_network="levels"` in the model: forward, adapt and classify, second order, saving, options."""

import pytest
import torch

from modeling_msmaml import FewShotClassifier, MSMAMLConfig, MSMAMLModel
from modeling_msmaml.model.adaptation import AdaptedTasks
from modeling_msmaml.model.level_encoder import save_level_encoder

from .level_encoders import tiny_audio, tiny_image, tiny_text
