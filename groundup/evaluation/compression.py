"""What a general-purpose compressor makes of the validation text: a baseline for bits per byte.

Train and validation bytes enter, sizes leave. Compressed after the train text, the validation text may use all
that it shares with it; the growth of the file is what a compressor that has seen the same text pays for it.
"""

import lzma
from dataclasses import dataclass
from typing import Any

from groundup.core.errors import DataError
from groundup.core.progress import Progress

#: The setting of ``xz -9e``, whose window reaches 64 MiB back: of a longer train text it sees the end.
PRESET = 9 | lzma.PRESET_EXTREME
_BLOCK = 1 << 16


@dataclass(frozen=True)
class CompressedSize:
    """Sizes of the validation text in bytes."""

    raw: int
    alone: int
    """``xz -9e`` of the validation text by itself."""
    conditional: int
    """``xz -9e`` of train and validation text together, less that of the train text."""

    @property
    def bits_per_byte(self) -> float:
        """Bits per raw byte after having seen the train text: the baseline."""
        return 8 * self.conditional / self.raw

    @property
    def bits_per_byte_alone(self) -> float:
        """Bits per raw byte without the train text."""
        return 8 * self.alone / self.raw

    def to_json(self) -> dict[str, Any]:
        """Sizes and rates."""
        return {
            "raw_bytes": self.raw,
            "alone_bytes": self.alone,
            "conditional_bytes": self.conditional,
            "bits_per_byte": self.bits_per_byte,
            "bits_per_byte_alone": self.bits_per_byte_alone,
        }


def _xz_size(progress: Progress, *parts: bytes) -> int:
    compressor = lzma.LZMACompressor(preset=PRESET)
    size = 0
    for part in parts:
        for start in range(0, len(part), _BLOCK):
            block = part[start : start + _BLOCK]
            size += len(compressor.compress(block))
            progress.advance(len(block) / 1e6)
    return size + len(compressor.flush())


def conditional_xz(train: bytes, validation: bytes) -> CompressedSize:
    """Size of ``validation`` for a compressor that has seen ``train``. Memory: xz's own 0.7 GB, and no copy.

    Raises:
        DataError: the validation text is empty.
    """
    if not validation:
        raise DataError(
            "the validation text is empty: its compressed size says nothing; hold out at least one document"
        )
    total = 2 * (len(train) + len(validation)) / 1e6
    with Progress("xz -9e", total=total, unit="MB") as progress:
        return CompressedSize(
            raw=len(validation),
            alone=_xz_size(progress, validation),
            conditional=_xz_size(progress, train, validation) - _xz_size(progress, train),
        )
