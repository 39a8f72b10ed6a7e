"""The report of a corpus as one HTML file that opens offline, in light and dark, and needs no script.

What ``gather`` found enters; the page leaves. All text of the corpus is escaped: a crawled page cannot act here.
"""

import difflib
import html
import math
import re
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from groundup.core.files import write_text
from groundup.core.progress import quantity

Histogram = Sequence[Sequence[float]]

#: Size of a chart in its own units, and its bars.
WIDTH, HEIGHT, BASE, BARS = 320, 120, 102, 36
#: Rows of a chart of words.
MOST_ROWS = 10


def write_page(data: dict[str, Any], path: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    folder = resources.files("groundup.corpus.pipeline.report")
    parts = {
        "title": _safe(data["name"]),
        "style": (folder / "page.css").read_text(encoding="utf-8"),
        "body": "\n".join(_body(data)),
    }
    text = (folder / "page.html").read_text(encoding="utf-8")
    text = re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], text)
    write_text(path, text.encode("utf-8", "replace").decode())


def _body(data: dict[str, Any]) -> Iterator[str]:
    first, last = data["steps"][0], data["steps"][-1]
    share = last["bytes_out"] / first["bytes_in"] if first["bytes_in"] else 0.0
    test = f", {data['test']['documents']:,} to test" if "test" in data else ""
    yield f"<h1>{_safe(data['name'])}: corpus</h1>"
    yield (
        f'<p class="grey">{first["documents_in"]:,} documents, {_bytes(first["bytes_in"])} read; '
        f"{last['documents_out']:,} documents, {_bytes(last['bytes_out'])} kept ({share:.1%}): "
        f"{data['train']['documents']:,} to train on, {data['validation']['documents']:,} to validate{test}.</p>"
    )
    yield "<h2>From step to step</h2>"
    yield _funnel(data["steps"])
    yield "<h2>What the documents are like</h2>"
    yield '<p class="key"><i class="before"></i>as read<i class="after"></i>kept</p>'
    yield f'<div class="charts">{"".join(_charts(data))}</div>'
    yield "<h2>Step by step</h2>"
    for number, row in enumerate(data["steps"]):
        yield from _step(number, row)
    yield "<h2>Where the text came from</h2>"
    yield _sources(data["sources"])


def _funnel(steps: list[dict[str, Any]]) -> str:
    """A bar for each step: what left it, and what it removed."""
    most = max(1, *(row["bytes_in"] for row in steps))
    rows = []
    for number, row in enumerate(steps):
        kept, lost = (100 * max(0, size) / most for size in (row["bytes_out"], row["bytes_in"] - row["bytes_out"]))
        gone = row["documents_in"] - row["documents_out"]
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.1f}"
        rate = f"{row['bytes_in'] / 1e6 / row['seconds']:.1f}" if row["seconds"] else ""
        bar = f'<div class="bar"><i style="width:{kept:.2f}%"></i><i class="lost" style="width:{lost:.2f}%"></i></div>'
        numbers = (f"{row['documents_out']:,}", f"{gone:,}", f"{row['changed']:,}", _bytes(row["bytes_out"]))
        cells = "".join(f'<td class="number">{cell}</td>' for cell in (*numbers, seconds, rate))
        name = f'<a href="#step-{number}">{_safe(row["step"])}</a>'
        rows.append(f'<tr><td>{name}</td><td class="chart">{bar}</td>{cells}</tr>')
    names = ("documents", "dropped", "changed", "bytes", "seconds", "MB/s")
    head = "<th>step</th><th></th>" + "".join(f'<th class="number">{name}</th>' for name in names)
    key = '<p class="key"><i class="after"></i>bytes that go on<i class="lost"></i>bytes that the step removed</p>'
    return f'{key}<div class="wide"><table class="funnel"><tr>{head}</tr>{"".join(rows)}</table></div>'


