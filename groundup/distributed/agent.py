"""The processes of one machine, started and watched by PyTorch's elastic agent (what torchrun runs).

Enters: how many, where the machines meet, the command. Leaves: an exit code. When a process is killed, crashes or
hangs, all are started again and go on from the last checkpoint; an error that would only come again ends them.
"""

import logging
import os
import signal
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.rendezvous import RendezvousParameters
from torch.distributed.elastic.rendezvous.api import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousTimeoutError,
)
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from groundup.core import heartbeat
from groundup.core.errors import LostError, UsageError
from groundup.core.progress import say
from groundup.core.world import TIMEOUT
from groundup.distributed.watchdog import Watchdog, describe

if TYPE_CHECKING:
    from groundup.distributed.launch import LaunchOptions

#: How processes end that were used wrongly, or asked to end: none of it gets better by trying again.
FINAL = (UsageError.exit_code, 130, 128 + signal.SIGTERM)


def run_processes(options: "LaunchOptions", command: list[str], module: str = "groundup.cli") -> int:
    """Start them, see them to their end; the exit code of the one that failed first, or 0.

    Raises:
        UsageError: the machines do not meet.
        KeyboardInterrupt: the launcher was interrupted; all processes have ended.
    """
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # we tell what it would, in our words
    with tempfile.TemporaryDirectory(prefix="groundup-", ignore_cleanup_errors=True) as place:
        beats = Path(place) / "heartbeats"
        beats.mkdir()
        set_environment(options, beats)
        logs = DefaultLogsSpecs(options.logs or f"{place}/logs", **_redirected(options))
        agent = None
        try:
            spec = _specification(options, ["-m", module, *command])
            agent = _Agent(spec, logs, Watchdog(beats, options.timeout), options.timeout)
            result = agent.run()
        except SignalException as asked:
            for child in psutil.Process().children():  # asked before torch knew of them
                child.kill()
            if asked.sigval == signal.SIGINT:
                raise KeyboardInterrupt from asked
            return 128 + asked.sigval
        except RendezvousClosedError:
            say("groundup: another machine has ended this job; its output says why")
            return 1 if agent is None else agent.code or 1
        except RendezvousTimeoutError as error:
            raise UsageError(
                f"fewer than {options.nodes} machines came to {options.rendezvous} within {options.timeout} s; give "
                "the same command on each, and see that they reach that port"
            ) from error
        except RendezvousConnectionError as error:
            raise UsageError(
                f"{options.rendezvous} cannot be reached, or something else listens there; give --rendezvous a free "
                "port of one of these machines"
            ) from error
        spec.rdzv_handler.shutdown()
        return agent.code if result is not None and result.is_failed() else 0


def set_environment(options: "LaunchOptions", beats: Path) -> None:
    """What the processes that are started find in their environment."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // options.processes)))
    os.environ[TIMEOUT] = str(options.timeout)
    os.environ[heartbeat.FOLDER], os.environ[heartbeat.LAUNCHER] = str(beats), str(os.getpid())
    # PyTorch's flight recorder: of each process, the last collective operations. NCCL's ends a process that waited too
    # long by a signal and leaves the record in a file; on the processor (Gloo) the process writes it itself.
    os.environ.setdefault("TORCH_FR_BUFFER_SIZE", "200")
    os.environ.setdefault("TORCH_NCCL_DUMP_ON_TIMEOUT", "1")
    os.environ.setdefault("TORCH_FR_DUMP_TEMP_FILE", str(beats / "nccl_trace_"))
    if options.nodes > 1:
        # The processes' own store, made anew at each start: the launchers' would keep what an earlier one left, and
        # stay where it was when another machine becomes the first.
        os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"


def _redirected(options: "LaunchOptions") -> dict[str, Any]:
    """With --logs, what a process prints goes to its file as well."""
    return {"redirects": Std.ALL, "tee": Std.ALL} if options.logs else {}


def _specification(options: "LaunchOptions", arguments: list[str]) -> WorkerSpec:
    # On one machine the launcher meets itself in a private file: what it reads there it unpickles.
    alone = options.nodes == 1
    address = "127.0.0.1" if alone or options.host in ("127.0.0.1", "localhost") else None
    parameters = RendezvousParameters(
        backend="c10d",
        endpoint="" if alone else options.rendezvous,
        run_id=options.job or uuid.uuid4().hex,
        min_nodes=options.nodes,
        max_nodes=options.nodes,
        local_addr=address,
        **({"store_type": "file"} if alone else {"join_timeout": options.timeout}),
    )
    return WorkerSpec(
        role="groundup",
        local_world_size=options.processes,
        entrypoint=sys.executable,
        args=tuple(arguments),
        rdzv_handler=get_rendezvous_handler(parameters),
        max_restarts=options.restarts,
        monitor_interval=0.5,
        local_addr=address,
    )


class _Agent(LocalElasticAgent):
    """PyTorch's agent, which says why it starts the processes again, and does not where that is of no use."""

    def __init__(self, spec: WorkerSpec, logs: DefaultLogsSpecs, watchdog: Watchdog, patience: int) -> None:
        super().__init__(spec, logs, exit_barrier_timeout=patience)
        self.code = 0
        self._watchdog, self._patience = watchdog, patience

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        self._watchdog.reset()
        started: dict[int, Any] = super()._start_workers(worker_group)
        return started

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        pids = {worker.global_rank: worker.id for worker in worker_group.workers}
        for rank in self._watchdog.look(pids):  # before torch ends all because of one
            psutil.Process(pids[rank]).kill()
        result = super()._monitor_workers(worker_group)
        if result.state == WorkerState.FAILED:
            self._judge({rank: failure.exitcode for rank, failure in sorted(result.failures.items())})
        return result

    def _judge(self, codes: dict[int, int]) -> None:
        """Say what happened, and keep torch from trying again what can only fail again."""
        told = heartbeat.read(self._watchdog.folder)
        final = {
            rank: facts for rank, facts in told.items() if facts.get("code", LostError.exit_code) != LostError.exit_code
        }
        if final:  # each process has left its error to us; all have the same, or the first is the cause
            rank, facts = next(iter(final.items()))
            self.code, self._remaining_restarts = facts["code"], 0
            say("groundup: " + (f"process {rank}: " if rank else "") + facts["failure"])
            return
        causes = {rank: code for rank, code in codes.items() if code not in (LostError.exit_code, -signal.SIGTERM)}
        causes = {rank: code for rank, code in causes.items() if code not in FINAL} or causes
        rank, self.code = next(iter((causes or codes).items()))
        if self.code in FINAL:
            self._remaining_restarts = 0
            return
        place = told[rank]["place"] if rank in told else "the start"
        what = self._watchdog.finding or f"process {rank} {describe(self.code)} in {place}"
        if not causes:
            what = self._watchdog.finding or told.get(rank, {}).get("failure", "the processes lost each other")
        left, allowed = self._remaining_restarts, self._worker_group.spec.max_restarts
        again = f"restart {allowed - left + 1} of {allowed}, from the last checkpoint" if left else "no restart is left"
        say(f"groundup: {what}; {again}")
        if self.code < 0:
            self.code = 128 - self.code

    def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, timeout: int | None = None) -> None:
        """Have the processes end; where a signal asks for it, they may take their time to finish a step and save, until
        it is asked again."""
        try:
            super()._shutdown(death_sig, 30 if timeout is None else self._patience)
        except SignalException:
            for child in psutil.Process().children():  # torch would begin to wait once more
                child.kill()
            raise
