"""Our ids beside tiktoken's and those of ``tokenizers``, on all kinds of text: are they the same, every one?

``python -m benchmarks.equality``. Nothing is timed. For each vocabulary and each kind of text a row of a table tells
how many documents, bytes and tokens were compared and how many documents differ; then, whether our ids decode to the
bytes of the text. The exit code is 1 if anything differs.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from benchmarks import _texts
from benchmarks._common import Recorded, main, version_of
from benchmarks._sides import tiktoken_encoding
from benchmarks._vocabularies import huggingface_file, prepare
from groundup.core.errors import UsageError
from groundup.core.files import cache_folder
from groundup.core.progress import say
from groundup.core.run import environment
from groundup.tokenizer.opening import open_tokenizer

Ids = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Equality(Recorded):
    """What is compared."""

    vocabularies: tuple[Literal["gpt2", "r50k", "cl100k", "o200k"], ...] = ("gpt2", "r50k", "cl100k", "o200k")
    """Compared with tiktoken's of the same name."""
    huggingface: tuple[Literal["llama3", "qwen"], ...] = ("llama3", "qwen")
    """Compared with ``tokenizers``, for which they are written as its files have them."""
    files: tuple[Path, ...] = ()
    """Any files of Hugging Face (tokenizer.json), compared with ``tokenizers``, too."""
    share: float = 1.0
    """How much of the 60 MB of text is read, up to 1."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError(f"share is {self.share}; it must be above 0 and at most 1")


@dataclass(frozen=True)
class Row:
    """One vocabulary on one kind of text."""

    vocabulary: str
    reference: str
    text: str
    documents: int
    bytes: int
    tokens: int
    different: int
    """Documents with other ids than the reference's."""
    not_restored: int
    """Documents whose ids do not decode to their bytes."""


def texts(share: float) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """Name → documents, made when they are asked for."""

    def many(make: Callable[[int, int], str], documents: int, length: int) -> Callable[[], list[str]]:
        return lambda: [make(seed, length) for seed in range(max(1, int(documents * share)))]

    def bytes_as(encoding: str) -> Callable[[int, int], str]:
        return lambda seed, size: _texts.random_bytes(seed, size).decode(encoding, "replace")

    size = int(200_000 * share)
    yield "prose", lambda: _texts.named("prose", int(17e6 * share))
    yield "code", lambda: _texts.take(_texts.library(), int(16e6 * share))
    yield "mixed scripts", lambda: _texts.named("mixed", int(13.5e6 * share))
    yield "characters of all kinds", many(_texts.random_kinds, 800, 1000)
    yield "fragments", many(_texts.random_fragments, 2000, 1000)
    yield "short strings", many(_texts.random_fragments, 20000, 6)
    yield "bytes as Latin-1", many(bytes_as("latin-1"), 500, 1000)
    yield "bytes as UTF-8", many(bytes_as("utf-8"), 500, 1000)
    yield "random Unicode", many(_texts.random_unicode, 500, 1000)
    yield "pathological", lambda: [make(size) for make in _texts.PATHOLOGICAL.values()]


def compared(name: str, reference: str, ours: Any, encode: Callable[[str], Ids], settings: Equality) -> Iterator[Row]:
    """A row for each kind of text that the reference is asked for."""
    for kind, make in texts(settings.share):
        if kind == "random Unicode" and reference == "tokenizers":
            continue  # its Unicode is of another version, so it takes other characters for letters
        documents = make()
        encoded = ours.encode_batch(documents)
        tokens = different = not_restored = 0
        for index, document in enumerate(documents):
            ids, expected = encoded[index], encode(document)
            tokens += len(expected)
            if not np.array_equal(ids, expected):
                different += 1
                if different == 1:
                    say(f"{name}, {kind}, document {index}: {_difference(ours, ids, expected)}")
            if reference == "tiktoken":  # other files may say that a text is changed before it is encoded
                not_restored += ours.decode_bytes(ids.tolist()) != document.encode()
        size = sum(len(document.encode()) for document in documents)
        yield Row(name, reference, kind, len(documents), size, tokens, different, not_restored)


def arbitrary_bytes(name: str, ours: Any, share: float) -> Row:
    """Bytes that are no text, which no other library takes as such: do their ids decode to them?"""
    documents = [_texts.random_bytes(seed, 1000) for seed in range(max(1, int(1000 * share)))]
    encoded = [ours.encode_bytes(document) for document in documents]
    wrong = sum(ours.decode_bytes(ids) != document for ids, document in zip(encoded, documents, strict=True))
    return Row(
        name, "itself", "arbitrary bytes", len(documents), 1000 * len(documents), sum(map(len, encoded)), 0, wrong
    )


def _difference(ours: Any, ids: Ids, expected: Ids) -> str:
    """Where two lists of ids part."""
    place = next((at for at, (a, b) in enumerate(zip(ids, expected, strict=False)) if a != b), len(expected))
    before = ours.decode_bytes([int(token) for token in ids[max(0, place - 3) : place]])
    found, wanted = ([int(token) for token in each[place : place + 4]] for each in (ids, expected))
    return f"after {before!r} at token {place} ours are {found}, expected {wanted}"


def rows(settings: Equality) -> Iterator[Row]:
    """All comparisons."""
    folder = cache_folder() / "benchmarks"
    prepare(settings.vocabularies, folder)
    for vocabulary in settings.vocabularies:
        encoding = tiktoken_encoding(vocabulary, folder)
        ours = open_tokenizer(vocabulary)

        def by_tiktoken(text: str, encode: Any = encoding.encode_to_numpy) -> Ids:
            return np.asarray(encode(text, disallowed_special=()), np.uint32)

        yield from compared(vocabulary, "tiktoken", ours, by_tiktoken, settings)
        yield arbitrary_bytes(vocabulary, ours, settings.share)
    published = [(name, huggingface_file(name, folder)) for name in settings.huggingface]
    for where, path in [*published, *((str(path), path) for path in settings.files)]:
        import tokenizers

        theirs = tokenizers.Tokenizer.from_file(str(path))
        theirs.encode_special_tokens = True  # what looks like a special token is text, as it is for ours

        def by_tokenizers(text: str, theirs: Any = theirs) -> Ids:
            return np.asarray(theirs.encode(text, add_special_tokens=False).ids, np.uint32)

        yield from compared(where, "tokenizers", open_tokenizer(where), by_tokenizers, settings)


def run(settings: Equality) -> dict[str, Any]:
    """The rows, their table on stderr, and the number of differences."""
    for path in settings.files:
        if not path.is_file():
            raise UsageError(f"{path} does not exist; give the path of a tokenizer.json")
    say("| vocabulary | reference | text | documents | bytes | tokens | different | not restored |")
    say("|---|---|---|--:|--:|--:|--:|--:|")
    found = []
    for row in rows(settings):
        found.append(row)
        names = (row.vocabulary, row.reference, row.text)
        numbers = (row.documents, row.bytes, row.tokens, row.different, row.not_restored)
        say("| " + " | ".join([*names, *(f"{number:,}" for number in numbers)]) + " |")
    packages = {name: version_of(name) for name in ("tiktoken", "tokenizers")}
    return {
        "environment": environment(),
        "packages": packages,
        "rows": [asdict(row) for row in found],
        "differences": sum(row.different + row.not_restored for row in found),
    }


if __name__ == "__main__":
    sys.exit(main(Equality, "equality", run))
