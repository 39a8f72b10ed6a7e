"""Files of the disk, of the web and of object stores, opened alike; what is remote can be kept in the cache.

``https://`` goes through the standard library, every other scheme (``s3://``, ``gs://``, ``hf://`` …) through fsspec. A
download goes on where it was interrupted, and is verified where the URL ends in ``#sha256=…``.
"""

import hashlib
import io
import os
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from filelock import FileLock

from groundup.core.errors import DataError, GroundupError, UsageError
from groundup.core.files import cache_folder, sha256_of, storage_errors, write_json
from groundup.core.progress import Progress

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.I)
_WEB = ("http", "https")
_CHUNK = 2**20
_TIMEOUT = 60
#: A download is given up after so many attempts that bring nothing, each after twice the pause (seconds).
_ATTEMPTS = 5
_PAUSE = 0.5
_PARTIAL, _NOTHING_LEFT = 206, 416
#: The address is wrong, or the user may not read it: to ask again is of no use.
_REFUSALS = (400, 401, 403, 404, 405, 410)


def is_url(path: str) -> bool:
    return _URL.match(path) is not None


@contextmanager
def open_file(path: str) -> Iterator[BinaryIO]:
    """A file of the disk or of a store, open for reading, seekable. Web pages come through the cache.

    Raises:
        OSError: it is not there or cannot be read.
        DataError: a download failed, or is not what its hash says.
    """
    if not is_url(path):
        if Path(path).exists() and not Path(path).is_file():  # to open a pipe would wait for ever
            raise OSError("it is no regular file")
        with Path(path).open("rb") as handle:
            yield handle
    elif _scheme(path) in _WEB or "#sha256=" in path:
        with download(path).open("rb") as handle:
            yield handle
    else:
        with filesystem(path).open(path, "rb") as handle:
            yield handle


def list_urls(url: str) -> list[tuple[str, str, int]]:
    """(URL, name below what was asked for, bytes) of the files that a URL, a folder or a glob of a store stands for.

    Raises:
        DataError: nothing is there.
        UsageError: the package that knows this kind of store is not installed.
    """
    if _scheme(url) in _WEB or "#sha256=" in url:
        return [(url, PurePosixPath(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name or "index.html", 0)]
    store = filesystem(url)
    root = store._strip_protocol(url)
    try:
        found = store.glob(root, detail=True) if "*" in root else store.find(root, detail=True)
    except Exception as error:  # every store has its own classes
        raise DataError(
            f"cannot list {url}: {_one_line(error)}; check the name, the network and your access"
        ) from error
    base = root.partition("*")[0].rpartition("/")[0] if "*" in root else root
    files = {path: info for path, info in found.items() if info.get("type", "file") == "file"}
    if not files:
        raise DataError(f"{url}: no files there")
    rows = []
    for path, info in sorted(files.items()):
        name = path.removeprefix(base).lstrip("/") or PurePosixPath(path).name
        if not any(part.startswith(".") for part in name.split("/")):
            rows.append((store.unstrip_protocol(path), name, int(info.get("size") or 0)))
    return rows


def filesystem(url: str) -> Any:
    """The fsspec file system of a URL."""
    scheme = _scheme(url)
    try:
        import fsspec
    except ImportError as error:
        raise UsageError(f"reading {scheme}:// needs fsspec; pip install 'groundup[data]'") from error
    try:
        return fsspec.filesystem(scheme)
    except ImportError as error:
        package = {"hf": "huggingface_hub", "s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs"}.get(scheme, "")
        remedy = f"pip install {package}" if package else _one_line(error)
        raise UsageError(f"reading {scheme}:// needs a package that is not installed: {remedy}") from error
    except ValueError as error:
        raise UsageError(
            f"{url}: no store is called {scheme}://; use https, s3, gs, hf or another of fsspec"
        ) from error


def download(url: str, folder: Path | None = None) -> Path:
    """The file of a URL in the cache, brought there if it is not yet; an interrupted download goes on.

    Beside it stands ``<name>.origin.json`` with the URL, its size and its SHA-256.

    Args:
        url: may end in ``#sha256=<hex>``.
        folder: default: ``downloads`` in the cache.

    Raises:
        DataError: it could not be brought, or is not what its hash says.
        StorageError: the disk is full or cannot be written.
    """
    address, _, wanted = url.partition("#sha256=")
    name = PurePosixPath(urllib.parse.unquote(urllib.parse.urlsplit(address).path)).name or "index.html"
    key = hashlib.sha256(address.encode("utf-8")).hexdigest()[:16]
    target = (folder or cache_folder() / "downloads") / key / name
    partial = target.with_name(f"{name}.partial")
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f"{name}.lock")):
        if not target.is_file():
            _fetch(address, partial)
            found = sha256_of(partial)
            if wanted and found != wanted.lower():
                partial.unlink()
                raise DataError(f"{address} is not what was expected (sha256 {found[:12]}…, expected {wanted[:12]}…)")
            origin = {"url": address, "bytes": partial.stat().st_size, "sha256": found}
            write_json(target.with_name(f"{name}.origin.json"), origin)
            partial.with_name(f"{partial.name}.version").unlink(missing_ok=True)
            partial.replace(target)
    return target


