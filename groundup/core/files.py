"""Files that are either whole or absent.

Every artifact is written to a temporary name beside its target, flushed to the disk, and renamed.
A process killed at any instant leaves the old file or the new one, never half of one.
"""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from groundup.core.errors import ArtifactError, StorageError

#: Temporary names start with this, so that a later run can recognise and remove leftovers.
TEMPORARY_PREFIX = ".incomplete-"

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.EIO)


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's write errors under ``path`` into one clear line."""
    try:
        yield
    except Exception as error:
        if _means_full(error):
            raise StorageError(
                f"no space left on the disk while writing {path}; free some, then run the same command again"
            ) from error
        if isinstance(error, OSError) and error.errno in _REFUSED:
            raise StorageError(f"cannot write {path}: {error.strerror}; choose another place with --out") from error
        raise


def _means_full(error: Exception) -> bool:
    """Whether the disk is full, also in the words of libraries that give no error number."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    short_write = isinstance(error, OSError) and "requested and" in str(error)  # NumPy's tofile
    return short_write or "No space left on device" in str(error)  # safetensors


def _flush_directory(folder: Path) -> None:
    """Make a rename in ``folder`` durable (POSIX; elsewhere a directory cannot be opened)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_name(path: Path) -> Path:
    """A name that no other process has, on whatever machine: numbers of processes repeat in containers."""
    return path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}-{path.name}")


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path`` in one step."""
    temporary = temporary_name(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb+") as handle:
                os.fsync(handle.fileno())
            temporary.replace(path)
            _flush_directory(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; on success it becomes ``path`` in one step.

    ``path`` must not exist yet: a folder cannot be replaced atomically on every platform.
    """
    temporary = temporary_name(path)
    with storage_errors(path):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    with file.open("rb+") as handle:
                        os.fsync(handle.fileno())
            publish_folder(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def publish_folder(temporary: Path, path: Path) -> None:
    """Let a folder whose files are all on the disk become ``path``, in one step."""
    _flush_directory(temporary)
    temporary.rename(path)
    _flush_directory(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Delete what interrupted atomic writes left below ``folder``; where others hold a lock, they are still writing."""
    for place, folders, files in os.walk(folder):
        if Path(place) != folder and any(is_held(Path(place, name)) for name in files if name.endswith(".lock")):
            folders.clear()
            continue
        for name in filter(_is_temporary, files):
            Path(place, name).unlink(missing_ok=True)
        for name in filter(_is_temporary, list(folders)):
            shutil.rmtree(Path(place, name), ignore_errors=True)
            folders.remove(name)


def _is_temporary(name: str) -> bool:
    return name.startswith(TEMPORARY_PREFIX)


def is_held(path: Path) -> bool:
    """Whether a process that lives, on whatever machine, holds this lock."""
    import filelock  # takes as long to import as all the rest

    if not path.exists():
        return False
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    lock.release()
    return False


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with ``\\n`` line ends, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON, atomically; keys keep their order, NaN is refused."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write one JSON value a line, atomically, without holding all rows in memory."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def read_text(path: Path) -> str:
    """Read UTF-8 text that a run wrote.

    Raises:
        ArtifactError: the file is missing or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtifactError(f"{path} does not exist; run the stage that makes it first") from error
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path} is damaged (not UTF-8 at byte {error.start}); delete it and run again") from error


def read_json(path: Path) -> Any:
    """Read a JSON file that a run wrote.

    Raises:
        ArtifactError: the file is missing, truncated or not JSON.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ArtifactError(f"{path} is damaged (not JSON at line {error.lineno}); delete it and run again") from error


def read_jsonl(path: Path) -> Iterator[Any]:
    """Yield the values of a JSON-lines file that a run wrote, one at a time.

    Raises:
        ArtifactError: the file is missing, or a line (which is named) is truncated or not JSON.
    """
    try:
        handle = path.open("rb")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtifactError(f"{path} does not exist; run the stage that makes it first") from error
    with handle:
        for number, line in enumerate(handle, start=1):
            try:
                value = json.loads(line.decode("utf-8"))
            except ValueError as error:
                raise ArtifactError(f"{path} is damaged at line {number}; delete it and run again") from error
            yield value


def cache_folder() -> Path:
    """Where fetched archives and compiled kernels are kept: ``$GROUNDUP_CACHE``, else the platform's cache folder."""
    if chosen := os.environ.get("GROUNDUP_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Local") / "groundup"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "groundup"


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
