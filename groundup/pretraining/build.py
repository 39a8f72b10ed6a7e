"""The pretraining stage.

Enters: the corpus and the tokenizer of a run. Leaves in ``pretrain/``: ``tokens/`` (the shards),
``checkpoints/``, ``metrics.jsonl``, ``samples.jsonl`` and ``model.json``.
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from groundup.core.errors import UsageError
from groundup.core.files import read_jsonl, write_json, write_jsonl
from groundup.core.seeding import torch_rng
from groundup.core.world import world
from groundup.inference import Engine, Sampling
from groundup.inference.opening import open_model
from groundup.model import ModelConfig, Transformer
from groundup.objectives import next_token
from groundup.planning import count_parameters
from groundup.planning import parameters as count
from groundup.pretraining.tokens import DataConfig, encode_split, make_source, read_split, tell_mixture
from groundup.pretraining.validation import document_bits
from groundup.tokenizer import BytePairTokenizer
from groundup.tokenizer import load as load_tokenizer
from groundup.training import Hook, TrainingConfig, train
from groundup.training.config import SafetyConfig

#: Deviations above the recent median from which a pretraining loss is a spike.
SPIKE = 12.0


@dataclass(frozen=True)
class PretrainConfig(TrainingConfig):
    """Next-token prediction on the train split."""

    rows: int = 16
    """Windows of `model.context` tokens in a micro-batch."""
    validate_every: int = 100
    """Steps between measurements of validation bits per byte."""
    validation_windows: int = 48
    """Windows of the validation split measured each time; the evaluation stage measures all."""
    validate_all: bool = False
    """Measure the whole validation split at the last step."""
    samples: int = 3
    """Texts sampled at each validation."""
    sample_tokens: int = 96
    """Length of each sample in tokens."""
    start: Path | None = None
    """Model to go on from instead of new weights: a run, a checkpoint, a Hugging Face folder or a GGUF file, whose
    vocabulary the run must have (see tokenizer.start). The schedule warms up again."""
    data: DataConfig = field(default_factory=DataConfig)
    safety: SafetyConfig = field(default_factory=lambda: SafetyConfig(spike=SPIKE))

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


def build(model_config: ModelConfig, config: PretrainConfig, run: Path, seed: int) -> dict[str, float]:
    """Train the base model of the run directory ``run``; return the stage's metrics."""
    folder = run / "pretrain"
    tokenizer = load_tokenizer(run / "tokenizer")
    here = world()
    tokens = here.ahead(lambda: encode_split(run, "train", tokenizer, config.data))
    tell_mixture(tokens, config.data, config.steps * config.accumulation * config.rows * model_config.context)
    here.ahead(lambda: encode_split(run, "validation", tokenizer))
    if (run / "corpus" / "test.jsonl").exists():
        here.ahead(lambda: encode_split(run, "test", tokenizer))  # for the evaluation alone
    validation = read_split(folder / "tokens" / "validation")
    source = make_source(tokens, config.data, config.rows, model_config.context, tokenizer, seed)

    model = first_model(model_config, config, tokenizer, seed)
    parameters = count_parameters(model)
    shape = {
        "config": asdict(model.config),
        "vocab_size": tokenizer.vocab_size,
        "parameters": parameters,
        "active_parameters": count(model.config, tokenizer.vocab_size).active,
    }
    if here.leads:
        write_json(folder / "model.json", shape)

    prompts = sample_prompts([tokenizer.decode(document[1:].tolist()) for document in validation], config.samples)

    def validate(step: int, model: Transformer) -> dict[str, float]:
        limit = None if config.validate_all and step == config.steps else config.validation_windows
        bits = document_bits(model, validation, tokenizer, stride=model_config.context, limit=limit)
        return {"validation_bits_per_byte": round(bits.per_byte, 5)}

    def sample(step: int, model: Transformer) -> dict[str, float]:
        texts = sample_texts(model, tokenizer, prompts, config, seed)
        rows = [{"step": step, "prompt": prompt, "text": text} for prompt, text in zip(prompts, texts, strict=True)]
        if here.leads:
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
        hooks=[Hook(config.validate_every, validate, "validation_bits_per_byte"), Hook(config.validate_every, sample)],
        seed=seed,
    )
    train_tokens = sum(len(part) for part in tokens.values())
    return {
        **result.metrics(),
        "parameters": parameters,
        "train_tokens": train_tokens,
        "epochs": round(result.tokens / train_tokens, 3),
    }


def first_model(config: ModelConfig, pretrain: PretrainConfig, tokenizer: BytePairTokenizer, seed: int) -> Transformer:
    """The weights that training begins with: new ones, or those of the model to go on from.

    Raises:
        UsageError: that model has another shape or another vocabulary than the run.
        ArtifactError: there is no model.
    """
    model = Transformer(config, tokenizer.vocab_size)
    if pretrain.start is None:
        return model.initialise(torch_rng(seed, "weights"))
    opened = open_model(pretrain.start, torch.float32)
    if opened.tokenizer.fingerprint != tokenizer.fingerprint:
        raise UsageError(
            f"pretrain.start {pretrain.start} was trained with another vocabulary than this run's; set tokenizer.start "
            "to it as well"
        )
    theirs, ours = opened.model.state_dict(), model.state_dict()
    if {name: w.shape for name, w in theirs.items()} != {name: w.shape for name, w in ours.items()}:
        raise UsageError(
            f"pretrain.start {pretrain.start} has another shape than the recipe's model; set the model section to "
            "what its model.json or config.json says"
        )
    model.load_state_dict(theirs)
    return model


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
