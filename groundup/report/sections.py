"""What the report says: one function a section, from facts to the words and charts that the templates set.

Enters: ``Facts``. Leaves: JSON objects of finished strings for ``*.typ``, and charts as SVG text by name. A section
whose main file is absent is ``{"missing": "<file>"}``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from groundup.report import charts
from groundup.report.charts import Dot, Line, Panel
from groundup.report.facts import Facts
from groundup.report.wording import (
    ABSENT,
    NARROW,
    breakable,
    count,
    decimal,
    listed,
    moved,
    percent,
    points,
    seconds,
    short,
    shorten,
    significant,
    size,
)

RESULTS = "evaluate/results.json"
ATTENTION = "evaluate/attention.json"
STAGES = {
    "corpus": "Corpus",
    "tokenizer": "Tokenizer",
    "pretrain": "Pretraining",
    "sft": "Fine-tuning (SFT)",
    "dpo": "Preferences (DPO)",
    "grpo": "Rewards (GRPO)",
    "evaluate": "Evaluation",
}
TRAINED = ("pretrain", "sft", "dpo", "grpo")
MODEL_NAMES = {"pretrain": "Base", "sft": "SFT", "dpo": "DPO", "grpo": "GRPO"}
SPLITS = {"test": "Held-out problems", "test-wordings": "Held-out wordings"}

Section = dict[str, Any]


@dataclass(frozen=True)
class Draft:
    """What the sections share: where they read, where they put their charts, how much text they may quote."""

    facts: Facts
    characters: int
    """Longest quoted sample or message."""
    charts: dict[str, str] = field(default_factory=dict)

    def chart(self, name: str, svg: str) -> str:
        """Keep a chart; the path under which the template finds it."""
        self.charts[f"{name}.svg"] = svg
        return f"charts/{name}.svg"


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval and sample size; any may be absent."""

    value: float | None
    low: float | None
    high: float | None
    n: float | None

    def share(self) -> str:
        """``56.3 % [53.1, 59.5]``."""
        return percent(self.value) + self._bounds(lambda bound: decimal(100 * bound, 1))

    def plain(self, digits: int) -> str:
        """``2.118 [2.097, 2.139]``."""
        return decimal(self.value, digits) + self._bounds(lambda bound: decimal(bound, digits))

    def signed(self) -> str:
        """``+9.9 [7.8, 12.0]``, in percentage points."""
        return points(self.value) + self._bounds(lambda bound: decimal(100 * bound, 1))

    def cell(self) -> list[str]:
        """A share and its bounds for a table."""
        return [ABSENT if self.value is None else decimal(100 * self.value, 1),
                self._bounds(lambda bound: decimal(100 * bound, 1)).strip()]  # fmt: skip

    def _bounds(self, show: Callable[[float], str]) -> str:
        return "" if self.low is None or self.high is None else f" [{show(self.low)}, {show(self.high)}]"


def estimate(facts: Facts, file: str, key: str, label: str) -> Estimate:
    """Read value, low, high and n at ``key``."""
    return Estimate(*(facts.number(file, f"{key}.{part}", label) for part in ("value", "low", "high", "n")))


def finished(facts: Facts) -> list[str]:
    """Stages that left a manifest, in the order of the pipeline."""
    return [stage for stage in STAGES if facts.has(f"{stage}/manifest.json")]


def started(facts: Facts) -> datetime | None:
    """When the run's newest stage started, in UTC: the date of the report."""
    times = []
    for stage in finished(facts):
        text = facts.text(f"{stage}/manifest.json", "started", "Start of the stage")
        try:
            time = datetime.fromisoformat(text or "")
        except ValueError:
            continue
        times.append((time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC))
    return max(times, default=None)


# The title page and the summary


def cover(draft: Draft) -> Section:
    """The key results as tiles, one exchange with the model, the road as a strip, the training loss as a picture."""
    facts = draft.facts
    losses = facts.series("pretrain/metrics.jsonl", "loss", "Loss, nats per token (pretrain)")
    baselines = [f"{name.split(' ')[0]} {decimal(value)}" for name, value in _baselines(facts) if value is not None]
    exact = _overall(facts, "test")
    stages = [stage for stage in TRAINED if exact.get(stage) and exact[stage].value is not None]
    win = estimate(facts, RESULTS, "dpo.win_rate", "DPO win rate over SFT")
    gain = estimate(facts, RESULTS, "grpo.gain", "GRPO gain in mean reward")
    bits = estimate(facts, RESULTS, "bits_per_byte.models.pretrain", "Bits per byte (base)")
    tiles = [
        [short(facts.number("pretrain/model.json", "parameters", "Parameters")), "parameters", _shape(facts)],
        [size(facts.number("corpus/funnel.json", "train.bytes", "Training text")), "of clean text",
         f"in {count(facts.number('corpus/funnel.json', 'train.documents', 'Training documents'))} documents"],
        [decimal(bits.value), "bits per byte", "held out; " + ", ".join(baselines) if baselines else ""],
        [percent(exact[stages[-1]].value) if stages else ABSENT, "exact match, held out",
         f"base model: {percent(exact[stages[0]].value)}" if len(stages) > 1 else ""],
        [percent(win.value), "DPO wins over SFT", _interval_words(win, lambda b: decimal(100 * b, 1))],
        [points(gain.value), "points of reward by GRPO", _interval_words(gain, lambda b: decimal(100 * b, 1))],
    ]  # fmt: skip
    return {
        "recipe": shorten(facts.text("recipe.toml", "name", "Name of the recipe") or "", 60),
        "tiles": tiles,
        "road": [
            [STAGES[stage].split(" (")[0], seconds(facts.number(f"{stage}/manifest.json", "seconds", "Duration"))]
            for stage in finished(facts)
        ],
        "total": seconds(_total_seconds(facts)),
        "loss": draft.chart("cover", charts.cover(losses)) if len(losses) > 1 else None,
        "machine": _machine(facts),
        "exchange": _exchange(draft),
    }


