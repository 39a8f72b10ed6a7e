import dataclasses
import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from groundup.core.errors import ArtifactError, DataError, UsageError
from groundup.core.files import read_json, read_jsonl
from groundup.corpus.build import CorpusConfig, build
from groundup.corpus.decontamination import (
    BenchmarkIndex,
    Decontamination,
    DecontaminationConfig,
    Item,
    items_of,
    items_of_problems,
    name_of,
    own_items,
    read_items,
)
from groundup.corpus.document import Document, Dropped, read_documents
from groundup.tasks import Material, TaskMixture

Prose = Callable[..., str]
QUESTION = "If Alice walks nine miles north and then twelve miles east, how far is she from her house in the end?"


def document(text: str) -> Document:
    return Document("d", "", "test", text)


def step(action: str = "drop", **options: object) -> Decontamination:
    config = DecontaminationConfig(action=action, **options)  # type: ignore[arg-type]
    return pickle.loads(pickle.dumps(Decontamination(config, items_of("riddles", ["no", QUESTION]))))


def leaked(prose: Prose, question: str = QUESTION) -> str:
    return f"{prose(1)}\n\n{question}\n\n{prose(2)}"


def test_a_planted_leak_is_found_and_named(prose: Prose) -> None:
    result = step()(document(leaked(prose, QUESTION.upper().replace(",", " --"))))
    assert isinstance(result, Dropped)
    assert result.reason == "contaminated"
    assert result.detail.startswith("riddles 1: 'IF ALICE WALKS")


def test_clean_text_is_left_alone(prose: Prose) -> None:
    clean = document(prose(3) + " if Alice walks nine miles north and then she is far from her house")
    for action in ("drop", "cut", "mark"):
        assert step(action)(clean) is clean


def test_the_leak_is_cut_out(prose: Prose) -> None:
    result = step("cut")(document(leaked(prose)))
    assert isinstance(result, Document)
    assert result.text == f"{prose(1)}\n\n?\n\n{prose(2)}"
    assert result.measures == {"contaminated.cut": 1.0}


def test_a_document_that_is_all_leak_is_dropped(prose: Prose) -> None:
    assert isinstance(step("cut")(document(QUESTION.rstrip("?"))), Dropped)


def test_the_leak_is_marked(prose: Prose) -> None:
    result = step("mark")(document(leaked(prose)))
    assert isinstance(result, Document)
    assert result.facts == {"contaminated": "riddles 1"} and result.text == leaked(prose)


@pytest.mark.parametrize("ngram", [8, 13])
def test_as_many_words_as_configured_are_needed(ngram: int) -> None:
    words = QUESTION.split()
    found = [isinstance(step(ngram=ngram)(document(" ".join(words[:n]))), Dropped) for n in (ngram - 1, ngram)]
    assert found == [False, True]


def test_short_items_are_searched_as_a_whole() -> None:
    items = [Item("short 0", "Is seven times eleven more than seventy, my dear?"), Item("short 1", "Yes or no?")]
    check = Decontamination(DecontaminationConfig(), items)
    assert isinstance(check(document("She asked: is seven times eleven more than seventy, my dear, or not?")), Dropped)
    assert isinstance(check(document("She asked: is seven times eleven more than seventy?")), Document)


def test_numbers_alone_are_no_evidence() -> None:
    numbers = " ".join(str(number) for number in range(1, 40))
    check = Decontamination(DecontaminationConfig(), [Item("counting", numbers), Item("x", QUESTION)])
    assert isinstance(check(document(f"Count with me: {numbers}")), Document)


def test_what_many_items_say_is_no_evidence() -> None:
    phrase = "Which of the following statements about the passage above is supported best by the text"
    subjects = ["whales", "trains", "moss", "paper", "glass", "tin", "rain"]
    items = list(items_of("exam", (f"{phrase} on {subject} and other things?" for subject in subjects)))
    text = document(f"{phrase}?")
    assert isinstance(Decontamination(DecontaminationConfig(), items)(text), Document)
    assert isinstance(Decontamination(DecontaminationConfig(), items[:3])(text), Dropped)


def test_random_leaks_against_brute_force(prose: Prose) -> None:
    rng = random.Random(4)
    words = [f"word{number}" for number in range(40)]
    items = [Item(f"i{n}", " ".join(rng.choices(words, k=rng.randint(8, 30)))) for n in range(20)]
    config = DecontaminationConfig(ngram=9, max_items=20)
    documents = []
    for number in range(60):
        source = items[number % 20].text.split()
        start, length = rng.randrange(8), rng.randint(5, 14)
        text = " ".join([*rng.choices(words, k=20), *source[start : start + length], *rng.choices(words, k=20)])
        documents.append(Document(f"d{number}", "", "test", text))

    def shares(item: Item, text: str) -> bool:
        length = min(config.ngram, len(item.text.split()))
        runs = [" ".join(item.text.split()[s : s + length]) for s in range(len(item.text.split()) - length + 1)]
        return any(f" {run} " in f" {text} " for run in runs)

    index = BenchmarkIndex.of(items, config)
    for each in documents:
        overlaps = index.overlaps(each.text)
        assert {overlap.item for overlap in overlaps} == {item.name for item in items if shares(item, each.text)}
        spans = [(overlap.start, overlap.stop) for overlap in overlaps]
        assert spans == sorted(spans)


def test_items_of_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n", encoding="utf-8")
    rows = [{"question": "What?", "choices": ["this", "that"], "label": 1}]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert list(read_items(tmp_path / "a.txt")) == [Item("a 0", "one"), Item("a 1", ""), Item("a 2", "two")]
    assert list(read_items(tmp_path / "b.jsonl")) == [Item("b 0", "What?\nthis\nthat")]


