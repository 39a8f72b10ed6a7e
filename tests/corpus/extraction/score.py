"""How well each backend finds the main content of the labelled pages, and how fast.

``python -m tests.corpus.extraction.score`` writes the tables of ``docs/extraction.md``; ``--pages BACKEND`` prints the
score of every page instead.
"""

import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import get_args

from groundup.corpus.extraction.html import Backend, main_content

PAGES = Path(__file__).parent / "pages"
DOCS = Path(__file__).parents[3] / "docs" / "extraction.md"
BEGINS, ENDS = "<!-- measured: begin -->", "<!-- measured: end -->"
#: A word, or one character of a script without spaces between words.
TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


@dataclass(frozen=True)
class Score:
    """How many tokens an extractor gave, how many there are, and how many of them it found."""

    given: int
    wanted: int
    shared: int

    def __add__(self, other: "Score") -> "Score":
        return Score(self.given + other.given, self.wanted + other.wanted, self.shared + other.shared)

    @property
    def precision(self) -> float:
        return self.shared / self.given if self.given else 1.0

    @property
    def recall(self) -> float:
        return self.shared / self.wanted if self.wanted else 1.0

    @property
    def f1(self) -> float:
        return 2 * self.shared / (self.given + self.wanted) if self.given + self.wanted else 1.0


def score(text: str, expected: str) -> Score:
    """Compare two texts as bags of tokens."""
    given, wanted = Counter(TOKEN.findall(text.lower())), Counter(TOKEN.findall(expected.lower()))
    return Score(given.total(), wanted.total(), (given & wanted).total())


def labelled_pages() -> Iterator[tuple[str, str, str]]:
    """Name, HTML and expected text of every page."""
    for page in sorted(PAGES.glob("*.html")):
        yield page.stem, page.read_text(encoding="utf-8"), page.with_suffix(".txt").read_text(encoding="utf-8")


def scores(extract: Callable[[str], str]) -> dict[str, Score]:
    return {name: score(extract(page), expected) for name, page, expected in labelled_pages()}


def mean(values: dict[str, Score], measure: str) -> float:
    """Mean over pages, each counting alike."""
    return sum(getattr(value, measure) for value in values.values()) / len(values)


def seconds(extract: Callable[[str], str], pages: list[str]) -> float:
    """Processor time for all pages, the best of five rounds."""
    rounds = []
    for _ in range(5):
        start = time.process_time()
        for page in pages:
            extract(page)
        rounds.append(time.process_time() - start)
    return min(rounds)


def tables() -> str:
    """Markdown: a row for every backend, then a row for every page."""
    measured = {
        backend: scores(lambda page, backend=backend: main_content(page, backend)) for backend in get_args(Backend)
    }
    pages = [page for _, page, _ in labelled_pages()]
    megabytes = sum(map(len, pages)) / 1e6
    lines = [
        "| Backend | Precision | Recall | F1 | Worst page | Pages/s | MB/s |",
        "|---|---:|---:|---:|---|---:|---:|",
    ]
    for backend, values in measured.items():
        worst = min(values, key=lambda name: values[name].f1)
        took = seconds(lambda page, backend=backend: main_content(page, backend), pages)
        figures = " | ".join(f"{mean(values, measure):.3f}" for measure in ("precision", "recall", "f1"))
        lines.append(
            f"| {backend} {version(backend)} | {figures} | {worst} ({values[worst].f1:.2f}) "
            f"| {len(pages) / took:.0f} | {megabytes / took:.1f} |"
        )
    lines += ["", f"| F1 of the page | {' | '.join(measured)} |", f"|---|{'---:|' * len(measured)}"]
    for name in next(iter(measured.values())):
        lines.append(f"| {name} | {' | '.join(f'{values[name].f1:.2f}' for values in measured.values())} |")
    return "\n".join(lines)


def main() -> None:
    if "--pages" in sys.argv:
        backend = sys.argv[sys.argv.index("--pages") + 1]
        for name, value in scores(lambda page: main_content(page, backend)).items():
            print(f"{name:20} precision {value.precision:.2f}  recall {value.recall:.2f}  F1 {value.f1:.2f}")
        return
    text = DOCS.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGINS)
    _, _, after = rest.partition(ENDS)
    DOCS.write_text(f"{before}{BEGINS}\n\n{tables()}\n\n{ENDS}{after}", encoding="utf-8")
    print(f"wrote {DOCS}")


if __name__ == "__main__":
    main()
