"""Personal data goes, what merely looks like it stays, and no text takes long."""

import pickle
import re
import string
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.errors import UsageError
from groundup.corpus.document import Document
from groundup.corpus.redaction import KINDS, Found, Redaction, RedactionConfig, find
from groundup.corpus.redaction.finding import resolve
from groundup.corpus.redaction.shadow import shadow
from tests.corpus.redaction.labelled import Score, measure, samples


def document(text: str, title: str = "") -> Document:
    return Document("1", title, "test", text)


def redacted(text: str, **options: object) -> str:
    return Redaction(RedactionConfig(**options))(document(text)).text  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def scores() -> dict[str, Score]:
    return measure(list(samples(seed=11, each=40)))[0]


@pytest.mark.parametrize("kind", KINDS)
def test_precision_and_recall_stay_above_their_floors(scores: dict[str, Score], kind: str) -> None:
    assert scores[kind].precision >= 0.98
    assert scores[kind].recall >= 0.98


def test_what_is_found_is_replaced_counted_and_nowhere_else() -> None:
    text = "Ann (ann@example.com, +44 20 7946 0958) wrote to bob@example.org from 93.184.216.34."
    found = Redaction()(replace(document(text, "Mail to bob@example.org"), measures={"redacted.email": 1.0, "x": 2.0}))
    assert found.text == "Ann (<EMAIL>, <PHONE>) wrote to <EMAIL> from <IP>."
    assert found.title == "Mail to <EMAIL>"
    assert found.measures == {"redacted.email": 4, "redacted.phone": 1, "redacted.ip": 1, "x": 2.0}
    assert not re.search("example|7946", str(found))


def test_a_document_without_hits_comes_back_itself() -> None:
    plain = document("Nothing here, 12 times, on 2003-01-02 at 10.30, for $1,234.50.")
    assert Redaction()(plain) is plain


def test_only_the_chosen_kinds_go() -> None:
    assert redacted("ann@example.com 93.184.216.34", kinds=("ip",)) == "ann@example.com <IP>"


def test_a_number_tells_who_is_who() -> None:
    text = "ann@example.com met bob@example.com. Ann@Example.com left for 93.184.216.34."
    expected = "<EMAIL-1> met <EMAIL-2>. <EMAIL-1> left for <IP-1>."
    assert redacted(text, placeholder="<{kind}-{number}>") == expected


def test_local_addresses_stay_unless_asked_for() -> None:
    text = "10.0.0.17 127.0.0.1 203.0.113.9 fe80::1 2001:db8::5"
    assert redacted(text) == text
    assert redacted(text, keep_local=False) == "<IP> <IP> <IP> <IP> <IP>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://8.8.4.45/?q=1", "http://<IP>/?q=1"),
        ("call (212) 555-0187 or 0800", "call <PHONE> or 0800"),
        ("tel. +49 (0)89 123456, Zimmer 7", "tel. <PHONE>, Zimmer 7"),
        ("+44 20 7946 0958 12 people", "<PHONE> 12 people"),
        ("Tél. : 01 23 45 67 89", "Tél. : <PHONE>"),
        ("电话：１３８１２３４５６７８", "电话：１３８１２３４５６７８"),  # nothing that we know announces it
        ("müller@bücher.de", "<EMAIL>"),
        ("<ann@example.com>,'bob@example.com'", "<<EMAIL>>,'<EMAIL>'"),
        ("ann@example.com.", "<EMAIL>."),
        ("4111 1111 1111 1111 12/25", "<CREDIT_CARD> 12/25"),
        ("4111 1111 1111 1112", "4111 1111 1111 1112"),
        ("1234 4111 1111 1111 1111", "1234 4111 1111 1111 1111"),
        ("GB82 WEST 1234 5698 7654 32 and", "<IBAN> and"),
        ("GB82 WEST 1234 5698 7654 33", "GB82 WEST 1234 5698 7654 33"),
        ("000-12-3456 666-12-3456 912-12-3456 123-00-3456 123-45-0000", None),
        ("111222333", None),
        ("BSN: 111222333", "BSN: <NATIONAL_ID>"),
        ('{"lat": 48.8584, "lng": -2.2945}', '{"lat": <COORDINATES>, "lng": -<COORDINATES>}'),
        ("48°51'29.6\"N 2°17'40.2\"E", "<COORDINATES>"),
        ("0.91234, 0.85123", None),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\nabc=\n\nText", "<SECRET>\n\nText"),
        ("-----BEGIN PUBLIC KEY-----\nMIIE", None),
        ("https://ann:hunter2@example.com/", "https://<SECRET>@example.com/"),
        ("token: da39a3ee5e6b4b0d3255bfef95601890afd80709", "token: <SECRET>"),
        ("commit da39a3ee5e6b4b0d3255bfef95601890afd80709", None),
        ("password = this-is-only-an-example", None),
        # what was taken for personal data in real text
        ("x = np.array([49.33915930750887, 50.55805244181687])", None),
        ("array([-2.29443968, -4.07315509, -5.51239573])", None),
        ("random.betavariate(2.71828, 3.14159)", None),
        ("the wreck (41.72556; -49.94694) lies deep", "the wreck (<COORDINATES>) lies deep"),
        ("45.096332°N 94.410276°W / 45.096332; -94.410276", "<COORDINATES> / <COORDINATES>"),
        ('"coordinates": [2.294481, 48.858370]', '"coordinates": [<COORDINATES>]'),
        ("t**4 + 26214400000000 x + 2.10541401273885, 0.143 x + 14285714.286", None),
        ("Phone: + 45 45 94 55 55", "Phone: <PHONE>"),
        ("doi:10.1016/0024-3795(87)90118-2", None),
        ("http://functions.wolfram.com/03.08.26.0001.01 index.cgi?b=02001-08-10", None),
        ("DFARS 252.227-7013, 952-225.4200, 415/555-0123", "DFARS 252.227-7013, <PHONE>, <PHONE>"),
        ("call 800-215-4490 (24 hours)", "call <PHONE> (24 hours)"),
        ("X-Mailer: Evolution 1.1.0.99 (EC 3.1.21.11)", None),
        ("http://1.1.0.99/ [4.2.2.10] 4.2.2.10", "http://<IP>/ [<IP>] 4.2.2.10"),
        ("ESMTP id 48695130029", None),
        ("Steuer-ID: 48695130029", "Steuer-ID: <NATIONAL_ID>"),
        ("self.embed_tokens = M2M100ScaledWordEmbedding(config)", None),
        ('token = "M2M100ScaledWordEmbedding"', 'token = "<SECRET>"'),
        ("api_key = 9fQ2xLm0Z7pTr4VwK1sB", "api_key = <SECRET>"),
        ("s3://{access_key}:{secret_key}@bucket.example/ https://username:password@example.com/", None),
        (
            "https://me:$PASSWORD@example.com https://me:$3cret@example.com",
            "https://me:$PASSWORD@example.com https://<SECRET>@example.com",
        ),
        ("git clone git@example.com:group/name.git", None),
    ],
)
def test_single_cases(text: str, expected: str | None) -> None:
    assert redacted(text) == (text if expected is None else expected).replace("-<COORDINATES>", "<COORDINATES>")


