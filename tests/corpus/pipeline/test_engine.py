"""The same bytes for any number of processes, ranks and kills; nothing lost on a full disk or by a step that fails."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from groundup.core.errors import DataError, StorageError
from groundup.core.files import TEMPORARY_PREFIX
from groundup.corpus.build import CorpusConfig, build, build_rank, prepare
from groundup.corpus.document import Document, read_documents
from groundup.corpus.pipeline import passes
from groundup.corpus.pipeline.executor import Processes, Task
from groundup.corpus.pipeline.ranks import Rank
from groundup.corpus.reading import ReadingConfig
from tests.corpus.pipeline.conftest import contents

STEPS = ("clean", "exact-duplicates", "long-enough", "near-duplicates")


#: What a process of its own begins with: the same program as ours, also where somebody edits it meanwhile.
BEGIN = """
import sys, time
from pathlib import Path
import groundup.core.run
from groundup.corpus.build import *
from groundup.corpus.pipeline import passes
from groundup.corpus.pipeline.ranks import Rank

groundup.core.run.code_version = lambda module: "the same"
path, out = map(Path, sys.argv[1:])
"""


@pytest.fixture(autouse=True)
def the_same_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundup.core.run.code_version", lambda module: "the same")


@pytest.fixture
def config(rows: Path) -> CorpusConfig:
    """About twelve shards."""
    return CorpusConfig(path=rows, steps=STEPS, workers=1, reading=ReadingConfig(shard_megabytes=0.01))


def test_the_number_of_processes_and_shards_changes_nothing(config: CorpusConfig, tmp_path: Path) -> None:
    build(config, tmp_path / "one", seed=1)
    build(replace(config, workers=2), tmp_path / "two", seed=1)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    build(replace(config, reading=ReadingConfig()), tmp_path / "undivided", seed=1)
    assert contents(tmp_path / "one") == contents(tmp_path / "undivided")


def test_ranks_share_the_work_and_any_later_call_puts_it_together(config: CorpusConfig, tmp_path: Path) -> None:
    config = replace(config, steps=("clean", "long-enough"))
    build(config, tmp_path / "one", seed=1)
    reading = "ReadingConfig(shard_megabytes=0.01)"
    made = f"CorpusConfig(path=path, steps=('clean', 'long-enough'), workers=1, reading={reading})"
    script = BEGIN + f"build_rank({made}, out, Rank(1, 2))"
    other = subprocess.Popen([sys.executable, "-c", script, str(config.path), str(tmp_path / "ranks")])
    build_rank(config, tmp_path / "ranks", Rank(0, 2))
    assert other.wait() == 0
    shards = list(tmp_path.glob("ranks-shards/*/pass-0/*"))
    before = {shard: shard.stat().st_mtime_ns for shard in shards}
    assert len(before) > 4

    def refuse(self: Any, task: Task, tell: Any) -> None:
        raise AssertionError("all shards are done")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes.ShardPass, "__call__", refuse)
        build(config, tmp_path / "ranks", seed=1)
    assert contents(tmp_path / "ranks") == contents(tmp_path / "one")


@pytest.mark.parametrize("steps", [STEPS, ("clean", "embedding")], ids=["all", "embedding"])
def test_killed_in_the_middle_it_ends_in_the_same_bytes(
    steps: tuple[str, ...], config: CorpusConfig, tmp_path: Path
) -> None:
    """The parent of two workers is killed as soon as some shards are done; what is done is not done again."""
    config = replace(config, steps=steps)
    build(config, tmp_path / "whole", seed=1)
    script = BEGIN + (
        "work = passes.ShardPass.__call__\n"
        "passes.ShardPass.__call__ = lambda *given: (time.sleep(0.2), work(*given))\n"
        "reading = ReadingConfig(shard_megabytes=0.01)\n"
        f"build(CorpusConfig(path=path, steps={steps}, workers=1, reading=reading), out, 1)"
    )
    out = tmp_path / "killed"
    for number in (0, 1):
        process = subprocess.Popen([sys.executable, "-c", script, str(config.path), str(out)])
        while process.poll() is None and len(list(tmp_path.glob(f"killed-shards/*/pass-{number}/0*"))) < 3:
            time.sleep(0.01)
        assert process.poll() is None, "it ended before it could be killed"
        process.kill()
        process.wait()
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("killed-shards/*/pass-1/0*")}
    assert len(done) >= 3 and not (out / "train.jsonl").exists()
    build(config, out, seed=1)
    assert contents(out) == contents(tmp_path / "whole")
    assert not (tmp_path / "killed-shards").exists()


def test_what_changed_meanwhile_is_made_again(config: CorpusConfig, tmp_path: Path) -> None:
    build_rank(config, tmp_path / "out", Rank())
    assert config.path is not None
    file = config.path / "part1.jsonl"
    file.write_text(json.dumps({"text": "Quite another text. " * 20}) + "\n", encoding="utf-8")
    build(config, tmp_path / "out", seed=1)
    build(config, tmp_path / "fresh", seed=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


@pytest.mark.parametrize("writes", [0, 7, 30])
def test_a_disk_that_fills_up_stops_it_and_the_same_call_goes_on(
    writes: int, config: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, synchronise = writes, os.fsync

    def full(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        synchronise(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="no space left on the disk while writing"):
            build(config, tmp_path / "out", seed=1)
    assert not list(tmp_path.rglob(f"{TEMPORARY_PREFIX}*"))
    build(config, tmp_path / "out", seed=1)
    build(config, tmp_path / "fresh", seed=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_a_document_on_which_a_step_fails_is_dropped_with_the_error(
    config: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(document: Document) -> Document:
        if document.id == "part1.jsonl:3":
            raise RecursionError("maximum recursion depth exceeded")
        return replace(document, measures={"score": float("nan")}) if document.id == "part2.jsonl:4" else document

    monkeypatch.setattr(passes, "make", lambda name, config: failing)
    build(replace(config, steps=("clean",)), tmp_path / "out", seed=1)
    lines = (tmp_path / "out" / "dropped.jsonl").read_text(encoding="utf-8").splitlines()
    rows = {row["id"]: row["detail"] for row in map(json.loads, lines) if row["reason"] == "step failed"}
    assert rows == {
        "part1.jsonl:3": "RecursionError: maximum recursion depth exceeded",
        "part2.jsonl:4": "ValueError: measures are no finite numbers: {'score': nan}",
    }


def test_dropped_texts_may_be_cut(config: CorpusConfig, tmp_path: Path) -> None:
    build(replace(config, dropped_characters=10), tmp_path / "out", seed=1)
    rows = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text("utf-8").splitlines()]
    assert rows and max(len(row["text"]) for row in rows) == 10
    assert any(row["bytes"] > 100 for row in rows)


def test_a_file_that_vanishes_is_counted(config: CorpusConfig, tmp_path: Path, prose: Callable[..., str]) -> None:
    from groundup.corpus import build as module

    assert config.path is not None
    plan, shards = module.prepare(config, tmp_path / "out")
    (config.path / "part2.jsonl").unlink()
    module.run(plan, shards, Processes(1))
    outcome = module.Outcome.of(plan)
    assert "missing" in outcome.accounts[0].removed


def test_nothing_that_was_read_is_lost(config: CorpusConfig, tmp_path: Path) -> None:
    metrics = build(config, tmp_path / "out", seed=1)
    kept = [*read_documents(tmp_path / "out" / "train.jsonl"), *read_documents(tmp_path / "out" / "validation.jsonl")]
    rows = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text("utf-8").splitlines()]
    names = [document.id for document in kept] + [row["id"] for row in rows]
    assert sorted(names) == sorted(f"part{number}.jsonl:{line}" for number in range(3) for line in range(1, 25))
    assert metrics["documents_read"] == len(names)
    assert {row["reason"] for row in rows} == {"broken JSON", "exact duplicate", "too short"}


def test_nothing_left_is_an_error_that_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("tiny", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.txt is too short \(4 characters, the limit is 100\)"):
        build(CorpusConfig(path=tmp_path / "a.txt"), tmp_path / "out", seed=1)


def test_a_result_that_somebody_deleted_is_made_again(config: CorpusConfig, tmp_path: Path) -> None:
    """Also when the pass that it is made from has gone to the next one already, and keeps no text any more."""
    build(config, tmp_path / "fresh", seed=1)
    build_rank(config, tmp_path / "out", Rank())
    [folder] = tmp_path.glob("out-shards/*")
    last = max(folder.glob("pass-*"))
    assert not list(folder.glob("pass-0/*/kept.jsonl")) and last.name == "pass-2"
    shutil.rmtree(last / "000003")
    shutil.rmtree(folder / "pass-1" / "000005")
    build(config, tmp_path / "out", seed=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_a_shard_that_two_workers_make_at_once_is_made(
    config: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a cluster, when a worker that was thought lost is only slow."""
    plan, shards = prepare(config, tmp_path / "out")
    work, task = passes.ShardPass(plan, plan.passes[0]), Task(0, "first", 0, shards[0])
    target, finish = plan.result(0, 0), passes._Results.finish
    work(task, lambda amount: None)
    made = contents(target.rename(tmp_path / "other"))

    def finish_second(results: Any) -> None:
        finish(results)
        shutil.copytree(tmp_path / "other", target)

    monkeypatch.setattr(passes._Results, "finish", finish_second)
    work(task, lambda amount: None)
    assert contents(target) == made and not list(tmp_path.rglob(f"{TEMPORARY_PREFIX}*"))
