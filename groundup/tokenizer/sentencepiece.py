"""SentencePiece models: the tokenizers of Llama 2, Mistral, Gemma, T5 and many more.

What enters: a ``.model`` file, or its parts from a file of another tool. What leaves: a tokenizer that gives the ids of
the ``sentencepiece`` package (0.2.3). The text is normalised (``normalizer``), user-defined symbols are cut out of it,
and the rest is split by one of four algorithms (``segmenters``):

    unigram  the most probable sequence of pieces (Kudo, 2018): ``unigram_plain`` explains it
    bpe      merge the two neighbours that make the piece of the highest score, until none make one
    char     every character
    word     what stands between spaces

What no piece covers becomes its bytes, where the model has byte pieces, or else the unknown id.
"""

import codecs
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple, get_args

import numpy as np

from groundup.core import compiled, files
from groundup.core.errors import ArtifactError, DataError
from groundup.tokenizer import protobuf, segmenters
from groundup.tokenizer.normalizer import SPACE_SYMBOL, Charsmap, Normalizer, one_of
from groundup.tokenizer.pretokenize import well_formed
from groundup.tokenizer.vocabulary import MOST_TOKENS

FILE_NAME = "tokenizer.model"
#: A file may have at most this many bytes; Gemma's has 4 million.
LARGEST_FILE = 1 << 25
#: Every piece has fewer bytes, and a model has at most so many user-defined symbols.
LONGEST_PIECE, MOST_SYMBOLS = 8000, 1 << 16

Kind = Literal["unigram", "bpe", "word", "char"]
_KINDS: tuple[Kind, ...] = get_args(Kind)  # in the order of their numbers in the file, from 1 on

#: Types of pieces, by their numbers in the file.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
#: Those that stand for text as it is.
_TEXT = (NORMAL, USER_DEFINED, UNUSED)
_BYTE_PIECES = tuple(f"<0x{byte:02X}>" for byte in range(256))

#: What decoding shows for the unknown id, unless the model says otherwise.
UNKNOWN_SURFACE = " ⁇ "
#: An unknown character costs this much more than the least probable piece.
UNKNOWN_PENALTY = 10.0


class Piece(NamedTuple):
    """What one id stands for."""

    text: str
    score: float = 0.0
    type: int = NORMAL


#: An id between the pieces and a special token beyond them.
_HOLE = Piece("", 0.0, CONTROL)


@dataclass(frozen=True)
class Normalization:
    """What is done to a text before encoding or after decoding; see ``Normalizer``."""

    charsmap: bytes = b""
    add_dummy_prefix: bool = False
    remove_extra_whitespaces: bool = False
    escape_whitespaces: bool = False

    def normalizer(self, symbols: Sequence[str] = ()) -> Normalizer:
        """Ready for use.

        Raises:
            DataError: the charsmap is damaged.
        """
        flags = (self.add_dummy_prefix, self.remove_extra_whitespaces, self.escape_whitespaces)
        return Normalizer(Charsmap(self.charsmap), *flags, symbols)


