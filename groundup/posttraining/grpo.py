"""Reinforcement learning with verifiable rewards: sample a group of answers, reinforce the better ones.

Enters: the DPO model and the problems of the train split. Leaves in ``grpo/``: ``checkpoints/`` and
``metrics.jsonl``. Answers come from the same engine as chat; the weights that sample are those being trained.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groundup.core.device import autocast, choose_dtype
from groundup.core.errors import UsageError
from groundup.core.seeding import derive_seed
from groundup.dataloader import IGNORED, Batch, pack
from groundup.inference import Engine, Sampling
from groundup.model import Transformer
from groundup.objectives import PolicyGradient, token_log_probabilities
from groundup.objectives.policy import group_advantages
from groundup.posttraining.common import Answer, answer, masked, mixture, stage_model
from groundup.tasks import TaskMixture
from groundup.tokenizer import BytePairTokenizer, ChatTemplate
from groundup.training import TrainingConfig, train


@dataclass(frozen=True)
class GRPOConfig(TrainingConfig):
    """Group-relative policy optimisation on the tasks' rewards."""

    prompts: int = 32
    """Problems answered for one batch of rollouts."""
    group: int = 8
    """Answers sampled to each problem."""
    updates: int = 1
    """Steps taken on each batch of rollouts; more reuse them, held back by `policy_clip`."""
    policy_clip: float = 0.2
    """How far a token's probability ratio may move before its gradient stops."""
    normalise: bool = True
    """Divide a group's advantages by their deviation."""
    stop_reward: float = 0.0
    """Reward for an answer that ends by itself, added to the 1 for a right one."""
    temperature: float = 1.0
    """Temperature of the sampled answers."""
    max_tokens: int = 64
    """Longest sampled answer in tokens."""
    prefetch: int = 0
    """Must be 0: rollouts are sampled with the weights of their step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("prompts", "updates", "max_tokens"):
            if getattr(self, name) < 1:
                raise UsageError(f"grpo.{name} is {getattr(self, name)}; it must be at least 1")
        if self.prefetch:
            raise UsageError("grpo.prefetch must be 0: rollouts are sampled with the weights of their step")
        if self.group < 2:
            raise UsageError(f"grpo.group is {self.group}; a group needs at least 2 answers")
        if self.updates > 1 and self.accumulation > 1:
            raise UsageError(
                "grpo.updates and grpo.accumulation are both above 1; raise grpo.prompts instead of the latter"
            )
        if self.temperature <= 0:
            raise UsageError(f"grpo.temperature is {self.temperature}; without chance a group holds one answer")


class RolloutSource:
    """Samples answers with the weights as they are now and turns their rewards into batches.

    Groups whose answers all earn the same teach nothing and are left out (as in Yu et al. 2025, DAPO); a batch
    without any other group has weight 0, and its step is skipped and counted.
    """

    def __init__(
        self, model: Transformer, tokenizer: BytePairTokenizer, task: TaskMixture, config: GRPOConfig, seed: int
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.template = ChatTemplate(tokenizer)
        self.task = task
        self.config = config
        self.seed = seed
        self.position = 0  # batches already yielded
        self.rollouts: Batch | None = None  # reused while config.updates > 1

    def state_dict(self) -> dict[str, Any]:
        reused = self.rollouts is not None and self.position % self.config.updates != 0
        state: dict[str, Any] = {"position": self.position}
        if reused:
            assert self.rollouts is not None
            state["rollouts"] = {
                "tensors": {name: tensor.tolist() for name, tensor in self.rollouts.tensors.items()},
                "weight": self.rollouts.weight,
                "metrics": dict(self.rollouts.metrics),
            }
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = int(state["position"])
        if "rollouts" in state:
            saved = state["rollouts"]
            tensors = {name: torch.tensor(values) for name, values in saved["tensors"].items()}
            self.rollouts = Batch(tensors, saved["weight"], saved["metrics"])

    def __iter__(self) -> Iterator[Batch]:
        while True:
            if self.position % self.config.updates == 0 or self.rollouts is None:
                self.rollouts = self._sample(self.position // self.config.updates)
            self.position += 1
            yield self.rollouts

    def _sample(self, number: int) -> Batch:
        config = self.config
        first = number * config.prompts
        problems = [self.task.problem(index % len(self.task)) for index in range(first, first + config.prompts)]
        repeated = [problem for problem in problems for _ in range(config.group)]
        engine = Engine(self.model, self.template.stop_ids, max_rows=config.prompts * config.group)
        sampling = Sampling(config.temperature, max_tokens=config.max_tokens, seed=derive_seed(self.seed, number))
        answers = answer(engine, self.tokenizer, repeated, sampling)
        rewards = torch.tensor([given.reward + config.stop_reward * given.stopped for given in answers])
        rewards = rewards.view(config.prompts, config.group)
        return self._batch(answers, rewards)

    def _batch(self, answers: Sequence[Answer], rewards: Tensor) -> Batch:
        advantages = group_advantages(rewards, self.config.normalise).flatten()
        differ = (rewards != rewards[:, :1]).any(dim=1)  # exact, where a group's mean is rounded
        useful = differ.repeat_interleave(self.config.group).nonzero().flatten().tolist()
        metrics = {
            "reward": float(rewards.mean()),
            "reward_deviation": float(rewards.std(dim=1).mean()),
            "useful_answers": len(useful) / len(answers),
            "answer_tokens": sum(len(given.completion.picked) for given in answers) / len(answers),
            "stopped": sum(given.stopped for given in answers) / len(answers),
        }
        if not useful:
            empty = torch.zeros(0, 1, dtype=torch.long)
            return Batch({"inputs": empty, "targets": empty}, weight=0, metrics=metrics)
        rows = [[masked(answers[i], self.template)] for i in useful]
        time = max(len(row[0][0]) for row in rows) - 1
        tensors = pack(rows, time, self.tokenizer.special_tokens["<|pad|>"])
        weight = int((tensors["targets"] != IGNORED).sum())
        batch = Batch({**tensors, "advantages": advantages[useful]}, weight, metrics)
        if self.config.updates == 1:  # the weights that sampled are those being trained
            return batch
        return Batch({**batch.tensors, "old": self._log_probabilities(batch)}, weight, metrics)

    @torch.no_grad()
    def _log_probabilities(self, batch: Batch) -> Tensor:
        """Of the answers under the current weights, computed as training computes them."""
        device = self.model.embedding.weight.device
        tensors = {name: tensor.to(device) for name, tensor in batch.tensors.items()}
        with autocast(device, choose_dtype(self.config.precision, device)):
            return token_log_probabilities(self.model, Batch(tensors, batch.weight)).cpu()


def build(config: GRPOConfig, run: Path, seed: int) -> dict[str, float]:
    """Reinforce the DPO model of the run directory ``run``; return the stage's metrics."""
    model, tokenizer = stage_model(run, "dpo")
    task = mixture(run, "train", derive_seed(seed, "grpo"), size=10_000_000)
    source = RolloutSource(model, tokenizer, task, config, derive_seed(seed, "rollouts"))
    objective = PolicyGradient(config.policy_clip)
    result = train(model, objective, source, config, tokenizer, run / "grpo", "grpo", seed=seed)
    return result.metrics()
