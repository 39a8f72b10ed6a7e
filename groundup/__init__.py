"""groundup: build a large language model from the ground up.

The folders, from the bottom of the imports to the top, are the road from raw text to chat:
``core``, ``planning``, ``tasks``, ``corpus``, ``tokenizer``, ``dataloader``, ``model``,
``objectives``, ``optim``, ``training``, ``inference``, ``posttraining``, ``evaluation``,
``serving``, ``report``, ``recipes``, ``cli``.
"""

__version__ = "0.1.0"
