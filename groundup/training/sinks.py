"""Other places that a training's numbers go to: TensorBoard, Weights & Biases, Trackio.

Enters: the lines of ``metrics.jsonl`` and ``events.jsonl``. Leaves: the same, elsewhere. Each sink has a thread and a
bounded queue of its own, so that a slow or vanished service neither slows the training nor hurts it: what does not fit
into the queue is left out, and a sink that fails or hangs is given up with one word to the user. The run's own files
have everything in any case.
"""

import importlib
import queue
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from groundup.core.errors import UsageError
from groundup.core.files import read_text, write_text
from groundup.core.progress import say
from groundup.training.config import WatchConfig

#: Lines that wait for a slow sink before later ones are left out.
WAITING = 1000
#: Seconds that one line, and that the end, may take before a sink counts as hanging.
PATIENCE, CLOSING = 60.0, 15.0


class Writer(Protocol):
    """Where a sink's thread writes. It is made in that thread, too, for that may already ask the network."""

    def log(self, step: int, record: Mapping[str, float]) -> None:
        """Write a step's numbers."""

    def event(self, step: int, event: str, why: str) -> None:
        """Write that something happened."""

    def close(self) -> None:
        """Write out what is still kept."""


class TensorBoard:
    """Event files in ``tensorboard/<stage>`` beside the stage, for ``tensorboard --logdir DIR``."""

    def __init__(self, module: Any, folder: Path) -> None:
        self._module, self._folder = module, folder.parent / "tensorboard" / folder.name
        self._writer: Any = None
        self._last = -1

    def log(self, step: int, record: Mapping[str, float]) -> None:
        writer = self._at(step)
        for name, value in record.items():
            writer.add_scalar(name, value, step)

    def event(self, step: int, event: str, why: str) -> None:
        writer = self._writer or self._at(step)
        writer.add_text(event, why, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _at(self, step: int) -> Any:
        """The writer. Where training continues at a step, or went back to it, what there was after it is hidden."""
        if step <= self._last or self._writer is None:
            self.close()
            self._writer = self._module.SummaryWriter(str(self._folder), purge_step=step)
        self._last = step
        return self._writer


class WeightsAndBiases:
    """A run of Weights & Biases; its local files are in ``wandb`` beside the stage."""

    def __init__(self, module: Any, project: str, folder: Path, name: str, run_config: Mapping[str, Any]) -> None:
        self._run = module.init(
            project=project,
            name=name,
            id=_identity(folder / "wandb.txt"),
            dir=str(folder.parent),
            config=dict(run_config),
            resume="allow",
        )
        self._run.define_metric("*", step_metric="step")  # its own count cannot go back, as training does after a spike

    def log(self, step: int, record: Mapping[str, float]) -> None:
        self._run.log({"step": step, **record})

    def event(self, step: int, event: str, why: str) -> None:
        self._run.log({"step": step, f"event/{event}": why})

    def close(self) -> None:
        self._run.finish()


class Trackio:
    """A run of Trackio, which knows it by its name."""

    def __init__(self, module: Any, project: str, folder: Path, name: str, run_config: Mapping[str, Any]) -> None:
        for title, part in list(sys.modules.items()):
            if title.partition(".")[0] == "trackio":  # it prints on stdout, which is for results
                vars(part).setdefault("print", partial(print, file=sys.stderr))
        name = f"{name}-{_identity(folder / 'trackio.txt')}"
        self._run = module.init(project=project, name=name, config=dict(run_config), resume="allow")

    def log(self, step: int, record: Mapping[str, float]) -> None:
        self._run.log(dict(record), step=step)

    def event(self, step: int, event: str, why: str) -> None:
        self._run.log({f"event/{event}": why}, step=step)

    def close(self) -> None:
        self._run.finish()


def _identity(path: Path) -> str:
    """Under which a service knows the run, so that a run that is continued stays one there."""
    if not path.exists():
        write_text(path, uuid.uuid4().hex[:12])
    return read_text(path)


class _Sink:
    """A writer, its thread, and what waits for it."""

    def __init__(self, title: str, make: Callable[[], Writer]) -> None:
        self.title = title
        self.why = ""
        """Why it was given up."""
        self.left_out = 0
        self._make = make
        self._waiting: queue.Queue[Callable[[Writer], None] | None] = queue.Queue(WAITING)
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._work, name=f"sink {title}", daemon=True)
        self._thread.start()

    def put(self, work: Callable[[Writer], None]) -> None:
        """Hand over a line; never waits."""
        if self.why:
            return
        since = self._busy_since
        if since is not None and time.monotonic() - since > PATIENCE:
            self.why = f"no answer for {PATIENCE:.0f} seconds"
            return
        try:
            self._waiting.put_nowait(work)
        except queue.Full:
            self.left_out += 1

    def close(self) -> None:
        """Wait a little for what is still to be written."""
        if self.why:
            return
        deadline = time.monotonic() + CLOSING
        with suppress(queue.Full):
            self._waiting.put(None, timeout=CLOSING)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive() and not self.why:
            self.why = f"not done {CLOSING:.0f} seconds after the end"

    def _work(self) -> None:
        try:
            self._busy_since = time.monotonic()
            writer = self._make()
            self._busy_since = None
            while (work := self._waiting.get()) is not None and not self.why:
                self._busy_since = time.monotonic()
                work(writer)
                self._busy_since = None
            self._busy_since = time.monotonic()
            writer.close()
        except BaseException as error:  # whatever a service's library may raise
            said = str(error).strip().splitlines()
            self.why = f"{type(error).__name__}: {said[0]}" if said else type(error).__name__