def _exchange(draft: Draft) -> list[list[str]]:
    """The last question and answer of the first conversation, if short enough for the title page."""
    turns = [(message["role"], message["text"]) for talk in _talks(draft)[:1] for message in talk["messages"]]
    pairs = [
        [list(asked), list(answered)]
        for asked, answered in zip(turns, turns[1:], strict=False)
        if (asked[0], answered[0]) == ("user", "assistant")
    ]
    fitting = [pair for pair in pairs if all(0 < len(text) <= 160 and text.count("\n") < 3 for _, text in pair)]
    return max(fitting, key=lambda pair: len(pair[0][1]), default=[])


def brief(draft: Draft) -> Section:
    """Each target of a run, what was measured, and whether it was met; then what each stage cost."""
    facts = draft.facts
    costs = []
    for stage in finished(facts):
        manifest = f"{stage}/manifest.json"
        costs.append(
            [
                STAGES[stage],
                seconds(facts.number(manifest, "seconds", "Duration")),
                size(facts.number(manifest, "peak_memory_bytes", "Peak memory")),
                facts.text(manifest, "environment.device", "Device") or ABSENT,
                facts.text(manifest, "environment.precision", "Precision") or ABSENT,
                (facts.text(manifest, "config_hash", "Hash of the configuration") or ABSENT)[:10],
            ]
        )
    targets = [_target_bits(facts), _target_chance(facts), _target_sft(facts), _target_win(facts), _target_gain(facts)]
    verdicts = [target["verdict"] for target in targets]
    return {
        "targets": targets,
        "met": verdicts.count("met"),
        "missed": verdicts.count("missed"),
        "open": verdicts.count("open"),
        "costs": costs,
        "total": seconds(_total_seconds(facts)),
    }


def _target(goal: str, measured: str, met: bool | None, note: str = "") -> Section:
    verdict = "open" if met is None else "met" if met else "missed"
    return {"goal": goal, "measured": measured if met is not None else "not measured", "verdict": verdict, "note": note}


def _target_bits(facts: Facts) -> Section:
    goal = "Bits per byte of the base model below both baselines"
    bits = estimate(facts, RESULTS, "bits_per_byte.models.pretrain", "Bits per byte (base)")
    levels = [level for _, level in _baselines(facts) if level is not None]
    if bits.value is None or len(levels) < 2:
        return _target(goal, "", None)
    best = min(levels)
    note = "the whole interval" if bits.high is not None and bits.high < best else "the interval reaches the baseline"
    met = bits.value < best
    return _target(goal, f"{bits.plain(3)} against {decimal(best, 3)}", met, note if met else f"by {decimal(bits.value - best, 3)}")


def _target_chance(facts: Facts) -> Section:
    goal = "Final model above chance in every family of tasks"
    rows = [(family, chance, stages) for _, family, chance, stages in _tasks(facts) if family != "all"]
    final = _final(facts)
    judged = [(family, chance, stages[final]) for family, chance, stages in rows if final and final in stages]
    judged = [row for row in judged if row[1] is not None and row[2].low is not None]
    if not judged:
        return _target(goal, "", None)
    low = [family for family, chance, result in judged if (result.low or 0) <= (chance or 0)]
    above = len(judged) - len(low)
    note = "not: " + shorten(listed(list(dict.fromkeys(low))), 60) if low else "each with its whole interval"
    return _target(goal, f"{above} of {len(judged)}", not low, note)


def _target_sft(facts: Facts) -> Section:
    goal = "Exact match on held-out problems far above the base model"
    exact = _overall(facts, "test")
    final = _final(facts)
    if not final or final == "pretrain" or "pretrain" not in exact or final not in exact:
        return _target(goal, "", None)
    base, last = exact["pretrain"], exact[final]
    if base.value is None or last.value is None or base.high is None or last.low is None:
        return _target(goal, "", None)
    met = last.low > base.high
    return _target(goal, f"{last.share()} after {percent(base.value)}", met, "intervals apart" if met else "intervals overlap")


def _target_win(facts: Facts) -> Section:
    win = estimate(facts, RESULTS, "dpo.win_rate", "DPO win rate over SFT")
    met = None if win.value is None or win.low is None else win.low > 0.5
    note = "interval above one half" if met else "interval reaches one half"
    return _target("DPO preferred over SFT", win.share(), met, note)


def _target_gain(facts: Facts) -> Section:
    gain = estimate(facts, RESULTS, "grpo.gain", "GRPO gain in mean reward")
    met = None if gain.value is None or gain.low is None else gain.low > 0
    note = "interval above zero" if met else "interval reaches zero"
    return _target("GRPO raises the mean reward", f"{gain.signed()} points", met, note)


