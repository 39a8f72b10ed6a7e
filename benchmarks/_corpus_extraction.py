"""The step ``extract`` beside the library behind it, called alone with the same options, but for what we leave out of
manuals: what our step costs on top.

``measure(…)`` is a part of ``benchmarks.corpus``. Work: pages of Debian's documentation packages (see ``mixed.py``).
Every measurement runs in a fresh process on one core; the sides take turns. Seconds are those of the processor.
"""

import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import OURS, _texts
from benchmarks._sides import ask, can_pin, read_texts, write_texts
from groundup.core.progress import say

BACKENDS = ("resiliparse", "trafilatura")
_LONGEST_SECONDS = 900

Extractor = Callable[[str], object]


def _ours(backend: Any) -> Extractor:
    from groundup.corpus.document import Document
    from groundup.corpus.extraction import Extract, ExtractConfig

    step = Extract(ExtractConfig(backend=backend))
    return lambda page: step(Document("pages.warc:1", "pages 1", "pages", page, {"kind": "html"}))


def _library(backend: str) -> Extractor:
    if backend == "trafilatura":
        from trafilatura import extract

        return lambda page: extract(page, include_comments=False)
    from resiliparse.extract.html2text import extract_plain_text

    return lambda page: extract_plain_text(page, main_content=True, preserve_formatting=True, alt_texts=False)


SIDES: Mapping[str, Callable[[str], Extractor]] = {OURS: _ours, "library": _library}


def _timed(pages: list[str], extract: Extractor) -> dict[str, Any]:
    gc.collect()
    began = time.process_time()
    for page in pages:
        extract(page)
    return {"seconds": time.process_time() - began}


def pages(of_each: int) -> list[str]:
    """So many pages of each of Debian's packages.

    Raises:
        UsageError: apt cannot bring a package.
    """
    from benchmarks.mixed import DEBIAN, pages_of

    return [data.decode("utf-8", "replace") for each in DEBIAN for _, data in islice(pages_of(each), of_each)]


def measure(of_each: int, rounds: int) -> dict[str, Any]:
    """MB/s of HTML of both sides, and ours / the library's seconds, by backend.

    Args:
        of_each: pages of each package; a tenth of them for trafilatura.
        rounds: times that the sides take turns; one more, untimed, goes before.
    """
    every = pages(of_each)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="groundup-benchmark-") as folder:
        for backend in BACKENDS:
            chosen = every if backend == "resiliparse" else every[::10]
            path, size = Path(folder) / f"{backend}.jsonl", _texts.megabytes(chosen)
            write_texts(path, chosen)
            seconds: dict[str, list[float]] = {side: [] for side in SIDES}
            for number in range(1 + rounds):
                for side, taken in seconds.items():
                    words = ["benchmarks._corpus_extraction", side, backend, str(path)]
                    answer = ask(words, {"OMP_NUM_THREADS": "1"}, _LONGEST_SECONDS)
                    if number:
                        taken.append(answer["seconds"])
            ratios = [ours / alone for ours, alone in zip(seconds[OURS], seconds["library"], strict=True)]
            results[backend] = {
                "pages": len(chosen),
                "megabytes": size,
                "sha256": _texts.digest(chosen),
                "rates": {side: [size / each for each in taken] for side, taken in seconds.items()},
                "time_to_library_alone": {"median": median(ratios), "min": min(ratios), "max": max(ratios)},
            }
            rate = median(results[backend]["rates"][OURS])
            overhead = " ".join(f"{100 * (ratio - 1):+.1f} %" for ratio in (median(ratios), min(ratios), max(ratios)))
            say(f"extract, {backend}: {rate:.1f} MB/s; against the library alone {overhead} (median, least, most)")
    return {"unit": "MB/s", "backends": results}


if __name__ == "__main__":
    if can_pin():
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    _side, _backend, _path = sys.argv[1:]
    _extract = SIDES[_side](_backend)
    _extract("<html><body><p>A few words that come before all others.</p></body></html>")  # made at the first call
    print(json.dumps(_timed(list(read_texts(Path(_path))), _extract)))