def test_redacted_text_holds_nothing_more() -> None:
    for sample in samples(seed=3, each=5):
        once = redacted(sample.text)
        assert redacted(once) == once


@given(st.text())
def test_a_shadow_has_a_byte_for_each_character(text: str) -> None:
    assert len(shadow(text)) == len(text)


@given(st.text(alphabet=string.printable + "é°中１\ud800", max_size=200))
def test_any_text_is_taken(text: str) -> None:
    spans = find(text)
    assert all(left.end <= right.start for left, right in pairwise(spans))
    assert all(0 <= one.start < one.end <= len(text) for one in spans)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9), st.sampled_from(KINDS))), st.randoms())
def test_overlaps_are_settled_the_same_in_any_order(spans: list[tuple[int, int, str]], shuffled: object) -> None:
    candidates = [Found(start, start + length, kind, "") for start, length, kind in spans]
    kept = resolve(candidates)
    assert resolve(reversed(candidates)) == kept
    assert all(left.end <= right.start for left, right in pairwise(kept))
    for one in candidates:  # whatever was left out makes room for something at least as certain
        rivals = [other for other in kept if other.start < one.end and one.start < other.end]
        assert one in kept or any(KINDS.index(other.kind) <= KINDS.index(one.kind) for other in rivals)


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "@",
            "a@",
            "a.",
            "a@a.",
            "1",
            "1 ",
            "1-",
            "1.",
            "1   ",
            "(1)",
            "+1",
            "+44 20 ",
            ":",
            "a:",
            "::1",
            "A1",
            "GB82 ",
        ),
        *("1°1'1", "1.23456, ", "eyJabcdefgh.", "xoxb-", "sk-ant-", "a", "a-", "-----BEGIN PRIVATE KEY-----", "01 23 "),
        *("token=aaaaaaaaaaaaaaaa1", "tel 1 ", "lat: 1.234 ", "://a:b", "4111 ", "1°", "a@b.cd 88.8.200.45 "),
    ],
)
def test_no_text_takes_more_than_linear_time(unit: str) -> None:
    """No clock: a pattern that is not linear would not come back from this within the patience of anybody."""
    find((unit * (60_000 // len(unit))) + "!")


def test_a_step_can_be_pickled() -> None:
    step = Redaction(RedactionConfig(kinds=("email",)))
    assert pickle.loads(pickle.dumps(step)) == step


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"kinds": ("emails",)}, "kinds: emails .*email"),
        ({"placeholder": "{value}"}, "placeholder"),
        ({"placeholder": "{}"}, "placeholder"),
        ({"placeholder": "{kind"}, "placeholder"),
        ({"placeholder": "{kind}@example.com"}, "placeholder.*personal data itself"),
    ],
)
def test_a_wrong_option_is_refused_by_name(options: dict[str, object], key: str) -> None:
    with pytest.raises(UsageError, match=rf"corpus\.redaction\.{key}"):
        RedactionConfig(**options)  # type: ignore[arg-type]