# What the model is made from


def corpus(draft: Draft) -> Section:
    """Sources with licence and hash, and the funnel that cleans them."""
    facts, file = draft.facts, "corpus/funnel.json"
    if not facts.has(file):
        return {"missing": file}
    steps, kept, removed, notes, reasons = [], [], [], [], []
    for index in range(facts.length(file, "steps")):
        key = f"steps.{index}"
        name = shorten(facts.text(file, f"{key}.step", "Cleaning step") or f"step {index + 1}", 28)
        before = facts.number(file, f"{key}.bytes_in", "Bytes before the step") or 0.0
        after = facts.number(file, f"{key}.bytes_out", "Bytes after the step") or 0.0
        documents = facts.number(file, f"{key}.documents_out", "Documents after the step")
        steps.append(name)
        kept.append(after)
        removed.append(max(0.0, before - after))
        notes.append(f"{count(documents)} documents")
        for item in range(facts.length(file, f"{key}.removed")):
            reason = f"{key}.removed.{item}"
            reasons.append(
                [
                    name,
                    shorten(facts.text(file, f"{reason}.reason", "Reason of removal") or ABSENT, 80),
                    count(facts.number(file, f"{reason}.documents", "Documents removed")),
                    size(facts.number(file, f"{reason}.bytes", "Bytes removed")),
                ]
            )
    split = [
        [name, count(facts.number(file, f"{name}.documents", f"{name.title()} documents")),
         size(facts.number(file, f"{name}.bytes", f"{name.title()} text"))]
        for name in ("train", "validation")
    ]  # fmt: skip
    first = facts.number(file, "steps.0.bytes_in", "Bytes before the step")
    share = None
    if first and kept:
        share = facts.computed("Share of bytes kept", kept[-1] / first, file, "last bytes_out / first bytes_in")
    chart = draft.chart("funnel", charts.funnel(steps, kept, removed, notes)) if steps else None
    return {
        "sources": _sources(facts),
        "read": size(first),
        "share": percent(share, 0),
        "split": split,
        "reasons": reasons,
        "chart": chart,
    }


def _sources(facts: Facts) -> list[list[str]]:
    file = "corpus/sources.json"
    rows = []
    for index in range(facts.length(file)):

        def read(name: str, index: int = index) -> str:
            return shorten(facts.text(file, f"{index}.{name}", f"Source: {name}") or ABSENT, 90)

        package = " ".join(part for part in (read("package"), read("version")) if part != ABSENT)
        rows.append(
            [
                read("name"),
                package or ABSENT,
                read("licence"),
                count(facts.number(file, f"{index}.files", "Source: files")),
                size(facts.number(file, f"{index}.bytes", "Source: bytes")),
                facts.text(file, f"{index}.sha256", "Source: SHA-256") or ABSENT,
            ]
        )
    return rows


def tokenizer(draft: Draft) -> Section:
    """Numbers of the vocabulary, the first merges, the longest tokens, and a sentence in pieces."""
    facts, file = draft.facts, "tokenizer/facts.json"
    if not facts.has(file):
        return {"missing": file}
    rows = [
        [_humanised(name), significant(facts.number(file, name, f"Tokenizer: {_humanised(name).lower()}"))]
        for name in facts.names(file)
        if facts.is_number(file, name)
    ]
    pieces = _texts_at(facts, file, ("example.pieces", "example_pieces", "examples.0.pieces"), "Example pieces")
    return {
        "rows": rows[:12],
        "vocabulary": count(facts.number(file, "vocab_size", "Tokenizer: vocabulary size")),
        "validation": decimal(facts.number(file, "bytes_per_token_validation", "Tokenizer: bytes per token, validation")),
        "pieces": [_visible(piece) for piece in pieces[:48]],
        "merges": [_visible(piece) for piece in _texts_at(facts, file, ("first_merges", "merges"), "First merges")[:14]],
        "longest": [_visible(piece) for piece in _texts_at(facts, file, ("longest_tokens",), "Longest tokens")[:12]],
    }


def model(draft: Draft) -> Section:
    """The shape of the network, and what its attention does on a real sentence."""
    facts, file = draft.facts, "pretrain/model.json"
    if not facts.has(file):
        return {"missing": file}
    names = {
        "layers": "Layers", "width": "Width of the residual stream", "heads": "Query heads",
        "kv_heads": "Key/value heads", "hidden": "Inner size of SwiGLU", "context": "Context, in tokens",
        "rope_base": "Base of the rotary frequencies",
    }  # fmt: skip
    shape = {key: facts.number(file, f"config.{key}", f"Model: {name.lower()}") for key, name in names.items()}
    switch = {"True": "yes", "False": "no"}
    rows = [[name, count(shape[key])] for key, name in names.items()]
    for key, name in (("qk_norm", "Queries and keys normalised"), ("tied", "Input and output embedding shared")):
        rows.append([name, switch.get(facts.text(file, f"config.{key}", f"Model: {name.lower()}") or "", ABSENT)])
    rows.append(["Vocabulary", count(facts.number(file, "vocab_size", "Model: vocabulary"))])
    rows.append(["Parameters", count(facts.number(file, "parameters", "Parameters"))])
    return {
        "rows": rows,
        "layers": count(shape["layers"]),
        "width": count(shape["width"]),
        "hidden": count(shape["hidden"]),
        "heads": count(shape["heads"]),
        "context": count(shape["context"]),
        "parameters": short(facts.number(file, "parameters", "Parameters")),
        "grouped": shape["heads"] is not None and shape["kv_heads"] is not None and shape["kv_heads"] < shape["heads"],
        "attention": _attention(draft),
    }


