"""The replicas of one machine: copies of the weights that are started again one by one (``launch --recovery torchft``).

Enters: how many, the command. Leaves: an exit code. The first replica does what comes before and after the training
and writes all that is written; the others begin when it trains. One that is killed or crashes is started again alone,
and gets from the others what it lost; an error that would only come again ends them all.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from groundup.core import heartbeat
from groundup.core.errors import LostError, UsageError
from groundup.core.progress import say
from groundup.core.world import JOINS, REPLICA
from groundup.distributed.agent import FINAL, set_environment
from groundup.distributed.replicas import silence
from groundup.distributed.watchdog import describe, state_of

if TYPE_CHECKING:
    from groundup.distributed.launch import LaunchOptions

#: What replicas train together: commands with one training whose batches do not depend on it.
COMMANDS = ("pretrain", "sft", "dpo")
#: Seconds without a sign of life after which torchft counts a replica as gone.
_SILENCE = 5
_INTERVAL = 0.1


def run_replicas(options: "LaunchOptions", command: list[str], module: str = "groundup.cli") -> int:
    """Start them, see them to their end; the exit code of the first one, or of what ended all.

    Raises:
        UsageError: torchft is not installed, or cannot do what is asked.
        KeyboardInterrupt: the launcher was interrupted; all have ended.
    """
    if command[0] not in COMMANDS:
        raise UsageError(f"--recovery torchft is for {', '.join(COMMANDS)}, not `{command[0]}`; leave it out")
    if find_spec("torchft") is None:
        raise UsageError("--recovery torchft needs torchft; pip install 'groundup[torchft]'")
    silence()
    from torchft.coordination import LighthouseServer

    lighthouse = LighthouseServer(
        bind="127.0.0.1:0",
        min_replicas=1,
        join_timeout_ms=1000 * options.timeout,  # all that give signs of life are waited for
        heartbeat_timeout_ms=1000 * _SILENCE,
    )
    try:
        with tempfile.TemporaryDirectory(prefix="groundup-", ignore_cleanup_errors=True) as place:
            beats = Path(place) / "heartbeats"
            beats.mkdir()
            set_environment(options, beats)
            port = lighthouse.address().rpartition(":")[2]
            os.environ["GROUNDUP_LIGHTHOUSE"] = f"http://127.0.0.1:{port}"
            return _Supervisor(options, [sys.executable, "-m", module, *command], beats).run()
    finally:
        lighthouse.shutdown()


class _Supervisor:
    """Watches the replicas' processes, by number."""

    def __init__(self, options: "LaunchOptions", words: list[str], beats: Path) -> None:
        self.options, self.words, self.beats = options, words, beats
        self.running: dict[int, subprocess.Popen[bytes]] = {}
        self.restarts = 0
        self.together = False
        """Whether the first one trains, and the others were started."""
        self.asked: list[int] = []
        self.stopped: dict[int, float] = {}

    def run(self) -> int:
        """See the first replica to its end."""
        previous = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        self._start(0)
        try:
            while (code := self._look()) is None:
                time.sleep(_INTERVAL)
        finally:
            self._end()
            for number, handler in previous.items():
                signal.signal(number, handler)
        if self.asked and self.asked[0] == signal.SIGINT:
            raise KeyboardInterrupt
        return code

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.asked.append(number)

    def _start(self, number: int) -> None:
        (self.beats / f"{number}.json").unlink(missing_ok=True)
        own = {REPLICA: str(number), "RANK": str(number), **({JOINS: "1"} if self.together else {})}
        shared = {name: value for name, value in os.environ.items() if name not in ("WORLD_SIZE", JOINS)}
        # In a session of its own, Ctrl-C reaches it through this process alone.
        self.running[number] = subprocess.Popen(
            self.words, env={**shared, **own}, stderr=sys.stderr, start_new_session=True
        )

    def _look(self) -> int | None:
        """What has happened since the last look; the exit code, if that is the end."""
        if self.asked:
            return 128 + self.asked[0]
        if not self.together and "trains" in heartbeat.read(self.beats).get(0, {}):
            self.together = True
            for number in range(1, self.options.processes):
                self._start(number)
        self._kill_stopped()
        for number, process in list(self.running.items()):
            if (code := process.poll()) is not None:
                del self.running[number]
                ended = self._judge(number, code, heartbeat.read(self.beats).get(number, {}))
                if ended is not None:
                    return ended
        return None

    def _kill_stopped(self) -> None:
        now = time.monotonic()
        stopped = [number for number, process in self.running.items() if state_of(process.pid) == "stopped"]
        self.stopped = {number: self.stopped.get(number, now) for number in stopped}
        for number, since in self.stopped.items():
            if now - since > self.options.timeout:
                say(f"groundup: replica {number} is stopped")
                self.running[number].kill()

    def _judge(self, number: int, code: int, told: dict[str, Any]) -> int | None:
        """A replica has ended: start it again, or say why not; the exit code, if all are to end."""
        if code == 0:
            return 0 if number == 0 else None
        if told.get("code", LostError.exit_code) != LostError.exit_code:
            say("groundup: " + (f"replica {number}: " if number else "") + told["failure"])
            return int(told["code"])
        if code in FINAL:
            return code
        left = self.restarts < self.options.restarts
        what = f"replica {number} {describe(code)} in {told.get('place', 'the start')}"
        if "failure" in told:
            what = told["failure"]
        if left:
            self.restarts += 1
            again = f"it is started again (restart {self.restarts} of {self.options.restarts})"
            say(f"groundup: {what}; {again}" + (", the others go on" if self.together else ""))
            self._start(number)
            return None
        if number:
            say(f"groundup: {what}; no restart is left, the others go on without it")
            return None
        say(f"groundup: {what}; no restart is left")
        return 128 - code if code < 0 else code

    def _end(self) -> None:
        """Have those that still run end; where a signal asks for it, they may take their time, until it asks again."""
        for process in self.running.values():
            process.terminate()
        patience = time.monotonic() + (self.options.timeout if self.asked else 30)
        while any(process.poll() is None for process in self.running.values()):
            if len(self.asked) > 1 or time.monotonic() > patience:
                for process in self.running.values():
                    process.kill()
            time.sleep(_INTERVAL)
