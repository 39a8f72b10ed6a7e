"""What is removed for people's sake is in no example, of whichever step, and comes back in no file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundup.corpus.build import CorpusConfig, build
from groundup.corpus.pipeline.account import AROUND
from groundup.corpus.pipeline.registry import BLACKENED
from groundup.corpus.reading import ReadingConfig
from groundup.corpus.redaction import RedactionConfig

Command = Callable[..., Any]

ADDRESS, CARD = "jane.roe@example-company.com", "4539 1488 0343 6467"
SECRETS = (ADDRESS, "jane.roe", CARD, "0343 6467")
STEPS = ("normalize", "clean", "long-enough", "redaction", "exact-duplicates", "minhash")


@pytest.fixture
def letters(tmp_path: Path, prose: Callable[..., str]) -> Path:
    """Letters that are dropped before redaction and after it, changed before it and by it, and kept."""
    folder = tmp_path / "letters"
    folder.mkdir()

    def row(text: str, title: str = "a letter") -> str:
        return json.dumps({"text": text, "title": title})

    body = f"Write to {ADDRESS} and pay with {CARD}. "
    rows = [row(body + prose(number, 60)) for number in range(8)]
    rows += [row(f"Too short: {ADDRESS}.", title=f"mail of {ADDRESS}")]  # dropped before it
    rows += [row(body + prose(3, 60)), row(body.upper() + prose(3, 60).upper())]  # duplicates, also after it
    rows += [row(f"{ADDRESS}\u00a0\u00a0{CARD}   \r\n" + prose(77, 60))]  # changed before it
    (folder / "letters.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def files(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()}


def test_no_file_but_the_drops_before_redaction_holds_what_it_removed(
    letters: Path, tmp_path: Path, command: Command
) -> None:
    config = CorpusConfig(path=letters, steps=STEPS, reading=ReadingConfig(shard_megabytes=0.001))
    build(config, tmp_path / "run" / "corpus", seed=1)
    written = files(tmp_path / "run" / "corpus")
    evidence = json.loads(written["evidence.json"])
    steps = {row["step"]: row for row in evidence["steps"]}
    assert steps["redaction"]["changed"] >= 9 and steps["normalize"]["rewritten"], "there are examples"
    examples = steps["redaction"]["rewritten"]
    assert all(BLACKENED in example["before"] and "<EMAIL>" in example["after"] for example in examples)
    [short] = steps["long enough"]["dropped"]["too short"]
    assert short["text"] == f"Too short: {BLACKENED}." and short["title"] == f"mail of {BLACKENED}"

    assert command("corpus", "report", tmp_path / "run", "--html", tmp_path / "page.html").code == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    told = "".join(command("corpus", "report", tmp_path / "run", *more).out for more in ((), ("--json",)))
    drops = written.pop("dropped.jsonl").splitlines()
    before = [line for line in drops if json.loads(line)["reason"] == "too short"]
    later = "\n".join(line for line in drops if line not in before)
    for secret in SECRETS:
        for name, text in {**written, "page": page, "told": told, "drops after it": later}.items():
            assert secret.lower() not in text.lower(), f"{secret} in {name}"
    assert later.count("duplicate") >= 2
    assert ADDRESS in before[0], "what left before lies there as it came"


def test_without_redaction_examples_are_as_they_were(letters: Path, tmp_path: Path) -> None:
    build(CorpusConfig(path=letters, steps=("clean", "long-enough")), tmp_path / "out", seed=1)
    evidence = (tmp_path / "out" / "evidence.json").read_text(encoding="utf-8")
    assert ADDRESS in evidence and BLACKENED not in evidence


def test_only_what_redaction_is_told_to_remove_is_hidden(letters: Path, tmp_path: Path) -> None:
    config = CorpusConfig(
        path=letters, steps=STEPS, redaction=RedactionConfig(kinds=("email",), placeholder="[{kind}]")
    )
    build(config, tmp_path / "out", seed=1)
    evidence = (tmp_path / "out" / "evidence.json").read_text(encoding="utf-8")
    assert ADDRESS not in evidence and CARD in evidence and "[EMAIL]" in evidence


@pytest.mark.parametrize("length", [600, 760, AROUND - 10, AROUND + 600], ids=str)
def test_a_value_on_the_edge_of_an_example_is_not_shown_in_part(length: int, tmp_path: Path) -> None:
    """Where an excerpt ends, or what is looked at, within an address."""
    words = "word " * (length // 5)
    text = words[:length] + f" {ADDRESS} \x07 and {words} {ADDRESS}"
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}) + "\n" + json.dumps({"text": text[::-1]}), "utf-8")
    build(CorpusConfig(path=tmp_path / "a.jsonl", steps=("clean", "redaction")), tmp_path / "out", seed=1)
    evidence = (tmp_path / "out" / "evidence.json").read_text(encoding="utf-8")
    assert "jane" not in evidence and '"changed": 2' in evidence
