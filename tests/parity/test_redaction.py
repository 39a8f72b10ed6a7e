"""Our redaction against datatrove's ``PIIFormatter``, which knows e-mail and IPv4 addresses."""

import pytest

from groundup.corpus.document import Document
from groundup.corpus.redaction import Redaction, RedactionConfig
from tests.corpus.redaction.labelled import samples

pii = pytest.importorskip("datatrove.pipeline.formatters.pii")

RULES = ("email", "ipv4", "ISBN", "date", "price", "order number", "hash", "UUID", "colour", "handle", "phone-national")


def ours(text: str) -> str:
    step = Redaction(RedactionConfig(kinds=("email", "ip")))
    return step(Document("1", "", "", text)).text.replace("<EMAIL>", "@").replace("<IP>", "#")


def theirs(text: str) -> str:
    return str(pii.PIIFormatter(email_replacement="@", ip_replacement="#").format(text))


def test_the_same_addresses_go() -> None:
    labelled = [sample for sample in samples(seed=5, each=40) if sample.rule in RULES and "1.3.0" not in sample.text]
    assert [ours(sample.text) for sample in labelled] == [theirs(sample.text) for sample in labelled]


@pytest.mark.parametrize(
    ("text", "mine", "other", "why"),
    [
        ("left-pad@1.3.0", "left-pad@1.3.0", "@", "no top-level domain is a number: a package and its version"),
        ("logo@2x.png", "logo@2x.png", "@", "nor is png: the name of an image"),
        ("müller@example.com", "@", "müller@example.com", "letters of any alphabet (RFC 6531)"),
        ("version 12.34.56.78", "version 12.34.56.78", "version #", "a word says that it is a version"),
        ("see 1.2.3.4", "see 1.2.3.4", "see #", "four single digits are a section"),
        ("1.3.6.41.55.78", "1.3.6.41.55.78", "#.55.78", "part of a longer number"),
        ("from 2606:4700::1111", "from #", "from 2606:4700::1111", "IPv6 too"),
    ],
)
def test_where_we_differ(text: str, mine: str, other: str, why: str) -> None:
    assert ours(text) == mine, why
    assert theirs(text) == other, why
