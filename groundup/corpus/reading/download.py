"""Files of the web in the cache: a download goes on where it was interrupted, and is verified where its hash is known.

A URL enters, which may end in ``#sha256=<hex>``; the path of a whole file leaves. Beside it stands
``<name>.origin.json``: the URL without its secrets, the size and the SHA-256.
"""

import base64
import errno
import hashlib
import http.client
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
from pathlib import Path
from typing import Any

from filelock import FileLock

from groundup.core.errors import DataError, GroundupError
from groundup.core.files import cache_folder, read_json, sha256_of, storage_errors, write_json
from groundup.core.progress import Progress
from groundup.corpus.reading.config import MEGABYTE
from groundup.corpus.reading.stores import open_stored, stored_size
from groundup.corpus.reading.urls import WEB, file_name, reason_of, scheme_of, split_user, without_secrets

HASH = "#sha256="
_CHUNK = 2**20
#: Seconds that a server may say nothing, and in which it must send so many bytes.
_TIMEOUT = 60
_LEAST = 2**13
#: A download is given up after so many attempts that bring nothing, each after twice the pause (seconds).
_ATTEMPTS = 5
_PAUSE = 0.5
#: What a download leaves free on the disk, for the rest of the machine.
_SPARE = 64 * MEGABYTE
_PARTIAL, _NOTHING_LEFT = 206, 416
#: The address is wrong, or the user may not read it: to ask again is of no use.
_REFUSALS = {
    400: "check the address",
    401: "give the user and password, or the token, in the address",
    403: "you may not read it; check the address and your access",
    404: "check the address",
    405: "check the address",
    410: "it is not there any more",
}
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


def download(url: str, folder: Path | None = None) -> Path:
    """The file of a URL in the cache, brought there if it is not yet.

    Args:
        url: may end in ``#sha256=<hex>``.
        folder: default: ``downloads`` in the cache.

    Raises:
        DataError: it could not be brought, or is not what its hash says.
        StorageError: the disk is full or cannot be written.
    """
    address, wanted = _parted(url)
    target = _target(address, folder)
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f"{target.name}.lock")):
        if not target.is_file() or wanted not in ("", _recorded(target)):
            _bring(address, wanted, target)
    return target


def recorded_hash(url: str, folder: Path | None = None) -> str:
    """The SHA-256 of a file that was brought before; empty: it was not."""
    return _recorded(_target(_parted(url)[0], folder))


def _parted(url: str) -> tuple[str, str]:
    """The address, and the hash in lower case."""
    address, _, wanted = url.partition(HASH)
    return address, wanted.lower()


