"""A byte-level BPE vocabulary: everything that decides an id, whatever file it came from.

Tokens, merges, special tokens and the pattern enter; one checked, compact value leaves, which ``BytePairTokenizer``
encodes with and which the files of other tools are read into and written from.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from groundup.core.errors import DataError
from groundup.tokenizer.pretokenize import Pattern

Pair = tuple[int, int]

#: No token may be longer than this many bytes: a guard against hostile files.
LONGEST_TOKEN = 1 << 11
#: Ids are below this. The largest vocabularies in use have a quarter of a million; the compiled encoder packs an id
#: into 20 bits, of which it keeps the highest number for "no token".
MOST_TOKENS = (1 << 20) - 1
#: A longer token must be what merges build: longer pieces are not looked up as a whole.
LONGEST_WHOLE_PIECE = 255


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Tokens and merges as arrays. Make one with ``make``, which checks it."""

    blob: bytes
    """The bytes of all tokens in the order of their ids."""
    offsets: npt.NDArray[np.int64]
    """Id → where its bytes begin in ``blob``; one more than there are ids. Special tokens and holes are empty."""
    merges: npt.NDArray[np.int32]
    """``merges[rank]`` is (left id, right id, id of the two together); shape (merges, 3)."""
    special_tokens: Mapping[str, int]
    """Name → id. No text encodes to one."""
    pattern: Pattern
    """How text is cut into pieces, which no merge spans."""
    whole_pieces: bool
    """A piece that is a token as a whole is that token, even where the merges would not build it."""

    @classmethod
    def make(
        cls,
        tokens: Sequence[bytes],
        merges: Sequence[Pair],
        special_tokens: Mapping[str, int],
        pattern: Pattern | None = None,
        whole_pieces: bool = False,
        possible: bool = False,
    ) -> "Vocabulary":
        """Check the parts and put them together.

        Args:
            tokens: id → bytes; ``b""`` for special tokens and ids that are not used.
            merges: (left id, right id) in order of rank; what they make is the token of their bytes together.
            special_tokens: name → id; the id must be empty in ``tokens`` or follow its end.
            pattern: our own when not given.
            whole_pieces: as tiktoken does always and Hugging Face with ``ignore_merges``.
            possible: the merges are known to be those that can happen, one for each token, because they were learnt
                or found so; else they are looked for, which takes seconds for a large vocabulary.

        Raises:
            DataError: two ids have the same bytes, a byte has no id, a merge names an unknown id, makes what is
                no token or comes twice, a whole piece is too long, a special token has the id of another token or
                of another special one.
        """
        size = max([len(tokens) - 1, *special_tokens.values()], default=-1) + 1
        if size > MOST_TOKENS:
            raise DataError(f"the vocabulary has ids up to {size - 1:,}; at most {MOST_TOKENS:,} are supported")
        ids: dict[bytes, int] = {}
        for token_id, token in enumerate(tokens):
            if len(token) > LONGEST_TOKEN:
                raise DataError(f"token {token_id} has {len(token):,} bytes; at most {LONGEST_TOKEN:,} are supported")
            if token and ids.setdefault(token, token_id) != token_id:
                raise DataError(f"tokens {ids[token]} and {token_id} are the same bytes {token!r}")
        for byte in range(256):
            if bytes([byte]) not in ids:
                raise DataError(f"no token is the single byte {bytes([byte])!r}, so it could not be encoded")
        taken: dict[int, str] = {}
        for name, token_id in special_tokens.items():
            if token_id < 0 or (token_id < len(tokens) and tokens[token_id]):
                raise DataError(f"special token {name!r} has the id {token_id} of an ordinary token")
            if not name or taken.setdefault(token_id, name) != name:
                raise DataError(f"special tokens {taken.get(token_id)!r} and {name!r} share the id {token_id}")
        made = np.empty((len(merges), 3), np.int32)
        seen = set[Pair]()
        for rank, (left, right) in enumerate(merges):
            if not (0 <= left < len(tokens) and 0 <= right < len(tokens) and tokens[left] and tokens[right]):
                raise DataError(f"merge {rank} names ids {left} and {right}, of which one is no token")
            new = ids.get(tokens[left] + tokens[right])
            if new is None:
                raise DataError(f"merge {rank} makes {tokens[left] + tokens[right]!r}, which is no token")
            if (left, right) in seen:
                raise DataError(f"merge {rank} joins {tokens[left]!r} and {tokens[right]!r} a second time")
            seen.add((left, right))
            made[rank] = left, right, new
        if not possible:
            made = made[_reached(made, tokens)]
        built = set(made[:, 2].tolist())
        for token_id, token in enumerate(tokens if whole_pieces else ()):
            if len(token) > LONGEST_WHOLE_PIECE and token_id not in built:
                raise DataError(
                    f"token {token_id} has {len(token)} bytes and no merges that build it; "
                    f"at most {LONGEST_WHOLE_PIECE} are supported then"
                )
        lengths = np.zeros(size + 1, np.int64)
        lengths[1 : len(tokens) + 1] = [len(token) for token in tokens]
        return cls(
            b"".join(tokens),
            np.cumsum(lengths),
            made,
            MappingProxyType(dict(special_tokens)),
            pattern or Pattern(),
            whole_pieces,
        )

    def __len__(self) -> int:
        """Number of ids, special tokens and holes included."""
        return len(self.offsets) - 1

    def token(self, token_id: int) -> bytes:
        """The bytes of one id; empty for special tokens and holes.

        Raises:
            DataError: an id outside the vocabulary.
        """
        if not 0 <= token_id < len(self):
            raise DataError(f"token id {token_id} is outside the vocabulary of {len(self)}; use its own tokenizer")
        return self.blob[self.offsets[token_id] : self.offsets[token_id + 1]]

    @cached_property
    def tokens(self) -> list[bytes]:
        """Id → bytes."""
        places = self.offsets.tolist()
        return [self.blob[start:end] for start, end in pairwise(places)]

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 of all that decides an id."""
        digest = hashlib.sha256()
        rest = [self.pattern.rules or self.pattern.splits, dict(self.special_tokens), self.whole_pieces]
        for part in (self.blob, self.offsets.tobytes(), self.merges.tobytes(), json.dumps(rest).encode()):
            digest.update(hashlib.sha256(part).digest())
        return digest.hexdigest()


def _reached(merges: npt.NDArray[np.int32], tokens: Sequence[bytes]) -> list[int]:
    """The ranks of the merges that can ever happen: one for each token that they build.

    Files list every way to cut a token into two (Llama 3 has 280 thousand merges for 128 thousand tokens), but text
    comes to a token in one way only. What merges within its bytes merges in the order of the ranks, whatever stands
    around them, so it is the way in which those bytes alone become the token.
    """
    rows = merges.tolist()
    rank_of = {(left, right): rank for rank, (left, right, _) in enumerate(rows)}
    byte_ids = {token: token_id for token_id, token in enumerate(tokens) if len(token) == 1}
    reached = []
    for token_id in {new for _, _, new in rows}:
        ids = [byte_ids[tokens[token_id][place : place + 1]] for place in range(len(tokens[token_id]))]
        lowest = 0
        while len(ids) > 1:
            ranks = [rank_of.get(pair, len(rows)) for pair in pairwise(ids)]
            lowest = min(ranks)
            if lowest == len(rows):
                break
            place = ranks.index(lowest)
            ids[place : place + 2] = [rows[lowest][2]]
        if ids == [token_id]:
            reached.append(lowest)
    return sorted(reached)
