"""MinHash signatures of documents: ours beside rensa's and datasketch's, in speed and in what they find.

``measure(…)`` is a part of ``benchmarks.corpus``; ``python -m benchmarks._corpus_minhash`` makes a quick run of it.

Work: from texts to what near duplicates are found by, over runs of five words in small letters: the peers' signatures
of 128 permutations, our bands and fingerprints, by the defaults of the step ``minhash``. The peers take the runs as
strings, so each is timed with the usual shingling around it (``text.lower().split()``). Every measurement runs in a
fresh process on one core; the sides take turns. Then all sides look for planted near duplicates among generated
documents: pairs that agree in one of 20 bands of 6 and whose estimated resemblance is at least 0.8 (the share of the
places that agree; ours: that of the fingerprints, which take as many bytes as 128 places of 32 bits) are said to be
near duplicates; exact resemblance tells how many of them are. ``error`` is how far estimates of resemblance are from it
(root of the mean square).
"""

import gc
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

from benchmarks import OURS, _texts
from benchmarks._common import ratio
from benchmarks._memory import peak_bytes
from benchmarks._sides import ask, can_pin, read_texts, write_texts
from groundup.core.progress import Progress, say

PERMUTATIONS, NGRAM = 128, 5
BANDS, ROWS = 20, 6
SIMILARITY = 0.8
_LONGEST_SECONDS = 600


@dataclass(frozen=True)
class Digests:
    """What a side makes of texts."""

    places: Any
    """What estimates are made from; shape [texts, places]."""
    bands: Any = None
    """Keys of the bands, shape [texts, bands]; None: the first ``BANDS * ROWS`` places are the bands."""
    resemblance: Callable[[Any, Any], Any] = lambda one, other: (one == other).mean(axis=-1)
    """Places of some texts and of as many others → what their resemblance is estimated to be."""


Digest = Callable[[Sequence[str]], Digests]


# --- sides


def _ours() -> Digest:
    import numpy as np

    from groundup.corpus.dedup.minhash import MinHashConfig, resemblance, text_sketch

    config = MinHashConfig(ngram=NGRAM, bands=BANDS, rows=ROWS, min_words=1)

    def digest(texts: Sequence[str]) -> Digests:
        keys, marks, _ = zip(*[text_sketch(text, config) for text in texts], strict=True)
        return Digests(np.stack(marks), np.stack(keys), resemblance)

    return digest


def _rensa(name: str) -> Callable[[], Digest]:
    def prepare() -> Digest:
        import numpy as np
        import rensa

        kind = getattr(rensa, name)

        def digest(text: str) -> Any:
            sketch = kind(PERMUTATIONS, 42)
            sketch.update(shingles(text))
            return sketch.digest()

        return lambda texts: Digests(np.array([digest(text) for text in texts], dtype=np.uint64))

    return prepare


def _datasketch() -> Digest:
    import datasketch
    import numpy as np

    def digest(text: str) -> Any:
        sketch = datasketch.MinHash(PERMUTATIONS)
        sketch.update_batch([shingle.encode() for shingle in shingles(text)])
        return sketch.hashvalues

    return lambda texts: Digests(np.stack([digest(text) for text in texts]))


SIDES: Mapping[str, Callable[[], Digest]] = {
    OURS: _ours,
    "rensa RMinHash": _rensa("RMinHash"),
    "rensa CMinHash": _rensa("CMinHash"),
    "datasketch": _datasketch,
}


def shingles(text: str) -> list[str]:
    """Runs of five words in small letters, as the peers want them."""
    words = text.lower().split()
    return [" ".join(words[place : place + NGRAM]) for place in range(max(len(words) - NGRAM + 1, 0))]


# --- texts


def passages(documents: Sequence[str], size: int = 3400) -> Iterator[str]:
    """Pieces of the documents of about ``size`` characters, in whole lines: as long as pages of the web are."""
    for document in documents:
        piece: list[str] = []
        length = 0
        for line in document.splitlines(keepends=True):
            piece.append(line)
            length += len(line)
            if length >= size:
                yield "".join(piece)
                piece, length = [], 0
        if length >= size // 4:
            yield "".join(piece)


def planted(count: int = 1000, words: int = 200) -> list[str]:
    """Documents of random words, each followed by a copy with some words replaced: resemblances of 0.5 to 1."""
    rng = random.Random(17)
    vocabulary = [f"word{number}" for number in range(5000)]
    texts = []
    for number in range(count):
        original = rng.choices(vocabulary, k=words)
        share = 0.08 * number / count
        copy = [rng.choice(vocabulary) if rng.random() < share else word for word in original]
        texts += [" ".join(original), " ".join(copy)]
    return texts


# --- what a process of its own is asked to do


def _timed(texts: list[str], digest: Digest) -> dict[str, Any]:
    gc.collect()
    began = time.process_time()  # one thread, no files: the time of the processor is that of a machine at rest
    digest(texts)
    return {"seconds": time.process_time() - began, "peak_bytes": peak_bytes()}


