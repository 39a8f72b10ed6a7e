"""Packing against a plain reading of its rows."""

from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.dataloader import IGNORED, pack
from groundup.dataloader.packing import best_fit_decreasing

SEQUENCES = st.lists(st.tuples(st.integers(0, 99), st.booleans()), min_size=2, max_size=7)
PADDING = 999


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.lists(SEQUENCES, max_size=4), min_size=1, max_size=3), spare=st.integers(0, 3))
def test_packed_rows_hold_every_sequence_and_nothing_else(rows: list[list[list[tuple[int, bool]]]], spare: int) -> None:
    time = max(1, max(sum(len(sequence) - 1 for sequence in row) for row in rows) + spare)
    masked = [[([i for i, _ in sequence], [m for _, m in sequence]) for sequence in row] for row in rows]
    packed = pack(masked, time, PADDING)
    assert {name: tuple(tensor.shape) for name, tensor in packed.items()} == dict.fromkeys(
        ("inputs", "targets", "positions", "segments"), (len(rows), time)
    )
    for number, row in enumerate(rows):
        inputs, targets, positions, segments = [], [], [], []
        for segment, sequence in enumerate(row):
            for place in range(len(sequence) - 1):
                following, learn = sequence[place + 1]
                inputs.append(sequence[place][0])
                targets.append(following if learn else IGNORED)
                positions.append(place)
                segments.append(segment)
        empty = time - len(inputs)
        assert packed["inputs"][number].tolist() == inputs + [PADDING] * empty
        assert packed["targets"][number].tolist() == targets + [IGNORED] * empty
        assert packed["positions"][number].tolist() == positions + [0] * empty
        assert packed["segments"][number].tolist() == segments + [-1] * empty


def plain_best_fit_decreasing(lengths: list[int], room: int) -> list[list[int]]:
    """By looking at every bin."""
    bins: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        lefts = [room - sum(lengths[held] for held in each) for each in bins]
        fitting = [left for left in lefts if left >= lengths[index]]
        if fitting:
            best = max(number for number, left in enumerate(lefts) if left == min(fitting))
            bins[best].append(index)
        else:
            bins.append([index])
    return bins


LENGTHS = st.integers(1, 60).flatmap(lambda room: st.tuples(st.lists(st.integers(1, room), max_size=40), st.just(room)))


@given(LENGTHS)
def test_best_fit_decreasing_is_the_plain_one(case: tuple[list[int], int]) -> None:
    lengths, room = case
    ours, plain = best_fit_decreasing(lengths, room), plain_best_fit_decreasing(lengths, room)
    loads = [sorted(sum(lengths[index] for index in each) for each in bins) for bins in (ours, plain)]
    assert loads[0] == loads[1]  # among equally full bins either may take any
    assert sorted(index for each in ours for index in each) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in each) <= room for each in ours)


def test_long_ones_go_first_and_into_the_fullest_bin() -> None:
    assert best_fit_decreasing([2, 7, 3, 6, 1], 10) == [[1, 2], [3, 0, 4]]
    assert best_fit_decreasing([10, 10], 10) == [[0], [1]]
    assert best_fit_decreasing([], 10) == []