@dataclass(frozen=True)
class Model:
    """Everything that decides the ids and the texts of a SentencePiece model."""

    pieces: tuple[Piece, ...]
    kind: Kind
    byte_fallback: bool = False
    normalization: Normalization = field(default_factory=lambda: Normalization(b"", True, True, True))
    denormalization: Normalization = Normalization()
    unknown_surface: str = UNKNOWN_SURFACE

    def checked(self) -> "Model":
        """This model with its scores in single precision, if a tokenizer can be made of it.

        Raises:
            DataError: it cannot, because a piece is empty, double, too long or without a finite score; because the
                unknown piece is missing or there are two; or because byte pieces are missing or should not be there.
        """
        if len(self.pieces) > MOST_TOKENS:
            raise DataError(f"the model has {len(self.pieces):,} pieces; at most {MOST_TOKENS:,} are supported")
        with np.errstate(over="ignore"):
            scores = np.array([piece.score for piece in self.pieces], np.float64).astype(np.float32)
        bad = np.flatnonzero(~np.isfinite(scores))
        if len(bad):
            piece = self.pieces[bad[0]]
            raise DataError(f"piece {bad[0]}, {piece.text!r}, has the score {piece.score}, which is no finite number")
        pieces = [self._checked(*numbered) for numbered in zip(count(), self.pieces, scores.tolist(), strict=False)]
        first: dict[tuple[str, bool], int] = {}
        for number, piece in enumerate(pieces):
            # Merging knows a piece by its text; the other algorithms know only those that stand for text.
            known_as = (piece.text, self.kind == "bpe" or piece.type in _TEXT)
            if first.setdefault(known_as, number) != number and piece is not _HOLE:
                raise DataError(f"pieces {first[known_as]} and {number} are both {piece.text!r}")
        if not any(piece.type in _TEXT for piece in pieces):
            raise DataError("the model has no piece that stands for text")
        symbols = sum(piece.type == USER_DEFINED for piece in pieces)
        if symbols > MOST_SYMBOLS:
            raise DataError(f"the model has {symbols:,} user-defined symbols; at most {MOST_SYMBOLS:,} are supported")
        unknown = [piece.text for piece in pieces if piece.type == UNKNOWN]
        if len(unknown) > 1:
            raise DataError(f"the model has two unknown pieces, {unknown[0]!r} and {unknown[1]!r}")
        if not unknown and not self.byte_fallback:
            raise DataError("the model has neither an unknown piece nor byte fallback, so not every text has ids")
        found = {piece.text for piece in pieces if piece.type == BYTE}
        expected = set(_BYTE_PIECES) if self.byte_fallback else set[str]()
        if found - expected:
            raise DataError(f"byte piece {min(found - expected)!r} is none of those that byte fallback asks for")
        if expected - found:
            raise DataError(f"byte piece {min(expected - found)!r} is missing, which byte fallback asks for")
        return replace(self, pieces=tuple(pieces))

    def _checked(self, number: int, piece: Piece, score: float) -> Piece:
        """Piece ``number`` with its ``score`` in single precision."""
        text, _, kind = piece
        if text == "\0" and (self.byte_fallback or kind == UNUSED):
            return _HOLE  # some conversion tools add it beside <0x00>; SentencePiece passes over it
        if not text and kind == CONTROL:
            return _HOLE
        if not text or "\0" in text or len(text.encode("utf-8", "surrogatepass")) >= LONGEST_PIECE:
            raise DataError(f"piece {number}, {text[:40]!r}, is empty, holds a zero byte or is too long")
        if not NORMAL <= kind <= BYTE:
            raise DataError(f"piece {number}, {text!r}, has the type {kind}, which does not exist")
        return Piece(text, score, kind)


