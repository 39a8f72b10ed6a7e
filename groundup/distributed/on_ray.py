"""``groundup launch --ray``: the processes as actors of a Ray cluster, for those whose machines are managed by Ray.

Enters: where the cluster is, how many processes, the command. Leaves: an exit code. Each actor holds one accelerator,
if the cluster has any, or one core, and runs the command with the variables that torchrun would set; from there on
everything is as elsewhere. (Ray Train's TorchTrainer runs a Python function inside of its own worker and keeps
checkpoints of its own; our command needs neither, and Ray's core does without pandas.)
"""

import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from groundup.core import heartbeat
from groundup.core.errors import LostError, UsageError
from groundup.core.progress import say
from groundup.core.world import TIMEOUT
from groundup.distributed.watchdog import describe

if TYPE_CHECKING:
    from groundup.distributed.launch import LaunchOptions


class _Place:
    """One process, where Ray has room for it."""

    def address(self) -> tuple[str, int]:
        """Of this machine, and a port that is free there."""
        import ray

        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), probe.getsockname()[1]

    def run(self, arguments: list[str], variables: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """The command's exit code, and what it told last."""
        folder = Path(tempfile.mkdtemp(prefix="groundup-"))
        own = {heartbeat.FOLDER: str(folder), heartbeat.LAUNCHER: str(os.getpid())}  # it ends when this actor does
        try:
            self.process = subprocess.Popen([sys.executable, *arguments], env={**os.environ, **variables, **own})
            code = self.process.wait()
            return code, next(iter(heartbeat.read(folder).values()), {})
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def stop(self) -> None:
        """Ask the process to save and end."""
        self.process.terminate()


def run_on_ray(options: "LaunchOptions", command: list[str], module: str = "groundup.cli") -> int:
    """Start the processes on the cluster, see them to their end; the exit code of the one that failed first, or 0.

    Raises:
        UsageError: Ray is not installed, the cluster is not there or has too little room.
        KeyboardInterrupt: asked to end; all processes have saved and ended.
    """
    try:
        import ray
    except ImportError as error:
        raise UsageError("--ray needs Ray; install it with `pip install 'groundup[ray]'`") from error
    if not options.nproc:
        raise UsageError("--ray needs --nproc, the number of processes in the whole cluster")
    local = options.ray == "local"
    try:
        ray.init(
            address="local" if local else options.ray,
            num_cpus=options.nproc if local else None,
            include_dashboard=False if local else None,
            log_to_driver=True,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # Ray raises just that where one of its parts does not start in time
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"no Ray cluster answers at {options.ray} ({reason}); `ray status` shows what there is"
        ) from error
    try:
        return _run(options, ["-m", module, *command])
    finally:
        ray.shutdown()


def _run(options: "LaunchOptions", arguments: list[str]) -> int:
    import ray
    from ray.util.placement_group import placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    kind = "GPU" if ray.cluster_resources().get("GPU") else "CPU"
    room = placement_group([{kind: 1.0}] * options.nproc)  # machine by machine, as far as there is room
    if not room.wait(options.timeout):
        have = int(ray.cluster_resources().get(kind, 0))
        raise UsageError(
            f"the cluster has no room for {options.nproc} processes of one {kind} each; it has {have} in all"
        )
    for start in range(options.restarts + 1):
        actor: Any = ray.remote(_Place)
        wants: dict[str, Any] = {"num_gpus": 1, "num_cpus": 0} if kind == "GPU" else {"num_cpus": 1}
        places: list[Any] = [
            actor.options(
                **wants,
                max_concurrency=2,  # it must hear `stop` while it runs
                scheduling_strategy=PlacementGroupSchedulingStrategy(room, placement_group_bundle_index=rank),
            ).remote()
            for rank in range(options.nproc)
        ]
        address, port = ray.get(places[0].address.remote())
        shared = {"MASTER_ADDR": address, "MASTER_PORT": str(port), "WORLD_SIZE": str(options.nproc)}
        # Ray shows each actor its own accelerator only, which is the first that it sees.
        shared |= {"LOCAL_RANK": "0", TIMEOUT: str(options.timeout)}
        running = [place.run.remote(arguments, {**shared, "RANK": str(rank)}) for rank, place in enumerate(places)]
        try:
            ended = [_result(each) for each in running]
        except KeyboardInterrupt:
            ray.get([place.stop.remote() for place in places])
            ray.wait(running, num_returns=len(running), timeout=options.timeout)
            raise
        for place in places:
            ray.kill(place)
        code, what = _judged(ended)
        if what:
            again = code == LostError.exit_code and start < options.restarts
            remedy = f"; restart {start + 1} of {options.restarts}, from the last checkpoint" if again else ""
            say(f"groundup: {what}{remedy}")
        if code != LostError.exit_code:
            return code
    return 1


def _result(running: Any) -> tuple[int, dict[str, Any]]:
    """Of one process; one whose actor is gone was lost with its machine."""
    import ray

    try:
        result: tuple[int, dict[str, Any]] = ray.get(running)
    except ray.exceptions.RayActorError:
        return LostError.exit_code, {"failure": "Ray lost one of the processes with its machine"}
    return result


def _judged(ended: list[tuple[int, dict[str, Any]]]) -> tuple[int, str]:
    """The exit code and the reason; where it is of use to start again, the code of :class:`LostError`."""
    lost = LostError.exit_code
    for code, told in ended:
        if told.get("code", lost) != lost:
            return code, told["failure"]
    for code in (130, 143):
        if any(each == code for each, _ in ended):
            return code, ""
    for rank, (code, told) in enumerate(ended):
        if code not in (0, lost):
            return lost, f"process {rank} {describe(code)} in {told.get('place', 'the start')}"
    return next(((lost, told.get("failure", "")) for code, told in ended if code), (0, ""))
