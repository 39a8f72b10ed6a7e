import itertools
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus.document import Document, Dropped
from groundup.corpus.pipeline.account import CHANGED_EXAMPLES, CONTEXT, EXCERPT, Account, Examples, Profile


def documents(count: int) -> list[Document]:
    rng = random.Random(3)
    return [
        Document(
            f"d{number}", "t", "s", "x" * rng.randint(1, 900), {"language": rng.choice("abc")}, {"score": number / 7}
        )
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
        account.keep(document.bytes)
    return account, profile


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
    assert account.measures["score"].histogram == whole.measures["score"].histogram
    assert account.measures["score"].sum == pytest.approx(whole.measures["score"].sum)
    assert profile.facts == whole_profile.facts and profile.bytes == whole_profile.bytes


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
