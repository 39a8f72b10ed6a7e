"""What the model can do: every measure before and after every stage, and what it says.

Enters: a ``Draft``. Leaves: JSON objects for ``judging.typ``, with words that fit whatever was measured.
"""

from collections.abc import Callable
from itertools import groupby
from operator import itemgetter

from groundup.report import charts
from groundup.report.facts import Facts
from groundup.report.readings import (
    MODEL_NAMES,
    RESULTS,
    TRAINED,
    Draft,
    Estimate,
    Section,
    baselines,
    dot,
    estimate,
    final_stage,
    overall,
    talk_texts,
    task_results,
    visible,
)
from groundup.report.wording import (
    ABSENT,
    count,
    decimal,
    listed,
    one_line,
    percent,
    shorten,
    size,
)

SPLITS = {"test": "Held-out problems", "test-wordings": "Held-out wordings"}


def evaluation(draft: Draft) -> Section:
    """Every measure before and after every stage."""
    facts = draft.facts
    if not facts.has(RESULTS):
        return {"missing": RESULTS}
    return {
        "bits": _bits(draft),
        "exact": _exact(draft),
        "contamination": _contamination(facts),
        "stops": _stops(facts),
        "win": _win(facts),
        "gain": _gain(facts),
        "memory": _memorisation(draft),
    }


def _bits(draft: Draft) -> Section:
    facts = draft.facts
    levels = [(name, level) for name, level in baselines(facts) if level is not None]
    models = {
        stage: estimate(
            facts, RESULTS, f"bits_per_byte.models.{stage}", f"Bits per byte ({MODEL_NAMES[stage].lower()})"
        )
        for stage in TRAINED
        if stage in facts.names(RESULTS, "bits_per_byte.models")
    }
    models = {stage: result for stage, result in models.items() if result.value is not None}
    if not models:
        return {"missing": f"{RESULTS}, bits_per_byte"}
    dots = [dot(stage, result) for stage, result in models.items()]
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
        "test": _test_bits(facts, first),
    }


def _test_bits(facts: Facts, stage: str) -> str:
    """The same question, asked of the test text, where the run has one."""
    key = "bits_per_byte.test"
    if not facts.names(RESULTS, key):
        return ""
    result = estimate(facts, RESULTS, f"{key}.models.{stage}", f"Bits per byte of the test text ({MODEL_NAMES[stage]})")
    text = size(facts.number(RESULTS, f"{key}.test_bytes", "Test text measured"))
    rivals = []
    for name, title in (("xz", "xz"), ("kneser_ney", "Kneser–Ney")):
        level = facts.number(RESULTS, f"{key}.baselines.{name}.value", f"Bits per byte of the test text ({title})")
        rivals.append(f"{decimal(level, 3)} ({title})")
    return (
        f"On the test text ({text}), by which nothing was chosen, the {MODEL_NAMES[stage].lower()} model "
        f"needs {result.plain(3)}, beside {listed(rivals)}."
    )


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
    change = decimal(abs(after - before), 3)
    return f"From base to {MODEL_NAMES[last]} post-training {way} {change} bits per byte of plain text."


