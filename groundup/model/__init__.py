"""Token ids → logits.

Enters: ids [batch, time]. Leaves: logits [batch, time, vocabulary]. Nothing here knows a device, a
loss, an optimizer or a process group; those are applied from outside.
"""

from groundup.model.attention import Record
from groundup.model.cache import KVCache
from groundup.model.config import ModelConfig
from groundup.model.presets import preset
from groundup.model.transformer import Transformer

__all__ = ["KVCache", "ModelConfig", "Record", "Transformer", "preset"]
