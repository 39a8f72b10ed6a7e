"""What a whole snapshot of Common Crawl would take: cores, hours, bytes and money, on paper.

``python -m benchmarks.estimate``. Every rate comes from the records of ``benchmarks.mixed`` (its web pages, through the
pipeline ``web``, in one process) and of ``benchmarks.corpus --parts scaling``; nothing is measured here.

A snapshot has more HTML around a text than our pages. So reading and extraction are charged by the byte of HTML, the
steps behind them by the byte of text that comes to them, and what the engine does between the steps (files, counting,
the signatures of MinHash) by the document. Each step is taken to keep the share that it kept of our pages.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._common import Recorded, main
from groundup.core.errors import UsageError
from groundup.core.files import read_json
from groundup.core.progress import say

#: Steps whose work is the page, not its text.
OF_HTML = ("read", "blocklist", "extract")
TEBIBYTE = 2**40


@dataclass(frozen=True)
class Snapshot(Recorded):
    """A snapshot, and what computing costs.

    By default CC-MAIN-2024-51, https://commoncrawl.org/blog/december-2024-crawl-archive-now-available; its compression
    that of February 2019 (59.86 of 225 TiB): https://commoncrawl.org/blog/february-2019-crawl-archive-now-available.
    """

    pages: float = 2.64e9
    """Pages in it."""
    tebibytes: float = 394.0
    """Of HTML, not compressed."""
    compression: float = 225 / 59.86
    """How often a WARC file is smaller than what it holds."""
    text_bytes: float = 3400.0
    """Of the main text of a page, on average."""
    cores: int = 1000
    """That work at the same time."""
    price: float = 0.04
    """Of one core for one hour, in any currency; about that of a rented general-purpose core, in dollars."""
    web: Path = Path("benchmarks/results/mixed.json")
    """Record of ``benchmarks.mixed``."""
    scaling: Path = Path("benchmarks/results/corpus-scaling.json")
    """Record of ``benchmarks.corpus --parts scaling``."""

    def __post_init__(self) -> None:
        for name in ("pages", "tebibytes", "compression", "text_bytes", "cores", "price"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be above 0")


def run(settings: Snapshot) -> dict[str, Any]:
    """The estimate, as a record and as a table.

    Raises:
        ArtifactError: a record is missing.
    """
    web, scaling = read_json(settings.web)["web"], read_json(settings.scaling)["scaling"]
    result = estimate(settings, web, max(scaling["sizes"], key=lambda row: row["documents"]))
    for row in result["steps"]:
        say(f"| {row['step']} | {row['documents'] / 1e9:.2f} | {row['terabytes']:.1f} | {row['core_hours']:,.0f} |")
    say(
        f"{result['core_hours']:,.0f} core-hours: {result['hours']:.0f} hours on {settings.cores:,} cores, "
        f"{result['price']:,.0f} at {settings.price} an hour; read {result['read_terabytes']:.0f} TB, scratch disk "
        f"{result['disk_terabytes']:.1f} TB, kept {result['kept_documents'] / 1e9:.2f} billion documents, "
        f"{result['kept_terabytes']:.2f} TB"
    )
    return {"estimate": result}


def estimate(settings: Snapshot, web: Mapping[str, Any], largest: Mapping[str, Any]) -> dict[str, Any]:
    """What the snapshot takes.

    Args:
        web: steps of our pages with documents and bytes, and their seconds of one core.
        largest: a run over short documents: its disk at most, beside its input.
    """
    steps, seconds = web["steps"], web["processor_seconds_of_steps"]
    ours = steps[0]["documents_in"]
    text = next(row["bytes_out"] for row in steps if row["step"] == "extract")
    html = settings.tebibytes * TEBIBYTE
    rows = []
    for step in steps:
        of_html = step["step"] in OF_HTML
        size = html if of_html else settings.pages * settings.text_bytes * step["bytes_in"] / text
        per_byte = seconds[step["step"]] / max(step["bytes_in"], 1)
        rows.append(_row(step["step"], settings.pages * step["documents_in"] / ours, size, per_byte * size))
    between = (web["processor_seconds"] - sum(seconds.values())) / ours
    rows.append(_row("between the steps", settings.pages, 0.0, between * settings.pages))
    last = steps[-1]
    core_hours = sum(row["core_hours"] for row in rows)
    disk_share = largest["disk_peak_bytes"] / largest["planted"]["bytes"]
    compared = next(row for row in steps if row["step"] == "exact duplicates")["bytes_in"] / text
    return {
        "steps": rows,
        "core_hours": core_hours,
        "hours": core_hours / settings.cores,
        "price": core_hours * settings.price,
        "read_terabytes": html / settings.compression / 1e12,
        "disk_terabytes": disk_share * settings.pages * settings.text_bytes * compared / 1e12,
        "kept_documents": settings.pages * last["documents_out"] / ours,
        "kept_terabytes": settings.pages * settings.text_bytes * last["bytes_out"] / text / 1e12,
        "core_seconds_per_page": core_hours * 3600 / settings.pages,
    }


def _row(step: str, documents: float, size: float, seconds: float) -> dict[str, Any]:
    return {"step": step, "documents": documents, "terabytes": size / 1e12, "core_hours": seconds / 3600}


if __name__ == "__main__":
    sys.exit(main(Snapshot, "estimate", run))
