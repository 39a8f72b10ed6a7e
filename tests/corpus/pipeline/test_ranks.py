"""Ranks that are killed, missing, or started with something else."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from groundup.core.errors import DataError, RunLockedError, UsageError
from groundup.corpus.build import CorpusConfig, build, build_rank, prepare
from groundup.corpus.pipeline import ranks
from groundup.corpus.pipeline.ranks import ALONE, Rank, await_parts, taking_part
from groundup.corpus.reading import ReadingConfig
from tests.corpus.pipeline.conftest import contents

STEPS = ("clean", "exact-duplicates", "long-enough", "minhash")

#: A rank in a process of its own, which takes its time with each shard.
SCRIPT = """
import sys, time
from pathlib import Path
import groundup.core.run
from groundup.corpus.build import *
from groundup.corpus.pipeline import passes, ranks

groundup.core.run.code_version = lambda module: "the same"
ranks.LOOK = ranks.WORD = 0.05
work = passes.ShardPass.__call__
passes.ShardPass.__call__ = lambda *given: (time.sleep(0.1), work(*given))
path, out, rank = sys.argv[1:]
config = CorpusConfig(path=Path(path), steps={steps}, workers=1, reading=ReadingConfig(shard_megabytes=0.01))
build_rank(config, Path(out), ranks.Rank(int(rank), 2))
"""


@pytest.fixture(autouse=True)
def quick_and_the_same_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundup.core.run.code_version", lambda module: "the same")
    monkeypatch.setattr(ranks, "LOOK", 0.01)
    monkeypatch.setattr(ranks, "GRACE", 0.01)


@pytest.fixture
def config(rows: Path) -> CorpusConfig:
    return CorpusConfig(path=rows, steps=STEPS, workers=1, reading=ReadingConfig(shard_megabytes=0.01))


@pytest.mark.parametrize("steps", [STEPS, ("clean", "embedding")], ids=["minhash", "embedding"])
def test_a_rank_that_is_killed_and_started_again_changes_nothing(
    steps: tuple[str, ...], config: CorpusConfig, tmp_path: Path
) -> None:
    config = replace(config, steps=steps)
    build(config, tmp_path / "alone", seed=1)
    assert "embedding" not in steps or b"same content" in (tmp_path / "alone" / "dropped.jsonl").read_bytes()
    out = tmp_path / "ranks"

    def start(rank: int) -> Any:
        words = [sys.executable, "-c", SCRIPT.format(steps=steps), str(config.path), str(out), str(rank)]
        return subprocess.Popen(words, stderr=subprocess.PIPE, encoding="utf-8")

    first, second = start(0), start(1)
    while second.poll() is None and not list(tmp_path.glob("ranks-shards/*/pass-0/000001")):
        time.sleep(0.01)
    assert second.poll() is None, "it ended before it could be killed"
    second.kill()
    second.wait()
    for line in first.stderr:  # it waits for the dead one, and says so
        if "(not at work)" in line:
            break
    assert line.startswith("  rank 0: waits for ") and line.endswith("pass-0, of rank 1 (not at work)\n")
    assert first.poll() is None and not (out / "train.jsonl").exists()
    again = start(1)
    _, told = again.communicate()
    assert again.returncode == 0, told
    first.communicate()
    assert first.returncode == 0
    build(config, out, seed=1)
    assert contents(out) == contents(tmp_path / "alone")


def test_a_missing_rank_is_waited_for_no_longer_than_asked(
    config: CorpusConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match=r"rank 1 has waited 0:00 for nothing new of rank 0 \(not at work\), rank 2 "):
        build_rank(config, tmp_path / "out", Rank(1, 3, patience=0.05))
    assert "rank 1: waits for" in capsys.readouterr().err
    build(config, tmp_path / "out", seed=1)  # it does what is missing
    build(config, tmp_path / "alone", seed=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


def test_news_of_the_others_renew_the_patience(config: CorpusConfig, tmp_path: Path, capsys: Any) -> None:
    plan, _ = prepare(config, tmp_path / "out")
    parts = [tmp_path / str(number) for number in range(6)]
    coming = iter(parts)

    def look(seconds: float) -> None:
        clock[0] += 50
        next(coming).touch()

    clock = [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks.time, "sleep", look)
        patch.setattr(ranks.time, "monotonic", lambda: clock[0])
        await_parts(parts, plan.folder, Rank(0, 2, patience=60.0))
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3, "after 0, 60 and 180 seconds"
    assert "waits for 6 of 6 parts" in told[0] and "waits for 4 of 6 parts" in told[1]


def test_many_parts_are_looked_for_in_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"pass-{number % 2}" / f"{number:06d}" for number in range(1000)]
    for path in paths[:-1]:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    asked: list[Path] = []
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda self: (asked.append(self), exists(self))[1])
    with pytest.raises(DataError, match="nothing new of rank 1 "):
        await_parts(paths, tmp_path, Rank(0, 2, patience=0.05))
    assert len(asked) < 50
    paths[-1].touch()
    await_parts(paths, tmp_path, Rank(0, 2, patience=0.05))
    with pytest.raises(DataError, match=r"nothing new of rank 0 .*, rank 1 "):
        await_parts([tmp_path / "nowhere" / str(number) for number in range(50)], tmp_path, Rank(0, 2, patience=0.05))


def test_what_is_made_elsewhere_and_not_seen_here_is_an_error(
    config: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster whose machines have different folders of one name."""

    class Elsewhere:
        def run(self, work: Any, tasks: Any, tell: Any) -> None:
            """Leaves its files on another machine."""

    monkeypatch.setattr(ranks, "SEEN", 0.05)
    monkeypatch.setattr("groundup.corpus.build.executor_for", lambda workers, size: Elsewhere())
    with pytest.raises(DataError, match="000000 was made, and is not here; all machines must see the same"):
        build(config, tmp_path / "out", seed=1)


