"""Scores that are learnt from examples: how much a text is like good ones, and how surprising it is.

``words`` hashes a text's words; ``classifier`` learns from good and bad texts which they are told apart by, and
``judging`` measures how well; ``ngram`` learns how words follow each other; ``filters`` are the steps that drop what
scores too low, is too surprising or holds too many listed words; ``command`` trains from the command line.
"""

from groundup.corpus.scoring.classifier import Classifier, TrainingConfig, train
from groundup.corpus.scoring.filters import (
    ClassifierConfig,
    ClassifierFilter,
    PerplexityConfig,
    PerplexityFilter,
    ToxicityConfig,
    ToxicityFilter,
    WordListConfig,
    WordListFilter,
)
from groundup.corpus.scoring.judging import Report
from groundup.corpus.scoring.ngram import NgramModel

__all__ = [
    "Classifier",
    "ClassifierConfig",
    "ClassifierFilter",
    "NgramModel",
    "PerplexityConfig",
    "PerplexityFilter",
    "Report",
    "ToxicityConfig",
    "ToxicityFilter",
    "TrainingConfig",
    "WordListConfig",
    "WordListFilter",
    "train",
]
