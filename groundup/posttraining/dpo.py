"""Preference optimisation: learn from pairs of the model's own answers, a better and a worse one.

Enters: the SFT model and the problems of the train split. Leaves in ``dpo/``: ``pairs.jsonl``, ``checkpoints/``
and ``metrics.jsonl``. The tasks judge the answers: right beats wrong, and among right ones concise beats rambling.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groundup.core.device import autocast, choose_device, choose_dtype
from groundup.core.errors import DataError, UsageError
from groundup.core.files import read_jsonl, write_jsonl
from groundup.core.progress import track
from groundup.core.seeding import derive_seed, numpy_rng
from groundup.core.world import world
from groundup.dataloader import Batch, pack
from groundup.dataloader.packing import Masked
from groundup.inference import Engine, Sampling
from groundup.model import Transformer
from groundup.objectives import Preference, token_log_probabilities
from groundup.posttraining.common import Answer, answer, mixture, stage_model
from groundup.tokenizer import BytePairTokenizer, ChatTemplate
from groundup.training import TrainingConfig, train


@dataclass(frozen=True)
class DPOConfig(TrainingConfig):
    """Direct preference optimisation on the model's own answers."""

    pairs: int = 32
    """Pairs in a micro-batch."""
    beta: float = 0.1
    """How strongly the model is held to the SFT model; smaller lets it move further."""
    anchor: float = 0.2
    """Weight of the chosen answer's own cross-entropy."""
    problems: int = 1024
    """Problems that the SFT model answers to make the pairs."""
    answers: int = 8
    """Answers sampled to each problem."""
    pairs_per_problem: int = 2
    """Most pairs taken from one problem."""
    temperature: float = 1.0
    """Temperature of the sampled answers."""
    max_tokens: int = 64
    """Longest sampled answer in tokens."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("pairs", "problems", "pairs_per_problem", "max_tokens"):
            if getattr(self, name) < 1:
                raise UsageError(f"dpo.{name} is {getattr(self, name)}; it must be at least 1")
        if self.answers < 2:
            raise UsageError(f"dpo.answers is {self.answers}; a pair needs at least 2")
        if self.beta <= 0:
            raise UsageError(f"dpo.beta is {self.beta}; it must be greater than 0")


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, as ids after the prompt's, and what the frozen reference thinks of them."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    family: str
    reference_chosen: float = 0.0
    """log π_ref(chosen | prompt), in nats."""
    reference_rejected: float = 0.0

    def sequences(self) -> tuple[Masked, Masked]:
        """Chosen and rejected, masked over the answers."""
        chosen, rejected = (
            (self.prompt + ids, [False] * len(self.prompt) + [True] * len(ids)) for ids in (self.chosen, self.rejected)
        )
        return chosen, rejected


def quality(given: Answer) -> int:
    """Rank of an answer: 3 right and concise, 2 right but rambling, 1 wrong but ended, 0 endless."""
    if given.reward:
        return 3
    if given.stopped:
        return 2 if given.grade.contains else 1
    return 0


def choose_pairs(answers: Sequence[Answer], limit: int, template: ChatTemplate, seed: int) -> list[Pair]:
    """Pairs of a best answer and a worse one to the same problem, distinct, drawn by ``seed``.

    A problem whose answers are all equally good, or equally bad, gives none.
    """
    ranks = [quality(given) for given in answers]
    best = [given for given, rank in zip(answers, ranks, strict=True) if rank == max(ranks)]
    worse = [given for given, rank in zip(answers, ranks, strict=True) if rank < max(ranks)]
    combinations = {(tuple(good.completion.picked), tuple(bad.completion.picked)) for good in best for bad in worse}
    ordered = sorted(combinations)
    picks = numpy_rng(seed, "pairs").permutation(len(ordered))[:limit]
    prompt = template.prompt(answers[0].problem.conversation.prompt)
    return [Pair(prompt, list(ordered[i][0]), list(ordered[i][1]), answers[0].problem.family) for i in picks]


class PairSource:
    """Batches of pairs, in a new order every epoch."""

    def __init__(self, pairs: Sequence[Pair], size: int, padding: int, seed: int) -> None:
        self.pairs = pairs
        self.size = min(size, len(pairs))
        self.padding = padding
        self.seed = seed
        self.position = 0  # batches already yielded

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = int(state["position"])

    def __iter__(self) -> Iterator[Batch]:
        per_epoch = len(self.pairs) // self.size
        while True:
            epoch, number = divmod(self.position, per_epoch)
            order = numpy_rng(self.seed, "epoch", epoch).permutation(len(self.pairs))
            self.position += 1
            yield preference_batch([self.pairs[i] for i in order[number * self.size :][: self.size]], self.padding)


def preference_batch(pairs: Sequence[Pair], padding: int) -> Batch:
    """All chosen answers, then all rejected ones, one a row."""
    both = [pair.sequences() for pair in pairs]
    rows = [[chosen] for chosen, _ in both] + [[rejected] for _, rejected in both]
    tensors = pack(rows, max(len(row[0][0]) for row in rows) - 1, padding)
    reference = [pair.reference_chosen for pair in pairs] + [pair.reference_rejected for pair in pairs]
    return Batch({**tensors, "reference": torch.tensor(reference)}, weight=len(pairs), paired=True)


@torch.no_grad()
def score_reference(
    model: Transformer, pairs: Sequence[Pair], padding: int, dtype: torch.dtype, rows: int = 64
) -> list[Pair]:
    """The pairs with the frozen model's log-probabilities of their answers."""
    device = model.embedding.weight.device
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i].prompt))
    scored = list(pairs)
    for start in track(range(0, len(order), rows), "score pairs", -(-len(order) // rows), "batch"):
        chosen = order[start : start + rows]
        batch = preference_batch([pairs[i] for i in chosen], padding)
        tensors: dict[str, Tensor] = {name: tensor.to(device) for name, tensor in batch.tensors.items()}
        with autocast(device, dtype):
            sums = token_log_probabilities(model, Batch(tensors, batch.weight)).sum(dim=1).tolist()
        for place, i in enumerate(chosen):
            old = pairs[i]
            scored[i] = Pair(old.prompt, old.chosen, old.rejected, old.family, sums[place], sums[len(chosen) + place])
    return scored


def make_pairs(config: DPOConfig, run: Path, model: Transformer, tokenizer: BytePairTokenizer, seed: int) -> list[Pair]:
    """Sample answers, pair them, score them under the reference; kept in ``pairs.jsonl`` once made."""
    path = run / "dpo" / "pairs.jsonl"
    if path.exists():
        return [Pair(**row) for row in read_jsonl(path)]
    task = mixture(run, "train", derive_seed(seed, "dpo"))
    problems = [task.problem(index) for index in range(config.problems)]
    template = ChatTemplate(tokenizer)
    engine = Engine(model, template.stop_ids, max_rows=128)
    sampling = Sampling(temperature=config.temperature, max_tokens=config.max_tokens, seed=derive_seed(seed, "answers"))
    repeated = [problem for problem in problems for _ in range(config.answers)]
    answers = answer(engine, tokenizer, repeated, sampling, "sample answers")
    pairs: list[Pair] = []
    for number in range(len(problems)):
        group = answers[number * config.answers : (number + 1) * config.answers]
        pairs += choose_pairs(group, config.pairs_per_problem, template, derive_seed(seed, number))
    if not pairs:
        raise DataError(
            f"none of {config.problems} problems has a better and a worse answer; "
            "train SFT longer (sft.steps) or raise dpo.problems"
        )
    dtype = choose_dtype(config.precision, model.embedding.weight.device)
    pairs = score_reference(model, pairs, tokenizer.special_tokens["<|pad|>"], dtype)
    write_jsonl(path, (vars(pair) for pair in pairs))
    return pairs


def build(config: DPOConfig, run: Path, seed: int) -> dict[str, float]:
    """Optimise the SFT model of the run directory ``run``; return the stage's metrics."""
    model, tokenizer = stage_model(run, "sft")
    model.to(choose_device(config.device))
    pairs = world().ahead(lambda: make_pairs(config, run, model, tokenizer, seed))
    source = PairSource(pairs, config.pairs, tokenizer.special_tokens["<|pad|>"], derive_seed(seed, "order"))
    objective = Preference(config.beta, config.anchor)
    result = train(model, objective, source, config, tokenizer, run / "dpo", "dpo", seed=seed)
    return {**result.metrics(), "pairs": len(pairs)}
