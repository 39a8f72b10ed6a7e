"""A list of steps, run over shards of any number by any number of processes; the same bytes come out.

The input's shards and the names of the steps enter; the documents that are left, and the account of each step, leave.
Killed at any moment, the same call goes on: what a shard gave in a pass is on the disk, whole, or it is made again.
"""

import shutil
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from groundup.core.files import read_json, write_json
from groundup.core.progress import Progress
from groundup.corpus.dedup import CrossStep, Workspace
from groundup.corpus.document import Document, read_documents
from groundup.corpus.pipeline.account import Account, Profile
from groundup.corpus.pipeline.executor import Executor, Task, Tell
from groundup.corpus.pipeline.passes import (
    KEPT,
    READ,
    Pass,
    Plan,
    Shard,
    ShardPass,
    dropped_name,
    read_accounts,
    read_sizes,
)
from groundup.corpus.pipeline.ranks import ALONE, Rank, await_parts
from groundup.corpus.pipeline.registry import STEPS, make
from groundup.corpus.pipeline.whole import WholeStep


def cut_into_passes(steps: Sequence[str]) -> tuple[Pass, ...]:
    """The passes of a pipeline: a step across documents begins a new one."""
    leads, runs = [""], [list[str]()]
    for name in steps:
        if STEPS[name].across:
            leads.append(name)
            runs.append([])
        else:
            runs[-1].append(name)
    return tuple(
        Pass(number, lead, tuple(run), following)
        for number, (lead, run, following) in enumerate(zip(leads, runs, [*leads[1:], ""], strict=True))
    )


@dataclass(frozen=True)
class Resolve:
    """Phase 2 of a step across documents: the work on one range of hashes."""

    plan: Plan
    this: Pass

    @cached_property
    def workspace(self) -> Workspace:
        return self.plan.workspace(self.this.number)

    def __call__(self, task: Task, tell: Tell) -> None:
        start = time.thread_time()
        step: CrossStep = make(self.this.lead, self.plan.config)
        step.resolve(self.workspace, task.number)
        write_json(_bucket_seconds(self.workspace, task.number), time.thread_time() - start)


def _bucket_seconds(workspace: Workspace, bucket: int) -> Path:
    return workspace.folder / f"seconds-{bucket:06d}.json"


def run(plan: Plan, shards: Sequence[Shard], executor: Executor, rank: Rank = ALONE) -> None:
    """Bring every shard (of a rank) through every pass, as far as that is not done.

    Raises:
        GroundupError: a worker died, the disk is full, a step cannot work; what is finished stays. Or other ranks make
            the rank wait too long.
    """
    own = rank.mine(range(len(shards)))
    _forget_husks(plan, own)
    for this in plan.passes:
        if this.lead:
            _settle(plan, this, executor, rank)
        tasks = [
            Task(number, shard.name, _size(plan, this, number, shard), shard if not this.number else None)
            for number, shard in ((number, shards[number]) for number in own)
        ]
        waiting = [task for task in tasks if not plan.result(this.number, task.number).exists()]
        total, left = (sum(task.size for task in some) for some in (tasks, waiting))
        with Progress(this.lead or READ, total=total, unit="B", done=total - left) as progress:
            executor.run(ShardPass(plan, this), waiting, progress.advance)
        await_parts(plan.results(this.number), plan.folder, rank)
        if this.number:
            for number in own:
                (plan.result(this.number - 1, number) / KEPT).unlink(missing_ok=True)


def _forget_husks(plan: Plan, shards: Sequence[int]) -> None:
    """Make again what lost its text, as a finished pass does, before the next pass had it: somebody deleted that."""
    for number in shards:
        for this in reversed(plan.passes[:-1]):
            result = plan.result(this.number, number)
            following = plan.result(this.number + 1, number)
            if not following.exists() and result.exists() and not (result / KEPT).exists():
                shutil.rmtree(result)


def _size(plan: Plan, this: Pass, number: int, shard: Shard) -> int:
    """Bytes that a pass reads of a shard."""
    return int(read_sizes(plan.result(this.number - 1, number)).sum()) if this.number else shard.bytes


def _settle(plan: Plan, this: Pass, executor: Executor, rank: Rank) -> None:
    """Let the step across documents decide, once; what it needs to know of each document is on the disk."""
    workspace = plan.workspace(this.number)
    done = workspace.folder / "settled.json"
    if done.exists():
        return
    step: CrossStep | WholeStep = make(this.lead, plan.config)
    buckets = workspace.buckets if isinstance(step, CrossStep) else 0
    if buckets:
        tasks = [Task(bucket, f"bucket {bucket} of {this.lead}", 0) for bucket in range(buckets)]
        executor.run(Resolve(plan, this), rank.mine(tasks), lambda amount: None)
        await_parts([_bucket_seconds(workspace, bucket) for bucket in range(buckets)], plan.folder, rank)
    if rank.rank == 0:
        start = time.process_time()
        if isinstance(step, CrossStep):
            step.settle(workspace)
        else:
            step.settle(workspace, list(_documents(plan, this.number - 1)))
        seconds = sum(read_json(_bucket_seconds(workspace, bucket)) for bucket in range(buckets))
        write_json(done, {"seconds": seconds + time.process_time() - start})
    await_parts([done], plan.folder, rank)


def _documents(plan: Plan, number: int) -> Iterator[Document]:
    for result in plan.results(number):
        yield from read_documents(result / KEPT)


@dataclass
class Outcome:
    """What a finished pipeline leaves."""

    plan: Plan
    accounts: list[Account] = field(default_factory=list)
    read: Profile = field(default_factory=Profile)
    kept: Profile = field(default_factory=Profile)

    @classmethod
    def of(cls, plan: Plan) -> "Outcome":
        """Add up what all shards say."""
        outcome = cls(plan)
        for this in plan.passes:
            sums = [Account(name) for name in (this.lead or READ, *this.steps)]
            kept = Profile()
            for result in plan.results(this.number):
                accounts, read_before, kept_after = read_accounts(result)
                for account, other in zip(sums, accounts, strict=True):
                    account.merge(other)
                outcome.read.merge(read_before)
                kept.merge(kept_after)
            if this.lead:
                sums[0].seconds += read_json(plan.workspace(this.number).folder / "settled.json")["seconds"]
            outcome.accounts += sums
            outcome.kept = kept
        return outcome

    @property
    def results(self) -> list[Path]:
        """Of the last pass."""
        return self.plan.results(self.plan.passes[-1].number)

    def sizes(self) -> "array[int]":
        """Bytes of every document that is left, in order; in four bytes each, unless there are very large ones."""
        found = array("I")
        for sizes in map(read_sizes, self.results):
            if found.typecode == "I" and sizes.max(initial=0) >= 2**32:
                found = array("Q", found)
            found.frombytes(sizes.astype(f"u{found.itemsize}").tobytes())
        return found

    def lines(self) -> Iterator[bytes]:
        """The documents that are left, in order, each as its line of JSON."""
        for result in self.results:
            with (result / KEPT).open("rb") as handle:
                yield from handle

    def documents(self) -> Iterator[Document]:
        """The documents that are left, in order."""
        return _documents(self.plan, self.plan.passes[-1].number)

    def dropped_lines(self) -> Iterator[bytes]:
        """What was dropped, step by step, in order, each as its line of JSON."""
        for this in self.plan.passes:
            for step in range(1 + len(this.steps)):
                for result in self.plan.results(this.number):
                    path = result / dropped_name(step)
                    if path.exists():
                        with path.open("rb") as handle:
                            yield from handle