class SentencePieceTokenizer:
    """A SentencePiece model in use."""

    def __init__(self, model: Model, special_tokens: Mapping[str, int] | None = None) -> None:
        """Make a tokenizer of ``model``.

        ``special_tokens`` (name → id) come beside the control pieces of the model, and may have ids beyond its pieces.
        Where an id is a piece of the model, the special token replaces it, and no text becomes it any more; only the
        unknown piece stays what it is.

        Raises:
            DataError: see ``Model.checked`` and ``Charsmap``; or a special token has an id that is negative or shared.
        """
        pieces = list(model.pieces)
        taken: dict[int, str] = {}
        for name, token_id in (special_tokens or {}).items():
            if not 0 <= token_id < MOST_TOKENS or taken.setdefault(token_id, name) != name:
                raise DataError(f"special token {name!r} has the id {token_id}, which is negative, too large or shared")
            pieces += [_HOLE] * (token_id + 1 - len(pieces))
            if pieces[token_id].type != UNKNOWN:
                pieces[token_id] = Piece(name, 0.0, CONTROL)
        self.model = replace(model, pieces=tuple(pieces)).checked()
        pieces = list(self.model.pieces)
        self.special_tokens: Mapping[str, int] = MappingProxyType(
            {piece.text: token_id for token_id, piece in enumerate(pieces) if piece.type == CONTROL and piece.text}
        )
        #: The id of what no piece covers; None where that becomes bytes.
        self.unknown_id: int | None = None
        if not model.byte_fallback:
            self.unknown_id = next(token_id for token_id, piece in enumerate(pieces) if piece.type == UNKNOWN)
        self._symbol_ids = {piece.text: i for i, piece in enumerate(pieces) if piece.type == USER_DEFINED}
        self._symbol = re.compile(f"({one_of(list(self._symbol_ids))})")
        self._normalizer = model.normalization.normalizer(list(self._symbol_ids))
        self._denormalizer = model.denormalization.normalizer()
        self._bytes = [self._surface(piece) for piece in pieces]

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return len(self._bytes)

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the model: all that decides an id."""
        return hashlib.sha256(_write(self.model)).hexdigest()

    def normalize(self, text: str) -> str:
        """What ``text`` becomes before it is split."""
        return self._normalizer.normalize(well_formed(text))

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``; never those of a control piece. Surrogates are resolved by ``well_formed``."""
        normal = self.normalize(text)
        if not self._symbol_ids or self.model.kind in ("unigram", "word"):  # there a symbol is a piece like others
            return self._segment(normal)
        ids: list[int] = []
        for number, part in enumerate(self._symbol.split(normal)):  # every second part is a symbol
            ids += [self._symbol_ids[part]] if number % 2 else self._segment(part)
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids`` as SentencePiece gives it, without the space that encoding put before the first word.

        Control ids are silent, the unknown id is `` ⁇ ``, and every byte that is not UTF-8 becomes U+FFFD.

        Raises:
            DataError: an id outside the vocabulary.
        """
        text = "".join(run.decode("utf-8", _EACH_BYTE) for run in self._runs(ids))
        return self._denormalizer.normalize(text)

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """Bytes of ``ids``: those of ``decode``, but exactly where they are not UTF-8.

        Raises:
            DataError: an id outside the vocabulary.
        """
        return b"".join(self._runs(ids))

    def _runs(self, ids: Sequence[int]) -> Iterator[bytes]:
        """The bytes of ``ids`` between control ids, across which no bytes make a character."""
        settings = self.model.normalization
        at_start = settings.add_dummy_prefix or settings.remove_extra_whitespaces
        run: list[bytes] = []
        for token_id in ids:
            part = self.token_bytes(token_id)
            piece = self.model.pieces[token_id]
            if piece.type == CONTROL:
                yield b"".join(run)
                run = []
                continue
            if at_start and piece.type in _TEXT and piece.text.startswith(SPACE_SYMBOL):
                part = part[1:]
                at_start = settings.remove_extra_whitespaces  # then no text begins with a space
            run.append(part)
            at_start = at_start and not part
        yield b"".join(run)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes one id stands for within a text; empty for a control id.

        Raises:
            DataError: an id outside the vocabulary.
        """
        if not 0 <= token_id < len(self._bytes):
            raise DataError(
                f"token id {token_id} is outside the vocabulary of {self.vocab_size}; use its own tokenizer"
            )
        return self._bytes[token_id]

    def save(self, folder: Path) -> None:
        """Write ``folder/tokenizer.model``, which ``sentencepiece``, Hugging Face and llama.cpp read too."""
        files.write_bytes(folder / FILE_NAME, _write(self.model))

    def _surface(self, piece: Piece) -> bytes:
        """What decoding shows for ``piece`` within a text."""
        if piece.type == BYTE:
            return bytes([_BYTE_PIECES.index(piece.text)])
        if piece.type == CONTROL:
            return b""
        text = self.model.unknown_surface if piece.type == UNKNOWN else piece.text.replace(SPACE_SYMBOL, " ")
        return text.encode("utf-8")

    @cached_property
    def _segment(self) -> segmenters.Segmenter:
        """Normal text without symbols → ids."""
        pieces = self.model.pieces
        scores = np.array([piece.score for piece in pieces], np.float32)
        lowest = min((piece.score for piece in pieces if piece.type == NORMAL), default=float(np.finfo(np.float32).max))
        byte_ids = {piece.text: token_id for token_id, piece in enumerate(pieces) if piece.type == BYTE}
        for token_id, piece in enumerate(pieces):
            if piece.type == USER_DEFINED:  # above any probability, and the longer the better
                scores[token_id] = 0.1 * (len(piece.text.encode("utf-8")) - 1)
        inventory = segmenters.Inventory(
            [piece.text if piece.type in _TEXT else "" for piece in pieces],
            scores,
            frozenset(token_id for token_id, piece in enumerate(pieces) if piece.type == UNUSED),
            self.unknown_id,
            np.float32(lowest) - np.float32(UNKNOWN_PENALTY),
            [byte_ids[name] for name in _BYTE_PIECES] if byte_ids else (),
        )
        fast = compiled.available()
        if self.model.kind == "unigram":
            return segmenters.CompiledUnigram(inventory) if fast else segmenters.PlainUnigram(inventory)
        if self.model.kind == "bpe":
            return (
                segmenters.CompiledPairs(inventory)
                if fast and not inventory.unused
                else segmenters.PlainPairs(inventory)
            )
        return segmenters.characters(inventory) if self.model.kind == "char" else segmenters.words(inventory)


