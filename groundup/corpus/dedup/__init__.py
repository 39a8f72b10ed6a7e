"""Documents → documents without what was there before.

``collection`` treats a corpus that fits into memory, with every pair compared exactly. The others are steps across
a corpus of any size (``cross`` says how they are run): ``exact`` for equal documents, addresses, paragraphs and lines,
``minhash`` for near duplicates, ``substring`` for long passages. ``suffix`` finds repetitions of any length in memory;
``split`` keeps near duplicates on one side.
"""

from groundup.corpus.dedup.collection import (
    BANDS,
    MINIMUM_WORDS,
    RELATED,
    ROWS,
    SAMPLING,
    SHINGLE_WORDS,
    Clusters,
    Overlap,
    banded_pairs,
    containing_pairs,
    drop_exact_duplicates,
    drop_near_duplicates,
    overlap,
    permutations,
    related_pairs,
    shingle_sets,
    shingles,
    signature,
    signature_plain,
    skeleton,
)
from groundup.corpus.dedup.cross import CrossStep, Sketch, Sketches, Verdicts, Workspace, find_duplicates, run
from groundup.corpus.dedup.exact import Exact, ExactConfig, canonical_url
from groundup.corpus.dedup.hashing import Hashes, mix
from groundup.corpus.dedup.minhash import MinHash, MinHashConfig, collision_probability, draw_collision_probability
from groundup.corpus.dedup.split import side_of
from groundup.corpus.dedup.substring import Substring, SubstringConfig
from groundup.corpus.dedup.suffix import Repeat, longest_repeats, suffix_array

__all__ = [
    "BANDS",
    "MINIMUM_WORDS",
    "RELATED",
    "ROWS",
    "SAMPLING",
    "SHINGLE_WORDS",
    "Clusters",
    "CrossStep",
    "Exact",
    "ExactConfig",
    "Hashes",
    "MinHash",
    "MinHashConfig",
    "Overlap",
    "Repeat",
    "Sketch",
    "Sketches",
    "Substring",
    "SubstringConfig",
    "Verdicts",
    "Workspace",
    "banded_pairs",
    "canonical_url",
    "collision_probability",
    "containing_pairs",
    "draw_collision_probability",
    "drop_exact_duplicates",
    "drop_near_duplicates",
    "find_duplicates",
    "longest_repeats",
    "mix",
    "overlap",
    "permutations",
    "related_pairs",
    "run",
    "shingle_sets",
    "shingles",
    "side_of",
    "signature",
    "signature_plain",
    "skeleton",
    "suffix_array",
]
