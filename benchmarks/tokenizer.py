"""Encoding and training: our tokenizer beside tiktoken, ``tokenizers``, gigatoken, fastokens and rustbpe.

``python -m benchmarks.tokenizer``. Every single measurement runs in a fresh process, which imports one library: no
side finds what another left in a cache, and the peak of its memory is its own. The sides take turns, A B A B, in
every round. All ids are compared before anything is timed. Rates are in MB (10⁶ bytes) of UTF-8.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

import psutil

from benchmarks import OURS, _texts
from benchmarks._common import Rounds, main, ratio, require_positive, version_of
from benchmarks._sides import ENCODERS, TRAINERS, SideFailed, call, can_pin, write_texts
from benchmarks._vocabularies import prepare
from groundup.core.errors import DataError, GroundupError, UsageError
from groundup.core.files import cache_folder
from groundup.core.progress import Progress, say
from groundup.core.run import environment
from groundup.tokenizer.opening import open_tokenizer

Part = Literal["encoding", "training", "pathological", "start"]
Peer = Literal["tiktoken", "tokenizers", "gigatoken", "fastokens", "rustbpe"]
Text = Literal["prose", "code", "mixed"]
Name = Literal["cl100k", "o200k", "gpt2", "r50k"]

#: What the trainers learn from: text → at most so many megabytes.
TRAINING = {"code": 40.0, "prose": 17.2}
#: Whoever has spent so many seconds on a text is not asked to encode it once more.
PATIENCE = 5.0
_HELLO = "Hello, world! It's the 1st text that this process encodes.\n"


@dataclass(frozen=True)
class TokenizerSpeed(Rounds):
    """What is measured, against whom."""

    rounds: int = 5
    """Times that the sides take turns; one more, untimed, goes before."""
    parts: tuple[Part, ...] = ("encoding", "training", "pathological", "start")
    """Which tables are made."""
    peers: tuple[Peer, ...] = ("tiktoken", "tokenizers", "gigatoken", "fastokens", "rustbpe")
    """Who is measured beside ours; those that cannot do a part are left out of it."""
    vocabularies: tuple[Name, ...] = ("cl100k", "o200k", "gpt2")
    """Whose ids are made."""
    texts: tuple[Text, ...] = ("prose", "code", "mixed")
    """What is encoded."""
    folder: Path | None = None
    """Text files (*.txt) of your own, which are encoded too."""
    threads: tuple[int, ...] = (1, 2)
    """Numbers of threads to encode with; one is bound to one core where the system allows that."""
    megabytes: float = 12.0
    """Of each text that is encoded, at most so many 10⁶ bytes, in whole documents."""
    vocab_sizes: tuple[int, ...] = (8192, 32768)
    """Sizes of the vocabularies that are trained."""
    quick: bool = False
    """A look that takes two minutes, whose numbers mean little: one round, one vocabulary, half a megabyte."""

    def __post_init__(self) -> None:
        require_positive(self, "rounds")
        if self.megabytes <= 0:
            raise UsageError(f"megabytes is {self.megabytes}; it must be above 0")
        if min(self.threads, default=0) < 1:
            raise UsageError(f"threads is {self.threads}; give numbers of at least 1")
        if min(self.vocab_sizes, default=0) < 257:
            raise UsageError(f"vocab_sizes is {self.vocab_sizes}; give sizes of at least 257")


@dataclass
class Bench:
    """What the parts share."""

    settings: TokenizerSpeed
    folder: Path
    """For files that the measured processes read and write."""
    vocabularies: Path
    """What the peers read."""

    def turns(
        self, part: str, cases: Sequence[str], sides: Sequence[str], measure: Callable[[str, str, int], Any]
    ) -> dict[str, dict[str, list[Any]]]:
        """``measure(case, side, round)`` of all in turn; case → side → rounds, number 0 being the untimed one."""
        results: dict[str, dict[str, list[Any]]] = {case: {side: [] for side in sides} for case in cases}
        with Progress(part, (1 + self.settings.rounds) * len(cases) * len(sides), "measurement") as progress:
            for number in range(1 + self.settings.rounds):
                for case in cases:
                    for side in sides:
                        progress.advance(0, note=f"{case}, {side}")
                        try:
                            results[case][side].append(measure(case, side, number))
                        except SideFailed as error:
                            raise GroundupError(f"{side} failed at {case}: {error}") from error
                        progress.advance()
        return results

    def sides(self, able: Iterable[str]) -> list[str]:
        """Ours and those peers that can."""
        return [side for side in able if side == OURS or side in self.settings.peers]

    def encoder(self, vocabulary: str) -> dict[str, Any]:
        """The part of a request that says which encoder."""
        return {"vocabulary": vocabulary, "folder": self.vocabularies}


def encoding(bench: Bench) -> dict[str, Any]:
    """Rates of the first pass over a text, whose words are new, and of the passes that follow."""
    settings = bench.settings
    texts: dict[str, list[str]] = {name: _texts.named(name, int(settings.megabytes * 1e6)) for name in settings.texts}
    if settings.folder is not None:
        own = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(settings.folder.rglob("*.txt"))]
        if not own:
            raise DataError(f"no *.txt is in {settings.folder}; name another folder")
        texts["own"] = _texts.take(own, int(settings.megabytes * 1e6))
    sizes = {name: _texts.megabytes(documents) for name, documents in texts.items()}
    for name, documents in texts.items():
        write_texts(bench.folder / f"{name}.jsonl", documents)
    cases = {
        f"{vocabulary}, {threads} thread{'s' * (threads > 1)}, {text}": (vocabulary, threads, text)
        for vocabulary in settings.vocabularies
        for threads in settings.threads
        for text in texts
    }

    def measure(case: str, side: str, number: int) -> dict[str, Any]:
        vocabulary, threads, text = cases[case]
        return call(
            "encode",
            side=side,
            threads=threads,
            texts=bench.folder / f"{text}.jsonl",
            passes=3 if number else 1,
            patience=PATIENCE,
            **bench.encoder(vocabulary),
        )

    results = bench.turns("encoding", list(cases), bench.sides(ENCODERS), measure)
    different = _differences(results)
    rates: dict[str, dict[str, list[float]]] = {}
    for case, by_side in results.items():
        size = sizes[cases[case][2]]
        firsts = {side: [size / each["seconds"][0] for each in rounds[1:]] for side, rounds in by_side.items()}
        again = {
            side: [size / median(each["seconds"][1:]) for each in rounds[1:] if len(each["seconds"]) > 1]
            for side, rounds in by_side.items()
        }
        rates[f"{case}: first"] = firsts
        # Who takes long enough to lose patience remembers nothing worth a second look.
        rates[f"{case}: again"] = {
            side: again[side] if len(again[side]) == len(firsts[side]) else firsts[side] for side in firsts
        }
    described = {
        name: {"documents": len(documents), "megabytes": round(sizes[name], 3), "sha256": _texts.digest(documents)}
        for name, documents in texts.items()
    }
    memory = {
        case: {
            side: {name: rounds[-1][name] for name in ("start_bytes", "peak_bytes")} for side, rounds in by_side.items()
        }
        for case, by_side in results.items()
    }
    _table("encoding, MB/s", _speeds(rates), different)
    return {
        "texts": described,
        "different_ids": different,
        "rates": rates,
        "ratios": _ratios(rates),
        "memory": memory,
    }


def training(bench: Bench) -> dict[str, Any]:
    """Rates of learning a vocabulary with GPT-4's pattern, two threads; memory from texts that are streamed."""
    settings = bench.settings
    code = _texts.library()
    limits = {name: int(1e6 * (1.0 if settings.quick else size)) for name, size in TRAINING.items()}
    texts = {"code": _texts.take(code, limits["code"]), "prose": _texts.named("prose", limits["prose"])}
    sizes = {name: _texts.megabytes(documents) for name, documents in texts.items()}
    for name, documents in texts.items():
        write_texts(bench.folder / f"training-{name}.jsonl", documents)
    cases = {
        f"{text}, {sizes[text]:.1f} MB, vocabulary of {size}": (text, size)
        for text in texts
        for size in settings.vocab_sizes
    }
    out = bench.folder / "tokens.json"
    learnt: dict[str, dict[str, set[str]]] = {case: {} for case in cases}

    def measure(case: str, side: str, number: int) -> dict[str, Any]:
        text, vocab_size = cases[case]
        path = bench.folder / f"training-{text}.jsonl"
        answer = call("train", side=side, threads=2, texts=path, vocab_size=vocab_size, stream=number == 0, out=out)
        learnt[case][side] = set(json.loads(out.read_text(encoding="utf-8")))
        return answer

    results = bench.turns("training", list(cases), bench.sides(TRAINERS), measure)
    rates = {
        case: {
            side: [sizes[cases[case][0]] / each["seconds"] for each in rounds[1:]] for side, rounds in by_side.items()
        }
        for case, by_side in results.items()
    }
    shared = {
        case: {side: len(tokens & by_side[OURS]) / len(by_side[OURS]) for side, tokens in by_side.items()}
        for case, by_side in learnt.items()
    }
    memory = {
        case: {
            side: {name: rounds[0][name] for name in ("start_bytes", "peak_bytes")} for side, rounds in by_side.items()
        }
        for case, by_side in results.items()
    }
    _table("training, MB/s", _speeds(rates), {})
    for case, by_side in memory.items():
        say(f"{case}: peak memory " + ", ".join(f"{side} {_mb(each['peak_bytes'])}" for side, each in by_side.items()))
    return {"rates": rates, "ratios": _ratios(rates), "tokens_shared_with_ours": shared, "memory": memory}


