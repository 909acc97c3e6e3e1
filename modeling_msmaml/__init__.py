"""MS-MAML: one few-shot learner for audio, text and images, at home in the Hugging Face ecosystem."""

from transformers import AutoConfig, AutoModel

from .configuration_msmaml import MSMAMLConfig
from .modality_embeddings import ModalityEmbedding, register_modality
from .modeling_msmaml import MSMAMLModel, MSMAMLOutput, MSMAMLPreTrainedModel

AutoConfig.register(MSMAMLConfig.model_type, MSMAMLConfig, exist_ok=True)
AutoModel.register(MSMAMLConfig, MSMAMLModel, exist_ok=True)

__all__ = [
    "MSMAMLConfig",
    "MSMAMLModel",
    "MSMAMLOutput",
    "MSMAMLPreTrainedModel",
    "ModalityEmbedding",
    "register_modality",
]
