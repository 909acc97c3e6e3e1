"""
MS-MAML: one few-shot learner for audio, text and images, at home in the Hugging Face ecosystem.

Importing this package registers the model with the Auto classes and with `pipeline`. Names of training, inference and
the Hub are looked up when they are asked for, so that scikit-learn, `evaluate`, matplotlib and `Trainer` are imported
only by those who use them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig, AutoFeatureExtractor, AutoImageProcessor, AutoModel, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from .baselines import BaselineTasks, Solved  # which registers all baselines
from .inference.few_shot_pipeline import FewShotClassificationPipeline
from .inference.pipeline_code import TASK
from .inputs.processing_msmaml import MSMAMLFeatureExtractor, MSMAMLImageProcessor, MSMAMLProcessor
from .model.adaptation import AdaptedTasks
from .model.adapted_parameters import AdaptedParameters, register_adapted_parameters
from .model.configuration_msmaml import MSMAMLConfig
from .model.inner_optimizers import DescentOptimizer, InnerOptimizer, register_inner_optimizer
from .model.level_encoder import LevelEncoder, read_level_encoder, register_level_encoder, save_level_encoder
from .model.level_pretrained import find_level_encoder, level_encoder_from_pretrained
from .model.loading import MSMAMLPreTrainedModel
from .model.meta_batch import MSMAMLOutput
from .model.modalities import ModalityEmbedding, register_modality
from .model.modeling_msmaml import MSMAMLModel
from .model.task_encoder import register_task_encoder
from .model.task_loss import TaskLoss, register_task_loss
from .model.task_networks import TaskNetworkKind, register_task_network

if TYPE_CHECKING:
    from .hub.learning_curves import plot_learning_curves
    from .hub.model_card import CardContent, write_model_card
    from .hub.run_report import ModelCardCallback, RunReport
    from .inference.base_model import default_model
    from .inference.cross_validation import CrossValidation, cross_validate
    from .inference.few_shot_classifier import FewShotClassifier
    from .training.metrics import FewShotAccuracy
    from .training.trainer import MetaTrainer
    from .training.training_args import MetaTrainingArguments

_PLACES = {
    "CardContent": "hub.model_card",
    "CrossValidation": "inference.cross_validation",
    "FewShotAccuracy": "training.metrics",
    "FewShotClassifier": "inference.few_shot_classifier",
    "MetaTrainer": "training.trainer",
    "MetaTrainingArguments": "training.training_args",
    "ModelCardCallback": "hub.run_report",
    "RunReport": "hub.run_report",
    "cross_validate": "inference.cross_validation",
    "default_model": "inference.base_model",
    "plot_learning_curves": "hub.learning_curves",
    "write_model_card": "hub.model_card",
}

AutoConfig.register(MSMAMLConfig.model_type, MSMAMLConfig, exist_ok=True)
AutoModel.register(MSMAMLConfig, MSMAMLModel, exist_ok=True)
AutoProcessor.register(MSMAMLConfig, MSMAMLProcessor, exist_ok=True)
AutoFeatureExtractor.register(MSMAMLConfig, MSMAMLFeatureExtractor, exist_ok=True)
AutoImageProcessor.register(MSMAMLConfig, MSMAMLImageProcessor, exist_ok=True)
PIPELINE_REGISTRY.register_pipeline(TASK, FewShotClassificationPipeline, pt_model=AutoModel, type="multimodal")

# The code is saved beside the weights, so that the auto classes load them without this package (trust_remote_code).
MSMAMLConfig.register_for_auto_class()
MSMAMLModel.register_for_auto_class("AutoModel")
MSMAMLProcessor.register_for_auto_class("AutoProcessor")
MSMAMLFeatureExtractor.register_for_auto_class("AutoFeatureExtractor")
MSMAMLImageProcessor.register_for_auto_class("AutoImageProcessor")

__all__ = [
    "AdaptedParameters",
    "AdaptedTasks",
    "BaselineTasks",
    "CardContent",
    "CrossValidation",
    "DescentOptimizer",
    "FewShotAccuracy",
    "FewShotClassificationPipeline",
    "FewShotClassifier",
    "InnerOptimizer",
    "LevelEncoder",
    "MSMAMLConfig",
    "MSMAMLFeatureExtractor",
    "MSMAMLImageProcessor",
    "MSMAMLModel",
    "MSMAMLOutput",
    "MSMAMLPreTrainedModel",
    "MSMAMLProcessor",
    "MetaTrainer",
    "MetaTrainingArguments",
    "ModalityEmbedding",
    "ModelCardCallback",
    "RunReport",
    "Solved",
    "TaskLoss",
    "TaskNetworkKind",
    "cross_validate",
    "default_model",
    "find_level_encoder",
    "level_encoder_from_pretrained",
    "plot_learning_curves",
    "read_level_encoder",
    "register_adapted_parameters",
    "register_inner_optimizer",
    "register_level_encoder",
    "register_modality",
    "register_task_encoder",
    "register_task_loss",
    "register_task_network",
    "save_level_encoder",
    "write_model_card",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
    except ModuleNotFoundError as error:
        from .extras import with_extra

        raise with_extra(error) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
