"""Every family: pure, split by content, graded right, bounded in length, worded in enough ways."""

import itertools
import re
from collections import Counter
from typing import get_args

import pytest

from groundup.tasks import FAMILIES, Material, Problem, Split, grade, reward, split_of
from groundup.tasks.chitchat import TOPICS
from groundup.tasks.problem import owner_of

DRAWS = 600
SPLITS: tuple[Split, ...] = get_args(Split)


def draws(material: Material, family: str, split: Split, count: int, seed: int = 5) -> list[Problem]:
    return [FAMILIES[family].problem(material, split, seed, index) for index in range(count)]


def estimated_tokens(problem: Problem) -> float:
    """About 2.3 characters a token where letters stand alone, else 3, and four tokens of template a turn."""
    return sum(
        len(message.content) / (2.3 if "-" in message.content and " " not in message.content else 3) + 4
        for message in problem.conversation.messages
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_contents_of_the_splits_are_disjoint(material: Material, family: str) -> None:
    keys: dict[str, set[tuple[str, ...]]] = {}
    for split in ("train", "validation", "test"):
        keys[split] = {p.key for seed in (1, 2) for p in draws(material, family, split, DRAWS, seed)}
    assert all(keys.values())
    assert not keys["train"] & keys["validation"]
    assert not keys["train"] & keys["test"]
    assert not keys["validation"] & keys["test"]


def test_questions_of_train_never_occur_in_test(material: Material) -> None:
    """Whatever the key says: the question as the model reads it (without earlier turns) is new."""
    asked: dict[str, set[str]] = {split: set() for split in SPLITS}
    for split in SPLITS:
        for family in FAMILIES.keys() - {"memory"}:
            asked[split] |= {p.conversation.messages[-2].content for p in draws(material, family, split, 500)}
    assert not asked["train"] & (asked["validation"] | asked["test"] | asked["test-wordings"])
    assert not asked["test"] & asked["test-wordings"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_problem_is_a_pure_function_of_its_arguments(material: Material, family: str) -> None:
    forwards = draws(material, family, "train", 30)
    backwards = [FAMILIES[family].problem(material, "train", 5, index) for index in reversed(range(30))]
    assert forwards == backwards[::-1]
    assert forwards != draws(material, family, "train", 30, seed=6)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_two_tests_ask_the_same_contents_in_other_words(material: Material, family: str) -> None:
    seen, unseen = (draws(material, family, split, 200) for split in ("test", "test-wordings"))
    assert [(p.key, p.answer) for p in seen] == [(p.key, p.answer) for p in unseen]
    assert not {p.wording_id for p in seen} & {p.wording_id for p in unseen}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_reference_is_right_and_a_changed_one_is_wrong(material: Material, family: str) -> None:
    for split in SPLITS:
        for problem in draws(material, family, split, 60):
            answer = problem.answer
            assert problem.conversation.messages[-1].content == answer
            assert problem.conversation.prompt.messages[-1].role == "user"
            for right in (answer, f" {answer.upper()}.\n"):
                assert reward(problem, right) == 1.0
            for wrong in ("", "?", answer[1:], answer + "x", f"{answer} {answer}", "I do not know."):
                assert reward(problem, wrong) == 0.0


@pytest.mark.parametrize("family", FAMILIES)
def test_rambling_is_told_from_wrong(material: Material, family: str) -> None:
    for problem in draws(material, family, "train", 20):
        assert grade(problem, problem.answer).concise
        rambling = grade(problem, f"I think it is {problem.answer}, and I am quite sure of that.")
        assert (rambling.correct, rambling.concise, rambling.contains) == (False, False, True)
        wrong = grade(problem, "zzz")
        assert (wrong.correct, wrong.concise, wrong.contains) == (False, True, False)


def test_a_number_is_not_contained_in_a_longer_number(material: Material) -> None:
    problem = next(p for p in draws(material, "arithmetic", "train", 200) if p.answer == "12")
    assert grade(problem, "it is 12, yes").contains
    assert not grade(problem, "it is 112").contains


@pytest.mark.parametrize("family", FAMILIES)
def test_chance_is_what_a_blind_guess_can_reach(material: Material, family: str) -> None:
    """No single answer given to everything is right much more often than the stated chance."""
    problems = draws(material, family, "train", DRAWS)
    assert all(0 <= problem.chance <= 0.5 for problem in problems)
    mean = sum(problem.chance for problem in problems) / DRAWS
    commonest = Counter(problem.answer for problem in problems).most_common(1)[0][1] / DRAWS
    assert commonest <= mean + 0.05


@pytest.mark.parametrize("family", FAMILIES)
def test_problems_are_short(material: Material, family: str) -> None:
    lengths = [estimated_tokens(problem) for split in SPLITS for problem in draws(material, family, split, 300)]
    assert max(lengths) <= 160
    assert sum(lengths) / len(lengths) <= 100


@pytest.mark.parametrize("family", FAMILIES)
def test_wordings_are_many_and_the_held_out_ones_are_new(family: str) -> None:
    groups = FAMILIES[family].wordings.values()
    seen = [template for group in groups for template in group.seen]
    held_out = [template for group in groups for template in group.held_out]
    assert len(seen) + len(held_out) >= 12
    assert len(held_out) >= 3
    assert all(group.held_out for group in groups)
    assert len({*seen, *held_out}) == len(seen) + len(held_out)


def test_held_out_wordings_recombine_known_words() -> None:
    def words(templates: list[str]) -> set[str]:
        return {word for t in templates for word in re.findall(r"[a-z]+", re.sub(r"{\w+}", " ", t).lower())}

    groups = [group for family in FAMILIES.values() for group in family.wordings.values()]
    known = words([template for group in groups for template in group.seen])
    assert words([template for group in groups for template in group.held_out]) <= known


def test_splits_have_their_shares() -> None:
    shares = Counter(split_of(("word", str(number))) for number in range(20_000))
    assert abs(shares["test"] / 20_000 - 0.1) < 0.01
    assert abs(shares["validation"] / 20_000 - 0.1) < 0.01


def test_word_families_share_their_held_out_words(material: Material) -> None:
    """A word spelled in training is not counted or asked for its letters in the test."""
    trained = {p.key for family in ("spelling", "counting", "letters") for p in draws(material, family, "train", 800)}
    for family in ("spelling", "counting", "letters"):
        assert not trained & {p.key for p in draws(material, family, "test", 400)}


class TestAnswersAgreeWithTheirQuestions:
    """The answer worked out again from the words of the question, by other means than the generator's."""

    @pytest.mark.parametrize("split", SPLITS)
    def test_arithmetic(self, material: Material, split: Split) -> None:
        for problem in draws(material, "arithmetic", split, 300):
            question = problem.conversation.messages[-2].content
            first, second = map(int, re.findall(r"\d+", question))
            if "/add/" in problem.wording_id:
                assert int(problem.answer) == first + second
            else:
                assert int(problem.answer) == abs(first - second)

    @pytest.mark.parametrize("split", SPLITS)
    def test_letters(self, material: Material, split: Split) -> None:
        for problem in draws(material, "spelling", split, 100):
            (word,) = re.findall(r'"(\w+)"', problem.conversation.messages[-2].content)
            assert problem.answer.replace(" ", "") == word
            assert len(problem.answer) == 2 * len(word) - 1
        for problem in draws(material, "counting", split, 100):
            question = problem.conversation.messages[-2].content
            (spelled,) = re.findall(r"(?<![a-z])[a-z](?: [a-z])+(?![a-z])", question)
            assert int(problem.answer) == len(spelled.replace(" ", ""))
        for problem in draws(material, "letters", split, 100):
            question = problem.conversation.messages[-2].content
            (word,) = re.findall(r'"(\w+)"', question)
            first = re.search(r"\b(first|begin)\b", question.replace(f'"{word}"', "")) is not None
            assert problem.answer == (word[:1] if first else word[len(word) - 1 :])

    @pytest.mark.parametrize("split", SPLITS)
    def test_lists(self, material: Material, split: Split) -> None:
        for family in ("sorting", "copying", "reversing"):
            for problem in draws(material, family, split, 100):
                # The list follows a colon or a question mark, or opens the question.
                listed = re.search(
                    r"(?:^|[:?] )([a-z0-9]+(?: [a-z0-9]+){2,})(?:\.|$)", problem.conversation.messages[-2].content
                )
                assert listed
                items, answer = listed[1].split(), problem.answer.split()
                assert sorted(items) == sorted(answer)
                if family == "copying":
                    assert answer == items
                elif family == "reversing":
                    assert answer == list(reversed(items))
                else:
                    numbers = items[0].isdigit()
                    values = [int(item) if numbers else item for item in answer]
                    assert all(a < b for a, b in itertools.pairwise(values))

    @pytest.mark.parametrize("split", SPLITS)
    def test_comparison(self, material: Material, split: Split) -> None:
        better = {
            "largest": lambda a, b: int(a) > int(b),
            "smallest": lambda a, b: int(a) < int(b),
            "longest": lambda a, b: len(a) > len(b),
            "shortest": lambda a, b: len(a) < len(b),
            "first": lambda a, b: a < b,
            "last": lambda a, b: a > b,
        }
        for problem in draws(material, "comparison", split, 200):
            question = problem.conversation.messages[-2].content
            (most,) = (Counter(re.findall(r"\w+", question)) - Counter(problem.key)).keys() & better.keys()
            others = set(problem.key[1:]) - {problem.answer}
            assert len(others) == 2 and all(better[most](problem.answer, other) for other in others)
            assert all(item in question for item in problem.key[1:])

    @pytest.mark.parametrize("split", SPLITS)
    def test_lookup(self, material: Material, split: Split) -> None:
        for problem in draws(material, "lookup", split, 200):
            question = problem.conversation.messages[-2].content
            facts = dict(re.findall(r"The (\w+) is (\w+)\.", question))
            assert len(facts) == 4
            asked = set(re.findall(r"\w+", re.sub(r"The \w+ is \w+\.", "", question)))
            assert [value for kind, value in facts.items() if kind in asked] == [problem.answer]

    @pytest.mark.parametrize("split", SPLITS)
    def test_verse(self, material: Material, split: Split) -> None:
        for problem in draws(material, "verse", split, 100):
            lines = problem.key[1:]
            question = problem.conversation.messages[-2].content
            assert "\n".join(lines) in question
            asked = set(re.findall(r"[\w'’-]+", question.replace("\n".join(lines), "")))
            words = [word.strip(" ,;:.!?-'’()") for line in lines for word in line.split()]
            following = {word: after for word, after in itertools.pairwise(words) if words.count(word) == 1}
            assert problem.answer in {following[word] for word in asked & following.keys()}

    @pytest.mark.parametrize("split", SPLITS)
    def test_memory(self, material: Material, split: Split) -> None:
        for problem in draws(material, "memory", split, 200):
            messages = problem.conversation.messages
            assert len(messages) in (6, 8)
            assert [m.role for m in messages] == ["user", "assistant"] * (len(messages) // 2)
            assert problem.answer in messages[0].content
            assert not re.search(rf"\b{problem.answer}\b", messages[-2].content.replace("secret word", ""))


def test_memory_talks_about_the_same_split_in_between(material: Material) -> None:
    """The problems between telling and asking belong to the split too: no test word is spelled in training."""
    trained: set[str] = set()
    for problem in draws(material, "memory", "train", 600):
        trained |= {m.content for m in problem.conversation.messages[2:-2] if m.role == "user"}
    words = {word for content in trained if re.search("[Ss]pell", content) for word in re.findall(r'"(\w+)"', content)}
    assert words
    assert all(split_of(("word", word)) == owner_of("train") for word in words)


def test_small_talk_has_variety() -> None:
    assert all(len(said) >= 5 and len(answers) >= 3 for said, answers in TOPICS.values())
