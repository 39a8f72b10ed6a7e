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


def best_fit_decreasing(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Few bins of size ``room`` that together hold things of the given lengths, none of which is longer.

    The longest first, each into the fullest bin that still has room for it: at most 11/9 of the least number of bins,
    and a few more (Johnson et al. 1974, "Worst-case performance bounds for simple one-dimensional packing algorithms";
    for training: Ding et al. 2024, "Fewer truncations improve language modeling").

    Returns:
        For each bin the indices of what it holds.
    """
    bins: list[list[int]] = []
    with_left: list[list[list[int]]] = [[] for _ in range(room)]  # bins by what is left of them
    lefts = 0  # bit n is set where some bin has n left: the lowest set bit from a length on is the best fit
    for index in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        length = lengths[index]
        if fitting := lefts >> length:
            left = length + (fitting & -fitting).bit_length() - 1
            bin_ = with_left[left].pop()
            if not with_left[left]:
                lefts ^= 1 << left
        else:
            left, bin_ = room, []
            bins.append(bin_)
        bin_.append(index)
        left -= length
        if left:
            with_left[left].append(bin_)
            lefts |= 1 << left
    return bins
