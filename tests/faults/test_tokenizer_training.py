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

WORDS = ("the", "a", "one", "old", "good", "king", "boy", "dog", "house", "river", "road", "hill", "ship", "and", "but")

# Small blocks, a save after each, and time between them to interrupt; memory that forces pieces to be dropped.
SCRIPT = """
import json, sys, time
from pathlib import Path
from groundup.tokenizer import counting
from groundup.tokenizer.trainer import learn, read_texts
counting.SAVE_SECONDS, counting.BLOCK_CHARACTERS, counting.LEAST_MEMORY = 0.0, 1000, 1
corpus, state, result = map(Path, sys.argv[1:])
def texts():
    for text in read_texts([corpus]):
        time.sleep(0.005)
        yield text
learnt = learn(texts(), 300, threads=2, memory=60_000, state=state)
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

    @property
    def log(self) -> str:
        return (self.out / "log").read_text(encoding="utf-8")

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", SCRIPT, str(self.corpus), str(self.state), str(self.out / "result.json")]
        return subprocess.Popen(command, stderr=(self.out / "log").open("ab"))

    def finish(self) -> str:
        assert self.start().wait() == 0, self.log
        return (self.out / "result.json").read_text(encoding="utf-8")

    def kill_when(self, moment: Callable[[], bool]) -> bool:
        """Start, kill at the moment; False if it was done before."""
        process = self.start()
        try:
            while process.poll() is None:
                if moment():
                    return process.poll() is None
                time.sleep(0.0005)
            assert process.returncode == 0, self.log
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
    """Sixty texts of common and invented words, 180 kB, as JSON lines."""
    path = tmp_path_factory.mktemp("training") / "corpus.jsonl"
    rng = random.Random(0)
    invented = [f"{first}{second}" for first in WORDS for second in WORDS]
    texts = [" ".join(rng.choices(WORDS, k=300) + rng.choices(invented, k=200)) for _ in range(60)]
    lines = [json.dumps({"text": text}) for text in texts]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_killed_at_any_moment_it_learns_the_same(corpus: Path, tmp_path: Path) -> None:
    whole, killed = Training(corpus, tmp_path / "whole"), Training(corpus, tmp_path / "killed")
    for training in (whole, killed):
        training.out.mkdir()
    expected = whole.finish()
    assert json.loads(expected)[2][4] > 0, "nothing was dropped"

    rng = random.Random(3)
    landed = sum(killed.kill_when(killed.saves(rng.randint(1, 15))) for _ in range(3))
    landed += killed.kill_when(lambda: any(killed.state.glob(".incomplete-*")))
    assert landed >= 2, "the kills came too late to prove anything"
    assert killed.finish() == expected
    assert not list(killed.state.glob(".incomplete-*"))
    assert "texts were counted before" in killed.log
    assert killed.finish() == expected  # from the finished counts
