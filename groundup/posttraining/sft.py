"""Supervised fine-tuning: learn to answer from conversations, with a loss on the assistant's tokens only.

Enters: the base model and the problems of the train split. Leaves in ``sft/``: ``checkpoints/`` and ``metrics.jsonl``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groundup.core.device import autocast, choose_dtype
from groundup.core.errors import DataError, UsageError
from groundup.dataloader import IGNORED, Batch, pack
from groundup.dataloader.packing import Masked
from groundup.distributed.pipeline import loss_of
from groundup.inference import Engine, Sampling
from groundup.model import Transformer
from groundup.objectives import next_token
from groundup.posttraining.common import answer, mixture, stage_model
from groundup.tasks import TRAINING_WEIGHTS, Task
from groundup.tokenizer import ChatTemplate
from groundup.training import Hook, TrainingConfig, train


@dataclass(frozen=True)
class SFTConfig(TrainingConfig):
    """Supervised fine-tuning on the tasks' conversations."""

    rows: int = 16
    """Packed rows of `model.context` tokens in a micro-batch."""
    chitchat: float = 0.04
    """Share of small talk among the conversations."""
    multi_turn: float = 0.15
    """Share of problems that come after an unrelated exchange in the same conversation."""
    validate_every: int = 100
    """Steps between measurements of validation loss and exact match."""
    validation_problems: int = 128
    """Problems of the validation split measured each time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rows", "validate_every", "validation_problems"):
            if getattr(self, name) < 1:
                raise UsageError(f"sft.{name} is {getattr(self, name)}; it must be at least 1")


class ConversationSource:
    """Packs conversations into rows, in order: each row takes conversations until the next does not fit."""

    def __init__(self, task: Task, template: ChatTemplate, rows: int, time: int) -> None:
        self.task = task
        self.template = template
        self.rows = rows
        self.time = time
        self.padding = template.tokenizer.special_tokens["<|pad|>"]
        self.position = 0  # conversations already yielded

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = int(state["position"])

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield batch_of([self._row() for _ in range(self.rows)], self.time, self.padding)

    def _row(self) -> list[Masked]:
        row: list[Masked] = []
        room = self.time
        while True:
            conversation = self.task.conversation(self.position % len(self.task))
            sequence = self.template.render(conversation)
            length = len(sequence[0]) - 1
            if length > self.time:
                raise DataError(
                    f"conversation {self.position} has {length + 1} tokens, more than model.context {self.time}; "
                    "raise model.context"
                )
            if length > room:
                return row
            row.append(sequence)
            room -= length
            self.position += 1


def batch_of(rows: list[list[Masked]], time: int, padding: int) -> Batch:
    """A batch of packed rows whose weight is the number of its targets."""
    tensors = pack(rows, time, padding)
    return Batch(tensors, weight=int((tensors["targets"] != IGNORED).sum()))


def build(config: SFTConfig, run: Path, seed: int) -> dict[str, float]:
    """Fine-tune the base model of the run directory ``run``; return the stage's metrics."""
    model, tokenizer = stage_model(run, "pretrain")
    template = ChatTemplate(tokenizer)
    options = {"chitchat": config.chitchat, "multi_turn": config.multi_turn, "size": 10_000_000}
    task = mixture(run, "train", seed, TRAINING_WEIGHTS, **options)
    source = ConversationSource(task, template, config.rows, model.config.context)
    held_out = mixture(run, "validation", seed)
    problems = [held_out.problem(index) for index in range(config.validation_problems)]
    validation = ConversationSource(held_out, template, config.rows, model.config.context)
    measured = next(iter(validation))

    @torch.no_grad()
    def validate(step: int, model: Transformer) -> dict[str, float]:
        device = model.embedding.weight.device
        tensors: dict[str, Tensor] = {name: tensor.to(device) for name, tensor in measured.tensors.items()}
        with autocast(device, choose_dtype(config.precision, device)):
            loss = float(loss_of(model, next_token, Batch(tensors, measured.weight))) / measured.weight
        engine = Engine(model, template.stop_ids, max_rows=128)
        answers = answer(engine, tokenizer, problems, Sampling(temperature=0, max_tokens=64))
        exact = sum(given.reward for given in answers) / len(answers)
        return {"validation_loss": round(loss, 5), "exact_match": round(exact, 5)}

    hooks = [Hook(config.validate_every, validate, "validation_loss")]
    result = train(model, next_token, source, config, tokenizer, run / "sft", "sft", hooks, seed)
    return {**result.metrics(), "conversations": source.position}