class Sinks:
    """The sinks that a configuration asks for.

    Args:
        config: which, and to which projects.
        folder: of the stage.
        name: what the run is called there.
        run_config: what it was started with.
        lost: is told, in the caller's thread and once for each, of a sink that was given up.

    Raises:
        UsageError: a sink is not installed.
    """

    def __init__(
        self,
        config: WatchConfig,
        folder: Path,
        name: str,
        run_config: Mapping[str, Any],
        lost: Callable[[str], None] = lambda why: None,
    ) -> None:
        self._lost = lost
        self._told: set[str] = set()
        makers: dict[str, Callable[[], Writer]] = {}
        if config.tensorboard:
            board = _imported("torch.utils.tensorboard", "tensorboard")
            makers["TensorBoard"] = partial(TensorBoard, board, folder)
        if config.wandb:
            wandb = _imported("wandb", "wandb")
            makers["Weights & Biases"] = partial(WeightsAndBiases, wandb, config.wandb, folder, name, run_config)
        if config.trackio:
            trackio = _imported("trackio", "trackio")
            makers["Trackio"] = partial(Trackio, trackio, config.trackio, folder, name, run_config)
        self._sinks = [_Sink(title, make) for title, make in makers.items()]  # only when all of them can be had

    def log(self, step: int, record: Mapping[str, float]) -> None:
        """Hand a step's numbers on; never waits, never raises."""
        numbers = {key: value for key, value in record.items() if key != "step"}
        self._put(lambda writer: writer.log(step, numbers))

    def event(self, step: int, event: str, why: str) -> None:
        """Hand on that something happened; never waits, never raises."""
        self._put(lambda writer: writer.event(step, event, why))

    def close(self) -> None:
        """Wait a little for what is still to be written, and say what was left out."""
        for sink in self._sinks:
            sink.close()
            if sink.left_out and not sink.why:
                say(f"{sink.title} was too slow: {sink.left_out} lines were left out; metrics.jsonl has them")
        self._tell()
        self._sinks = []

    def _put(self, work: Callable[[Writer], None]) -> None:
        for sink in self._sinks:
            sink.put(work)
        self._tell()

    def _tell(self) -> None:
        for sink in self._sinks:
            if sink.why and sink.title not in self._told:
                self._told.add(sink.title)
                say(f"{sink.title} was given up ({sink.why}); training goes on, and metrics.jsonl has every number")
                self._lost(f"{sink.title}: {sink.why}")


def _imported(module: str, extra: str) -> Any:
    """An optional library.

    Raises:
        UsageError: it is not installed, or broken.
    """
    try:
        return importlib.import_module(module)
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(
            f"watch.{extra} needs {extra}, which cannot be imported ({reason[0]}); pip install 'groundup[{extra}]', "
            f"or leave watch.{extra} out"
        ) from error
