import itertools
import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.corpus.document import Document, Dropped
from groundup.corpus.pipeline.account import CHANGED_EXAMPLES, CONTEXT, EXCERPT, Account, Examples, Profile


def facts(rng: random.Random, number: int) -> dict[str, str]:
    return {"language": rng.choice("abc"), "licence": f"licence {rng.randint(1, number + 1)}"}


def documents(count: int) -> list[Document]:
    rng = random.Random(3)
    return [
        Document(f"d{number}", "t", "s", "x" * rng.randint(1, 900), facts(rng, number), {"score": 0.1 * number})
        for number in range(count)
    ]


def told(items: list[Document]) -> tuple[Account, Profile]:
    """What a step that drops every third document and changes every second would be told."""
    account, profile = Account("step"), Profile()
    for document in items:
        account.enter(document.bytes)
        profile.add(document, document.bytes)
        number = int(document.id[1:])
        if number % 3 == 0:
            account.drop(Dropped.of(document, f"reason {number % 2}", "because"))
            continue
        if number % 2 == 0:
            account.change(document, Document(document.id, "t", "s", document.text + "y"))
        account.measure({}, document.measures)
        account.find_out({}, document.facts)
        account.keep(document.bytes)
    return account, profile


@pytest.fixture(autouse=True)
def few_values_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundup.corpus.pipeline.account.MOST_VALUES", 12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_parts_add_up_to_the_whole_however_they_are_cut(cuts: list[int], rng: random.Random) -> None:
    everything = documents(60)
    bounds = [0, *sorted(set(cuts)), 60]
    parts = [told(everything[first:last]) for first, last in itertools.pairwise(bounds)]
    account, profile = Account("step"), Profile()
    for part, of_part in parts:
        account.merge(Account.from_json(json.loads(json.dumps(part.to_json()))))
        profile.merge(Profile.from_json(json.loads(json.dumps(of_part.to_json()))))
    whole, whole_profile = told(everything)
    assert account.funnel() == whole.funnel()
    assert account.evidence()["dropped"] == whole.evidence()["dropped"]
    assert account.evidence()["rewritten"] == whole.evidence()["rewritten"]
    assert account.measures == whole.measures
    assert account.measures["score"].sum == pytest.approx(sum(0.1 * number for number in range(60) if number % 3))
    assert profile == whole_profile
    assert account.facts == whole.facts and sum(account.facts["language"].values()) == 40
    assert sum(profile.facts["licence"].values()) == 60


def test_the_language_of_code_is_another_fact() -> None:
    profile = Profile()
    for found in ({"language": "en"}, {"language": "Python", "kind": "code"}, {"language": "de", "kind": "wikitext"}):
        profile.add(Document("d", "t", "s", "text", found), 4)
    assert profile.facts["language"] == {"en": 1, "de": 1} and profile.facts["programming language"] == {"Python": 1}


def test_what_a_step_finds_out_is_counted_once() -> None:
    account = Account("step")
    account.find_out({"language": "en", "kind": "x"}, {"language": "de", "kind": "x"})
    account.find_out({"language": "de"}, {"language": "de", "url": "u"})
    assert account.evidence()["facts"] == {"language": {"de": 1}}


def test_examples_are_a_sample_of_the_whole_not_of_its_beginning() -> None:
    examples = Examples(50)
    for number in range(5000):
        if (key := examples.wants("step", str(number))) is not None:
            examples.add(key, {"id": str(number)})
    chosen = [int(row["id"]) for row in examples.rows()]
    assert len(chosen) == 50 and 1500 < sum(chosen) / 50 < 3500


def test_examples_are_bounded_and_show_the_place_of_the_change() -> None:
    account = Account("step")
    for number in range(20):
        text = "a" * 5000 + "b" * 5000
        account.change(
            Document(f"d{number}", "t", "s", text), Document(f"d{number}", "t", "s", "a" * 5000 + "c" * 5000)
        )
    rows = account.evidence()["rewritten"]
    assert len(rows) == CHANGED_EXAMPLES and account.changed == 20
    assert rows[0]["before"] == "…" + "a" * CONTEXT + "b" * (EXCERPT - CONTEXT) + "…"
    assert rows[0]["after"] == "…" + "a" * CONTEXT + "c" * (EXCERPT - CONTEXT) + "…"


def test_bytes_that_kept_documents_lost_are_trimmed_ones() -> None:
    account = Account("step")
    account.enter(100)
    account.keep(60)
    assert account.funnel()["removed"] == [{"reason": "trimmed", "documents": 0, "bytes": 40}]
