"""Sinks pass everything on, and whatever they do, training is neither hurt nor slowed."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from groundup.core.errors import UsageError
from groundup.training import sinks
from groundup.training.config import WatchConfig
from groundup.training.sinks import Sinks


class Service(ModuleType):
    """A library like W&B or Trackio that remembers what it was told, or fails where it is told to."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[Any, ...]] = []
        self.fail: dict[str, Callable[[], None]] = {}
        self.Run = SimpleNamespace(
            log=self._called("log"), define_metric=self._called("define_metric"), finish=self._called("finish")
        )

    def _called(self, name: str) -> Callable[..., None]:
        def call(*arguments: Any, **options: Any) -> None:
            self.fail.get(name, lambda: None)()
            self.calls.append((name, *arguments, options))

        return call

    def init(self, **options: Any) -> Any:
        self._called("init")(**options)
        return self.Run

    def named(self, name: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == name]


@pytest.fixture(params=["wandb", "trackio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def service(kind: str, monkeypatch: pytest.MonkeyPatch) -> Service:
    made = Service(kind)
    monkeypatch.setitem(sys.modules, kind, made)
    return made


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """Something to hang on until the test is over."""
    event = threading.Event()
    yield event
    event.set()


def opened(kind: str, folder: Path, lost: list[str]) -> Sinks:
    (folder / "pretrain").mkdir(exist_ok=True)
    config = WatchConfig(**({"tensorboard": True} if kind == "tensorboard" else {kind: "project"}))  # type: ignore[arg-type]
    return Sinks(config, folder / "pretrain", "quickstart/pretrain", {"steps": 3}, lost.append)


def steps(made: Sinks, count: int = 3) -> None:
    for step in range(1, count + 1):
        made.log(step, {"step": step, "loss": 1.0 / step})


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def test_what_is_logged_arrives_in_order(kind: str, service: Service, tmp_path: Path) -> None:
    lost: list[str] = []
    made = opened(kind, tmp_path, lost)
    steps(made)
    made.event(3, "rewound", "the loss spiked")
    made.close()
    assert lost == []
    [(options,)] = service.named("init")
    assert options["project"] == "project"
    assert options["config"] == {"steps": 3}
    assert options["resume"] == "allow"
    told = [{**record, **given} for record, given in service.named("log")]
    assert told[:3] == [{"step": step, "loss": 1.0 / step} for step in (1, 2, 3)]
    assert told[3] == {"step": 3, "event/rewound": "the loss spiked"}
    assert len(service.named("finish")) == 1


def test_a_continued_run_is_the_same_run_there(kind: str, service: Service, tmp_path: Path) -> None:
    for _ in range(2):
        opened(kind, tmp_path, []).close()
    (first,), (second,) = service.named("init")
    assert first == second
    opened(kind, tmp_path / "pretrain", []).close()  # another stage's folder
    assert service.named("init")[2][0] != first


@pytest.mark.parametrize("where", ["init", "log", "finish"])
@pytest.mark.parametrize("error", [ConnectionError("no route to host\nmore"), SystemExit(3), MemoryError()])
def test_a_failing_service_is_given_up_with_one_word(
    where: str, error: BaseException, kind: str, service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.fail[where] = raising(error)
    lost: list[str] = []
    made = opened(kind, tmp_path, lost)
    steps(made)
    made.close()
    steps(made)
    [why] = lost
    assert type(error).__name__ in why
    assert "\n" not in why
    err = capsys.readouterr().err
    assert err.count("was given up") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize("where", ["init", "log", "finish"])
def test_a_hanging_service_does_not_hold_up_training(
    where: str,
    kind: str,
    service: Service,
    released: threading.Event,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sinks, "CLOSING", 0.2)
    service.fail[where] = lambda: released.wait() and None  # type: ignore[func-returns-value]
    lost: list[str] = []
    made = opened(kind, tmp_path, lost)
    steps(made, 3 * sinks.WAITING)
    made.close()
    assert len(lost) == 1


def test_a_service_that_hangs_for_long_is_given_up_during_training(
    kind: str, service: Service, released: threading.Event, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "PATIENCE", 0.05)
    service.fail["init"] = lambda: released.wait() and None  # type: ignore[func-returns-value]
    lost: list[str] = []
    made = opened(kind, tmp_path, lost)
    while not lost:
        steps(made, 1)
        time.sleep(0.01)
    assert lost == [f"{'Weights & Biases' if kind == 'wandb' else 'Trackio'}: no answer for 0 seconds"]


def test_lines_that_a_slow_service_misses_are_counted(
    kind: str, service: Service, released: threading.Event, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.fail["init"] = lambda: released.wait() and None  # type: ignore[func-returns-value]
    made = opened(kind, tmp_path, [])
    steps(made, sinks.WAITING + 7)
    released.set()
    made.close()
    assert len(service.named("log")) == sinks.WAITING
    assert "was too slow: 7 lines were left out" in capsys.readouterr().err


def test_one_lost_sink_does_not_take_others_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, released: threading.Event
) -> None:
    broken, sound = Service("wandb"), Service("trackio")
    broken.fail["log"] = raising(RuntimeError("gone"))
    monkeypatch.setitem(sys.modules, "wandb", broken)
    monkeypatch.setitem(sys.modules, "trackio", sound)
    lost: list[str] = []
    made = Sinks(WatchConfig(wandb="a", trackio="b"), tmp_path, "run", {}, lost.append)
    steps(made, 20)
    made.close()
    assert lost == ["Weights & Biases: RuntimeError: gone"]
    assert len(sound.named("log")) == 20


@pytest.mark.parametrize(
    ("kind", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb",) * 2, ("trackio",) * 2]
)
def test_a_sink_that_is_not_installed(kind: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError) as raised:
        opened(kind, tmp_path, [])
    assert f"pip install 'groundup[{kind}]'" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_nothing_is_imported_or_started_unasked(tmp_path: Path) -> None:
    threads = threading.active_count()
    made = Sinks(WatchConfig(), tmp_path, "run", {})
    steps(made)
    made.close()
    assert threading.active_count() == threads
    assert list(tmp_path.iterdir()) == []
    assert "wandb" not in sys.modules


def test_what_trackio_prints_is_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service = Service("trackio")
    exec("def greet(): print('hello')", vars(service))
    service.fail["init"] = lambda: service.greet()
    monkeypatch.setitem(sys.modules, "trackio", service)
    opened("trackio", tmp_path, []).close()
    told = capsys.readouterr()
    assert (told.out, "hello" in told.err) == ("", True)


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    lost: list[str] = []
    made = opened("tensorboard", tmp_path, lost)
    for step in (0, 1, 2, 3, 4):
        made.log(step, {"step": step, "loss": 10.0 - step, "gradient_norm/head": 0.5})
    made.event(4, "rewound", "the loss spiked")
    made.log(3, {"step": 3, "loss": 99.0})  # after going back
    made.close()
    assert lost == []
    read = EventAccumulator(str(tmp_path / "tensorboard" / "pretrain"))
    read.Reload()
    assert {event.step: event.value for event in read.Scalars("loss")} == {0: 10.0, 1: 9.0, 2: 8.0, 3: 99.0}
    assert [event.step for event in read.Scalars("gradient_norm/head")] == [0, 1, 2]
    assert not list((tmp_path / "pretrain").iterdir())  # a manifest lists what lies there: it must not change later


def test_identities_are_plain_text(kind: str, service: Service, tmp_path: Path) -> None:
    opened(kind, tmp_path, []).close()
    [path] = (tmp_path / "pretrain").iterdir()
    assert path.read_text(encoding="utf-8") in json.dumps(service.named("init"))
