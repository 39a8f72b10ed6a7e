"""The one training loop, its checkpoints, and the models that come out of it.

Pretraining, SFT, DPO and GRPO differ in the objective and in the source of batches, nothing else.
"""

from groundup.training.checkpoint import Checkpoint, find_checkpoint, load_model, resolve_model, save_checkpoint
from groundup.training.config import TrainingConfig
from groundup.training.loop import Hook, TrainingResult, train

__all__ = [
    "Checkpoint",
    "Hook",
    "TrainingConfig",
    "TrainingResult",
    "find_checkpoint",
    "load_model",
    "resolve_model",
    "save_checkpoint",
    "train",
]
