"""``groundup corpus report``, ``try`` and ``shard``, from the command line."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundup.corpus.build import CorpusConfig, build
from groundup.corpus.document import Document
from groundup.corpus.pipeline.report import gather
from groundup.corpus.pipeline.report.page import histogram_chart, marked, words_chart
from groundup.corpus.pipeline.trial import DIFF_LINES, difference, trials
from groundup.recipes import load
from tests.corpus.pipeline.conftest import contents

Command = Callable[..., Any]


@pytest.fixture
def corpus(rows: Path, tmp_path: Path) -> Path:
    """A finished corpus, of which one dropped document is dangerous to a careless page."""
    (rows / "bad.jsonl").write_text(json.dumps({"text": "<script>alert(1)</script>\x07"}) + "\n", encoding="utf-8")
    build(CorpusConfig(path=rows), tmp_path / "run" / "corpus", seed=1)
    return tmp_path / "run"


def test_the_report_tells_every_step_and_reason(corpus: Path, command: Command) -> None:
    outcome = command("corpus", "report", corpus)
    assert outcome.code == 0
    for words in (
        "read",
        "clean",
        "long enough",
        "broken JSON",
        "too short",
        "exact duplicate",
        "same text as",
        "train:",
    ):
        assert words in outcome.out


def test_the_report_for_programs_adds_up(corpus: Path, command: Command) -> None:
    told = json.loads(command("corpus", "report", corpus / "corpus", "--json").out)
    assert told["name"] == "run"
    for row in told["steps"]:
        assert row["documents_in"] - row["documents_out"] == sum(removed["documents"] for removed in row["removed"])
        assert {removed["reason"] for removed in row["removed"]} >= set(row["dropped"])
    left = told["train"]["documents"] + told["validation"]["documents"]
    assert told["kept"]["bytes"]["count"] == left == told["steps"][-1]["documents_out"]
    assert told["read"]["bytes"]["count"] == told["steps"][0]["documents_out"]


def test_the_page_stands_alone_and_shows_hostile_text_as_text(corpus: Path, command: Command, tmp_path: Path) -> None:
    outcome = command("corpus", "report", corpus, "--html")
    assert outcome.out == f"{corpus / 'corpus.html'}\n"
    page = (corpus / "corpus.html").read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page
    assert "http" not in page and "{{" not in page
    assert command("corpus", "report", corpus, "--html", tmp_path / "other.html").code == 0
    assert (tmp_path / "other.html").read_text(encoding="utf-8") == page


def test_a_report_of_nothing_is_refused(tmp_path: Path, command: Command) -> None:
    outcome = command("corpus", "report", tmp_path)
    assert outcome.code == 2 and f"{tmp_path} holds no finished corpus" in outcome.complaint


def test_try_tells_what_each_step_would_do(command: Command) -> None:
    outcome = command("corpus", "try", "--text", "A line  \r\nwith ends.")
    assert outcome.code == 0
    assert "clean: changed" in outcome.out and "-A line  \\r" in outcome.out and "+A line" in outcome.out
    assert "long enough: dropped, too short: 17 characters, the limit is 100" in outcome.out
    assert "near duplicates: looks across documents" in outcome.out
    assert outcome.out.endswith("It ends at long enough.\n")


def test_try_takes_a_recipe_and_its_keys(command: Command) -> None:
    words = (
        "smoke",
        "--text",
        "Short text.",
        "--json",
        "--corpus.steps",
        "long-enough",
        "--corpus.min-characters",
        "5",
    )
    told = json.loads(command("corpus", "try", *words).out)
    assert [(row["step"], row["outcome"]) for row in told] == [("read", "kept"), ("long enough", "kept")]


def test_try_reads_files_and_standard_input(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "first"}\n{"text": "second"}\n', encoding="utf-8")
    outcome = command("corpus", "try", "--file", tmp_path / "rows.jsonl")
    assert "read: rows.jsonl:1, 5 bytes" in outcome.out and "this is the first" in outcome.err
    (tmp_path / "bad.txt").write_bytes(b"\x00\x01")
    assert "read: dropped, binary" in command("corpus", "try", "--file", tmp_path / "bad.txt").out
    monkeypatch.setattr(sys, "stdin", io.StringIO("from standard input"))
    assert "read: text, 19 bytes" in command("corpus", "try", "--text", "-").out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("try --text a --file b", "give --text or --file, not both"),
        ("try --corpus.steps clena --text a", "did you mean clean?"),
        ("shard --rank 2 --world-size 2", "--rank is 2; of 2 ranks it is from 0 to 1"),
        ("reprot", "did you mean `groundup corpus report`?"),
        ("report . --jsn", "unknown key jsn; did you mean json?"),
    ],
)
def test_mistakes_are_one_line(words: str, complaint: str, command: Command) -> None:
    outcome = command("corpus", *words.split())
    assert outcome.code == 2 and complaint in outcome.complaint


@pytest.mark.parametrize("words", ["--help", "report --help", "try --help", "shard --help"])
def test_the_tools_explain_themselves(words: str, command: Command) -> None:
    outcome = command("corpus", *words.split())
    assert outcome.code == 0 and "--" in outcome.out


def test_a_rank_and_then_the_stage(rows: Path, tmp_path: Path, command: Command) -> None:
    options = ("--corpus.path", rows, "--corpus.reading.shard-megabytes", "0.01", "--out", tmp_path / "run")
    outcome = command("corpus", "shard", *options, "--rank", "0", "--world-size", "1")
    assert outcome.code == 0 and "rank 0 of 1 is done" in outcome.err
    assert list(tmp_path.glob("run/corpus-shards/*/pass-0/*"))
    assert command("corpus", *options).code == 0
    build(CorpusConfig(path=rows), tmp_path / "alone", load("quickstart").seed)
    assert contents(tmp_path / "alone").items() <= contents(tmp_path / "run" / "corpus").items()
    assert not (tmp_path / "run" / "corpus-shards").exists()


def test_every_step_is_tried_also_after_one_that_drops() -> None:
    config = CorpusConfig(steps=("long-enough", "clean"))
    made = list(trials(config, Document("d", "d", "s", " x ")))
    assert [(trial.step, trial.outcome) for trial in made] == [("long enough", "dropped"), ("clean", "changed")]


def test_a_difference_is_bounded_and_visible() -> None:
    assert difference("same\na\x07\nsame", "same\na\nsame") == ["@@ -1,3 +1,3 @@", " same", "-a\\x07", "+a", " same"]
    shown = difference("a\n" * 1000, "b\n" * 1000)
    assert len(shown) == DIFF_LINES + 1 and shown[-1].endswith("more lines")


def test_the_page_shows_languages_of_texts_and_of_code_apart_and_those_that_were_dropped(
    tmp_path: Path, command: Command
) -> None:
    (tmp_path / "in").mkdir()
    english = "The river that runs by the mill has been low since the spring, said the miller of village {}."
    german = "Der Fluss an der Mühle ist seit dem Frühling niedrig, sagte der Müller von Dorf {}."
    for number in range(6):
        (tmp_path / "in" / f"e{number}.txt").write_text(english.format(number) * 12, encoding="utf-8")
        (tmp_path / "in" / f"g{number}.txt").write_text(german.format(number) * 12, encoding="utf-8")
        (tmp_path / "in" / f"c{number}.py").write_text(f"def f{number}():\n    return {number}\n" * 9, encoding="utf-8")
    options = ("--corpus.path", tmp_path / "in", "--corpus.steps", "language", "--corpus.language.languages", "en")
    assert command("corpus", *options, "--out", tmp_path / "run").code == 0
    data = gather(tmp_path / "run")
    assert data["steps"][1]["facts"] == {"language": {"de": 6, "en": 6}}
    assert data["kept"]["facts"]["language"] == {"en": 6}
    assert data["kept"]["facts"]["programming language"] == {"Python": 6}
    assert command("corpus", "report", tmp_path / "run", "--html", tmp_path / "page.html").code == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    language, programming = (page.partition(f"<h4>{name}</h4>")[2] for name in ("Language", "Programming language"))
    shown = language.partition("</svg>")[0]
    assert "0 of 6" in shown and "6 of 6" in shown and "that language judged" in shown and "Python" not in shown
    assert "Python" in programming.partition("</svg>")[0]


def test_words_that_went_and_came_are_marked() -> None:
    before, after = marked("to <be> or", "to be, or")
    assert before == "to <del>&lt;</del>be<del>&gt;</del> or" and after == "to be<ins>,</ins> or"


def test_charts_of_nothing_and_of_one_value_are_drawn() -> None:
    assert histogram_chart([], []) == ""
    assert histogram_chart([[5.0, 3]], [[5.0, 1]]).count("<rect") == 2
    assert histogram_chart([[0.0, 3], [-1.0, 2]], []).count("<rect") == 2
    assert words_chart({"en": 3, "de": 1}, {"en": 2}).count("<rect") == 4
    assert ">0 of 3<" in words_chart({"en": 3}, {}) and ">3<" in words_chart({"en": 3})
