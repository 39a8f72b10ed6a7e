"""Packing against a plain reading of its rows."""

from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.dataloader import IGNORED, pack

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