def _exact(draft: Draft) -> Section:
    facts = draft.facts
    tasks = task_results(facts)
    if not tasks:
        return {"missing": f"{RESULTS}, tasks"}
    stages = [stage for stage in TRAINED if any(stage in results for *_, results in tasks)]
    groups, tables, sizes = [], [], set()
    for split in dict.fromkeys(split for split, *_ in tasks):
        title = SPLITS.get(split, one_line(split, 30))
        rows = [(family, chance, results) for its, family, chance, results in tasks if its == split]
        dots = [
            (one_line("all families" if family == "all" else family, 18), chance,
             [dot(stage, result) for stage, result in results.items() if result.value is not None])
            for family, chance, results in rows
        ]  # fmt: skip
        groups.append((title, dots))
        table = []
        for family, chance, results in rows:
            counts = list(dict.fromkeys(count(result.n) for result in results.values() if result.n is not None))
            sizes.update(counts)
            cells = [results[stage].cell() if stage in results else [ABSENT, ""] for stage in stages]
            shown = "all families" if family == "all" else family
            table.append({"family": one_line(shown, 24), "all": family == "all", "cells": cells,
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
        exact = {stage: result for stage, result in overall(facts, split).items() if result.value is not None}
        if len(exact) > 1:
            (_, before), *_, (last, after) = exact.items()
            way = "rises" if (after.value or 0) > (before.value or 0) else "does not rise: it goes"
            parts.append(
                f"On {title.lower()} the share of exact answers {way} from {percent(before.value)} (base) "
                f"to {percent(after.value)} ({MODEL_NAMES[last]})."
            )
    return " ".join(parts)


#: Words for the two parts of a score.
PARTS = {"clean": "nothing shared", "contaminated": "shared"}


def _contamination(facts: Facts) -> Section:
    """What of the examination stood in the train documents, and the scores of both parts; empty if not searched for."""
    if not facts.names(RESULTS, "contamination"):
        return {}
    documents, problems, contaminated = (
        facts.number(RESULTS, f"contamination.{key}", f"Contamination: {key.replace('_', ' ')}")
        for key in ("train_documents", "problems", "contaminated_problems")
    )
    sentences = [
        f"Of the contents of {count(problems)} problems, {count(contaminated)} stood in one of {count(documents)} "
        "train documents."
    ]
    rows = []
    for index in range(facts.length(RESULTS, "tasks")):
        if not any(facts.names(RESULTS, f"tasks.{index}.{part}") for part in PARTS):
            continue
        family, split = (
            facts.text(RESULTS, f"tasks.{index}.{key}", "Contamination: row") for key in ("family", "split")
        )
        name = f"{family or ABSENT}, {SPLITS.get(split or '', split or ABSENT).lower()}"
        rows += _part_rows(facts, f"tasks.{index}", name, Estimate.cell)
    for side in ("validation", "test"):
        key = "bits_per_byte" if side == "validation" else f"bits_per_byte.{side}"
        if facts.names(RESULTS, f"{key}.contamination"):
            sentences.append(_shared_documents(facts, f"{key}.contamination", side))
            rows += _part_rows(facts, f"{key}.contamination", f"bits per byte, {side}", _bits_cell)
    for index in range(facts.length(RESULTS, "contamination.marked")):
        key = f"contamination.marked.{index}"
        name = one_line(facts.text(RESULTS, f"{key}.benchmark", "Marked benchmark") or ABSENT, 40)
        items, marked = (facts.number(RESULTS, f"{key}.{part}", f"Marked {part}") for part in ("items", "documents"))
        sentences.append(f"Of {name}, {count(items)} items stand in train documents, {count(marked)} times in all.")
    return {"sentence": " ".join(sentences), "rows": rows, "stages": [MODEL_NAMES[stage] for stage in TRAINED]}


def _shared_documents(facts: Facts, key: str, side: str) -> str:
    documents, contaminated, runs, shared = (
        facts.number(RESULTS, f"{key}.{part}", f"Contamination: {part.replace('_', ' ')}") or 0.0
        for part in ("documents", "contaminated_documents", "runs", "contaminated_runs")
    )
    return (
        f"Of {count(documents)} {side} documents {count(contaminated)} share a run of 13 words with one of them "
        f"({percent(shared / max(runs, 1), 2)} of all runs)."
    )


def _bits_cell(result: Estimate) -> list[str]:
    """Bits per byte and their bounds for a table."""
    return [decimal(result.value, 3), result.plain(3).partition(" ")[2]]


def _part_rows(facts: Facts, key: str, name: str, cell: Callable[[Estimate], list[str]]) -> list[Section]:
    """A row for each part of a score, if it has parts."""
    rows = []
    for part, words in PARTS.items():
        if facts.names(RESULTS, f"{key}.{part}"):
            results = [
                estimate(facts, RESULTS, f"{key}.{part}.{stage}", f"Contamination: {words}") for stage in TRAINED
            ]
            cells = [cell(result) for result in results]
            rows.append({"name": one_line(name, 44), "part": words, "cells": cells, "n": count(results[0].n)})
    return rows


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
    wins, ties, losses = (
        facts.number(RESULTS, f"dpo.win_rate.{name}", "DPO: wins, ties and losses")
        for name in ("wins", "ties", "losses")
    )
    bars = [["wins", wins], ["ties", ties], ["losses", losses]]
    return {
        "share": win.share(),
        "n": count(win.n),
        "sentence": _excludes(win, 0.5, "one half", "the preference for DPO is real", "DPO is worse than SFT"),
        "ties": _ties(win.value, wins, ties, losses),
        "bars": bars if wins or ties or losses else [],
    }


def _ties(rate: float, wins: float | None, ties: float | None, losses: float | None) -> str:
    """How ties were counted, told from the numbers themselves."""
    if wins is None or not ties or losses is None:
        return ""
    if abs((wins + ties / 2) / (wins + ties + losses) - rate) < 0.002:
        return "A tie counts as half a win."
    if wins + losses and abs(wins / (wins + losses) - rate) < 0.002:
        return "Ties are left out of the rate."
    return ""


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
    values = {
        key: facts.number(RESULTS, f"memorisation.{key}", f"Memorisation: {key.replace('_', ' ')}") for key in names
    }
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
    longest = facts.text(RESULTS, "memorisation.longest_text", "Memorisation: the longest copied run") or ""
    return {
        "rows": [[name, count(values[key])] for key, name in names.items()],
        "sentence": sentence,
        "longest": shorten(longest, draft.characters // 2) if longest.strip() or not longest else visible(longest),
    }


def conversations(draft: Draft) -> Section:
    """Talks with the final model, and sampled answers stage by stage."""
    talks, answers = talk_texts(draft), _answers(draft)
    if not talks and not answers:
        return {"missing": "evaluate/conversations.json"}
    return {"talks": talks, "answers": answers, "final": MODEL_NAMES.get(final_stage(draft.facts) or "", "last")}


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
        problem["answers"][stage] = [one_line(answer, 34) or ABSENT, correct == "true"]
    families: dict[str, Section] = {}
    for problem in problems.values():
        best = families.get(problem["family"])
        if best is None or len(problem["answers"]) > len(best["answers"]):
            families[problem["family"]] = problem
    stages = [stage for stage in TRAINED if any(stage in problem["answers"] for problem in families.values())]
    return [
        {
            "family": one_line(problem["family"], 20),
            "prompt": shorten(problem["prompt"], 160, lines=4),
            "reference": shorten(problem["reference"], 60, lines=2),
            "answers": _by_answer(
                [(stage, *problem["answers"][stage]) for stage in stages if stage in problem["answers"]]
            ),
        }
        for problem in list(families.values())[:9]
    ]


def _by_answer(answers: list[tuple[str, str, bool]]) -> list[list[str | bool]]:
    """[stages, answer, correct], successive stages that say the same in one line."""
    lines = []
    for (answer, correct), group in groupby(answers, key=itemgetter(1, 2)):
        names = [MODEL_NAMES[stage] for stage, *_ in group]
        lines.append(["–".join(dict.fromkeys((names[0], names[-1]))), answer, correct])
    return lines
