"""``open_tokenizer``: any tokenizer, ours or another tool's, from a folder, a file or the name of a vocabulary.

What a file is, its content says, not its name. Byte-level vocabularies of published size take a second or more to
read and check; what comes out is kept in the cache as arrays, under the SHA-256 of what it was read from, and opens
in a few milliseconds the next time. A damaged file there is made anew.
"""

import hashlib
import json
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from groundup.core.errors import ArtifactError, DataError, StorageError, UsageError
from groundup.core.files import atomic_file, cache_folder
from groundup.tokenizer import sentencepiece, unigram, words
from groundup.tokenizer.formats import gguf, gpt2, huggingface, ranks
from groundup.tokenizer.formats.content import parse_object
from groundup.tokenizer.formats.definition import LARGEST_FILE, AddedToken, Definition, reading
from groundup.tokenizer.formats.prepared import tokenizer_of
from groundup.tokenizer.pretokenize import NAMED, Pattern
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.vocabularies import ALIASES, RANK_FILES, VOCABULARIES, KnownVocabulary, RankFile, open_member
from groundup.tokenizer.vocabulary import Vocabulary

#: Changes whenever what is kept changes, or how files are read.
KEPT_FORMAT = 2
#: Smaller files are read as fast as what would be kept of them.
WORTH_KEEPING = 1 << 18

#: What a folder may hold, in the order of preference.
_IN_FOLDER = (
    (huggingface.FILE_NAME,),
    ("tekken.json",),
    *gpt2.FILE_NAMES,
    (sentencepiece.FILE_NAME,),
)
_ENDINGS = ("*.tiktoken", "*.model", "*.gguf")


def open_tokenizer(where: str | Path, pattern: str | None = None) -> Tokenizer:
    """The tokenizer at ``where``.

    Args:
        where: a folder that holds a tokenizer or a run; a file: ``tokenizer.json``, ``tekken.json``, tiktoken's ranks,
            ``vocab.json`` beside ``merges.txt``, SentencePiece's ``.model``, GGUF; or a name of ``VOCABULARIES``.
        pattern: how text is cut, for the files that do not say it: a name of ``NAMED`` or a regular expression.

    Raises:
        UsageError: there is nothing, or a rank file whose pattern is not known.
        DataError: the named vocabulary was never fetched.
        ArtifactError: a file is damaged, or a tokenizer of a kind that we do not have.
    """
    path, name = Path(where), ALIASES.get(str(where), str(where))
    try:
        if path.is_dir():
            return _open_files(_files_in(path), pattern)
        if path.is_file():
            return _open_files(_with_companion(path), pattern)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}; choose another file") from error
    if name not in VOCABULARIES:
        known = ", ".join(sorted(VOCABULARIES))
        raise UsageError(f"there is no tokenizer {str(where)!r}; give a folder, a file or one of: {known}")
    return open_known(VOCABULARIES[name])


def _files_in(folder: Path) -> list[Path]:
    """The files of the tokenizer in ``folder``."""
    for names in _IN_FOLDER:
        if all((folder / name).is_file() for name in names):
            return [folder / name for name in names]
    found = sorted(path for ending in _ENDINGS for path in folder.glob(ending) if path.is_file())
    if len(found) == 1:
        return found
    if not found and (folder / "tokenizer").is_dir():
        return _files_in(folder / "tokenizer")
    reason = f"{found[0].name} and {found[1].name}; choose one" if found else "no file of a tokenizer"
    raise UsageError(f"{folder} holds {reason}")


def _with_companion(path: Path) -> list[Path]:
    """``path``, or both files where a vocabulary has two and ``path`` is one of them."""
    for names in gpt2.FILE_NAMES:
        if path.name in names:
            missing = [name for name in names if not path.with_name(name).is_file()]
            if missing:
                raise ArtifactError(f"{path} is of no use without {missing[0]}; put the two files into one folder")
            return [path.with_name(name) for name in names]
    return [path]


def _open_files(paths: list[Path], pattern: str | None) -> Tokenizer:
    """The tokenizer in one file, or in the two of GPT-2."""
    path = paths[0]
    with path.open("rb") as stream, reading(path):
        if stream.read(4) == gguf.MAGIC:
            stream.seek(0)
            return _open_gguf(gguf.read_metadata(stream))
    contents = []
    for part in paths:
        with reading(part):
            if part.stat().st_size > LARGEST_FILE:
                raise DataError(f"it has more than {LARGEST_FILE:,} bytes")
        contents.append(part.read_bytes())
    if _is_sentencepiece(contents):
        return sentencepiece.read_model(path)
    if not pattern and ranks.looks_like_ranks(contents[0]):
        pattern = _pattern_of_ranks(contents[0], path.stem)
    key = _key([pattern, *(hashlib.sha256(content).hexdigest() for content in contents)])
    keeping = sum(map(len, contents)) >= WORTH_KEEPING
    with reading(path):
        return _kept(key, lambda: _read(contents, pattern), keeping)


def open_known(known: KnownVocabulary) -> Tokenizer:
    """The tokenizer of a fetched vocabulary, straight from its archive.

    Raises:
        DataError: it was never fetched.
        ArtifactError: the archive is damaged.
    """
    where = f"the vocabulary {known.name!r}"

    def read() -> Definition | Tokenizer:
        contents = []
        for member in known.members:
            with open_member(known, member) as stream:
                if member.endswith(".gguf"):
                    with reading(where):
                        return _of_parts(gguf.read(gguf.read_metadata(stream)))
                contents.append(stream.read(LARGEST_FILE))
        if not _is_sentencepiece(contents):
            with reading(where):
                return _read(contents, None)
        with tempfile.TemporaryDirectory(prefix="groundup-open-") as folder:
            model = Path(folder, sentencepiece.FILE_NAME)
            model.write_bytes(contents[0])
            return sentencepiece.read_model(model)

    return _kept(_key([known.sha256, *known.members]), read)


