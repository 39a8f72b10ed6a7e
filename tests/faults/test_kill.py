"""Killed with SIGKILL at any moment and started again, a run ends in the same weights, bit for bit.

``Popen.kill`` is SIGKILL on POSIX and TerminateProcess on Windows: neither can be caught.
"""

import json
import os
import random
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

STEPS = {"pretrain": 10, "sft": 10, "dpo": 8, "grpo": 8}
OPTIONS = shlex.split("""
    --tokenizer.vocab-size 320
    --model.layers 1 --model.width 32 --model.heads 2 --model.kv-heads 1 --model.hidden 48 --model.context 512
    --pretrain.steps 10 --pretrain.rows 2 --pretrain.save-every 3 --pretrain.validate-every 5
    --pretrain.validation-windows 2 --pretrain.samples 1 --pretrain.sample-tokens 4
    --sft.steps 10 --sft.rows 2 --sft.save-every 3 --sft.validate-every 10 --sft.validation-problems 2
    --dpo.steps 8 --dpo.pairs 4 --dpo.problems 24 --dpo.answers 4 --dpo.max-tokens 16 --dpo.save-every 2
    --grpo.steps 8 --grpo.prompts 4 --grpo.group 4 --grpo.max-tokens 16 --grpo.stop-reward 0.1 --grpo.save-every 2
    --evaluate.problems 1 --evaluate.sampled-problems 2 --evaluate.memorisation-samples 1
    --evaluate.memorisation-tokens 8 --evaluate.max-tokens 4 --evaluate.order 2
""")
WORDS = shlex.split("""
    the a one old young little great good king queen boy girl dog horse house river road hill garden ship table bread
    water stone apple bird and or but then when while where walked came went saw found took gave kept sang slept under
    over near behind into from with without again never always once today slowly quickly home
""")


def write_corpus(folder: Path) -> None:
    """Twelve documents of invented sentences, about 200 kB."""
    folder.mkdir()
    rng = random.Random(0)
    for number in range(12):
        sentences = [" ".join(rng.choices(WORDS, k=rng.randint(4, 12))).capitalize() + "." for _ in range(400)]
        paragraphs = [" ".join(sentences[start : start + 8]) for start in range(0, len(sentences), 8)]
        (folder / f"{number:02d}.txt").write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Run:
    """A run directory and the command that works on it."""

    out: Path
    corpus: Path

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "groundup.cli", "run", "smoke", "--out", str(self.out)]
        return subprocess.Popen(
            [*command, "--corpus.path", str(self.corpus), *OPTIONS],
            stdout=subprocess.DEVNULL,
            stderr=(self.out.parent / f"{self.out.name}.log").open("ab"),
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "random"},
        )

    def finish(self) -> None:
        assert self.start().wait() == 0, self.log[-2000:]

    def kill_when(self, moment: Callable[[], bool]) -> bool:
        """Start, kill at the moment; False if the run ended before."""
        process = self.start()
        try:
            while process.poll() is None:
                if moment():
                    return process.poll() is None
                time.sleep(0.001)
            assert process.returncode == 0, self.log[-2000:]
            return False
        finally:
            process.kill()
            process.wait()

    @property
    def log(self) -> str:
        return (self.out.parent / f"{self.out.name}.log").read_text(encoding="utf-8", errors="replace")

    def logged(self, stage: str) -> int:
        """Bytes in the log of a stage; not opened, for Windows lets nobody replace an open file."""
        try:
            return (self.out / stage / "metrics.jsonl").stat().st_size
        except OSError:  # not yet there, or just being replaced
            return 0

    def steps(self, stage: str) -> list[int]:
        """The steps that the log of a stage holds."""
        lines = (self.out / stage / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["step"] for line in lines]

    def unfinished(self, stage: str) -> bool:
        return not (self.out / stage / "manifest.json").exists()

    def leftovers(self) -> Iterator[Path]:
        return self.out.glob("*/checkpoints/.incomplete-*")

    def weights(self, stage: str) -> bytes:
        *_, checkpoint = sorted((self.out / stage / "checkpoints").iterdir())
        assert checkpoint.name == f"step-{STEPS[stage]:06d}"
        return (checkpoint / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kill") / "corpus"
    write_corpus(folder)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(corpus: Path) -> Run:
    run = Run(corpus.parent / "uninterrupted", corpus)
    run.finish()
    return run


def test_every_stage_really_trains(uninterrupted: Run) -> None:
    """Or else equal weights would prove nothing."""
    for stage, steps in STEPS.items():
        metrics = json.loads((uninterrupted.out / stage / "manifest.json").read_text(encoding="utf-8"))["metrics"]
        assert metrics["steps"] == steps
        assert metrics["skipped_steps"] < steps / 2, stage
    assert len({uninterrupted.weights(stage) for stage in STEPS}) == len(STEPS)


@pytest.mark.long
def test_killed_in_every_stage_it_ends_in_the_same_weights(uninterrupted: Run, corpus: Path) -> None:
    run = Run(corpus.parent / "killed", corpus)
    rng = random.Random(7)
    landed = []
    for stage, steps in STEPS.items():
        size = rng.randint(1, steps * 90)  # bytes of the log: a line has more
        killed = run.kill_when(lambda stage=stage, size=size: run.logged(stage) >= size)
        landed.append(killed and run.unfinished(stage))
        if stage == "pretrain":  # once more, in the middle of writing a checkpoint
            assert run.kill_when(lambda: any(run.leftovers()))
            assert run.unfinished("grpo")
    assert sum(landed) >= 2, "the kills came too late to prove anything"
    run.finish()

    assert not list(run.leftovers())
    for stage, steps in STEPS.items():
        assert run.weights(stage) == uninterrupted.weights(stage), stage
        assert [step for step in run.steps(stage) if step > 0] == list(range(1, steps + 1)), stage
    assert run.log.count("continues where it was interrupted") >= sum(landed)
