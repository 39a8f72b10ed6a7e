"""A log is read while it grows, whatever happens to it, in bounded memory."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.errors import ArtifactError
from groundup.monitor.records import POINTS, Curve, MetricsLog, Run, smoothed


def read(path: Path) -> MetricsLog:
    log = MetricsLog(path)
    log.update()
    return log


def points(log: MetricsLog, name: str = "loss") -> list[tuple[float, float]]:
    return [(bucket.step, bucket.mean) for bucket in log.curves[name].buckets]


def lines(*steps: int) -> str:
    return "".join(f'{{"step": {step}, "loss": {step * 1.5}}}\n' for step in steps)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=4 * POINTS))
def test_a_curve_keeps_mean_range_and_ends(values: list[float]) -> None:
    curve = Curve()
    for step, value in enumerate(values):
        curve.add(step, value)
    buckets = curve.buckets
    assert len(buckets) <= 2 * POINTS
    assert sum(bucket.count for bucket in buckets) == len(values)
    assert sum(bucket.total for bucket in buckets) == pytest.approx(sum(values), abs=1e-3)
    assert (min(b.low for b in buckets), max(b.high for b in buckets)) == (min(values), max(values))
    assert (buckets[0].first, buckets[-1].last) == (0, len(values) - 1)
    assert all(left.last < right.first for left, right in pairwise(buckets))


def test_a_long_curve_is_merged_evenly() -> None:
    curve = Curve()
    for step in range(50_000):
        curve.add(step, float(step))
    assert POINTS < len(curve.buckets) <= 2 * POINTS
    assert len({bucket.count for bucket in curve.buckets[:-1]}) == 1
    assert all(bucket.mean == bucket.step for bucket in curve.buckets)


def test_a_log_is_read_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = read(path)
    assert (log.curves, log.step) == ({}, 0)
    path.write_text(lines(1, 2), encoding="utf-8")
    log.update()
    with path.open("a", encoding="utf-8") as handle:
        handle.write('{"step": 3, "lo')
        handle.flush()
        log.update()
        assert log.step == 2
        handle.write('ss": 4.5}\n')
    log.update()
    assert points(log) == [(1, 1.5), (2, 3.0), (3, 4.5)]
    assert log.damaged == 0


def test_damaged_lines_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    bad = b'\xff\xfe\n[1]\n{"loss": 1}\n{"step": "2"}\n' + b"[" * 100_000 + b"\n"
    path.write_bytes(lines(1).encode() + bad + lines(2).encode())
    log = read(path)
    assert points(log) == [(1, 1.5), (2, 3.0)]
    assert log.damaged == 5


def test_what_is_no_finite_number_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": NaN, "a": true, "b": "x", "c": null, "d": 2}\n', encoding="utf-8")
    assert list(read(path).curves) == ["d"]


def test_steps_that_are_taken_again_replace_the_earlier_ones(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines(1, 2, 3) + '{"step": 4, "skipped": 1}\n{"step": 2, "loss": 7.0}\n', encoding="utf-8")
    log = read(path)
    assert points(log) == [(1, 1.5), (2, 7.0)]
    assert log.skipped == []
    assert log.step == 2


@pytest.mark.parametrize("again", [lines(1, 2), lines(1, 2, 3, 4, 5), lines(1, 2).replace("1.5", "2.5")])
def test_a_log_that_was_replaced_is_read_from_its_beginning(again: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines(1, 2, 3), encoding="utf-8")
    log = read(path)
    other = tmp_path / "other"
    other.write_text(again, encoding="utf-8")
    other.replace(path)
    log.update()
    assert points(log) == points(read(path))


def test_a_log_that_was_cut_in_place_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines(1, 2, 3), encoding="utf-8")
    log = read(path)
    path.write_text(lines(9, 8, 7, 6, 5), encoding="utf-8")  # longer than before
    log.update()
    assert points(log) == points(read(path))


def test_the_state_of_each_stage(run: Callable[[], Run], out: Path) -> None:
    assert [stage.state for stage in run().stages] == ["done", "interrupted", "not yet"]
    pretrain = run().stages[1]
    assert (pretrain.planned, pretrain.log.step) == (100, 40)
    assert [stage.name for stage in run().trained] == ["pretrain"]


def test_the_time_that_is_left(run: Callable[[], Run], at_work: Path) -> None:
    pretrain = run().stages[1]
    assert pretrain.state == "running"
    assert pretrain.remaining == pytest.approx(30.0)  # 40 of 100 steps took 20 seconds


def test_odd_files_do_not_stop_it(run: Callable[[], Run], out: Path) -> None:
    (out / "recipe.toml").write_bytes(b"\xff = [")
    (out / "doctor.json").write_text("{", encoding="utf-8")
    (out / "pretrain" / "model.json").write_text("{", encoding="utf-8")
    with (out / "pretrain" / "events.jsonl").open("a", encoding="utf-8") as handle:
        handle.write('{"event": "no step"}\n{"step": 31, "ev')
    found = run()
    assert found.findings == []
    assert [event["step"] for event in found.stages[1].events] == [0, 30]


def test_a_damaged_manifest_is_named(run: Callable[[], Run], out: Path) -> None:
    (out / "corpus" / "manifest.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"manifest\.json was not written by a run"):
        run()


@pytest.mark.parametrize("said", [[{"what": "a"}, 3], {"findings": [{"what": "a"}]}])
def test_what_the_doctor_said(said: object, run: Callable[[], Run], out: Path) -> None:
    (out / "doctor.json").write_text(json.dumps(said), encoding="utf-8")
    assert run().findings == [{"what": "a"}]


def test_smoothing() -> None:
    assert smoothed([3.0, 3.0, 3.0], 0.9) == pytest.approx([3.0, 3.0, 3.0])
    assert smoothed([0.0, 3.0], 0.5) == pytest.approx([0.0, 2.0])
    assert smoothed([], 0.5) == []