def _charts(data: dict[str, Any]) -> Iterator[str]:
    read, kept = data["read"], data["kept"]
    yield _figure(
        "Length", "bytes of a document", histogram_chart(read["bytes"]["histogram"], kept["bytes"]["histogram"])
    )
    for name in kept["facts"]:
        found = [(row["step"], row["facts"][name]) for row in data["steps"] if name in row.get("facts", {})]
        step, before = found[-1] if found else ("", read["facts"].get(name, {}))
        after = kept["facts"][name]
        if before or after:
            told = f"documents kept, of those that {step} judged" if step else "documents kept, of those read"
            if name == "kind":  # what is extracted from a page or an article has none any more
                yield _figure("Kind", "documents read", words_chart(before))
            else:
                yield _figure(name.capitalize(), told, words_chart(before, after))
    for row in data["steps"]:
        for name, measure in row["measures"].items():
            after = kept["measures"].get(name, {}).get("histogram", [])
            mean = measure["sum"] / measure["count"] if measure["count"] else 0.0
            told = (
                f"{row['step']}: {measure['count']:,} documents, sum {quantity(measure['sum'])}, mean {quantity(mean)}"
            )
            yield _figure(name, told, histogram_chart(measure["histogram"], after))


def _figure(title: str, caption: str, chart: str) -> str:
    return f"<figure><figcaption><h4>{_safe(title)}</h4>{_safe(caption)}</figcaption>{chart}</figure>"


def histogram_chart(before: Histogram, after: Histogram) -> str:
    """Two histograms over one axis, which is logarithmic where the values span more than two decades."""
    values = [value for value, _ in (*before, *after)]
    if not values:
        return ""
    least, most = min(values), max(values)
    logarithmic = least > 0 and most / least > 100

    def place(value: float) -> float:
        low, high, here = (math.log(v) if logarithmic else v for v in (least, most, value))
        return (here - low) / (high - low) if high > low else 0.5

    series = []
    for histogram in (before, after):
        bars = [0.0] * BARS
        for value, count in histogram:
            bars[min(BARS - 1, int(place(value) * BARS))] += count
        series.append(bars)
    top = max(map(max, series)) or 1
    step = WIDTH / BARS
    drawn = [
        f'<rect class="{kind}" x="{number * step + 0.5:.1f}" y="{BASE - height:.1f}" width="{step - 1:.1f}" '
        f'height="{height:.1f}"><title>{count:,.0f}</title></rect>'
        for kind, bars in zip(("before", "after"), series, strict=True)
        for number, count in enumerate(bars)
        if (height := 96 * count / top) > 0
    ]
    middle = math.sqrt(least * most) if logarithmic else (least + most) / 2
    ticks = [(0, "start", least), (WIDTH / 2, "middle", middle), (WIDTH, "end", most)]
    labels = [f'<text x="{x}" y="{HEIGHT - 4}" text-anchor="{anchor}">{quantity(v)}</text>' for x, anchor, v in ticks]
    axis = f'<line class="axis" x1="0" x2="{WIDTH}" y1="{BASE}" y2="{BASE}"/>'
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(drawn)}{axis}{"".join(labels)}</svg>'


def words_chart(before: dict[str, int], after: dict[str, int] | None = None) -> str:
    """How often each value occurs, the most frequent first; and how often afterwards, if that is told."""
    compared, after = after is not None, after or {}
    total = {name: max(before.get(name, 0), after.get(name, 0)) for name in {*before, *after}}
    names = sorted(total, key=lambda name: (-total[name], name))[:MOST_ROWS]
    most, line = max(total.values()) or 1, 17
    drawn = []
    for number, name in enumerate(names):
        y, shown = number * line, name if len(name) <= 14 else name[:13] + "…"
        told = (f"{quantity(after.get(name, 0))} of " if compared else "") + quantity(total[name])
        drawn.append(f'<text x="0" y="{y + 12}">{_safe(shown)}</text>')
        for kind, counts, top, height in (("before", before, 2, 12), ("after", after, 5, 6)):
            width = (WIDTH - 180) * counts.get(name, 0) / most
            drawn.append(f'<rect class="{kind}" x="85" y="{y + top}" width="{width:.1f}" height="{height}"/>')
        drawn.append(f'<text x="{WIDTH}" y="{y + 12}" text-anchor="end">{told}</text>')
    return f'<svg viewBox="0 0 {WIDTH} {line * len(names)}" role="img">{"".join(drawn)}</svg>'