def _target(address: str, folder: Path | None) -> Path:
    key = hashlib.sha256(address.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return (folder or cache_folder() / "downloads") / key / file_name(address)


def _origin(target: Path) -> Path:
    return target.with_name(f"{target.name}.origin.json")


def _recorded(target: Path) -> str:
    return str(read_json(_origin(target)).get("sha256", "")) if _origin(target).is_file() else ""


def _bring(address: str, wanted: str, target: Path) -> None:
    partial = target.with_name(f"{target.name}.partial")
    _fetch(address, partial)
    found = sha256_of(partial)
    _version(partial).unlink(missing_ok=True)
    if wanted and found != wanted:
        partial.unlink()
        place = without_secrets(address)
        raise DataError(f"{place} is not what was expected (sha256 {found[:12]}…, expected {wanted[:12]}…)")
    origin = {"url": without_secrets(address), "bytes": partial.stat().st_size, "sha256": found}
    with storage_errors(target):
        target.unlink(missing_ok=True)  # what is recorded is never said of another file
        write_json(_origin(target), origin)
        partial.replace(target)


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
            reason = f"{error.code} {error.reason}"
            if error.code in _REFUSALS:
                raise DataError(f"cannot fetch {without_secrets(url)}: {reason}; {_REFUSALS[error.code]}") from error
        except GroundupError:
            raise
        except (ValueError, http.client.InvalidURL) as error:
            raise DataError(
                f"cannot fetch {without_secrets(url)}: {reason_of(error, url)}; check the address"
            ) from error
        except Exception as error:  # every store has its own classes
            reason = reason_of(error, url)
        failures = 0 if _size(partial) > before else failures + 1
        if 0 < failures < _ATTEMPTS:
            time.sleep(_PAUSE * 2**failures)
    place = without_secrets(url)
    raise DataError(f"cannot fetch {place}: {reason}; run the same command again and it goes on from there")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _version(partial: Path) -> Path:
    """Which version of the file ``partial`` is a part of, in the server's words."""
    return partial.with_name(f"{partial.name}.version")


def _copy(url: str, partial: Path) -> bool:
    """Bring what is missing of ``partial``; whether it is whole then."""
    opened = _opened_web if scheme_of(url) in WEB else _opened_store
    with opened(url, partial) as (source, begin, total):
        _check_space(partial, max(0, (total or 0) - begin))
        with storage_errors(partial):
            handle = partial.open("r+b" if begin else "wb")
        with handle, Progress(f"fetch {file_name(url)}", total=total, unit="B") as progress:
            handle.seek(begin)
            handle.truncate()
            progress.advance(begin)
            for chunk in _chunks(source):
                _check_space(partial, len(chunk))
                with storage_errors(partial):
                    handle.write(chunk)
                progress.advance(len(chunk))
            with storage_errors(partial):
                handle.flush()
                os.fsync(handle.fileno())
            return total is None or handle.tell() == total


def _chunks(source: Any) -> Iterator[bytes]:
    """What a stream gives, as it comes.

    Raises:
        TimeoutError: it comes so slowly that it would never end.
    """
    read = getattr(source, "read1", source.read)
    since, count = time.monotonic(), 0
    while chunk := read(_CHUNK):
        yield chunk
        count += len(chunk)
        if time.monotonic() - since > _TIMEOUT:
            if count < _LEAST:
                raise TimeoutError(f"{count} bytes came in {_TIMEOUT} seconds")
            since, count = time.monotonic(), 0


def _check_space(partial: Path, wanted: int) -> None:
    """Refuse what would fill the disk: a server may send without end.

    Raises:
        StorageError: there is too little space.
    """
    with storage_errors(partial):
        if shutil.disk_usage(partial.parent).free < wanted + _SPARE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


_Opened = tuple[Any, int, int | None]
"""A stream, where in the file it begins, and the size of the whole file."""


@contextmanager
def _opened_store(url: str, partial: Path) -> Iterator[_Opened]:
    done = _size(partial)
    with open_stored(url) as handle:
        handle.seek(done)
        yield handle, done, stored_size(url)


@contextmanager
def _opened_web(url: str, partial: Path) -> Iterator[_Opened]:
    """Asks for the part that is missing, of the same version of the file: else it comes whole (RFC 9110, 13.1.5)."""
    done = _size(partial)
    try:
        response = urllib.request.urlopen(_request(url, partial, done), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != _NOTHING_LEFT:
            raise
        if not (error.headers.get("Content-Range") or "").endswith(f"/{done}"):
            partial.unlink(missing_ok=True)  # more than there is: it is of another version
            raise
        yield io.BytesIO(), done, done
        return
    with response:
        begin = _begin(response, partial, done) if response.status == _PARTIAL else 0
        tag = response.headers.get("ETag") or ""
        if not tag or tag.startswith("W/"):  # a weak tag does not promise equal bytes
            tag = response.headers.get("Last-Modified") or ""
        with storage_errors(partial):
            if tag:
                _version(partial).write_text(tag, "utf-8")
            else:
                _version(partial).unlink(missing_ok=True)
        length = response.headers.get("Content-Length")
        yield response, begin, begin + int(length) if length else None


def _request(url: str, partial: Path, done: int) -> urllib.request.Request:
    address, user = split_user(url)
    request = urllib.request.Request(address, headers={"User-Agent": "groundup"})
    if user:  # a header that is not sent on to where the server points
        word = base64.b64encode(urllib.parse.unquote(user).encode("utf-8")).decode("ascii")
        request.add_unredirected_header("Authorization", f"Basic {word}")
    if done and _version(partial).exists():  # else it comes whole
        request.add_header("Range", f"bytes={done}-")
        request.add_header("If-Range", _version(partial).read_text("utf-8"))
    return request


def _begin(response: Any, partial: Path, done: int) -> int:
    """Where in the file the part begins that a server sends.

    Raises:
        OSError: it is not the one that was asked for; what is there is not used then.
    """
    found = _RANGE.fullmatch(response.headers.get("Content-Range") or "")
    if found and int(found[1]) != done:
        partial.unlink(missing_ok=True)
        raise OSError(f"the server sends byte {found[1]} and not {done}")
    return done