def _attention(draft: Draft) -> Section:
    """Three heads chosen by what they look at, and all of them small."""
    facts = draft.facts
    tokens = facts.texts(ATTENTION, "tokens", "Tokens of the sentence")
    raw = facts.array(ATTENTION, "layers", "Attention weights")
    try:
        layers = [[np.asarray(head, dtype=float) for head in heads] for heads in raw]
    except (TypeError, ValueError):
        layers = []
    square = (len(tokens), len(tokens))
    if len(tokens) < 2 or not layers or any(head.shape != square for heads in layers for head in heads):
        return {"missing": ATTENTION}
    behaviours: dict[str, Callable[[np.ndarray], float]] = {
        "the previous token": lambda head: float(np.diagonal(head, offset=-1).mean()),
        "the first token": lambda head: float(head[1:, 0].mean()),
    }
    chosen, titles, lines = [], [], []
    for what, weight in behaviours.items():
        layer, head = _strongest(layers, weight, chosen)
        share = facts.computed(
            f"Attention: weight on {what}", weight(layers[layer][head]), ATTENTION,
            f"mean weight on {what}, layer {layer + 1}, head {head + 1} (the largest of all heads)",
        )  # fmt: skip
        chosen.append((layer, head))
        titles.append(f"Layer {layer + 1}, head {head + 1}")
        lines.append(f"layer {layer + 1}, head {head + 1} gives {percent(share, 0)} of its weight to {what}")
    layer, head = _strongest(layers, _spread, chosen)
    spread = facts.computed(
        "Attention: tokens attended to", float(np.exp(_spread(layers[layer][head]))), ATTENTION,
        f"exp of the mean entropy, layer {layer + 1}, head {head + 1} (the largest of the other heads)",
    )  # fmt: skip
    chosen.append((layer, head))
    titles.append(f"Layer {layer + 1}, head {head + 1}")
    lines.append(f"layer {layer + 1}, head {head + 1} spreads it over {decimal(spread, 1)} tokens")
    pictures = [(title, layers[at][head]) for title, (at, head) in zip(titles, chosen, strict=True)]
    labels = [shorten(_visible(token), 12) for token in tokens]
    return {
        "text": shorten(facts.text(ATTENTION, "text", "The sentence") or "".join(tokens), 200),
        "heads": draft.chart("attention-heads", charts.attention_heads(pictures, labels)),
        "all": draft.chart("attention-all", charts.attention_overview(layers)),
        "lines": listed(lines),
    }


def _strongest(
    layers: list[list[np.ndarray]], measure: Callable[[np.ndarray], float], taken: list[tuple[int, int]]
) -> tuple[int, int]:
    """The head (layer, head) with the largest measure, other than those taken unless there is no other."""
    places = [(layer, head) for layer, heads in enumerate(layers) for head in range(len(heads))]
    return max([place for place in places if place not in taken] or places, key=lambda at: measure(layers[at[0]][at[1]]))


def _spread(head: np.ndarray) -> float:
    """Mean entropy of the rows, in nats."""
    return float(-(head * np.log(np.maximum(head, 1e-12))).sum(axis=1).mean())


# Training


def training(draft: Draft, stage: str) -> Section:
    """Steps, tokens and speed of one training stage, and all its curves."""
    facts, file = draft.facts, f"{stage}/metrics.jsonl"
    if not facts.has(file):
        return {"missing": file}
    label = MODEL_NAMES[stage]
    speed = facts.series(file, "tokens_per_second", f"Tokens per second ({stage})")
    typical = None
    if len(speed):
        typical = facts.computed(
            f"Typical throughput ({stage})", float(np.median(speed.values)), file, "median of tokens_per_second"
        )
    section = {
        "steps": count(facts.last(file, "step", f"Steps ({stage})")),
        "tokens": short(facts.last(file, "tokens", f"Tokens trained on ({stage})")),
        "speed": f"{count(typical)}{NARROW}tokens/s" if typical else ABSENT,
        "seconds": seconds(facts.number(f"{stage}/manifest.json", "seconds", "Duration")),
        "loss": moved(
            facts.first(file, "loss", f"First loss ({stage})"), facts.last(file, "loss", f"Last loss ({stage})")
        ),
        "chart": draft.chart(stage, charts.curves(_panels(facts, file, stage), (2.0, 1.35))),
        "name": label,
    }
    return section | _particulars(draft, stage, file)


