"""A process that is killed, crashes, hangs or is asked to end: what the launcher says and does about it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

slow = pytest.mark.skipif(not os.environ.get("GROUNDUP_SLOW"), reason="asked for with GROUNDUP_SLOW=1")


def begin(how: str, folder: Path, *options: object) -> subprocess.Popen[str]:
    """A launcher whose processes go wrong in this way."""
    words = (*(str(option) for option in options), how, str(folder))
    return subprocess.Popen(
        [sys.executable, "-m", "tests.distributed.faulty", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "."},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(launched: subprocess.Popen[str]) -> tuple[int, str, list[str]]:
    """Its exit code, output, and what the launcher told."""
    out, errors = launched.communicate()
    return launched.returncode, out, [line for line in errors.splitlines() if line.startswith("groundup: ")]


def workers(launched: subprocess.Popen[str], number: int) -> list[psutil.Process]:
    """Its processes, once there are so many."""
    while True:
        assert launched.poll() is None
        found = psutil.Process(launched.pid).children()
        if len(found) == number:
            return found
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("how", "options", "reason"),
    [
        ("killed", (), "process 1 was killed (SIGKILL; was the memory full?) in toy step 5"),
        (
            "stopped",
            ("--timeout", 20),
            "process 1 is stopped in toy step 5 and did not take part (the others waited in",
        ),
        (
            "stuck",
            ("--timeout", 20),
            "in go_wrong) in toy step 5 and did not take part (the others waited in toy step 5)",
        ),
        pytest.param("late", ("--timeout", 20), "in go_wrong) in toy step 5 and did not take part", marks=slow),
        pytest.param("crashed", (), "process 1 ended with exit code 1 in toy step 5", marks=slow),
    ],
    ids=["killed", "stopped", "stuck", "late", "crashed"],
)
def test_what_went_wrong_is_named_and_all_are_started_again(
    how: str, options: tuple[object, ...], reason: str, tmp_path: Path
) -> None:
    code, out, told = said(begin(how, tmp_path, "--nproc", 2, *options))
    assert (code, out) == (0, "done, after a restart\n")
    [line] = told
    assert reason in line
    assert line.endswith("; restart 1 of 3, from the last checkpoint")
    if options:  # it hung
        [report] = (tmp_path / "failures").glob("hung-*.txt")
        assert str(report) in line
        text = report.read_text(encoding="utf-8")
        [accused] = [each for each in text.splitlines() if each.endswith("<- did not take part")]
        assert accused.startswith(f"process 1: {'stopped' if how == 'stopped' else 'alive'}, in toy step 5, exchange ")
        assert "gloo:all_gather (" in text
        assert ("in go_wrong\n" in text) == (how != "stopped")  # a stopped process cannot say where it is


@pytest.mark.parametrize(
    ("how", "code", "complaint"),
    [
        ("diverged", 1, "toy: the loss is not a finite number"),
        ("mesh", 2, "parallel.data auto x parallel.shard 3 is not 2, the number of processes"),
    ],
)
def test_what_would_only_come_again_is_told_once_and_not_tried_again(
    how: str, code: int, complaint: str, tmp_path: Path
) -> None:
    ended, out, told = said(begin(how, tmp_path, "--nproc", 2))
    assert (ended, out) == (code, "")
    [line] = told
    assert line.startswith(f"groundup: {complaint}")


@slow
def test_restarts_end(tmp_path: Path) -> None:
    ended, _, told = said(begin("killed", tmp_path, "--nproc", 2, "--restarts", 0))
    assert ended == 128 + signal.SIGKILL
    assert told[0].endswith("in toy step 5; no restart is left")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def test_two_machines_start_again_together(tmp_path: Path) -> None:
    place = ("--nodes", 2, "--nproc", 1, "--rendezvous", f"127.0.0.1:{free_port()}", "--job", "two")
    ended = [said(each) for each in [begin("killed", tmp_path, *place) for _ in range(2)]]
    assert [code for code, *_ in ended] == [0, 0]
    assert "".join(out for _, out, _ in ended).startswith("done")
    [line] = [line for *_, told in ended for line in told if "was killed" in line]
    assert "process 1 was killed (SIGKILL; was the memory full?) in toy step 5; restart 1 of 3" in line


def test_machines_that_do_not_meet_say_so(tmp_path: Path) -> None:
    alone = ("--nodes", 2, "--nproc", 1, "--job", "two", "--timeout", 3, "--rendezvous")
    code, _, [line] = said(begin("killed", tmp_path, *alone, port := f"127.0.0.1:{free_port()}"))
    assert code == 2
    assert f"fewer than 2 machines came to {port} within 3 s" in line


def test_ctrl_c_ends_all_and_a_second_one_at_once(tmp_path: Path) -> None:
    launched = begin("stuck", tmp_path, "--nproc", 2)
    started = workers(launched, 2)
    while not (tmp_path / "started").exists():
        assert launched.poll() is None
        time.sleep(0.05)
    for process in started:
        process.suspend()  # neither hears the polite request
    launched.send_signal(signal.SIGINT)
    time.sleep(1)
    assert launched.poll() is None
    launched.send_signal(signal.SIGINT)
    code, _, told = said(launched)
    assert code == 130
    assert told == ["groundup: interrupted"]
    assert not any(process.is_running() for process in started)


def test_nobody_outlives_a_launcher_that_is_killed(tmp_path: Path) -> None:
    launched = begin("stuck", tmp_path, "--nproc", 2)
    started = workers(launched, 2)
    launched.kill()
    launched.communicate()
    psutil.wait_procs(started)


def test_a_launcher_in_a_launcher_is_refused(command: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    outcome = command("launch", "--nproc", "2", "pretrain", "smoke")
    assert outcome.code == 2  # type: ignore[attr-defined]
    assert "a launcher has started this process already" in outcome.complaint  # type: ignore[attr-defined]
