"""A run told as one typeset PDF.

Enters: a run directory. Leaves: ``report.pdf``, ``charts/*.svg`` and ``numbers.json``, the list of where every
number in the report was read. The road through the folder: ``facts`` reads, ``wording`` puts numbers into words,
``charts`` draws; ``front``, ``making``, ``learning``, ``judging`` and ``appendix`` decide what to say, sharing
``readings``; the templates ``*.typ`` set it; ``build`` runs them in order.
"""

from groundup.report.config import ReportConfig
from groundup.report.facts import Entry, Facts

__all__ = ["Entry", "Facts", "ReportConfig"]
