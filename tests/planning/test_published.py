"""The simulation against published measurements; the table of the documentation is the one that is computed."""

import statistics
from pathlib import Path

import pytest

from groundup.planning.count import parameters
from tests.planning.published import KORTHIKANTI, MEGATRON_VOCABULARY, NARAYANAN, gpt, model_operations, rows, table

ROWS = rows()
#: Billions of parameters that the papers print, in the order of their tables.
SIZES = (1.7, 3.6, 7.5, 18.4, 39.1, 76.1, 145.6, 310.1, 529.6, 1008.0)


def test_the_figures_agree_with_each_other() -> None:
    """Sizes and utilisations as printed follow from the shapes and times as printed, so none was copied wrongly."""
    for (heads, width, layers, *_), size in zip(NARAYANAN, SIZES, strict=True):
        sinks = heads * layers
        total = parameters(gpt(heads, width, layers), MEGATRON_VOCABULARY).total - sinks
        assert total == pytest.approx(1e9 * size, rel=0.03)
    for heads, width, layers, pipeline, _, sequences, _, _, seconds, utilisation in KORTHIKANTI:
        useful = model_operations((heads, width, layers), sequences, 3)
        assert useful / (seconds * 8 * pipeline * 312e12) == pytest.approx(utilisation, abs=0.002)


def test_the_calibrated_rows_come_out() -> None:
    calibrated = [row for row in ROWS if row.calibrated]
    assert len(calibrated) == 2
    assert all(abs(row.error) < 0.005 for row in calibrated)


def test_predictions_are_near_what_was_measured() -> None:
    """Speed of sequences up to 32,768 tokens without a context dimension; memory of all that told it."""
    predicted = [row for row in ROWS if not row.calibrated and row.plan.mesh.context == 1]
    errors = [abs(row.error) for row in predicted]
    assert len(errors) >= 24
    assert statistics.median(errors) < 0.08
    assert max(errors) < 0.25
    assert max(abs(row.memory_error) for row in ROWS) < 0.2


def test_the_ring_is_told_too_fast() -> None:
    """What the documentation says of it stays true, or is rewritten."""
    errors = [row.error for row in ROWS if row.plan.mesh.context > 1]
    assert len(errors) == 6
    assert all(0.1 < error < 0.9 for error in errors)


def test_the_documentation_has_this_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "planning.md"
    assert table() in page.read_text(encoding="utf-8")
