"""Rules that tell good text from bad, and code worth learning from: the filters of Gopher, C4, RefinedWeb, FineWeb and
The Stack, and lists that a user gives.

Each is a step: a document enters, and leaves unchanged, corrected or dropped with the rule that it broke, the value and
the limit. The text is measured once for all of them (``analysis``); a rule is a comparison.

The decisions are datatrove's, given the same words, but for these, in which we differ on purpose:

    line ends       everything that ``str.splitlines`` knows; there "\\n" alone in two of the filters
    empty lines     at the ends of a text do not count as lines
    symbols         are what is no letter, mark or number; there a list that has "１" in it and not "•", "‘" or "°"
    an n-gram       is its words; there "ab c" and "a bc" are the same 5-gram, and no other
    citations       go first, and what is left of the line is judged; there "It rained. [1]" goes: it ends in a blank
    sentences       end where white space follows the mark, or at a full-width one; there spaCy's rule, which knows
                    abbreviations
    code            is judged by the rules for code alone
"""

from groundup.corpus.quality.analysis import Analysis, analyse
from groundup.corpus.quality.blocklist import Blocklist, BlocklistConfig
from groundup.corpus.quality.c4 import C4, C4Config
from groundup.corpus.quality.code import Code, CodeConfig
from groundup.corpus.quality.fineweb import FineWeb, FineWebConfig
from groundup.corpus.quality.gopher import (
    GopherQuality,
    GopherQualityConfig,
    GopherRepetition,
    GopherRepetitionConfig,
)
from groundup.corpus.quality.lines import LineConfig, Lines

__all__ = [
    "C4",
    "Analysis",
    "Blocklist",
    "BlocklistConfig",
    "C4Config",
    "Code",
    "CodeConfig",
    "FineWeb",
    "FineWebConfig",
    "GopherQuality",
    "GopherQualityConfig",
    "GopherRepetition",
    "GopherRepetitionConfig",
    "LineConfig",
    "Lines",
    "analyse",
]
