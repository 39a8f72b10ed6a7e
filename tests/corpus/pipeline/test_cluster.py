"""On a Ray cluster of several processes of this machine: the same bytes, and what goes wrong is told."""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from groundup.core.errors import DataError, StorageError, UsageError
from groundup.corpus.build import CorpusConfig, build, settings
from groundup.corpus.pipeline import cluster as module
from groundup.corpus.pipeline.cluster import Cluster, connected
from groundup.corpus.pipeline.executor import Task, Tell
from groundup.corpus.reading import ReadingConfig
from tests.corpus.pipeline.conftest import contents

STEPS = ("clean", "embedding", "exact-duplicates", "long-enough", "minhash", "near-duplicates")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two workers; the start takes seconds, so that all tests share it."""
    pytest.importorskip("ray", reason="groundup[ray] is not installed")
    with contextlib.ExitStack() as stack:
        try:
            started = stack.enter_context(connected("local", 2))
        except DataError as error:
            pytest.skip(str(error))
        yield started


class Fail:
    """Writes the number of its task, or ends in the way that the task names; ``once`` only at the first try."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, task: Task, tell: Tell) -> None:
        tried = self.folder / f"{task.name}-tried"
        before = tried.exists()
        tried.touch()
        if task.what == "error":
            raise StorageError("no space left on the disk")
        if task.what == "bug":
            raise ZeroDivisionError("a bug")
        if task.what == "killed" or (task.what == "killed once" and not before):
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        (self.folder / task.name).write_text(str(task.number), encoding="utf-8")


def tasks(*whats: object) -> list[Task]:
    return [Task(number, f"part{number}", 10, what) for number, what in enumerate(whats)]


def test_the_bytes_are_those_of_one_process_and_of_several(cluster: Cluster, rows: Path, tmp_path: Path) -> None:
    config = CorpusConfig(path=rows, steps=STEPS, workers=1, reading=ReadingConfig(shard_megabytes=0.03))
    build(config, tmp_path / "one", seed=1)
    build(replace(config, workers=2), tmp_path / "two", seed=1)
    build(replace(config, executor="ray", workers=0), tmp_path / "ray", seed=1)
    assert contents(tmp_path / "ray") == contents(tmp_path / "one") == contents(tmp_path / "two")
    assert not (tmp_path / "ray-shards").exists()
    assert b"same content" in (tmp_path / "ray" / "dropped.jsonl").read_bytes()


def test_a_worker_that_is_killed_costs_nothing_and_its_task_is_done_again(cluster: Cluster, tmp_path: Path) -> None:
    told: list[int] = []
    cluster.run(Fail(tmp_path), tasks(None, "killed once", None, None), told.append)
    assert all((tmp_path / f"part{number}").read_text(encoding="utf-8") == str(number) for number in range(4))
    assert told == [10] * 4


def test_errors_come_back_as_they_are_and_what_is_finished_stays(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no space left"):
        Cluster(cluster.ray, 1).run(Fail(tmp_path), tasks(None, "error", None), lambda amount: None)
    assert (tmp_path / "part0").exists() and not (tmp_path / "part2").exists()
    with pytest.raises(RuntimeError, match="part0: Traceback") as caught:
        cluster.run(Fail(tmp_path), tasks("bug"), lambda amount: None)
    assert "a bug" in str(caught.value)


def test_a_task_that_kills_every_worker_is_one_error_that_names_the_file(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRIES", 0)
    with pytest.raises(DataError, match=r"the worker that read part1 was lost.*run the same command again") as caught:
        cluster.run(Fail(tmp_path), tasks(None, "killed"), lambda amount: None)
    assert "\n" not in str(caught.value)


def test_another_version_on_a_machine_is_refused(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VERSION", "0.0.1")
    with pytest.raises(DataError, match=r"not 0\.0\.1; install the same on all"):
        cluster.run(Fail(tmp_path), tasks(None), lambda amount: None)


def test_without_the_package_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'groundup\[ray\]'"), connected("local", 1):
        pass


def test_an_address_where_nobody_answers_is_one_line_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="groundup[ray] is not installed")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # nobody listens there
        place = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(DataError, match=f"no Ray cluster answers at {place} .*ray-address"), connected(place):
            pass


def test_who_does_the_work_is_no_part_of_what_a_corpus_is() -> None:
    config = CorpusConfig(executor="ray", ray_address="there:6379", workers=9)
    assert settings(config) == settings(CorpusConfig())
