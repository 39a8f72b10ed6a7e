"""Token ids on disk, and the batches that pretraining draws from them.

A shard is a NumPy ``.npy`` file of unsigned integers: documents one after the other, each begun by
the document token. It is memory-mapped, so its size does not matter.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from groundup.core.errors import ArtifactError, DataError
from groundup.core.files import atomic_file
from groundup.core.seeding import derive_seed, numpy_rng
from groundup.dataloader.batch import Batch

Tokens = np.ndarray[tuple[int], np.dtype[np.unsignedinteger[Any]]]


def write_shard(path: Path, documents: Sequence[Sequence[int]], vocab_size: int) -> int:
    """Write documents of ids (each with its document token) to one file; return the number of tokens."""
    dtype = np.uint16 if vocab_size <= 2**16 else np.uint32
    ids = np.concatenate([np.asarray(document, dtype=dtype) for document in documents] or [np.empty(0, dtype)])
    with atomic_file(path) as temporary, temporary.open("wb") as handle:
        np.save(handle, ids)
    return len(ids)


def read_shard(path: Path) -> Tokens:
    """Memory-map a shard.

    Raises:
        ArtifactError: the file is missing, truncated or not a shard.
    """
    try:
        ids = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} does not exist; run the stage that makes it first") from error
    except (ValueError, OSError, EOFError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); delete it and run again") from error
    if ids.ndim != 1 or ids.dtype.kind != "u":
        raise ArtifactError(f"{path} is not a shard of token ids; delete it and run again")
    return ids


class TokenSource:
    """Windows of ``time`` tokens and their next tokens, each epoch in a new order and cut at a new phase.

    Every epoch shifts the cuts by a random phase, so that a token is not always seen at the same position,
    and visits the windows in a random permutation without replacement.
    """

    def __init__(self, tokens: Tokens, rows: int, time: int, seed: int) -> None:
        if len(tokens) < 2 * time + 1:
            raise DataError(
                f"the train split has {len(tokens)} tokens, fewer than two windows of {time}; "
                "give more text or lower model.context"
            )
        self.tokens = tokens
        self.rows = rows
        self.time = time
        self.seed = seed
        self.position = 0  # windows already yielded

    @property
    def windows(self) -> int:
        """Windows in an epoch, whatever its phase."""
        return (len(self.tokens) - self.time - 1) // self.time

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = int(state["position"])

    def _starts(self, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        phase = derive_seed(self.seed, "phase", epoch) % self.time
        return numpy_rng(self.seed, "order", epoch).permutation(self.windows) * self.time + phase

    def __iter__(self) -> Iterator[Batch]:
        epoch, starts = -1, np.empty(0, np.int64)
        while True:
            windows = []
            for number in range(self.position, self.position + self.rows):
                if number // self.windows != epoch:
                    epoch = number // self.windows
                    starts = self._starts(epoch)
                start = int(starts[number % self.windows])
                windows.append(self.tokens[start : start + self.time + 1].astype(np.int64))
            self.position += self.rows
            ids = torch.from_numpy(np.stack(windows))
            yield Batch({"inputs": ids[:, :-1], "targets": ids[:, 1:]}, weight=self.rows * self.time)
