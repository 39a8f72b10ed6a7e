"""The ranking: what is tried, what fits, in which order, and what is said of it."""

from dataclasses import replace

import pytest

from groundup.core.errors import UsageError
from groundup.model.presets import preset
from groundup.planning.machines import INTERCONNECTS, MACHINES
from groundup.planning.mesh import Mesh
from groundup.planning.parallel import Cluster, Job, Plan, Recompute, Simulator
from groundup.planning.plan import Training
from groundup.planning.search import (
    USABLE,
    as_json,
    described,
    explained,
    meshes,
    predict,
    rank,
    rank_of_batch,
    ranked_table,
    step_lines,
    variants,
)


def simulator(name: str, devices: int, device: str = "h100", context: int = 8192) -> Simulator:
    known, links = preset(name), INTERCONNECTS[device]
    cluster = Cluster(MACHINES[device], devices, links.per_node, links.inside, links.between)
    config = replace(known.config, context=context)
    return Simulator(Job(config, known.vocab_size, Training(1, muon=False, element=2)), cluster)


@pytest.mark.parametrize("name", ["llama-3-8b", "mixtral-8x7b"])
def test_every_plan_that_is_tried_is_possible_and_has_the_batch(name: str) -> None:
    simulated = simulator(name, 64)
    tried = list(meshes(simulated, 128))
    assert len({str(mesh) for mesh in tried}) == len(tried) > 20
    for mesh in tried:
        mesh.check(simulated.model, 64, 8)
        for plan in variants(mesh, simulated.model.layers, 128):
            plan.mesh.check(simulated.model, 64, 8)
            assert plan.batch == 128
    dimensions = ("data", "shard", "tensor", "pipeline")
    for dimension in (*dimensions, "expert") if name.startswith("mixtral") else dimensions:
        assert any(getattr(mesh, dimension) > 1 for mesh in tried)


def test_long_sequences_are_divided() -> None:
    assert not any(mesh.context > 1 for mesh in meshes(simulator("llama-3-8b", 8), 8))
    assert any(mesh.context == 8 for mesh in meshes(simulator("llama-3-8b", 8, context=131_072), 1))


def test_the_fastest_that_fits_is_the_first() -> None:
    simulated = simulator("llama-3-70b", 64)
    found = rank(simulated, 128)
    times = [each.step.total for each in found.fitting]
    assert times == sorted(times)
    assert found.too_large
    most = USABLE * 80e9
    assert all(each.bytes <= most for each in found.fitting)
    assert all(each.bytes > most for each in found.too_large)
    assert len(found.fitting) + len(found.too_large) == len([
        mesh for mesh in meshes(simulated, 128) if list(variants(mesh, 80, 128))
    ])  # fmt: skip
    # 70B do not fit one device: there is no plan of replicas alone, and no variant of the first mesh is faster.
    assert not any(each.plan.mesh.data == 64 for each in found.fitting)
    first = found.fitting[0]
    for plan in variants(replace(first.plan.mesh, schedule="1f1b", chunks=1, micro_batches=1), 80, 128):
        for recompute in ("none", "selective", "block"):
            other = predict(simulated, replace(plan, recompute=recompute))
            assert other.bytes > most or other.step.total >= first.step.total


@pytest.mark.parametrize("recompute", ["none", "selective", "block"])
def test_no_plan_is_one_that_is_refused(recompute: Recompute) -> None:
    """Zero-bubble does not go with selective recomputation."""
    simulated = simulator("llama-3-70b", 64)
    for found in (rank(simulated, 128), rank_of_batch(simulated, 128, 1, recompute)):
        plans = [each.plan for each in (*found.fitting, *found.too_large)]
        assert plans
        assert not any(plan.mesh.schedule == "zero-bubble" and plan.recompute == "selective" for plan in plans)


def test_slow_links_between_nodes_bring_the_weights_nearer() -> None:
    fast = simulator("llama-3-8b", 64)
    slow = Simulator(fast.job, replace(fast.cluster, between=1e9))
    first, second = rank(fast, 64).fitting[0], rank(slow, 64).fitting[0]
    assert second.step.total > first.step.total
    assert second.plan.mesh.shard <= 8 < first.plan.mesh.shard