def from_parts(
    pieces: Sequence[tuple[str, float, int]],
    *,
    kind: Literal["bpe", "unigram"],
    add_dummy_prefix: bool,
    remove_extra_whitespaces: bool,
    byte_fallback: bool,
    unknown_id: int,
    charsmap: bytes = b"",
    special_tokens: Mapping[str, int],
) -> SentencePieceTokenizer:
    """A tokenizer from what other file formats keep of a SentencePiece model.

    Args:
        pieces: id → text, score, and type as in SentencePiece (1 normal … 6 byte).
        unknown_id: the unknown piece, whatever its type says; -1: there is none.
        special_tokens: name → id; see ``SentencePieceTokenizer``.

    Raises:
        DataError: no tokenizer can be made of the parts.
    """
    typed = [Piece(*piece) for piece in pieces]
    if not -1 <= unknown_id < len(typed):
        raise DataError(f"the unknown id {unknown_id} is none of the {len(typed):,} pieces")
    if unknown_id >= 0:
        typed[unknown_id] = typed[unknown_id]._replace(type=UNKNOWN)
    normalization = Normalization(charsmap, add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces=True)
    return SentencePieceTokenizer(Model(tuple(typed), kind, byte_fallback, normalization), special_tokens)


def read_model(path: Path) -> SentencePieceTokenizer:
    """The tokenizer in a SentencePiece ``.model`` file.

    Raises:
        ArtifactError: the file is missing, damaged, or asks for what is not supported.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise DataError(f"the file has more than {LARGEST_FILE:,} bytes")
        return SentencePieceTokenizer(_read(path.read_bytes()))
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}; give the .model file of SentencePiece") from error
    except DataError as error:
        raise ArtifactError(f"{path} is no SentencePiece model that can be used: {error}; get the file anew") from error


def _read(data: bytes) -> Model:
    """The message ``ModelProto``."""
    model = Model((), "unigram")
    pieces: list[Piece] = []
    for item in protobuf.fields(data):
        match item.number:
            case 1:
                pieces.append(_read_piece(item.content()))
            case 2:
                model = _read_trainer(item.content(), model)
            case 3:
                model = replace(model, normalization=_read_normalization(item.content()))
            case 5:
                model = replace(model, denormalization=_read_normalization(item.content()))
    return replace(model, pieces=tuple(pieces))


def _read_piece(data: bytes) -> Piece:
    text, score, kind = "", 0.0, NORMAL
    for item in protobuf.fields(data):
        match item.number:
            case 1:
                text = item.text()
            case 2:
                score = item.float32()
            case 3:
                kind = item.integer()
    return Piece(text, score, kind)


def _read_trainer(data: bytes, model: Model) -> Model:
    for item in protobuf.fields(data):
        match item.number:
            case 3:
                if not 1 <= item.integer() <= len(_KINDS):
                    raise DataError(f"its type is {item.integer()}; known are 1 to 4: {', '.join(_KINDS)}")
                model = replace(model, kind=_KINDS[item.integer() - 1])
            case 24:
                if item.integer():
                    raise DataError("it puts spaces behind words (treat_whitespace_as_suffix), which is not supported")
            case 35:
                model = replace(model, byte_fallback=bool(item.integer()))
            case 44:
                model = replace(model, unknown_surface=item.text())
    return model


def _read_normalization(data: bytes) -> Normalization:
    settings = Normalization(b"", True, True, True)
    for item in protobuf.fields(data):
        match item.number:
            case 2:
                settings = replace(settings, charsmap=item.content())
            case 3:
                settings = replace(settings, add_dummy_prefix=bool(item.integer()))
            case 4:
                settings = replace(settings, remove_extra_whitespaces=bool(item.integer()))
            case 5:
                settings = replace(settings, escape_whitespaces=bool(item.integer()))
    return settings


def _write(model: Model) -> bytes:
    """The content of a ``.model`` file."""
    write = protobuf.write_field
    pieces = [
        write(1, write(1, text or "\0") + write(2, score) + write(3, kind if text else UNUSED))
        for text, score, kind in model.pieces
    ]
    trainer = [
        write(3, _KINDS.index(model.kind) + 1),
        write(4, len(pieces)),
        write(35, model.byte_fallback),
        write(44, model.unknown_surface),
    ]
    normalizers = [
        write(2, settings.charsmap)
        + write(3, settings.add_dummy_prefix)
        + write(4, settings.remove_extra_whitespaces)
        + write(5, settings.escape_whitespaces)
        for settings in (model.normalization, model.denormalization)
    ]
    return b"".join([*pieces, write(2, b"".join(trainer)), write(3, normalizers[0]), write(5, normalizers[1])])


_EACH_BYTE = "groundup.each_byte"


def _replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    """Decode error handler: one U+FFFD for every byte that is not UTF-8."""
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd", error.start + 1


codecs.register_error(_EACH_BYTE, _replace_each_byte)
