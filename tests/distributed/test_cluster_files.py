"""The files for clusters: what they say, and that the script for Slurm trains, is interrupted and goes on."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from tests.distributed.test_launch import logged, untrained, weights

Command = Callable[..., object]

#: As Slurm's: it starts the command on each of two machines, both of them this one, and hands on SIGTERM.
SRUN = """#!/bin/bash
trap 'kill -TERM $(jobs -p)' TERM
for node in 0 1; do "$@" & done
code=0
for job in $(jobs -p); do
  while kill -0 "$job" 2>/dev/null; do wait "$job"; done
  wait "$job" || code=$?
done
exit $code
"""
SCONTROL = """#!/bin/bash
case "$1" in
  show) printf '127.0.0.1\\n127.0.0.1\\n' ;;
  requeue) touch "requeued-$2" ;;
esac
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no Slurm on Windows")
@pytest.mark.long
def test_a_slurm_job_saves_when_its_time_is_up_and_continues(
    tiny_run: Path, tiny_options: tuple[str, ...], tmp_path: Path, command: Command
) -> None:
    out, script = untrained(tiny_run, tmp_path / "run"), tmp_path / "job.sh"
    words = ("pretrain", *tiny_options, "--pretrain.steps", "40", "--out", str(out))
    written = command("launch", "--slurm", script, "--nodes", 2, "--nproc", 1, *words)
    assert (written.code, written.out) == (0, f"{script}\n")  # type: ignore[attr-defined]
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (bin_ / name).write_text(text)
        (bin_ / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": str(4000 + os.getpid() % 1000), "SLURM_JOB_NODELIST": "node[1-2]"}
    environment = {**os.environ, **slurm, "OMP_NUM_THREADS": "1", "GROUNDUP_PROGRESS": "quiet"}
    environment |= {"PATH": f"{bin_}:{os.environ['PATH']}", "PYTHONPATH": str(Path.cwd())}

    def submit() -> subprocess.Popen[str]:
        return subprocess.Popen(["bash", str(script)], env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True)

    job = submit()
    while job.poll() is None and logged(out) < 3:
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)  # as Slurm before the end of its time
    _, errors = job.communicate()
    requeued = tmp_path / f"requeued-{slurm['SLURM_JOB_ID']}"
    assert job.returncode == 128 + signal.SIGTERM, errors
    assert requeued.exists(), errors
    assert "pretrain: saved at step" in errors
    requeued.unlink()
    job = submit()
    _, errors = job.communicate()
    assert job.returncode == 0, errors
    assert "pretrain: continues after step" in errors
    assert not requeued.exists()
    assert len(list((tmp_path / f"slurm-{slurm['SLURM_JOB_ID']}").rglob("stderr.log"))) == 4  # two processes, twice

    alone = untrained(tiny_run, tmp_path / "alone")
    assert command(*words[:-1], str(alone)).code == 0  # type: ignore[attr-defined]
    for name, tensor in weights(alone, "pretrain").items():
        torch.testing.assert_close(weights(out, "pretrain")[name], tensor, rtol=1e-3, atol=1e-3)


def test_a_train_job_says_what_kubeflow_needs(tmp_path: Path, command: Command) -> None:
    path = tmp_path / "job.yaml"
    place = ("--image", "somewhere/groundup:1", "--volume", "claim:/shared", "--nodes", 4, "--nproc", 8)
    words = ["pretrain", "smoke", "--out", "/shared/run", "--corpus.path", "/shared/$(odd) name"]
    assert command("launch", "--k8s", path, *place, *words).code == 0  # type: ignore[attr-defined]
    job = yaml.safe_load(path.read_text())
    assert (job["apiVersion"], job["kind"]) == ("trainer.kubeflow.org/v1alpha1", "TrainJob")
    trainer = job["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["resourcesPerNode"]) == (4, {"limits": {"nvidia.com/gpu": 8}})
    launch = shlex.join(trainer["command"])
    assert launch.startswith("groundup launch --nodes 4 --nproc 8 --job groundup --rendezvous")
    assert trainer["command"][9] == "$(PET_MASTER_ADDR):$(PET_MASTER_PORT)"  # Kubernetes puts their values there
    assert trainer["command"][-1] == "/shared/$$(odd) name"  # and nothing here


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--slurm", "job", "run"), "--slurm needs --nproc"),
        (("--slurm", "job", "--k8s", "job", "--nproc", 1, "run"), "--slurm and --k8s are two files"),
        (("--k8s", "job", "--nproc", 1, "run"), "--k8s needs --image NAME"),
        (("--k8s", "job", "--nproc", 1, "--image", "x", "--volume", "c:/d", "run"), "--out /d/NAME"),
        (
            ("--k8s", "job", "--nproc", 1, "--image", "x", "--volume", "c:/d", "--job", "A b", "run", "--out", "/d/x"),
            "--job 'A b' is no name for Kubernetes",
        ),
        (("--slurm", "there", "--nproc", 1, "run"), "there exists; delete it, or give --slurm another name"),
    ],
    ids=["no number", "both", "no image", "elsewhere", "name", "exists"],
)
def test_what_is_missing_is_said(
    words: tuple[object, ...], complaint: str, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").touch()
    outcome = command("launch", *words)
    assert outcome.code == 2  # type: ignore[attr-defined]
    assert complaint in outcome.complaint  # type: ignore[attr-defined]
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