def _step(number: int, row: dict[str, Any]) -> Iterator[str]:
    """What a step dropped and changed, with examples."""
    yield f'<h3 id="step-{number}">{_safe(row["step"])}</h3>'
    if not row["removed"] and not row["rewritten"]:
        yield '<p class="grey">Every document went on as it was.</p>'
    for removed in sorted(row["removed"], key=lambda removed: -removed["documents"]):
        examples = row["dropped"].get(removed["reason"], [])
        if not removed["documents"]:
            told = f"{_bytes(removed['bytes'])} of documents that went on"
        else:
            told = f"{removed['documents']:,} documents, {_bytes(removed['bytes'])}"
        if examples:
            shown = "".join(map(_dropped, examples))
            yield f"<details><summary><b>{_safe(removed['reason'])}</b>: {told}</summary>{shown}</details>"
        else:
            yield f'<p class="grey">{_safe(removed["reason"])}: {told}</p>'
    if row["rewritten"]:
        shown = "".join(map(_rewritten, row["rewritten"]))
        yield f"<details><summary><b>changed</b>: {row['changed']:,} documents</summary>{shown}</details>"


def _who(example: dict[str, str]) -> str:
    title = "" if example["title"] == example["id"] else f" {_safe(example['title'])}"
    return f'<b>{_safe(example["id"])}</b><span class="grey">{title}</span>'


def _dropped(example: dict[str, str]) -> str:
    text = f'<div class="text">{_safe(example["text"])}</div>' if example["text"] else ""
    return f'<div class="example"><p class="who">{_who(example)}: {_safe(example["detail"])}</p>{text}</div>'


def _rewritten(example: dict[str, str]) -> str:
    before, after = marked(example["before"], example["after"])
    texts = f'<div class="text">{before}</div><div class="text">{after}</div>'
    return f'<div class="example"><p class="who">{_who(example)}</p><div class="two">{texts}</div></div>'


def marked(before: str, after: str) -> tuple[str, str]:
    """Two texts as HTML, with what went and what came marked, word by word."""
    old, new = (re.findall(r"\s+|\w+|[^\w\s]", text) for text in (before, after))
    sides: tuple[list[str], list[str]] = ([], [])
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        for side, words, mark in ((sides[0], old[i1:i2], "del"), (sides[1], new[j1:j2], "ins")):
            text = _safe("".join(words))
            if text:
                side.append(text if tag == "equal" else f"<{mark}>{text}</{mark}>")
    return "".join(sides[0]), "".join(sides[1])


def _sources(rows: list[dict[str, Any]]) -> str:
    cells = [
        "".join(f"<td>{_safe(str(row.get(key, '')))}</td>" for key in ("name", "package", "version", "licence"))
        + f'<td class="number">{row["files"]:,}</td><td class="number">{_bytes(row["bytes"])}</td>'
        for row in rows
    ]
    head = "".join(f"<th>{name}</th>" for name in ("name", "package", "version", "licence", "documents", "bytes"))
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(f"<tr>{row}</tr>" for row in cells)}</table></div>'


def _bytes(size: float) -> str:
    text = quantity(size)
    return f"{text} B" if text[-1].isdigit() else f"{text[:-1]} {text[-1]}B"


def _safe(text: str) -> str:
    """Text of the corpus as HTML: escaped, and control characters as their pictures."""
    pictured = "".join(chr(0x2400 + ord(sign)) if ord(sign) < 32 and sign not in "\n\t" else sign for sign in text)
    return html.escape(pictured, quote=True)
