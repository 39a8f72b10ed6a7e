"""The documents that nobody wrote: what is planted in them is there; and the estimate adds up."""

import numpy as np
import pytest

from benchmarks._corpus_scaling import EXACT, NEAR, PERIOD, contents
from benchmarks.estimate import Snapshot, estimate


def shingles(row: list[int], ngram: int = 5) -> set[tuple[int, ...]]:
    return {tuple(row[place : place + ngram]) for place in range(len(row) - ngram + 1)}


def test_a_document_is_a_function_of_its_number() -> None:
    whole, *_ = contents(0, 400)
    parts = [row for first in range(0, 400, 100) for row in contents(first, 100)[0]]
    assert whole == parts


def test_what_is_planted_is_there() -> None:
    rows, resemblances, _ = contents(0, 2000)
    originals = rows[::PERIOD]
    assert all(row in originals for row in rows[EXACT::PERIOD])
    known = [shingles(row) for row in originals]
    nearest = []
    for row in rows[NEAR::PERIOD]:
        mine = shingles(row)
        nearest.append(max(len(mine & other) / len(mine | other) for other in known))
    assert nearest == pytest.approx(resemblances.tolist(), abs=1e-9)
    assert max(nearest) < 1
    others = [row for number, row in enumerate(rows) if number % PERIOD not in (EXACT, NEAR)]
    assert len({tuple(row) for row in others}) == len(others)


def test_documents_have_the_lengths_and_the_frequencies_of_prose() -> None:
    rows, *_ = contents(0, 2000)
    lengths = [len(row) for row in rows]
    assert (min(lengths), max(lengths)) == (60, 120)
    counts = np.sort(np.bincount(np.concatenate(rows)))[::-1]
    assert 0.01 < counts[0] / counts.sum() < 0.1
    assert np.count_nonzero(counts == 1) > 1000


def test_an_estimate_for_our_own_pages_is_what_they_took() -> None:
    """For a snapshot that is as large as what was measured, the core-hours are those that were measured."""
    steps = [
        {"step": "read", "documents_in": 100, "documents_out": 100, "bytes_in": 2**40, "bytes_out": 2**40},
        {"step": "extract", "documents_in": 100, "documents_out": 90, "bytes_in": 2**40, "bytes_out": 1000},
        {"step": "language", "documents_in": 90, "documents_out": 45, "bytes_in": 1000, "bytes_out": 500},
        {"step": "exact duplicates", "documents_in": 45, "documents_out": 40, "bytes_in": 500, "bytes_out": 400},
    ]
    seconds = {"read": 3600.0, "extract": 7200.0, "language": 3600.0, "exact duplicates": 0.0}
    web = {"steps": steps, "processor_seconds_of_steps": seconds, "processor_seconds": 18000.0}
    largest = {"disk_peak_bytes": 300, "planted": {"bytes": 100}}
    snapshot = Snapshot(pages=100, tebibytes=1, text_bytes=10, cores=2, price=3.0)
    result = estimate(snapshot, web, largest)
    assert result["core_hours"] == pytest.approx(5.0)
    assert result["hours"] == pytest.approx(2.5)
    assert result["price"] == pytest.approx(15.0)
    assert result["kept_documents"] == pytest.approx(40)
    assert result["kept_terabytes"] == pytest.approx(400e-12)
    assert result["disk_terabytes"] == pytest.approx(3 * 500e-12)
