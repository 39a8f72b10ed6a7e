"""Killed with SIGKILL while it counts and started again, the trainer learns the same merges from the same counts."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import verse

# Small blocks and a save after each, so that there is much to interrupt; memory that forces pieces to be dropped.
SCRIPT = """
import json, sys
from pathlib import Path
from groundup.tokenizer import counting
from groundup.tokenizer.trainer import learn, read_texts
counting.SAVE_SECONDS, counting.BLOCK_CHARACTERS, counting.LEAST_MEMORY = 0.0, 1000, 1
corpus, state, result = map(Path, sys.argv[1:])
learnt = learn(read_texts([corpus]), 300, threads=2, memory=60_000, state=state)
facts = learnt.pieces, learnt.occurrences, learnt.documents, learnt.bytes, learnt.dropped, learnt.error
result.write_text(json.dumps([learnt.merges, learnt.counts.tolist(), facts]))
"""


@dataclass(frozen=True)
class Training:
    """A corpus, and where a training from it keeps its progress and its result."""

    corpus: Path
    out: Path

    @property
    def state(self) -> Path:
        return self.out / "state"

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", SCRIPT, str(self.corpus), str(self.state), str(self.out / "result.json")]
        return subprocess.Popen(command, stderr=(self.out / "log").open("ab"))

    def finish(self) -> str:
        assert self.start().wait() == 0, (self.out / "log").read_text(encoding="utf-8")
        return (self.out / "result.json").read_text(encoding="utf-8")

    def kill_when(self, moment: Callable[[], bool]) -> bool:
        """Start, kill at the moment; False if it was done before."""
        process = self.start()
        try:
            while process.poll() is None:
                if moment():
                    return process.poll() is None
                time.sleep(0.0005)
            return False
        finally:
            process.kill()
            process.wait()

    def saves(self, number: int) -> Callable[[], bool]:
        """Whether progress was kept so often since now."""
        seen = {self._saved()}

        def moment() -> bool:
            seen.add(self._saved())
            return len(seen) > number

        return moment

    def _saved(self) -> int:
        try:
            return (self.state / "pieces.npz").stat().st_mtime_ns
        except OSError:  # not yet there, or just being replaced
            return 0


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hundred texts of invented verse, 600 kB, as JSON lines."""
    path = tmp_path_factory.mktemp("training") / "corpus.jsonl"
    lines = [json.dumps({"text": verse(seed, 80)}) for seed in range(300)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_killed_at_any_moment_it_learns_the_same(corpus: Path, tmp_path: Path) -> None:
    whole, killed = Training(corpus, tmp_path / "whole"), Training(corpus, tmp_path / "killed")
    for training in (whole, killed):
        training.out.mkdir()
    expected = whole.finish()
    assert json.loads(expected)[2][4] > 0, "nothing was dropped"

    rng = random.Random(3)
    landed = sum(killed.kill_when(killed.saves(rng.randint(1, 30))) for _ in range(3))
    landed += killed.kill_when(lambda: any(killed.state.glob(".incomplete-*")))
    assert landed >= 2, "the kills came too late to prove anything"
    assert killed.finish() == expected
    assert not list(killed.state.glob(".incomplete-*"))
    assert "texts were counted before" in (killed.out / "log").read_text(encoding="utf-8")
    assert killed.finish() == expected  # from the finished counts
