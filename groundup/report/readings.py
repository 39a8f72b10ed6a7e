"""What several sections read alike: the stages of a run, estimates, baselines, tasks, conversations.

Enters: ``Facts``. Leaves: small values and words. ``Draft`` is what the sections pass around: where they read and where
they put their charts.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from groundup.report import charts
from groundup.report.charts import Dot
from groundup.report.facts import Facts
from groundup.report.wording import (
    ABSENT,
    count,
    decimal,
    one_line,
    percent,
    points,
    shorten,
)

RESULTS = "evaluate/results.json"


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


def task_results(facts: Facts) -> list[tuple[str, str, float | None, dict[str, Estimate]]]:
    """(split, family, chance, stage → share of exact answers) in the file's order."""
    rows = []
    for index in range(facts.length(RESULTS, "tasks")):
        key = f"tasks.{index}"
        family = facts.text(RESULTS, f"{key}.family", "Family of tasks") or ABSENT
        split = facts.text(RESULTS, f"{key}.split", "Split of tasks") or ABSENT
        chance = facts.number(RESULTS, f"{key}.chance", "Chance level")
        present = facts.names(RESULTS, f"{key}.stages")
        results = {
            stage: estimate(facts, RESULTS, f"{key}.stages.{stage}", "Exact match")
            for stage in TRAINED
            if stage in present
        }
        rows.append((split, family, chance, results))
    return rows


def overall(facts: Facts, split: str) -> dict[str, Estimate]:
    """Stage → share of exact answers over all families of a split."""
    return next((results for its, family, _, results in task_results(facts) if (its, family) == (split, "all")), {})


def final_stage(facts: Facts) -> str | None:
    """The last stage that was evaluated on tasks."""
    seen = {
        stage for *_, results in task_results(facts) for stage, result in results.items() if result.value is not None
    }
    return next((stage for stage in reversed(TRAINED) if stage in seen), None)


def baselines(facts: Facts) -> list[tuple[str, float | None]]:
    order = facts.number(RESULTS, "bits_per_byte.baselines.kneser_ney.order", "Order of the Kneser–Ney model")
    grams = f"Kneser–Ney {count(order)}-gram" if order else "Kneser–Ney"
    return [
        ("xz", facts.number(RESULTS, "bits_per_byte.baselines.xz.value", "Bits per byte (xz)")),
        (grams, facts.number(RESULTS, "bits_per_byte.baselines.kneser_ney.value", "Bits per byte (Kneser–Ney)")),
    ]


def total_seconds(facts: Facts) -> float | None:
    durations = [facts.number(f"{stage}/manifest.json", "seconds", "Duration") for stage in finished(facts)]
    return sum(duration for duration in durations if duration is not None) if durations else None


def dot(stage: str, result: Estimate) -> Dot:
    return Dot(
        MODEL_NAMES[stage],
        result.value or 0.0,
        result.low,
        result.high,
        charts.STAGE_COLOURS[stage],
        charts.STAGE_MARKERS[stage],
    )


def visible(piece: str) -> str:
    """A token with its spaces and line ends drawn; of nothing but white space, long runs are counted (``␣×24``)."""
    drawn = piece.replace(" ", "␣").replace("\n", "↵") or "∅"
    if not piece.strip():
        drawn = re.sub(r"(.)\1{3,}", lambda run: f"{run[1]}×{len(run[0])}", drawn)
    return shorten(drawn, 40)


def humanised(name: str) -> str:
    """``memory_bytes`` → ``Memory bytes``."""
    return shorten(name.replace("_", " ").capitalize(), 48)


def talk_texts(draft: Draft) -> list[Section]:
    """Up to four conversations, with up to ten messages each."""
    facts, file = draft.facts, "evaluate/conversations.json"
    talks = []
    for index in range(min(facts.length(file), 4)):
        messages = [
            {
                "role": facts.text(file, f"{index}.messages.{turn}.role", "Role of a message") or "",
                "text": shorten(
                    facts.text(file, f"{index}.messages.{turn}.content", "Message") or "", draft.characters, lines=12
                ),
            }
            for turn in range(min(facts.length(file, f"{index}.messages"), 10))
        ]
        title = one_line(facts.text(file, f"{index}.title", "Title of a conversation") or "", 80)
        talks.append({"title": title, "messages": messages})
    return talks
