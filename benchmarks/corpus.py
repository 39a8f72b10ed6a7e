"""The data engine's rates on one core, beside the libraries that most people would use; and how it grows.

``python -m benchmarks.corpus``. Parts:

- ``filters``: the quality filters of Gopher, C4 and FineWeb beside datatrove's; see ``_corpus_filters.py``. Needs
  ``datatrove`` and ``spacy``.
- ``minhash``: signatures of documents beside rensa's and datasketch's; see ``_corpus_minhash.py``.
- ``extraction``: the step ``extract`` beside the libraries behind it; see ``_corpus_extraction.py``. Needs apt.
- ``scaling``, only when it is asked for: time, memory and disk of a whole run over ten thousand to millions of
  documents; see ``_corpus_scaling.py``.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks import _corpus_extraction, _corpus_filters, _corpus_minhash, _corpus_scaling, _texts
from benchmarks._common import Rounds, main, require_positive, version_of
from groundup.core.errors import UsageError
from groundup.core.run import environment


@dataclass(frozen=True)
class Corpus(Rounds):
    """What is measured."""

    rounds: int = 3
    """Times that the sides take turns; one more, untimed, goes before."""
    parts: tuple[str, ...] = ("filters", "minhash")
    """Of filters, minhash, extraction and scaling."""
    documents: int = 3000
    """Of the part filters: pieces of each text, of about 3.4 kB."""
    slow_documents: int = 150
    """Of the part filters: so many of them for datatrove."""
    megabytes: int = 12
    """Of the part minhash: of text."""
    pages: int = 200
    """Of the part extraction: of each package of Debian."""
    sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    """Of the part scaling: numbers of documents, rising. Ten million need 40 GB of disk."""
    workers: int = 2
    """Of the part scaling: processes."""
    drawn: Path | None = None
    """Of the part scaling: file for a picture (SVG)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "documents", "slow_documents", "megabytes", "pages", "workers")
        if any(size < _corpus_scaling.PERIOD for size in self.sizes):
            raise UsageError(f"sizes has {min(self.sizes)}; each must be at least {_corpus_scaling.PERIOD}")
        if unknown := [part for part in self.parts if part not in PARTS]:
            raise UsageError(f"parts has {unknown[0]!r}; choose of {', '.join(PARTS)}")


def filters(settings: Corpus) -> dict[str, Any]:
    """See ``_corpus_filters``."""
    packages = {package: version_of(package) for package in ("datatrove", "spacy", "numpy", "numba")}
    return {
        "packages": packages,
        **_corpus_filters.measure(settings.documents, settings.slow_documents, settings.rounds),
    }


def minhash(settings: Corpus) -> dict[str, Any]:
    """See ``_corpus_minhash``."""
    packages = {package: version_of(package) for package in ("rensa", "datasketch", "numpy", "numba")}
    prose = list(_corpus_minhash.passages(_texts.named("prose", settings.megabytes * 1_000_000)))
    return {"packages": packages, **_corpus_minhash.measure({"prose": prose}, settings.rounds)}


def extraction(settings: Corpus) -> dict[str, Any]:
    """See ``_corpus_extraction``."""
    packages = {package: version_of(package) for package in ("resiliparse", "trafilatura")}
    return {"packages": packages, **_corpus_extraction.measure(settings.pages, settings.rounds)}


def scaling(settings: Corpus) -> dict[str, Any]:
    """See ``_corpus_scaling``."""
    return _corpus_scaling.measure(settings.sizes, settings.workers, settings.drawn)


PARTS: Mapping[str, Callable[[Corpus], dict[str, Any]]] = {
    "filters": filters,
    "minhash": minhash,
    "extraction": extraction,
    "scaling": scaling,
}


def run(settings: Corpus) -> dict[str, Any]:
    """Every part that was asked for."""
    before = {"load_average": psutil.getloadavg(), "environment": environment()}
    return {**before, **{part: PARTS[part](settings) for part in settings.parts}}


if __name__ == "__main__":
    sys.exit(main(Corpus, "corpus", run))
