"""``groundup corpus train-classifier``: examples enter; a classifier or an n-gram model and a report leave."""

import glob
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from groundup.core.config import parse, to_json
from groundup.core.errors import DataError, UsageError
from groundup.core.progress import say
from groundup.corpus.document import Document
from groundup.corpus.reading import open_records
from groundup.corpus.scoring.classifier import TrainingConfig, is_held_out, train
from groundup.corpus.scoring.ngram import NgramModel

PROGRAM = "groundup corpus train-classifier"
#: Per cent of the texts; CCNet (Wenzek et al. 2020) parts a crawl into head, middle and tail at 33 and 67.
SHOWN = (1, 5, 25, 33, 50, 67, 75, 95, 99)


@dataclass(frozen=True)
class TrainOptions:
    """Learn to tell good texts from bad ones by examples, for the classifier filter; or how words follow each other in
    good texts, for the perplexity filter. What is printed helps to choose their thresholds."""

    good: tuple[Path, ...] = ()
    """Files or folders of good examples, in any format that a corpus is read from."""
    bad: tuple[Path, ...] = ()
    """The same of bad ones; an n-gram model is only measured on them, and a sample of the text to be filtered serves
    there better."""
    out: Path | None = None
    """Folder to write, which must not exist yet."""
    ngram: bool = False
    """Make an n-gram model instead of a classifier."""
    ngram_order: int = 3
    """Words in the longest n-gram of such a model; 1 to 5."""
    seed: int = 0
    """Of the random choices; the same examples and seed give the same model."""
    json: bool = False
    """Print the report as JSON."""
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        if not 1 <= self.ngram_order <= 5:
            raise UsageError(f"--ngram-order is {self.ngram_order}; use 1 to 5")


def main(words: list[str]) -> int:
    """Train as the command line says.

    Raises:
        UsageError: an option is unknown, wrong or missing.
        DataError: the examples are too few.
    """
    options = parse(TrainOptions, TrainOptions(), words, PROGRAM, "command line")
    if not options.good or options.out is None or not (options.bad or options.ngram):
        raise UsageError(f"give examples and a folder to write: {PROGRAM} --good FILE… --bad FILE… --out DIR")
    if options.out.exists():
        raise UsageError(f"{options.out} exists; choose another --out")
    for path in (*options.good, *options.bad):  # before hours of reading the others
        if not (path.exists() or str(path) == "-" or glob.has_magic(str(path))):
            raise DataError(f"{path} does not exist; give files or folders of examples")
    report, told = _train_ngram(options, options.out) if options.ngram else _train_classifier(options, options.out)
    print(json.dumps(report, allow_nan=False) if options.json else told)
    say(f"wrote {options.out}")
    return 0


def _train_classifier(options: TrainOptions, out: Path) -> tuple[dict[str, Any], str]:
    classifier, report = train(_texts(options.good), _texts(options.bad), options.training, options.seed)
    classifier.save(out, report)
    return {**report.to_json(), "training": to_json(options.training), "seed": options.seed}, report.to_text()


def _train_ngram(options: TrainOptions, out: Path) -> tuple[dict[str, Any], str]:
    """Fit on most of the good texts, and say how the perplexities of the others and of the bad ones are spread."""
    share, seed = options.training.held_out, options.seed
    learnt: list[str] = []
    kept: list[str] = []
    for text in _texts(options.good):
        (kept if is_held_out(text, share, seed) else learnt).append(text)
    if not kept:
        raise DataError("the good texts are too few to hold some out; give more")
    model = NgramModel.fit(learnt, options.ngram_order).with_percentiles({"good": kept, "bad": _texts(options.bad)})
    model.save(out)
    spread = {name: {str(each): values[each - 1] for each in SHOWN} for name, values in model.percentiles.items()}
    report = {"order": model.order, "vocabulary": model.vocabulary, "trained_on": len(learnt), "perplexity": spread}
    lines = [
        f"{model.vocabulary:,} distinct words in {len(learnt):,} texts, n-grams of up to {model.order} words",
        "",
        "perplexity per word of texts that were held out",
        "per cent of texts below  " + "  ".join(f"{each:>7}" for each in SHOWN),
        *(
            f"{name:<23}  " + "  ".join(f"{value:>7.0f}" for value in values.values())
            for name, values in spread.items()
        ),
    ]
    return report, "\n".join(lines)


def _texts(paths: tuple[Path, ...]) -> Iterator[str]:
    """The texts of the files; says at the end how many records could not be read."""
    unread = 0
    for record in open_records(paths) if paths else ():
        if isinstance(record, Document):
            yield record.text
        else:
            unread += 1
    if unread:
        say(f"{unread} records of {paths[0]}{' and others' if len(paths) > 1 else ''} could not be read")