@pytest.mark.parametrize(
    ("ours", "theirs", "changed", "complaint"),
    [
        (Rank(1, 3), Rank(0, 2), {}, "rank 0 of 2 is at work in .*, and this is rank 1 of 3; .* the same --world-size"),
        (Rank(1, 2), Rank(0, 2), {"min_characters": 7}, "corpus.min_characters is 7 there and 100 here; start all"),
        (Rank(1, 2), Rank(0, 2), {"steps": ("clean",)}, r"corpus.steps is \['clean'\] there and \['clean', 'exact"),
        (Rank(1, 2), Rank(1, 2), {}, "rank 1 of 2 is at work in .* already"),
        (ALONE, Rank(1, 2), {}, "rank 1 of 2 is at work in .*; start this one when it has ended"),
        (Rank(1, 2), ALONE, {}, "another process is at work in .*; start this one when it has ended"),
        (ALONE, ALONE, {}, "another process is at work in .* already"),
    ],
    ids=["world size", "setting", "steps", "same rank", "stage during ranks", "rank during stage", "stage twice"],
)
def test_who_does_not_belong_together_is_told(
    ours: Rank, theirs: Rank, changed: dict[str, Any], complaint: str, config: CorpusConfig, tmp_path: Path
) -> None:
    other, _ = prepare(replace(config, **changed), tmp_path / "out")
    plan, _ = prepare(config, tmp_path / "out")
    with (
        taking_part(other, theirs),
        pytest.raises((UsageError, RunLockedError), match=complaint),
        taking_part(plan, ours),
    ):
        pass
    with taking_part(plan, ours):  # it has ended
        pass


def test_ranks_on_other_files_or_with_another_program_are_told(config: CorpusConfig, tmp_path: Path) -> None:
    other, _ = prepare(config, tmp_path / "out")
    assert config.path is not None
    (config.path / "part1.jsonl").write_text('{"text": "other"}\n', encoding="utf-8")
    plan, _ = prepare(config, tmp_path / "out")
    told = r"the input \(names, sizes and times of its files\) is \w+ there and \w+ here"
    with taking_part(other, Rank(0, 2)), pytest.raises(UsageError, match=told), taking_part(plan, Rank(1, 2)):
        pass


def test_work_that_is_of_no_use_any_more_is_told(
    config: CorpusConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_rank(replace(config, min_characters=7), tmp_path / "out", Rank())
    build(config, tmp_path / "out", seed=1)
    assert "is not used: corpus.min_characters is 7 there and 100 here\n" in capsys.readouterr().err


def test_relative_paths_mean_the_same_to_ranks_and_stage(
    config: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert config.path is not None
    relative = replace(config, path=config.path.relative_to(tmp_path))
    build_rank(relative, tmp_path / "out", Rank())
    build(relative, tmp_path / "out", seed=1)
    assert "not used" not in capsys.readouterr().err


Command = Callable[..., Any]


def test_the_command_takes_the_bound(command: Command, config: CorpusConfig, tmp_path: Path) -> None:
    shards = ("--corpus.reading.shard-megabytes", "0.01")
    options = (*shards, "--corpus.path", config.path, "--rank", "0", "--world-size", "2", "--out", tmp_path / "run")
    outcome = command("corpus", "shard", *options, "--wait-minutes", "0.001")
    assert outcome.code == 1 and "rank 1 (not at work); what is finished is kept" in outcome.complaint
    assert "must be at least 0" in command("corpus", "shard", *options, "--wait-minutes", "-1").complaint
