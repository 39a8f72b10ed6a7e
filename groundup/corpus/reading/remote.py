"""Files of the disk, of the web and of object stores, listed and opened alike.

``https://`` goes through the standard library and the cache, every other scheme (``s3://``, ``gs://``, ``hf://`` …)
through fsspec, in parts. What can be read only once, standard input, is copied into the cache.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from groundup.core.files import cache_folder, sha256_of, storage_errors
from groundup.corpus.reading.download import HASH, download
from groundup.corpus.reading.stores import list_store, open_stored
from groundup.corpus.reading.urls import WEB, file_name, is_url, scheme_of

_CHUNK = 2**20


def is_readable(path: str) -> bool:
    """Whether a path is a file that can be read to its end: no pipe, no device, no link to nowhere."""
    return Path(path).is_file() and os.access(path, os.R_OK)


@contextmanager
def open_file(path: str) -> Iterator[BinaryIO]:
    """A file of the disk or of a store, open for reading, seekable. Web pages come through the cache.

    Raises:
        OSError: it is not there or cannot be read.
        DataError: a download failed, or is not what its hash says; a store does not give it.
    """
    if not is_url(path):
        if Path(path).exists() and not Path(path).is_file():  # to open a pipe would wait for ever
            raise OSError("it is no regular file")
        with Path(path).open("rb") as handle:
            yield handle
    elif _is_downloaded(path):
        with download(path).open("rb") as handle:
            yield handle
    else:
        with open_stored(path) as stored:
            yield stored


def list_urls(url: str) -> list[tuple[str, str, int]]:
    """(URL, name below what was asked for, bytes or 0) of the files that a URL, a store's folder or glob stands for.

    Raises:
        DataError: nothing is there.
        UsageError: the package that knows this kind of store is not installed.
    """
    return [(url, file_name(url.partition(HASH)[0]), 0)] if _is_downloaded(url) else list_store(url)


def _is_downloaded(url: str) -> bool:
    """Whether a file is read from a whole copy in the cache, rather than from its store."""
    return scheme_of(url) in WEB or HASH in url


def keep_stream(stream: BinaryIO, suffix_of: Callable[[bytes], str]) -> Path:
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
