"""A disk that is full or cannot be written: one line, nothing lost, and the same command continues."""

import errno
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundup.core.files import TEMPORARY_PREFIX

Command = Callable[..., Any]


def leftovers(folder: Path) -> list[Path]:
    return list(folder.rglob(f"{TEMPORARY_PREFIX}*"))


@pytest.mark.parametrize("verb", ["run", "corpus"])
def test_a_run_directory_below_a_file(
    verb: str, command: Command, tiny_options: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        outcome = command(verb, *tiny_options, "--out", out)
        assert f"cannot write {out}" in outcome.complaint
        assert "choose another place with --out" in outcome.complaint
        assert outcome.code == 1
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="the system has no /proc")
def test_a_run_directory_where_nothing_can_be_made(command: Command, tiny_options: tuple[str, ...]) -> None:
    outcome = command("run", *tiny_options, "--out", "/proc/groundup/run")
    assert "/proc/groundup" in outcome.complaint
    assert outcome.code == 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_run_directory_without_permission(command: Command, tiny_options: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    outcome = command("run", *tiny_options, "--out", tmp_path / "closed" / "run")
    assert "cannot write" in outcome.complaint


@pytest.mark.parametrize("writes", [0, 5, 12, 25, 35, 45])
def test_a_disk_that_fills_up(
    writes: int,
    command: Command,
    tiny_options: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The disk takes some files and then no more; with space again, the same command finishes."""
    out = tmp_path / "run"
    synchronise = os.fsync
    left = writes

    def full(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        synchronise(descriptor)

    names = ("corpus", "tokenizer", "pretrain")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        outcomes = [outcome for name in names for outcome in [command(name, *tiny_options, "--out", out)]]
    failed = next(outcome for outcome in outcomes if outcome.code)
    assert failed.complaint.startswith(f"no space left on the disk while writing {out}")
    assert failed.complaint.endswith("free some, then run the same command again")
    assert failed.code == 1
    assert leftovers(out) == []
    for name in names:
        assert command(name, *tiny_options, "--out", out).code == 0


def in_own_mounts(script: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a mount namespace of its own: what it mounts nobody else sees, and ends with it."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        pytest.skip("mount namespaces are Linux's")
    command = ["unshare", "--mount", "sh", "-euc", script, "sh", *(str(word) for word in words)]
    if os.geteuid() != 0:
        command.insert(1, "--map-root-user")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, env=environment)


def test_a_disk_that_is_really_full(tiny_run: Path, tiny_options: tuple[str, ...], tmp_path: Path) -> None:
    """A file system of 220 kB holds the corpus and the tokenizer of the tiny run, but no checkpoint."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if in_own_mounts('mount -t tmpfs -o size=64k tmpfs "$1"', disk).returncode:
        pytest.skip("this user may not mount a file system")
    options = shlex.join([sys.executable, "-m", "groundup.cli", "pretrain", *tiny_options])
    script = f"""
        mount -t tmpfs -o size=220k tmpfs "$1"
        mkdir "$1/run"
        cp -r "$2/corpus" "$2/tokenizer" "$1/run"
        {options} --out "$1/run" && exit 9
        test $? = 1
        find "$1" -name "{TEMPORARY_PREFIX}*" >&2
        echo ---- >&2
        mount -o remount,size=50m "$1"
        {options} --out "$1/run"
        ls "$1/run/pretrain/manifest.json"
    """
    finished = in_own_mounts(script, disk, tiny_run)
    assert finished.returncode == 0, finished.stderr
    failed, again = finished.stderr.split("----\n")
    assert "Traceback" not in failed
    assert failed.splitlines()[-1].startswith(f"groundup: no space left on the disk while writing {disk}")
    assert "pretrain: continues where it was interrupted" in again


def test_a_read_only_file_system(tiny_options: tuple[str, ...], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if in_own_mounts('mount -t tmpfs -o ro tmpfs "$1"', disk).returncode:
        pytest.skip("this user may not mount a file system")
    options = shlex.join([sys.executable, "-m", "groundup.cli", "run", *tiny_options])
    finished = in_own_mounts(f'mount -t tmpfs -o ro tmpfs "$1"; {options} --out "$1/run"', disk)
    assert finished.returncode == 1
    assert finished.stderr.startswith(f"groundup: cannot write {disk / 'run'}: Read-only file system; choose another")
    assert finished.stderr.count("\n") == 1
