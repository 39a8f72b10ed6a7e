"""The mesh: what can be divided, and its pipelines against a simulation of their schedules, event by event."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.errors import UsageError
from groundup.model import ModelConfig
from groundup.model.config import ExpertConfig
from groundup.planning.mesh import Mesh, Schedule

MODEL = ModelConfig(layers=8, width=64, heads=8, kv_heads=4, hidden=128, context=64)
EXPERTS = replace(MODEL, experts=ExpertConfig(6, hidden=32))


@pytest.mark.parametrize(
    ("mesh", "model", "complaint"),
    [
        (Mesh(data=2, tensor=2), MODEL, r"has 4 devices \(data 2 × tensor 2\), but there are 8"),
        (Mesh(), MODEL, r"has 1 devices \(one device\), but there are 8"),
        (Mesh(shard=2, tensor=4), replace(MODEL, heads=6, kv_heads=6, head_size=8), "6 heads cannot be divided"),
        (Mesh(tensor=8), MODEL, "4 key/value heads cannot be divided over a tensor dimension of 8"),
        (Mesh(shard=2, tensor=4), replace(MODEL, hidden=130), "130 feed-forward units"),
        (Mesh(shard=4, tensor=2), replace(EXPERTS, experts=ExpertConfig(6, hidden=33)), "33 units of an expert"),
        (Mesh(shard=4, tensor=2), replace(MODEL, context=63), "63 tokens of a sequence"),
        (Mesh(pipeline=8, schedule="interleaved", chunks=2, micro_batches=8), MODEL, "16 pipeline stages need as many"),
        (Mesh(expert=8), MODEL, "the model has no experts"),
        (Mesh(shard=2, expert=4), EXPERTS, "6 experts cannot be divided over 4"),
        (Mesh(context=8), replace(MODEL, context=72), "must be a multiple of 16"),
        (Mesh(tensor=8), replace(MODEL, kv_heads=8), "does not fit a node of 4"),
    ],
)
def test_what_cannot_be_divided_is_told_in_a_line(mesh: Mesh, model: ModelConfig, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint) as error:
        mesh.check(model, 8, 4 if "node" in complaint else None)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "values",
    [
        {"data": 0},
        {"chunks": 2},
        {"schedule": "interleaved"},
        {"schedule": "interleaved", "chunks": 2, "pipeline": 4, "micro_batches": 6},
    ],
)
def test_an_impossible_mesh_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=r"^parallel\."):
        Mesh(**values)  # type: ignore[arg-type]


def test_without_sequence_parallelism_any_number_of_tokens_goes() -> None:
    Mesh(tensor=2, sequence=False).check(replace(MODEL, context=63))


def test_neighbours_are_those_that_talk_most() -> None:
    mesh = Mesh(data=2, shard=3, tensor=4, pipeline=5, context=6, expert=7)
    strides = [mesh.stride(name) for name in ("tensor", "context", "expert", "shard", "data", "pipeline")]
    assert strides == [1, 4, 24, 168, 504, 1008]
    assert mesh.devices == 5 * 1008
    assert str(mesh) == "pipeline 5 × data 2 × shard 3 × expert 7 × context 6 × tensor 4"


@given(st.integers(1, 8), st.integers(1, 4), st.data())
def test_stages_are_even_and_hold_every_layer_once(pipeline: int, chunks: int, data: st.DataObject) -> None:
    layers = data.draw(st.integers(pipeline * chunks, 130))
    schedule: Schedule = "interleaved" if chunks > 1 else "1f1b"
    mesh = Mesh(pipeline=pipeline, chunks=chunks, schedule=schedule, micro_batches=pipeline)
    parts = [mesh.layers_of(rank, layers) for rank in range(pipeline)]
    in_order = [parts[rank][chunk] for chunk in range(chunks) for rank in range(pipeline)]
    assert [layer for part in in_order for layer in part] == list(range(layers))
    sizes = [len(part) for part in in_order]
    assert max(sizes) - min(sizes) <= 1
    if len(sizes) > 2:
        assert min(sizes) in (sizes[0], sizes[-1])


def test_stages_begin_where_they_are_told() -> None:
    mesh = Mesh(pipeline=2, chunks=2, schedule="interleaved", micro_batches=2, split=(1, 4, 5))
    mesh.check(replace(MODEL, layers=8))
    assert [mesh.layers_of(rank, 8) for rank in range(2)] == [[range(1), range(4, 5)], [range(1, 4), range(5, 8)]]


@pytest.mark.parametrize("split", [(0,), (8,), (1, 2), (-1,)])
def test_stages_that_do_not_hold_every_layer_are_refused(split: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="for 2 stages it must be 1 of the layers 1 to 7, in order"):
        Mesh(pipeline=2, micro_batches=2, split=split).check(replace(MODEL, layers=8))
    with pytest.raises(UsageError, match=r"parallel\.split is for a pipeline"):
        Mesh(split=split).check(MODEL)


@pytest.mark.parametrize(
    ("sizes", "complaint"),
    [
        ({"data": 2}, "has nothing to divide"),
        ({"data": 2, "shard": 2}, "shards over all 4 processes; give --parallel.shard 4"),
        ({"shard": 2, "tensor": 2}, "divides the state only; leave parallel.tensor out"),
    ],
)
def test_what_deepspeed_does_not_divide_is_refused(sizes: dict[str, int], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        Mesh(engine="deepspeed", **sizes).check(MODEL)


Work = tuple[str, int, int]


def work_of(mesh: Mesh, rank: int) -> Iterator[Work]:
    """Kind, chunk and micro-batch of a rank's work in the order in which the schedules' papers draw it.

    Kinds: F forward, B the gradients of what enters, W those of the weights, which only zero-bubble puts off.
    """
    stages, chunks, total = mesh.pipeline, mesh.chunks, mesh.micro_batches * mesh.chunks

    def unit(number: int) -> tuple[int, int]:
        if chunks == 1:
            return 0, number
        return number // stages % chunks, number // (stages * chunks) * stages + number % stages

    last = stages - rank - 1
    warm = {"gpipe": total, "interleaved": 2 * last + (chunks - 1) * stages}.get(mesh.schedule, last)
    warm, behind = min(warm, total), rank if mesh.schedule == "zero-bubble" else 0
    for number in range(warm):
        yield ("F", *unit(number))
    for number in range(total):
        if warm + number < total:
            yield ("F", *unit(warm + number))
        chunk, micro_batch = unit(number)
        yield ("B", chunks - 1 - chunk, micro_batch)
        if number >= behind:
            chunk, micro_batch = unit(number - behind)
            yield ("W", chunks - 1 - chunk, micro_batch)
    for number in range(total - min(behind, total), total):
        yield ("W", 0, number)


def simulated(mesh: Mesh, seconds: Mapping[str, int]) -> tuple[int, list[int]]:
    """Seconds until all is done, and the most chunks whose activations each rank had between F and W."""
    waiting = [list(work_of(mesh, rank)) for rank in range(mesh.pipeline)]
    free, held, most = ([0] * mesh.pipeline for _ in range(3))
    done: dict[Work, int] = {}
    while any(waiting):
        moved = False
        for rank, queue in enumerate(waiting):
            while queue:
                kind, chunk, micro_batch = queue[0]
                stage = chunk * mesh.pipeline + rank
                neighbour = {"F": stage - 1, "B": stage + 1}.get(kind, -1)
                needs = (kind, neighbour, micro_batch) if 0 <= neighbour < mesh.stages else None
                if needs and needs not in done:
                    break
                queue.pop(0)
                free[rank] = max(free[rank], done[needs] if needs else 0) + seconds[kind]
                done[kind, stage, micro_batch] = free[rank]
                held[rank] += {"F": 1, "B": 0, "W": -1}[kind]
                most[rank], moved = max(most[rank], held[rank]), True
        assert moved, "the schedule waits for itself"
    return max(free), most


@pytest.mark.parametrize("stages", [1, 2, 4, 5])
@pytest.mark.parametrize("rounds", [1, 2, 5])
@pytest.mark.parametrize(
    ("schedule", "chunks"), [("gpipe", 1), ("1f1b", 1), ("interleaved", 2), ("interleaved", 3), ("zero-bubble", 1)]
)
def test_bubble_and_memory_are_those_of_the_schedule(schedule: Schedule, chunks: int, rounds: int, stages: int) -> None:
    mesh = Mesh(pipeline=stages, schedule=schedule, chunks=chunks, micro_batches=rounds * stages)
    # Where W is not put off it follows its B, and the stage above waits for neither.
    seconds = {"F": 10, "B": 12, "W": 8} if schedule == "zero-bubble" else {"F": 10, "B": 20, "W": 0}
    total, held = simulated(mesh, seconds)
    busy = mesh.micro_batches * chunks * sum(seconds.values())
    forward, inputs, weights = (chunks * seconds[kind] for kind in "FBW")
    assert total - busy == pytest.approx(mesh.bubble(forward, inputs, weights))
    assert held == [mesh.in_flight(rank) for rank in range(stages)]


def test_the_zero_bubble_schedule_waits_a_third() -> None:
    mesh = Mesh(pipeline=4, schedule="zero-bubble", micro_batches=4)
    assert mesh.bubble(1, 1, 1) == 3
    assert replace(mesh, schedule="1f1b").bubble(1, 1, 1) == 9


@pytest.mark.parametrize("micro_batches", [1, 2, 3])
def test_with_few_micro_batches_the_bubble_is_not_told_too_small(micro_batches: int) -> None:
    mesh = Mesh(pipeline=4, schedule="zero-bubble", micro_batches=micro_batches)
    total, _ = simulated(mesh, {"F": 10, "B": 12, "W": 8})
    assert total - 30 * micro_batches <= mesh.bubble(10, 12, 8)
