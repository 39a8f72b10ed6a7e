"""The pretraining stage.

Enters: the corpus and the tokenizer of a run. Leaves in ``pretrain/``: ``tokens/*.npy`` (the shards),
``checkpoints/``, ``metrics.jsonl``, ``samples.jsonl`` and ``model.json``.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from groundup.core.errors import UsageError
from groundup.core.files import read_jsonl, write_json, write_jsonl
from groundup.core.progress import track
from groundup.core.seeding import torch_rng
from groundup.corpus import read_documents
from groundup.dataloader import TokenSource, read_shard, write_shard
from groundup.inference import Engine, Sampling
from groundup.model import ModelConfig, Transformer
from groundup.objectives import next_token
from groundup.planning import count_parameters
from groundup.planning import parameters as count
from groundup.pretraining.validation import document_bits
from groundup.tokenizer import BytePairTokenizer
from groundup.tokenizer import load as load_tokenizer
from groundup.training import Hook, TrainingConfig, train


@dataclass(frozen=True)
class PretrainConfig(TrainingConfig):
    """Next-token prediction on the train split."""

    rows: int = 16
    """Windows of `model.context` tokens in a micro-batch."""
    validate_every: int = 100
    """Steps between measurements of validation bits per byte."""
    validation_windows: int = 48
    """Windows of the validation split measured each time; the evaluation stage measures all."""
    samples: int = 3
    """Texts sampled at each validation."""
    sample_tokens: int = 96
    """Length of each sample in tokens."""

    def for_width(self, width: int) -> "PretrainConfig":
        """With the rates of a model this wide, and a batch in proportion: the batch up to which larger ones save steps
        grows about as fast as the width does when depth and tokens grow with it (Bergsma et al. 2025, "Power lines").
        """
        tuned = self.optimizer.tuned_width or width
        accumulation = max(1, round(self.accumulation * width / tuned))
        return replace(self, optimizer=self.optimizer.for_width(width), accumulation=accumulation)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rows", "validate_every", "validation_windows"):
            if getattr(self, name) < 1:
                raise UsageError(f"pretrain.{name} is {getattr(self, name)}; it must be at least 1")


def encode_documents(path: Path, tokenizer: BytePairTokenizer, shard: Path) -> None:
    """Encode a corpus file into a shard, each document begun by the document token; keep a shard that exists."""
    if shard.exists():
        return
    mark = tokenizer.special_tokens["<|document|>"]
    documents = track(read_documents(path), f"encode {path.stem}", unit="document")
    write_shard(shard, [[mark, *tokenizer.encode(document.text)] for document in documents], tokenizer.vocab_size)


def read_split(shard: Path, tokenizer: BytePairTokenizer) -> list[np.ndarray[Any, Any]]:
    """The documents of a shard, each begun by the document token."""
    ids = np.asarray(read_shard(shard))
    starts = np.flatnonzero(ids == tokenizer.special_tokens["<|document|>"])
    return np.split(ids, starts[1:])


def build(model_config: ModelConfig, config: PretrainConfig, run: Path, seed: int) -> dict[str, float]:
    """Train the base model of the run directory ``run``; return the stage's metrics."""
    folder = run / "pretrain"
    tokenizer = load_tokenizer(run / "tokenizer")
    for split in ("train", "validation"):
        encode_documents(run / "corpus" / f"{split}.jsonl", tokenizer, folder / "tokens" / f"{split}.npy")
    validation = read_split(folder / "tokens" / "validation.npy", tokenizer)
    tokens = read_shard(folder / "tokens" / "train.npy")
    source = TokenSource(tokens, config.rows, model_config.context, seed)

    model = Transformer(model_config, tokenizer.vocab_size).initialise(torch_rng(seed, "weights"))
    parameters = count_parameters(model)
    shape = {
        "config": asdict(model.config),
        "vocab_size": tokenizer.vocab_size,
        "parameters": parameters,
        "active_parameters": count(model.config, tokenizer.vocab_size).active,
    }
    write_json(folder / "model.json", shape)

    prompts = sample_prompts([tokenizer.decode(document[1:].tolist()) for document in validation], config.samples)

    def validate(step: int, model: Transformer) -> dict[str, float]:
        bits = document_bits(model, validation, tokenizer, stride=model_config.context, limit=config.validation_windows)
        return {"validation_bits_per_byte": round(bits.per_byte, 5)}

    def sample(step: int, model: Transformer) -> dict[str, float]:
        texts = sample_texts(model, tokenizer, prompts, config, seed)
        rows = [{"step": step, "prompt": prompt, "text": text} for prompt, text in zip(prompts, texts, strict=True)]
        _append_samples(folder / "samples.jsonl", step, rows)
        return {}

    result = train(
        model,
        next_token,
        source,
        config,
        tokenizer,
        folder,
        "pretrain",
        hooks=[Hook(config.validate_every, validate), Hook(config.validate_every, sample)],
    )
    return {
        **result.metrics(),
        "parameters": parameters,
        "train_tokens": len(tokens),
        "epochs": round(result.tokens / len(tokens), 3),
    }


def sample_prompts(texts: list[str], count: int) -> list[str]:
    """Lines of the validation split, evenly spread over it, for the model to go on from."""
    lines = [line for text in texts for line in text.splitlines(keepends=True) if 20 <= len(line.strip()) <= 80]
    lines = lines or [text[:40] for text in texts]
    return [lines[len(lines) * (number + 1) // (count + 1)] for number in range(count)]


def sample_texts(
    model: Transformer, tokenizer: BytePairTokenizer, prompts: list[str], config: PretrainConfig, seed: int
) -> list[str]:
    """How the model goes on from each prompt."""
    document = tokenizer.special_tokens["<|document|>"]
    engine = Engine(model, frozenset({document}))
    ids = [[document, *tokenizer.encode(prompt)][: model.config.context // 2] for prompt in prompts]
    sampling = Sampling(temperature=0.8, max_tokens=config.sample_tokens, seed=seed)
    return [tokenizer.decode(completion.ids) for completion in engine.generate(ids, sampling)]


def _append_samples(path: Path, step: int, rows: list[dict[str, Any]]) -> None:
    """Add the samples of ``step``, replacing what an interrupted run wrote for this or later steps."""
    earlier = [row for row in read_jsonl(path) if row["step"] < step] if path.exists() else []
    write_jsonl(path, [*earlier, *rows])
