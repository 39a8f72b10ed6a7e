"""The report of a corpus as tables for the terminal."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from groundup.core.progress import quantity

#: Languages, kinds and licences that are named; examples of each reason that are shown, and characters of each.
NAMED, EXAMPLES, WIDTH = 8, 1, 160


def report(data: dict[str, Any]) -> RenderableType:
    """Funnel, reasons with an example each, measures, and what the documents are like."""
    return Group(*_parts(data))


def _parts(data: dict[str, Any]) -> Iterator[RenderableType]:
    yield funnel(data)
    reasons = _reasons(data)
    if reasons.row_count:
        yield Text("\nwhat was dropped, and one example of each", style="bold")
        yield reasons
    measures = _measures(data)
    if measures.row_count:
        yield Text("\nwhat was measured", style="bold")
        yield measures
    yield Text("")
    for name, counts in data["kept"]["facts"].items():
        if line := _values(counts, data["kept"]["bytes"]["count"]):
            yield Text(f"{name}s kept: {line}")
    for side in filter(data.__contains__, ("train", "validation", "test")):
        yield Text(f"{side}: {data[side]['documents']:,} documents, {quantity(data[side]['bytes'])}B")


def funnel(data: dict[str, Any]) -> Table:
    """A row for each step."""
    table = Table("step", title=data["name"], title_justify="left", box=None)
    for name in ("documents", "dropped", "changed", "bytes", "of input", "seconds", "MB/s"):
        table.add_column(name, justify="right")
    total = data["steps"][0]["bytes_in"]
    for row in data["steps"]:
        seconds = row["seconds"]
        speed = f"{row['bytes_in'] / 1e6 / seconds:.1f}" if seconds else ""
        table.add_row(
            row["step"],
            f"{row['documents_out']:,}",
            f"{row['documents_in'] - row['documents_out']:,}",
            f"{row['changed']:,}",
            f"{quantity(row['bytes_out'])}B",
            f"{row['bytes_out'] / total:.1%}" if total else "",
            "" if seconds is None else f"{seconds:.1f}",
            speed,
        )
    return table


def _reasons(data: dict[str, Any]) -> Table:
    table = Table("step", "reason", box=None)
    table.add_column("documents", justify="right")
    table.add_column("bytes", justify="right")
    table.add_column("example")
    for row in data["steps"]:
        for removed in sorted(row["removed"], key=lambda removed: -removed["documents"]):
            examples = row["dropped"].get(removed["reason"], [])[:EXAMPLES]
            told = "; ".join(f"{example['id']}: {example['detail']}" for example in examples)
            counts = (f"{removed['documents']:,}", f"{quantity(removed['bytes'])}B")
            table.add_row(row["step"], removed["reason"], *counts, Text(told[:WIDTH]))
    return table


def _measures(data: dict[str, Any]) -> Table:
    table = Table("step", "measure", box=None)
    for name in ("documents", "sum", "mean", "median"):
        table.add_column(name, justify="right")
    for row in data["steps"]:
        for name, measure in row["measures"].items():
            mean = measure["sum"] / measure["count"] if measure["count"] else 0.0
            values = (measure["sum"], mean, quantile(measure["histogram"], 0.5))
            table.add_row(row["step"], name, f"{measure['count']:,}", *map(quantity, values))
    return table


def quantile(histogram: list[list[float]], share: float) -> float:
    """The value below which ``share`` of a histogram lies; 0 for an empty one."""
    wanted = share * sum(count for _, count in histogram)
    for value, count in histogram:
        wanted -= count
        if wanted <= 0:
            return value
    return 0.0


def _values(counts: dict[str, int], total: int) -> str:
    """The most frequent values and their shares."""
    frequent = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{name} {count / total:.1%}" for name, count in frequent[:NAMED]]
    more = len(frequent) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def console() -> Console:
    """Of stdout; what reads it without a terminal has room for a table."""
    made = Console(highlight=False)
    if not made.is_terminal:
        made.width = max(made.width, 160)
    return made