def _particulars(draft: Draft, stage: str, file: str) -> Section:
    """What only this stage has."""
    facts = draft.facts
    if stage == "pretrain":
        column = "validation_bits_per_byte"
        return {
            "bits": moved(facts.first(file, column, "First validation bits per byte"),
                          facts.last(file, column, "Last validation bits per byte")),
            "best": decimal(facts.lowest(file, column, "Lowest validation bits per byte"), 3),
            "samples": _samples(draft),
        }  # fmt: skip
    if stage == "sft":
        stops = {name: estimate(facts, RESULTS, f"stops.{name}", "Answers that stop") for name in ("pretrain", "sft")}
        return {"stops_before": percent(stops["pretrain"].value), "stops_after": percent(stops["sft"].value)}
    if stage == "dpo":
        return {
            "beta": significant(facts.number("dpo/manifest.json", "config.beta", "DPO: beta")),
            "accuracy": moved(facts.first(file, "accuracy", "First accuracy (dpo)"),
                              facts.last(file, "accuracy", "Last accuracy (dpo)")),
        }  # fmt: skip
    return {
        "reward": moved(facts.first(file, "reward", "First reward (grpo)"), facts.last(file, "reward", "Last reward (grpo)")),
        "length": moved(facts.first(file, "answer_tokens", "First answer length (grpo)"),
                        facts.last(file, "answer_tokens", "Last answer length (grpo)"), 1),
    }  # fmt: skip


def _panels(facts: Facts, file: str, stage: str) -> list[list[Panel]]:
    """The stage's own curves above, those that every stage has below."""

    def panel(title: str, *columns: tuple[str, str], share: bool = False, **options: Any) -> Panel:
        colours = (charts.INK, charts.STAGE_COLOURS["dpo"])
        lines = [
            Line(facts.series(file, column, f"{title} ({stage})"), name, colour)
            for (column, name), colour in zip(columns, colours, strict=False)
        ]
        return Panel(title, lines, share=share, **options)

    common = [
        panel("Learning rate", ("learning_rate", "")),
        panel("Gradient norm", ("gradient_norm", "")),
        panel("Tokens per second", ("tokens_per_second", "")),
    ]
    if stage == "pretrain":
        levels = [(name, level) for name, level in _baselines(facts) if level is not None]
        bits = panel("Validation, bits per byte", ("validation_bits_per_byte", ""), levels=levels)
        return [[panel("Loss, nats per token", ("loss", "")), bits], common]
    if stage == "sft":
        loss = panel("Loss, nats per target token", ("loss", "training"), ("validation_loss", "validation"))
        return [[loss, panel("Exact match while training", ("exact_match", ""), share=True)], common]
    if stage == "dpo":
        own = [panel("Loss, nats per pair", ("loss", "")), panel("Pairs ranked rightly", ("accuracy", ""), share=True),
               panel("Margin of the chosen answer", ("margin", ""))]  # fmt: skip
        return [own, common]
    own = [panel("Mean reward", ("reward", "")), panel("Deviation in a group", ("reward_deviation", "")),
           panel("Tokens per answer", ("answer_tokens", "")), panel("Answers that stop", ("stopped", ""), share=True)]  # fmt: skip
    return [own, [panel("Loss", ("loss", "")), *common]]


def _samples(draft: Draft) -> list[Section]:
    """The same prompts at up to four moments of training."""
    facts, file = draft.facts, "pretrain/samples.jsonl"
    moments: dict[float, list[int]] = {}
    for line in range(facts.length(file)):
        step = facts.number(file, f"{line}.step", "Step of a sample")
        if step is not None:
            moments.setdefault(step, []).append(line)
    shown = sorted(moments)
    if len(shown) > 4:
        shown = [shown[round(index * (len(shown) - 1) / 3)] for index in range(4)]
    return [
        {
            "step": count(step),
            "texts": [
                _continuation(
                    facts.text(file, f"{line}.prompt", "Prompt of a sample") or "",
                    facts.text(file, f"{line}.text", "Text of a sample") or "",
                    draft.characters // 2,
                )
                for line in moments[step][:2]
            ],
        }
        for step in shown
    ]


def _continuation(prompt: str, text: str, characters: int) -> list[str]:
    """[prompt, continuation], whether or not the text repeats its prompt."""
    return [shorten(prompt, 120), shorten(text.removeprefix(prompt), characters, lines=5)]


# Evaluation


def evaluation(draft: Draft) -> Section:
    """Every measure before and after every stage."""
    facts = draft.facts
    if not facts.has(RESULTS):
        return {"missing": RESULTS}
    return {
        "bits": _bits(draft),
        "exact": _exact(draft),
        "stops": _stops(facts),
        "win": _win(facts),
        "gain": _gain(facts),
        "memory": _memorisation(draft),
    }


def _bits(draft: Draft) -> Section:
    facts = draft.facts
    levels = [(name, level) for name, level in _baselines(facts) if level is not None]
    models = {
        stage: estimate(facts, RESULTS, f"bits_per_byte.models.{stage}", f"Bits per byte ({MODEL_NAMES[stage].lower()})")
        for stage in TRAINED
        if stage in facts.names(RESULTS, "bits_per_byte.models")
    }
    models = {stage: result for stage, result in models.items() if result.value is not None}
    if not models:
        return {"missing": f"{RESULTS}, bits_per_byte"}
    dots = [_dot(stage, result) for stage, result in models.items()]
    rows = [[name, decimal(level, 3), "", ""] for name, level in levels]
    rows += [
        [f"{MODEL_NAMES[stage]} model", decimal(result.value, 3), result.plain(3).partition(" ")[2], count(result.n)]
        for stage, result in models.items()
    ]
    first, base = next(iter(models.items()))
    return {
        "rows": rows,
        "chart": draft.chart("bits-per-byte", charts.bits_per_byte(dots, levels)),
        "bytes": size(facts.number(RESULTS, "bits_per_byte.validation_bytes", "Validation text measured")),
        "sentence": _against(MODEL_NAMES[first].lower(), base, levels),
        "drift": _drift(models),
    }


