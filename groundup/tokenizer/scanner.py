"""UTF-8 bytes → ends of pieces, by the compiled scanner: ``pretokenize`` for those in a hurry."""

import numpy as np
import numpy.typing as npt

from groundup.core.compiled import Kernel
from groundup.tokenizer.pretokenize import SHAPES, Rules
from groundup.tokenizer.unicode import classes

#: Scanners read words of 64 bytes, and so up to this many bytes behind the end of a text.
PADDING = bytes(80)
#: The pieces that one call finds at most.
BLOCK = 1 << 15

_scan = tuple(
    Kernel(
        f"groundup.tokenizer.kernels.scan:scan_{shape}",
        *("i64", "u8*", "i64", "i64", "u8*", "i64", "i64", "i64", "i64*", "i64"),
    )
    for shape in SHAPES
)


def piece_ends(data: bytes, rules: Rules) -> npt.NDArray[np.int64]:
    """Where each piece of the text ``data`` ends."""
    found = []
    padded = data + PADDING
    start, room = 0, np.empty(BLOCK, np.int64)
    while start < len(data):
        count = _scan[rules.shape](padded, start, len(data), classes(), *rules[1:], room, len(room))
        found.append(room[:count].copy())
        start = int(room[count - 1])
    return np.concatenate(found) if found else np.empty(0, np.int64)