def _is_sentencepiece(contents: list[bytes]) -> bool:
    """Whether it is one file that begins as a message does whose first field is the first piece."""
    return len(contents) == 1 and contents[0][:1] == b"\n" and not _is_json(contents[0])


def _is_json(content: bytes) -> bool:
    return content[:64].lstrip()[:1] == b"{"


def _open_gguf(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a model file."""
    content = json.dumps(metadata, sort_keys=True).encode()
    return _kept(_key([hashlib.sha256(content).hexdigest()]), lambda: _of_parts(gguf.read(metadata)))


def _read(contents: list[bytes], pattern: str | None) -> Definition | Tokenizer:
    """What the contents of a vocabulary's one or two files say.

    Raises:
        DataError: they are damaged, or of no kind that we know.
    """
    content, *merges = contents
    if merges:
        return gpt2.read(content, merges[0], Pattern.named(pattern) if pattern else None)
    if ranks.looks_like_ranks(content):
        known = RANK_FILES.get(hashlib.sha256(content).hexdigest(), RankFile("", pattern or "", {}))
        definition = ranks.read(content, Pattern.named(pattern or known.pattern), known.special_tokens)
        return Definition(definition.vocabulary, known.normalization)
    if _is_json(content):
        return _read_json(parse_object(content))
    raise DataError("its content is of no kind that is known")


def _pattern_of_ranks(content: bytes, name: str) -> str:
    """How text is cut for a rank file: one of those that are published, or one that is named like them.

    Raises:
        UsageError: it is neither.
    """
    digest = hashlib.sha256(content).hexdigest()
    pattern = RANK_FILES[digest].pattern if digest in RANK_FILES else name.removesuffix("_base")
    if pattern not in NAMED:
        raise UsageError(
            f"the rank file {name!r} (sha256 {digest[:12]}…) does not say how text is cut; "
            f"give its pattern: {', '.join(NAMED)} or a regular expression"
        )
    return pattern


def _read_json(content: Mapping[str, Any]) -> Definition | Tokenizer:
    if "model" not in content:
        if "config" in content:
            return ranks.read_tekken(content)
        raise DataError("it is JSON, but neither tokenizer.json nor tekken.json")
    match huggingface.kind_of(content):
        case "byte-level":
            return huggingface.read(content)
        case "sentencepiece":
            return _of_parts(huggingface.sentencepiece_parts(content))
        case "unigram":
            return unigram.from_json(content)
        case "words":
            return words.from_json(content)


def _of_parts(found: Definition | huggingface.Parts) -> Definition | Tokenizer:
    return sentencepiece.from_parts(**found._asdict()) if isinstance(found, huggingface.Parts) else found


def _key(parts: list[str | None]) -> str:
    return hashlib.sha256(json.dumps([KEPT_FORMAT, *parts]).encode()).hexdigest()


def _kept(key: str, read: Callable[[], Definition | Tokenizer], keeping: bool = True) -> Tokenizer:
    """The tokenizer whose vocabulary is kept under ``key``, or else is read, and kept if it is byte-level."""
    path = cache_folder() / "vocabularies" / f"{key[:32]}.npz"
    if definition := keeping and _load(path):
        return tokenizer_of(definition)
    found = read()
    if not isinstance(found, Definition):
        return found
    if keeping:
        with suppress(StorageError, OSError, RecursionError):  # what cannot be kept is only slower
            _store(path, found)
    return tokenizer_of(found)


def _store(path: Path, definition: Definition) -> None:
    """Keep a definition as arrays."""
    vocabulary = definition.vocabulary
    rest = {
        "fingerprint": vocabulary.fingerprint,
        "normalization": definition.normalization,
        "added_tokens": [asdict(token) for token in definition.added_tokens],
        "post_processor": definition.post_processor,
        "missing": definition.missing.hex(),
        "special_tokens": dict(vocabulary.special_tokens),
        "splits": vocabulary.pattern.splits,
        "whole_pieces": vocabulary.whole_pieces,
    }
    with atomic_file(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            blob=np.frombuffer(vocabulary.blob, np.uint8),
            lengths=np.diff(vocabulary.offsets).astype(np.uint32),
            merges=vocabulary.merges,
            rest=np.frombuffer(json.dumps(rest).encode(), np.uint8),
        )


def _load(path: Path) -> Definition | None:
    """What ``_store`` kept; None where it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            rest = json.loads(arrays["rest"].tobytes())
            vocabulary = Vocabulary(
                arrays["blob"].tobytes(),
                np.concatenate([[0], np.cumsum(arrays["lengths"], dtype=np.int64)]),
                arrays["merges"],
                MappingProxyType(rest["special_tokens"]),
                Pattern(tuple(rest["splits"])),
                rest["whole_pieces"],
            )
        if vocabulary.fingerprint != rest["fingerprint"]:
            return None
        added = tuple(AddedToken(**token) for token in rest["added_tokens"])
        missing = bytes.fromhex(rest["missing"])
        return Definition(vocabulary, rest["normalization"], added, rest["post_processor"], missing)
    except (OSError, EOFError, KeyError, TypeError, ValueError, AttributeError, zipfile.BadZipFile, zlib.error):
        return None
