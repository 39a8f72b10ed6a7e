"""Training and encoding: our tokenizer beside Hugging Face's ``tokenizers`` and OpenAI's ``tiktoken``.

``python -m benchmarks.tokenizer``. Text: the sources of Python's standard library and, where it is in the cache,
Shakespeare. The encoders all use our merges and must give equal ids before anything is timed; each measurement
begins with a tokenizer that has seen nothing. Rates are in MB (10⁶ bytes) of UTF-8.
"""

import hashlib
import json
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import OURS, Case, Prepared, Rounds, compare, main, require_positive
from groundup.core.errors import DataError, UsageError
from groundup.core.progress import say
from groundup.corpus.sources import get_source, read_source
from groundup.tokenizer import BytePairTokenizer
from groundup.tokenizer.bpe import SMALLEST_VOCABULARY
from groundup.tokenizer.bpe_plain import MINIMUM_COUNT, Pair
from groundup.tokenizer.interop import byte_alphabet, to_json
from groundup.tokenizer.pretokenize import PATTERN
from groundup.tokenizer.protocol import SPECIAL_TOKENS

Texts = dict[str, list[str]]
Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class TokenizerSpeed(Rounds):
    """What is learnt from and encoded."""

    vocab_sizes: tuple[int, ...] = (1024, 4096)
    """Vocabularies to train; texts are encoded with the last one, learnt from both texts."""
    kilobytes: int = 8000
    """Of each text, at most about this much (10³ bytes), in whole documents."""

    def __post_init__(self) -> None:
        require_positive(self, "rounds", "kilobytes")
        if not self.vocab_sizes or min(self.vocab_sizes) < SMALLEST_VOCABULARY:
            raise UsageError(f"vocab_sizes is {self.vocab_sizes}; give sizes of at least {SMALLEST_VOCABULARY}")


def read_texts(settings: TokenizerSpeed) -> Texts:
    """Documents of each text, in a fixed order, as many as fit."""
    library = Path(sysconfig.get_path("stdlib"))
    paths = [path for path in sorted(library.rglob("*.py")) if not {"site-packages", "test"} & {*path.parts}]
    texts = {"stdlib": [path.read_bytes().decode("utf-8", "replace") for path in paths]}
    try:
        texts["shakespeare"] = [document.text for document in read_source(get_source("shakespeare"))]
    except DataError as error:
        say(f"without Shakespeare: {error}")
    for name, documents in texts.items():
        sizes = np.cumsum([len(document.encode()) for document in documents])
        texts[name] = documents[: max(1, int(np.searchsorted(sizes, 1000 * settings.kilobytes, side="right")))]
    return texts


def encoding(texts: Texts, fresh: Callable[[], tuple[Encode, Any]]) -> Prepared:
    """A side that encodes: ``fresh()`` is a new tokenizer, for one document and for a list of them."""

    def one_by_one(documents: list[str]) -> Callable[[], object]:
        encode, _ = fresh()
        return lambda: [encode(document) for document in documents]

    def batch(documents: list[str]) -> Callable[[], object]:
        _, encode_batch = fresh()
        return lambda: encode_batch(documents)

    cases = {}
    for name, documents in texts.items():
        size = _megabytes(documents)
        cases[f"{name}: encode"] = Case(size, partial(one_by_one, documents))
        cases[f"{name}: encode batch"] = Case(size, partial(batch, documents))
    encode, _ = fresh()
    ids = {name: [encode(document) for document in documents] for name, documents in texts.items()}
    digests = {name: hashlib.sha256(json.dumps(each).encode()).hexdigest() for name, each in ids.items()}
    tokens = {name: sum(map(len, each)) for name, each in ids.items()}
    megabytes = {name: round(_megabytes(documents), 3) for name, documents in texts.items()}
    return Prepared(digests, cases, {"megabytes": megabytes, "tokens": tokens})