def pathological(bench: Bench) -> dict[str, Any]:
    """Seconds for a megabyte each of text that is made to be hard, on one thread, and how much slower than prose."""
    size = 100_000 if bench.settings.quick else 1_000_000
    prose = "".join(_texts.named("prose"))[:size]
    texts = {"prose": prose, **{name: make(size) for name, make in _texts.PATHOLOGICAL.items()}}
    path = bench.folder / "pathological.jsonl"
    write_texts(path, texts.values())

    def measure(vocabulary: str, side: str, number: int) -> dict[str, Any]:
        return call("each", side=side, threads=1, texts=path, **bench.encoder(vocabulary))

    vocabularies: Sequence[str] = bench.settings.vocabularies
    by_vocabulary = bench.turns("pathological", vocabularies, bench.sides(ENCODERS), measure)
    results = {
        f"{vocabulary}: {name}": {
            side: [each["texts"][index] for each in rounds] for side, rounds in by_vocabulary[vocabulary].items()
        }
        for vocabulary in vocabularies
        for index, name in enumerate(texts)
    }
    different = _differences(results)
    rates = {
        case: {side: [size / 1e6 / each["seconds"] for each in rounds[1:]] for side, rounds in by_side.items()}
        for case, by_side in results.items()
    }
    normal = {vocabulary: rates[f"{vocabulary}: prose"] for vocabulary in vocabularies}
    shares = {
        case: {
            side: median(measured) / median(normal[case.partition(":")[0]][side]) for side, measured in by_side.items()
        }
        for case, by_side in rates.items()
    }
    shown = {
        case: {side: f"{size / 1e6 / median(rates[case][side]):.3f} ({share:.0%})" for side, share in by_side.items()}
        for case, by_side in shares.items()
    }
    _table(f"seconds for {size / 1e6:g} MB (speed, of that on prose)", shown, different)
    return {"different_ids": different, "rates": rates, "ratios": _ratios(rates), "share_of_prose": shares}


