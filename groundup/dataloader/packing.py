"""Sequences of different lengths → rows of one length.

Packed rows are full of real tokens, yet no sequence sees another: ``segments`` says which tokens
belong together and ``positions`` counts within each sequence.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from groundup.dataloader.batch import IGNORED

#: A sequence of ids and, for each, whether the model must learn to predict it.
Masked = tuple[Sequence[int], Sequence[bool]]


def pack(rows: Sequence[Sequence[Masked]], time: int, padding: int) -> dict[str, Tensor]:
    """Lay each row's sequences end to end.

    Args:
        rows: the sequences of each row; a row's sequences hold at most ``time + 1`` tokens each less one.
        time: length of a row.
        padding: the id that fills what is left.

    Returns:
        ``inputs``, ``targets``, ``positions`` and ``segments``, each [len(rows), time]. The target at a
        position is the sequence's next token where the mask asks for it, else :data:`IGNORED`.
    """
    shape = (len(rows), time)
    inputs = torch.full(shape, padding)
    targets = torch.full(shape, IGNORED)
    positions = torch.zeros(shape, dtype=torch.long)
    segments = torch.full(shape, -1)
    for row, sequences in enumerate(rows):
        start = 0
        for segment, (ids, mask) in enumerate(sequences):
            length = len(ids) - 1  # the last token is only a target
            place = slice(start, start + length)
            assert start + length <= time, "the packer must not overfill a row"
            inputs[row, place] = torch.tensor(ids[:-1])
            learn = torch.tensor(mask[1:], dtype=torch.bool)
            targets[row, place] = torch.tensor(ids[1:]).masked_fill(~learn, IGNORED)
            positions[row, place] = torch.arange(length)
            segments[row, place] = segment
            start += length
    return {"inputs": inputs, "targets": targets, "positions": positions, "segments": segments}
