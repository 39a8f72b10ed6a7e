"""Personal data and secrets → typed placeholders.

A document enters; it leaves with ``<EMAIL>``, ``<PHONE>`` … where addresses, numbers and keys of people stood, and with
how many of each kind there were. The values themselves are in no log, no detail and no report.

``shadow`` gives a text one byte per character, so that every pattern is one of plain bytes; ``addresses``, ``phones``,
``payment``, ``identity``, ``secrets`` and ``places`` find one kind each; ``finding`` walks a text once from anchor to
anchor and settles overlaps; ``redaction`` is the step.
"""

from groundup.corpus.redaction.finding import KINDS, Found, find
from groundup.corpus.redaction.redaction import Redaction, RedactionConfig

__all__ = ["KINDS", "Found", "Redaction", "RedactionConfig", "find"]
