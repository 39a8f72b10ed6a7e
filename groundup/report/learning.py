"""How the model learned: the curves of every training stage, and samples on the way.

Enters: a ``Draft`` and the name of the stage. Leaves: a JSON object for ``making.typ`` and ``aligning.typ``.
"""

import re
from typing import Any

import numpy as np

from groundup.report import charts
from groundup.report.charts import Line, Panel
from groundup.report.facts import Facts
from groundup.report.readings import MODEL_NAMES, RESULTS, Draft, Section, baselines, estimate
from groundup.report.wording import (
    ABSENT,
    NARROW,
    count,
    decimal,
    moved,
    one_line,
    percent,
    seconds,
    short,
    shorten,
    significant,
)


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
    recorded = [[panel for panel in row if panel.recorded()] for row in _panels(facts, file, stage)]
    rows = [(row, height) for row, height in zip(recorded, (1.75, 1.2), strict=True) if row]
    section = {
        "steps": count(facts.last(file, "step", f"Steps ({stage})")),
        "tokens": short(facts.last(file, "tokens", f"Tokens trained on ({stage})")),
        "speed": f"{count(typical)}{NARROW}tokens/s" if typical else ABSENT,
        "seconds": seconds(facts.number(f"{stage}/manifest.json", "seconds", "Duration")),
        "loss": moved(
            facts.first(file, "loss", f"First loss ({stage})"), facts.last(file, "loss", f"Last loss ({stage})")
        ),
        "chart": draft.chart(stage, charts.curves(*zip(*rows, strict=True))) if rows else None,
        "smoothed": any(panel.smoothed() for row in recorded for panel in row),
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
                              facts.last(file, "accuracy", "Last accuracy (dpo)"))
            if len(facts.series(file, "accuracy", "Pairs ranked rightly (dpo)")) else "",
        }  # fmt: skip
    return {
        "reward": moved(facts.first(file, "reward", "First reward (grpo)"),
                        facts.last(file, "reward", "Last reward (grpo)")),
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
        panel("Learning rate", ("learning_rate", ""), noisy=False),
        panel("Gradient norm", ("gradient_norm", "")),
        panel("Tokens per second", ("tokens_per_second", "")),
    ]
    if stage == "pretrain":
        levels = [(name.split(" ")[0], level) for name, level in baselines(facts) if level is not None]
        bits = panel("Validation, bits per byte", ("validation_bits_per_byte", ""), levels=levels)
        return [[panel("Loss, nats per token", ("loss", "")), bits], common]
    if stage == "sft":
        loss = panel("Loss, nats per target token", ("loss", "training"), ("validation_loss", "validation"))
        return [[loss, panel("Exact match while training", ("exact_match", ""), share=True)], common]
    if stage == "dpo":
        own = [panel("Loss, nats per pair", ("loss", "")), panel("Pairs ranked rightly", ("accuracy", ""), share=True),
               panel("Margin of the chosen answer", ("margin", ""))]  # fmt: skip
        return [own, common]
    own = [
        panel("Mean reward", ("reward", "")),
        panel("Deviation in a group", ("reward_deviation", "")),
        panel("Tokens per answer", ("answer_tokens", "")),
        panel("Answers that stop", ("stopped", ""), share=True),
    ]
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
                    2 * draft.characters // 5,
                )
                for line in moments[step][:2]
            ],
        }
        for step in shown
    ]


def _continuation(prompt: str, text: str, characters: int) -> list[str]:
    """[prompt, continuation] without blank lines, whether or not the text repeats its prompt."""
    rest = re.sub(r"\n\s*\n", "\n", text.removeprefix(prompt))
    return [one_line(prompt, 100), shorten(rest if prompt else rest.lstrip(), characters, lines=4)]
