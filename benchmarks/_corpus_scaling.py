"""How the time, the memory and the disk of a corpus grow with its documents.

``measure(…)`` is a part of ``benchmarks.corpus``.

Work: ``groundup corpus`` with exact duplicates and MinHash over made-up documents of 60 to 120 words, drawn by Zipf's
law. What document *n* says is a function of *n* alone, so the same ones come out on every machine and any number of
them takes no memory. Of 20 one repeats an earlier one exactly and one repeats an earlier one but for a word. So it is
known what must be found: all of the first, and of the second as many as the theory of the bands says.

Every size runs in fresh processes; beside them this one looks at their memory five times a second and at the files
every few seconds.
"""

import contextlib
import json
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from groundup.core.errors import GroundupError
from groundup.core.files import atomic_file, read_json
from groundup.core.progress import Progress, say
from groundup.corpus.dedup.minhash import MinHashConfig, collision_probability

Integers = NDArray[np.uint64]

STEPS = ("exact-duplicates", "minhash")
LEAST_WORDS, MOST_WORDS = 60, 120
#: Of so many documents one, the first, is never repeated by its neighbours but by later ones; see ``EXACT``, ``NEAR``.
PERIOD, EXACT, NEAR = 20, 7, 13
VOCABULARY = 200_000
#: Documents that are made at a time.
_BLOCK = 10_000
_QUANTILES = 1 << 20
_LOOK_SECONDS, _DISK_LOOK_SECONDS = 0.2, 3.0
_FILES_OF_PHASES = ("pass-0", "across-1/repetitions", "pass-1", "across-2/repetitions", "across-2/decisions", "pass-2")


# --- documents that nobody wrote


@cache
def vocabulary() -> list[str]:
    """Words that can be spoken, all different, the frequent ones short."""
    rng = random.Random(5)
    syllables = [onset + vowel for onset in ("", *"bcdfghlmnprstvw", "st", "tr", "ch") for vowel in "aeiou"]
    words: dict[str, None] = {}
    while len(words) < VOCABULARY:
        length = 1 + int(math.log10(len(words) + 1) * 0.75 + rng.random())
        words["".join(rng.choices(syllables, k=length)) + rng.choice(["", "", "n", "s", "r", "t"])] = None
    return list(words)


@cache
def _ranks() -> NDArray[np.int64]:
    """The rank of a word at each quantile of Zipf's law with Mandelbrot's shift."""
    weights = 1 / (np.arange(VOCABULARY) + 2.7)
    ends = np.cumsum(weights) / weights.sum()
    return np.searchsorted(ends, (np.arange(_QUANTILES) + 0.5) / _QUANTILES)


def _mix(numbers: Any) -> Integers:
    """Hashes that look drawn at random (the finaliser of SplitMix64; Steele, Lea & Flood 2014)."""
    numbers = numbers * np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(numbers ^ (numbers >> np.uint64(31)), dtype=np.uint64)


def _drawn(numbers: Any, salt: int, below: Any) -> NDArray[np.int64]:
    """For each number one that looks drawn at random from 0 to ``below`` - 1."""
    shares = (_mix(numbers * np.uint64(16) + np.uint64(salt)) >> np.uint64(11)).astype(np.float64) / 2.0**53
    return np.minimum((shares * below).astype(np.int64), np.maximum(np.asarray(below) - 1, 0))