def with_training(side: Prepared, settings: TokenizerSpeed, texts: Texts, train: Any) -> Prepared:
    """The side and its trainer; ``train(documents, vocab_size)`` returns an encoder. Records how well each encodes."""

    def begin(documents: list[str], vocab_size: int) -> Callable[[], object]:
        return lambda: train(documents, vocab_size)

    cases, tokens = dict(side.cases), {}
    for name, documents in texts.items():
        for vocab_size in settings.vocab_sizes:
            case = f"{name}: train {vocab_size}"
            cases[case] = Case(_megabytes(documents), partial(begin, documents, vocab_size))
            encode = train(documents, vocab_size)
            tokens[case] = sum(len(encode(document)) for document in documents)
    return Prepared(side.answer, cases, {**side.facts, "tokens_by_own_merges": tokens})


def ours(settings: TokenizerSpeed, merges: Sequence[Pair]) -> Prepared:
    """One thread, Python."""

    def fresh() -> tuple[Encode, Any]:
        tokenizer = BytePairTokenizer(merges)
        return tokenizer.encode, tokenizer.encode_batch

    def train(documents: list[str], vocab_size: int) -> Encode:
        return BytePairTokenizer.train(documents, vocab_size).encode

    texts = read_texts(settings)
    return with_training(encoding(texts, fresh), settings, texts, train)


def hugging_face(settings: TokenizerSpeed, merges: Sequence[Pair]) -> Prepared:
    """Rust; trains and encodes batches on all cores unless ``TOKENIZERS_PARALLELISM=false``."""
    import tokenizers

    described = json.dumps(to_json(merges))

    def fresh() -> tuple[Encode, Any]:
        tokenizer = tokenizers.Tokenizer.from_str(described)
        tokenizer.encode_special_tokens = True  # read "<|end|>" in a text as text, as ours does
        return lambda text: tokenizer.encode(text).ids, tokenizer.encode_batch_fast

    def train(documents: list[str], vocab_size: int) -> Encode:
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
        tokenizer.pre_tokenizer = tokenizers.Tokenizer.from_str(described).pre_tokenizer
        tokenizer.train_from_iterator(
            documents,
            tokenizers.trainers.BpeTrainer(
                vocab_size=vocab_size,
                min_frequency=MINIMUM_COUNT,
                show_progress=False,
                special_tokens=list(SPECIAL_TOKENS),
                initial_alphabet=byte_alphabet(),
            ),
        )
        return lambda text: tokenizer.encode(text).ids

    texts = read_texts(settings)
    return with_training(encoding(texts, fresh), settings, texts, train)


def open_ai(settings: TokenizerSpeed, merges: Sequence[Pair]) -> Prepared:
    """Rust; encodes batches on eight threads. It has no trainer."""
    import tiktoken

    tokenizer = BytePairTokenizer(merges)
    ranks = {tokenizer.token_bytes(token): token for token in range(256 + len(merges))}
    special = dict(tokenizer.special_tokens)

    def fresh() -> tuple[Encode, Any]:
        codec = tiktoken.Encoding("ours", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=special)
        return codec.encode_ordinary, codec.encode_ordinary_batch

    return encoding(read_texts(settings), fresh)


def run(settings: TokenizerSpeed) -> dict[str, Any]:
    """All three sides in turn, with merges learnt from all the text."""
    texts = read_texts(settings)
    documents = [document for each in texts.values() for document in each]
    merges = BytePairTokenizer.train(documents, settings.vocab_sizes[-1]).merges
    sides = {
        OURS: partial(ours, settings, merges),
        "tokenizers": partial(hugging_face, settings, merges),
        "tiktoken": partial(open_ai, settings, merges),
    }
    return compare(sides, "MB", settings.rounds, ("tokenizers", "tiktoken", "regex"))


def _megabytes(documents: Sequence[str]) -> float:
    return sum(len(document.encode()) for document in documents) / 1e6


if __name__ == "__main__":
    sys.exit(main(TokenizerSpeed, "tokenizer", run))
