"""Tokens a second of the loaders alone, beside the plain way and PyTorch's, in multiples of what a training step eats.

``python -m benchmarks.loading``. All sides read the same token ids, of random documents, through memory maps, at random
places, into batches of inputs and targets. Between measurements nothing is closed: caches are warm on all sides.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks._common import Case, Prepared, Rounds, compare, main, require_positive
from groundup.core.errors import UsageError
from groundup.core.progress import say
from groundup.core.seeding import numpy_rng
from groundup.dataloader import (
    Mixture,
    PackedDocuments,
    Prefetch,
    RowBatches,
    TokenSource,
    TokenWriter,
    Windows,
    open_tokens,
)

#: Rows of a batch, tokens of a row: a small model on a CPU, a middle one, and GPT-2 on a GPU.
SHAPES = {"12×64": (12, 64), "16×256": (16, 256), "32×1024": (32, 1024)}
#: What eats tokens, and how many in a second: nanoGPT's smallest model on two CPU cores, and one of 124 million
#: parameters on an H200.
EATERS = {"1M on a CPU": 20_000, "124M on an H200": 1_000_000}
VOCABULARY = 50_304
WINDOWS, PACKED, MIXTURE, AHEAD = "windows", "documents", "mixture of 3", "windows, prefetch 2"
OURS = (WINDOWS, PACKED, MIXTURE, AHEAD)
PLAIN, LOADER, LOADER_2 = "plain memmap", "DataLoader", "DataLoader, 2 workers"

Batches = Callable[[int, int], Iterator[Mapping[str, Tensor]]]


@dataclass(frozen=True)
class Loading(Rounds):
    """How much is read."""

    shapes: tuple[str, ...] = tuple(SHAPES)
    """Of 12×64, 16×256 and 32×1024: rows of a batch × tokens of a row."""
    tokens: int = 100_000_000
    """Tokens of the file, two bytes each."""
    document: int = 500
    """Their mean number in a document."""
    read: int = 1_000_000
    """Tokens read in one measurement."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "tokens", "document", "read")
        if unknown := [shape for shape in self.shapes if shape not in SHAPES]:
            raise UsageError(f"shapes has {unknown[0]!r}; choose of {', '.join(SHAPES)}")


