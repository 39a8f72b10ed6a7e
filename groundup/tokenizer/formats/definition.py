"""What a file says of a byte-level tokenizer: its vocabulary, and what happens to a text before it is encoded."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from groundup.core.errors import ArtifactError, DataError, UsageError
from groundup.tokenizer.vocabulary import Vocabulary

#: The form of Unicode that a text is brought into first; empty: it stays as it is.
Normalization = Literal["", "NFC", "NFD", "NFKC", "NFKD"]
NORMALIZATIONS: tuple[Normalization, ...] = ("", "NFC", "NFD", "NFKC", "NFKD")

#: No file may be larger, nor the part of a model file that we read: a guard, five times what is in use.
LARGEST_FILE = 1 << 27


@dataclass(frozen=True)
class AddedToken:
    """A string that is one id wherever it stands in a text, though it is not special: ``<tool_call>`` of Qwen."""

    content: str
    id: int
    normalized: bool = False
    """Looked for in the text as it is after its normalisation, not before."""


@dataclass(frozen=True)
class Definition:
    """A byte-level tokenizer, complete. Most have a vocabulary and nothing else."""

    vocabulary: Vocabulary
    """The ids of added tokens that have no bytes there are special there; here they are not."""
    normalization: Normalization = ""
    added_tokens: tuple[AddedToken, ...] = ()
    post_processor: Any = None
    """What Hugging Face's file says of ids around a text: kept for the next file, without effect on ours."""
    missing: bytes = b""
    """Bytes for which the file has no token. In ``vocabulary`` they have the last ids, which no model knows."""

    @property
    def vocab_size(self) -> int:
        """Number of ids that a model knows."""
        return len(self.vocabulary) - len(self.missing)

    def only_vocabulary(self, file: str) -> Vocabulary:
        """The vocabulary, for a file that cannot say more.

        Raises:
            UsageError: there is more to say.
        """
        if self.normalization or self.added_tokens or self.missing:
            raise UsageError(
                f"{file} cannot say that texts are normalised, that some tokens are cut out of them or that bytes "
                "have no token; write tokenizer.json instead"
            )
        return self.vocabulary


@contextmanager
def reading(where: Path | str) -> Iterator[None]:
    """Complete what is wrong with a file's content by its path and a remedy.

    Raises:
        ArtifactError: for every ``DataError`` inside.
    """
    try:
        yield
    except DataError as error:
        raise ArtifactError(f"{where} cannot be used as a tokenizer: {error}; get it anew, or use another") from error
