"""groundup: build a large language model from the ground up.

The folders, from the bottom of the imports to the top, are the road from raw text to chat:
``core``, ``tasks``, ``corpus``, ``tokenizer``, ``dataloader``, ``model``, ``planning``,
``objectives``, ``optim``, ``training``, ``inference``, ``posttraining``, ``evaluation``,
``serving``, ``inspection``, ``report``, ``recipes``, ``cli``.
"""

from typing import TYPE_CHECKING, Any

from groundup.core.version import VERSION as __version__

__all__ = ["__version__", "open_model"]

if TYPE_CHECKING:
    from groundup.inference.opening import open_model as open_model


def __getattr__(name: str) -> Any:
    """``groundup.open_model``, which imports PyTorch only when it is asked for."""
    if name == "open_model":
        from groundup.inference.opening import open_model

        return open_model
    raise AttributeError(f"module 'groundup' has no attribute {name!r}")
