"""The mixture: proportions, purity, multi-turn conversations, small talk, and clear refusals."""

from collections import Counter

import pytest

from groundup.core.errors import UsageError
from groundup.tasks import FAMILIES, Material, Task, TaskMixture


def test_every_stretch_holds_families_in_proportion(material: Material) -> None:
    mixture = TaskMixture("train", 1, material, {"spelling": 3.0, "verse": 1.0, "lookup": 0.0, "memory": 2.0})
    for start in (0, 777, 90_000):
        counts = Counter(mixture.family(index) for index in range(start, start + 60))
        assert abs(counts["spelling"] - 30) <= 3
        assert abs(counts["memory"] - 20) <= 3
        assert counts["lookup"] == 0


def test_it_is_a_task(material: Material) -> None:
    task: Task = TaskMixture("train", 1, material, size=50)
    assert len(task) == 50
    for index in range(len(task)):
        conversation = task.conversation(index)
        assert conversation.messages[-1].role == "assistant"
        assert task.reward(index, conversation.messages[-1].content) == 1.0
        assert task.reward(index, "no idea") == 0.0
    with pytest.raises(IndexError):
        task.conversation(50)


def test_any_order_of_reading_gives_the_same(material: Material) -> None:
    def fresh() -> TaskMixture:
        return TaskMixture("train", 1, material, chitchat=0.2, multi_turn=0.5)

    ordered = [fresh().problem(index) for index in range(60)]
    mixture = fresh()
    assert [mixture.problem(index) for index in reversed(range(60))] == ordered[::-1]


def test_all_families_by_default(material: Material) -> None:
    mixture = TaskMixture("validation", 1, material)
    assert {mixture.family(index) for index in range(40)} == set(FAMILIES)


def test_multi_turn_puts_another_exchange_first(material: Material) -> None:
    plain = TaskMixture("test-wordings", 1, material, {"spelling": 1.0})
    longer = TaskMixture("test-wordings", 1, material, {"spelling": 1.0}, multi_turn=1.0)
    for index in range(50):
        single, several = plain.problem(index), longer.problem(index)
        assert several.conversation.messages[-2:] == single.conversation.messages
        assert [m.role for m in several.conversation.messages] == ["user", "assistant"] * 2
        assert several.key == single.key


def test_small_talk_is_a_share_and_is_not_scored(material: Material) -> None:
    mixture = TaskMixture("train", 1, material, chitchat=0.1)
    talk = [index for index in range(1000) if not mixture.problem(index).scored]
    assert 60 <= len(talk) <= 140
    assert all(mixture.problem(index).family == "chitchat" for index in talk)
    assert len({mixture.conversation(index) for index in talk}) > 50
    with pytest.raises(UsageError, match="chitchat=0"):
        mixture.reward(talk[0], "Hello.")


def test_distinct_questions_only(material: Material) -> None:
    mixture = TaskMixture("test", 1, material, {"arithmetic": 1.0}, size=2000)
    indices = mixture.distinct(150)
    assert len(indices) == 150
    assert len({mixture.conversation(index).prompt for index in indices}) == 150
    assert len(TaskMixture("test", 1, material, {"arithmetic": 1.0}, size=5).distinct(150)) <= 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"families": {"arithmetics": 1.0}}, "did you mean 'arithmetic'"),
        ({"families": {}}, "at least one family"),
        ({"families": {"verse": -1.0}}, "weight -1.0"),
        ({"families": {"verse": float("nan")}}, "weight nan"),
        ({"split": "exam"}, "split 'exam' is unknown"),
        ({"size": 0}, "size 0"),
        ({"chitchat": 1.5}, "chitchat share 1.5"),
    ],
)
def test_a_wrong_mixture_is_refused_in_one_line(material: Material, changes: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        TaskMixture(**{"split": "train", "seed": 1, "material": material, **changes})
    assert "\n" not in str(caught.value)
