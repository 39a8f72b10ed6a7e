"""A run directory in, one PDF out.

Enters: the files of a run. Leaves: ``report.pdf``, ``charts/*.svg`` and ``numbers.json``. The same run gives the
same bytes: the date is the run's, the fonts are those inside Typst and matplotlib, and foreign text reaches the
templates as data, never as source.
"""

import json
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import typst

from groundup.core.errors import ArtifactError, UsageError
from groundup.core.files import remove_leftovers, write_bytes, write_json, write_text
from groundup.core.progress import track
from groundup.report import appendix, charts, front, judging, learning, making
from groundup.report.config import ReportConfig
from groundup.report.facts import Facts
from groundup.report.readings import TRAINED, Draft, Section, started
from groundup.report.wording import clean, one_line

#: The template that includes the others.
ENTRY = "report.typ"
#: The sections in the order of the report; the last prints the ledger that the others filled.
SECTIONS: dict[str, Callable[[Draft], Section]] = {
    "cover": front.cover,
    "brief": front.brief,
    "corpus": making.corpus,
    "tokenizer": making.tokenizer,
    "model": making.model,
    **{stage: partial(learning.training, stage=stage) for stage in TRAINED},
    "evaluation": judging.evaluation,
    "conversations": judging.conversations,
    "recipe": appendix.recipe,
    "numbers": appendix.sources_of_numbers,
}


def build(config: ReportConfig, run: Path, out: Path) -> dict[str, float]:
    """Write the report of ``run`` into the folder ``out``.

    Returns:
        ``pages`` of the PDF and ``numbers`` noted in its ledger.

    Raises:
        UsageError: ``run`` is not a folder.
        ArtifactError: a file of the run is damaged.
    """
    if not run.is_dir():
        raise UsageError(f"{run} is not a folder; give the directory of a run")
    facts = Facts(run)
    content, drawings = compose(config, facts)
    pdf, pages = typeset(content, drawings)
    remove_leftovers(out)
    for stale in sorted((out / "charts").glob("*.svg")):
        if stale.name not in drawings:
            stale.unlink()
    for name, svg in sorted(drawings.items()):
        write_text(out / "charts" / name, svg)
    write_json(out / "numbers.json", facts.rows())
    write_bytes(out / "report.pdf", pdf)
    return {"pages": pages, "numbers": sum(not isinstance(entry.value, str) for entry in facts.entries)}


def compose(config: ReportConfig, facts: Facts) -> tuple[dict[str, Any], dict[str, str]]:
    """All that the templates need, and the charts as SVG by file name."""
    draft = Draft(facts, config.quoted_characters)
    date = started(facts)
    content: dict[str, Any] = {
        "title": one_line(clean(config.title), 80),
        "paper": config.paper,
        "date": date and [date.year, date.month, date.day, date.hour, date.minute, date.second],
        "colours": {"ink": charts.INK, "grey": charts.GREY, "faint": charts.FAINT, "accent": charts.ACCENT},
    }
    for name, section in track(SECTIONS.items(), "report", len(SECTIONS), "section"):
        content[name] = section(draft)
    return content, draft.charts


def typeset(content: dict[str, Any], drawings: dict[str, str]) -> tuple[bytes, int]:
    """The PDF and its number of pages."""
    with tempfile.TemporaryDirectory(prefix="groundup-report-") as folder:
        place(content, drawings, Path(folder))
        compiler = typst.Compiler(str(Path(folder) / ENTRY), root=folder, ignore_system_fonts=True)
        pages = json.loads(compiler.query("<pages>", field="value", one=True))
        pdf = compiler.compile(format="pdf")
    if not isinstance(pdf, bytes):
        raise ArtifactError("Typst made no PDF; check the installed version of the package typst")
    return pdf, int(pages)


def place(content: dict[str, Any], drawings: dict[str, str], folder: Path) -> None:
    """Lay templates, data and charts out as Typst reads them."""
    for template in files("groundup.report").iterdir():
        if template.name.endswith(".typ"):
            write_text(folder / template.name, template.read_text(encoding="utf-8"))
    for name, svg in drawings.items():
        write_text(folder / "charts" / name, svg)
    write_json(folder / "data.json", content)