def write_text(settings: Loading, folder: Path) -> None:
    """Random documents of log-normal lengths, in four shards for us and in one file for the others."""
    rng = numpy_rng(1, "loading")
    with (
        TokenWriter(folder, VOCABULARY, {}, shard_tokens=settings.tokens // 4) as writer,
        ids_file(folder).open("wb") as handle,
    ):
        written = 0
        while written < settings.tokens:
            lengths = np.maximum(1, rng.lognormal(np.log(settings.document) - 0.5, 1.0, 1000).astype(int))
            ids = rng.integers(1, VOCABULARY, lengths.sum()).astype(np.uint16)
            begins = np.cumsum(lengths) - lengths
            ids[begins] = 0
            writer.write(np.split(ids, begins[1:]))
            handle.write(ids.tobytes())
            written += len(ids)


def ids_file(folder: Path) -> Path:
    """The same ids without anything around them."""
    return folder.with_suffix(".bin")


def prepared(settings: Loading, batches: Batches, facts: Mapping[str, Any]) -> Prepared:
    """A side that yields batches for (rows, time)."""
    answer, cases = [], {}
    for shape in settings.shapes:
        rows, time = SHAPES[shape]
        stream = batches(rows, time)
        first = next(stream)
        inputs, targets = first["inputs"], first["targets"]
        # Sides take different places: what they must agree on is that each target is the token behind its input.
        inside = first.get("positions", torch.arange(time).expand(rows, time))[:, 1:] > 0
        answer.append([*inputs.shape, str(inputs.dtype), inputs[:, 1:][inside].equal(targets[:, :-1][inside])])
        count = max(2, settings.read // (rows * time))

        cases[shape] = Case(count * rows * time, partial(partial, _read, stream, count))
    return Prepared(answer, cases, facts)


def _read(stream: Iterator[Mapping[str, Tensor]], count: int) -> None:
    for _ in islice(stream, count):
        pass


def ours(settings: Loading, folder: Path, side: str) -> Prepared:
    """One of our ways."""
    tokens = open_tokens(folder)

    def batches(rows: int, time: int) -> Iterator[Mapping[str, Tensor]]:
        source: RowBatches = TokenSource(tokens, rows, time, seed=1)
        if side == PACKED:
            source = RowBatches(PackedDocuments(tokens, time, seed=1), rows, time, padding=VOCABULARY - 1)
        if side == MIXTURE:
            weights = {"first": Fraction(7), "second": Fraction(2), "third": Fraction(1)}
            parts = {name: (Windows(tokens, time, n, name), weight) for n, (name, weight) in enumerate(weights.items())}
            source = RowBatches(Mixture(parts), rows, time)
        return (batch.tensors for batch in (Prefetch(source, depth=2) if side == AHEAD else source))

    return prepared(settings, batches, {})


def plain(settings: Loading, folder: Path) -> Prepared:
    """The few lines that small training scripts have: random places, drawn with replacement, in a mapped file."""

    def batches(rows: int, time: int) -> Iterator[Mapping[str, Tensor]]:
        generator = torch.Generator().manual_seed(1)
        while True:
            ids = np.memmap(ids_file(folder), np.uint16, "r")  # anew each time, as such scripts do to free its pages
            places = torch.randint(len(ids) - time, (rows,), generator=generator).tolist()
            sides = (
                torch.stack([torch.from_numpy(ids[place + n : place + n + time].astype(np.int64)) for place in places])
                for n in (0, 1)
            )
            yield dict(zip(("inputs", "targets"), sides, strict=True))

    return prepared(settings, batches, {})


class _Windows(Dataset[dict[str, Tensor]]):
    """What PyTorch's loader asks one by one."""

    def __init__(self, path: Path, time: int) -> None:
        self.ids = np.memmap(path, np.uint16, "r")
        self.time = time

    def __len__(self) -> int:
        return (len(self.ids) - 1) // self.time

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        ids = torch.from_numpy(self.ids[number * self.time : (number + 1) * self.time + 1].astype(np.int64))
        return {"inputs": ids[:-1], "targets": ids[1:]}


def loader(settings: Loading, folder: Path, workers: int) -> Prepared:
    """PyTorch's loader over the mapped file, shuffled."""

    def batches(rows: int, time: int) -> Iterator[Mapping[str, Tensor]]:
        windows = _Windows(ids_file(folder), time)
        while True:
            yield from DataLoader(windows, rows, shuffle=True, num_workers=workers, drop_last=True)

    return prepared(settings, batches, {"workers": workers})


def run(settings: Loading) -> dict[str, Any]:
    """All sides in turn, and how many training steps each could feed."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "tokens"
        write_text(settings, folder)
        sides = {
            **{side: partial(ours, settings, folder, side) for side in OURS},
            PLAIN: partial(plain, settings, folder),
            LOADER: partial(loader, settings, folder, 0),
            LOADER_2: partial(loader, settings, folder, 2),
        }
        record = compare(sides, "token", settings.rounds, ("torch", "numpy"), ours=OURS)
    record["multiples"] = {
        eater: {
            case: {side: round(median(rates) / speed, 2) for side, rates in by_side.items()}
            for case, by_side in record["rates"].items()
        }
        for eater, speed in EATERS.items()
    }
    for eater, by_case in record["multiples"].items():
        for case, by_side in by_case.items():
            say(f"{eater}, {case}: " + ", ".join(f"{side} {multiple:,.0f}×" for side, multiple in by_side.items()))
    return record


if __name__ == "__main__":
    sys.exit(main(Loading, "loading", run))