def _against(name: str, result: Estimate, levels: list[tuple[str, float]]) -> str:
    """Where a model stands among the baselines, in words that fit any outcome."""
    value = result.value or 0.0
    below = [level for level, bound in levels if value < bound]
    above = [level for level, bound in levels if value >= bound]
    if not levels:
        return f"The {name} model needs {decimal(value, 3)} bits per byte; the run has no baseline to compare with."
    start = f"The {name} model needs {decimal(value, 3)} bits per byte, "
    if not above:
        both = "both baselines" if len(levels) == 2 else listed(below)
        return start + f"below {both}."
    if not below:
        return start + f"which is not below {listed(above)}: it fails this target."
    return start + f"below {listed(below)} but not below {listed(above)}: it fails half of this target."


def _drift(models: dict[str, Estimate]) -> str:
    """What post-training did to the knowledge of plain text."""
    values = [(stage, result.value) for stage, result in models.items() if result.value is not None]
    if len(values) < 2:
        return ""
    (_, before), (last, after) = values[0], values[-1]
    way = "costs" if after > before else "saves"
    return f"From base to {MODEL_NAMES[last]} post-training {way} {decimal(abs(after - before), 3)} bits per byte of plain text."


def _exact(draft: Draft) -> Section:
    facts = draft.facts
    tasks = _tasks(facts)
    if not tasks:
        return {"missing": f"{RESULTS}, tasks"}
    stages = [stage for stage in TRAINED if any(stage in results for *_, results in tasks)]
    groups, tables, sizes = [], [], set()
    for split in dict.fromkeys(split for split, *_ in tasks):
        title = SPLITS.get(split, shorten(split, 30))
        rows = [(family, chance, results) for its, family, chance, results in tasks if its == split]
        dots = [
            (shorten("all families" if family == "all" else family, 18), chance,
             [_dot(stage, result) for stage, result in results.items() if result.value is not None])
            for family, chance, results in rows
        ]  # fmt: skip
        groups.append((title, dots))
        table = []
        for family, chance, results in rows:
            counts = list(dict.fromkeys(count(result.n) for result in results.values() if result.n is not None))
            sizes.update(counts)
            cells = [results[stage].cell() if stage in results else [ABSENT, ""] for stage in stages]
            shown = "all families" if family == "all" else family
            table.append({"family": shorten(shown, 24), "all": family == "all", "cells": cells,
                          "n": " / ".join(counts) or ABSENT, "chance": percent(chance, 0)})  # fmt: skip
        tables.append({"title": title, "rows": table})
    return {
        "tables": tables,
        "stages": [MODEL_NAMES[stage] for stage in stages],
        "chart": draft.chart("exact-match", charts.exact_match(groups)),
        "sentence": _exact_sentence(facts),
    }


def _exact_sentence(facts: Facts) -> str:
    parts = []
    for split, title in SPLITS.items():
        exact = {stage: result for stage, result in _overall(facts, split).items() if result.value is not None}
        if len(exact) > 1:
            (_, before), (last, after) = list(exact.items())[0], list(exact.items())[-1]
            way = "rises" if (after.value or 0) > (before.value or 0) else "does not rise: it goes"
            parts.append(
                f"On {title.lower()} the share of exact answers {way} from {percent(before.value)} (base) "
                f"to {percent(after.value)} ({MODEL_NAMES[last]})."
            )
    return " ".join(parts)


def _stops(facts: Facts) -> list[list[str]]:
    rows = []
    for stage in TRAINED:
        if stage in facts.names(RESULTS, "stops"):
            result = estimate(facts, RESULTS, f"stops.{stage}", "Answers that stop")
            rows.append([MODEL_NAMES[stage], *result.cell(), count(result.n)])
    return rows


def _win(facts: Facts) -> Section:
    win = estimate(facts, RESULTS, "dpo.win_rate", "DPO win rate over SFT")
    if win.value is None:
        return {"missing": f"{RESULTS}, dpo.win_rate"}
    bars = [
        [name, facts.number(RESULTS, f"dpo.win_rate.{name}", "DPO: wins, ties and losses")]
        for name in ("wins", "ties", "losses")
    ]
    return {
        "share": win.share(),
        "n": count(win.n),
        "sentence": _excludes(win, 0.5, "one half", "the preference for DPO is real", "DPO is worse than SFT"),
        "bars": [[name, value or 0, count(value)] for name, value in bars] if any(v for _, v in bars) else [],
    }


def _gain(facts: Facts) -> Section:
    gain = estimate(facts, RESULTS, "grpo.gain", "GRPO gain in mean reward")
    if gain.value is None:
        return {"missing": f"{RESULTS}, grpo.gain"}
    return {
        "before": estimate(facts, RESULTS, "grpo.before", "Mean reward before GRPO").plain(3),
        "after": estimate(facts, RESULTS, "grpo.after", "Mean reward after GRPO").plain(3),
        "gain": gain.plain(3),
        "n": count(gain.n),
        "sentence": _excludes(gain, 0.0, "zero", "the gain is real", "GRPO made the model worse"),
    }


