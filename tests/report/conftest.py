"""A made-up run, realistic in shape and size, the same on every machine."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groundup.core.files import write_json, write_jsonl, write_text
from groundup.core.seeding import numpy_rng
from groundup.model import ModelConfig
from groundup.planning import parameters

STAGES = ("corpus", "tokenizer", "pretrain", "sft", "dpo", "grpo", "evaluate")
MODELS = ("pretrain", "sft", "dpo", "grpo")
FAMILIES = ("arithmetic", "spelling", "counting", "sorting", "reversing", "lookup", "memory", "verse")

RECIPE = """\
description = "Shakespeare to a small chat model, told as a report"
seed = 1337

[corpus]
source = "shakespeare"
validation_share = 0.1
near_duplicate_threshold = 0.8

[tokenizer]
vocab_size = 4096

[model]
layers = 6
width = 192
heads = 6
kv_heads = 6
hidden = 512
context = 256
qk_norm = "head"
tied = true
positions.base = 10000.0

[pretrain]
steps = 600
tokens_per_step = 8192

[pretrain.optimizer]
muon_learning_rate = 0.02
adamw_learning_rate = 0.003

[sft]
steps = 300

[dpo]
beta = 0.1
pairs = 2000

[grpo]
steps = 80
group = 8

[evaluate]
problems_per_family = 200
"""

SENTENCE = ["The", " old", " king", " came", " late", " to", " the", " ha", "ll", ",", " and", " the", " old", " king",
            " sat", " down", " al", "one", " by", " the"]  # fmt: skip


def interval(value: float, n: int) -> dict[str, float]:
    """A share with a plausible 95 % interval."""
    half = 1.96 * math.sqrt(max(value * (1 - value), 0.002) / n)
    return {
        "value": round(value, 4),
        "low": round(max(0, value - half), 4),
        "high": round(min(1, value + half), 4),
        "n": n,
    }


def curve(stage: str, steps: int, start: float, end: float, **extra: Any) -> list[dict[str, float]]:
    """Lines of a metrics file: a loss that decays, a warm-up and decay of the learning rate."""
    rng = numpy_rng(7, stage)
    rows: list[dict[str, float]] = []
    for step in range(1, steps + 1):
        done = step / steps
        row = {
            "step": step,
            "loss": round(end + (start - end) * math.exp(-7 * done) + float(rng.normal(0, 0.03)), 4),
            "learning_rate": round(0.02 * min(1, step / 20) * (1 - 0.9 * max(0, done - 0.5) * 2), 6),
            "gradient_norm": round(0.6 + 2 * math.exp(-9 * done) + abs(float(rng.normal(0, 0.08))), 4),
            "tokens": step * 8192,
            "tokens_per_second": round(14_000 + float(rng.normal(0, 500)), 1),
            "seconds": round(step * 8192 / 14_000, 2),
        }
        for name, (every, before, after, noise) in extra.items():
            if step % every == 0 or step == steps:
                value = after + (before - after) * math.exp(-5 * done) + float(rng.normal(0, noise))
                row[name] = round(min(value, 1.0) if name in ("stopped", "accuracy", "exact_match") else value, 4)
        rows.append(row)
    return rows


def manifest(stage: str, index: int) -> dict[str, Any]:
    """What a finished stage leaves about itself."""
    return {
        "stage": stage,
        "inputs": {},
        "config": {
            "pretrain": {"pretrain": {"precision": "auto"}},
            "sft": {"precision": "auto"},
            "dpo": {"precision": "auto", "beta": 0.1},
            "grpo": {"precision": "auto"},
        }.get(stage, {}),
        "config_hash": f"{index:x}" * 16,
        "code_version": "0.1.0",
        "seed": 1337,
        "started": f"2026-03-14T09:{10 + index * 2:02d}:00+00:00",
        "seconds": (7.5, 11.2, 262.0, 71.3, 48.6, 95.4, 88.9)[index],
        "peak_memory_bytes": (310, 420, 1450, 1480, 1610, 1720, 1390)[index] * 10**6,
        "metrics": {},
        "artifacts": {},
        "environment": {
            "python": "3.11.9",
            "torch": "2.6.0",
            "platform": "Linux-6.1-x86_64",
            "processor": "a processor with two cores",
            "cores": 2,
            "threads": 2,
            "memory_bytes": 8 * 10**9,
            "device": "cpu",
            "groundup": "0.1.0",
        },
    }


def attention() -> dict[str, Any]:
    """Causal weights: some heads look one token back, some at the first token, some everywhere."""
    length, layers, heads = len(SENTENCE), 6, 6
    rng = numpy_rng(7, "attention")
    weights = np.zeros((layers, heads, length, length))
    for layer in range(layers):
        for head in range(heads):
            scores = rng.normal(0, 0.8, (length, length))
            scores[:, 0] += 2.5 if head % 3 == 1 else 0.5
            if head % 3 == 0:
                scores += 3.5 * np.eye(length, k=-1)
            scores[np.triu_indices(length, 1)] = -np.inf
            weights[layer, head] = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return {"text": "".join(SENTENCE), "tokens": SENTENCE, "layers": np.round(weights, 4).tolist()}


def tasks() -> list[dict[str, Any]]:
    """Exact match per family, per split, per stage."""
    entries = []
    for split, penalty in (("test", 1.0), ("test-wordings", 0.9)):
        shares = {}
        for index, family in enumerate((*FAMILIES, "all")):
            top = 0.95 - 0.09 * index if family != "all" else 0.66
            shares = {"pretrain": 0.004 * index, "sft": 0.78 * top, "dpo": 0.85 * top, "grpo": top}
            n = 200 if family != "all" else 200 * len(FAMILIES)
            stages = {stage: interval(penalty * share, n) for stage, share in shares.items()}
            chance = 0.0 if family in ("verse", "spelling") else 0.02 + 0.01 * index
            entries.append({"family": family, "split": split, "chance": chance, "stages": stages})
            if family == "verse":
                entries[-1] |= {"clean": stages, "contaminated": stages}
    return entries


def shared_documents(models: dict[str, Any]) -> dict[str, Any]:
    """What a side shares with the train documents."""
    counts = {"documents": 9, "contaminated_documents": 2, "runs": 91_240, "contaminated_runs": 310}
    return {**counts, "clean": models, "contaminated": models}


def results() -> dict[str, Any]:
    """What the evaluation writes."""
    bits = {"pretrain": 2.118, "sft": 2.171, "dpo": 2.183, "grpo": 2.186}
    models = {stage: {"value": b, "low": b - 0.021, "high": b + 0.021, "n": 212} for stage, b in bits.items()}
    return {
        "bits_per_byte": {
            "validation_bytes": 522_114,
            "models": models,
            "baselines": {"xz": {"value": 2.514}, "kneser_ney": {"value": 2.302, "order": 5}},
            "contamination": shared_documents(models),
            "test": {
                "test_bytes": 498_730,
                "models": models,
                "baselines": {"xz": {"value": 2.499}, "kneser_ney": {"value": 2.287, "order": 5}},
                "contamination": {**shared_documents(models), "contaminated_documents": 0},
            },
        },
        "tasks": tasks(),
        "contamination": {
            "train_documents": 38,
            "problems": 883,
            "contaminated_problems": 12,
            "examples": [],
            "marked": [{"benchmark": "gsm8k.v1", "items": 3, "documents": 4}],
        },
        "stops": {
            stage: interval(share, 1600) for stage, share in zip(MODELS, (0.01, 0.982, 0.991, 0.995), strict=True)
        },
        "dpo": {"win_rate": {**interval(0.563, 800), "wins": 160, "ties": 581, "losses": 59}},
        "grpo": {
            "before": interval(0.561, 1600),
            "after": interval(0.66, 1600),
            "gain": {"value": 0.099, "low": 0.078, "high": 0.12, "n": 1600},
        },
        "memorisation": {
            "samples": 64,
            "longest_characters": 71,
            "median_characters": 23,
            "longest_text": "and so the river kept the name that no one living could remember giving",
            "held_out_median_characters": 21,
            "held_out_longest_characters": 88,
        },
    }


def make_run(folder: Path) -> Path:
    """Write a complete run into ``folder``; equal calls write equal bytes."""
    write_text(folder / "recipe.toml", RECIPE)
    for index, stage in enumerate(STAGES):
        write_json(folder / stage / "manifest.json", manifest(stage, index))
    _write_corpus(folder / "corpus")
    _write_tokenizer(folder / "tokenizer")
    _write_training(folder)
    _write_evaluation(folder / "evaluate")
    return folder


def _write_corpus(folder: Path) -> None:
    steps = [("read", 78, 78, 9_512_004, 9_512_004, []),
             ("strip headers", 78, 77, 9_512_004, 9_301_377, [("empty after stripping", 1, 18_114)]),
             ("normalise", 77, 77, 9_301_377, 9_287_020, []),
             ("exact duplicates", 77, 76, 9_287_020, 9_140_333, [("same text as another document", 1, 146_687)]),
             ("near duplicates", 76, 41, 9_140_333, 5_402_918,
              [("near-duplicate (MinHash)", 34, 3_640_115), ("contained in another document", 1, 97_300)])]  # fmt: skip
    names = ("step", "documents_in", "documents_out", "bytes_in", "bytes_out", "removed")
    rows = [dict(zip(names, step, strict=True)) for step in steps]
    for row in rows:
        row["removed"] = [{"reason": r, "documents": d, "bytes": b} for r, d, b in row["removed"]]
    split = {"train": {"documents": 37, "bytes": 4_880_804}, "validation": {"documents": 4, "bytes": 522_114}}
    write_json(folder / "funnel.json", {"steps": rows, **split})
    source = {"name": "shakespeare", "package": "shakespeare", "version": "0.6", "sha256": "5e" * 32,
              "licence": "public domain (texts); MIT (package)", "files": 78, "bytes": 9_512_004}  # fmt: skip
    write_json(folder / "sources.json", [source])


def _write_tokenizer(folder: Path) -> None:
    special = ("<|document|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>")
    longest = (" " * 24, " understanding", " notwithstanding", " Northumberland", " acquaintance", " gentlewoman")
    merges = ((" ", "t"), ("h", "e"), (" ", "a"), ("o", "u"), (" ", "s"), (".", "\n"), (" t", "he"))

    def size(total: int, per_token: float) -> dict[str, float]:
        tokens, words = round(total / per_token), round(total / 5.6)
        return {"bytes": total, "words": words, "tokens": tokens, "bytes_per_token": total / tokens,
                "tokens_per_word": tokens / words, "single_byte_share": 0.19}  # fmt: skip

    facts = {
        "vocab_size": 4096,
        "vocab_size_asked_for": 4096,
        "merges": 3834,
        "special_tokens": {name: 4090 + index for index, name in enumerate(special)},
        "fingerprint": "5f" * 32,
        "seconds": 1.79,
        "train": size(4_880_804, 3.71),
        "validation": size(522_114, 3.64),
        "longest_tokens": [{"id": 1446 + index, "text": text} for index, text in enumerate(longest)],
        "first_merges": [{"left": a, "right": b, "id": 256 + index} for index, (a, b) in enumerate(merges)],
        "example": {
            "text": "".join(SENTENCE),
            "pieces": [{"id": 300 + index, "text": text} for index, text in enumerate(SENTENCE)],
        },
    }
    write_json(folder / "facts.json", facts)
    write_json(folder / "comparison.json", comparison())


def comparison() -> dict[str, Any]:
    """Three vocabularies on eight texts: the run's own is good at English only."""
    texts = {"prose": {"English": 1.0, "German": 1.9, "Turkish": 2.3}, "other scripts": {"Greek": 4.8, "Thai": 5.5},
             "code": {"Python": 1.5, "C": 1.7}, "numbers and signs": {"LaTeX": 2.1}}  # fmt: skip
    vocabularies = {"ours": (4096, 26, 1.0), "gpt2": (50_257, 23, 0.9), "o200k": (200_019, 22, 0.25)}

    def cost(name: str, dear: float) -> dict[str, float]:
        _, english, growth = vocabularies[name]
        return {"tokens_per_100_bytes": round(english * (1 + growth * (dear - 1)), 3)}

    return {
        "parallel": ["prose", "other scripts"],
        "tokenizers": [
            {"name": name, "vocab_size": size, "fingerprint": "5f" * 32,
             "kinds": {kind: cost(name, sum(group.values()) / len(group)) for kind, group in texts.items()}}
            for name, (size, _, _) in vocabularies.items()
        ],
        "texts": [
            {"kind": kind, "name": text, "tokenizer": name, **cost(name, dear)}
            for kind, group in texts.items() for text, dear in group.items() for name in vocabularies
        ],
    }  # fmt: skip


