"""What many folders of tests share: a tiny corpus, one finished tiny run, and ways to call the command line."""

import importlib.metadata
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock
import pytest
from hypothesis import settings

from groundup.cli import main
from groundup.tasks.fallback import COMMON_WORDS

# A busy machine is no failure: no test depends on time.
settings.register_profile("groundup", deadline=None)
settings.load_profile("groundup")

# A shell that starts us in the background has us ignore Ctrl-C, which our children would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: The smoke recipe made as small as every stage allows.
TINY = (
    *("--model.layers", "1", "--model.width", "32", "--model.hidden", "64"),
    *("--pretrain.steps", "6", "--pretrain.rows", "2", "--pretrain.save-every", "2", "--pretrain.validate-every", "6"),
    *("--pretrain.validation-windows", "2", "--pretrain.sample-tokens", "8"),
    *("--sft.steps", "4", "--sft.rows", "2", "--sft.save-every", "2", "--sft.validation-problems", "4"),
    *("--dpo.steps", "3", "--dpo.problems", "24", "--dpo.max-tokens", "6"),
    *("--grpo.steps", "3", "--grpo.prompts", "4", "--grpo.max-tokens", "6"),
    *("--evaluate.problems", "2", "--evaluate.sampled-problems", "8", "--evaluate.max-tokens", "8"),
    *("--evaluate.memorisation-samples", "2", "--evaluate.memorisation-tokens", "12", "--evaluate.order", "2"),
)


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: many tests wait for processes that they have started."""
    return (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest goes first: single tests, and then those that start several processes."""
    items.sort(
        key=lambda item: (item.get_closest_marker("long") is None, not item.nodeid.startswith("tests/distributed/"))
    )


def verse(seed: int, lines: int = 120) -> str:
    """Lines of common and invented words, a blank line after every eighth; two seeds share no line."""
    rng = random.Random(seed)
    syllables = [first + vowel + last for first in "bdfgklmnprst" for vowel in "aeiou" for last in "lmnrst"]
    written = [
        " ".join([*rng.sample(COMMON_WORDS, 2), *rng.choices(syllables, k=2)]).capitalize() + "," for _ in range(lines)
    ]
    return "\n".join(line + ("\n" if number % 8 == 7 else "") for number, line in enumerate(written))


@pytest.fixture
def pip_installed() -> None:
    """Skips where pip is not installed.

    Only its metadata is looked at: looking for the module (``find_spec``, ``importorskip``) makes setuptools give up
    its ``distutils`` for the rest of the process, and every later ``torch.compile`` in it fails.
    """
    try:
        importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("pip is not installed")


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all processes of a test session."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def tiny_corpus(shared_folder: Path) -> Path:
    """A folder of eight text files of invented verse, 20 kB in all."""
    folder = shared_folder / "tiny-corpus"
    with filelock.FileLock(shared_folder / "tiny-corpus.lock"):
        if not folder.exists():
            unfinished = folder.with_suffix(".unfinished")
            unfinished.mkdir(exist_ok=True)
            for seed in range(8):
                (unfinished / f"verse-{seed}.txt").write_text(verse(seed), encoding="utf-8")
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_options(tiny_corpus: Path) -> tuple[str, ...]:
    """Recipe and options of the tiny run."""
    return ("smoke", "--corpus.path", str(tiny_corpus), *TINY)


@pytest.fixture(scope="session")
def tiny_run(shared_folder: Path, tiny_options: tuple[str, ...]) -> Path:
    """A finished run of all stages, made once, with every connection refused. Read only: use ``copied_run`` to change.

    Processes that come later find it finished and only verify it.
    """
    out = shared_folder / "tiny-run"
    attempts: list[object] = []

    def refuse(_socket: object, address: object) -> None:
        attempts.append(address)
        raise OSError("the network is off")

    with filelock.FileLock(shared_folder / "tiny-run.lock"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket.socket, "connect_ex", refuse)
        patch.setattr(socket, "getaddrinfo", lambda host, *rest, **named: refuse(None, host))
        code = main(["run", *tiny_options, "--out", str(out)])
    assert code == 0
    assert attempts == []
    return out


@pytest.fixture
def copied_run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the tiny run that a test may damage."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


@dataclass(frozen=True)
class Outcome:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The last line on stderr, after it is made sure that it is the one line of an error."""
        lines = self.err.splitlines()
        errors = [line for line in lines if line.startswith("groundup: ")]
        assert "Traceback" not in self.err
        assert self.code != 0
        assert errors == lines[-1:], self.err
        return errors[0].removeprefix("groundup: ")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """``command("run", "smoke", …)``: the command line, in this process."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """``start("run", "smoke", …)``: the command line in a process of its own; none outlives its test."""
    started: list[subprocess.Popen[str]] = []

    def run(*words: object, **options: object) -> subprocess.Popen[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8", "COLUMNS": "100"}
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [sys.executable, "-m", "groundup.cli", *(str(word) for word in words)],
            **{"env": environment, "encoding": "utf-8", **pipes, **options},  # type: ignore[call-overload]
        )
        started.append(process)
        return process

    yield run
    for process in started:
        with process:
            process.kill()


@pytest.fixture
def finish(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., Outcome]:
    """Like ``start``, and wait for the end."""

    def run(*words: object, **options: object) -> Outcome:
        process = start(*words, **options)
        out, err = process.communicate()
        return Outcome(process.returncode, out or "", err or "")

    return run
