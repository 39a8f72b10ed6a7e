"""What of a URL is shown, and who it is sent to."""

import pytest

from groundup.corpus.build import CorpusConfig, settings
from groundup.corpus.reading.urls import split_user, without_secrets


@pytest.mark.parametrize(
    ("url", "bare", "user"),
    [
        ("https://me:word@host/a", "https://host/a", "me:word"),
        ("https://host/a?mail=me@other.org", "https://host/a?mail=me@other.org", ""),
        ("https://host?mail=me@other.org", "https://host?mail=me@other.org", ""),
        ("https://host#me@other.org", "https://host#me@other.org", ""),
        ("s3://bucket/a@b", "s3://bucket/a@b", ""),
    ],
)
def test_the_authority_ends_where_the_standard_says(url: str, bare: str, user: str) -> None:
    assert split_user(url) == (bare, user)


def test_what_a_corpus_depends_on_is_recorded_without_secrets() -> None:
    first, second = (f"https://me:word@host/a.txt?token={token}" for token in ("abc", "def"))
    recorded = [settings(CorpusConfig(inputs=(url,))).inputs[0] for url in (first, second, "texts/")]
    assert recorded[0].startswith(without_secrets(first))
    assert "word" not in recorded[0]
    assert "abc" not in recorded[0].partition(" (")[0]
    assert recorded[0] != recorded[1]
    assert recorded[2] == "texts/"
