"""What of the examination stood in the train documents."""

import random
from collections.abc import Sequence

import pytest

from groundup.corpus import Document
from groundup.corpus.decontamination import name_of
from groundup.evaluation.contamination import search
from groundup.tasks import FAMILIES, Material, Problem, TaskMixture

WORDS = [first + vowel + last for first in "bdfgklmnprst" for vowel in "aeiou" for last in "lmnrst"]


def prose(seed: int, words: int = 200) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def documents(*texts: str) -> list[Document]:
    return [Document(f"d{number}", "", "test", text) for number, text in enumerate(texts)]


def problems(family: str, count: int = 40) -> list[Problem]:
    task = TaskMixture("test", 1, Material.from_documents(()), {family: 1.0})
    return [task.problem(index) for index in task.distinct(count)]


@pytest.mark.parametrize("family", ["lookup", "verse", "memory"])
def test_a_problem_that_stood_in_the_text_is_found_whatever_its_spelling(family: str) -> None:
    asked = problems(family)
    leaked = max(asked, key=lambda problem: len(problem.conversation.messages[0].content))
    question = "\n".join(message.content for message in leaked.conversation.prompt.messages)
    found = search(documents(prose(1), f"{prose(2)} {question.upper()} {prose(3)}", question), asked, {}).problems
    assert set(found) == {name_of(leaked)}
    assert found[name_of(leaked)].documents == 2 and found[name_of(leaked)].first == "d1"


def test_what_all_problems_say_is_no_leak() -> None:
    frame = "Here is what I know. What is the colour? Tell me the word after. Now read these lines: how do they go on?"
    asked = [problem for family in FAMILIES for problem in problems(family, 20)]
    assert not search(documents(frame * 3, prose(1)), asked, {}).problems


@pytest.mark.parametrize("seed", range(5))
def test_shared_runs_against_brute_force(seed: int) -> None:
    rng = random.Random(seed)
    held_out = [prose(100 * seed + number, rng.randint(5, 60)) for number in range(12)]
    train = [prose(7000 + number, 60) for number in range(8)]
    for text in train[:4]:
        words = held_out[rng.randrange(12)].split()
        start = rng.randrange(len(words))
        train.append(f"{text} {' '.join(words[start : start + rng.randint(8, 30)])} {text}")

    def runs(text: str) -> Sequence[str]:
        words = text.split()
        return [" ".join(words[start : start + 13]) for start in range(len(words) - 12)]

    known = {run for text in train for run in runs(text)}
    shared = search(documents(*train), (), {"validation": held_out, "test": held_out[:3]}).held_out
    assert shared["validation"].runs.tolist() == [len(runs(text)) for text in held_out]
    assert shared["validation"].shared.tolist() == [sum(run in known for run in runs(text)) for text in held_out]
    assert shared["test"].shared.tolist() == shared["validation"].shared.tolist()[:3]


def test_numbers_are_no_evidence() -> None:
    table = " ".join(str(number) for number in range(60))
    shared = search(documents(table), (), {"validation": [table, f"{table} {prose(1, 30)}"]}).held_out["validation"]
    assert shared.shared.tolist() == [0, 0] and shared.runs.tolist()[0] == 0


def test_what_the_corpus_marked_is_counted_by_benchmark() -> None:
    facts = [{"contaminated": "gsm 8k 1, gsm 8k 4, riddles 2"}, {}, {"contaminated": "riddles 2"}]
    train = [Document(f"d{number}", "", "test", prose(number), fact) for number, fact in enumerate(facts)]
    found = search(train, (), {})
    assert found.documents == 3
    assert found.marked == {"gsm 8k": {"gsm 8k 1": 1, "gsm 8k 4": 1}, "riddles": {"riddles 2": 2}}


def test_nothing_to_search_for_finds_nothing() -> None:
    found = search(documents(prose(1)), (), {"validation": [""]})
    assert not found.problems and found.held_out["validation"].runs.tolist() == [0]
