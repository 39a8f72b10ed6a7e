"""Documents → documents without what was there before.

``collection`` treats a corpus that fits into memory, with every pair compared exactly. The others are steps across
a corpus of any size (``cross`` says how they are run): ``exact`` for equal documents, addresses, paragraphs and lines,
``minhash`` for near duplicates, ``embedding`` for the same in other words, ``substring`` for long passages. ``suffix``
finds repetitions of any length in memory.
"""

from groundup.corpus.dedup.collection import (
    ROWS,
    Clusters,
    banded_pairs,
    drop_exact_duplicates,
    drop_near_duplicates,
    overlap,
    permutations,
    related_pairs,
    shingle_sets,
    signature,
    signature_plain,
    skeleton,
)
from groundup.corpus.dedup.cross import CrossStep, Sketch, Sketches, Verdicts, Workspace, find_duplicates, run
from groundup.corpus.dedup.embedding import Embedding, EmbeddingConfig
from groundup.corpus.dedup.exact import Exact, ExactConfig, canonical_url
from groundup.corpus.dedup.hashing import mix
from groundup.corpus.dedup.minhash import MinHash, MinHashConfig, collision_probability, draw_collision_probability
from groundup.corpus.dedup.substring import Substring, SubstringConfig

__all__ = [
    "ROWS",
    "Clusters",
    "CrossStep",
    "Embedding",
    "EmbeddingConfig",
    "Exact",
    "ExactConfig",
    "MinHash",
    "MinHashConfig",
    "Sketch",
    "Sketches",
    "Substring",
    "SubstringConfig",
    "Verdicts",
    "Workspace",
    "banded_pairs",
    "canonical_url",
    "collision_probability",
    "draw_collision_probability",
    "drop_exact_duplicates",
    "drop_near_duplicates",
    "find_duplicates",
    "mix",
    "overlap",
    "permutations",
    "related_pairs",
    "run",
    "shingle_sets",
    "signature",
    "signature_plain",
    "skeleton",
]