def _excludes(result: Estimate, level: float, name: str, better: str, worse: str) -> str:
    if result.low is None or result.high is None:
        return "No interval was recorded."
    if result.low > level:
        return f"The whole interval lies above {name}: {better}."
    if result.high < level:
        return f"The whole interval lies below {name}: {worse}."
    return f"The interval contains {name}: this sample shows no difference."


def _memorisation(draft: Draft) -> Section:
    facts = draft.facts
    names = {
        "samples": "Texts sampled",
        "longest_characters": "Longest run copied from the training text, characters",
        "median_characters": "Median of the longest copied run per text, characters",
        "held_out_longest_characters": "The same for held-out human text: longest, characters",
        "held_out_median_characters": "The same for held-out human text: median, characters",
    }
    values = {key: facts.number(RESULTS, f"memorisation.{key}", f"Memorisation: {key.replace('_', ' ')}") for key in names}
    if all(value is None for value in values.values()):
        return {"missing": f"{RESULTS}, memorisation"}
    model_median, human_median = values["median_characters"], values["held_out_median_characters"]
    sentence = ""
    if model_median is not None and human_median is not None:
        relation = "longer than" if model_median > human_median else "no longer than"
        sentence = (
            f"Half of the sampled texts copy a run of at least {count(model_median)} characters, {relation} the "
            f"{count(human_median)} that unseen human text of the same kind shares with the training text by itself."
        )
    return {
        "rows": [[name, count(values[key])] for key, name in names.items()],
        "sentence": sentence,
        "longest": shorten(
            facts.text(RESULTS, "memorisation.longest_text", "Memorisation: the longest copied run") or "",
            draft.characters // 2,
        ),
    }


# What it says


def conversations(draft: Draft) -> Section:
    """Talks with the final model, and sampled answers stage by stage."""
    talks, answers = _talks(draft), _answers(draft)
    if not talks and not answers:
        return {"missing": "evaluate/conversations.json"}
    return {"talks": talks, "answers": answers, "final": MODEL_NAMES.get(_final(draft.facts) or "", "last")}


def _talks(draft: Draft) -> list[Section]:
    """Up to three conversations, with up to ten messages each."""
    facts, file = draft.facts, "evaluate/conversations.json"
    talks = []
    for index in range(min(facts.length(file), 3)):
        messages = [
            {
                "role": facts.text(file, f"{index}.messages.{turn}.role", "Role of a message") or "",
                "text": shorten(
                    facts.text(file, f"{index}.messages.{turn}.content", "Message") or "", draft.characters, lines=12
                ),
            }
            for turn in range(min(facts.length(file, f"{index}.messages"), 10))
        ]
        title = shorten(facts.text(file, f"{index}.title", "Title of a conversation") or "", 80)
        talks.append({"title": title, "messages": messages})
    return talks


def _answers(draft: Draft) -> list[Section]:
    """Problems that were put to several stages, with each stage's answer."""
    facts, file = draft.facts, "evaluate/answers.jsonl"
    problems: dict[tuple[str, str], Section] = {}
    for line in range(min(facts.length(file), 400)):
        family, prompt, stage, answer, reference, correct = (
            facts.text(file, f"{line}.{name}", f"Sampled answers: {name}") or ""
            for name in ("family", "prompt", "stage", "answer", "reference", "correct")
        )
        problem = problems.setdefault((family, prompt), {"family": family, "prompt": prompt, "answers": {}})
        problem["reference"] = reference
        problem["answers"][stage] = [shorten(answer, 60, lines=2), correct == "True"]
    families: dict[str, Section] = {}
    for problem in problems.values():
        best = families.get(problem["family"])
        if best is None or len(problem["answers"]) > len(best["answers"]):
            families[problem["family"]] = problem
    stages = [stage for stage in TRAINED if any(stage in problem["answers"] for problem in families.values())]
    return [
        {
            "family": shorten(problem["family"], 20),
            "prompt": shorten(problem["prompt"], 160, lines=4),
            "reference": shorten(problem["reference"], 60, lines=2),
            "answers": [
                [MODEL_NAMES[stage], *problem["answers"][stage]] for stage in stages if stage in problem["answers"]
            ],
        }
        for problem in list(families.values())[:9]
    ]


def recipe(draft: Draft) -> Section:
    """The complete resolved recipe, and versions and hardware."""
    facts = draft.facts
    text = facts.whole("recipe.toml", "The complete recipe")
    stages = finished(facts)
    manifest = f"{stages[-1]}/manifest.json" if stages else "evaluate/manifest.json"
    rows = []
    for name in facts.names(manifest, "environment"):
        label = f"Environment: {name.replace('_', ' ')}"
        if name == "memory_bytes":
            rows.append(["Memory", size(facts.number(manifest, "environment.memory_bytes", label))])
        else:
            rows.append([_humanised(name), shorten(facts.text(manifest, f"environment.{name}", label) or ABSENT, 90)])
    for name, label in (("code_version", "Version of the code"), ("seed", "Seed")):
        rows.append([label, shorten(facts.text(manifest, name, label) or ABSENT, 64)])
    return {"text": breakable(text) if text else None, "rows": rows, "from": manifest}


