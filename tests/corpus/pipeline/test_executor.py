import errno
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from groundup.core.errors import DataError, StorageError
from groundup.corpus.pipeline.executor import Executor, InProcess, Processes, Task, Tell, executor_for

EXECUTORS = [InProcess(), Processes(2)]


class Write:
    """Writes the number of its task, and tells its size twice."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, task: Task, tell: Tell) -> None:
        tell(task.size)
        tell(task.size)
        (self.folder / task.name).write_text(str(task.number), encoding="utf-8")


class Fail:
    """Ends in the way that the task names."""

    def __call__(self, task: Task, tell: Tell) -> None:
        if task.what == "error":
            raise StorageError("no space left on the disk")
        if task.what == "system":
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", "/gone")
        if task.what == "memory":
            raise MemoryError
        if task.what == "bug":
            raise ZeroDivisionError("a bug")
        if task.what == "exit":
            os._exit(3)
        if task.what == "killed":
            os.kill(os.getpid(), signal.SIGKILL)


def tasks(*whats: object) -> Sequence[Task]:
    return [Task(number, f"part{number}", 10, what) for number, what in enumerate(whats)]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_every_task_is_done_and_its_size_told(executor: Executor, tmp_path: Path) -> None:
    told: list[int] = []
    executor.run(Write(tmp_path), tasks(*[None] * 7), told.append)
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"part{number}" for number in range(7)]
    assert sum(told) == 70


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize(
    ("what", "error", "words"),
    [
        ("error", StorageError, "no space left"),
        ("system", StorageError, "/gone: No such file or directory; finished shards are kept: run the same command"),
        ("memory", DataError, "no memory left while working on part1"),
    ],
)
def test_errors_come_back_as_they_are(executor: Executor, what: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        executor.run(Fail(), tasks(None, what), lambda amount: None)


def test_a_bug_comes_back_with_its_place() -> None:
    with pytest.raises(RuntimeError, match="part0: Traceback") as caught:
        Processes(2).run(Fail(), tasks("bug", None), lambda amount: None)
    assert "a bug" in str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no signals")
@pytest.mark.parametrize(
    ("what", "words"), [("killed", r"was killed \(signal 9\), probably for lack of memory"), ("exit", "exit code 3")]
)
def test_a_worker_that_dies_is_one_error_that_names_the_file(what: str, words: str) -> None:
    with pytest.raises(DataError, match=f"the worker that read part1 .*{words}.*fewer --corpus.workers"):
        Processes(2).run(Fail(), tasks(None, what), lambda amount: None)


def test_little_work_needs_no_processes() -> None:
    assert isinstance(executor_for(0, 1000), InProcess)
    assert executor_for(3, 1000) == Processes(3)
    assert isinstance(executor_for(1, 10**12), InProcess)