def contents(first: int, count: int) -> tuple[list[list[int]], NDArray[np.float64], Integers]:
    """The ranks of the words of ``count`` documents from number ``first`` on.

    Returns:
        Beside them, for every document that repeats another one but for a word: the resemblance of the two, and a
        number that two of them share if they are alike to the last word.
    """
    numbers = np.arange(first, first + count, dtype=np.uint64)
    kinds = (numbers % np.uint64(PERIOD)).astype(np.int64)
    earlier = PERIOD * _drawn(numbers, 1, np.maximum(numbers // np.uint64(PERIOD), np.uint64(1)).astype(np.float64))
    originals = np.where((kinds == EXACT) | (kinds == NEAR), earlier.astype(np.uint64), numbers)
    lengths = LEAST_WORDS + _drawn(originals, 2, MOST_WORDS - LEAST_WORDS + 1)
    places = originals[:, None] * np.uint64(128) + np.arange(MOST_WORDS, dtype=np.uint64)
    ranks = _ranks()[(_mix(places + np.uint64(1 << 60)) >> np.uint64(44)).astype(np.int64)]
    near = np.flatnonzero(kinds == NEAR)
    changed = _drawn(numbers[near], 3, lengths[near])
    other = ranks[near, changed] + 1 + _drawn(numbers[near], 4, 1000)
    ranks[near, changed] = other % VOCABULARY
    rows = [row[:length] for row, length in zip(ranks.tolist(), lengths.tolist(), strict=True)]
    alike = (originals[near] * np.uint64(128) + changed.astype(np.uint64)) * np.uint64(VOCABULARY)
    return rows, _resemblances(lengths[near], changed), alike + ranks[near, changed].astype(np.uint64)


def _resemblances(lengths: NDArray[np.int64], changed: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of texts of these lengths to themselves with the word at place ``changed`` replaced: of the shingles' sets."""
    ngram = MinHashConfig().ngram
    shingles = lengths - ngram + 1
    lost = np.minimum(changed, shingles - 1) - np.maximum(changed - ngram + 1, 0) + 1
    return np.asarray((shingles - lost) / (shingles + lost), dtype=np.float64)


def lines(documents: int) -> Iterator[tuple[str, NDArray[np.float64], Integers]]:
    """The documents as lines of JSON, a block at a time, with the numbers of ``contents``."""
    words = vocabulary()
    for first in range(0, documents, _BLOCK):
        rows, resemblances, alike = contents(first, min(_BLOCK, documents - first))
        texts = (" ".join([words[rank] for rank in row]) for row in rows)
        yield "".join(f'{{"text": "{text}"}}\n' for text in texts), resemblances, alike


def write(path: Path, documents: int) -> dict[str, Any]:
    """Write the documents; what must be found among them."""
    config, expected = MinHashConfig(), 0.0
    changed = [np.empty(0, np.uint64)]
    with path.open("w", encoding="ascii", newline="\n") as file:
        for block, resemblances, alike in lines(documents):
            file.write(block)
            expected += float(collision_probability(resemblances, config.bands, config.rows).sum())
            changed.append(alike)
    near = sum(map(len, changed))
    by_chance = near - len(np.unique(np.concatenate(changed)))  # one in 200,000 of them is another's exact copy
    exact = len(range(EXACT, documents, PERIOD)) + by_chance
    return {"bytes": path.stat().st_size, "exact": exact, "near": near, "near_found_in_theory": expected}


# --- one size


def grow(documents: int, workers: int, folder: Path) -> dict[str, Any]:
    """Run the command over so many documents, and look at it.

    Raises:
        GroundupError: it failed, or did not find what is there.
    """
    text, out, log = folder / "documents.jsonl", folder / "run", folder / "log.txt"
    planted = write(text, documents)
    command = [sys.executable, "-m", "groundup.cli", "corpus", "--out", str(out), "--corpus.path", str(text)]
    command += ["--corpus.steps", *STEPS, "--corpus.workers", str(workers), "--corpus.dropped-characters", "100"]
    before, began = os.times(), time.perf_counter()
    with log.open("w", encoding="utf-8") as file:
        process = psutil.Popen(command, stdout=file, stderr=file, env={**os.environ, "GROUNDUP_PROGRESS": "quiet"})
        try:
            watch = _Watch(process, out)
            while process.poll() is None:
                watch.look()
                time.sleep(_LOOK_SECONDS)
        except BaseException:
            process.kill()
            process.wait()
            raise
    seconds, after = time.perf_counter() - began, os.times()
    if process.returncode:
        told = log.read_text(encoding="utf-8").strip().splitlines()
        raise GroundupError(f"{documents} documents: {told[-1] if told else f'exit status {process.returncode}'}")
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    found = _found(out / "corpus", planted)
    steps = read_json(out / "corpus" / "seconds.json")
    return {
        "documents": documents,
        "planted": planted,
        "found": found,
        "seconds": seconds,
        "processor_seconds": processor,
        "processor_seconds_of_steps": steps,
        "began_seconds": watch.began,
        "peak_bytes": watch.peaks,
        "disk_peak_bytes": watch.disk,
    }


class _Watch:
    """The largest memory and the largest files of a command and its workers so far."""

    def __init__(self, process: psutil.Process, folder: Path) -> None:
        self.peaks = {"parent": 0, "largest worker": 0, "together": 0}
        self.disk = 0
        self.began: dict[str, float] = {}
        self._process, self._folder = process, folder
        self._start = self._looked = time.perf_counter()

    def look(self) -> None:
        """Look once."""
        try:
            parent, workers = _own_bytes(self._process), [_own_bytes(child) for child in self._process.children()]
        except psutil.Error:  # it has just ended
            return
        now = {"parent": parent, "largest worker": max(workers, default=0), "together": parent + sum(workers)}
        self.peaks = {name: max(peak, now[name]) for name, peak in self.peaks.items()}
        if time.perf_counter() - self._looked > _DISK_LOOK_SECONDS:
            self._look_at_files()
            self._looked = time.perf_counter()

    def _look_at_files(self) -> None:
        total, names = 0, set()
        for folder, folders, files in os.walk(self._folder):  # which passes over what is renamed or deleted meanwhile
            for path in (Path(folder, name) for name in (*folders, *files)):
                names.add(path.as_posix())
                with contextlib.suppress(OSError):
                    total += path.stat().st_size
        self.disk = max(self.disk, total)
        for phase in _FILES_OF_PHASES:
            if phase not in self.began and any(f"/{phase}" in name for name in names):
                self.began[phase] = time.perf_counter() - self._start


def _own_bytes(process: psutil.Process) -> int:
    """Resident memory without files that are mapped, which the system takes back when it needs it; 0: it has ended."""
    try:
        memory = process.memory_info()
    except psutil.Error:
        return 0
    return int(memory.rss - getattr(memory, "shared", 0))


def _found(corpus: Path, planted: Mapping[str, Any]) -> dict[str, float]:
    """Documents dropped as exact and as near duplicates.

    Raises:
        GroundupError: not every exact duplicate was found, or clearly more or fewer near ones than in theory.
    """
    rows = read_json(corpus / "funnel.json")["steps"]
    dropped = {row["step"]: row["documents_in"] - row["documents_out"] for row in rows}
    exact, near = (dropped[step.replace("-", " ")] for step in STEPS)
    if exact != planted["exact"]:
        raise GroundupError(f"{exact} exact duplicates were found, of {planted['exact']}")
    if abs(near / planted["near"] - planted["near_found_in_theory"] / planted["near"]) > 0.02:
        raise GroundupError(f"{near} near duplicates were found, of {planted['near']}")
    return {"exact": exact, "near": near}


# --- all sizes


def measure(sizes: Sequence[int], workers: int, drawn: Path | None) -> dict[str, Any]:
    """Seconds, processor seconds, memory and disk of every size.

    Args:
        sizes: numbers of documents, rising.
        workers: processes of the command.
        drawn: file for a picture of them (SVG).

    Raises:
        GroundupError: a run failed, or did not find what is there.
    """
    rows = []
    with Progress("scaling", sum(sizes), "document") as progress:
        for documents in sizes:
            with tempfile.TemporaryDirectory(prefix="groundup-benchmark-") as folder:
                rows.append(grow(documents, workers, Path(folder)))
            progress.advance(documents)
            _show(rows[-1])
    if drawn is not None:
        draw(rows, drawn)
    return {"workers": workers, "steps": list(STEPS), "sizes": rows}


def _show(row: Mapping[str, Any]) -> None:
    millions = row["documents"] / 1e6
    parent, worker = (row["peak_bytes"][name] / 1e6 for name in ("parent", "largest worker"))
    say(
        f"{row['documents']:>10,} documents: {row['seconds']:7.1f} s, {millions / row['seconds'] * 1e6:7,.0f} a second;"
        f" a million {row['processor_seconds'] / millions:6.1f} s of processor; memory {parent:.0f} MB, of a worker"
        f" {worker:.0f} MB; disk {row['disk_peak_bytes'] / 1e6 / millions:,.0f} MB a million"
    )


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A picture of time and memory over the number of documents, as SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    documents = [row["documents"] for row in rows]
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "groundup", "font.size": 9}):
        figure = Figure(figsize=(7.2, 2.8), layout="constrained")
        time_axes, memory_axes = figure.subplots(1, 2)
        for label, key in (("processor, all processes", "processor_seconds"), ("clock", "seconds")):
            time_axes.plot(documents, [row[key] / row["documents"] * 1e6 for row in rows], "o-", label=label)
        for name in ("parent", "largest worker"):
            memory_axes.plot(documents, [row["peak_bytes"][name] / 1e6 for row in rows], "o-", label=name)
        time_axes.set(ylabel="seconds per million documents")
        memory_axes.set(ylabel="peak memory, MB")
        for axes in (time_axes, memory_axes):
            axes.set(xscale="log", xlabel="documents")
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
            axes.legend(frameon=False)
        with atomic_file(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})


if __name__ == "__main__":  # a quick look
    print(json.dumps(measure([int(word) for word in sys.argv[1:]] or [10_000], 2, None), indent=1))