def sources_of_numbers(facts: Facts) -> Section:
    """The ledger for the appendix. To be called last: it prints what the others asked for."""
    files = [
        {
            "file": group["file"],
            "sha256": group["sha256"],
            "rows": [
                [
                    shorten(row["label"], 60),
                    breakable(row["key"].replace(".", ".\u200b").replace(",", ",\u200b")),
                    _shown(row["value"]) if row["single"] else f"{count(row['value'])} values",
                ]
                for row in group["rows"]
            ],
        }
        for group in facts.summary()
    ]
    missing = dict.fromkeys(f"{file}: {key}" if key else file for _, file, key in facts.missing)
    return {"files": files, "missing": [shorten(place, 80) for place in list(missing)[:40]]}


# Shared readings


def _tasks(facts: Facts) -> list[tuple[str, str, float | None, dict[str, Estimate]]]:
    """(split, family, chance, stage → share of exact answers) in the file's order."""
    rows = []
    for index in range(facts.length(RESULTS, "tasks")):
        key = f"tasks.{index}"
        family = facts.text(RESULTS, f"{key}.family", "Family of tasks") or ABSENT
        split = facts.text(RESULTS, f"{key}.split", "Split of tasks") or ABSENT
        chance = facts.number(RESULTS, f"{key}.chance", "Chance level")
        present = facts.names(RESULTS, f"{key}.stages")
        results = {
            stage: estimate(facts, RESULTS, f"{key}.stages.{stage}", "Exact match") for stage in TRAINED if stage in present
        }
        rows.append((split, family, chance, results))
    return rows


def _overall(facts: Facts, split: str) -> dict[str, Estimate]:
    """Stage → share of exact answers over all families of a split."""
    return next((results for its, family, _, results in _tasks(facts) if (its, family) == (split, "all")), {})


def _final(facts: Facts) -> str | None:
    """The last stage that was evaluated on tasks."""
    seen = {stage for *_, results in _tasks(facts) for stage, result in results.items() if result.value is not None}
    return next((stage for stage in reversed(TRAINED) if stage in seen), None)


def _baselines(facts: Facts) -> list[tuple[str, float | None]]:
    order = facts.number(RESULTS, "bits_per_byte.baselines.kneser_ney.order", "Order of the Kneser–Ney model")
    grams = f"Kneser–Ney {count(order)}-gram" if order else "Kneser–Ney"
    return [
        ("xz", facts.number(RESULTS, "bits_per_byte.baselines.xz.value", "Bits per byte (xz)")),
        (grams, facts.number(RESULTS, "bits_per_byte.baselines.kneser_ney.value", "Bits per byte (Kneser–Ney)")),
    ]


def _total_seconds(facts: Facts) -> float | None:
    durations = [facts.number(f"{stage}/manifest.json", "seconds", "Duration") for stage in finished(facts)]
    return sum(duration for duration in durations if duration is not None) if durations else None


def _shape(facts: Facts) -> str:
    layers = facts.number("pretrain/model.json", "config.layers", "Model: layers")
    width = facts.number("pretrain/model.json", "config.width", "Model: width of the residual stream")
    return f"{count(layers)} layers, width {count(width)}" if layers and width else ""


def _machine(facts: Facts) -> str:
    stages = finished(facts)
    if not stages:
        return ""
    manifest = f"{stages[-1]}/manifest.json"
    version = facts.text(manifest, "environment.groundup", "Environment: groundup")
    processor = facts.text(manifest, "environment.processor", "Environment: processor")
    cores = facts.number(manifest, "environment.cores", "Environment: cores")
    device = facts.text(manifest, "environment.device", "Environment: device")
    parts = [f"groundup {version}" if version else "", processor or "", f"{count(cores)} cores" if cores else "",
             f"trained on {device}" if device else ""]  # fmt: skip
    return shorten(" · ".join(part for part in parts if part), 140)


def _interval_words(result: Estimate, show: Callable[[float], str]) -> str:
    if result.low is None or result.high is None:
        return ""
    return f"95 % interval {show(result.low)} to {show(result.high)}"


def _dot(stage: str, result: Estimate) -> Dot:
    return Dot(
        MODEL_NAMES[stage],
        result.value or 0.0,
        result.low,
        result.high,
        charts.STAGE_COLOURS[stage],
        charts.STAGE_MARKERS[stage],
    )


def _texts_at(facts: Facts, file: str, keys: Sequence[str], label: str) -> list[str]:
    """The list of texts at the first of ``keys`` that holds one."""
    return next((found for key in keys if facts.length(file, key) and (found := facts.texts(file, key, label))), [])


def _visible(piece: str) -> str:
    """A token with its spaces and line ends drawn."""
    return breakable(piece.replace(" ", "␣").replace("\n", "↵") or "∅")


def _humanised(name: str) -> str:
    """``bytes_per_token_train`` → ``Bytes per token, train``."""
    words = name.replace("_", " ")
    for split in (" train", " validation"):
        if words.endswith(split):
            words = f"{words.removesuffix(split)},{split}"
    return shorten({"vocab size": "vocabulary size"}.get(words, words).capitalize(), 48)


def _shown(value: float | str) -> str:
    """A value of the ledger as it is, a long text by its beginning."""
    if isinstance(value, str):
        return shorten(value.replace("\n", " "), 18)
    return count(value) if value == int(value) else f"{value:.6g}".replace("-", "−")
