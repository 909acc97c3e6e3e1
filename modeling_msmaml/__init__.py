"""MS-MAML: one few-shot learner for audio, text and images, at home in the Hugging Face ecosystem."""

from transformers import AutoConfig, AutoModel, AutoProcessor

from .few_shot_classifier import FewShotClassifier
from .few_shot_pipeline import FewShotClassificationPipeline
from .hub_callback import ModelCardCallback
from .inputs.processing_msmaml import MSMAMLFeatureExtractor, MSMAMLImageProcessor, MSMAMLProcessor
from .metrics import FewShotAccuracy
from .model.adaptation import AdaptedTasks
from .model.configuration_msmaml import MSMAMLConfig
from .model.modalities import ModalityEmbedding, register_modality
from .model.modeling_msmaml import MSMAMLModel, MSMAMLOutput, MSMAMLPreTrainedModel
from .model_card import CardContent, write_model_card
from .plots import plot_learning_curves
from .run_report import RunReport
from .trainer import MetaTrainer
from .training_args import MetaTrainingArguments

AutoConfig.register(MSMAMLConfig.model_type, MSMAMLConfig, exist_ok=True)
AutoModel.register(MSMAMLConfig, MSMAMLModel, exist_ok=True)
AutoProcessor.register(MSMAMLConfig, MSMAMLProcessor, exist_ok=True)

# The code is saved beside the weights, so that the auto classes load them without this package (trust_remote_code).
MSMAMLConfig.register_for_auto_class()
MSMAMLModel.register_for_auto_class("AutoModel")
MSMAMLProcessor.register_for_auto_class("AutoProcessor")

__all__ = [
    "AdaptedTasks",
    "CardContent",
    "FewShotAccuracy",
    "FewShotClassificationPipeline",
    "FewShotClassifier",
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
    "plot_learning_curves",
    "register_modality",
    "write_model_card",
]