def test_wordings_of_one_problem_are_one_item(prose: Prose) -> None:
    """However often it is asked: what many problems say is no evidence, what one says often is."""
    items = [Item("riddle", f"{prose(100 + number, 20)} {QUESTION}") for number in range(9)]
    assert isinstance(Decontamination(DecontaminationConfig(), items)(document(leaked(prose))), Dropped)
    index = BenchmarkIndex.of(items, DecontaminationConfig())
    assert [overlap.item for overlap in index.overlaps(leaked(prose))] == ["riddle"]


def test_problems_are_found_by_their_question_and_by_their_content() -> None:
    lines = ("The rain came down upon the hill,", "And all the little lanes were still;")
    material = dataclasses.replace(Material.from_documents(()), test_verses=(lines,))
    problems = [TaskMixture(split, 1, material, {"verse": 1.0}).problem(0) for split in ("test", "test-wordings")]
    items = list(items_of_problems(problems))
    assert len(items) == 4 and {item.name for item in items} == {name_of(problems[0])}
    check = Decontamination(DecontaminationConfig(), items)
    assert isinstance(check(document(f"A poem. {' '.join(lines)} More.")), Dropped)
    assert isinstance(check(document(problems[1].conversation.messages[0].content)), Dropped)
    assert isinstance(check(document(lines[0])), Document)


def test_without_benchmarks_our_own_problems_are_searched_for(prose: Prose) -> None:
    check = pickle.loads(pickle.dumps(Decontamination(DecontaminationConfig())))
    questions = [
        item.text for item in own_items() if sum(map(str.isalpha, item.text)) >= 20 and item.text.count(" ") > 6
    ]
    assert len(set(questions)) > 500
    for question in random.Random(1).sample(questions, 20):
        assert isinstance(check(document(f"{prose(1)} {question} {prose(2)}")), Dropped), question
    frame = "I have some apples and find more. How many apples do I have now? What do you get when you add two to ten?"
    assert check(document(frame)) == document(frame)


def test_a_benchmark_file_is_searched_for(tmp_path: Path, prose: Prose) -> None:
    (tmp_path / "riddles.txt").write_text(f"{QUESTION}\n", encoding="utf-8")
    check = Decontamination(DecontaminationConfig(benchmarks=(tmp_path / "riddles.txt",)))
    result = check(document(leaked(prose)))
    assert isinstance(result, Dropped) and result.detail.startswith("riddles 0")


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("missing.txt", None, UsageError),
        ("table.csv", "a,b", UsageError),
        ("bad.jsonl", "{", ArtifactError),
        ("empty.jsonl", '{"n": 1}\n', DataError),
    ],
)
def test_unusable_files_are_one_clear_line(
    tmp_path: Path, name: str, content: str | None, error: type[Exception]
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(error, match=name):
        list(read_items(tmp_path / name))


def test_a_file_without_items_to_search_for_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("Yes or no?\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"corpus\.decontamination\.benchmarks"):
        Decontamination(DecontaminationConfig(benchmarks=(tmp_path / "short.txt",)))(document("text"))


@pytest.mark.parametrize("action", ["drop", "mark"])
def test_a_planted_leak_is_found_end_to_end(tmp_path: Path, prose: Prose, action: str) -> None:
    """A file of questions, and a corpus with three of them."""
    questions = [" ".join(prose(1000 + number, 20).split()) for number in range(12)]
    (tmp_path / "riddles.jsonl").write_text(
        "".join(json.dumps({"question": question, "answer": "yes"}) + "\n" for question in questions), encoding="utf-8"
    )
    (tmp_path / "texts").mkdir()
    for number in range(30):
        text = leaked(prose, questions[number // 7].upper()) if number in (7, 14, 28) else prose(number)
        (tmp_path / "texts" / f"{number:02}.txt").write_text(f"{prose(2000 + number)}\n\n{text}", encoding="utf-8")
    config = CorpusConfig(
        path=tmp_path / "texts",
        steps=("clean", "decontamination"),
        workers=1,
        decontamination=DecontaminationConfig(benchmarks=(tmp_path / "riddles.jsonl",), action=action),  # type: ignore[arg-type]
    )
    metrics = build(config, tmp_path / "corpus", seed=1)
    leaks = {"07.txt": "riddles 1", "14.txt": "riddles 2", "28.txt": "riddles 4"}
    left = {
        each.id: each.facts.get("contaminated")
        for side in ("train", "validation")
        for each in read_documents(tmp_path / "corpus" / f"{side}.jsonl")
    }
    dropped = {row["id"]: row for row in read_jsonl(tmp_path / "corpus" / "dropped.jsonl")}
    if action == "mark":
        assert {name: item for name, item in left.items() if item} == leaks and not dropped
        return
    assert metrics["documents_dropped"] == 3 and set(left).isdisjoint(leaks)
    assert {name: row["detail"].split(":")[0] for name, row in dropped.items()} == leaks
    [removed] = read_json(tmp_path / "corpus" / "funnel.json")["steps"][2]["removed"]
    assert (removed["reason"], removed["documents"]) == ("contaminated", 3)


@pytest.mark.parametrize("wrong", [{"ngram": 7}, {"ngram": 14}, {"action": "hide"}, {"min_letters": -1}])
def test_a_wrong_config_says_which_key(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=rf"corpus\.decontamination\.{next(iter(wrong))}"):
        DecontaminationConfig(**wrong)  # type: ignore[arg-type]
