"""What some processes saved, others go on from: the same numbers, and the losses of one that never stopped.

And whatever happens to one of them while all save, the checkpoint before is there, and so is no half of a new one.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from groundup.core.errors import ArtifactError
from groundup.core.files import TEMPORARY_PREFIX
from groundup.training import find_checkpoint, load_model
from groundup.training.checkpoint import copy_whole, open_checkpoint, restore_weights
from tests.distributed import reshard
from tests.distributed.conftest import start

Together = Callable[..., Any]
PROCESSES = sorted(reshard.PLANS)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, together: Together) -> Path:
    """Trainings to the third step, under every plan."""
    folder = tmp_path_factory.mktemp("begun")
    reshard.main("begin", str(folder))
    for processes in PROCESSES[1:]:
        together(processes, "tests.distributed.reshard", "begin", str(folder))
    return folder


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    folder = tmp_path_factory.mktemp("whole")
    reshard.loop("auto", folder, stop=False).run()
    return reshard.losses(folder)


@pytest.mark.parametrize("processes", PROCESSES)
def test_any_plan_goes_on_from_any_other(
    processes: int, begun: Path, never_stopped: list[float], together: Together, capsys: pytest.CaptureFixture[str]
) -> None:
    if processes == 1:
        capsys.readouterr()
        reshard.main("go-on", str(begun))
        results = json.loads(capsys.readouterr().out)
    else:
        results = together(processes, "tests.distributed.reshard", "go-on", str(begun))
    assert len(results) == sum(map(len, reshard.PLANS.values())) * len(reshard.PLANS[processes])
    for name, found in results.items():
        assert found["equal"], name
        assert found["losses"] == pytest.approx(never_stopped, rel=2e-5), name


@pytest.mark.skipif("GROUNDUP_SLOW" not in os.environ, reason="takes many minutes: set GROUNDUP_SLOW=1")
def test_every_plan_goes_on_from_every_other(tmp_path: Path, never_stopped: list[float], together: Together) -> None:
    reshard.main("begin", str(tmp_path), "one")
    for processes, plans in reshard.MORE.items():
        together(processes, "tests.distributed.reshard", "begin", str(tmp_path), *plans)
    for processes, plans in reshard.MORE.items():
        found = together(processes, "tests.distributed.reshard", "go-on", str(tmp_path), *plans)
        for name, each in found.items():
            assert each["equal"], name
            assert each["losses"] == pytest.approx(never_stopped, rel=2e-5), name


@pytest.fixture
def sharded(begun: Path, tmp_path: Path) -> Path:
    """A folder of two checkpoints that two processes wrote together."""
    for step in (2, 3):
        shutil.copytree(begun / "shard" / "checkpoints" / "step-000003", tmp_path / f"step-{step:06d}")
    return tmp_path


def test_each_process_wrote_a_part(sharded: Path) -> None:
    files = [path for path in (sharded / "step-000003").iterdir() if path.suffix == ".safetensors"]
    assert sorted(path.name for path in files) == ["shard-00000.safetensors", "shard-00001.safetensors"]
    first, second = sorted(path.stat().st_size for path in files)
    assert second < 1.3 * first
    keys = [set(safe_open(path, framework="pt").keys()) for path in files]
    assert not keys[0] & keys[1]


def test_it_opens_like_any_other(sharded: Path, begun: Path, tmp_path: Path) -> None:
    folder = sharded / "step-000003"
    model, _ = load_model(folder)
    gathered, _ = load_model(begun / "shard, gathered" / "checkpoints" / "step-000003")
    for name, tensor in model.state_dict().items():
        assert tensor.equal(gathered.state_dict()[name]), name
    restore_weights(model, open_checkpoint(folder))
    copy_whole(folder, tmp_path / "whole")
    for name in ("model", "optimizer", "average"):
        file = f"{name}.safetensors"
        expected = begun / "shard, gathered" / "checkpoints" / "step-000003" / file
        assert (tmp_path / "whole" / file).read_bytes() == expected.read_bytes()
    assert load_model(tmp_path / "whole")[0].vocab_size == model.vocab_size


def test_the_last_checkpoint_is_whole(begun: Path, tmp_path: Path) -> None:
    shutil.copytree(begun / "one, sharded", tmp_path / "run")
    reshard.loop("on", tmp_path / "run", stop=False).run()
    last = open_checkpoint(tmp_path / "run" / "checkpoints" / "step-000006")
    assert not last.sharded
    assert sorted(path.name for path in last.folder.iterdir()) == sorted([*last.state["files"], "state.json"])


@pytest.mark.parametrize("damage", ["missing", "truncated", "changed", "another's", "index"])
def test_a_damaged_part_is_named_and_the_one_before_is_taken(sharded: Path, begun: Path, damage: str) -> None:
    name = "shards.json" if damage == "index" else "shard-00001.safetensors"
    path = sharded / "step-000003" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content[: len(content) // 2] if damage == "truncated" else content)
    if damage == "missing":
        path.unlink()
    if damage == "another's":
        shutil.copy(begun / "data" / "checkpoints" / "step-000003" / name, path)
    with pytest.raises(ArtifactError, match=name) as caught:
        open_checkpoint(path.parent)
    assert "\n" not in str(caught.value)
    found = find_checkpoint(sharded)
    assert found is not None
    assert found.folder.name == "step-000002"
    assert (sharded / "damaged-step-000003").is_dir()


@pytest.mark.parametrize(("kind", "rank"), [("writing", 1), ("writing", 0), ("listing", 0), ("naming", 0), ("full", 1)])
def test_whatever_happens_to_one_while_all_save(
    begun: Path, tmp_path: Path, never_stopped: list[float], kind: str, rank: int
) -> None:
    run = Path(shutil.copytree(begun / "shard", tmp_path / "run"))
    started = start(2, ["-m", "tests.distributed.reshard", "fault", str(run), kind, str(rank)])
    errors = [process.communicate()[1] for process in started]
    assert all(process.returncode != 0 for process in started), errors
    if kind == "full":
        assert all(f"StorageError: no space left on the disk while writing {run}" in each for each in errors), errors
        assert not list(run.rglob(f"{TEMPORARY_PREFIX}*"))
    else:
        assert started[rank].returncode == -9
        assert "LostError" in errors[1 - rank]
    found = find_checkpoint(run / "checkpoints")
    assert found is not None
    assert found.step == 3
    reshard.loop("auto", run, stop=False).run()
    assert reshard.losses(run) == pytest.approx(never_stopped, rel=2e-5)


def test_a_spike_takes_all_of_them_back(tmp_path: Path, together: Together) -> None:
    results = together(2, "tests.distributed.reshard", "spike", str(tmp_path))
    assert [each["rewinds"] for each in results.values()] == [1, 1]
    assert results["shard"]["losses"] == pytest.approx(results["one"]["losses"], rel=1e-4)
