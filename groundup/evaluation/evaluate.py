"""The evaluation stage: what every stage of training changed, with intervals, chance levels and baselines.

Enters: the finished stages of a run. Leaves in ``evaluate/``: ``results.json``, ``answers.jsonl``, ``attention.json``
and ``conversations.json``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from groundup.core.errors import UsageError
from groundup.core.files import write_json, write_jsonl
from groundup.core.seeding import derive_seed
from groundup.corpus import read_documents
from groundup.corpus.decontamination import name_of
from groundup.dataloader.shards import Documents
from groundup.evaluation.compression import conditional_xz
from groundup.evaluation.contamination import Contamination, Shared, search
from groundup.evaluation.intervals import Interval, bootstrap_ratio, paired_bootstrap, wilson, win_rate
from groundup.evaluation.memorisation import measure_memorisation
from groundup.evaluation.ngram import KneserNey
from groundup.inference import Engine, Sampling
from groundup.model import Record, Transformer
from groundup.posttraining.common import Answer, answer, read_material, stage_model
from groundup.posttraining.dpo import quality
from groundup.pretraining.tokens import read_split
from groundup.pretraining.validation import document_bits, windows_of
from groundup.tasks import FAMILIES, Conversation, Material, Message, Problem, TaskMixture
from groundup.tokenizer import BytePairTokenizer, ChatTemplate

#: The stages that train, in order.
STAGES = ("pretrain", "sft", "dpo", "grpo")
#: Held-out problems asked in wordings seen in training, and in wordings never seen.
SPLITS = ("test", "test-wordings")


@dataclass(frozen=True)
class EvaluateConfig:
    """How much to measure, and how the model is sampled."""

    problems: int = 100
    """Problems per family and split."""
    sampled_problems: int = 1100
    """Held-out problems for the DPO win rate and the GRPO gain."""
    memorisation_samples: int = 48
    """Texts searched for runs copied from the train split."""
    memorisation_tokens: int = 160
    """Their length in tokens."""
    max_tokens: int = 64
    """Longest answer in tokens."""
    order: int = 5
    """Order of the Kneser-Ney baseline."""
    sampling: Sampling = field(default_factory=Sampling)
    """How the conversation shown in the report is sampled."""

    def __post_init__(self) -> None:
        for name in ("problems", "sampled_problems", "memorisation_samples", "memorisation_tokens", "max_tokens"):
            if getattr(self, name) < 1:
                raise UsageError(f"evaluate.{name} is {getattr(self, name)}; it must be at least 1")


def build(config: EvaluateConfig, run: Path, seed: int) -> dict[str, float]:
    """Measure the run; return its key figures."""
    folder = run / "evaluate"
    models = {stage: stage_model(run, stage) for stage in STAGES}
    tokenizer = models["pretrain"][1]
    material = read_material(run)
    texts = {
        split: [document.text for document in read_documents(run / "corpus" / f"{split}.jsonl")]
        for split in ("train", "validation")
    }
    if (path := run / "corpus" / "test.jsonl").exists():
        texts["test"] = [document.text for document in read_documents(path)]
    results: dict[str, Any] = {}
    asked = _ask(models, material, config, seed)
    contamination = search(
        read_documents(run / "corpus" / "train.jsonl"),
        _asked_problems(asked),
        {side: documents for side, documents in texts.items() if side != "train"},
    )
    results["bits_per_byte"] = _bits_per_byte(models, tokenizer, texts, contamination, run, config, seed)
    results["tasks"] = _exact_match(asked, contamination)
    results["contamination"] = _found(asked, contamination)
    results["stops"] = {
        stage: wilson(sum(given.stopped for given in answers), len(answers)).to_json()
        for stage in STAGES
        for answers in [[a for split in SPLITS for a in asked[stage, split]]]
    }
    results["dpo"], results["grpo"] = _sampled(models, material, config, seed)
    results["memorisation"] = _memorisation(models["pretrain"][0], tokenizer, texts, config, seed)
    write_json(folder / "results.json", results)
    write_jsonl(folder / "answers.jsonl", _examples(asked))
    write_json(folder / "attention.json", _attention(models["pretrain"][0], tokenizer, texts["validation"]))
    write_json(folder / "conversations.json", _conversations(models["grpo"][0], tokenizer, material, config, seed))
    return _key_figures(results)


Models: TypeAlias = dict[str, tuple[Transformer, BytePairTokenizer]]
#: What scores are also reported for, where there are any.
PARTS = ("clean", "contaminated")


def _bits_per_byte(
    models: Models,
    tokenizer: BytePairTokenizer,
    texts: dict[str, list[str]],
    contamination: Contamination,
    run: Path,
    config: EvaluateConfig,
    seed: int,
) -> dict[str, Any]:
    """Of the validation side; below ``test`` the same of the test side, where there is one."""
    tokens = {side: read_split(run / "pretrain" / "tokens" / side) for side in texts}
    raw = {side: "\n".join(texts[side]).encode() for side in texts}
    # The document token is given, to the n-gram model as to ours: neither pays for it.
    ngram = KneserNey.fit([document[1:] for document in tokens["train"]], tokenizer.vocab_size, config.order)
    sides: dict[str, dict[str, Any]] = {}
    for side in filter("train".__ne__, texts):
        size = sum(len(text.encode()) for text in texts[side])
        compressed = conditional_xz(raw["train"], raw[side])
        sides[side] = {
            f"{side}_bytes": size,
            "baselines": {
                "xz": {"value": compressed.bits_per_byte, **compressed.to_json()},
                "kneser_ney": {
                    "value": ngram.bits([document[1:] for document in tokens[side]]) / size,
                    "order": config.order,
                },
            },
            **_model_bits(models, tokenizer, tokens[side], contamination.held_out[side], side, seed),
        }
    return {**sides.pop("validation"), **sides}


def _model_bits(
    models: Models, tokenizer: BytePairTokenizer, documents: Documents, shared: Shared, side: str, seed: int
) -> dict[str, Any]:
    """Every stage's bits per byte of a side, and of its documents that share runs of words with train documents."""
    contaminated = shared.shared > 0
    measured: dict[str, Any] = {
        "models": {},
        "contamination": {
            "documents": len(contaminated),
            "contaminated_documents": int(contaminated.sum()),
            "runs": int(shared.runs.sum()),
            "contaminated_runs": int(shared.shared.sum()),
        },
    }
    for stage, (model, _) in models.items():
        names = ("bits", stage) if side == "validation" else ("bits", side, stage)
        bits = document_bits(model, documents, tokenizer, progress=f"bits per byte, {stage}")
        measured["models"][stage] = bootstrap_ratio(bits.bits, bits.bytes, derive_seed(seed, *names)).to_json()
        if contaminated.any() and not contaminated.all():
            context = model.config.context
            windows = [len(windows_of(len(document), context, max(1, context // 2))) for document in documents]
            owned = np.repeat(contaminated, windows)
            for part, chosen in zip(PARTS, (~owned, owned), strict=True):
                interval = bootstrap_ratio(bits.bits[chosen], bits.bytes[chosen], derive_seed(seed, *names, part))
                measured["contamination"].setdefault(part, {})[stage] = interval.to_json()
    return measured


def _problems(material: Material, split: str, family: str, count: int, seed: int) -> list[Problem]:
    task = TaskMixture(split, derive_seed(seed, "evaluate"), material, {family: 1.0})  # type: ignore[arg-type]
    return [task.problem(index) for index in task.distinct(count)]


def _ask(models: Models, material: Material, config: EvaluateConfig, seed: int) -> dict[tuple[str, str], list[Answer]]:
    """Greedy answers of every stage's model to the held-out problems, by (stage, split)."""
    asked = {}
    for split in SPLITS:
        problems = [p for family in FAMILIES for p in _problems(material, split, family, config.problems, seed)]
        for stage, (model, tokenizer) in models.items():
            engine = Engine(model, ChatTemplate(tokenizer).stop_ids, max_rows=128)
            greedy = Sampling(temperature=0, max_tokens=config.max_tokens)
            asked[stage, split] = answer(engine, tokenizer, problems, greedy, f"{split}, {stage}")
    return asked


def _asked_problems(asked: dict[tuple[str, str], list[Answer]]) -> Iterator[Problem]:
    """Each problem in each wording that it was asked in."""
    return (given.problem for split in SPLITS for given in asked[STAGES[0], split])


def _exact_match(asked: dict[tuple[str, str], list[Answer]], contamination: Contamination) -> list[dict[str, Any]]:
    """A row for each family and split; with the clean and the contaminated problems apart where some are."""
    table = []
    for split in SPLITS:
        for family in ("all", *FAMILIES):
            row: dict[str, Any] = {"family": family, "split": split, "chance": 0.0, "stages": {}}
            for stage in STAGES:
                given = [a for a in asked[stage, split] if family in ("all", a.problem.family)]
                row["stages"][stage] = wilson(sum(a.reward for a in given), len(given)).to_json()
                row["chance"] = float(np.mean([a.problem.chance for a in given]))
                found = [name_of(a.problem) in contamination.problems for a in given]
                for part, wanted in zip(PARTS, (False, True), strict=True) if any(found) else ():
                    rewards = [a.reward for a, is_in in zip(given, found, strict=True) if is_in is wanted]
                    if rewards:
                        row.setdefault(part, {})[stage] = _share(rewards)
            table.append(row)
    return table


def _found(
    asked: dict[tuple[str, str], list[Answer]], contamination: Contamination, examples: int = 20
) -> dict[str, Any]:
    """What the train documents hold of the problems that were asked, and of benchmarks that the corpus marked."""
    return {
        "train_documents": contamination.documents,
        "problems": len({name_of(problem) for problem in _asked_problems(asked)}),
        "contaminated_problems": len(contamination.problems),
        "examples": [
            {"problem": name, "documents": leak.documents, "first": leak.first}
            for name, leak in sorted(contamination.problems.items())[:examples]
        ],
        "marked": [
            {"benchmark": name, "items": len(items), "documents": sum(items.values())}
            for name, items in sorted(contamination.marked.items())
        ],
    }


def _sampled(
    models: Models, material: Material, config: EvaluateConfig, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """DPO's win rate over SFT, and the mean reward before and after GRPO, at temperature 1 on the same problems."""
    task = TaskMixture("test", derive_seed(seed, "sampled"), material)
    problems = [task.problem(index) for index in task.distinct(config.sampled_problems)]
    given = {}
    for stage in ("sft", "dpo", "grpo"):
        model, tokenizer = models[stage]
        engine = Engine(model, ChatTemplate(tokenizer).stop_ids, max_rows=128)
        sampling = Sampling(temperature=1.0, max_tokens=config.max_tokens, seed=derive_seed(seed, "sampled", stage))
        given[stage] = answer(engine, tokenizer, problems, sampling, f"sampled answers, {stage}")
    pairs = [(quality(new), quality(old)) for new, old in zip(given["dpo"], given["sft"], strict=True)]
    wins, losses = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
    ties = len(pairs) - wins - losses
    rewards = {stage: [a.reward for a in answers] for stage, answers in given.items()}
    return (
        {
            "win_rate": {**win_rate(wins, ties, losses).to_json(), "wins": wins, "ties": ties, "losses": losses},
            "before": _share(rewards["sft"]),
            "after": _share(rewards["dpo"]),
        },
        {
            "before": _share(rewards["dpo"]),
            "after": _share(rewards["grpo"]),
            "gain": paired_bootstrap(rewards["dpo"], rewards["grpo"], derive_seed(seed, "gain")).to_json(),
        },
    )


def _share(rewards: Sequence[float]) -> dict[str, Any]:
    return wilson(sum(rewards), len(rewards)).to_json()


def _memorisation(
    model: Transformer,
    tokenizer: BytePairTokenizer,
    texts: dict[str, list[str]],
    config: EvaluateConfig,
    seed: int,
) -> dict[str, Any]:
    """Longest runs that the base model's free samples share with the train split, in characters."""
    document = tokenizer.special_tokens["<|document|>"]
    engine = Engine(model, frozenset({document}))
    sampling = Sampling(
        temperature=1.0,
        max_tokens=min(config.memorisation_tokens, model.config.context - 1),
        seed=derive_seed(seed, "memorisation"),
    )
    completions = engine.generate([[document]] * config.memorisation_samples, sampling, "free samples")
    samples = [text for completion in completions if (text := tokenizer.decode(completion.ids))]
    measured = measure_memorisation(texts["train"], texts["validation"], samples, derive_seed(seed, "excerpts"))
    return {
        "samples": len(samples),
        "longest_characters": measured.samples.longest,
        "median_characters": measured.samples.median,
        "longest_text": measured.longest_copied,
        "held_out_median_characters": measured.baseline.median,
        "held_out_longest_characters": measured.baseline.longest,
    }


def _examples(asked: dict[tuple[str, str], list[Answer]], per_family: int = 4) -> list[dict[str, Any]]:
    """The first answers of each family, stage and split, to read."""
    rows, counts = [], dict[tuple[str, str, str], int]()
    for (stage, split), answers in asked.items():
        for given in answers:
            place = (stage, split, given.problem.family)
            counts[place] = counts.get(place, 0) + 1
            if counts[place] <= per_family:
                rows.append(
                    {
                        "family": given.problem.family,
                        "split": split,
                        "stage": stage,
                        "prompt": given.problem.conversation.prompt.to_json()[-1]["content"],
                        "reference": given.problem.answer,
                        "answer": given.text,
                        "correct": bool(given.reward),
                    }
                )
    return rows


def _attention(model: Transformer, tokenizer: BytePairTokenizer, validation: list[str]) -> dict[str, Any]:
    """Attention weights over a sentence of the validation split of about 20 tokens."""
    text = _sentence(validation, tokenizer)
    ids = [tokenizer.special_tokens["<|document|>"], *tokenizer.encode(text)]
    record = Record(wants_residuals=False, wants_routing=False)
    with torch.no_grad():
        model(torch.tensor([ids]), record=record)
    return {
        "text": text,
        "tokens": ["<|document|>", *(tokenizer.decode([token]) for token in ids[1:])],
        "layers": [
            [[[round(w, 4) for w in row] for row in head] for head in layer[0].tolist()] for layer in record.attention
        ],
    }


def _sentence(validation: list[str], tokenizer: BytePairTokenizer) -> str:
    """The first line of 16 to 22 tokens, from the middle of the text on; else the first 20 tokens of what there is."""
    for text in validation:
        lines = [line.strip() for line in text[len(text) // 2 :].splitlines()]
        for line in lines:
            if line.endswith((".", ",", ";", "!", "?")) and 16 <= len(tokenizer.encode(line)) <= 22:
                return line
    return tokenizer.decode(tokenizer.encode(validation[0])[:20])


def _conversations(
    model: Transformer, tokenizer: BytePairTokenizer, material: Material, config: EvaluateConfig, seed: int
) -> list[dict[str, Any]]:
    """Talks with the final model: fixed openings and held-out problems, each turn answered by the model itself."""
    template = ChatTemplate(tokenizer)
    engine = Engine(model, template.stop_ids)

    def talk(title: str, questions: Sequence[str]) -> dict[str, Any]:
        messages: list[Message] = []
        for turn, question in enumerate(questions):
            messages.append(Message("user", question))
            prompt = template.prompt(Conversation(tuple(messages)))
            if len(prompt) >= model.config.context:
                return {"title": title, "messages": Conversation(tuple(messages[:-1])).to_json()}
            sampling = Sampling(
                temperature=config.sampling.temperature,
                top_k=config.sampling.top_k,
                top_p=config.sampling.top_p,
                max_tokens=config.max_tokens,
                seed=derive_seed(seed, config.sampling.seed, title, turn),
            )
            [completion] = engine.generate([prompt], sampling)
            messages.append(Message("assistant", template.text(completion.ids)))
        return {"title": title, "messages": Conversation(tuple(messages)).to_json()}

    def held_out(family: str) -> list[str]:
        [problem] = _problems(material, "test-wordings", family, 1, derive_seed(seed, "talk"))
        return [m.content for m in problem.conversation.messages if m.role == "user"]

    talks = [talk("A first meeting", ["Hello!", "Who are you?", *held_out("arithmetic")])]
    talks.append(talk("Letters and words", [*held_out("spelling"), *held_out("reversing"), *held_out("sorting")]))
    talks.append(talk("Something to remember", held_out("memory")))
    talks.append(talk("A fact in a text", held_out("lookup")))
    return talks


def _key_figures(results: dict[str, Any]) -> dict[str, float]:
    bits = results["bits_per_byte"]
    figures = {
        "bits_per_byte": bits["models"]["pretrain"]["value"],
        "bits_per_byte_xz": bits["baselines"]["xz"]["value"],
        "bits_per_byte_kneser_ney": bits["baselines"]["kneser_ney"]["value"],
        "dpo_win_rate": results["dpo"]["win_rate"]["value"],
        "grpo_gain": results["grpo"]["gain"]["value"],
    }
    for row in results["tasks"]:
        if row["family"] == "all":
            for stage in STAGES:
                figures[f"exact_match_{stage}_{row['split']}"] = row["stages"][stage]["value"]
    return {name: round(value, 5) for name, value in figures.items()}


def table(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """The results as rows for a terminal: name, chance, then one score per stage."""

    def shown(entry: dict[str, Any], percent: bool) -> str:
        interval = Interval(entry["value"], entry["low"], entry["high"], entry["n"])
        if percent:
            return f"{100 * interval.value:.0f} % [{100 * interval.low:.0f}–{100 * interval.high:.0f}]"
        return f"{interval.value:.3f} [{interval.low:.3f}–{interval.high:.3f}]"

    def scores(name: str, chance: str, entries: dict[str, Any], percent: bool) -> tuple[str, ...]:
        return name, chance, *(shown(entries[stage], percent) for stage in STAGES)

    rows = []
    for side, bits in (("", results["bits_per_byte"]), (", test text", results["bits_per_byte"].get("test"))):
        if bits:
            rows.append(scores(f"bits per byte{side}", "", bits["models"], percent=False))
            for part in filter(bits["contamination"].get, PARTS):
                rows.append(scores(f"bits per byte{side}, {part}", "", bits["contamination"][part], percent=False))
    for row in results["tasks"]:
        name = f"{row['family']}{', new wordings' if row['split'] == 'test-wordings' else ''}"
        chance = f"{100 * row['chance']:.0f} %"
        rows.append(scores(name, chance, row["stages"], percent=True))
        for part in filter(row.get, PARTS):
            count = row[part][STAGES[0]]["n"]
            rows.append(scores(f"{name}, {part} ({count})", "", row[part], percent=True))
    rows.append(scores("stops by itself", "", results["stops"], percent=True))
    return rows