def start(bench: Bench) -> dict[str, Any]:
    """Seconds from the start of a process until it has encoded a short text, and its memory then."""
    settings = bench.settings

    def measure(vocabulary: str, side: str, number: int) -> dict[str, Any]:
        return call("first", side=side, threads=1, text=_HELLO, **bench.encoder(vocabulary))

    results = bench.turns("start", settings.vocabularies, bench.sides(ENCODERS), measure)
    different = _differences(results)
    seconds = {
        vocabulary: {
            side: {name: [each[name] for each in rounds[1:]] for name in ("running", "opened", "first")}
            for side, rounds in by_side.items()
        }
        for vocabulary, by_side in results.items()
    }
    starts = {
        vocabulary: {side: [1 / second for second in each["first"]] for side, each in by_side.items()}
        for vocabulary, by_side in seconds.items()
    }
    memory = {
        vocabulary: {side: rounds[-1]["peak_bytes"] for side, rounds in by_side.items()}
        for vocabulary, by_side in results.items()
    }
    compiling = _compiling(bench, settings.vocabularies[0])
    shown = {
        vocabulary: {
            side: f"{median(each['first']):.2f} s, {_mb(memory[vocabulary][side])}" for side, each in by_side.items()
        }
        for vocabulary, by_side in seconds.items()
    }
    _table("until the first ids, and memory then", shown, different)
    say(f"the first time on a machine, ours compiled its kernels: {compiling:.1f} s until the first ids")
    return {"seconds": seconds, "ratios": _ratios(starts), "peak_bytes": memory, "seconds_with_compilation": compiling}


