"""
Baselines: other few-shot learners as kinds of task network, on the same features, in the same trainer and evaluation.

Each registers itself under the name that `task_network` takes. `modeling_msmaml` imports them all, so that options and
saved models may name them.
"""

from .baseline_plus_plus import BaselinePlusPlusTasks
from .baseline_tasks import BaselineTasks, Solved
from .in_context import InContextTasks
from .mahalanobis import MahalanobisTasks
from .matching import MatchingTasks
from .prototypical import PrototypicalTasks
from .relation import RelationTasks
from .ridge import RidgeTasks
from .set_attention import SetAttentionTasks
from .simpleshot import SimpleShotTasks

__all__ = [
    "BaselinePlusPlusTasks",
    "BaselineTasks",
    "InContextTasks",
    "MahalanobisTasks",
    "MatchingTasks",
    "PrototypicalTasks",
    "RelationTasks",
    "RidgeTasks",
    "SetAttentionTasks",
    "SimpleShotTasks",
    "Solved",
]
