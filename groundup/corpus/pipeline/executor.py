"""Where the work is done: in this process, or in several of this machine; ``cluster`` has one more class with ``run``.

Tasks enter; what they make lies on the disk when ``run`` returns. A task that is killed leaves nothing, and one that is
done is not done again, so whoever runs them need not remember anything.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from groundup.core.errors import DataError, GroundupError, StorageError

Tell = Callable[[int], None]

#: Seconds between two reports of a worker on how far it is.
INTERVAL = 0.25


@dataclass(frozen=True)
class Task:
    """A piece of work that needs no other one of its phase."""

    number: int
    name: str
    """For people: the file that it reads."""
    size: int
    """How much of the progress it is, in bytes."""
    what: Any = None
    """What ``Work`` needs to know beside the number; can be pickled."""


#: Does one task, and tells how many bytes it has done since it last told. Can be pickled.
Work = Callable[[Task, Tell], None]


class Executor(Protocol):
    """Does tasks in any order and any number at a time."""

    def run(self, work: Work, tasks: Sequence[Task], tell: Tell) -> None:
        """Return when all tasks are done.

        Raises:
            GroundupError: one failed; the message names it. What others have finished stays.
        """
        ...


class InProcess:
    """One task after the other, here."""

    def run(self, work: Work, tasks: Sequence[Task], tell: Tell) -> None:
        for task in tasks:
            do_task(work, task, tell)


def do_task(work: Work, task: Task, tell: Tell) -> None:
    """Do a task; it tells no more than its size, and by its end all of it.

    Raises:
        GroundupError: the machine has no memory left, or its files cannot be used; or what the task says itself.
    """
    told = 0

    def tell_some(amount: int) -> None:
        nonlocal told
        amount = min(amount, task.size - told)
        told += amount
        tell(amount)

    try:
        work(task, tell_some)
    except MemoryError as error:
        raise DataError(
            f"no memory left while working on {task.name}; lower --corpus.workers or --corpus.reading.max-megabytes"
        ) from error
    except ConnectionError:  # from telling: nobody is there any more
        raise
    except OSError as error:
        raise StorageError(
            f"{error.filename or task.name}: {error.strerror or error}; finished shards are kept: run the same command "
            "again"
        ) from error
    tell(task.size - told)


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    task: Task | None = None


@dataclass(frozen=True)
class Processes:
    """``count`` worker processes, each started afresh (no fork), each with one task at a time."""

    count: int

    def run(self, work: Work, tasks: Sequence[Task], tell: Tell) -> None:
        waiting = list(reversed(tasks))
        workers = [_start(work) for _ in range(min(self.count, len(tasks)))]
        try:
            for worker in workers:
                _give(worker, waiting)
            while busy := {worker.pipe: worker for worker in workers if worker.task is not None}:
                ready: list[Any] = wait(list(busy))
                for worker in map(busy.__getitem__, ready):
                    if (amount := _hear(worker)) is not None:
                        tell(amount)
                    else:
                        _give(worker, waiting)
        finally:
            for worker in workers:
                worker.pipe.close()
                worker.process.terminate()
            for worker in workers:
                worker.process.join()


def _start(work: Work) -> _Worker:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, work), daemon=True)
    with _deaf_to_interrupts():
        process.start()
    there.close()  # so that the worker's end is closed when the worker ends, however it ends
    return _Worker(process, here)


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """What is started meanwhile never hears Ctrl-C, not even before its first line; only a main thread can do this."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _give(worker: _Worker, waiting: list[Task]) -> None:
    """Give a worker its next task, if there is one."""
    worker.task = waiting.pop() if waiting else None
    if worker.task is not None:
        with contextlib.suppress(OSError):  # it is dead: that is heard when its answer is waited for
            worker.pipe.send(worker.task)


def _hear(worker: _Worker) -> int | None:
    """How much a worker has done since it last told; None: its task is done.

    Raises:
        GroundupError: the task failed, or the worker died.
    """
    assert worker.task is not None, "only a worker with a task is heard"
    try:
        message: int | BaseException | None = worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join()
        raise DataError(_obituary(worker.process.exitcode, worker.task.name)) from None
    if isinstance(message, BaseException):
        raise message
    return message


def _obituary(code: int | None, name: str) -> str:
    """Why a worker is no more, and what to do."""
    if code is not None and code < 0:
        cause = f"was killed (signal {-code})" + (", probably for lack of memory" if -code == signal.SIGKILL else "")
    else:
        cause = f"ended (exit code {code})"
    return (
        f"the worker that read {name} {cause}; finished shards are kept: run the same command again, with fewer "
        f"--corpus.workers or without that file"
    )


def _serve(pipe: Connection, work: Work) -> None:
    """The life of a worker: tasks come, reports go, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; who gave the work ends the others
    waiting, last = 0, time.monotonic()

    def tell(amount: int) -> None:
        nonlocal waiting, last
        waiting += amount
        if time.monotonic() - last > INTERVAL:
            pipe.send(waiting)  # fails when nobody is there any more: then this worker ends, too
            waiting, last = 0, time.monotonic()

    # EOFError and OSError: whoever gave the work has gone.
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            task = pipe.recv()
            try:
                do_task(work, task, tell)
                pipe.send(waiting)
                waiting, last = 0, time.monotonic()
                pipe.send(None)
            except (BrokenPipeError, ConnectionResetError):
                return
            except GroundupError as error:
                pipe.send(error)
            except Exception:
                pipe.send(RuntimeError(f"{task.name}: {traceback.format_exc()}"))


def executor_for(workers: int, size: int) -> Executor:
    """Where work of ``size`` bytes is done best: starting processes takes longer than a few megabytes of work.

    Args:
        workers: how many the user wants; 0: one for each core, as far as there is work for them.
    """
    count = workers or min(cores(), 1 + size // SMALL)
    return Processes(count) if count > 1 else InProcess()


#: Bytes of input for which one more process is worth its start.
SMALL = 8 << 20


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