def _compiling(bench: Bench, vocabulary: str) -> float:
    """Seconds until the first ids on a machine that has the vocabulary but no compiled kernels."""
    saved = bench.folder / "saved"
    open_tokenizer(vocabulary).save(saved)
    request = {"side": OURS, "threads": 1, "text": _HELLO, **bench.encoder(str(saved))}
    return float(call("first", {"GROUNDUP_CACHE": str(bench.folder / "empty")}, **request)["first"])


PARTS: Mapping[str, Callable[[Bench], dict[str, Any]]] = {
    "encoding": encoding,
    "training": training,
    "pathological": pathological,
    "start": start,
}


def run(settings: TokenizerSpeed) -> dict[str, Any]:
    """All parts, one after the other."""
    if settings.quick:
        settings = replace(
            settings, rounds=1, megabytes=0.5, vocabularies=settings.vocabularies[:1], vocab_sizes=(1024,)
        )
    versions = {peer: version_of(peer) for peer in settings.peers}
    before = {"load_average": psutil.getloadavg(), "environment": environment(), "pinned": can_pin()}
    vocabularies = cache_folder() / "benchmarks"
    prepare(settings.vocabularies, vocabularies)
    with tempfile.TemporaryDirectory(prefix="groundup-benchmark-") as folder:
        bench = Bench(settings, Path(folder), vocabularies)
        results: dict[str, Any] = {part: PARTS[part](bench) for part in settings.parts}
    return {**before, "packages": versions, "unit": "MB/s", **results}


def _differences(results: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]) -> dict[str, list[str]]:
    """Case → the peers whose ids are not those of most sides there.

    Raises:
        GroundupError: ours are not.
    """
    different: dict[str, list[str]] = {}
    for case, by_side in results.items():
        ids = {side: {each["sha256"] for each in rounds} for side, rounds in by_side.items()}
        expected = ids.get("tiktoken", ids[OURS])
        if len(expected) != 1 or ids[OURS] != expected:
            raise GroundupError(f"{OURS} and tiktoken do not compute the same at {case}; nothing was recorded")
        if others := [side for side, found in ids.items() if found != expected]:
            different[case] = others
    return different


def _ratios(rates: Mapping[str, Mapping[str, Sequence[float]]]) -> list[dict[str, Any]]:
    return [
        ratio(case, OURS, side, by_side[OURS], measured)
        for case, by_side in rates.items()
        for side, measured in by_side.items()
        if side != OURS
    ]


def _speeds(rates: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, dict[str, str]]:
    """Medians; behind a peer's, ours / peer: median, smallest and largest."""
    cells: dict[str, dict[str, str]] = {}
    for case, by_side in rates.items():
        cells[case] = {OURS: f"{median(by_side[OURS]):.3g}"}
        for side, measured in by_side.items():
            if side != OURS:
                row = ratio(case, OURS, side, by_side[OURS], measured)
                times = f"{row['median']:.2f}× ({row['min']:.2f}–{row['max']:.2f})"
                cells[case][side] = f"{median(measured):.3g} · {times}"
    return cells


def _table(title: str, cells: Mapping[str, Mapping[str, str]], different: Mapping[str, Sequence[str]]) -> None:
    """In Markdown, a row a case, a column a side; "!": the side's ids are others."""
    sides = list(next(iter(cells.values())))
    say(f"\n| {title} | " + " | ".join(sides) + " |\n|---|" + "--:|" * len(sides))
    for case, by_side in cells.items():
        others = next((peers for name, peers in different.items() if f"{case}: ".startswith(f"{name}: ")), ())
        say(f"| {case} | " + " | ".join(by_side[side] + "!" * (side in others) for side in sides) + " |")


def _mb(size: float | None) -> str:
    return "unknown" if size is None else f"{size / 1e6:.0f} MB"


if __name__ == "__main__":
    sys.exit(main(TokenizerSpeed, "tokenizer", run))
