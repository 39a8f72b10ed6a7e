"""Data sets of Hugging Face (``hf://datasets/OWNER/NAME[@REVISION][/PATH]``): which state of one is read, under which
licence, and why it may not be read.

Its files are opened by ``huggingface_hub.HfFileSystem``, which fsspec knows as ``hf``: tables by the byte ranges that
are used, everything else as a stream. ``HF_TOKEN`` and ``HF_ENDPOINT`` are read by that library alone.
"""

import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from groundup.core.errors import DataError, UsageError
from groundup.corpus.reading.urls import reason_of

SCHEME = "hf"
_ADDRESS = re.compile(r"hf://datasets/([^/@]+/[^/@]+)(?:@(refs/(?:convert|pr)/[^/]+|[^/]+))?(/.*)?", re.I | re.S)
#: What describes a data set and is no part of it (after ``FILES_TO_IGNORE`` of the library ``datasets``).
_DESCRIPTIONS = ("README.md", "config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json")
_LOGIN = "log in with `hf auth login` or set HF_TOKEN"


@dataclass(frozen=True)
class DataSet:
    """One state of a data set."""

    name: str
    commit: str
    licence: str
    """As its card says, or nothing."""

    @property
    def url(self) -> str:
        return f"hf://datasets/{self.name}@{self.commit}"


def data_set(url: str) -> DataSet | None:
    """The data set that a URL is in, as it is when this process first asks; None: it is in no data set.

    Raises:
        DataError: there is none, or the user may not read it.
        UsageError: huggingface_hub is not installed.
    """
    parts = _ADDRESS.fullmatch(url)
    if not parts:
        return None
    try:
        from huggingface_hub import constants
    except ImportError as error:
        raise UsageError("reading hf:// needs huggingface_hub; pip install 'groundup[data]'") from error
    return _ask(constants.ENDPOINT, parts[1], urllib.parse.unquote(parts[2]) if parts[2] else None)


def pinned(url: str) -> str:
    """A URL of a data set with its commit in it, so that all files are of one state of it; others as they are."""
    found = data_set(url)
    parts = _ADDRESS.fullmatch(url)
    return f"{found.url}{parts[3] or ''}" if found and parts else url


@lru_cache(maxsize=256)
def _ask(endpoint: str, name: str, revision: str | None) -> DataSet:
    from huggingface_hub import HfApi

    url = f"hf://datasets/{name}" + (f"@{revision}" if revision else "")
    try:
        info = HfApi(endpoint).dataset_info(name, revision=revision, expand=["sha", "cardData"])
    except Exception as error:  # a dozen classes, of this library and of the one below it
        raise DataError(f"cannot read {url}: {why(error, url)}") from error
    card = info.card_data.to_dict() if info.card_data else {}
    licence = card.get("license_name") or card.get("license") or ""
    words = ", ".join(map(str, licence)) if isinstance(licence, list) else str(licence)
    return DataSet(name, str(info.sha), words)


def why(error: BaseException, url: str) -> str:
    """The reason and the remedy, for an error that ``HfFileSystem`` or ``HfApi`` gave for ``url``."""
    parts = _ADDRESS.fullmatch(url)
    name, revision = (parts[1], parts[2]) if parts else ("", "")
    home = f"https://huggingface.co/datasets/{name}"
    for response in _responses(error):
        code = response.headers.get("X-Error-Code") or ""
        if "Invalid credentials" in (response.headers.get("X-Error-Message") or ""):
            return f"the token is not valid; {_LOGIN}"
        if code == "GatedRepo" or response.status_code == 403:
            return f"it is gated or private; accept its terms at {home}, then {_LOGIN}"
        if code == "RevisionNotFound":
            return f"it has no branch, tag or commit called {revision}; see {home}"
        if code == "RepoNotFound" or response.status_code == 401:
            return f"there is no such data set, or it is private; check the name, and {_LOGIN}"
        if code == "EntryNotFound":
            return f"it has no such file or folder; see {home}/tree/main"
        return f"the answer of Hugging Face is {response.status_code}; run again later"
    return f"{reason_of(error)}; check the name and the network, then run again"


def _responses(error: BaseException | None) -> Iterator[Any]:
    """The answers of the server behind an error."""
    while error is not None:
        if (response := getattr(error, "response", None)) is not None and hasattr(response, "status_code"):
            yield response
        error = error.__cause__ or error.__context__


def describes(file: str, url: str) -> bool:
    """Whether a file (its path below ``url``) only describes a data set, which was asked for as a whole."""
    parts = _ADDRESS.fullmatch(url)
    if not parts or (parts[3] or "").strip("/"):
        return False
    return file in _DESCRIPTIONS or file == f"{parts[1].rpartition('/')[2]}.py"