def test_the_first_choice_is_explained() -> None:
    simulated = simulator("llama-3-70b", 64)
    found = rank(simulated, 128)
    said = explained(found, simulated)
    assert said.startswith(f"{found.fitting[0].plan.mesh}".capitalize() + " is the fastest: weights and")
    assert "847 GB in all" in said  # 70.6e9 · 12
    assert "The next, " in said
    assert said.count(". ") == 2
    shown = ranked_table(found, 3)
    assert max(map(len, shown.splitlines())) <= 80
    assert f"and {len(found.fitting) - 3} meshes more" in shown
    assert f"{len(found.too_large)} meshes do not fit the memory" in shown


def test_where_nothing_fits_the_smallest_is_told() -> None:
    simulated = simulator("llama-3.1-405b", 8)
    found = rank(simulated, 8)
    assert not found.fitting
    assert found.too_large[0].bytes == min(each.bytes for each in found.too_large)
    said = explained(found, simulated)
    assert said.startswith("No plan fits: ")
    assert "of 68 GB that a device of 80 GB has to give" in said


def test_one_device_waits_for_nothing() -> None:
    simulated = simulator("gpt2", 1, context=1024)
    found = rank(simulated, 8)
    [only] = found.fitting
    assert only.plan.mesh == replace(Mesh(), micro_batches=only.plan.mesh.micro_batches)
    said = explained(found, simulated)
    assert said.startswith("One device is the fastest")
    assert "waits for no message" in said


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    with pytest.raises(UsageError, match="steps of 7 sequences cannot be divided over 1,021 devices") as error:
        rank(simulator("llama-3-8b", 1021), 7)
    assert "\n" not in str(error.value)


def test_a_plan_in_words_and_for_programs() -> None:
    mesh = Mesh(shard=2, pipeline=4, schedule="interleaved", chunks=2, micro_batches=8, reshard=False)
    plan = Plan(mesh, 1, "block")
    assert described(plan) == "interleaved × 2, 8 micro-batches of 1 row, recompute block, ZeRO-2"
    assert described(Plan(Mesh(), 2)) == "1 micro-batch of 2 rows, no recomputation"
    simulated = simulator("llama-3-8b", 8)
    found = as_json(predict(simulated, plan), simulated)
    assert found["mesh"] == {"tensor": 1, "context": 1, "expert": 1, "shard": 2, "data": 1, "pipeline": 4}
    assert found["device_bytes"]["total"] == sum(
        size for part, size in found["device_bytes"].items() if part != "total"
    )
    seconds = found["step_seconds"]
    assert seconds["total"] == pytest.approx(sum(value for part, value in seconds.items() if part != "total"))
    assert found["tokens_per_second"] == pytest.approx(16 * 8192 / seconds["total"])
    assert found["bubble"] == seconds["bubble"] / seconds["total"]
    assert set(found["received_bytes"]) == {"shard", "pipeline"}
    lines = step_lines(predict(simulated, plan).step)
    assert len(lines) == len(seconds)


def test_a_training_keeps_its_batch() -> None:
    """What the recipe says of rows, accumulation and recomputation is what every ranked plan has."""
    simulated = simulator("llama-3-8b", 8)
    found = rank_of_batch(simulated, rows=8, accumulation=4, recompute="block")
    plans = [each.plan for each in (*found.fitting, *found.too_large)]
    assert len(plans) > 5
    for plan in plans:
        assert (plan.batch, plan.recompute) == (32, "block")
        assert plan.mesh.micro_batches % 4 == 0
        plan.mesh.check(simulated.model, 8, 8)
    times = [each.step.total for each in found.fitting]
    assert times == sorted(times)
    with pytest.raises(UsageError, match="micro-batches of 1 rows cannot be divided over 1,021 devices"):
        rank_of_batch(simulator("llama-3-8b", 1021), rows=1, accumulation=1, recompute="none")