def _found(texts: list[str], digest: Digest) -> dict[str, Any]:
    """Pairs that meet in a band, those of them whose estimates are high enough; what those of twins are."""
    digests = digest(texts)
    places, bands = digests.places, digests.bands
    if bands is None:
        bands = places[:, : BANDS * ROWS].reshape(len(texts), BANDS, ROWS)
    met: set[tuple[int, int]] = set()
    for band in range(BANDS):
        buckets: dict[bytes, list[int]] = {}
        for number, key in enumerate(bands[:, band]):
            buckets.setdefault(key.tobytes(), []).append(number)
        met |= {pair for bucket in buckets.values() for pair in pairwise(bucket)}
    alike = [(a, b) for a, b in met if digests.resemblance(places[a], places[b]) >= SIMILARITY]
    estimates = digests.resemblance(places[::2], places[1::2])
    return {"met": sorted(met), "alike": sorted(alike), "estimates": estimates.tolist()}


TASKS: Mapping[str, Callable[[list[str], Digest], dict[str, Any]]] = {"timed": _timed, "found": _found}


def _call(task: str, side: str, texts: Path) -> dict[str, Any]:
    """Run a task in a fresh process on one core.

    Raises:
        SideFailed: it did not end well, or not in time.
    """
    words = ["benchmarks._corpus_minhash", task, side, str(texts)]
    return ask(words, {"RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}, _LONGEST_SECONDS)


# --- the parent's half


def measure(texts: Mapping[str, Sequence[str]], rounds: int, sides: Sequence[str] = tuple(SIDES)) -> dict[str, Any]:
    """Rates in MB/s, ratios to ours, peak memory; recall and precision of every side.

    Args:
        texts: name → documents to be timed on.
        rounds: times that the sides take turns; one more, untimed, goes before.
    """
    rates: dict[str, dict[str, list[float]]] = {}
    peaks: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory(prefix="groundup-benchmark-") as name:
        folder = Path(name)
        with Progress("MinHash", len(texts) * (rounds + 1) * len(sides), "measurement") as progress:
            for text, documents in texts.items():
                write_texts(folder / f"{text}.jsonl", documents)
                size = _texts.megabytes(documents)
                rates[text], peaks[text] = {side: [] for side in sides}, {}
                for number in range(rounds + 1):
                    for side in sides:
                        answer = _call("timed", side, folder / f"{text}.jsonl")
                        peaks[text][side] = answer["peak_bytes"]
                        if number:
                            rates[text][side].append(size / answer["seconds"])
                        progress.advance()
        quality = _quality(folder, sides)
    ratios = [
        ratio(text, OURS, side, by_side[OURS], by_side[side])
        for text, by_side in rates.items()
        for side in sides
        if side != OURS
    ]
    return {"unit": "MB/s", "rates": rates, "ratios": ratios, "peak_bytes": peaks, "quality": quality}


def _quality(folder: Path, sides: Sequence[str]) -> dict[str, Any]:
    """How many of the pairs that resemble each other each side finds, and how many of those found do."""
    texts = planted()
    write_texts(folder / "planted.jsonl", texts)
    sets = [set(shingles(text)) for text in texts]
    exact = {(n, n + 1): len(sets[n] & sets[n + 1]) / len(sets[n] | sets[n + 1]) for n in range(0, len(texts), 2)}
    true = {pair for pair, value in exact.items() if value >= SIMILARITY}
    expected = sum(1 - (1 - exact[pair] ** ROWS) ** BANDS for pair in true) / len(true)
    variance = sum(value * (1 - value) for value in exact.values()) / PERMUTATIONS / len(exact)
    quality: dict[str, Any] = {
        "documents": len(texts),
        "true_pairs": len(true),
        "in_theory": {"recall_of_bands": expected, "error": variance**0.5},
    }
    for side in sides:
        answer = _call("found", side, folder / "planted.jsonl")
        met, alike = ({(a, b) for a, b in answer[name]} for name in ("met", "alike"))
        quality[side] = {
            "recall_of_bands": len(met & true) / len(true),
            "recall": len(alike & true) / len(true),
            "precision": len(alike & true) / max(len(alike), 1),
            "error": rms(a - b for a, b in zip(answer["estimates"], exact.values(), strict=True)),
        }
    return quality


def rms(errors: Iterable[float]) -> float:
    """The root of the mean square."""
    return fmean(error**2 for error in errors) ** 0.5


def main() -> None:
    """A quick run over three megabytes of prose, two rounds; the table goes to stderr, the record to stdout."""
    record = measure({"prose": list(passages(_texts.named("prose", 3_000_000)))}, rounds=2)
    for text, by_side in record["rates"].items():
        for side, measured in by_side.items():
            found = record["quality"][side]
            say(f"{text}: {side:14} {median(measured):7.1f} MB/s, recall {found['recall']:.3f}, "
                f"of bands {found['recall_of_bands']:.3f}, precision {found['precision']:.3f}, "
                f"error {found['error']:.4f}")  # fmt: skip
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        if can_pin():
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        _task, _side, _path = sys.argv[1:]
        _digest = SIDES[_side]()
        _digest(["a few words that come before all others"])  # whatever is made at the first call
        print(json.dumps(TASKS[_task](list(read_texts(Path(_path))), _digest)))