def write_model(folder: Path, config: ModelConfig) -> None:
    """The description of the model, as pretraining leaves it."""
    sizes = parameters(config, 4096)
    told = {"config": asdict(config.resolved()), "vocab_size": 4096}
    write_json(
        folder / "pretrain" / "model.json", {**told, "parameters": sizes.total, "active_parameters": sizes.active}
    )


def _write_training(folder: Path) -> None:
    write_model(folder, ModelConfig(layers=6, width=192, heads=6, hidden=512, context=256))
    stages = {
        "pretrain": curve("pretrain", 600, 8.3, 4.05, validation_bits_per_byte=(50, 3.6, 2.1, 0.005)),
        "sft": curve("sft", 300, 3.1, 0.42, validation_loss=(50, 2.0, 0.45, 0.01), exact_match=(50, 0.0, 0.52, 0.01)),
        "dpo": curve("dpo", 120, 0.69, 0.41, accuracy=(1, 0.5, 0.8, 0.03), margin=(1, 0.0, 1.4, 0.05)),
        "grpo": curve("grpo", 80, 0.02, 0.0, reward=(1, 0.55, 0.66, 0.02), reward_deviation=(1, 0.3, 0.2, 0.01),
                      answer_tokens=(1, 11, 8, 0.3), stopped=(1, 0.98, 0.995, 0.002)),
    }  # fmt: skip
    for stage, rows in stages.items():
        write_jsonl(folder / stage / "metrics.jsonl", rows)
    texts = {
        0: "ql zzT ;oe\nmm\u00a0th ,,ee th\ufffd t",
        100: "the the of and so the lord,\nAnd to the king of the the heart of the man.",
        300: "the night is come.\n\n\n\nLEAR.\n\nand I will not be told\nThat ever man did keep so cold a fire.",
        600: "the night is past; the lamps are low,\nAnd every door that opened to the sea\n"
        "Is shut again. Good sir, where shall we go?",
    }
    prompts = ("When ", "KING. My lord, ")
    samples = [{"step": s, "prompt": p, "text": p + text} for s, text in texts.items() for p in prompts]
    write_jsonl(folder / "pretrain" / "samples.jsonl", samples)


