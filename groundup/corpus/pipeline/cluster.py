"""The same pipeline on a Ray cluster: tasks enter, go to whichever machine is free, and leave files.

What a task reads and what it makes are files of a file system that all machines share, whole or absent; nothing but the
task and "done" travels. So these are plain tasks of Ray, no data set of Ray Data. That was tried, and runs the same
tasks; but its blocks of rows, which stream from operator to operator, would carry nothing here, while it makes the
tasks into Arrow rows and back, needs pandas, writes on the terminal, and hides a step's error in its own. What it would
give are Ray's tasks: work goes to machines that come and go, and is done again where a worker or a machine is lost.
Back-pressure is that no more tasks are handed over than ``AHEAD`` for each processor.

Ray is optional: ``groundup[ray]``. Without an address a cluster of this machine alone is started, on the loopback
interface, for as long as the command runs.
"""

import contextlib
import logging
import os
import pickle
import re
import socket
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from groundup.core.errors import DataError, GroundupError, UsageError
from groundup.core.version import VERSION
from groundup.corpus.pipeline.executor import Task, Tell, Work, cores, do_task

#: How often a task is tried again whose worker or machine was lost.
RETRIES = 3
#: Tasks that are handed over for each processor.
AHEAD = 2
#: Bytes of memory for what tasks send each other, which is next to nothing; the least that Ray takes is 75 MB.
OBJECT_STORE = 128 << 20
#: Nothing is reported to Ray's makers, and accelerators are not its business.
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
#: A cluster of one machine listens on the loopback interface only: Ray's own way on Windows and macOS.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
LOCAL = "local"
#: Seconds in which a cluster's head must answer; Ray itself tries for minutes.
ANSWER = 20.0


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that this process is connected with; at most ``count`` tasks at a time, 0: what it has room for."""

    ray: Any
    count: int = 0

    def run(self, work: Work, tasks: Sequence[Task], tell: Tell) -> None:
        packed = pickle.dumps(work)
        remote = self.ray.remote(_do).options(num_cpus=1, max_retries=RETRIES)
        waiting, running = list(reversed(tasks)), dict[Any, Task]()
        try:
            while waiting or running:
                while waiting and len(running) < self._room():
                    task = waiting.pop()
                    running[remote.remote(VERSION, packed, task)] = task
                [done], _ = self.ray.wait(list(running), num_returns=1)
                task = running.pop(done)
                self._hear(done, task)
                tell(task.size)
        finally:
            for left in running:
                with contextlib.suppress(Exception):  # a cluster that is gone has nothing left to stop
                    self.ray.cancel(left, force=True)

    def _room(self) -> int:
        return self.count or AHEAD * max(1, int(self.ray.cluster_resources().get("CPU", 1)))

    def _hear(self, done: Any, task: Task) -> None:
        """Nothing, if the task is done.

        Raises:
            GroundupError: it failed, or its worker was lost more often than it is tried again.
        """
        try:
            answer: BaseException | None = self.ray.get(done)
        except self.ray.exceptions.RayError as error:
            raise DataError(
                f"the worker that read {task.name} was lost, and again when that was retried ({_first_line(error)}); "
                "finished shards are kept: run the same command again, with fewer --corpus.workers or without that file"
            ) from error
        if answer is not None:
            raise answer


def _do(version: str, packed: bytes, task: Task) -> BaseException | None:
    """One task, on any machine of the cluster; what went wrong with it."""
    if version != VERSION:
        return DataError(f"a machine of the cluster has groundup {VERSION}, not {version}; install the same on all")
    try:
        do_task(_unpacked(packed), task, lambda amount: None)
    except GroundupError as error:
        return error
    except Exception:
        return RuntimeError(f"{task.name}: {traceback.format_exc()}")
    return None


@lru_cache(maxsize=1)
def _unpacked(packed: bytes) -> Work:
    """The work of a phase, which keeps its steps from task to task."""
    work: Work = pickle.loads(packed)  # from the process that gave the task, never from a disk
    return work


@contextlib.contextmanager
def connected(address: str = "", count: int = 0) -> Iterator[Cluster]:
    """A cluster for as long as the context lasts; one that this process was connected with before stays.

    Args:
        address: of the cluster's head, as ``ray.init`` takes it; empty: that of ``RAY_ADDRESS``, else one of this
            machine alone is started.
        count: tasks at a time; 0: as many as the cluster has room for, on this machine alone one for each core.

    Raises:
        UsageError: Ray is not installed.
        DataError: no such cluster answers, or none can be started.
    """
    place = address or os.environ.get("RAY_ADDRESS") or LOCAL
    for name, value in (SETTINGS | (LOOPBACK if place == LOCAL else {})).items():
        os.environ.setdefault(name, value)  # Ray reads them when it is imported
    try:
        import ray
    except ImportError as error:
        raise UsageError("corpus.executor ray needs its package; pip install 'groundup[ray]'") from error
    if ray.is_initialized():
        yield Cluster(ray, count)
        return
    own: dict[str, Any] = {}
    if place == LOCAL:
        own = {"num_cpus": count or cores(), "object_store_memory": OBJECT_STORE, "include_dashboard": False}
    try:
        if head := re.fullmatch(r"\[?([^/]+?)\]?:(\d+)", place):
            socket.create_connection((head[1], int(head[2])), timeout=ANSWER).close()
        ray.init(place, **own, log_to_driver=False, logging_level=logging.CRITICAL)
    except Exception as error:  # of many kinds: no such host, another version, no memory for its files
        what = "Ray cannot be started here" if place == LOCAL else f"no Ray cluster answers at {place}"
        raise DataError(
            f"{what} ({_first_line(error)}); give another --corpus.ray-address, or --corpus.executor processes"
        ) from error
    try:
        yield Cluster(ray, count)
    finally:
        ray.shutdown()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
