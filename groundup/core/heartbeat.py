"""What this process is doing, told to the launcher that started it (``groundup launch``); without one, to nobody.

Each process has a small file on its machine's own disk and overwrites it as it goes: the step that it is in, how many
exchanges with the others it has entered, whether it waits in one. Telling takes microseconds and needs nobody else, so
the launcher can say of a process that hangs, or is gone, how far it came. A thread beside it ends the process when its
launcher is gone, and on request writes down where each of its threads is.
"""

import faulthandler
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

#: The environment variables by which a launcher says where to tell it, and which process it is.
FOLDER, LAUNCHER = "GROUNDUP_HEARTBEATS", "GROUNDUP_LAUNCHER"
#: The file whose presence asks every process for its stacks.
REQUEST = "request"
_facts: dict[str, Any] = {"entered": 0, "waits": "", "place": "the start"}
_file: TextIO | None = None
_length = 0


def tell(**facts: Any) -> None:
    """Add facts, or change them:

    - place: the stage and step at work
    - run: the run directory
    - trains: of a replica, that it can meet others
    - entered: exchanges with the other processes begun so far; waits: "" outside of one, else "for the others" or
      "patiently", for what the first process does alone
    - lost: the error by which another process was missed; hung: it did not answer, rather than end
    - failure, code: the error by which this one ends, and its exit code
    """
    global _file, _length
    if FOLDER not in os.environ or "RANK" not in os.environ:
        return
    if _file is None:
        path = Path(os.environ[FOLDER]) / f"{os.environ['RANK']}.json"
        _facts.update(rank=int(os.environ["RANK"]), pid=os.getpid())
        try:
            _file = path.open("w", encoding="ascii")
        except OSError:  # the launcher is gone, and its folder with it
            return
    _facts.update(facts, since=time.time())
    told = json.dumps(_facts).ljust(_length)  # over all of what stood there
    _length = len(told)
    with suppress(OSError):
        _file.seek(0)
        _file.write(told)
        _file.flush()


@contextmanager
def exchange(patiently: bool) -> Iterator[None]:
    """Around what all processes must take part in."""
    tell(entered=_facts["entered"] + 1, waits="patiently" if patiently else "for the others")
    yield
    tell(waits="")


def failed(message: str, code: int) -> bool:
    """Leave the error to the launcher, which tells what all processes find wrong once; False if there is none."""
    tell(failure=message, code=code)
    return _file is not None


def read(folder: Path) -> dict[int, dict[str, Any]]:
    """What the processes of this machine told last, by rank."""
    told = {}
    for path in folder.glob("*.json"):
        with suppress(OSError, ValueError):  # one that is just being written is read the next time
            facts = json.loads(path.read_text(encoding="ascii"))
            told[facts["rank"]] = facts
    return dict(sorted(told.items()))


def attend(patience: float) -> None:
    """Start the thread that attends to the launcher.

    Args:
        patience: seconds that this process has to save and end when its launcher is gone.
    """
    if FOLDER in os.environ:
        arguments = (Path(os.environ[FOLDER]), int(os.environ[LAUNCHER]), patience)
        threading.Thread(target=_attend, args=arguments, name="heartbeat", daemon=True).start()


def _attend(folder: Path, launcher: int, patience: float) -> None:
    asked = False
    while os.getppid() == launcher:
        if not asked and (asked := (folder / REQUEST).exists()):
            write_down()
        time.sleep(0.5)
    # Killed, it could not end us: as by SIGTERM, training saves and ends; what cannot do so ends without.
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience)
    os._exit(128 + signal.SIGTERM)


def write_down(raised: str = "") -> None:
    """Where each thread is, or where the error was raised that lost the others; and PyTorch's flight record: the last
    collective operations that this process entered."""
    if FOLDER not in os.environ:
        return
    folder, rank = Path(os.environ[FOLDER]), os.environ["RANK"]
    with suppress(OSError):
        with (folder / f"{rank}.stack").open("w", encoding="utf-8") as file:
            if raised:
                file.write(raised)
            else:
                faulthandler.dump_traceback(file, all_threads=True)
        (folder / f"{rank}.collectives").write_bytes(_flight_record())


def _flight_record() -> bytes:
    from torch._C import _distributed_c10d as c10d

    # NCCL has a record of its own; Gloo's has been there since PyTorch 2.9.
    names = ("_dump_nccl_trace_json", "_dump_fr_trace_json")
    records = [record for name in names if hasattr(c10d, name) and (record := getattr(c10d, name)())]
    return bytes(max(records, key=len)) if records else b"{}"