def _write_evaluation(folder: Path) -> None:
    write_json(folder / "results.json", results())
    write_json(folder / "attention.json", attention())
    talk = [
        {"title": "Sums and a name", "messages": [
            {"role": "user", "content": "What is 17 plus 25?"},
            {"role": "assistant", "content": "42"},
            {"role": "user", "content": "My name is Rosalind. Sort these words: pear, apple, fig."},
            {"role": "assistant", "content": "apple, fig, pear"},
            {"role": "user", "content": "What is my name?"},
            {"role": "assistant", "content": "Your name is Rosalind."}]},
        {"title": "Spelling", "messages": [
            {"role": "user", "content": "How many times does the letter e occur in the word evergreen?"},
            {"role": "assistant", "content": "4"},
            {"role": "user", "content": "Write the word lantern backwards."},
            {"role": "assistant", "content": "nretnal"}]},
    ]  # fmt: skip
    write_json(folder / "conversations.json", talk)
    answers = []
    for family, prompt, reference, wrong in (
        ("arithmetic", "What is 8 times 7?", "56", "54"),
        ("spelling", "Spell the word garden with spaces.", "g a r d e n", "g a r d n"),
        ("sorting", "Sort: 9, 4, 7", "4, 7, 9", "4, 9, 7"),
        ("lookup", "Anna has a red hat. What colour is the hat?", "red", "red hat hat"),
    ):
        for stage, answer in (("pretrain", " and the lord of the"), ("sft", wrong), ("grpo", reference)):
            answers.append({"family": family, "split": "test", "stage": stage, "prompt": prompt,
                            "reference": reference, "answer": answer, "correct": answer == reference})  # fmt: skip
    write_jsonl(folder / "answers.jsonl", answers)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run, shared by the tests that only read it."""
    return make_run(tmp_path_factory.mktemp("runs") / "quickstart")
