"""The title page and the run in brief.

Enters: a ``Draft``. Leaves: JSON objects for ``cover.typ`` and ``judging.typ``: the key results, the targets and
whether they were met, what each stage cost.
"""

from collections.abc import Callable

from groundup.report import charts
from groundup.report.facts import Facts
from groundup.report.readings import (
    RESULTS,
    STAGES,
    TRAINED,
    Draft,
    Estimate,
    Section,
    baselines,
    estimate,
    final_stage,
    finished,
    overall,
    talk_texts,
    task_results,
    total_seconds,
)
from groundup.report.wording import (
    ABSENT,
    count,
    decimal,
    listed,
    one_line,
    percent,
    points,
    seconds,
    short,
    size,
)


def cover(draft: Draft) -> Section:
    """The key results as tiles, one exchange with the model, the road as a strip, the training loss as a picture."""
    facts = draft.facts
    losses = facts.series("pretrain/metrics.jsonl", "loss", "Loss, nats per token (pretrain)")
    rivals = [f"{name.split(' ')[0]} {decimal(value)}" for name, value in baselines(facts) if value is not None]
    exact = overall(facts, "test")
    stages = [stage for stage in TRAINED if exact.get(stage) and exact[stage].value is not None]
    chance = next(
        (level for split, family, level, _ in task_results(facts) if (split, family) == ("test", "all")), None
    )
    win = estimate(facts, RESULTS, "dpo.win_rate", "DPO win rate over SFT")
    gain = estimate(facts, RESULTS, "grpo.gain", "GRPO gain in mean reward")
    bits = estimate(facts, RESULTS, "bits_per_byte.models.pretrain", "Bits per byte (base)")
    documents = facts.number("corpus/funnel.json", "train.documents", "Train documents")
    tiles = [
        [short(facts.number("pretrain/model.json", "parameters", "Parameters")), "parameters", _shape(facts), ""],
        [size(facts.number("corpus/funnel.json", "train.bytes", "Train text")), "of clean text",
         f"in {count(documents)} documents" if documents else "", ""],
        [decimal(bits.value), "bits per byte, held out", ", ".join(rivals), _target_bits(facts)["verdict"]],
        [percent(exact[stages[-1]].value) if stages else ABSENT, "exact match, held out",
         "; ".join(filter(None, (f"base {percent(exact[stages[0]].value)}" if len(stages) > 1 else "",
                                 f"guessing {percent(chance)}" if chance is not None else ""))),
         _target_sft(facts)["verdict"]],
        [percent(win.value), "win rate of DPO over SFT", _interval_words(win, lambda b: decimal(100 * b, 1)),
         _target_win(facts)["verdict"]],
        [points(gain.value), "points of reward by GRPO", _interval_words(gain, lambda b: decimal(100 * b, 1)),
         _target_gain(facts)["verdict"]],
    ]  # fmt: skip
    return {
        "recipe": one_line(facts.text("recipe.toml", "description", "Description of the recipe") or "", 120),
        "tiles": tiles,
        "road": [
            [STAGES[stage].split(" (")[0], seconds(facts.number(f"{stage}/manifest.json", "seconds", "Duration"))]
            for stage in finished(facts)
        ],
        "total": seconds(total_seconds(facts)),
        "loss": draft.chart("cover", charts.cover(losses)) if len(losses) > 1 else None,
        "machine": _machine(facts),
        "exchange": _exchange(draft),
    }


def _exchange(draft: Draft) -> list[list[str]]:
    """How the first conversation begins, if it is short enough for the title page."""
    turns = [[message["role"], message["text"]] for talk in talk_texts(draft)[:1] for message in talk["messages"][:4]]
    return turns if all(len(text) <= 160 and text.count("\n") < 3 for _, text in turns) else []


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
                _precision(facts, manifest),
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
        "total": seconds(total_seconds(facts)),
    }


def _precision(facts: Facts, manifest: str) -> str:
    """What the stage computed in, or failing that what its settings asked for."""
    for place in ("environment", "config", "config.pretrain"):
        if "precision" in facts.names(manifest, place):
            return one_line(facts.text(manifest, f"{place}.precision", "Precision") or ABSENT, 20)
    return ABSENT


def _target(goal: str, measured: str, met: bool | None, note: str = "") -> Section:
    if met is None:
        return {"goal": goal, "measured": "not measured", "verdict": "open", "note": ""}
    return {"goal": goal, "measured": measured, "verdict": "met" if met else "missed", "note": note}


def _target_bits(facts: Facts) -> Section:
    goal = "Bits per byte of the base model below both baselines"
    bits = estimate(facts, RESULTS, "bits_per_byte.models.pretrain", "Bits per byte (base)")
    levels = [level for _, level in baselines(facts) if level is not None]
    if bits.value is None or len(levels) < 2:
        return _target(goal, "", None)
    best = min(levels)
    note = "the whole interval" if bits.high is not None and bits.high < best else "the interval reaches the baseline"
    met = bits.value < best
    return _target(
        goal, f"{bits.plain(3)} against {decimal(best, 3)}", met, note if met else f"by {decimal(bits.value - best, 3)}"
    )


def _target_chance(facts: Facts) -> Section:
    goal = "Final model above chance in every family of tasks"
    rows = [(family, chance, stages) for _, family, chance, stages in task_results(facts) if family != "all"]
    final = final_stage(facts)
    judged = [(family, chance, stages[final]) for family, chance, stages in rows if final and final in stages]
    judged = [row for row in judged if row[1] is not None and row[2].low is not None]
    if not judged:
        return _target(goal, "", None)
    low = [family for family, chance, result in judged if (result.low or 0) <= (chance or 0)]
    above = len(judged) - len(low)
    note = "not: " + one_line(listed(list(dict.fromkeys(low))), 60) if low else "each with its whole interval"
    return _target(goal, f"{above} of {len(judged)}", not low, note)


def _target_sft(facts: Facts) -> Section:
    goal = "Exact match on held-out problems far above the base model"
    exact = overall(facts, "test")
    final = final_stage(facts)
    if not final or final == "pretrain" or "pretrain" not in exact or final not in exact:
        return _target(goal, "", None)
    base, last = exact["pretrain"], exact[final]
    if base.value is None or last.value is None or base.high is None or last.low is None:
        return _target(goal, "", None)
    met = last.low > base.high
    return _target(
        goal, f"{last.share()} after {percent(base.value)}", met, "intervals apart" if met else "intervals overlap"
    )


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
    return one_line(" · ".join(part for part in parts if part), 140)


def _interval_words(result: Estimate, show: Callable[[float], str]) -> str:
    if result.low is None or result.high is None:
        return ""
    return f"95 % interval {show(result.low)} to {show(result.high)}"
