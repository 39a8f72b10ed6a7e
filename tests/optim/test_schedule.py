"""The laws that every course of the learning rate and of the batch keeps, and its values in closed form."""

import math
from typing import Any, get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from groundup.core.errors import UsageError
from groundup.optim import ScheduleConfig
from groundup.optim.schedule import Kind, Unit

FALLING = ("warmup-stable-decay", "cosine", "linear")
share = st.floats(0, 1)


@st.composite
def schedules(draw: st.DrawFn, kinds: tuple[str, ...] = get_args(Kind)) -> ScheduleConfig:
    kind: Any = draw(st.sampled_from(kinds))
    warmup = draw(st.sampled_from([0.0, 0.02, 0.3, 1.0]) | share)
    warmup = max(warmup, 0.01) if kind == "inverse-sqrt" else warmup
    rewarm = draw(st.just(0.0) | st.floats(0.01, 0.9))
    decay = draw(share) * (1 - (rewarm or warmup)) * 0.999
    unit: Any = draw(st.sampled_from(get_args(Unit)))
    return ScheduleConfig(kind, warmup, decay, draw(share), rewarm, unit, draw(share))


@given(schedules(), st.integers(1, 200), st.integers(1, 9))
def test_rates_are_shares_that_rise_once_and_never_rise_again(
    schedule: ScheduleConfig, steps: int, accumulation: int
) -> None:
    factors = [schedule.factor(step, steps, accumulation) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    top = factors.index(max(factors))
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)


@given(schedules(), share, share)
def test_without_steps_it_is_continuous(schedule: ScheduleConfig, one: float, other: float) -> None:
    """Between two points it changes no faster than its steepest piece does."""
    rise = schedule.rewarm or schedule.warmup
    pieces = [rise, 1 - rise]
    if schedule.kind == "warmup-stable-decay":
        pieces.append(schedule.decay)
    assume(min(one, other) > 0 and min(pieces) > 1e-3)
    steepest = max(math.pi / 2 / piece for piece in pieces)
    assert abs(schedule.at(one, one) - schedule.at(other, other)) <= steepest * abs(one - other) + 1e-9


@given(schedules(FALLING))
def test_what_falls_ends_at_the_floor(schedule: ScheduleConfig) -> None:
    assume((schedule.rewarm or schedule.warmup) < 1 and schedule.decay > 1e-6)
    if schedule.kind != "warmup-stable-decay" or schedule.decay:
        assert schedule.at(1.0, 1.0) == pytest.approx(schedule.floor)


@given(schedules(), st.floats(0.001, 1))
def test_the_warm_up_is_a_straight_line(schedule: ScheduleConfig, through: float) -> None:
    rise = schedule.rewarm or schedule.warmup
    assume(rise > 1e-6)
    start = schedule.floor if schedule.rewarm else 0.0
    place = min(through * rise, 1.0)
    assume(place < 1 or schedule.kind == "constant")
    assert schedule.at(place, place) == pytest.approx(start + (1 - start) * place / rise)


@given(schedules(), st.integers(2, 300))
def test_every_step_is_its_share_of_the_run(schedule: ScheduleConfig, steps: int) -> None:
    if schedule.unit == "steps" or not schedule.batch_warmup:
        step = steps // 2
        assert schedule.factor(step, steps, 3) == pytest.approx(schedule.at(step / steps, (step + 1) / steps))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (ScheduleConfig(warmup=0.1, decay=0.4), {0: 0.1, 4: 0.5, 9: 1, 10: 1, 59: 1, 60: 1, 80: 0.5, 99: 1 / 40}),
        (ScheduleConfig(warmup=0.1, decay=0.4, floor=0.2), {0: 0.1, 60: 1, 80: 0.6, 99: 0.2 + 0.8 / 40}),
        (ScheduleConfig("cosine", 0.2), {9: 0.5, 19: 1, 20: 1, 60: 0.5, 80: (1 - math.sqrt(0.5)) / 2}),
        (ScheduleConfig("cosine", 0.0, floor=0.1), {0: 1, 50: 0.55}),
        (ScheduleConfig("linear", 0.5), {24: 0.5, 49: 1, 50: 1, 75: 0.5, 99: 0.02}),
        (ScheduleConfig("inverse-sqrt", 0.04), {1: 0.5, 3: 1, 4: 1, 16: 0.5, 64: 0.25}),
        (ScheduleConfig("inverse-sqrt", 0.04, floor=0.4), {16: 0.5, 64: 0.4}),
        (ScheduleConfig("constant", 0.1), {0: 0.1, 9: 1, 99: 1}),
        (ScheduleConfig("cosine", floor=0.1, rewarm=0.1), {0: 0.19, 4: 0.55, 9: 1, 55: 0.55}),
        (ScheduleConfig(warmup=0.0, decay=0.0), {0: 1, 99: 1}),
    ],
)
def test_the_rate_at_known_steps(schedule: ScheduleConfig, expected: dict[int, float]) -> None:
    assert {step: pytest.approx(schedule.factor(step, 100)) for step in expected} == expected


def test_a_run_of_one_step_has_the_full_rate() -> None:
    assert all(ScheduleConfig(kind).factor(0, 1) == 1.0 for kind in get_args(Kind))


@given(share, st.integers(1, 200), st.integers(1, 20))
def test_the_batch_grows_from_one_micro_batch_to_all(warmup: float, steps: int, accumulation: int) -> None:
    schedule = ScheduleConfig(batch_warmup=warmup)
    counts = [schedule.accumulation_at(step, steps, accumulation) for step in range(steps)]
    assert counts == sorted(counts) and counts[0] >= 1 and counts[-1] == accumulation
    assert all(count == accumulation for count in counts[math.ceil(warmup * steps) :])
    if warmup == 0:
        assert counts[0] == accumulation


def test_each_size_of_the_batch_is_held_as_long() -> None:
    schedule = ScheduleConfig(batch_warmup=0.5)
    counts = [schedule.accumulation_at(step, 24, 4) for step in range(24)]
    assert counts == [1] * 3 + [2] * 3 + [3] * 3 + [4] * 15


def test_tokens_count_what_was_seen() -> None:
    """While the batch is small, little of the run passes with a step."""
    schedule = ScheduleConfig("linear", 0.0, unit="tokens", batch_warmup=0.5)
    seen = [0, 1, 3, 6, 10, 14, 18, 22, 26]  # micro-batches before each step
    for step in range(8):
        assert schedule.factor(step, 8, 4) == pytest.approx(1 - seen[step] / 26)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"warmup": -0.1}, "schedule.warmup is -0.1"),
        ({"decay": 1.1}, "schedule.decay is 1.1"),
        ({"floor": 2.0}, "schedule.floor is 2.0"),
        ({"batch_warmup": 1.5}, "schedule.batch-warmup is 1.5"),
        ({"warmup": 0.6, "decay": 0.5}, "schedule.warmup 0.6 and schedule.decay 0.5 must add up to at most 1"),
        ({"rewarm": 0.6, "decay": 0.5}, "schedule.rewarm 0.6 and schedule.decay 0.5"),
        ({"kind": "inverse-sqrt", "warmup": 0.0}, "schedule.warmup is 0"),
        ({"kind": "step"}, "schedule.kind is 'step'; it must be one of warmup-stable-decay, cosine"),
        ({"unit": "bytes"}, "schedule.unit is 'bytes'"),
    ],
)
def test_impossible_schedules_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        ScheduleConfig(**options)
    assert words in str(caught.value)
