"""UTF-8 bytes → ends of pieces, by the compiled scanner: ``pretokenize`` for those in a hurry."""

import numpy as np
import numpy.typing as npt

from groundup.core.compiled import Kernel
from groundup.tokenizer.pretokenize import Rules
from groundup.tokenizer.unicode import classes

#: ``scan(text, start, end, classes, *rules, ends, most)`` → number of pieces found; ``ends`` are offsets in ``text``.
scan = Kernel(
    "groundup.tokenizer.kernels.scan:scan",
    "i64",
    *("u8*", "i64", "i64", "u8*", "i64", "i64", "i64", "i64", "i64*", "i64"),
)


def piece_ends(data: bytes, rules: Rules, size: int) -> npt.NDArray[np.int64]:
    """Where each piece of the text ``data`` ends."""
    found = []
    start, room = 0, np.empty(1 << 16, np.int64)
    while start < size:
        count = scan(data, start, size, classes(), *rules, room, len(room))
        found.append(room[:count].copy())
        start = int(room[count - 1])
    return np.concatenate(found) if found else np.empty(0, np.int64)
