"""A run's corpus → token ids on disk → the batches that pretraining eats.

Enters: ``corpus/*.jsonl`` and the tokenizer. Leaves ``pretrain/tokens/<split>/``, a folder of shards or, for a mixture,
one for each of its parts; and the source of batches.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from groundup.core.errors import DataError, UsageError
from groundup.core.progress import quantity, say, track
from groundup.core.seeding import derive_seed
from groundup.corpus import Document, read_documents
from groundup.dataloader import Mixture, PackedDocuments, RowBatches, Tokens, TokenWriter, Windows, open_tokens
from groundup.dataloader.shards import INDEX, Documents
from groundup.tokenizer import Tokenizer

#: What a pattern may be about: ``kind:code``. Without such a name it is about the source or the id.
FIELDS = ("kind", "language", "licence", "url", "date", "path")
#: Texts are encoded about so many characters at a time.
ENCODED_CHARACTERS = 2**22


@dataclass(frozen=True)
class DataConfig:
    """How the train split becomes rows."""

    packing: Literal["windows", "documents"] = "windows"
    """windows: cut from all documents laid end to end, so that a row sees what stood before it. documents: each row is
    filled with whole documents (longer ones in pieces), none of which sees another."""
    mixture: tuple[str, ...] = ()
    """Shares of rows as `pattern=weight`, such as `code/*=2 prose/*=1 *=0`: a document counts to the first pattern that
    its source or its id matches, or what is known of it (`kind:code=1 language:de=2`); weight 0 leaves it out. Empty:
    every document once an epoch."""

    def __post_init__(self) -> None:
        if self.mixture and not any(self.weights.values()):
            raise UsageError("data.mixture leaves out every document; give at least one pattern a weight above 0")

    @cached_property
    def weights(self) -> dict[str, Fraction]:
        """The mixture: pattern → weight."""
        weights: dict[str, Fraction] = {}
        for entry in self.mixture:
            pattern, _, weight = entry.rpartition("=")
            try:
                value = Fraction(weight)
            except (ValueError, ZeroDivisionError):
                value = Fraction(-1)
            if not pattern or pattern in weights or value < 0:
                raise UsageError(
                    f"data.mixture has {entry!r}; use pattern=weight, each pattern once, weights from 0 on"
                )
            weights[pattern] = value
        return weights

    def part_of(self, document: Document) -> str:
        """The pattern that a document counts to.

        Raises:
            DataError: there is none.
        """
        for pattern in self.weights:
            field, colon, value = pattern.partition(":")
            if colon and field in FIELDS:
                found = fnmatchcase(document.facts.get(field, ""), value)
            else:
                found = fnmatchcase(document.source, pattern) or fnmatchcase(document.id, pattern)
            if found:
                return pattern
        raise DataError(
            f"document {document.id!r} of {document.source!r} matches no pattern of data.mixture; "
            "add '*=0' to leave out what no other pattern matches"
        )


def encode_split(run: Path, split: str, tokenizer: Tokenizer, data: DataConfig = DataConfig()) -> dict[str, Tokens]:
    """Encode a split of the run's corpus, or what an interruption has left of it to encode.

    Returns:
        The tokens of each part that has a weight, by its pattern; without a mixture those of the split, by its name.

    Raises:
        DataError: a pattern matches no document, or a document no pattern.
        ArtifactError: what is there was made by another tokenizer, or is damaged.
    """
    path, folder = run / "corpus" / f"{split}.jsonl", run / "pretrain" / "tokens" / split
    if not data.mixture:
        return {split: encode_documents(path, tokenizer, folder)}
    parts = {pattern: folder / _folder_name(number, pattern) for number, pattern in enumerate(data.weights)}
    parts = {pattern: part for pattern, part in parts.items() if data.weights[pattern]}
    if not all((part / INDEX).exists() for part in parts.values()):
        _count_parts(path, data)
    return {pattern: encode_documents(path, tokenizer, part, pattern, data) for pattern, part in parts.items()}


def encode_documents(
    path: Path, tokenizer: Tokenizer, folder: Path, part: str = "", data: DataConfig = DataConfig()
) -> Tokens:
    """Encode the documents of a corpus file (of one part of a mixture) into a folder of shards, unless it is complete.

    Each document is begun by the document token.
    """
    made_from = {"tokenizer": tokenizer.fingerprint, "documents": part or "*"}
    with TokenWriter(folder, tokenizer.vocab_size, made_from) as writer:
        if not writer.complete:
            documents = track(read_documents(path), f"encode {part or path.stem}", unit="document")
            texts = (document.text for document in documents if not part or data.part_of(document) == part)
            for group in _groups(islice(texts, writer.documents, None), ENCODED_CHARACTERS):
                writer.write(_encoded(group, tokenizer))
    return open_tokens(folder)


def tell_mixture(tokens: Mapping[str, Tokens], data: DataConfig, row_tokens: int) -> None:
    """Say what each part of a mixture holds, and how often a training on ``row_tokens`` tokens will go through it."""
    if not data.mixture:
        return
    whole, held = sum(data.weights[name] for name in tokens), sum(map(len, tokens.values()))
    for name, part in tokens.items():
        share = float(data.weights[name] / whole)
        epochs = quantity(share * row_tokens / len(part))
        say(
            f"  mixture: {name}: {len(part.documents):,} documents, {quantity(len(part))} tokens "
            f"({len(part) / held:.1%}); {share:.1%} of the rows, about {epochs} epochs"
        )


def read_split(folder: Path) -> Documents:
    """The documents of an encoded split, or of all parts of its mixture; read from the disk when asked for."""
    whole = (folder / INDEX).exists()
    return open_tokens(*([folder] if whole else sorted(index.parent for index in folder.glob(f"*/{INDEX}")))).documents


def make_source(
    tokens: Mapping[str, Tokens], data: DataConfig, rows: int, time: int, tokenizer: Tokenizer, seed: int
) -> RowBatches:
    """Batches of ``rows`` rows of ``time`` tokens from what ``encode_split`` returned.

    Raises:
        DataError: a part has too few tokens for that.
    """
    kind = Windows if data.packing == "windows" else PackedDocuments
    padding = None if data.packing == "windows" else tokenizer.special_tokens["<|pad|>"]
    if not data.mixture:
        ((name, whole),) = tokens.items()
        return RowBatches(kind(whole, time, seed, name), rows, time, padding)
    parts = {name: kind(part, time, derive_seed(seed, "part", name), name) for name, part in tokens.items()}
    return RowBatches(Mixture({name: (parts[name], data.weights[name]) for name in parts}), rows, time, padding)


def _folder_name(number: int, pattern: str) -> str:
    """A name that every file system takes."""
    return "-".join([f"{number:02d}", *re.findall(r"[A-Za-z0-9]+", pattern)])[:40]


def _count_parts(path: Path, data: DataConfig) -> None:
    """Make sure that each document has a part and each part a document, and tell what is left out."""
    counts = Counter(map(data.part_of, read_documents(path)))
    for pattern, weight in data.weights.items():
        if weight and not counts[pattern]:
            raise DataError(f"{pattern!r} of data.mixture matches no document of {path}; correct or remove it")
        if not weight and counts[pattern]:
            say(f"  mixture: {counts[pattern]:,} documents of {pattern!r} are left out")


def _groups(texts: Iterable[str], characters: int) -> Iterator[list[str]]:
    """Texts in groups of about ``characters``."""
    group: list[str] = []
    held = 0
    for text in texts:
        group.append(text)
        held += len(text)
        if held >= characters:
            yield group
            group, held = [], 0
    if group:
        yield group


def _encoded(texts: Sequence[str], tokenizer: Any) -> list[NDArray[np.uint32]]:
    """The ids of each text behind a document token, many texts at once where the tokenizer can."""
    mark = np.array([tokenizer.special_tokens["<|document|>"]], np.uint32)
    many = hasattr(tokenizer, "encode_batch")
    encoded = tokenizer.encode_batch(texts) if many else [tokenizer.encode(text) for text in texts]
    return [np.concatenate((mark, np.asarray(encoded[number], np.uint32))) for number in range(len(texts))]
