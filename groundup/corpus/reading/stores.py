"""Stores of objects (``s3://``, ``gs://``, ``hf://`` …) through fsspec: which files are there, and their bytes.

What a store's library raises leaves as one line that says what to do, never as a damaged file.
"""

import glob
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from groundup.core.errors import DataError, GroundupError, UsageError
from groundup.corpus.reading import hub
from groundup.corpus.reading.urls import reason_of, scheme_of, without_secrets

_BUFFER = 2**16
#: What pip installs for a scheme.
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}


def filesystem(url: str) -> Any:
    """The fsspec file system of a URL.

    Raises:
        UsageError: no store is called so, or its package is not installed.
    """
    scheme = scheme_of(url)
    try:
        import fsspec
    except ImportError as error:
        raise UsageError(f"reading {scheme}:// needs fsspec; pip install 'groundup[data]'") from error
    try:
        return fsspec.filesystem(scheme, **fsspec.get_filesystem_class(scheme)._get_kwargs_from_urls(url))
    except ImportError as error:
        package = "'groundup[data]'" if scheme == hub.SCHEME else _PACKAGES.get(scheme, "")
        remedy = f"pip install {package}" if package else reason_of(error)
        raise UsageError(f"reading {scheme}:// needs a package that is not installed: {remedy}") from error
    except ValueError as error:
        raise UsageError(
            f"{without_secrets(url)}: no store is called {scheme}://; use https, s3, gs, hf or another of fsspec"
        ) from error
    except Exception as error:  # a server that is asked for a password, a host that does not answer
        raise DataError(f"cannot open {without_secrets(url)}: {_why(error, url)}") from error


def list_store(url: str) -> list[tuple[str, str, int]]:
    """(URL, name below what was asked for, bytes) of the files that a URL, a folder or a glob of a store stands for.

    Of a data set of Hugging Face all URLs name one commit, and what only describes it is left out.

    Raises:
        DataError: nothing is there, or it may not be read.
        UsageError: the package that knows this kind of store is not installed.
    """
    asked, url = url, hub.pinned(url)
    store = filesystem(url)
    root = store._strip_protocol(url)
    magic = glob.has_magic(root)
    try:
        found = store.glob(root, detail=True) if magic else store.find(root, detail=True)
    except Exception as error:  # every store has its own classes
        raise DataError(f"cannot list {without_secrets(asked)}: {_why(error, asked)}") from error
    base = root[: len(root) - len(root.lstrip("/")) + _plain(root.lstrip("/"))] if magic else root
    rows = []
    for path, info in sorted(found.items()):
        name = path.removeprefix(base).lstrip("/") or PurePosixPath(path).name
        hidden = any(part.startswith(".") for part in name.split("/"))
        if info.get("type", "file") == "file" and not hidden and not hub.describes(name, asked):
            rows.append((_url_of(path, url, store), name, int(info.get("size") or 0)))
    if not rows:
        raise DataError(f"{without_secrets(asked)}: no files there")
    return rows


def _plain(pattern: str) -> int:
    """Length of the folders before the first part of a pattern that is not to be taken literally."""
    parts = pattern.split("/")
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return len("/".join(parts[:first]))


def _url_of(path: str, url: str, store: Any) -> str:
    """The URL of a file that was found below another; fsspec leaves out the host of those that have one."""
    if not type(store)._get_kwargs_from_urls(url):
        return str(store.unstrip_protocol(path))
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/{path.lstrip('/')}"


@contextmanager
def open_stored(url: str) -> Iterator[BinaryIO]:
    """A file of a store, seekable; the parts that are asked for are brought, not the whole.

    Raises:
        FileNotFoundError: it is not there.
        DataError: the store does not give it; the message says why.
    """
    with _told(url):
        handle = filesystem(url).open(url, "rb")
    with handle, io.BufferedReader(_Stored(handle, url), _BUFFER) as buffered:
        yield buffered


def stored_size(url: str) -> int:
    with _told(url):
        return int(filesystem(url).size(url))


class _Stored(io.RawIOBase):
    """A file of fsspec whose errors say what to do."""

    def __init__(self, handle: Any, url: str) -> None:
        self._handle = handle
        self._url = url

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with _told(self._url):
            return int(self._handle.seek(offset, whence))

    def tell(self) -> int:
        return int(self._handle.tell())

    def readinto(self, buffer: Any) -> int:
        with _told(self._url):
            data = self._handle.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def _told(url: str) -> Iterator[None]:
    try:
        yield
    except GroundupError:
        raise
    except Exception as error:  # every store has its own classes
        if isinstance(error, FileNotFoundError) and getattr(error.__cause__, "response", None) is None:
            raise
        raise DataError(f"cannot read {without_secrets(url)}: {_why(error, url)}") from error


def _why(error: Exception, url: str) -> str:
    if scheme_of(url) == hub.SCHEME:
        return hub.why(error, url)
    return f"{reason_of(error, url)}; check the name, the network and your access, then run again"