def _fetch(url: str, partial: Path) -> None:
    """Append to ``partial`` until it is whole; a broken connection is tried again from where it broke."""
    failures = 0
    while failures < _ATTEMPTS:
        before = _size(partial)
        try:
            if _copy(url, partial):
                return
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code in _REFUSALS:
                raise DataError(f"cannot fetch {url}: {error.code} {error.reason}; check the address") from error
            reason = f"{error.code} {error.reason}"
        except GroundupError:
            raise
        except Exception as error:  # every store has its own classes
            reason = _one_line(error)
        failures = 0 if _size(partial) > before else failures + 1
        time.sleep(_PAUSE * 2**failures if failures else 0)
    raise DataError(f"cannot fetch {url}: {reason}; run the same command again and it goes on from there")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _copy(url: str, partial: Path) -> bool:
    """Bring what is missing of ``partial``; whether it is whole then."""
    opened = _opened_web if _scheme(url) in _WEB else _opened_store
    with opened(url, partial) as (source, begin, total):
        with storage_errors(partial):
            handle = partial.open("r+b" if begin else "wb")
        with handle, Progress(f"fetch {PurePosixPath(url).name}", total=total, unit="B") as progress:
            handle.seek(begin)
            handle.truncate()
            progress.advance(begin)
            while chunk := source.read(_CHUNK):
                with storage_errors(partial):
                    handle.write(chunk)
                progress.advance(len(chunk))
            with storage_errors(partial):
                handle.flush()
                os.fsync(handle.fileno())
            return total is None or handle.tell() == total


_Opened = tuple[Any, int, int | None]
"""A stream, where in the file it begins, and the size of the whole file."""


@contextmanager
def _opened_store(url: str, partial: Path) -> Iterator[_Opened]:
    store = filesystem(url)
    done = _size(partial)
    with store.open(url, "rb") as handle:
        handle.seek(done)
        yield handle, done, store.size(url)


@contextmanager
def _opened_web(url: str, partial: Path) -> Iterator[_Opened]:
    """Asks for the part that is missing, of the same version of the file: else it comes whole (RFC 9110, 13.1.5)."""
    version = partial.with_name(f"{partial.name}.version")
    done = _size(partial)
    request = urllib.request.Request(url, headers={"User-Agent": "groundup"})
    if done:
        request.add_header("Range", f"bytes={done}-")
        if version.exists():
            request.add_header("If-Range", version.read_text("utf-8"))
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != _NOTHING_LEFT:
            raise
        if not (error.headers.get("Content-Range") or "").endswith(f"/{done}"):
            partial.unlink(missing_ok=True)  # more than there is: it is of another version
            raise
        yield io.BytesIO(), done, done
        return
    with response:
        begin = done if response.status == _PARTIAL else 0
        tag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        with storage_errors(version):
            if tag and not tag.startswith("W/"):  # a weak tag does not promise equal bytes
                version.write_text(tag, "utf-8")
            else:
                version.unlink(missing_ok=True)
        length = response.headers.get("Content-Length")
        yield response, begin, begin + int(length) if length else None


def keep_stream(stream: BinaryIO, suffix_of: Any) -> Path:
    """Copy a stream that can be read only once (standard input) into the cache, under its hash.

    Args:
        suffix_of: first bytes → the suffix of the copy's name.
    """
    folder = cache_folder() / "downloads" / "stdin"
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{os.getpid()}.partial"
        with partial.open("wb") as handle:
            shutil.copyfileobj(stream, handle, _CHUNK)
    with partial.open("rb") as handle:
        suffix = suffix_of(handle.read(2**12))
    return partial.replace(folder / f"{sha256_of(partial)[:16]}{suffix}")


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
